//! What people type: `regrow redis <verb>`.
//!
//! Data goes to `out`, talk to `err`; with `--json` the data is one JSON object. Whatever changes a cluster is shown
//! first and done only after `yes` or with `--yes`; `--dry-run` shows it and stops.

mod access;
mod add_node;
mod backup;
mod check;
mod create;
mod drill;
mod failover;
mod failure;
mod fix;
mod io;
mod migrate;
mod migrate_back;
mod migrate_request;
mod migrate_show;
mod monitor;
mod moves;
mod proxy;
mod rebalance;
mod remove_node;
mod reshard;
mod restore;
mod status;
mod switch;
mod table;
mod tls;
mod upgrade;

use crate::address::Address;

pub use create::Launch;
pub use failure::{Exit, Failure};
pub use io::Io;

/// Makes, checks, mends and reshapes Redis clusters.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a cluster of empty servers
    Create(create::Args),
    /// Say what is wrong with a cluster
    Check(check::Args),
    /// Show a cluster's nodes, slots, memory and lag
    Status(status::Args),
    /// Mend slots that are open, contested or served by nobody
    Fix(fix::Args),
    /// Take an empty server into a cluster
    AddNode(add_node::Args),
    /// Take a node out of a cluster, its slots first
    RemoveNode(remove_node::Args),
    /// Move a number of slots to a master
    Reshard(reshard::Args),
    /// Spread the slots evenly, or by weight
    Rebalance(rebalance::Args),
    /// Make a replica the master
    Failover(failover::Args),
    /// Restart the nodes one by one with another version or setting, replicas first, while clients go on
    Upgrade(upgrade::Args),
    /// Break a node on purpose, under load, and measure what clients feel
    Drill(drill::Args),
    /// Move a data set to another server or cluster while it is written to
    Migrate(migrate::Args),
    /// Keep the data of a server or cluster in files, while it is written to
    Backup(backup::Args),
    /// Bring a backup to a server or cluster
    Restore(restore::Args),
    /// Be one address for clients that know nothing of clusters
    Proxy(proxy::Args),
    /// Give metrics and health of a cluster, for Prometheus and for checks
    Monitor(monitor::Args),
    /// Let a proxy's commands go to another backend, without one of them failing
    Switch(switch::Args),
}

impl Command {
    /// The servers that `create` wants to have started first; whether it was agreed to, and whether it is only to be shown. They are
    /// started by the caller, who then tells [`Self::launched`].
    pub fn launch(&self) -> Option<(&Launch, bool, bool)> {
        let Self::Create(args) = self else { return None };
        args.launch.count.map(|_| (&args.launch, args.consent.yes, args.consent.dry_run))
    }

    /// The same command, of servers that were started.
    pub fn launched(self, servers: Vec<Address>) -> Self {
        match self {
            Self::Create(mut args) => {
                args.launch.count = None;
                args.servers = servers;
                Self::Create(args)
            }
            other => other,
        }
    }
}

/// Runs a command to its end. A closed pipe is success.
pub async fn run(command: Command, io: &mut Io) -> Result<Exit, Failure> {
    let done = match command {
        Command::Create(args) => create::run(args, io).await,
        Command::Check(args) => check::run(args, io).await,
        Command::Status(args) => status::run(args, io).await,
        Command::Fix(args) => fix::run(args, io).await,
        Command::AddNode(args) => add_node::run(args, io).await,
        Command::RemoveNode(args) => remove_node::run(args, io).await,
        Command::Reshard(args) => reshard::run(args, io).await,
        Command::Rebalance(args) => rebalance::run(args, io).await,
        Command::Failover(args) => failover::run(args, io).await,
        Command::Upgrade(args) => upgrade::run(args, io).await,
        Command::Drill(args) => drill::run(args, io).await,
        Command::Migrate(args) => migrate::run(args, io).await,
        Command::Backup(args) => backup::run(args, io).await,
        Command::Restore(args) => restore::run(args, io).await,
        Command::Proxy(args) => proxy::run(args, io).await,
        Command::Monitor(args) => monitor::run(args, io).await,
        Command::Switch(args) => switch::run(args, io).await,
    };
    match done {
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        done => done,
    }
}
