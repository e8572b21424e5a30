//! A run as it goes on: its log as lines of JSON, and all of it as server-sent events.
//!
//! **Flow.** A task for each follower reads the run, then the log behind its cursor, and waits in [`Jobs::stirred`]. The run is
//! read first: a log that has nothing more after a run was seen ended is whole.
//!
//! | event | data | id |
//! |---|---|---|
//! | `line` | a [`regrow_model::run::Line`] | with the last one of a piece: its cursor |
//! | `state` | a [`Stand`]; also at the beginning | |
//! | `end` | the [`regrow_model::run::Run`] as it ended; nothing comes after it | |
//!
//! **Guarantees.** Whoever comes back with the last id (`Last-Event-ID`, as browsers do by themselves) misses no line, and gets
//! again at most those of one piece. Followers are [`FOLLOWERS_MAX`]; a slow one holds up only its own task.

use super::Jobs;
use super::http::{Asked, Desk, asked, found, run_id};
use super::route::{Route, Shape};
use super::wire::{LogPiece, LogQuery, Stand};
use crate::AgentError;
use crate::api::usage;
use crate::wire::{Refusal, RefusalKind};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use regrow_model::RunId;
use regrow_model::run::{Line, Run};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Most followers of runs at a time; each is a task that looks a few times a second.
const FOLLOWERS_MAX: usize = 512;

/// Pieces waiting for a slow reader.
const PIECES_WAITING: usize = 4;

/// A comment is sent when there was nothing else for so long, so that what is between does not give up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Longest cursor, bytes.
const CURSOR_BYTES_MAX: usize = 128;

/// Room for followers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Followers(Arc<Semaphore>);

impl Default for Followers {
    fn default() -> Followers {
        Followers(Arc::new(Semaphore::new(FOLLOWERS_MAX)))
    }
}

impl Followers {
    pub(super) fn enter(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.0.clone().try_acquire_owned().map_err(|_| Refusal {
            kind: RefusalKind::Unavailable,
            error: format!("there are {FOLLOWERS_MAX} followers of runs already: come again later"),
        })
    }
}

/// What a follower is told.
enum Told {
    State(Stand),
    Piece(LogPiece),
    End(Box<Run>),
}

/// The routes.
pub(super) fn routes() -> [Route; 2] {
    let log = Route::get("/api/runs/{id}/log", "The run's log: a line of JSON for each of its own.", log)
        .refuses(&[RefusalKind::NotFound])
        .answers(StatusCode::OK, "application/x-ndjson", Shape::Of(SchemaGenerator::subschema_for::<Line>));
    let events = Route::get("/api/runs/{id}/events", "The run as it goes on, up to its end.", events)
        .refuses(&[RefusalKind::NotFound])
        .header("Last-Event-ID", false, "The last id that was seen: only what is behind it comes. Goes before `after`.")
        .answers(StatusCode::OK, "text/event-stream", Shape::Of(stream_of_events));
    [log, events]
}

fn stream_of_events(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "description": "Server-sent events, with JSON as their data: `line` is a line of the log, and the last one of a piece has \
                        the cursor as its id; `state` is where the run stands; `end` is the run as it ended, and comes last.",
        "x-events": {
            "line": generator.subschema_for::<Line>(),
            "state": generator.subschema_for::<Stand>(),
            "end": generator.subschema_for::<Run>(),
        }
    })
}

