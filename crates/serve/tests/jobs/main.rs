//! The doors of jobs over a queue in memory: every route, every refusal, and that values stay values.

mod artefacts;
mod book;
mod hostile;
#[path = "../access/mute.rs"]
mod mute;
mod openapi;
mod openness;
mod story;

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use axum::{Router, response::Response};
use book::{Book, NOW, SECRET, name};
use futures_util::StreamExt;
use mute::Mute;
use regrow_model::RunId;
use regrow_model::run::{HostOutcome, Line, Recap, RunEvent, RunResult, State, Stream};
use regrow_serve::access::{Audit, Guard};
use regrow_serve::{AgentError, api, jobs};
use ring::hmac;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::codegen::Service;

/// Everything behind its checks, over a queue.
pub(crate) fn router(book: &Arc<Book>) -> Router {
    api::router(Arc::new(Mute), jobs::http::router(book.clone()), Guard::open(Audit::off()))
}

/// A request as `curl` would send it.
pub(crate) fn request(line: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Request<Body> {
    let (method, path) = line.split_once(' ').expect("a method and a path");
    let mut request = Request::builder().method(method).uri(path);
    if !headers.iter().any(|(header, _)| *header == "host") {
        request = request.header("host", "127.0.0.1:8500");
    }
    headers
        .iter()
        .fold(request, |request, (header, value)| request.header(*header, *value))
        .body(body.into())
        .expect("one")
}

pub(crate) async fn send(router: &Router, request: Request<Body>) -> Response {
    router.clone().call(request).await.expect("infallible")
}

pub(crate) async fn text(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), 16 << 20).await.expect("a whole answer");
    (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

pub(crate) async fn ask(router: &Router, line: &str, body: Value) -> (u16, Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let (status, answer) = text(send(router, request(line, &[("content-type", "application/json")], body)).await).await;
    (status, serde_json::from_str(&answer).unwrap_or(Value::String(answer)))
}

pub(crate) fn id_of(answer: &Value) -> RunId {
    answer["id"].as_str().expect("an id").parse().expect("an id")
}

fn recap() -> Option<RunResult> {
    let good = Recap { ok: 3, changed: 1, ..Recap::default() };
    let bad = Recap { failures: 1, ..Recap::default() };
    let recap = [("db1".to_owned(), bad), ("web1".to_owned(), good)].into();
    Some(RunResult { code: Some(2), recap })
}

/// Jobs, schedules and workers as they are; what is not there is 404.
#[tokio::test]
async fn what_there_is() {
    let routes = router(&Book::new());
    let (status, all) = ask(&routes, "GET /api/jobs", Value::Null).await;
    assert_eq!((status, all.as_object().map(serde_json::Map::len)), (200, Some(8)));
    let (status, one) = ask(&routes, "GET /api/jobs/nightly", Value::Null).await;
    assert_eq!((status, &one), (200, &all["nightly"]));
    assert_eq!(ask(&routes, "GET /api/jobs/daily", Value::Null).await.0, 404);
    assert_eq!(ask(&routes, "GET /api/jobs/..%2fx", Value::Null).await.0, 400);
    let (status, schedules) = ask(&routes, "GET /api/schedules", Value::Null).await;
    assert_eq!((status, &schedules[0]["schedule"]["cron"]), (200, &json!("30 2 * * *")));
    let (status, workers) = ask(&routes, "GET /api/workers", Value::Null).await;
    assert_eq!((status, &workers[0]["room"]), (200, &json!(8)));
}

/// A run's life: accepted with what it was given, told with why it waits, listed, cancelled once, repeated.
#[tokio::test]
async fn a_run_is_accepted_told_ended_and_repeated() {
    let book = Book::new();
    let routes = router(&book);
    let wish = json!({"job": "nightly", "parameters": {"day": 3}, "priority": 9, "delay_seconds": 60, "key": "k"});
    let (status, accepted) = ask(&routes, "POST /api/runs", wish.clone()).await;
    assert_eq!(status, 200, "{accepted}");
    let id = id_of(&accepted);
    assert_eq!(id_of(&ask(&routes, "POST /api/runs", wish).await.1), id, "the same word is the same run");
    let kept = book.one(&id);
    assert_eq!((kept.order.priority, kept.due.0 - NOW.0, kept.order.by.as_str()), (9, 60_000, "http"));
    let (_, told) = ask(&routes, &format!("GET /api/runs/{id}"), Value::Null).await;
    assert_eq!(
        (&told["state"], &told["waits"][0]),
        (&json!("queued"), &json!(format!("no worker has room for run {id}")))
    );
    let (status, refused) = ask(&routes, &format!("POST /api/runs/{id}/retry"), Value::Null).await;
    assert_eq!((status, &refused["kind"]), (409, &json!("refused")));
    let cancel = format!("POST /api/runs/{id}/cancel");
    assert_eq!(ask(&routes, &cancel, Value::Null).await, (200, json!({"cancelled": true})));
    assert_eq!(ask(&routes, &cancel, Value::Null).await, (200, json!({"cancelled": false})));
    let (_, told) = ask(&routes, &format!("GET /api/runs/{id}"), Value::Null).await;
    assert!(told["waits"].is_null(), "what has ended waits for nothing: {told}");
    let (status, second) = ask(&routes, &format!("POST /api/runs/{id}/retry"), json!({})).await;
    assert_eq!((status, &book.one(&id_of(&second)).order.answers), (200, &kept.order.answers));
    for (query, expect) in [
        ("", 2),
        ("?ended=false", 1),
        ("?state=cancelled", 1),
        ("?job=hooked", 0),
        ("?job=nightly&limit=1", 1),
        ("?state=timed-out", 0),
    ] {
        let (status, runs) = ask(&routes, &format!("GET /api/runs{query}"), Value::Null).await;
        assert_eq!((status, runs.as_array().map(Vec::len)), (200, Some(expect)), "{query}: {runs}");
    }
}

/// A rerun on failed hosts is limited to them.
#[tokio::test]
async fn a_rerun_on_failed_hosts() {
    let book = Book::new();
    let routes = router(&book);
    let wish = json!({"job": "ansible-role", "parameters": {"host": "web1", "role": "nginx"}});
    let id = id_of(&ask(&routes, "POST /api/runs", wish).await.1);
    book.moves(&id, State::Failed, recap());
    let (_, again) = ask(&routes, &format!("POST /api/runs/{id}/retry"), json!({"failed_hosts": true})).await;
    assert_eq!(book.one(&id_of(&again)).order.hosts, ["db1"]);
}

/// What does not fit is refused with the status of its kind and a sentence, and nothing is accepted.
#[tokio::test]
async fn refusals() {
    let book = Book::new();
    let routes = router(&book);
    let id = "0123456789abcdef";
    for (line, body, status, part) in [
        ("POST /api/runs", json!({"job": "daily"}), 404, "there is no job `daily`"),
        ("POST /api/runs", json!({}), 400, "missing field `job`"),
        ("POST /api/runs", json!({"job": "../etc"}), 400, "is not a name"),
        ("POST /api/runs", json!({"job": "nightly", "parametres": {}}), 400, "unknown field `parametres`"),
        ("POST /api/runs", json!({"job": "nightly", "parameters": {"dya": 1}}), 400, "there are day, note"),
        ("POST /api/runs", json!({"job": "nightly", "parameters": {"day": 32}}), 400, "must be 1 to 31"),
        ("POST /api/runs", json!({"job": "nightly", "parameters": {"note": ["x"]}}), 400, "must be text"),
        ("POST /api/runs", json!({"job": "nightly", "priority": 10}), 400, "0 to 9"),
        ("POST /api/runs", json!([]), 400, "does not fit"),
        ("GET /api/runs?limit=0", Value::Null, 400, "limit=0"),
        ("GET /api/runs?limit=10001", Value::Null, 400, "10000"),
        ("GET /api/runs?state=gone", Value::Null, 400, "gone"),
        ("GET /api/runs?jobs=x", Value::Null, 400, "unknown field `jobs`"),
        ("GET /api/runs/x", Value::Null, 404, "not the id of a run"),
        (&format!("GET /api/runs/{id}"), Value::Null, 404, "never accepted here"),
        (&format!("GET /api/runs/{id}/log"), Value::Null, 404, "never accepted here"),
        (&format!("GET /api/runs/{id}/events"), Value::Null, 404, "never accepted here"),
        (&format!("GET /api/runs/{id}/log?after=%00"), Value::Null, 400, "no cursor"),
        (&format!("POST /api/runs/{id}/cancel"), Value::Null, 404, "there is no run"),
        (&format!("POST /api/runs/{id}/retry"), json!({"failed": true}), 400, "unknown field"),
    ] {
        let (found, answer) = ask(&routes, line, body.clone()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(found == status && error.contains(part), "{line} {body}: {found} {answer}");
    }
    assert!(book.all().is_empty());
    book.kept().down = Some(AgentError::Unavailable("the store is away".to_owned()));
    for line in ["GET /api/jobs", "GET /api/runs", "GET /api/workers", "GET /api/schedules"] {
        assert_eq!(ask(&routes, line, Value::Null).await.0, 503, "{line}");
    }
}

fn lines(from: usize) -> [Line; 2] {
    [
        Line::text(NOW, Stream::Stdout, format!("line {from}")),
        Line::event(
            NOW,
            RunEvent::Host {
                host: "web1".to_owned(),
                task: "line 2\ndata: forged".to_owned(),
                outcome: HostOutcome::Changed,
                message: String::new(),
                diff: String::new(),
            },
        ),
    ]
}

/// The log as lines of JSON: what there is, what is behind a cursor, and followed to the end.
#[tokio::test]
async fn the_log_is_followed_to_its_end() {
    let book = Book::new();
    let routes = router(&book);
    let id = id_of(&ask(&routes, "POST /api/runs", json!({"job": "nightly"})).await.1);
    book.moves(&id, State::Running, None);
    book.says(&id, &lines(0));
    book.says(&id, &lines(1));
    let path = format!("GET /api/runs/{id}/log");
    let read = async |query: &str| text(send(&routes, request(&format!("{path}{query}"), &[], "")).await).await.1;
    let parse =
        |text: &str| -> Vec<Line> { text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect() };
    assert_eq!(parse(&read("").await), [lines(0), lines(1)].concat());
    assert_eq!(parse(&read("?after=0000").await), lines(1));
    let response = send(&routes, request(&format!("{path}?follow=true"), &[], "")).await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let mut body = response.into_body().into_data_stream();
    let mut read = String::new();
    for from in 2..5 {
        while !read.contains(&format!("line {}", from - 1)) {
            let data = body.next().await.expect("more").expect("whole");
            read.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
        book.says(&id, &lines(from));
    }
    book.moves(&id, State::Succeeded, None);
    while let Some(data) = body.next().await {
        read.push_str(std::str::from_utf8(&data.expect("whole")).expect("UTF-8"));
    }
    assert_eq!(parse(&read), (0..5).flat_map(lines).collect::<Vec<_>>());
}

/// A log that the queue stops telling breaks off, so that nobody takes it for whole.
#[tokio::test]
async fn a_log_that_breaks_off_is_not_whole() {
    let book = Book::new();
    let routes = router(&book);
    let id = id_of(&ask(&routes, "POST /api/runs", json!({"job": "nightly"})).await.1);
    let response = send(&routes, request(&format!("GET /api/runs/{id}/log?follow=true"), &[], "")).await;
    book.kept().down = Some(AgentError::Unavailable("the store is away".to_owned()));
    assert!(to_bytes(response.into_body(), 1 << 20).await.is_err());
}

/// Events as browsers read them: name, data, and the last id.
fn events(text: &str) -> Vec<(String, Value, Option<String>)> {
    let blocks = text.split("\n\n").filter(|block| !block.trim().is_empty() && !block.starts_with(':'));
    blocks
        .map(|block| {
            let field = |wanted: &str| {
                let prefix = format!("{wanted}: ");
                block.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
            };
            let data = serde_json::from_str(&field("data").expect("data")).expect("JSON");
            (field("event").expect("an event"), data, field("id"))
        })
        .collect()
}

/// Server-sent events: lines, changes of state, the end; whoever comes back with the last id misses nothing.
#[tokio::test]
async fn events_go_on_where_they_broke_off() {
    let book = Book::new();
    let routes = router(&book);
    let id = id_of(&ask(&routes, "POST /api/runs", json!({"job": "nightly"})).await.1);
    let line = format!("GET /api/runs/{id}/events");
    let response = send(&routes, request(&line, &[], "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let mut read = String::new();
    let mut until = async |part: &str| {
        while !read.contains(part) {
            let data = body.next().await.expect("more").expect("whole");
            read.push_str(std::str::from_utf8(&data).expect("UTF-8"));
        }
        read.clone()
    };
    until("queued").await;
    book.moves(&id, State::Running, None);
    until("running").await;
    book.says(&id, &lines(0));
    let first = events(&until("id: 0000").await);
    let short: Vec<&str> = first.iter().map(|(event, ..)| event.as_str()).collect();
    assert_eq!(short, ["state", "state", "line", "line"]);
    assert_eq!(first[3].1["event"]["task"], json!("line 2\ndata: forged"), "a line's end in a value is no line's end");
    assert_eq!((first[2].2.as_deref(), first[3].2.as_deref()), (None, Some("0000")));
    drop(body);
    book.says(&id, &lines(1));
    book.moves(&id, State::Failed, recap());
    for (headers, query) in [(&[("last-event-id", "0000")][..], ""), (&[], "?after=0000")] {
        let rest = text(send(&routes, request(&format!("{line}{query}"), headers, "")).await).await.1;
        let rest = events(&rest);
        let short: Vec<&str> = rest.iter().map(|(event, ..)| event.as_str()).collect();
        assert_eq!(short, ["line", "line", "state", "end"]);
        assert_eq!(rest[0].1["line"], json!("line 1"));
        assert_eq!(rest[3].1["result"]["recap"]["db1"]["failures"], json!(1));
    }
}

/// Followers are bounded, and one that goes makes room.
#[tokio::test]
async fn followers_are_bounded() {
    let book = Book::new();
    let routes = router(&book);
    let id = id_of(&ask(&routes, "POST /api/runs", json!({"job": "nightly"})).await.1);
    let follow = format!("GET /api/runs/{id}/events");
    let mut open = Vec::new();
    let full = loop {
        let response = send(&routes, request(&follow, &[], "")).await;
        if response.status() != StatusCode::OK {
            break response;
        }
        open.push(response);
    };
    assert_eq!((open.len(), full.status()), (512, StatusCode::SERVICE_UNAVAILABLE));
    open.pop();
    // The task behind it ends when it sees that nobody reads.
    while send(&routes, request(&follow, &[], "")).await.status() != StatusCode::OK {
        tokio::task::yield_now().await;
    }
}

fn sign(secret: &str, body: &str) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), body.as_bytes());
    let hex: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

/// A webhook starts its job once a delivery, with those fields that are its parameters; GitHub's own example signs the same.
#[tokio::test]
async fn webhooks_start_jobs() {
    // Source: GitHub, "Validating webhook deliveries", "Testing the webhook payload validation".
    assert_eq!(
        sign("It's a Secret to Everybody", "Hello, World!"),
        "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    );
    let book = Book::new();
    let routes = router(&book);
    let body =
        json!({"ref": "refs/heads/$(reboot)", "action": null, "repository": {"id": 1}, "job": "nightly"}).to_string();
    let signature = sign(SECRET, &body);
    let hook = async |extra: &[(&str, &str)]| {
        let mut headers = vec![("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
        headers.extend(extra);
        // By whatever name it is asked for: it is signed.
        headers.push(("host", "hooks.example.org"));
        text(send(&routes, request("POST /api/hooks/hooked", &headers, body.clone())).await).await
    };
    let (status, first) = hook(&[("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")]).await;
    assert_eq!(status, 200, "{first}");
    let again = hook(&[("x-github-delivery", "72d3162e-cc78-11e3-81ab-4c9367dc0958")]).await;
    assert_eq!(again, (200, first.clone()), "a redelivery starts nothing");
    assert_ne!(hook(&[("idempotency-key", "other")]).await.1, first);
    assert_eq!(hook(&[("x-github-event", "ping")]).await, (204, String::new()));
    assert_eq!(hook(&[("x-github-delivery", "")]).await.0, 400);
    let runs = book.all();
    assert_eq!(runs.len(), 2);
    assert_eq!(runs[0].order.answers["ref"], json!("refs/heads/$(reboot)"));
    assert_eq!((runs[0].order.by.as_str(), runs[0].order.job.as_str()), ("webhook", "hooked"));
}

/// What is not signed rightly is refused, with the same answer whether or not there is such a job; nothing starts.
#[tokio::test]
async fn webhooks_that_are_not_signed() {
    let book = Book::new();
    let routes = router(&book);
    let body = "{}";
    let right = sign(SECRET, body);
    let upper = right.to_uppercase().replace("SHA256", "sha256");
    let cut = &right[..right.len() - 2];
    let sha1 = right.replace("sha256=", "sha1=");
    let mut answers = Vec::new();
    for (job, signature) in [
        ("hooked", Some(sign("wrong", body))),
        ("hooked", Some(sign(SECRET, "{ }"))),
        ("hooked", Some(sign("", body))),
        ("hooked", Some(cut.to_owned())),
        ("hooked", Some(sha1)),
        ("hooked", Some(format!("{right}00"))),
        ("hooked", Some("sha256=".to_owned() + &"zz".repeat(32))),
        ("hooked", None),
        ("nightly", Some(right.clone())),
        ("unheard-of", Some(right.clone())),
        ("unheard-of", Some(sign(&"\0".repeat(32), body))),
        ("empty", Some(sign("", body))),
        ("broken", Some(right.clone())),
        ("..%2f..%2fetc", Some(right.clone())),
    ] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(signature.as_deref().map(|signature| ("x-hub-signature-256", signature)));
        let response = send(&routes, request(&format!("POST /api/hooks/{job}"), &headers, body)).await;
        let answer = text(response).await;
        assert_eq!(answer.0, 403, "{job} {signature:?}: {answer:?}");
        answers.push(answer);
    }
    answers.dedup();
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(book.all().is_empty());
    let headers = [("content-type", "application/json"), ("x-hub-signature-256", upper.as_str())];
    assert_eq!(send(&routes, request("POST /api/hooks/hooked", &headers, body)).await.status(), 200);
    let form = [("content-type", "application/x-www-form-urlencoded"), ("x-hub-signature-256", right.as_str())];
    assert_eq!(send(&routes, request("POST /api/hooks/hooked", &form, body)).await.status(), 400);
    let large = "x".repeat((4 << 20) + 1);
    let headers = [("content-type", "application/json"), ("x-hub-signature-256", right.as_str())];
    assert_eq!(send(&routes, request("POST /api/hooks/hooked", &headers, large)).await.status(), 413);
    for body in ["[]", "x", ""] {
        let signature = sign(SECRET, body);
        let headers = [("content-type", "application/json"), ("x-hub-signature-256", signature.as_str())];
        assert_eq!(send(&routes, request("POST /api/hooks/hooked", &headers, body)).await.status(), 400, "{body}");
    }
    assert_eq!((book.all().len(), name("hooked")), (1, book.all()[0].order.job.clone()));
}
