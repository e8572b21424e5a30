//! The OpenAPI document: it is the committed one, all that it names is answered, and as it says.

use crate::book::{Book, SECRET};
use crate::{events, id_of, lines, recap, request, router, send, sign, text};
use axum::Router;
use regex::Regex;
use regrow_model::run::State;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

async fn document(routes: &Router) -> String {
    let (status, text) = text(send(routes, request("GET /api/openapi.json", &[], "")).await).await;
    assert_eq!(status, 200, "{text}");
    text
}

/// The committed document is the one that the types make.
#[tokio::test]
async fn document_is_committed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi.json");
    let now = document(&router(&Book::new())).await;
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    if now != committed {
        if std::env::var("REGROW_UPDATE").is_ok() {
            std::fs::write(&path, now).expect("written");
        } else {
            panic!("{} is not what the types make: REGROW_UPDATE=1 writes it", path.display());
        }
    }
}

/// What there is to read has words, none of them for readers of Rust.
#[tokio::test]
async fn every_key_is_documented() {
    let text = document(&router(&Book::new())).await;
    assert!(!text.contains("[`"), "a link of rustdoc's");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut undocumented = Vec::new();
    for (name, schema) in document["components"]["schemas"].as_object().expect("schemas") {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            if value["description"].as_str().is_none_or(str::is_empty) {
                undocumented.push(format!("{name}.{key}"));
            }
        }
    }
    assert!(undocumented.is_empty(), "{undocumented:?}");
}

/// A JSON value against a schema: of JSON Schema what the document uses, and a panic at anything else.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {value} against {schema}"));
    let Some(schema_of) = schema.as_object() else {
        return if schema == &json!(true) { Ok(()) } else { wrong("nothing fits") };
    };
    let each = |all: &Value| -> usize {
        all.as_array().expect("schemas").iter().filter(|one| fits(document, one, value).is_ok()).count()
    };
    let named: BTreeSet<&str> = schema_of.get("properties").map(keys).unwrap_or_default();
    let patterns: Vec<(Regex, &Value)> = schema["patternProperties"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(pattern, schema)| (Regex::new(pattern).expect("a pattern"), schema))
        .collect();
    for (word, of) in schema_of {
        let holds = match word.as_str() {
            "$ref" => {
                let at = of.as_str().and_then(|at| at.strip_prefix('#')).expect("a place");
                fits(document, document.pointer(at).unwrap_or_else(|| panic!("{at} leads nowhere")), value)?;
                true
            }
            "type" => {
                let types = of.as_array().cloned().unwrap_or_else(|| vec![of.clone()]);
                types.iter().any(|one| match one.as_str().expect("a type") {
                    "integer" => value.is_i64() || value.is_u64(),
                    "number" => value.is_number(),
                    "string" => value.is_string(),
                    "boolean" => value.is_boolean(),
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "null" => value.is_null(),
                    other => panic!("no type: {other}"),
                })
            }
            "enum" => of.as_array().is_some_and(|all| all.contains(value)),
            "const" => of == value,
            "anyOf" => each(of) > 0,
            "oneOf" => each(of) == 1,
            "minimum" => value.as_f64().is_none_or(|value| value >= of.as_f64().expect("a number")),
            "maximum" => value.as_f64().is_none_or(|value| value <= of.as_f64().expect("a number")),
            "pattern" => {
                let pattern = Regex::new(of.as_str().expect("a pattern")).expect("a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "required" => {
                let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                !value.is_object() || of.as_array().is_some_and(|all| all.iter().all(has))
            }
            "properties" => {
                for (name, schema) in of.as_object().expect("properties") {
                    value.get(name).map_or(Ok(()), |value| fits(document, schema, value))?;
                }
                true
            }
            "additionalProperties" | "unevaluatedProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    if !named.contains(name.as_str()) && !patterns.iter().any(|(pattern, _)| pattern.is_match(name)) {
                        fits(document, of, value).map_err(|error| format!("{name}: {error}"))?;
                    }
                }
                true
            }
            "patternProperties" => {
                for (name, value) in value.as_object().into_iter().flatten() {
                    let mut all = patterns.iter().filter(|(pattern, _)| pattern.is_match(name));
                    all.try_for_each(|(_, schema)| fits(document, schema, value))?;
                }
                true
            }
            "items" => {
                value.as_array().into_iter().flatten().try_for_each(|item| fits(document, of, item))?;
                true
            }
            "description" | "default" | "format" | "title" | "x-events" => true,
            other => panic!("this test does not know `{other}`: {schema}"),
        };
        if !holds {
            return wrong(word);
        }
    }
    Ok(())
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect()
}

