//! A store elsewhere, by etcd's v3 interface: an etcd cluster, or a Regrow server.
//!
//! **Flow.** One endpoint is in use until it fails; then the next one is. What cannot have been done is asked again
//! there, reads always, writes only if the connection failed before the request was sent.
//!
//! **Guarantees.** Those of [`Store`]: reads are linearizable, on whichever member they arrive. A watch begins behind a
//! linearizable read and, when its stream breaks, goes on at the revision after the last one delivered; if that is
//! compacted by then, it ends with `Compacted` rather than with a gap.
//!
//! **Assumptions.** All endpoints are of one cluster; one that is of another is refused by its cluster id.
//!
//! **Caveats.** [`Store::status`] does not tell `compact_revision`: the interface has no cheap way to ask. etcd before
//! 3.4.25 and 3.5.8 may answer [`Watch::request_progress`] before the events are there; where a watch goes on never
//! depends on that answer.
//!
//! **Errors.** A write that fails with `Unavailable` may or may not have happened.

mod endpoints;
mod leases;
mod secret;
mod snapshot;
mod socket;
mod survey;
pub mod tls;
mod watch;

use std::sync::Arc;

use self::{
    endpoints::{Endpoints, Kind, Way},
    tls::Tls,
};
pub use self::{
    secret::Secret,
    survey::{Member, MemberStatus},
};
use crate::{
    BoxFuture, CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, Error, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, Op, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Revision, Snapshot, Status, Store, TxnRequest, TxnResponse, Watch, WatchRequest, check,
    proto::{
        Asked,
        etcdserverpb::{self as pb, kv_client::KvClient, maintenance_client::MaintenanceClient},
    },
};

/// Bytes of one answer: a range answers with all its keys at once.
const RESPONSE_BYTES_MAX: usize = 512 * 1024 * 1024;

/// How a store elsewhere is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RemoteOptions {
    /// The files for endpoints with `https://`.
    pub tls: Tls,
    /// The token to show there. It is refused for endpoints without TLS.
    pub token: Option<Secret>,
}

/// A store elsewhere. A handle is cheap to clone; connections are made when they are needed.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Endpoints>);

impl Remote {
    /// A store at these endpoints, each as `http://HOST:PORT`. Nothing is connected yet. Must be called within a tokio
    /// runtime.
    ///
    /// # Errors
    /// `Endpoint` if there is none, or one is not such a URL.
    pub fn new<T: AsRef<str>>(endpoints: impl IntoIterator<Item = T>) -> Result<Self> {
        Self::with_options(endpoints, &RemoteOptions::default())
    }

    /// The same for endpoints that may be `https://HOST:PORT` too.
    ///
    /// # Errors
    /// `Endpoint` if there is none, if one is no such URL, or if what `options` name for it is not there or does not fit.
    pub fn with_options<T: AsRef<str>>(
        endpoints: impl IntoIterator<Item = T>,
        options: &RemoteOptions,
    ) -> Result<Self> {
        Ok(Self(Arc::new(Endpoints::new(endpoints, options)?)))
    }

    /// The id of the store's cluster: two stores with the same are one, unless one stands before the other.
    ///
    /// # Errors
    /// `Unavailable`, and those of who may ask.
    pub async fn cluster(&self) -> Result<u64> {
        self.now().await?;
        Ok(self.0.cluster())
    }

