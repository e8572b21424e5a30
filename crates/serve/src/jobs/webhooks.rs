//! Webhooks: `POST /api/hooks/{job}` starts a run of a job whose spec has `webhook`.
//!
//! **Flow.** The body is signed as GitHub does it: `X-Hub-Signature-256: sha256=` and the HMAC-SHA256 of the body in
//! hexadecimal, with the job's secret as the key. Those of the body's top-level fields that the job has parameters for are its
//! parameters; all others are ignored. `X-GitHub-Delivery`, or else `Idempotency-Key`, becomes the wish's key, so that what is
//! delivered again starts nothing again. A `ping` of GitHub's starts nothing and is answered with 204.
//!
//! **Guarantees.** Nothing of the body is read before the signature is found right, compared in constant time. The answer does
//! not tell a wrong signature from a job that is not there or takes no webhooks.
//!
//! **Caveats.** The delivery's id is not signed: who has seen a signed body can send it again under another id until the secret
//! is changed. Give jobs that webhooks start a concurrency of one, and have them look at what there is.
//!
//! Source: GitHub, "Validating webhook deliveries".

use super::http::{Answered, Desk};
use super::route::{JSON, Route, Shape};
use super::wire::Accepted;
use crate::AgentError;
use crate::api::{name, read, usage};
use crate::wire::{Refusal, RefusalKind};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use regrow_control::features::job::order::Wish;
use regrow_model::Name;
use ring::hmac;
use schemars::SchemaGenerator;
use serde_json::Value;
use std::collections::BTreeMap;

/// Largest body, which is held in memory before anybody knows who sent it. GitHub's own are some kilobytes, seldom more.
const BODY_BYTES_MAX: usize = 4 << 20;

/// Longest id of a delivery, bytes; GitHub's have 36.
const DELIVERY_BYTES_MAX: usize = 128;

/// The route.
pub(super) fn route() -> Route {
    Route::post("/api/hooks/{job}", "A webhook: starts a run of a job that takes them.", hook)
        .signed()
        .limit(BODY_BYTES_MAX)
        .header("X-Hub-Signature-256", true, "`sha256=` and the HMAC-SHA256 of the body in hexadecimal.")
        .header("X-GitHub-Delivery", false, "The delivery's id: what comes again with it starts nothing again.")
        .header("Idempotency-Key", false, "The same for those who are not GitHub.")
        .header("X-GitHub-Event", false, "A `ping` starts nothing.")
        .body(&[JSON], true, Shape::Of(SchemaGenerator::subschema_for::<Fields>))
        .answers(StatusCode::OK, JSON, Shape::Of(SchemaGenerator::subschema_for::<Accepted>))
        .answers(StatusCode::NO_CONTENT, JSON, Shape::Empty)
        .refuses(&[RefusalKind::Denied, RefusalKind::NotFound, RefusalKind::Refused])
}

/// What is in a body: those that the job has parameters for count.
type Fields = BTreeMap<String, Value>;

async fn hook(
    State(desk): State<Desk>,
    Path(job): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let job = signed(&desk, &job, &headers, &body).await?;
    if headers.get("x-github-event").is_some_and(|event| event == "ping") {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let accepted: Answered<Accepted> = accept(&desk, job, &headers, body).await;
    Ok(accepted?.into_response())
}

/// The job, if the body is signed for it.
async fn signed(desk: &Desk, job: &str, headers: &HeaderMap, body: &[u8]) -> Result<Name, Refusal> {
    let job = name(job).ok();
    let secret = match &job {
        None => None,
        Some(job) => match desk.jobs.webhook(job.clone()).await {
            Ok(secret) => secret.filter(|secret| !secret.is_empty()),
            Err(error @ AgentError::Unavailable(_)) => return Err(error.into()),
            Err(error) => {
                tracing::warn!("the secret of job/{job}'s webhook cannot be had: {error}");
                None
            }
        },
    };
    let signature = signature(headers).unwrap_or_default();
    // Without a secret one is made up, so that the answer takes as long.
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_deref().unwrap_or(&[0; 32]));
    let is_right = hmac::verify(&key, body, &signature).is_ok();
    match (job, secret, is_right) {
        (Some(job), Some(_), true) => Ok(job),
        _ => Err(Refusal {
            kind: RefusalKind::Denied,
            error: "there is no such webhook, or its signature is wrong: send X-Hub-Signature-256: sha256=HEX, the \
                    HMAC-SHA256 of the body with the secret that the job's `webhook` names"
                .to_owned(),
        }),
    }
}

/// The signature that is shown; `None` for what is none.
fn signature(headers: &HeaderMap) -> Option<[u8; 32]> {
    let text = headers.get("x-hub-signature-256")?.as_bytes().strip_prefix(b"sha256=")?;
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut bytes = [0; 32];
    if text.len() != 2 * bytes.len() {
        return None;
    }
    for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        *byte = 16 * digit(digits[0])? + digit(digits[1])?;
    }
    Some(bytes)
}

async fn accept(desk: &Desk, job: Name, headers: &HeaderMap, body: Bytes) -> Answered<Accepted> {
    let fields: Fields = read(body)?;
    let known = desk.jobs.jobs().await?.remove(&job).map(|job| job.parameters).unwrap_or_default();
    let parameters = fields.into_iter().filter(|(field, _)| known.contains_key(field)).collect();
    let key = delivery(headers)?.map(|delivery| format!("hook/{job}/{delivery}"));
    let wish = Wish { parameters, key, ..Wish::default() };
    let id = desk.jobs.submit(job, wish, "webhook".to_owned()).await?;
    Ok(Json(Accepted { id }))
}

fn delivery(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let Some(value) = headers.get("x-github-delivery").or_else(|| headers.get("idempotency-key")) else {
        return Ok(None);
    };
    let text = value.to_str().ok().filter(|text| {
        (1..=DELIVERY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    });
    let wrong = || usage(format!("the id of the delivery is not 1 to {DELIVERY_BYTES_MAX} letters, digits and signs"));
    Ok(Some(text.ok_or_else(wrong)?.to_owned()))
}
