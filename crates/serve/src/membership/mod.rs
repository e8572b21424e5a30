//! What a door can ask of the membership behind it, in the nouns of `regrow_gossip`.

pub mod http;
pub mod wire;

use crate::BoxFuture;
use regrow_gossip::{CommandError, Coordinate, Event, Input, KeyOp, KeyReport, Member, QueryRequest, Stats};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{broadcast, mpsc};

/// Happenings kept for a slow reader; what is older is lost to it, and it is told how many.
pub const HAPPENINGS_KEPT: usize = 4_096;

/// Something that the membership told, and when.
#[derive(Clone, Debug)]
pub struct Happening {
    /// By the wall clock.
    pub at: SystemTime,
    /// What.
    pub event: Event,
}

/// What came of a join: the living half counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joining {
    /// Addresses at which the cluster was met.
    pub joined: Vec<String>,
    /// Addresses at which it was not, and why.
    pub failed: Vec<(String, String)>,
}

/// What comes back from a query, in the order in which it comes. The channel ends when the query is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QueryAnswer {
    /// A member has got the question.
    Ack {
        /// Which.
        from: String,
    },
    /// A member has answered.
    Reply {
        /// Which.
        from: String,
        /// What.
        payload: Vec<u8>,
    },
}

/// Where the members are, all at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Roll {
    /// Our own name.
    pub name: String,
    /// Every member that is known, ourselves included, by name.
    pub members: Vec<Member>,
    /// Numbers about the machine.
    pub stats: Stats,
    /// Whether messages are encrypted.
    pub encrypted: bool,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// The gossip machine refused: the caller's fault.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// Gossip is off, or it is ending.
    #[error("{0}")]
    Unavailable(String),
}

/// The membership as doors see it.
pub trait Membership: Send + Sync + 'static {
    /// Everybody.
    fn roll(&self) -> BoxFuture<'_, Result<Roll, MembershipError>>;
    /// Where a member is in the space of round trips; `None` if that is not known.
    fn coordinate(&self, name: String) -> BoxFuture<'_, Result<Option<Coordinate>, MembershipError>>;
    /// Feeds the machine: user events, tags, replies, force-leave.
    fn command(&self, input: Input) -> BoxFuture<'_, Result<(), MembershipError>>;
    /// Meets members by `host[:port]`; begins anew after a leave.
    fn join(&self, addresses: Vec<String>, ignore_old_events: bool) -> BoxFuture<'_, Result<Joining, MembershipError>>;
    /// Leaves; returns when it is done.
    fn leave(&self) -> BoxFuture<'_, Result<(), MembershipError>>;
    /// Asks the cluster. `request.token` is drawn here.
    fn query(&self, request: QueryRequest) -> BoxFuture<'_, Result<mpsc::Receiver<QueryAnswer>, MembershipError>>;
    /// Changes or lists the keys of the whole cluster.
    fn keys(&self, op: KeyOp, relay_factor: u8) -> BoxFuture<'_, Result<KeyReport, MembershipError>>;
    /// What happens from now on.
    fn happenings(&self) -> broadcast::Receiver<Arc<Happening>>;
    /// Lines of the agent's log from now on, with their level.
    fn log(&self) -> broadcast::Receiver<Arc<(tracing::Level, String)>>;
    /// How long a query without a timeout runs in a cluster of so many living members.
    fn query_timeout(&self, living: usize) -> Duration {
        // Serf's formula: 16 gossip intervals of 200 ms for each digit of the cluster's size.
        let digits = ((living + 1) as f64).log10().ceil().max(1.0);
        Duration::from_millis(200 * 16).mul_f64(digits)
    }
}
