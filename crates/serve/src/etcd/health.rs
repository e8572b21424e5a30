//! The gRPC health protocol. As in etcd there is one service to ask for: the server itself, by the empty name.

use futures_util::stream::{BoxStream, StreamExt, once, pending};
use regrow_store::proto::health::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus, health_server::Health,
};
use tonic::{Request, Response, Status, async_trait};

use super::Door;

#[async_trait]
impl Health for Door {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        match self.serving(&request.into_inner()).await {
            ServingStatus::ServiceUnknown => Err(Status::not_found("unknown service")),
            status => Ok(Response::new(HealthCheckResponse { status: status.into() })),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// The status does not change while the server runs, and the stream ends with it.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let status = self.serving(&request.into_inner()).await;
        let first = HealthCheckResponse { status: status.into() };
        Ok(Response::new(once(async move { Ok(first) }).chain(pending()).boxed()))
    }
}

impl Door {
    async fn serving(&self, request: &HealthCheckRequest) -> ServingStatus {
        if !request.service.is_empty() {
            return ServingStatus::ServiceUnknown;
        }
        match self.behind.status().await {
            Ok(_) => ServingStatus::Serving,
            Err(_) => ServingStatus::NotServing,
        }
    }
}
