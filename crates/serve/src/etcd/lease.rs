//! Leases.

use futures_util::stream::{BoxStream, StreamExt, unfold};
use regrow_store::{Error, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, proto::etcdserverpb as pb};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Door, refusal};

/// The time-to-live that etcd answers for a lease that is not there.
const GONE: i64 = -1;

#[async_trait]
impl pb::lease_server::Lease for Door {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let request = request.into_inner();
        let request = LeaseGrantRequest { id: LeaseId(request.id), ttl: request.ttl };
        let granted = self.store.lease_grant(request).await.map_err(refusal)?;
        Ok(Response::new(pb::LeaseGrantResponse {
            header: self.header(granted.revision),
            id: granted.id.0,
            ttl: granted.ttl,
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let revoked = self.store.lease_revoke(LeaseId(request.into_inner().id)).await.map_err(refusal)?;
        Ok(Response::new(pb::LeaseRevokeResponse { header: self.header(revoked.revision) }))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    /// One answer to each request, taken only when the client has room for it: nothing is queued.
    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let state = Some((self.clone(), request.into_inner()));
        let answers = unfold(state, async |state| {
            let (door, mut requests) = state?;
            match requests.message().await {
                Ok(Some(request)) => match door.keep_alive(LeaseId(request.id)).await {
                    Ok(answer) => Some((Ok(answer), Some((door, requests)))),
                    Err(status) => Some((Err(status), None)),
                },
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let request = request.into_inner();
        let asked = LeaseTimeToLiveRequest { id: LeaseId(request.id), keys: request.keys };
        let message = match self.store.lease_time_to_live(asked).await {
            Ok(lease) => pb::LeaseTimeToLiveResponse {
                header: self.header(lease.revision),
                id: lease.id.0,
                ttl: lease.ttl,
                granted_ttl: lease.granted_ttl,
                keys: lease.keys,
            },
            Err(Error::LeaseNotFound(_)) => pb::LeaseTimeToLiveResponse {
                header: self.now().await?,
                id: request.id,
                ttl: GONE,
                ..pb::LeaseTimeToLiveResponse::default()
            },
            Err(error) => return Err(refusal(error)),
        };
        Ok(Response::new(message))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let leases = self.store.leases().await.map_err(refusal)?;
        Ok(Response::new(pb::LeaseLeasesResponse {
            header: self.header(leases.revision),
            leases: leases.leases.into_iter().map(|id| pb::LeaseStatus { id: id.0 }).collect(),
        }))
    }
}

impl Door {
    /// A lease that is not there is answered with a time-to-live of 0, and the stream goes on, as in etcd.
    async fn keep_alive(&self, id: LeaseId) -> Result<pb::LeaseKeepAliveResponse, Status> {
        match self.store.lease_keep_alive(id).await {
            Ok(alive) => {
                let header = self.header(alive.revision);
                Ok(pb::LeaseKeepAliveResponse { header, id: id.0, ttl: alive.ttl })
            }
            Err(Error::LeaseNotFound(_)) => {
                Ok(pb::LeaseKeepAliveResponse { header: self.now().await?, id: id.0, ttl: 0 })
            }
            Err(error) => Err(refusal(error)),
        }
    }

    /// A header with where the store is.
    pub(super) async fn now(&self) -> Result<Option<pb::ResponseHeader>, Status> {
        Ok(self.header(self.store.status().await.map_err(refusal)?.revision))
    }
}
