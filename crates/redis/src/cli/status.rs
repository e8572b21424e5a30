//! `status`.

use crate::admin::{NodeStatus, Status};

use super::access::{Access, Entry};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::{bytes, columns};

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let status = args.access.open(&args.cluster).await?.status().await?;
    io.data(args.access.json, &status, || shown(&status))?;
    Ok(Exit::Done)
}

fn shown(status: &Status) -> String {
    let mut rows = vec![
        ["NODE", "ID", "ROLE", "SLOTS", "KEYS", "MEMORY", "CLIENTS", "EPOCH", "LAG", "VERSION", "RANGES"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for master in &status.masters {
        rows.push(row(&master.node, "master", "", master.slots.len().to_string(), master.slots.to_string()));
        rows.extend(master.replicas.iter().map(|replica| row(replica, "replica", "  ", String::new(), String::new())));
    }
    rows.extend(status.orphans.iter().map(|orphan| row(orphan, "orphan", "", String::new(), String::new())));
    let mut text = columns(&rows);
    for unheard in &status.unheard {
        text += &format!("{}  did not answer: {}\n", unheard.address, unheard.why);
    }
    text += &format!("{} of 16384 slots served, {} problem(s)\n", status.covered, status.problems.len());
    text
}

fn row(node: &NodeStatus, role: &str, indent: &str, slots: String, ranges: String) -> Vec<String> {
    let lag = match (node.linked, node.lag_bytes) {
        (Some(false), _) => "cut off".to_owned(),
        (Some(true), Some(lag)) => bytes(lag),
        _ => String::new(),
    };
    vec![
        format!("{indent}{}", node.address),
        node.id.short().to_owned(),
        role.to_owned(),
        slots,
        node.keys.to_string(),
        bytes(node.memory_bytes),
        node.clients.to_string(),
        node.epoch.to_string(),
        lag,
        node.version.clone(),
        ranges,
    ]
}
