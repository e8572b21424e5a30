//! Revisioned keys with transactions, leases and watches: etcd's v3 model, exactly.
//!
//! **Flow.** [`Store`] is the trait; its types map one to one onto etcd's `rpc.proto`. [`Engine`] is the embedded
//! implementation: one writer thread takes requests in order, evaluates them, writes all that are waiting as one
//! checksummed frame, syncs once, then makes them visible, answers and wakes watchers. [`Remote`] is a store elsewhere,
//! by etcd's v3 interface; [`proto`] has the types that travel.
//!
//! **Guarantees.** What was acknowledged is on disk. A read sees only what is on disk, and everything acknowledged
//! before the read began. Revisions have no gaps. A watch delivers every event once, in order, whole revisions at a
//! time, and can be resumed from any revision that is not compacted.
//!
//! **Assumptions.** `fdatasync` means what it says; one process a data folder (enforced by a lock).
//!
//! **Caveats.** A request that fails with [`Error::Disk`] may or may not be found after a restart.
//!
//! **Errors.** One enum, [`Error`], with etcd's meanings and [`Error::is_retryable`].
//!
//! How the engine is built, and why: `docs/design/0002-store-engine.md`.

pub mod backup;
mod check;
pub mod clock;
pub mod disk;
mod engine;
mod error;
mod key;
mod lease;
pub mod limits;
mod pages;
pub mod proto;
pub mod relocate;
mod remote;
mod request;
mod snapshot;
mod store;
#[cfg(feature = "suite")]
pub mod suite;
mod txn;
mod watch;

pub use check::check_txn;
pub use engine::{AutoCompaction, Engine, Options};
pub use error::{Error, Result};
pub use key::{KeyRange, LeaseId, Revision, prefix_end};
pub use lease::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseRevokeResponse, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, LeasesResponse,
};
pub use pages::Pages;
pub use remote::{Member, MemberStatus, Remote, RemoteOptions, Secret, tls};
pub use request::{
    CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, HashRequest, HashResponse, KeyValue,
    PutRequest, PutResponse, RangeRequest, RangeResponse, SortOrder, SortTarget, Status,
};
pub use snapshot::{Snapshot, SnapshotPart, SnapshotSource};
pub use store::{BoxFuture, Store};
pub use txn::{Compare, CompareOp, CompareTarget, Op, OpResponse, TxnRequest, TxnResponse};
pub use watch::{Event, EventKind, Watch, WatchItem, WatchRequest, WatchSource};
