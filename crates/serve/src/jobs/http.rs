//! Jobs and runs over HTTP: what the command line speaks.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/jobs`, `/api/jobs/{name}` | [`Job`]s by name; one |
//! | `GET /api/schedules` | [`ScheduleLine`]s |
//! | `GET /api/workers` | [`Worker`]s |
//! | `GET /api/runs?job=&state=&ended=&limit=` | [`Run`]s, the newest first |
//! | `POST /api/runs` of a [`Submit`] | [`Accepted`] |
//! | `GET /api/runs/{id}` | [`RunDetail`] |
//! | `POST /api/runs/{id}/cancel` | [`Cancelled`] |
//! | `POST /api/runs/{id}/retry` of an [`Again`] | [`Accepted`] |
//! | `GET /api/runs/{id}/log?follow=&after=` | a [`regrow_model::run::Line`] a line |
//! | `GET /api/runs/{id}/events?after=` | server-sent events: see [`super::follow`] |
//! | `GET /api/runs/{id}/artefacts`, `…/artefact?name=` | [`ArtefactLine`](super::wire::ArtefactLine)s; bytes: see [`super::artefacts`] |
//! | `POST /api/hooks/{job}` | [`Accepted`]: see [`super::webhooks`] |
//! | `/ansible/…` | see [`super::ansible`] |
//! | `GET /api/openapi.json` | all of this as an OpenAPI document: see [`super::openapi`] |
//!
//! The router goes behind the same checks as the rest of `/api`; see [`crate::api::router`].

use super::follow::{self, Followers};
use super::route::{JSON, Perhaps, Route, Sent, Shape};
use super::wire::{Accepted, Again, Cancelled, RUNS_TOLD_MAX, RunDetail, RunsQuery, ScheduleLine, Submit};
use super::{Jobs, ansible, artefacts, openapi, webhooks};
use crate::access::Visit;
use crate::api::{name, not_found, usage};
use crate::wire::{Refusal, RefusalKind};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use regrow_model::run::{Run, Worker};
use regrow_model::spec::Job;
use regrow_model::{Name, RunId};
use schemars::SchemaGenerator;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

/// What all routes share.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) jobs: Arc<dyn Jobs>,
    pub(super) followers: Followers,
}

pub(super) type Answered<T> = Result<Json<T>, Refusal>;
/// A query, read or not.
pub(super) type Asked<T> = Result<Query<T>, QueryRejection>;
/// Who is there, behind a guard.
pub(super) type Visitor = Option<Extension<Visit>>;

/// The routes, over jobs.
pub fn router(jobs: Arc<dyn Jobs>) -> Router {
    let router = routes().into_iter().fold(Router::new(), |router, Route { path, door, .. }| {
        if path.starts_with("/ansible/") {
            let path = path.trim_end_matches('/');
            router.route(path, door.clone()).route(&format!("{path}/"), door)
        } else {
            router.route(path, door)
        }
    });
    router.with_state(Desk { jobs, followers: Followers::default() })
}

/// All that is answered. Those of `/ansible/` are with and without a slash at their end.
fn routes() -> Vec<Route> {
    use RefusalKind::{NotFound, Refused};
    let mut routes = vec![
        Route::get("/api/jobs", "The jobs of the spec, by name.", list),
        Route::get("/api/jobs/{name}", "A job.", show).refuses(&[NotFound]),
        Route::get("/api/schedules", "The schedules, and when each is due next.", schedules),
        Route::get("/api/workers", "The workers that are alive.", workers),
        Route::get("/api/runs", "Runs, the newest first.", runs),
        Route::post("/api/runs", "Accepts a run of a job: it is durable when this answers.", submit)
            .refuses(&[NotFound, Refused]),
        Route::get("/api/runs/{id}", "A run, and why it waits.", run).refuses(&[NotFound]),
        Route::post("/api/runs/{id}/cancel", "Ends a run.", cancel).refuses(&[NotFound, Refused]),
        Route::post("/api/runs/{id}/retry", "Accepts a new run of what an ended one was given.", retry)
            .refuses(&[NotFound, Refused]),
    ];
    routes.extend(follow::routes());
    routes.extend(artefacts::routes());
    routes.push(webhooks::route());
    routes.extend(ansible::routes());
    let object = Shape::Of(SchemaGenerator::subschema_for::<Map<String, Value>>);
    let told = Route::get("/api/openapi.json", "This document.", document).answers(StatusCode::OK, JSON, object);
    routes.push(told);
    routes
}

