//! What can stop an upgrade.

use std::time::Duration;

use crate::address::Address;
use crate::admin::AdminError;
use crate::disk::DiskError;
use crate::plan::NoReplica;
use crate::topology::Problem;

use super::hand::HandError;

/// Why an upgrade did not begin, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// On the cluster, before anything was done.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The cluster is not whole, and nothing was done.
    #[error("the cluster is not whole: {} ({} problem(s) in all)", .0.first().map(Problem::to_string).unwrap_or_default(), .0.len())]
    NotWhole(Vec<Problem>),
    /// Slots would be away for a time. Nothing was done.
    #[error("{0}: what it serves would be away while it is restarted")]
    NoReplica(#[from] NoReplica),
    /// The folder that remembers how far it is.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The folder is of no use for this. Nothing was done.
    #[error("{why}")]
    State {
        /// Why.
        why: String,
        /// What to do.
        hint: &'static str,
    },
    /// A step failed, and nothing further was done.
    #[error("stopped at this step: {step}")]
    Stopped {
        /// What was being done.
        step: String,
        /// Why it failed.
        source: StepError,
    },
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// On the cluster.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The command that restarts a node.
    #[error(transparent)]
    Hand(#[from] HandError),
    /// The folder that remembers how far it is.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Replicas are gone since the beginning.
    #[error(transparent)]
    NoReplica(#[from] NoReplica),
    /// The command ended well, but the server is the process that it was.
    #[error("the command ended well, but {address} was not restarted within {after:?}")]
    NotRestarted {
        /// The node.
        address: Address,
        /// How long was waited.
        after: Duration,
    },
    /// The node does not come back.
    #[error("{address} is not back after {after:?}: {why}")]
    NotBack {
        /// The node.
        address: Address,
        /// How long was waited.
        after: Duration,
        /// What was seen last.
        why: String,
    },
    /// A server came back that is not the node that went.
    #[error("the server at {address} came back under another name: it has lost its cluster configuration (nodes.conf)")]
    Stranger {
        /// Where.
        address: Address,
    },
    /// It is back with another version than was expected.
    #[error("{address} is back with version {found}, not {expected}")]
    Version {
        /// The node.
        address: Address,
        /// What it says.
        found: String,
        /// What it should say.
        expected: String,
    },
    /// More than the one node was restarted.
    #[error("{} restarted although only {wanted} should", .others.iter().map(Address::to_string).collect::<Vec<_>>().join(", "))]
    Others {
        /// The node that should be restarted.
        wanted: Address,
        /// Those that were, too.
        others: Vec<Address>,
    },
    /// A master without replica that keeps nothing on disk, or came back without what it had.
    #[error("{address} {why}")]
    Bare {
        /// The node.
        address: Address,
        /// What is wrong.
        why: &'static str,
    },
    /// A node that was in hand is away, and so are others.
    #[error("besides the node in hand {0} node(s) do not answer")]
    MoreAway(usize),
    /// The plan grows instead of getting shorter.
    #[error("the roles of the nodes change faster than they can be upgraded: it was tried {0} times")]
    Restless(usize),
}

impl StepError {
    /// What to do before the same command is given again.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Hand(_) => {
                "put right what the command says, start the node if it is away, then give the same command again"
            }
            Self::NotRestarted { .. } => {
                "let the command restart the server in any case (a restart only if something changed is none), or give --expect"
            }
            Self::NotBack { .. } => "look at the node's log and start it; then give the same command again",
            Self::Stranger { .. } => {
                "bring its nodes.conf back and restart it; or `remove-node` the old name and `add-node` it; then give the same command again"
            }
            Self::Version { .. } => "see which program the command starts; then give the same command again",
            Self::Others { .. } => {
                "the command must restart only the node of REGROW_NODE_HOST and REGROW_NODE_PORT; put it right, and give the same command again"
            }
            Self::Bare { .. } => {
                "give the master a replica, or let it save (appendonly yes, save points, or --shutdown)"
            }
            Self::NoReplica(_) => "give it a replica with `add-node --replica-of`, or allow it with --allow-downtime",
            Self::Disk(_) | Self::Admin(_) | Self::MoreAway(_) | Self::Restless(_) => {
                "see `check` and the logs of the nodes; when it is whole, give the same command again"
            }
        }
    }
}
