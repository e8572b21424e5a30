//! etcd 2's interface: nodes in a tree by plain HTTP, over the same keys that etcd 3's interface has.
//!
//! **Flow.** [`request`] reads what is asked, with etcd's checks and texts. [`read`] puts nodes together from keys as
//! they were at one revision. [`write`] reads what a change is decided on, decides, and does it in one transaction of
//! the store that holds only if nothing of that has changed; else it begins again. [`watcher`] tells the store's events
//! in etcd 2's words, with what [`ledger`] remembers of this door's own writes.
//!
//! **Guarantees.** A change is done as a whole or not at all, and is seen by both interfaces. Indexes are the store's
//! revisions. Names put in order into a directory come after all names put before.
//!
//! **Caveats.** What differs from etcd is listed in `docs/design/0008-etcd-2.md`.
//!
//! **Errors.** [`refused::Refused`], with etcd's numbers.

mod counts;
mod form;
mod hold;
mod ledger;
mod members;
mod node;
mod path;
mod read;
mod refused;
mod request;
mod state;
mod subtree;
mod tree;
mod watcher;
mod write;

use std::{convert::Infallible, sync::Arc, time::Instant};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::{self, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use bytes::Bytes;
use futures_util::stream::unfold;
use jiff::Timestamp;
use regrow_control::access::{Access, Asked, Sight, Span};
use regrow_store::{Revision, Store};
use serde::Serialize;
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};

use crate::access::{Guarded, Visit, What};

use super::{
    Door,
    identity::TERM,
    limits::{V2_ANSWERS_KIB_MAX, V2_FORM_BYTES_MAX, V2_LISTINGS_MAX, V2_WRITES_MAX},
};
use counts::{Counts, Kind};
use hold::LeaseIds;
use ledger::Ledger;
use node::{Action, Event};
use path::Path;
use refused::{Code, Refused};
use request::{Read, Request, Wait, Write};
use watcher::Watcher;

/// What the requests of one door share.
#[derive(Debug)]
pub(super) struct Shared {
    ledger: Ledger,
    counts: Counts,
    lease_ids: LeaseIds,
    /// Held by who puts a name into a directory and was too late before.
    appends: Mutex<()>,
    listings: Semaphore,
    writes: Arc<Semaphore>,
    /// KiB of answers that may wait for clients.
    answers: Arc<Semaphore>,
    start: Timestamp,
    clock: Instant,
}

impl Shared {
    pub(super) fn new() -> Self {
        Self {
            ledger: Ledger::default(),
            counts: Counts::default(),
            lease_ids: LeaseIds::default(),
            appends: Mutex::new(()),
            listings: Semaphore::new(V2_LISTINGS_MAX),
            writes: Arc::new(Semaphore::new(V2_WRITES_MAX)),
            answers: Arc::new(Semaphore::new(V2_ANSWERS_KIB_MAX as usize)),
            start: Timestamp::now(),
            clock: Instant::now(),
        }
    }

