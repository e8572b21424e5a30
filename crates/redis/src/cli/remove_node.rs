//! `remove-node`.

use crate::plan;
use crate::topology::NodeId;

use super::access::{Access, Consent, Entry, find, must_be_whole, name};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::moves::{Outcome, Pace, carry, shown};
use crate::admin::{Carried, Cluster};

/// Arguments of `remove-node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster that stays
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// The node to take out: its address, or its name (all of it for a node that does not answer)
    #[arg(value_name = "LEAVING")]
    leaving: String,
    #[command(flatten)]
    pace: Pace,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    access: Access,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    let (leaving, title, master) = match silent(&cluster, &args.leaving) {
        Some(id) => {
            let title = format!("the silent node {id}");
            if cluster
                .picture()
                .views
                .values()
                .any(|view| view.nodes.get(&id).is_some_and(|node| !node.slots.is_empty()))
            {
                return Err(Failure::Refused {
                    why: format!("{title} still owns slots"),
                    hint: "start it, or promote a replica of it with `failover --takeover`".to_owned(),
                });
            }
            (id, title, false)
        }
        None => {
            must_be_whole(&cluster)?;
            let node = find(&cluster, &args.leaving)?;
            (node.id.clone(), name(node), node.flags.master)
        }
    };
    let moves = if master { plan::drain(cluster.picture(), &leaving)? } else { Vec::new() };
    let mut text = if moves.is_empty() { String::new() } else { shown(&cluster, &moves) };
    text += &format!("then all nodes forget {title}, and it is reset");
    if args.consent.dry_run {
        io.data(args.access.json, &Outcome { done: false, moves: &moves, carried: Carried::default() }, || text)?;
        return Ok(Exit::Done);
    }
    io.say(&text);
    if !args.consent.yes {
        io.confirm(&format!("Take {title} out?"))?;
    }
    let settle = args.access.settle();
    let carried =
        if moves.is_empty() { Carried::default() } else { carry(&mut cluster, &moves, args.pace, settle, io).await? };
    cluster.remove(&leaving, settle).await?;
    io.data(args.access.json, &Outcome { done: true, moves: &moves, carried }, || {
        format!("{title} is out; {} slots with {} keys went to others", carried.slots, carried.keys)
    })?;
    Ok(Exit::Done)
}

/// A node that did not answer, by its whole name or address.
fn silent(cluster: &Cluster, text: &str) -> Option<NodeId> {
    cluster
        .picture()
        .unheard
        .iter()
        .find(|(id, unheard)| id.as_str() == text || unheard.address.to_string() == text)
        .map(|(id, _)| id.clone())
}
