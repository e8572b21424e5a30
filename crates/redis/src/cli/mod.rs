//! What people type: `regrow redis <verb>`.
//!
//! Data goes to `out`, talk to `err`; with `--json` the data is one JSON object. Whatever changes a cluster is shown
//! first and done only after `yes` or with `--yes`; `--dry-run` shows it and stops.

mod access;
mod add_node;
mod check;
mod create;
mod drill;
mod failover;
mod failure;
mod fix;
mod io;
mod moves;
mod rebalance;
mod remove_node;
mod reshard;
mod status;
mod table;

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
    /// Break a node on purpose, under load, and measure what clients feel
    Drill(drill::Args),
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
        Command::Drill(args) => drill::run(args, io).await,
    };
    match done {
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        done => done,
    }
}