    /// Where the store is, linearizable; the member asked is that far itself afterwards.
    async fn now(&self) -> Result<Revision> {
        // Any key will do: the header is what is asked for.
        let request = RangeRequest { count_only: true, ..RangeRequest::key("\0") };
        Ok(self.read(request).await?.revision)
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse> {
        let asked = Asked { revision: request.revision, ..Asked::default() };
        let request = pb::RangeRequest::from(request);
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).range(request).await }
        };
        let response = self.0.call(Kind::Read, asked, call).await?;
        self.0.same_cluster(response.header.as_ref())?;
        Ok(response.into())
    }

    /// Fills in what an error on the wire leaves out.
    async fn explain(&self, error: Error) -> Error {
        match error {
            Error::Compacted { requested, compacted: Revision(0) } => match watch::oldest(self).await {
                Ok(compacted) => Error::Compacted { requested, compacted },
                Err(error) => error,
            },
            Error::FutureRevision { requested, current: Revision(0) } => match self.now().await {
                Ok(current) => Error::FutureRevision { requested, current },
                Err(error) => error,
            },
            error => error,
        }
    }

    async fn explained<T>(&self, result: Result<T>) -> Result<T> {
        match result {
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn do_put(&self, request: PutRequest) -> Result<PutResponse> {
        check::put(&request)?;
        let bytes = check::op_bytes(&Op::Put(request.clone()));
        let asked = Asked { lease: request.lease, bytes, ..Asked::default() };
        let request = pb::PutRequest::from(request);
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).put(request).await }
        };
        Ok(self.0.call(Kind::Write, asked, call).await?.into())
    }

    async fn do_delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        check::delete_range(&request)?;
        let request = pb::DeleteRangeRequest::from(request);
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).delete_range(request).await }
        };
        Ok(self.0.call(Kind::Write, Asked::default(), call).await?.into())
    }

    async fn do_txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        check::check_txn(&request)?;
        let kind = if check::is_read_only(&request) { Kind::Read } else { Kind::Write };
        let bytes = check::op_bytes(&Op::Txn(request.clone()));
        let asked = Asked { lease: lease_of(&request), revision: revision_of(&request), bytes, ..Asked::default() };
        let request = pb::TxnRequest::from(request);
        let call = |channel| {
            let request = request.clone();
            async move { kv(channel).txn(request).await }
        };
        let response = self.0.call(kind, asked, call).await?;
        response.try_into().map_err(|_| Error::Unavailable { reason: "an answer without meaning to a txn".to_owned() })
    }

    async fn do_compact(&self, request: CompactRequest) -> Result<CompactResponse> {
        let asked = Asked { revision: request.revision, ..Asked::default() };
        let request = pb::CompactionRequest::from(request);
        let call = |channel| async move { kv(channel).compact(request).await };
        let response = self.0.call(Kind::Write, asked, call).await?;
        Ok(CompactResponse { revision: revision(response.header) })
    }

    async fn do_status(&self) -> Result<Status> {
        let call = |channel| async move { maintenance(channel).status(pb::StatusRequest {}).await };
        let status = self.0.call(Kind::Read, Asked::default(), call).await?;
        // A member tells its own revision, which may be behind.
        let all = RangeRequest { count_only: true, ..RangeRequest::prefix("") };
        let all = self.read(all).await?;
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        Ok(Status {
            revision: all.revision,
            compact_revision: Revision(0),
            db_size: size(status.db_size),
            db_size_in_use: size(status.db_size_in_use),
            quota: size(status.db_size_quota),
            keys: size(all.count),
            no_space: status.errors.iter().any(|error| error.contains("NOSPACE")),
        })
    }

    async fn do_hash(&self, request: HashRequest) -> Result<HashResponse> {
        // The member hashes what it has; so it must have everything first.
        self.now().await?;
        let asked = Asked { revision: request.revision, ..Asked::default() };
        let revision = request.revision.0;
        let call = |channel| async move { maintenance(channel).hash_kv(pb::HashKvRequest { revision }).await };
        let response = self.0.call(Kind::Read, asked, call).await?;
        let now = self::revision(response.header);
        // Only etcd from 3.6 on says what it hashed up to.
        let hashed = [response.hash_revision, revision].into_iter().find(|revision| *revision > 0);
        Ok(HashResponse {
            revision: now,
            hash: response.hash,
            hash_revision: hashed.map_or(now, Revision),
            compact_revision: Revision(response.compact_revision),
        })
    }
}

impl Store for Remote {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            check::range(&request)?;
            self.explained(self.read(request).await).await
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.do_put(request))
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        Box::pin(self.do_delete_range(request))
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move { self.explained(self.do_txn(request).await).await })
    }

    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(async move { self.explained(self.do_compact(request).await).await })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(leases::grant(&self.0, request))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(leases::revoke(&self.0, id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(leases::keep_alive(&self.0, id))
    }

    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(leases::time_to_live(&self.0, request))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>> {
        Box::pin(leases::all(&self.0))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(watch::watch(self, request))
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        Box::pin(self.do_status())
    }

    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(async move { self.explained(self.do_hash(request).await).await })
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>> {
        Box::pin(snapshot::snapshot(&self.0))
    }
}

fn kv(channel: Way) -> KvClient<Way> {
    KvClient::new(channel).max_decoding_message_size(RESPONSE_BYTES_MAX)
}

fn maintenance(channel: Way) -> MaintenanceClient<Way> {
    MaintenanceClient::new(channel)
}

fn revision(header: Option<pb::ResponseHeader>) -> Revision {
    Revision(header.map_or(0, |header| header.revision))
}

/// The lease that a transaction's error may be about: the first it puts a key under.
fn lease_of(request: &TxnRequest) -> LeaseId {
    let found = |op: &Op| match op {
        Op::Put(put) => Some(put.lease),
        Op::Txn(inner) => Some(lease_of(inner)),
        Op::Range(_) | Op::DeleteRange(_) => None,
    };
    let mut leases = request.success.iter().chain(&request.failure).filter_map(found);
    leases.find(|lease| *lease != LeaseId::NONE).unwrap_or_default()
}

/// The revision that a transaction's error may be about: the highest it reads at.
fn revision_of(request: &TxnRequest) -> Revision {
    let found = |op: &Op| match op {
        Op::Range(range) => Some(range.revision),
        Op::Txn(inner) => Some(revision_of(inner)),
        Op::Put(_) | Op::DeleteRange(_) => None,
    };
    request.success.iter().chain(&request.failure).filter_map(found).max().unwrap_or_default()
}