/// Made once.
async fn document() -> Result<Response, Refusal> {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| format!("{:#}\n", openapi::document(&routes())));
    Ok(([(header::CONTENT_TYPE, JSON)], DOCUMENT.as_str()).into_response())
}

async fn list(State(desk): State<Desk>) -> Answered<BTreeMap<Name, Job>> {
    Ok(Json(desk.jobs.jobs().await?))
}

async fn show(State(desk): State<Desk>, Path(job): Path<String>) -> Answered<Job> {
    let job = name(&job)?;
    let found = desk.jobs.jobs().await?.remove(&job);
    Ok(Json(found.ok_or_else(|| not_found(format!("there is no job `{job}`: `regrow job ls` lists them")))?))
}

async fn schedules(State(desk): State<Desk>) -> Answered<Vec<ScheduleLine>> {
    Ok(Json(desk.jobs.schedules().await?))
}

async fn workers(State(desk): State<Desk>) -> Answered<Vec<Worker>> {
    Ok(Json(desk.jobs.workers().await?))
}

async fn runs(State(desk): State<Desk>, query: Asked<RunsQuery>) -> Answered<Vec<Run>> {
    let query = asked(query)?;
    if !(1..=RUNS_TOLD_MAX).contains(&query.limit) {
        return Err(usage(format!("limit={} is not 1 to {RUNS_TOLD_MAX}", query.limit)));
    }
    Ok(Json(desk.jobs.runs(query).await?))
}

async fn submit(State(desk): State<Desk>, visitor: Visitor, sent: Sent<Submit>) -> Answered<Accepted> {
    let Sent(Submit { job, wish }) = sent;
    let id = desk.jobs.submit(job, wish, by(visitor)).await?;
    Ok(Json(Accepted { id }))
}

async fn run(State(desk): State<Desk>, Path(id): Path<String>) -> Answered<RunDetail> {
    let id = run_id(&id)?;
    let run = found(&desk, &id).await?;
    let waits = if run.state.is_final() { Vec::new() } else { desk.jobs.waits(id).await? };
    Ok(Json(RunDetail { run, waits }))
}

async fn cancel(State(desk): State<Desk>, visitor: Visitor, Path(id): Path<String>) -> Answered<Cancelled> {
    let cancelled = desk.jobs.cancel(run_id(&id)?, by(visitor)).await?;
    Ok(Json(Cancelled { cancelled }))
}

/// An empty body repeats the run as it was.
async fn retry(
    State(desk): State<Desk>,
    visitor: Visitor,
    Path(id): Path<String>,
    Perhaps(again): Perhaps<Again>,
) -> Answered<Accepted> {
    let id = desk.jobs.again(run_id(&id)?, again, by(visitor)).await?;
    Ok(Json(Accepted { id }))
}

/// A text that is no id is one of no run.
pub(super) fn run_id(text: &str) -> Result<RunId, Refusal> {
    text.parse().map_err(|error| not_found(format!("there is no such run: {error}")))
}

pub(super) async fn found(desk: &Desk, id: &RunId) -> Result<Run, Refusal> {
    let run = desk.jobs.run(id.clone()).await?;
    run.ok_or_else(|| not_found(format!("there is no run {id}: it was never accepted here, or its retention is over")))
}

pub(super) fn asked<T>(query: Asked<T>) -> Result<T, Refusal> {
    query.map(|Query(query)| query).map_err(|rejection| usage(rejection.body_text()))
}

/// Who asks, for people. At an agent without keys nobody knows.
pub(super) fn by(visitor: Visitor) -> String {
    let name = visitor.as_ref().map(|visit| visit.caller().name()).filter(|name| *name != "anybody");
    name.unwrap_or("http").to_owned()
}
