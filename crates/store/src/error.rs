//! What can go wrong, with etcd's meanings.

use std::{io, path::PathBuf, sync::Arc};

use bytes::Bytes;

use crate::{LeaseId, Revision};

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused. State is unchanged unless the variant says otherwise.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The revision asked for is older than what is kept; caller's fault. A watch must start over from a fresh range.
    #[error("revision {requested} is compacted; the oldest kept is {compacted}")]
    Compacted {
        /// What was asked for.
        requested: Revision,
        /// The oldest revision that can be asked for.
        compacted: Revision,
    },
    /// The revision asked for has not happened; caller's fault.
    #[error("revision {requested} is in the future; the store is at {current}")]
    FutureRevision {
        /// What was asked for.
        requested: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// No such lease: never granted, revoked or expired.
    #[error("lease {0} not found")]
    LeaseNotFound(LeaseId),
    /// A lease with this id is in force.
    #[error("lease {0} exists already")]
    LeaseExists(LeaseId),
    /// The time-to-live is above `limits::LEASE_TTL_SECONDS_MAX`.
    #[error("lease time-to-live of {ttl} s is above {max} s")]
    LeaseTtlTooLarge {
        /// Seconds asked for.
        ttl: i64,
        /// The limit in seconds.
        max: i64,
    },
    /// A put that keeps the value or the lease of its key names a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// A key of length 0.
    #[error("empty key")]
    EmptyKey,
    /// A put with `ignore_value` also carries a value.
    #[error("value given although ignore_value is set")]
    ValueProvided,
    /// A put with `ignore_lease` also carries a lease.
    #[error("lease given although ignore_lease is set")]
    LeaseProvided,
    /// A transaction could put a key twice, or put and delete it.
    #[error("key {} changed twice in one transaction", key.escape_ascii())]
    DuplicateKey {
        /// The key.
        key: Bytes,
    },
    /// A list of a transaction is longer than `limits::TXN_OPS_MAX`.
    #[error("{ops} operations in a transaction, {max} are allowed")]
    TooManyOps {
        /// How many there are.
        ops: usize,
        /// How many may be.
        max: usize,
    },
    /// A request above `limits::REQUEST_BYTES_MAX`.
    #[error("request of {bytes} bytes, {max} are allowed")]
    RequestTooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        max: usize,
    },
    /// More watches than `limits::WATCHES_MAX`.
    #[error("{max} watches are open, no more are allowed")]
    TooManyWatches {
        /// The limit.
        max: usize,
    },
    /// More snapshots under way than `limits::SNAPSHOTS_MAX`.
    #[error("{max} snapshots are under way, no more are allowed")]
    TooManySnapshots {
        /// The limit.
        max: usize,
    },
    /// The disk or the quota is full. Reads, deletes and compaction go on; puts do again when there is space.
    #[error("no space left on the disk of the store: free some, or raise the quota")]
    NoSpace,
    /// Bytes on disk are not what was written; they are not served. Not the caller's fault.
    #[error("file {file} is corrupt at offset {offset}: {what}")]
    Corrupt {
        /// Name of the file in the data folder.
        file: String,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong there.
        what: &'static str,
    },
    /// Another process uses the data folder.
    #[error("data folder {} is in use by {}", path.display(), holder(*pid))]
    Locked {
        /// The data folder.
        path: PathBuf,
        /// The process, if it left its id.
        pid: Option<u32>,
    },
    /// The disk failed. A write may or may not be found after a restart; the engine takes no more until then, or
    /// until it could wipe what it wrote if the disk was only full.
    #[error("cannot {action} {file}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Name of the file in the data folder.
        file: String,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The store cannot be reached, or has no leader; a write may or may not have happened.
    #[error("store unavailable: {reason}")]
    Unavailable {
        /// What was tried and what came back.
        reason: String,
    },
    /// The store is being moved to another place, and takes no writes for the moment. Nothing was done.
    #[error("the store is being moved: writes wait until it is in its new place")]
    Fenced,
    /// Not an endpoint of a store elsewhere; caller's fault.
    #[error("`{url}` is not an endpoint of a store: {why}")]
    Endpoint {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Whoever asks may not do this; caller's fault. Nothing was done, and nothing is told of what is there.
    #[error("{reason}")]
    Denied {
        /// Who may not do what, and why.
        reason: String,
    },
    /// Nobody knows who asks: no credentials were shown; caller's fault.
    #[error("not admitted: {reason}")]
    Anonymous {
        /// What they are needed for, and where they come from.
        reason: String,
    },
    /// The credentials shown are wrong, expired or revoked; caller's fault.
    #[error("not admitted: {reason}")]
    Unauthenticated {
        /// What is the matter with the credentials, and what to do.
        reason: String,
    },
    /// The store was closed; a request that was waiting may or may not have happened.
    #[error("store closed")]
    Closed,
}

impl Error {
    /// Whether the same request may succeed later without anything changed by the caller.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Error::NoSpace
                | Error::Fenced
                | Error::Unavailable { .. }
                | Error::TooManyWatches { .. }
                | Error::TooManySnapshots { .. }
        )
    }

    pub(crate) fn disk(action: &'static str, file: &str, source: io::Error) -> Self {
        if is_no_space(&source) {
            return Error::NoSpace;
        }
        Error::Disk { action, file: file.to_owned(), source: Arc::new(source) }
    }

    pub(crate) fn corrupt(file: &str, offset: u64, what: &'static str) -> Self {
        Error::Corrupt { file: file.to_owned(), offset, what }
    }
}

/// Whether the disk is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