/// A client that knows nothing but the document.
struct Reader {
    routes: Router,
    document: Value,
    /// Operations that were answered with 2xx.
    done: RefCell<BTreeSet<String>>,
}

impl Reader {
    async fn new(book: &std::sync::Arc<Book>) -> Reader {
        let routes = router(book);
        let document = serde_json::from_str(&document(&routes).await).expect("JSON");
        Reader { routes, document, done: RefCell::default() }
    }

    /// Every operation as `METHOD /path/{parameter}`.
    fn operations(&self) -> BTreeSet<String> {
        let paths = self.document["paths"].as_object().expect("paths");
        let all = paths.iter().flat_map(|(path, item)| {
            keys(item).into_iter().map(move |method| format!("{} {path}", method.to_uppercase()))
        });
        all.collect()
    }

    fn fits(&self, schema: &Value, value: &Value, line: &str) {
        fits(&self.document, schema, value).unwrap_or_else(|error| panic!("{line}: {error}"));
    }

    /// Sends an operation with its one parameter of the path, and checks that all of the answer is as the document says.
    async fn ask(&self, operation: &str, part: &str, query: &str, headers: &[(&str, &str)], body: &Value) -> Value {
        let (method, template) = operation.split_once(' ').expect("a method and a path");
        let told = &self.document["paths"][template][method.to_lowercase()];
        assert!(told.is_object(), "{operation} is not in the document");
        let (before, behind) = template.split_once('{').unwrap_or((template, "}"));
        let (parameter, behind) = behind.split_once('}').expect("a whole parameter");
        let path = if parameter.is_empty() { template.to_owned() } else { format!("{before}{part}{behind}") };
        let line = format!("{method} {path}{query}");
        self.sent(told, &line, query, parameter, body);
        let mut headers = headers.to_vec();
        if !told["requestBody"].is_null() {
            headers.push(("content-type", "application/json"));
        }
        let sent = if told["requestBody"].is_null() { String::new() } else { body.to_string() };
        let response = send(&self.routes, request(&line, &headers, sent)).await;
        let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().to_owned();
        let (status, answer) = text(response).await;
        let mut answered = &told["responses"][status.to_string()];
        assert!(answered.is_object(), "{line} answers {status}, of which the document does not know: {answer}");
        if let Some(shared) = answered["$ref"].as_str().and_then(|at| at.strip_prefix('#')) {
            answered = self.document.pointer(shared).expect("a shared answer");
        }
        if (200..300).contains(&status) {
            self.done.borrow_mut().insert(operation.to_owned());
        }
        let schema = &answered["content"][&kind]["schema"];
        assert!(!schema.is_null() || answer.is_empty(), "{line} answers {status} with {kind:?}: {answered}");
        self.received(schema, &kind, &answer, &line)
    }

    /// What is sent is what the document would have one send.
    fn sent(&self, told: &Value, line: &str, query: &str, parameter: &str, body: &Value) {
        let parameters: Vec<&Value> = told["parameters"].as_array().into_iter().flatten().collect();
        let of = |place: &str| -> BTreeSet<&str> {
            let here = parameters.iter().filter(|one| one["in"] == place);
            here.map(|one| one["name"].as_str().expect("a name")).collect()
        };
        assert_eq!(of("path").into_iter().collect::<String>(), parameter, "{line}");
        let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
        let given: BTreeSet<&str> = pairs.map(|(name, _)| name).collect();
        assert!(given.is_subset(&of("query")), "{line}: the document has {:?}", of("query"));
        if let Some(schema) = told["requestBody"]["content"].get("application/json") {
            self.fits(&schema["schema"], body, line);
        }
    }

    fn received(&self, schema: &Value, kind: &str, answer: &str, line: &str) -> Value {
        match kind {
            "application/json" => {
                let answer = serde_json::from_str(answer).expect("JSON");
                self.fits(schema, &answer, line);
                answer
            }
            "application/x-ndjson" => {
                let lines = answer.lines().map(|line| serde_json::from_str(line).expect("JSON"));
                let lines: Vec<Value> = lines.inspect(|one| self.fits(schema, one, line)).collect();
                lines.into()
            }
            "text/event-stream" => {
                let events = events(answer);
                for (event, data, _) in &events {
                    self.fits(&schema["x-events"][event], data, line);
                }
                events.into_iter().map(|(event, ..)| event).collect()
            }
            _ => {
                if !answer.is_empty() {
                    self.fits(schema, &json!(answer), line);
                }
                answer.into()
            }
        }
    }
}

