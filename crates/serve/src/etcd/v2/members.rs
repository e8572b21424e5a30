//! Members, machines and statistics: there is one member, and it leads.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use crate::etcd::Door;

/// `GET /v2/members`. Members cannot be changed.
pub(super) async fn members(State(door): State<Door>, method: Method) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return no_change();
    }
    Json(json!({"members": [member(&door)]})).into_response()
}

/// `GET /v2/members/leader`, and members by id, which can be changed but not read in etcd either.
pub(super) async fn one(State(door): State<Door>, method: Method, path: axum::extract::Path<String>) -> Response {
    match (&method, path.as_str()) {
        (&Method::GET | &Method::HEAD, "leader") => Json(member(&door)).into_response(),
        (&Method::GET | &Method::HEAD, _) => {
            (StatusCode::NOT_FOUND, Json(json!({"message": "Not found"}))).into_response()
        }
        _ => no_change(),
    }
}

/// `GET /v2/machines`: client URLs as a text.
pub(super) async fn machines(State(door): State<Door>) -> String {
    door.identity.urls().join(", ")
}

/// `GET /v2/stats/self`.
pub(super) async fn stats_self(State(door): State<Door>) -> Json<Value> {
    let start = door.v2.start.to_string();
    let leader = json!({"leader": id(&door), "uptime": go_duration(door.v2.clock.elapsed()), "startTime": start});
    Json(json!({
        "name": door.identity.name(),
        "id": id(&door),
        "state": "StateLeader",
        "startTime": start,
        "leaderInfo": leader,
        "recvAppendRequestCnt": 0,
        "sendAppendRequestCnt": 0,
    }))
}

/// `GET /v2/stats/leader`: nobody follows.
pub(super) async fn stats_leader(State(door): State<Door>) -> Json<Value> {
    Json(json!({"leader": id(&door), "followers": {}}))
}

/// `GET /v2/stats/store`.
pub(super) async fn stats_store(State(door): State<Door>) -> Json<Value> {
    Json(door.v2.counts.json())
}

/// `/v2/auth/…`.
pub(super) async fn auth() -> Response {
    let message = "regrow: users and roles of etcd 2 are not offered";
    (StatusCode::NOT_IMPLEMENTED, Json(json!({"message": message}))).into_response()
}

fn member(door: &Door) -> Value {
    let peers: [&str; 0] = [];
    json!({"id": id(door), "name": door.identity.name(), "peerURLs": peers, "clientURLs": door.identity.urls()})
}

fn id(door: &Door) -> String {
    format!("{:x}", door.identity.member())
}

fn no_change() -> Response {
    let message = "regrow: this store is one member for itself, members cannot be added, removed or changed";
    let allow = [(header::ALLOW, "GET")];
    (StatusCode::METHOD_NOT_ALLOWED, allow, Json(json!({"message": message}))).into_response()
}

/// A time as Go writes it: `1h2m3.4s`.
fn go_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = format!("{}.{:09}", seconds % 60, time.subsec_nanos());
    let rest = rest.trim_end_matches('0').trim_end_matches('.');
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, minutes) => format!("{minutes}m{rest}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{rest}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As Go's `time.Duration` writes itself.
    #[test]
    fn times_are_written_as_in_go() {
        for (millis, expect) in
            [(0, "0s"), (1500, "1.5s"), (61_000, "1m1s"), (3_600_000, "1h0m0s"), (7_325_250, "2h2m5.25s")]
        {
            assert_eq!(go_duration(Duration::from_millis(millis)), expect);
        }
    }
}
