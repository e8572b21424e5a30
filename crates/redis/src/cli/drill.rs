//! `drill`.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::drill::{Drill, DrillReport, Fault, Hands, Limits, LoadPlan, html};
use crate::topology::NodeId;

use super::access::{Access, Entry, find, must_be_whole, name};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::columns;

/// Arguments of `drill`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// What to do to the node; several are done one after the other
    #[arg(long, value_name = "FAULT", value_delimiter = ',', default_value = "pause")]
    fault: Vec<Fault>,
    /// The node: its address or the start of its name; the master of the first slot where none is named
    #[arg(long, value_name = "NODE", conflicts_with = "each_master")]
    node: Option<String>,
    /// Do it to every master, one after the other
    #[arg(long)]
    each_master: bool,
    /// Shell command that kills a node's process; {host}, {port} and {pid} are filled in
    #[arg(long, value_name = "COMMAND")]
    kill_with: Option<String>,
    /// Shell command that makes it stand still
    #[arg(long, value_name = "COMMAND")]
    pause_with: Option<String>,
    /// Shell command that lets it go on
    #[arg(long, value_name = "COMMAND")]
    resume_with: Option<String>,
    /// Shell command that starts it again; needed for stop and kill
    #[arg(long, value_name = "COMMAND")]
    start_with: Option<String>,
    /// Clients that write and read; every second one uses WAIT
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
    /// Writes a second of all clients together
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Fail if no write is acknowledged for longer than this
    #[arg(long, value_name = "MS")]
    max_unavailable_ms: Option<u64>,
    /// Fail if more acknowledged writes than this are lost
    #[arg(long, value_name = "N")]
    max_lost: Option<u64>,
    /// Write the report as a page, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome {
    drills: Vec<DrillReport>,
    exceeded: Vec<String>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    must_be_whole(&cluster)?;
    let dialer = args.access.dialer_for(&args.cluster);
    let nodes = targets(&args, &cluster)?;
    for (_, title) in &nodes {
        let faults: Vec<String> = args.fault.iter().map(|fault| format!("{fault:?}").to_lowercase()).collect();
        io.say(&format!("{title}: {}, under {} writes a second", faults.join(", then "), args.rate));
    }
    if !args.yes {
        io.confirm("Break this cluster on purpose?")?;
    }
    let limits = Limits { unavailable_ms_max: args.max_unavailable_ms, lost_max: args.max_lost };
    let hands =
        Hands { kill: args.kill_with, pause: args.pause_with, resume: args.resume_with, start: args.start_with };
    let load = LoadPlan { clients: args.clients.min(args.rate), writes_per_second: args.rate };
    let mut outcome = Outcome { drills: Vec::new(), exceeded: Vec::new() };
    for (node, _) in &nodes {
        for fault in &args.fault {
            let drill = Drill {
                node: node.clone(),
                fault: *fault,
                hands: hands.clone(),
                load,
                run: word(),
                within: args.access.settle(),
            };
            let report = drill.run(&mut cluster, &dialer, &mut |step| io.say(step)).await?;
            outcome.exceeded.extend(limits.exceeded(&report));
            outcome.drills.push(report);
        }
    }
    if let Some(path) = &args.html {
        std::fs::write(path, html(&outcome.drills, &limits))?;
    }
    io.data(args.access.json, &outcome, || {
        let mut text = String::new();
        for report in &outcome.drills {
            let rows: Vec<Vec<String>> =
                report.lines().into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
            text += &columns(&rows);
            text.push('\n');
        }
        text += &outcome.exceeded.iter().map(|found| format!("beyond the limits: {found}\n")).collect::<String>();
        text
    })?;
    Ok(if outcome.exceeded.is_empty() { Exit::Done } else { Exit::Failed })
}

fn targets(args: &Args, cluster: &crate::admin::Cluster) -> Result<Vec<(NodeId, String)>, Failure> {
    if let Some(text) = &args.node {
        let node = find(cluster, text)?;
        return Ok(vec![(node.id.clone(), name(node))]);
    }
    let mut masters: Vec<_> = cluster.picture().masters().filter(|node| !node.slots.is_empty()).collect();
    masters.sort_by_key(|node| node.slots.iter().next());
    masters.truncate(if args.each_master { usize::MAX } else { 1 });
    Ok(masters.into_iter().map(|node| (node.id.clone(), name(node))).collect())
}

/// A word that no other drill has: the time, and the process.
fn word() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{:x}-{:x}", now.as_nanos(), std::process::id())
}