    /// An answer's text. It takes up room until it has been written to the client.
    fn text(&self, what: &impl Serialize) -> Result<Bytes, Refused> {
        struct Held(Vec<u8>, #[expect(dead_code, reason = "held as long as the text")] OwnedSemaphorePermit);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let mut text = serde_json::to_vec(what).map_err(|error| Refused::request(Code::Internal, error.to_string()))?;
        text.push(b'\n');
        let kib = u32::try_from(text.len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = self.answers.clone().try_acquire_many_owned(kib);
        let room = room.map_err(|_| {
            let cause = format!("answers of {V2_ANSWERS_KIB_MAX} KiB wait for clients that do not read: try again");
            Refused::request(Code::Internal, cause)
        })?;
        Ok(Bytes::from_owner(Held(text, room)))
    }
}

/// The routes of etcd 2's interface.
pub(super) fn router(door: Door) -> Router {
    Router::new()
        .route("/v2/keys", any(keys))
        .route("/v2/keys/", any(keys))
        .route("/v2/keys/{*name}", any(keys))
        .route("/v2/members", any(members::members))
        .route("/v2/members/", any(members::members))
        .route("/v2/members/{id}", any(members::one))
        .route("/v2/machines", get(members::machines))
        .route("/v2/stats/self", get(members::stats_self))
        .route("/v2/stats/leader", get(members::stats_leader))
        .route("/v2/stats/store", get(members::stats_store))
        .route("/v2/auth/{*name}", any(members::auth))
        .layer(middleware::from_fn_with_state(door.clone(), of_cluster))
        .with_state(door)
}

/// Says whose answer it is: clients stop when the cluster behind an address is another. What is no key takes credentials
/// too.
async fn of_cluster(State(door): State<Door>, request: extract::Request, next: Next) -> Response {
    let may = match &door.visit {
        Some(visit) if !request.uri().path().starts_with("/v2/keys") => {
            visit.may(&Asked::Store, "read", || What::Named("members and statistics".to_owned())).map(drop)
        }
        _ => Ok(()),
    };
    let mut answer = match may {
        Ok(()) => next.run(request).await,
        Err(why) => Refused::from(regrow_store::Error::from(why)).into_response(),
    };
    if let Ok(id) = HeaderValue::try_from(format!("{:x}", door.identity.cluster())) {
        answer.headers_mut().insert("x-etcd-cluster-id", id);
    }
    answer
}

/// The store of one request about a node: nothing else gets a store.
///
/// Who is narrowed to some keys is looked at here, by the node: what has to be looked at around it in order to answer is
/// not what was asked. Who is not narrowed has a store that looks at every key.
fn store(door: &Door, access: Access, path: &Path) -> Result<Arc<dyn Store>, Refused> {
    may_file(door, access, path)?;
    store_of_dir(door, access, path)
}

/// The same for a node that may be nothing but a directory: what lies beneath may be within reach where its own name is
/// not. A file must not be shown then.
fn store_of_dir(door: &Door, access: Access, path: &Path) -> Result<Arc<dyn Store>, Refused> {
    let Some(visit) = narrowed(door) else { return Ok(door.store.clone()) };
    may(visit, access, path, Span::new(&path.marker(), &path.after()))?;
    Ok(Arc::new(Guarded::checked(door.behind.clone(), visit.clone())))
}

fn may_file(door: &Door, access: Access, path: &Path) -> Result<(), Refused> {
    narrowed(door).map_or(Ok(()), |visit| may(visit, access, path, Span::key(&path.key())))
}

fn narrowed(door: &Door) -> Option<&Visit> {
    door.visit.as_ref().filter(|visit| visit.caller().is_narrowed())
}

fn may(visit: &Visit, access: Access, path: &Path, span: Span<'_>) -> Result<(), Refused> {
    let did = if access == Access::Read { "read" } else { "write" };
    match visit.may(&Asked::Keys(access, span), did, || What::Key(path.key())) {
        Ok(Sight::Whole) => Ok(()),
        Ok(Sight::WithoutCredentials) => {
            let cause = "credentials are beneath this node: read what is beside them";
            Err(Refused::request(Code::Unauthorized, cause))
        }
        Err(why) => Err(regrow_store::Error::from(why).into()),
    }
}

/// `/v2/keys/…`.
async fn keys(State(door): State<Door>, request: extract::Request) -> Response {
    let (parts, body) = request.into_parts();
    if !matches!(parts.method, Method::HEAD | Method::GET | Method::PUT | Method::POST | Method::DELETE) {
        let allow = [(header::ALLOW, "HEAD,GET,PUT,POST,DELETE")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow, "Method Not Allowed\n").into_response();
    }
    let done = match parse(&parts, body).await {
        Ok(Request::Read(read)) => get_node(&door, &read).await,
        Ok(Request::Wait(wait)) => wait_for(&door, wait).await,
        Ok(Request::Write(write)) => change(&door, write).await,
        Err(refused) => Err(refused),
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

async fn parse(parts: &Parts, body: Body) -> Result<Request, Refused> {
    let is_form = matches!(parts.method, Method::PUT | Method::POST) && is_form(&parts.headers);
    let body = match is_form {
        true => to_bytes(body, V2_FORM_BYTES_MAX).await.map_err(|error| {
            Refused::request(Code::InvalidForm, format!("a form of at most {V2_FORM_BYTES_MAX} bytes: {error}"))
        })?,
        false => Bytes::new(),
    };
    let name = parts.uri.path().strip_prefix("/v2/keys").unwrap_or("");
    Request::parse(&parts.method, name, parts.uri.query().unwrap_or(""), &body)
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let kind = kind.split(';').next().unwrap_or("").trim();
    kind.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

async fn get_node(door: &Door, read: &Read) -> Result<Response, Refused> {
    let found = read::read(&*store_of_dir(door, Access::Read, &read.path)?, read, &door.v2.listings).await;
    door.v2.counts.asked(Kind::Gets, found.is_ok());
    let (node, index) = found?;
    if !node.dir {
        may_file(door, Access::Read, &read.path)?;
    }
    answer(door, &Event { action: Action::Get, node: Some(node), prev: None }, index)
}

/// The write goes on if the client goes: nobody would know what became of it, nor end its lease.
async fn change(door: &Door, write: Write) -> Result<Response, Refused> {
    let kind = Kind::from(&write.verb);
    let is_brief = write.brief;
    let store = store(door, Access::Write, &write.path)?;
    let room = door.v2.writes.clone().acquire_owned().await;
    let shared = door.v2.clone();
    let done = tokio::spawn(async move {
        let _room = room;
        write::write(&*store, &shared, &write).await
    });
    let done = done.await.unwrap_or_else(|error| Err(Refused::request(Code::Internal, error.to_string())));
    door.v2.counts.asked(kind, done.is_ok());
    let (mut event, index) = done?;
    let is_created = event.is_created();
    if is_brief && !matches!(event.action, Action::Delete | Action::CompareAndDelete) {
        (event.node, event.prev) = (None, None);
    }
    let mut answer = answer(door, &event, index)?;
    if is_created {
        *answer.status_mut() = StatusCode::CREATED;
    }
    Ok(answer)
}

/// The answer begins at once, so that the client knows that it is waiting; its body is the event.
async fn wait_for(door: &Door, wait: Wait) -> Result<Response, Refused> {
    let room = door.room.clone().try_acquire_owned();
    let room = room.map_err(|_| Refused::request(Code::Internal, "too many watches are open: try again"))?;
    let is_stream = wait.stream;
    let store = store(door, Access::Read, &wait.path)?;
    let watcher = Watcher::open(store, door.v2.clone(), wait, room).await?;
    let headers = headers(watcher.index());
    let shared = door.v2.clone();
    let body = unfold(Some(watcher), move |watcher| {
        let shared = shared.clone();
        async move {
            let mut watcher = watcher?;
            let event = watcher.next().await?;
            // A client that does not take what it is told is told no more, as in etcd.
            let text = shared.text(&event).ok()?;
            Some((Ok::<_, Infallible>(text), is_stream.then_some(watcher)))
        }
    });
    Ok((headers, Body::from_stream(body)).into_response())
}

fn answer(door: &Door, event: &Event, index: Revision) -> Result<Response, Refused> {
    Ok((headers(index), Body::from(door.v2.text(event)?)).into_response())
}

fn headers(index: Revision) -> [(&'static str, String); 4] {
    let index = index.0.to_string();
    [
        ("content-type", "application/json".to_owned()),
        ("x-etcd-index", index.clone()),
        ("x-raft-index", index),
        ("x-raft-term", TERM.to_string()),
    ]
}