/// Every operation of the document is one of the router's, and refuses with what the document says.
#[tokio::test]
async fn every_operation_is_answered() {
    let reader = Reader::new(&Book::new()).await;
    for operation in reader.operations() {
        let body = if operation == "POST /api/runs" { json!({"job": "unheard-of"}) } else { json!({}) };
        let part = if operation.contains("{id}") { "0123456789abcdef" } else { "unheard-of" };
        let answer = reader.ask(&operation, part, "", &[], &body).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(!error.starts_with("there is no /"), "{operation} is not answered: {answer}");
    }
}

/// The life of runs as the document tells it: every operation succeeds, and each answer fits its schema.
#[tokio::test]
async fn every_answer_fits() {
    let book = Book::new();
    let reader = Reader::new(&book).await;
    let (none, empty) = (&[][..], &json!({}));
    let get = async |operation: &str, part: &str, query: &str| reader.ask(operation, part, query, none, empty).await;
    get("GET /api/openapi.json", "", "").await;
    for job in get("GET /api/jobs", "", "").await.as_object().map(Map::keys).expect("jobs") {
        get("GET /api/jobs/{name}", job, "").await;
    }
    get("GET /api/schedules", "", "").await;
    get("GET /api/workers", "", "").await;
    let wish = json!({
        "job": "ansible-role", "parameters": {"host": "web1", "role": "nginx"}, "priority": 9, "at": 1, "delay_seconds": 1,
        "deadline": 1_900_000_000_000_u64, "limit": ["web1"], "key": "once",
    });
    let id = id_of(&reader.ask("POST /api/runs", "", "", none, &wish).await);
    let part = id.as_str();
    get("GET /api/runs/{id}", part, "").await;
    book.moves(&id, State::Running, None);
    assert_eq!(get("GET /ansible/results/{id}", part, "").await, "waiting");
    book.says(&id, &lines(0));
    book.moves(&id, State::Failed, recap());
    get("GET /api/runs/{id}", part, "").await;
    get("GET /ansible/results/{id}", part, "").await;
    assert_eq!(get("GET /api/runs", "", "?job=ansible-role&state=failed&ended=true&limit=1").await[0]["id"], part);
    assert_eq!(get("GET /api/runs/{id}/log", part, "?follow=true&after=").await["kind"], "usage");
    assert_eq!(get("GET /api/runs/{id}/log", part, "?follow=true").await.as_array().map(Vec::len), Some(2));
    assert_eq!(get("GET /api/runs/{id}/events", part, "?after=").await, json!(["line", "line", "state", "end"]));
    book.says(&id, &[super::artefacts::piece("report", 4, 0, b"text")]);
    assert_eq!(get("GET /api/runs/{id}/artefacts", part, "").await[0]["name"], "report");
    assert_eq!(get("GET /api/runs/{id}/artefact", part, "?name=report").await, "text");
    let again = reader.ask("POST /api/runs/{id}/retry", part, "", none, &json!({"failed_hosts": true})).await;
    reader.ask("POST /api/runs/{id}/cancel", id_of(&again).as_str(), "", none, empty).await;
    let signature = sign(SECRET, "{}");
    let signed = [("x-hub-signature-256", signature.as_str()), ("x-github-delivery", "1")];
    reader.ask("POST /api/hooks/{job}", "hooked", "", &signed, empty).await;
    let ping = [("x-hub-signature-256", signature.as_str()), ("x-github-event", "ping")];
    reader.ask("POST /api/hooks/{job}", "hooked", "", &ping, empty).await;
    for (path, fields) in [
        ("role", json!({"host": "web1", "role": "nginx", "env": "staging"})),
        ("update-code", json!({"tags": "web", "env": "staging"})),
        ("set_eip", json!({"instance_id": "i-1", "role": "nginx", "env": "staging"})),
    ] {
        reader.ask(&format!("POST /ansible/{path}/"), "", "", none, &fields).await;
    }
    let id = get("GET /ansible/adhoc/", "", "?host=web1&mod=ping&args=").await;
    assert_eq!(get("GET /ansible/results/{id}", id.as_str().expect("an id"), "").await, "in-queue");
    assert_eq!(*reader.done.borrow(), reader.operations());
}
