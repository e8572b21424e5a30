//! The guard of what is asked over HTTP.
//!
//! **Flow.** [`guarded`] lays itself around routes: it finds out who is there and what the request asks ([`asked`]), refuses it
//! or lets it through with the [`Visit`] among its extensions, writes changes down, and ends an answer that still goes on when
//! the credentials end.

use super::{Caller, From, Guard, Outcome, Peer, Refused, Shown, Visit, What};
use crate::wire::{Refusal, RefusalKind};
use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use regrow_control::access::{Access, Asked};
use regrow_model::{CauseId, Kind};
use std::sync::Arc;

/// Why a request failed, beside its answer.
#[derive(Clone)]
pub(crate) struct Why(pub(crate) String);

/// The routes, for whom the guard lets in.
pub(crate) fn guarded(router: Router, guard: Guard) -> Router {
    router.layer(middleware::from_fn_with_state(guard, admit))
}

async fn admit(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let asked = asked(request.method(), request.uri().path(), request.uri().query().unwrap_or(""));
    let peer = request.extensions().get::<Peer>();
    let (caller, from) = match peer {
        Some(peer) => (guard.caller(peer, Shown::of(request.headers())), From::of("http", peer)),
        None => (guard.stranger(), From { door: "http", remote: None }),
    };
    let visit = Visit::new(caller.clone(), from, guard.audit().clone());
    let did = verb(request.method());
    let what = What::Named(request.uri().path().chars().take(NAME_LENGTH_MAX).collect());
    if let Err(why) = visit.may(&asked, did, || what.clone()) {
        return refused(why);
    }
    request.extensions_mut().insert(visit.clone());
    let response = next.run(request).await;
    if is_change(&asked) {
        let cause = response.extensions().get::<CauseId>().cloned();
        visit.tell_of(did, what, cause, outcome(&response));
    }
    if guard.is_open() { response } else { while_good(response, caller) }
}

/// Longest path that is written down, characters.
const NAME_LENGTH_MAX: usize = 256;

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn outcome(response: &Response) -> Outcome {
    if response.status().is_success() {
        return Outcome::Done(None);
    }
    let why = response.extensions().get::<Why>().map(|why| why.0.clone());
    Outcome::Failed(why.unwrap_or_else(|| response.status().to_string()))
}

/// Ends an answer that goes on when the credentials end.
fn while_good(response: Response, caller: Arc<Caller>) -> Response {
    let kind = response.headers().get(header::CONTENT_TYPE);
    let goes_on = kind.is_some_and(|kind| kind == "application/x-ndjson" || kind == "text/event-stream");
    if !goes_on {
        return response;
    }
    response.map(|body| {
        let ended = Box::pin(async move { drop(caller.ended().await) });
        Body::from_stream(body.into_data_stream().take_until(ended))
    })
}

fn refused(why: Refused) -> Response {
    let kind = match why {
        Refused::Anonymous(_) | Refused::Credentials(_) => RefusalKind::Unauthenticated,
        Refused::Denied(_) => RefusalKind::Denied,
    };
    let mut response = Refusal { kind, error: why.to_string() }.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    response
}

fn is_change(asked: &Asked<'_>) -> bool {
    match asked {
        Asked::Objects(access, _) | Asked::Credentials(access) | Asked::Leases(access) => *access == Access::Write,
        Asked::Keys(access, _) => *access == Access::Write,
        Asked::Members(_) | Asked::Care(_) | Asked::Signed => true,
        Asked::Health | Asked::Store => false,
    }
}

/// What a request asks. What is not known here is for administrators only, so that a route that is forgotten is shut.
pub(crate) fn asked(method: &Method, path: &str, query: &str) -> Asked<'static> {
    let access = if matches!(*method, Method::GET | Method::HEAD) { Access::Read } else { Access::Write };
    let mut parts = path.trim_matches('/').splitn(4, '/');
    let mut next = || parts.next().unwrap_or("");
    match (next(), next(), next()) {
        ("api", "health", "") => Asked::Health,
        ("" | "metrics", "", "") => Asked::Objects(Access::Read, Kind::Cluster),
        // What would be done is worked out, not done.
        ("api", "status" | "plan", "") => Asked::Objects(Access::Read, Kind::Cluster),
        ("api", "apply" | "pause" | "resume" | "halt", "") => Asked::Objects(access, Kind::Cluster),
        ("api", "events", "") => Asked::Objects(Access::Read, object(query).unwrap_or(Kind::Cluster)),
        ("api", "explain", kind) => Asked::Objects(Access::Read, of_word(kind).unwrap_or(Kind::Cluster)),
        ("api", "groups", _) => Asked::Objects(access, Kind::Group),
        ("api", "instances", _) => Asked::Objects(access, Kind::Instance),
        ("api", "services", _) => Asked::Objects(access, Kind::Service),
        ("api", "templates", _) => Asked::Objects(access, Kind::Template),
        ("api", "jobs" | "runs", _) => Asked::Objects(access, Kind::Job),
        ("api", "workers" | "openapi.json", "") => Asked::Objects(access, Kind::Job),
        ("api", "hooks", _) => Asked::Signed,
        // What is asked for there changes something, by whichever method.
        ("ansible", "results", _) => Asked::Objects(access, Kind::Job),
        ("ansible", ..) => Asked::Objects(Access::Write, Kind::Job),
        ("api", "schedules", _) => Asked::Objects(access, Kind::Schedule),
        ("api", "members" | "join", "") => Asked::Objects(access, Kind::Node),
        ("api", "leave", "") => Asked::Members("let this agent leave"),
        ("api", "gossip", "event" | "query" | "tags" | "rtt" | "monitor") => Asked::Objects(access, Kind::Node),
        ("api", "gossip", "force-leave") => Asked::Members("force members to leave"),
        ("api", "gossip", "keys") => Asked::Members("read or change the keys of gossip"),
        ("api", "tokens" | "audit", _) => Asked::Credentials(access),
        _ => Asked::Care("ask for what is not known here"),
    }
}

