//! Services that are not offered.

use axum::{
    extract::Request,
    response::{IntoResponse, Response},
};
use tonic::body::Body;

use super::not_offered;

/// Answers a call of a service that is not registered.
pub(super) async fn unimplemented(request: Request) -> Response {
    let sentence = match request.uri().path().split('/').nth(1) {
        Some("etcdserverpb.Auth") => {
            "regrow: users, roles and passwords of etcd are not offered; the door is as open as the address it is on"
        }
        Some("v3lockpb.Lock" | "v3electionpb.Election") => {
            "regrow: locks and elections on the server's side are not offered; clients make them from leases and \
             transactions, as `etcdctl lock` does"
        }
        _ => "regrow: this service is not offered by the etcd door",
    };
    not_offered(sentence).into_http::<Body>().into_response()
}
