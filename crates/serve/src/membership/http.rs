//! Members over HTTP: what the command line speaks.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/members?status=&name=` | [`MemberLine`]s by name |
//! | `POST /api/join` of a [`Join`] | [`Joined`] |
//! | `POST /api/leave` | `{}` |
//! | `POST /api/gossip/event` of a [`Fire`], `…/tags` of a [`Retag`], `…/force-leave` of a [`ForceLeave`] | `{}` |
//! | `POST /api/gossip/query` of an [`Ask`] | a [`Told`] a line |
//! | `POST /api/gossip/keys` of a [`Rekey`] | [`Rekeyed`] |
//! | `GET /api/gossip/rtt?from=&to=` | [`Rtt`] |
//! | `GET /api/gossip/monitor?level=` | a line of the log a line |
//!
//! The router goes behind the same checks as the rest of `/api`; see [`crate::api::router`].

use super::wire::{Ask, Fire, ForceLeave, Join, Joined, MemberLine, Rekey, Rekeyed, Retag, Rtt, Told};
use super::{Membership, MembershipError, QueryAnswer, Roll};
use crate::api::{lines, read, usage};
use crate::wire::{Refusal, RefusalKind};
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{any, get, post};
use axum::{Json, Router};
use regrow_gossip::wire::{Filter, Key};
use regrow_gossip::{CommandError, Input, KeyOp, Member, QueryRequest};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

type Shared = Arc<dyn Membership>;
type Answered<T> = Result<Json<T>, Refusal>;
type Nothing = serde_json::Map<String, serde_json::Value>;

/// Lines waiting for a slow reader.
const LINES_WAITING: usize = 256;

/// The routes, over a membership.
pub fn router(membership: Shared) -> Router {
    Router::new()
        .route("/api/members", get(members))
        .route("/api/join", post(join))
        .route("/api/leave", post(leave))
        .route("/api/gossip/event", post(fire))
        .route("/api/gossip/query", post(ask))
        .route("/api/gossip/tags", post(retag))
        .route("/api/gossip/force-leave", post(force_leave))
        .route("/api/gossip/keys", post(rekey))
        .route("/api/gossip/rtt", get(rtt))
        .route("/api/gossip/monitor", get(monitor))
        .with_state(membership)
}

/// The routes of an agent whose gossip is off: each says so.
pub fn shut() -> Router {
    let off = async || Refusal { kind: RefusalKind::Unavailable, error: "gossip is off (--gossip off)".to_owned() };
    let routes = ["members", "join", "leave"].into_iter().map(|route| format!("/api/{route}"));
    let routes = routes.chain(["/api/gossip/{verb}".to_owned()]);
    routes.fold(Router::new(), |router, route| router.route(&route, any(off)))
}

