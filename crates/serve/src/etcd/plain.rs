//! What is asked by plain HTTP, 1.1 or 2: how the member is. Other interfaces that are plain HTTP are merged here.
//!
//! **Guarantees.** A web page in somebody's browser can neither read nor write here: whatever names an `Origin` is
//! refused, and so is a request on loopback whose `Host` could be a name of the page's own (DNS rebinding).

use std::net::IpAddr;

use axum::{
    Json, Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tonic::transport::server::TcpConnectInfo;

use super::{Door, gateway, identity, refusal, v2};
use crate::access::Peer;

/// All routes but those of gRPC. `services` are those, for the JSON gateway.
pub(super) fn router(door: Door, services: Router) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/health", get(health))
        .with_state(door.clone())
        .merge(gateway::router(door.gateway.clone(), services))
        .merge(v2::router(door))
        .layer(middleware::from_fn(not_a_page))
}

/// As etcd has it: the member's own version, and that of the cluster, which has no patch.
async fn version() -> Response {
    let cluster = identity::VERSION.rsplit_once('.').map_or("", |(minor, _)| minor);
    Json(json!({"etcdserver": identity::VERSION, "etcdcluster": format!("{cluster}.0")})).into_response()
}

/// As etcd has it: a text for a boolean, and a reason that is empty when all is well.
async fn health(State(door): State<Door>) -> Response {
    match door.behind.status().await {
        Ok(_) => Json(json!({"health": "true", "reason": ""})).into_response(),
        Err(error) => {
            let reason = refusal(error).message().to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"health": "false", "reason": reason}))).into_response()
        }
    }
}

/// Refuses what a web page could have sent.
async fn not_a_page(request: Request, next: Next) -> Response {
    let refuse = |why: &'static str| (StatusCode::FORBIDDEN, why).into_response();
    let headers = request.headers();
    if headers.contains_key(header::ORIGIN) {
        return refuse("regrow: web pages may not use the store: this request names an Origin\n");
    }
    let info = request.extensions().get::<TcpConnectInfo>();
    let on_loopback = info.and_then(TcpConnectInfo::local_addr).is_some_and(|address| address.ip().is_loopback());
    // By TLS a page's own name leads nowhere: our certificate is not for it.
    let sealed = request.extensions().get::<Peer>().is_some_and(Peer::is_private);
    if on_loopback && !sealed && !headers.contains_key(header::AUTHORIZATION) && !is_of_this_machine(headers, &request)
    {
        return refuse("regrow: on loopback ask for the store by its address, `localhost`, or a name without dots\n");
    }
    next.run(request).await
}

/// Whether the `Host` (or HTTP/2's `:authority`) cannot be a name that a page's owner has in the DNS.
fn is_of_this_machine(headers: &HeaderMap, request: &Request) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let is_six = host.starts_with('[');
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !is_six || !port.ends_with(']') => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name.parse::<IpAddr>().is_ok() || !name.contains('.') || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    /// Addresses and names that only this machine gives; not those that somebody's DNS gives.
    #[test]
    fn hosts_of_this_machine() {
        for (host, expect) in [
            ("127.0.0.1:2379", true),
            ("127.0.0.1", true),
            ("[::1]:2379", true),
            ("[::1]", true),
            ("localhost:2379", true),
            ("node-1:2379", true),
            ("a.localhost", true),
            ("http---127.0.0.1-2379", false),
            ("page.example:2379", false),
            ("127.0.0.1.page.example", false),
        ] {
            let request = Request::builder().header(header::HOST, host).body(Body::empty()).expect("a request");
            assert_eq!(is_of_this_machine(request.headers(), &request), expect, "{host}");
        }
    }
}
