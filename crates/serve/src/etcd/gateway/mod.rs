//! etcd's JSON gateway: the calls of gRPC as `POST /v3/…` with JSON, for those who have no gRPC.
//!
//! **Flow.** The path names a call. [`read`] writes its message from the JSON, [`call`] asks the same services that gRPC
//! clients ask, on the same door, with the client's credentials, and [`write`] tells the answer as JSON. What messages
//! look like is in the descriptors ([`schema`]), so a call that is added to the interface needs a line in [`CALLS`].
//!
//! **Guarantees.** Whatever holds for gRPC holds here: limits, access, order. Names, numbers, errors and lines of streams
//! are as etcd's gateway writes them; `/v3`, `/v3beta` and `/v3alpha` are the same.
//!
//! **Memory.** Requests and answers on their way, all together, take up no more than a limit; then calls are refused. An
//! object of a stream has a limit of its own.
//!
//! **Errors.** `{"error", "code", "message"}` with the status of HTTP that belongs to the code ([`refused`]).

mod call;
mod objects;
mod read;
mod refused;
mod schema;
mod write;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request},
    http::StatusCode,
    response::IntoResponse,
    routing::post,
};
use regrow_store::proto::DESCRIPTORS;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::limits::GATEWAY_KIB_MAX;
use schema::Schema;

/// Where the interface is found: now, as etcd 3.3 and 3.4 had it, and as 3.2 and 3.3 had it.
const PREFIXES: [&str; 3] = ["/v3", "/v3beta", "/v3alpha"];

/// Paths and the calls they are. Source: the `google.api.http` options in etcd's `rpc.proto`, `v3lock.proto`,
/// `v3election.proto`.
const CALLS: [(&str, &str); 51] = [
    ("kv/range", "etcdserverpb.KV/Range"),
    ("kv/put", "etcdserverpb.KV/Put"),
    ("kv/deleterange", "etcdserverpb.KV/DeleteRange"),
    ("kv/txn", "etcdserverpb.KV/Txn"),
    ("kv/compaction", "etcdserverpb.KV/Compact"),
    ("watch", "etcdserverpb.Watch/Watch"),
    ("lease/grant", "etcdserverpb.Lease/LeaseGrant"),
    ("lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("kv/lease/revoke", "etcdserverpb.Lease/LeaseRevoke"),
    ("lease/keepalive", "etcdserverpb.Lease/LeaseKeepAlive"),
    ("lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("kv/lease/timetolive", "etcdserverpb.Lease/LeaseTimeToLive"),
    ("lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("kv/lease/leases", "etcdserverpb.Lease/LeaseLeases"),
    ("cluster/member/add", "etcdserverpb.Cluster/MemberAdd"),
    ("cluster/member/remove", "etcdserverpb.Cluster/MemberRemove"),
    ("cluster/member/update", "etcdserverpb.Cluster/MemberUpdate"),
    ("cluster/member/list", "etcdserverpb.Cluster/MemberList"),
    ("cluster/member/promote", "etcdserverpb.Cluster/MemberPromote"),
    ("maintenance/alarm", "etcdserverpb.Maintenance/Alarm"),
    ("maintenance/status", "etcdserverpb.Maintenance/Status"),
    ("maintenance/defragment", "etcdserverpb.Maintenance/Defragment"),
    ("maintenance/hash", "etcdserverpb.Maintenance/HashKV"),
    ("maintenance/hashkv", "etcdserverpb.Maintenance/HashKV"),
    ("maintenance/snapshot", "etcdserverpb.Maintenance/Snapshot"),
    ("maintenance/transfer-leadership", "etcdserverpb.Maintenance/MoveLeader"),
    ("maintenance/downgrade", "etcdserverpb.Maintenance/Downgrade"),
    ("auth/enable", "etcdserverpb.Auth/AuthEnable"),
    ("auth/disable", "etcdserverpb.Auth/AuthDisable"),
    ("auth/status", "etcdserverpb.Auth/AuthStatus"),
    ("auth/authenticate", "etcdserverpb.Auth/Authenticate"),
    ("auth/user/add", "etcdserverpb.Auth/UserAdd"),
    ("auth/user/get", "etcdserverpb.Auth/UserGet"),
    ("auth/user/list", "etcdserverpb.Auth/UserList"),
    ("auth/user/delete", "etcdserverpb.Auth/UserDelete"),
    ("auth/user/changepw", "etcdserverpb.Auth/UserChangePassword"),
    ("auth/user/grant", "etcdserverpb.Auth/UserGrantRole"),
    ("auth/user/revoke", "etcdserverpb.Auth/UserRevokeRole"),
    ("auth/role/add", "etcdserverpb.Auth/RoleAdd"),
    ("auth/role/get", "etcdserverpb.Auth/RoleGet"),
    ("auth/role/list", "etcdserverpb.Auth/RoleList"),
    ("auth/role/delete", "etcdserverpb.Auth/RoleDelete"),
    ("auth/role/grant", "etcdserverpb.Auth/RoleGrantPermission"),
    ("auth/role/revoke", "etcdserverpb.Auth/RoleRevokePermission"),
    ("lock/lock", "v3lockpb.Lock/Lock"),
    ("lock/unlock", "v3lockpb.Lock/Unlock"),
    ("election/campaign", "v3electionpb.Election/Campaign"),
    ("election/proclaim", "v3electionpb.Election/Proclaim"),
    ("election/leader", "v3electionpb.Election/Leader"),
    ("election/observe", "v3electionpb.Election/Observe"),
    ("election/resign", "v3electionpb.Election/Resign"),
];

/// What all calls of a door share, whoever asks.
#[derive(Debug)]
pub(super) struct Shared {
    schema: Schema,
    /// KiB of requests and answers on their way.
    room: Arc<Semaphore>,
}

impl Shared {
    pub(super) fn new() -> Self {
        // The descriptors are part of the binary, and a test reads them.
        let schema = Schema::read(DESCRIPTORS).unwrap_or_default();
        Self { schema, room: Arc::new(Semaphore::new(GATEWAY_KIB_MAX as usize)) }
    }

    /// Room for so many bytes, above what is held already.
    fn room(&self, bytes: usize, held: Option<&OwnedSemaphorePermit>) -> Result<Option<OwnedSemaphorePermit>, Status> {
        let more = (bytes / 1024 + 1).saturating_sub(held.map_or(0, OwnedSemaphorePermit::num_permits));
        if more == 0 {
            return Ok(None);
        }
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let room = self.room.clone().try_acquire_many_owned(more);
        room.map(Some).map_err(|_| {
            Status::resource_exhausted(format!(
                "etcdserver: too many requests: JSON of {GATEWAY_KIB_MAX} KiB is on its way: ask for less, or use gRPC"
            ))
        })
    }
}

/// The gateway before these services, the door's own as gRPC clients reach them.
pub(super) fn router(shared: Arc<Shared>, services: Router) -> Router {
    PREFIXES.into_iter().fold(Router::new(), |router, prefix| {
        let (shared, services) = (shared.clone(), services.clone());
        let answer = async move |path: Path<String>, request: Request| match name(&path) {
            Some(name) => call::answer(shared, services, name, request).await,
            None => (StatusCode::NOT_FOUND, "Not Found\n").into_response(),
        };
        router.route(&format!("{prefix}/{{*path}}"), post(answer))
    })
}

fn name(path: &str) -> Option<&'static str> {
    CALLS.iter().find(|(known, _)| *known == path).map(|(_, name)| *name)
}
