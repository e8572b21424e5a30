//! The HTTP interface of Ansible job servers, for clients that know no other.
//!
//! | request | fields | answer |
//! |---|---|---|
//! | `POST /ansible/role/` | `host`, `role` (several by comma), `env` | the run's id |
//! | `POST /ansible/update-code/` | `tags`, `env` | the run's id |
//! | `GET /ansible/adhoc/` | `host`, `mod`, `args` | the run's id |
//! | `POST /ansible/set_eip/` | `instance_id`, `role`, `env` | the run's id |
//! | `GET /ansible/results/{id}` | | `in-queue`, `waiting`, `failed`, or the recap as JSON |
//!
//! Each may be asked for without its last slash too. Fields come as a form or as a JSON object. They are the parameters of the
//! spec's jobs `ansible-role`, `ansible-update-code`, `ansible-adhoc` and `ansible-set-eip`, as text and as they are: only
//! what was sent, so that a job's defaults hold for the rest.
//!
//! **Errors.** A field that nobody knows, or that comes twice, is refused; 404 without the job in the spec.

use super::http::{Desk, Visitor, by, found, run_id};
use super::route::{JSON, Route, Shape};
use crate::AgentError;
use crate::api::{is_json, read, usage};
use crate::wire::{Refusal, RefusalKind};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use regrow_control::features::job::order::Wish;
use regrow_model::Name;
use regrow_model::limits::PARAMETER_BYTES_MAX;
use regrow_model::run::{Recap, Run, State as RunState};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use std::collections::BTreeMap;

/// Largest form: each of its few fields as large as a parameter may be, with every byte escaped.
const FORM_BYTES_MAX: usize = 1 << 20;

const FORM: &str = "application/x-www-form-urlencoded";

/// What may be asked for, and the job that does it.
#[derive(Clone, Copy)]
struct Door {
    job: &'static str,
    fields: &'static [&'static str],
}

const ROLE: Door = Door { job: "ansible-role", fields: &["host", "role", "env"] };
const UPDATE_CODE: Door = Door { job: "ansible-update-code", fields: &["tags", "env"] };
const ADHOC: Door = Door { job: "ansible-adhoc", fields: &["host", "mod", "args"] };
const SET_EIP: Door = Door { job: "ansible-set-eip", fields: &["instance_id", "role", "env"] };

type Fields = BTreeMap<String, Value>;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let submitted = |path, what, door: Door| {
        let start = async move |State(desk): State<Desk>, visitor: Visitor, headers: HeaderMap, body: Bytes| {
            start(&desk, door, sent(door, &headers, body)?, visitor).await
        };
        Route::post(path, what, start).body(&[FORM, JSON], false, Shape::Fields(door.fields))
    };
    let asked = |path, what, door: Door| {
        let start = async move |State(desk): State<Desk>, visitor: Visitor, RawQuery(query): RawQuery| {
            start(&desk, door, form(door, query.unwrap_or_default().as_bytes())?, visitor).await
        };
        Route::get(path, what, start).query(Shape::Fields(door.fields))
    };
    let starts = [
        submitted("/ansible/role/", "Starts `ansible-role`, and answers with the run's id.", ROLE),
        submitted("/ansible/update-code/", "Starts `ansible-update-code`, and answers with the run's id.", UPDATE_CODE),
        asked("/ansible/adhoc/", "Starts `ansible-adhoc`, and answers with the run's id.", ADHOC),
        submitted("/ansible/set_eip/", "Starts `ansible-set-eip`, and answers with the run's id.", SET_EIP),
    ];
    let results = Route::get("/ansible/results/{id}", "How far a run is; its recap at the end.", results)
        .answers(StatusCode::OK, "text/plain", Shape::Of(words))
        .answers(StatusCode::OK, JSON, Shape::Of(SchemaGenerator::subschema_for::<BTreeMap<String, Recap>>))
        .refuses(&[RefusalKind::NotFound]);
    let starts = starts.map(|route| route.refuses(&[RefusalKind::NotFound, RefusalKind::Refused]));
    starts.into_iter().chain([results]).map(|route| route.limit(FORM_BYTES_MAX)).collect()
}

fn words(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["in-queue", "waiting", "failed"]})
}

/// The id as plain text, without a line's end.
async fn start(desk: &Desk, door: Door, parameters: Fields, visitor: Visitor) -> Result<String, Refusal> {
    let job = Name::new(door.job).expect("a name");
    let wish = Wish { parameters, ..Wish::default() };
    match desk.jobs.submit(job, wish, by(visitor)).await {
        Ok(id) => Ok(id.to_string()),
        Err(AgentError::NotFound(_)) => Err(Refusal {
            kind: RefusalKind::NotFound,
            error: format!(
                "there is no job `{}`: add it under `jobs:` in the spec, with the parameters {}; docs/guide/jobs.md \
                 has an example to copy",
                door.job,
                door.fields.join(", ")
            ),
        }),
        Err(error) => Err(error.into()),
    }
}

fn sent(door: Door, headers: &HeaderMap, body: Bytes) -> Result<Fields, Refusal> {
    if is_json(headers) {
        let fields: Fields = read(body)?;
        for (field, value) in &fields {
            let bytes = match value {
                Value::String(text) => text.len(),
                Value::Array(items) if items.iter().all(Value::is_string) => {
                    items.iter().filter_map(Value::as_str).map(str::len).sum()
                }
                Value::Number(_) | Value::Bool(_) => 0,
                _ => return Err(usage(format!("the field `{}` is not text", cut(field)))),
            };
            known(door, field, bytes)?;
        }
        return Ok(fields);
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    // `curl -X POST` sends neither a type nor a body.
    let is_form = kind.eq_ignore_ascii_case(FORM) || (kind.is_empty() && body.is_empty());
    if !is_form {
        return Err(usage(
            "send a form (content-type: application/x-www-form-urlencoded, as curl -d does) or a JSON object"
                .to_owned(),
        ));
    }
    form(door, &body)
}

fn form(door: Door, text: &[u8]) -> Result<Fields, Refusal> {
    let mut fields = Fields::new();
    for (field, value) in form_urlencoded::parse(text) {
        known(door, &field, value.len())?;
        if fields.insert(field.to_string(), Value::String(value.into_owned())).is_some() {
            return Err(usage(format!("the field `{field}` comes twice: put a comma between several values")));
        }
    }
    Ok(fields)
}

fn known(door: Door, field: &str, bytes: usize) -> Result<(), Refusal> {
    if !door.fields.contains(&field) {
        return Err(usage(format!("there is no field `{}`: there are {}", cut(field), door.fields.join(", "))));
    }
    if bytes > PARAMETER_BYTES_MAX {
        return Err(usage(format!("the field `{field}` has {bytes} bytes; it may have {PARAMETER_BYTES_MAX}")));
    }
    Ok(())
}

/// A field's name as it may be repeated.
fn cut(field: &str) -> String {
    field.chars().take(64).filter(|c| !c.is_control()).collect()
}

async fn results(State(desk): State<Desk>, Path(id): Path<String>) -> Result<Response, Refusal> {
    Ok(told(found(&desk, &run_id(&id)?).await?))
}

/// A run as these clients read it: one that failed on some hosts has its recap too.
fn told(run: Run) -> Response {
    let recap = run.result.map(|result| result.recap).unwrap_or_default();
    match run.state {
        RunState::Queued | RunState::Parked => "in-queue".into_response(),
        RunState::Running => "waiting".into_response(),
        RunState::Succeeded => Json(recap).into_response(),
        _ if recap.is_empty() => "failed".into_response(),
        _ => Json(recap).into_response(),
    }
}