async fn log(State(desk): State<Desk>, Path(id): Path<String>, query: Asked<LogQuery>) -> Result<Response, Refusal> {
    let (id, query) = (run_id(&id)?, asked(query)?);
    let after = query.after.map(cursor).transpose()?;
    found(&desk, &id).await?;
    let told = tell(&desk, id, after, query.follow)?;
    let lines = told.filter_map(async |told| match told {
        Ok(Told::Piece(piece)) => Some(Ok(piece.lines)),
        Ok(_) => None,
        Err(error) => Some(Err(error)),
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct EventsQuery {
    /// Only what is behind this cursor: for those who cannot set headers.
    after: Option<String>,
}

async fn events(
    State(desk): State<Desk>,
    Path(id): Path<String>,
    query: Asked<EventsQuery>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let (id, query) = (run_id(&id)?, asked(query)?);
    let last = headers.get("last-event-id").map(|last| String::from_utf8_lossy(last.as_bytes()).into_owned());
    let after = last.or(query.after).filter(|after| !after.is_empty()).map(cursor).transpose()?;
    found(&desk, &id).await?;
    let told = tell(&desk, id, after, true)?;
    let events = told.flat_map(|told| {
        let events = match told {
            Ok(told) => shown(told).into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error)],
        };
        stream::iter(events)
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response())
}

fn shown(told: Told) -> Vec<Event> {
    match told {
        Told::State(stand) => vec![event("state", &stand)],
        Told::End(run) => vec![event("end", &*run)],
        Told::Piece(piece) => {
            let lines = piece.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let mut events: Vec<Event> =
                lines.map(|line| Event::default().event("line").data(String::from_utf8_lossy(line))).collect();
            if let Some(last) = events.pop() {
                events.push(if is_cursor(&piece.cursor) { last.id(piece.cursor) } else { last });
            }
            events
        }
    }
}

fn event(name: &str, data: &impl Serialize) -> Event {
    let data = serde_json::to_string(data).expect("model types always serialise");
    Event::default().event(name).data(data)
}

/// Begins to follow a run that there is.
fn tell(
    desk: &Desk,
    id: RunId,
    after: Option<String>,
    follow: bool,
) -> Result<impl Stream<Item = Result<Told, AgentError>> + use<>, Refusal> {
    let room = desk.followers.enter()?;
    let (sender, told) = mpsc::channel(PIECES_WAITING);
    let jobs = desk.jobs.clone();
    tokio::spawn(async move {
        let _room = room;
        if let Err(Stopped::Broken(error)) = walk(&*jobs, id, after, follow, &sender).await {
            // Whoever reads sees that the answer is not whole.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(stream::unfold(told, |mut told| async move { Some((told.recv().await?, told)) }))
}

/// Why following ended early.
enum Stopped {
    /// Nobody reads.
    Unread,
    /// The queue does not answer.
    Broken(AgentError),
}

impl From<AgentError> for Stopped {
    fn from(error: AgentError) -> Stopped {
        Stopped::Broken(error)
    }
}

async fn walk(
    jobs: &dyn Jobs,
    id: RunId,
    mut after: Option<String>,
    follow: bool,
    sender: &mpsc::Sender<Result<Told, AgentError>>,
) -> Result<(), Stopped> {
    let send = async |told| sender.send(Ok(told)).await.map_err(|_| Stopped::Unread);
    let mut stood = None;
    loop {
        let gone = || AgentError::NotFound(format!("run {id} is forgotten"));
        let run = jobs.run(id.clone()).await?.ok_or_else(gone)?;
        let stand = Stand { state: run.state, attempt: run.attempt, why: run.why.clone() };
        let is_new = stood.as_ref() != Some(&stand);
        if is_new && !run.state.is_final() {
            send(Told::State(stand.clone())).await?;
        }
        loop {
            let pieces = jobs.log(id.clone(), after.clone()).await?;
            let Some(last) = pieces.last() else { break };
            after = Some(last.cursor.clone());
            for piece in pieces {
                send(Told::Piece(piece)).await?;
            }
        }
        if run.state.is_final() {
            if is_new {
                send(Told::State(stand)).await?;
            }
            return send(Told::End(Box::new(run))).await;
        }
        if !follow {
            return Ok(());
        }
        stood = Some(stand);
        tokio::select! {
            () = jobs.stirred(id.clone()) => {}
            () = sender.closed() => return Err(Stopped::Unread),
        }
    }
}

fn cursor(text: String) -> Result<String, Refusal> {
    if is_cursor(&text) { Ok(text) } else { Err(usage("this is no cursor of a log".to_owned())) }
}

fn is_cursor(text: &str) -> bool {
    (1..=CURSOR_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
