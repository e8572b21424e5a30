//! Leases of a store elsewhere.

use futures_util::stream;
use tonic::{Response, Status};

use super::{
    endpoints::{Endpoints, Kind, Way},
    revision,
};
use crate::{
    Error, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, Result,
    proto::{
        Asked,
        etcdserverpb::{self as pb, lease_client::LeaseClient},
    },
};

fn client(channel: Way) -> LeaseClient<Way> {
    LeaseClient::new(channel).max_decoding_message_size(super::RESPONSE_BYTES_MAX)
}

fn about(lease: LeaseId) -> Asked {
    Asked { lease, ..Asked::default() }
}

pub(super) async fn grant(endpoints: &Endpoints, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
    let asked = Asked { ttl: request.ttl, ..about(request.id) };
    let request = pb::LeaseGrantRequest { ttl: request.ttl, id: request.id.0 };
    let call = |channel| async move { client(channel).lease_grant(request).await };
    let granted = endpoints.call(Kind::Write, asked, call).await?;
    Ok(LeaseGrantResponse { revision: revision(granted.header), id: LeaseId(granted.id), ttl: granted.ttl })
}

pub(super) async fn revoke(endpoints: &Endpoints, id: LeaseId) -> Result<LeaseRevokeResponse> {
    let request = pb::LeaseRevokeRequest { id: id.0 };
    let call = |channel| async move { client(channel).lease_revoke(request).await };
    let revoked = endpoints.call(Kind::Write, about(id), call).await?;
    Ok(LeaseRevokeResponse { revision: revision(revoked.header) })
}

/// A stream of one request. It may be sent again: keeping a lease alive twice is keeping it alive.
pub(super) async fn keep_alive(endpoints: &Endpoints, id: LeaseId) -> Result<LeaseKeepAliveResponse> {
    let call = |channel| async move {
        let requests = stream::iter([pb::LeaseKeepAliveRequest { id: id.0 }]);
        let mut answers = client(channel).lease_keep_alive(requests).await?.into_inner();
        let answer = answers.message().await?;
        answer.map(Response::new).ok_or_else(|| Status::unavailable("no answer to a keep-alive"))
    };
    let alive = endpoints.call(Kind::Read, about(id), call).await?;
    if alive.ttl <= 0 {
        return Err(Error::LeaseNotFound(id));
    }
    Ok(LeaseKeepAliveResponse { revision: revision(alive.header), id, ttl: alive.ttl })
}

pub(super) async fn time_to_live(
    endpoints: &Endpoints,
    request: LeaseTimeToLiveRequest,
) -> Result<LeaseTimeToLiveResponse> {
    let id = request.id;
    let request = pb::LeaseTimeToLiveRequest { id: id.0, keys: request.keys };
    let call = |channel| async move { client(channel).lease_time_to_live(request).await };
    let mut lease = endpoints.call(Kind::Read, about(id), call).await?;
    // etcd answers -1 for a lease that is not there.
    if lease.ttl < 0 {
        return Err(Error::LeaseNotFound(id));
    }
    lease.keys.sort();
    Ok(LeaseTimeToLiveResponse {
        revision: revision(lease.header),
        id,
        ttl: lease.ttl,
        granted_ttl: lease.granted_ttl,
        keys: lease.keys,
    })
}

pub(super) async fn all(endpoints: &Endpoints) -> Result<LeasesResponse> {
    let call = |channel| async move { client(channel).lease_leases(pb::LeaseLeasesRequest {}).await };
    let leases = endpoints.call(Kind::Read, Asked::default(), call).await?;
    let mut ids: Vec<LeaseId> = leases.leases.into_iter().map(|lease| LeaseId(lease.id)).collect();
    ids.sort();
    Ok(LeasesResponse { revision: revision(leases.header), leases: ids })
}
