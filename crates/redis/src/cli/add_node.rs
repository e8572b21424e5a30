//! `add-node`.

use crate::address::Address;
use crate::admin::Role;
use crate::topology::NodeId;

use super::access::{Access, Entry, find, must_be_whole};
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `add-node`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A node of the cluster
    #[arg(value_name = "NODE")]
    cluster: Entry,
    /// The server to take in: empty, running, with cluster mode on
    #[arg(value_name = "HOST:PORT")]
    server: Address,
    /// Make it a replica of the master that needs one most
    #[arg(long, conflicts_with = "replica_of")]
    replica: bool,
    /// Make it a replica of this master
    #[arg(long, value_name = "MASTER")]
    replica_of: Option<String>,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome {
    id: NodeId,
    address: Address,
    master: Option<NodeId>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let mut cluster = args.access.open(&args.cluster).await?;
    must_be_whole(&cluster)?;
    let role = match &args.replica_of {
        Some(text) => {
            let node = find(&cluster, text)?;
            if !node.flags.master {
                return Err(Failure::Refused {
                    why: format!("{} is itself a replica", node.address),
                    hint: "name a master".to_owned(),
                });
            }
            Role::ReplicaOf(node.id.clone())
        }
        None if args.replica => Role::Replica,
        None => Role::Master,
    };
    let id = cluster.add(&args.server, &role, args.access.settle()).await?;
    let master = cluster.picture().node(&id).and_then(|node| node.master.clone());
    let outcome = Outcome { id, address: args.server, master };
    io.data(args.access.json, &outcome, || match &outcome.master {
        Some(master) => format!("{} is in, as {}, replica of {}", outcome.address, outcome.id.short(), master.short()),
        None => format!(
            "{} is in, as {}; it serves no slots yet: `reshard --to {}` or `rebalance --include-empty`",
            outcome.address,
            outcome.id.short(),
            outcome.id.short()
        ),
    })?;
    Ok(Exit::Done)
}
