//! Copies of a whole store, as `etcdctl snapshot save` writes them to a file.
//!
//! **Shape.** A bbolt database with etcd's buckets, then the SHA-256 of it: what `etcdctl snapshot status` and `restore`
//! take. It has every key with the history that is kept, and the leases with their full time; it has no members, users
//! or alarms, which a restore gives up anyway.

pub(crate) mod bolt;

use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::{BoxFuture, Result, Revision};

/// A piece of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPart {
    /// What comes next in the file; up to [`crate::limits::SNAPSHOT_PART_BYTES`] from the embedded store.
    pub bytes: Bytes,
    /// Bytes of the database that come after this piece. The checksum at the end is not counted, as in etcd.
    pub remaining: u64,
}

/// A copy under way: of the store as it was at one revision, however long it takes to read, while writes go on.
///
/// Until it is dropped, history that it still needs is not given up.
pub struct Snapshot {
    source: Box<dyn SnapshotSource>,
    revision: Revision,
    ended: bool,
}

/// Where a [`Snapshot`] comes from; written by implementations of `Store`.
pub trait SnapshotSource: Send {
    /// The next piece; `None` behind the last. Dropping the future loses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SnapshotPart>>>;
}

impl Snapshot {
    /// A copy of the store as it was at `revision`; 0: not known.
    pub fn new(revision: Revision, source: Box<dyn SnapshotSource>) -> Self {
        Self { source, revision, ended: false }
    }

    /// The revision copied; 0 if the store does not tell.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Waits for the next piece; `None` behind the last and after an error.
    ///
    /// Errors: `Corrupt`, `Disk`, `Unavailable`, `Closed`; what was read so far is of no use then.
    pub async fn next(&mut self) -> Option<Result<SnapshotPart>> {
        if self.ended {
            return None;
        }
        let part = self.source.next().await;
        self.ended = !matches!(part, Ok(Some(_)));
        part.transpose()
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("revision", &self.revision).field("ended", &self.ended).finish_non_exhaustive()
    }
}

/// etcd's `leasepb.Lease`: id and seconds, fields 1 and 2.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Lease {
    #[prost(int64, tag = "1")]
    pub(crate) id: i64,
    #[prost(int64, tag = "2")]
    pub(crate) ttl: i64,
}
