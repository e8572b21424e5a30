//! Regrow's own HTTP interface.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/status` | [`regrow_control::status::Status`] |
//! | `GET /api/plan` | what would be done now: [`Applied`] |
//! | `POST /api/plan` of a [`Bundle`] | what applying it would do: [`Applied`] |
//! | `POST /api/apply` of a [`Bundle`] | [`Applied`] |
//! | `POST /api/groups/{name}/scale` of a [`Scale`], `…/replace`, `…/restart` | [`Applied`] |
//! | `POST /api/instances/{id}/restart` | [`Applied`] |
//! | `POST /api/pause` of a [`Pause`], `/api/resume`, `/api/halt` | [`Applied`] |
//! | `GET /api/explain/{kind}/{name}` | [`regrow_control::explain::Explanation`] |
//! | `GET /api/templates/{name}` | [`crate::wire::RenderedTemplate`] |
//! | `GET /api/events?last=&follow=&object=&cause=` | a JSON object a line |
//! | `GET /api/instances/{id}/logs?tail=&follow=` | a JSON object a line |
//! | `GET /api/health` | `ok` |
//!
//! What is asked for by each, and so who may, is in `access::http`; tokens and the audit log are in [`access::tokens`].
//!
//! A refusal is a [`Refusal`] with the status of its kind. Requests that change something must be `application/json`,
//! and without TLS the `Host` must be an address or `localhost`: a web page in somebody's browser can send neither across origins.
//! Two sorts of requests are looked at otherwise. `/ansible/…` takes forms, and a `GET` there changes something: what a browser
//! says comes from another origin is refused. `/api/hooks/…` is signed, so any `Host` will do.

use crate::access::{self, Guard, Peer, Why};
use crate::etcd::transport;
use crate::wire::{Applied, BODY_BYTES_MAX, Bundle, EventsQuery, LogsQuery, Pause, Refusal, RefusalKind, Scale};
use crate::{Agent, AgentError, Entrance, Lines};
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use regrow_control::apply::{self, Resolved};
use regrow_control::reconcile::{Command, Restart};
use regrow_model::{CauseId, InstanceId, Kind, Name, Ref};
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

type Shared = Arc<dyn Agent>;
type Answered<T> = Result<Json<T>, Refusal>;
/// A change that was made.
type Done = Result<(Extension<CauseId>, Json<Applied>), Refusal>;

/// The routes, over an agent. `more`: routes of other nouns, behind the same checks.
///
/// `guard`: who may ask for what.
pub fn router(agent: Shared, more: Router, guard: Guard) -> Router {
    let routes = Router::new()
        .route("/api/health", get(async || "ok\n"))
        .route("/api/status", get(status))
        .route("/api/plan", get(plan).post(preview))
        .route("/api/apply", post(apply_bundle))
        .route("/api/groups/{name}/scale", post(scale))
        .route("/api/groups/{name}/replace", post(replace))
        .route("/api/groups/{name}/restart", post(restart_group))
        .route("/api/instances/{id}/restart", post(restart_instance))
        .route("/api/instances/{id}/logs", get(logs))
        .route("/api/pause", post(pause))
        .route("/api/resume", post(resume))
        .route("/api/halt", post(halt))
        .route("/api/explain/{kind}/{name}", get(explain))
        .route("/api/templates/{name}", get(template))
        .route("/api/events", get(events))
        .fallback(async |request: Request| not_found(format!("there is no {}", request.uri().path())))
        .with_state(agent)
        .merge(more);
    access::guarded(routes, guard).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)).layer(middleware::from_fn(same_origin))
}

/// Serves the routes to whoever comes by an entrance, until the future is dropped.
pub async fn serve(entrance: impl Into<Entrance>, router: Router) {
    let desk: Arc<dyn transport::Desk> = Arc::new(Desk(router));
    transport::serve(entrance.into(), Arc::new(move |_| desk.clone())).await;
}

/// Every connection has the same routes; who is there is looked at with each request.
struct Desk(Router);

impl transport::Desk for Desk {
    fn short(&self, _: &HeaderMap) -> Option<Arc<crate::etcd::Door>> {
        None
    }

    fn routes(&self, _: &HeaderMap) -> Router {
        self.0.clone()
    }
}

/// Refuses what a web page of another origin could have sent.
async fn same_origin(request: Request, next: Next) -> Result<Response, Refusal> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| request.uri().authority().map(|authority| authority.as_str())).unwrap_or("localhost");
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_start_matches('[').trim_end_matches(']');
    // By TLS a page's own name leads nowhere: our certificate is not for it.
    let sealed = request.extensions().get::<Peer>().is_some_and(Peer::is_private);
    let path = request.uri().path();
    if !sealed && !path.starts_with("/api/hooks/") && name != "localhost" && name.parse::<IpAddr>().is_err() {
        return Err(usage(format!("the Host `{host}` is not an address: ask for this door by its address")));
    }
    if path.starts_with("/ansible/") {
        if is_of_another_site(request.headers(), host) {
            let error = "the request comes from a web page of another origin, which may not start anything".to_owned();
            return Err(Refusal { kind: RefusalKind::Denied, error });
        }
    } else if request.method() == axum::http::Method::POST && !is_json(request.headers()) {
        return Err(usage("send content-type: application/json".to_owned()));
    }
    Ok(next.run(request).await)
}

