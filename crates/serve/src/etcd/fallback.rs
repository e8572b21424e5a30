//! Services and pages that are not offered.

use axum::{
    extract::Request,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use tonic::body::Body;

use super::not_offered;

/// Answers a call of a service that is not registered, and a request for a page that is not there.
pub(super) async fn unimplemented(request: Request) -> Response {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return (StatusCode::NOT_FOUND, "404 page not found\n").into_response();
    }
    let sentence = match request.uri().path().split('/').nth(1) {
        Some("etcdserverpb.Auth") => {
            "regrow: users and roles of etcd are not offered: `regrow token create` makes tokens, which serve as passwords"
        }
        Some("v3lockpb.Lock" | "v3electionpb.Election") => {
            "regrow: locks and elections on the server's side are not offered; clients make them from leases and \
             transactions, as `etcdctl lock` does"
        }
        _ => "regrow: this service is not offered by the etcd door",
    };
    not_offered(sentence).into_http::<Body>().into_response()
}
