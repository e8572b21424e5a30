//! The trait that every store implements.

use std::pin::Pin;

use crate::{
    CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, HashRequest, HashResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Snapshot, Status, TxnRequest, TxnResponse, Watch, WatchRequest,
};

/// A future that can be sent between threads; what a method of an object-safe async trait returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Revisioned keys with transactions, leases and watches, as etcd's v3 interface has them. Used as `Arc<dyn Store>`.
///
/// Dropping a returned future gives up the answer, not the request: a write may still happen.
pub trait Store: Send + Sync {
    /// Reads keys; linearizable.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>>;

    /// Puts a key; durable when answered.
    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>>;

    /// Deletes keys; durable when answered.
    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>>;

    /// Does a transaction; durable when answered.
    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>>;

    /// Gives up history below a revision.
    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>>;

    /// Grants a lease.
    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>>;

    /// Ends a lease and deletes its keys in one revision. Errors: `LeaseNotFound`, `NoSpace`, `Disk`, `Closed`.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>>;

    /// Lets a lease live on for its full time. Errors: `LeaseNotFound`.
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>>;

    /// Tells how long a lease has. Errors: `LeaseNotFound`.
    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>>;

    /// Lists the leases in force.
    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>>;

    /// Watches keys. A start that is compacted is told by the first [`Watch::next`].
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>>;

    /// Tells how the store is.
    fn status(&self) -> BoxFuture<'_, Result<Status>>;

    /// Computes a checksum of the contents. Errors: `Compacted`, `FutureRevision`, `Corrupt`.
    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>>;

    /// Copies the whole store, in etcd's format. Errors: `TooManySnapshots`.
    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>>;
}