/// Whether a browser says that the request was made by a page of another origin. `host`: the one that is asked.
///
/// Source: the Fetch standard (`Origin` goes with each POST across origins), Fetch Metadata (`Sec-Fetch-Site` with each
/// request to loopback and by TLS).
fn is_of_another_site(headers: &HeaderMap, host: &str) -> bool {
    let is_own = |origin: &str| origin.split_once("://").is_some_and(|(_, of)| of.eq_ignore_ascii_case(host));
    let origin = headers.get_all(header::ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(is_own));
    let site = |site: &header::HeaderValue| !matches!(site.as_bytes(), b"same-origin" | b"none");
    origin || headers.get_all("sec-fetch-site").iter().any(site)
}

pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn status(State(agent): State<Shared>) -> Answered<regrow_control::status::Status> {
    Ok(Json(agent.status().await?))
}

async fn plan(State(agent): State<Shared>) -> Answered<Applied> {
    Ok(Json(Applied::planned(Vec::new(), agent.plan().await?)))
}

async fn preview(State(agent): State<Shared>, body: Bytes) -> Answered<Applied> {
    let (differences, plan) = agent.preview(resolve(body)?).await?;
    Ok(Json(Applied::planned(differences, plan)))
}

async fn apply_bundle(State(agent): State<Shared>, body: Bytes) -> Done {
    command(&agent, Command::Apply(resolve(body)?)).await
}

async fn scale(State(agent): State<Shared>, Path(group): Path<String>, body: Bytes) -> Done {
    let Scale { size } = read(body)?;
    command(&agent, Command::Scale(name(&group)?, size)).await
}

async fn replace(State(agent): State<Shared>, Path(group): Path<String>) -> Done {
    command(&agent, Command::Replace(name(&group)?)).await
}

async fn restart_group(State(agent): State<Shared>, Path(group): Path<String>) -> Done {
    command(&agent, Command::Restart(Restart::Group(name(&group)?))).await
}

async fn restart_instance(State(agent): State<Shared>, Path(id): Path<String>) -> Done {
    command(&agent, Command::Restart(Restart::Instance(instance(&id)?))).await
}

async fn pause(State(agent): State<Shared>, body: Bytes) -> Done {
    let Pause { why, seconds } = read(body)?;
    command(&agent, Command::Pause { why, length: seconds.map(Duration::from_secs) }).await
}

async fn resume(State(agent): State<Shared>) -> Done {
    command(&agent, Command::Resume).await
}

async fn halt(State(agent): State<Shared>) -> Done {
    command(&agent, Command::Halt).await
}

async fn explain(
    State(agent): State<Shared>,
    Path((kind, object)): Path<(String, String)>,
) -> Answered<regrow_control::explain::Explanation> {
    let object: Ref = format!("{kind}/{object}").parse().map_err(|error| usage(format!("{error}")))?;
    Ok(Json(agent.explain(object).await?))
}

async fn template(
    State(agent): State<Shared>,
    Path(template): Path<String>,
) -> Answered<crate::wire::RenderedTemplate> {
    Ok(Json(agent.template(name(&template)?).await?))
}

async fn events(State(agent): State<Shared>, Query(query): Query<EventsQuery>) -> Result<Response, Refusal> {
    Ok(lines(agent.events(query).await?))
}

async fn logs(
    State(agent): State<Shared>,
    Path(id): Path<String>,
    Query(query): Query<LogsQuery>,
) -> Result<Response, Refusal> {
    Ok(lines(agent.logs(instance(&id)?, query).await?))
}

/// The cause goes beside the answer too, for the audit log.
async fn command(agent: &Shared, command: Command) -> Done {
    let answer = agent.command(command).await?;
    let applied = Applied {
        differences: answer.differences,
        actions: Vec::new(),
        held: Vec::new(),
        revision: answer.revision,
        cause: Some(answer.cause.clone()),
    };
    Ok((Extension(answer.cause), Json(applied)))
}

/// A body that is sent as its lines come.
pub(crate) fn lines(lines: Lines) -> Response {
    let stream = futures_util::stream::unfold(lines, |mut lines| async move {
        let mut line = lines.recv().await?;
        line.push('\n');
        Some((Ok::<_, Infallible>(line), lines))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream)).into_response()
}

fn resolve(body: Bytes) -> Result<Resolved, Refusal> {
    let bundle: Bundle = read(body)?;
    apply::resolve(&bundle.root, &bundle.files, &bundle.sources)
        .map_err(|errors| usage(errors.render(&bundle.files, false)))
}

pub(crate) fn read<T: DeserializeOwned>(body: Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(&body).map_err(|error| usage(format!("the body does not fit: {error}")))
}

pub(crate) fn name(text: &str) -> Result<Name, Refusal> {
    Name::new(text).map_err(|error| usage(error.to_string()))
}

fn instance(text: &str) -> Result<InstanceId, Refusal> {
    let wrong = || usage(format!("`{text}` is not an instance: write it as {}-0", Kind::Group.as_str()));
    text.parse().map_err(|_| wrong())
}

pub(crate) fn usage(error: String) -> Refusal {
    Refusal { kind: RefusalKind::Usage, error }
}

pub(crate) fn not_found(error: String) -> Refusal {
    Refusal { kind: RefusalKind::NotFound, error }
}

impl From<AgentError> for Refusal {
    fn from(error: AgentError) -> Refusal {
        let kind = match error {
            AgentError::Usage(_) => RefusalKind::Usage,
            AgentError::Refused(_) => RefusalKind::Refused,
            AgentError::NotFound(_) => RefusalKind::NotFound,
            AgentError::Unavailable(_) => RefusalKind::Unavailable,
        };
        Refusal { kind, error: error.to_string() }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.kind.status();
        (status, Extension(Why(self.error.clone())), Json(self)).into_response()
    }
}
