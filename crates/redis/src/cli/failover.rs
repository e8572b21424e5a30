//! `failover`.

use crate::admin::Force;
use crate::topology::NodeId;

use super::access::{Access, Entry, find, name};
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `failover`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// The replica that becomes the master: its address or the start of its name
    #[arg(value_name = "REPLICA")]
    replica: String,
    /// Without the old master; writes that it has not passed on are lost
    #[arg(long, conflicts_with = "takeover")]
    force: bool,
    /// Without the votes of other masters, for when most of them are gone
    #[arg(long)]
    takeover: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome {
    master: NodeId,
    was: Option<NodeId>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    let node = find(&cluster, &args.replica)?;
    if node.flags.master {
        return Err(Failure::Refused {
            why: format!("{} is a master already", node.address),
            hint: "name one of its replicas".to_owned(),
        });
    }
    let (replica, title, was) = (node.id.clone(), name(node), node.master.clone());
    let force = match (args.force, args.takeover) {
        (_, true) => Force::Takeover,
        (true, _) => Force::Force,
        _ => Force::No,
    };
    cluster.promote(&replica, force, args.access.settle()).await?;
    io.data(args.access.json, &Outcome { master: replica, was }, || format!("{title} is the master now"))?;
    Ok(Exit::Done)
}
