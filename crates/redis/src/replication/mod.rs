//! Reads what a master writes, as a replica does.
//!
//! Flow: [`attach`] asks a master to go on from a [`Position`], or for all. The answer is a [`Feed`]; for a full copy its
//! snapshot comes first ([`Feed::snapshot`], through a [`pipe`] into [`crate::rdb::Reader`]), then the writes, one after
//! another ([`Feed::next_entry`]). The feed tells the master once a second how far it has read, or it would be cut off.
//!
//! Guarantees: entries come in the master's order; each says the position after it, from which [`attach`] goes on without
//! a gap and without a repetition, as long as the master's backlog reaches back that far. Nothing is ever written to the
//! master but its protocol. Assumes that the reader keeps up: what it does not take waits in the master's memory, and
//! beyond the master's limit for replicas (`client-output-buffer-limit`) the link is cut.

mod entries;
mod feed;
mod pipe;

pub use entries::{Entries, Entry, StreamError};
pub use feed::{Begin, Feed, Position, ReplicationError, attach};
pub use pipe::{PipeReader, PipeWriter, pipe};