/// A member as it is shown.
pub fn line(member: Member) -> MemberLine {
    MemberLine {
        name: member.name,
        address: member.address.to_string(),
        status: if member.suspect { "suspect" } else { member.status.as_str() }.to_owned(),
        tags: member.tags,
        incarnation: member.incarnation,
        quarantined: member.quarantined_until.is_some(),
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Which {
    status: Option<String>,
    name: Option<String>,
}

async fn members(State(shared): State<Shared>, Query(which): Query<Which>) -> Answered<Vec<MemberLine>> {
    let all = shared.roll().await?.members.into_iter().map(line);
    let wanted = all.filter(|member| {
        which.status.as_ref().is_none_or(|status| member.status == *status)
            && which.name.as_ref().is_none_or(|name| member.name == *name)
    });
    Ok(Json(wanted.collect()))
}

async fn join(State(shared): State<Shared>, body: Bytes) -> Answered<Joined> {
    let Join { addresses, replay } = read(body)?;
    let came = shared.join(addresses, !replay).await?;
    if came.joined.is_empty() {
        let why = came.failed.iter().map(|(address, why)| format!("\n  {address}: {why}")).collect::<String>();
        let error = format!("none of the addresses let us in:{why}");
        return Err(Refusal { kind: RefusalKind::Unavailable, error });
    }
    Ok(Json(Joined { joined: came.joined, failed: came.failed.into_iter().collect() }))
}

async fn leave(State(shared): State<Shared>) -> Answered<Nothing> {
    shared.leave().await?;
    Ok(Json(Nothing::new()))
}

async fn fire(State(shared): State<Shared>, body: Bytes) -> Answered<Nothing> {
    let Fire { name, payload, coalesce } = read(body)?;
    shared.command(Input::UserEvent { name, payload: payload.into_bytes(), coalesce }).await?;
    Ok(Json(Nothing::new()))
}

async fn ask(State(shared): State<Shared>, body: Bytes) -> Result<Response, Refusal> {
    let ask: Ask = read(body)?;
    let nodes = (!ask.nodes.is_empty()).then_some(Filter::Nodes(ask.nodes));
    let tags = ask.tags.into_iter().map(|(tag, expr)| Filter::Tag { tag, expr });
    let request = QueryRequest {
        token: 0,
        name: ask.name,
        payload: ask.payload.into_bytes(),
        filters: nodes.into_iter().chain(tags).collect(),
        ack: ask.ack,
        relay_factor: ask.relay_factor,
        timeout: ask.timeout_ms.map(Duration::from_millis),
    };
    let mut answers = shared.query(request).await?;
    let (sender, told) = mpsc::channel(LINES_WAITING);
    tokio::spawn(async move {
        while let Some(answer) = answers.recv().await {
            let told = match answer {
                QueryAnswer::Ack { from } => Told::Ack { from },
                QueryAnswer::Reply { from, payload } => {
                    Told::Reply { from, payload: String::from_utf8_lossy(&payload).into_owned() }
                }
            };
            let line = serde_json::to_string(&told).expect("text always serialises");
            if sender.send(line).await.is_err() {
                return;
            }
        }
    });
    Ok(lines(told))
}

async fn retag(State(shared): State<Shared>, body: Bytes) -> Answered<Nothing> {
    let Retag { set, delete } = read(body)?;
    let mut tags = own_tags(&shared.roll().await?);
    tags.retain(|name, _| !delete.contains(name));
    tags.extend(set);
    shared.command(Input::SetTags(tags)).await?;
    Ok(Json(Nothing::new()))
}

/// The tags that we have now.
pub(crate) fn own_tags(roll: &Roll) -> regrow_gossip::wire::Tags {
    roll.members.iter().find(|member| member.name == roll.name).map(|me| me.tags.clone()).unwrap_or_default()
}

async fn force_leave(State(shared): State<Shared>, body: Bytes) -> Answered<Nothing> {
    let ForceLeave { name, prune } = read(body)?;
    shared.command(Input::ForceLeave { name, prune }).await?;
    Ok(Json(Nothing::new()))
}

async fn rekey(State(shared): State<Shared>, body: Bytes) -> Answered<Rekeyed> {
    let Rekey { op, key } = read(body)?;
    let parse = |key: &str| Key::from_base64(key).map_err(|error| usage(format!("not a gossip key: {error}")));
    let op = match op.as_str() {
        "list" => KeyOp::List,
        "install" => KeyOp::Install(parse(&key)?),
        "use" => KeyOp::Use(parse(&key)?),
        "remove" => KeyOp::Remove(parse(&key)?),
        other => return Err(usage(format!("`{other}` is not install, use, remove or list"))),
    };
    let report = shared.keys(op, 0).await?;
    Ok(Json(Rekeyed {
        nodes: report.nodes,
        answers: report.answers,
        errors: report.errors,
        messages: report.messages,
        keys: report.keys,
        primary: report.primary,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Between {
    from: Option<String>,
    to: String,
}

async fn rtt(State(shared): State<Shared>, Query(between): Query<Between>) -> Answered<Rtt> {
    let from = match between.from {
        Some(from) => from,
        None => shared.roll().await?.name,
    };
    let mut coordinates = Vec::new();
    for name in [&from, &between.to] {
        let unknown =
            || Refusal { kind: RefusalKind::NotFound, error: format!("no coordinate of a member `{name}` is known") };
        coordinates.push(shared.coordinate(name.clone()).await?.ok_or_else(unknown)?);
    }
    let seconds = coordinates[0].distance(&coordinates[1]).as_secs_f64();
    Ok(Json(Rtt { from, to: between.to, seconds }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Loud {
    level: Option<String>,
}

async fn monitor(State(shared): State<Shared>, Query(loud): Query<Loud>) -> Result<Response, Refusal> {
    let level = match loud.level.as_deref() {
        None => tracing::Level::INFO,
        Some(text) => text.parse().map_err(|_| usage(format!("`{text}` is not error, warn, info, debug or trace")))?,
    };
    let mut log = shared.log();
    let (sender, told) = mpsc::channel(LINES_WAITING);
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = log.recv() => line,
                () = sender.closed() => return,
            };
            let text = match line {
                Ok(line) if line.0 <= level => line.1.trim_end().to_owned(),
                Ok(_) => continue,
                Err(broadcast::error::RecvError::Lagged(count)) => format!("[{count} lines left out]"),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            if sender.send(text).await.is_err() {
                return;
            }
        }
    });
    Ok(lines(told))
}

impl From<MembershipError> for Refusal {
    fn from(error: MembershipError) -> Refusal {
        let kind = match &error {
            MembershipError::Refused(CommandError::UnknownMember(_)) => RefusalKind::NotFound,
            MembershipError::Refused(_) => RefusalKind::Refused,
            MembershipError::Unavailable(_) => RefusalKind::Unavailable,
        };
        Refusal { kind, error: error.to_string() }
    }
}
