//! What can go wrong while a cluster is changed.

use std::time::Duration;

use crate::address::Address;
use crate::connection;
use crate::slot::Slot;
use crate::topology::{BadNodes, NodeId, Problem};

/// A server that cannot take part, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unfit {
    /// The server.
    pub address: Address,
    /// Why.
    pub why: String,
}

/// What can go wrong while a cluster is changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// One server failed us; see the source for whether the cluster was changed.
    #[error(transparent)]
    Server(#[from] connection::Error),
    /// A server answers with a list of nodes that cannot be read. Nothing was changed.
    #[error("the list of nodes of {address} cannot be read")]
    Nodes {
        /// The server.
        address: Address,
        /// What is wrong.
        source: BadNodes,
    },
    /// None of the addresses leads to a cluster. Nothing was changed.
    #[error("no node of the cluster can be reached: {}", join(.0))]
    Unreachable(Vec<Unfit>),
    /// Servers that a cluster cannot take in. Nothing was changed.
    #[error("{} server(s) cannot take part: {}", .0.len(), join(.0))]
    Unfit(Vec<Unfit>),
    /// The commands were accepted, but the nodes do not agree within the deadline.
    #[error("the nodes do not agree after {after:?}: {}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "))]
    NotSettled {
        /// The deadline.
        after: Duration,
        /// What was wrong at its end; empty when all agree on something else than what was wished.
        problems: Vec<Problem>,
    },
    /// A replica does not get its data within the deadline.
    #[error("the replica {replica} is not in step with its master after {after:?}")]
    NotInStep {
        /// The replica.
        replica: Address,
        /// The deadline.
        after: Duration,
    },
    /// A node that the picture does not hold; the caller's fault.
    #[error("node {0} is not among those that answered")]
    NoNode(NodeId),
    /// Keys of a slot cannot be brought over. The slot stays open; the source serves what is still there.
    #[error("slot {slot} is stuck half-way from {from} to {to}: {why}")]
    Stuck {
        /// The slot.
        slot: Slot,
        /// Where keys remain.
        from: Address,
        /// Where they should go.
        to: Address,
        /// The last refusal.
        why: String,
    },
}

impl AdminError {
    /// The first word of a server's refusal.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Server(error) => error.code(),
            _ => None,
        }
    }
}

fn join(list: &[Unfit]) -> String {
    list.iter().map(|one| format!("{} ({})", one.address, one.why)).collect::<Vec<_>>().join(", ")
}

/// An error with its sources on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
