//! Gossip, live: drives `regrow_gossip` on sockets, clock and disk.
//!
//! Flow: one thread of its own (`node`) owns the sockets and the machine; another (`disk`) writes what a restart needs;
//! everybody else speaks to them through [`Club`], by bounded queues.
//!
//! Guarantees: nothing outside can hold the failure detector up: a full queue loses the record and counts it, a slow
//! disk, handler or client waits on its own thread. What handlers have still to see is on disk before the state that
//! says that it was taken ([`disk`]).
//!
//! Assumptions: the monotonic clock goes on while the process is stopped (a pause is seen as such).

mod address;
mod club;
mod disk;
mod join;
mod keys;
mod node;
mod settings;
mod stream;
mod trail;

pub(crate) use club::Club;
pub(crate) use settings::{DEFAULT, GossipFlags, GossipSettings};
pub(crate) use trail::{Trail, reason};

use crate::exit::Failure;
use node::Bound;
use std::path::Path;

/// A bound node that has not started.
pub(super) struct Prepared {
    bound: Bound,
    settings: GossipSettings,
}

/// Binds UDP and TCP; nothing is sent yet.
pub(super) fn prepare(settings: GossipSettings) -> Result<Prepared, Failure> {
    let bound = Bound::at(settings.bind)?;
    Ok(Prepared { bound, settings })
}

impl Prepared {
    /// Where it listens.
    pub(super) fn address(&self) -> std::net::SocketAddr {
        self.bound.address
    }

    /// Starts the threads and the join.
    pub(super) fn start(self, name: &str, data: &Path) -> Result<Club, Failure> {
        club::start(name, data, self.bound, self.settings)
    }
}