/// The kind of the one object that events are asked about.
fn object(query: &str) -> Option<Kind> {
    let object = query.split('&').find_map(|pair| pair.strip_prefix("object="))?;
    let kind = object.split_once('/').or_else(|| object.split_once("%2F")).or_else(|| object.split_once("%2f"));
    of_word(kind?.0)
}

fn of_word(word: &str) -> Option<Kind> {
    Kind::ALL.into_iter().find(|kind| kind.as_str() == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every route that there is, and that one that is not known is shut.
    #[test]
    fn routes_ask() {
        use Access::{Read, Write};
        for (method, path, expect) in [
            (Method::GET, "/api/health", Asked::Health),
            (Method::GET, "/api/status", Asked::Objects(Read, Kind::Cluster)),
            (Method::POST, "/api/plan", Asked::Objects(Read, Kind::Cluster)),
            (Method::POST, "/api/apply", Asked::Objects(Write, Kind::Cluster)),
            (Method::POST, "/api/halt", Asked::Objects(Write, Kind::Cluster)),
            (Method::POST, "/api/groups/web/scale", Asked::Objects(Write, Kind::Group)),
            (Method::GET, "/api/instances/web-0/logs", Asked::Objects(Read, Kind::Instance)),
            (Method::GET, "/api/explain/template/haproxy", Asked::Objects(Read, Kind::Template)),
            (Method::GET, "/api/events?object=group%2Fweb", Asked::Objects(Read, Kind::Group)),
            (Method::GET, "/api/events?last=3&object=job/x", Asked::Objects(Read, Kind::Job)),
            (Method::GET, "/api/events", Asked::Objects(Read, Kind::Cluster)),
            (Method::POST, "/api/gossip/event", Asked::Objects(Write, Kind::Node)),
            (Method::POST, "/api/gossip/keys", Asked::Members("read or change the keys of gossip")),
            (Method::POST, "/ansible/role/", Asked::Objects(Write, Kind::Job)),
            (Method::POST, "/ansible/set_eip", Asked::Objects(Write, Kind::Job)),
            (Method::GET, "/ansible/adhoc/?host=a", Asked::Objects(Write, Kind::Job)),
            (Method::HEAD, "/ansible/adhoc", Asked::Objects(Write, Kind::Job)),
            (Method::GET, "/ansible/unheard-of", Asked::Objects(Write, Kind::Job)),
            (Method::GET, "/ansible/results/0123456789abcdef", Asked::Objects(Read, Kind::Job)),
            (Method::GET, "/api/jobs/nightly", Asked::Objects(Read, Kind::Job)),
            (Method::POST, "/api/runs", Asked::Objects(Write, Kind::Job)),
            (Method::POST, "/api/runs/0123456789abcdef/cancel", Asked::Objects(Write, Kind::Job)),
            (Method::GET, "/api/runs/0123456789abcdef/events", Asked::Objects(Read, Kind::Job)),
            (Method::GET, "/api/workers", Asked::Objects(Read, Kind::Job)),
            (Method::GET, "/api/openapi.json", Asked::Objects(Read, Kind::Job)),
            (Method::GET, "/api/schedules", Asked::Objects(Read, Kind::Schedule)),
            (Method::POST, "/api/hooks/nightly", Asked::Signed),
            (Method::GET, "/api/tokens", Asked::Credentials(Read)),
            (Method::POST, "/api/tokens/ci/revoke", Asked::Credentials(Write)),
            (Method::GET, "/api/secrets", Asked::Care("ask for what is not known here")),
            (Method::GET, "/api/openapi.json/more", Asked::Care("ask for what is not known here")),
            (Method::GET, "/api/health/more", Asked::Care("ask for what is not known here")),
            (Method::GET, "//api//tokens", Asked::Care("ask for what is not known here")),
        ] {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            assert_eq!(asked(&method, path, query), expect, "{method} {path}");
        }
    }
}
