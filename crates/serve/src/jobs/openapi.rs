//! The routes of jobs as an OpenAPI document, made from the table that the router is made from.
//!
//! Source: OpenAPI 3.1.0, whose schemas are JSON Schema, draft 2020-12.

use super::route::{Body, JSON, Route, Shape, Talk};
use crate::wire::{Refusal, RefusalKind};
use axum::http::Method;
use regrow_model::{Name, RunId};
use schemars::generate::SchemaSettings;
use schemars::{Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

/// The interface's version: counted up when something is taken away from it.
const VERSION: &str = "1";

/// Refusals of every route: the checks in front of it, and the queue behind it.
const OF_ALL: [RefusalKind; 2] = [RefusalKind::Usage, RefusalKind::Unavailable];
/// Refusals of every route that is not signed.
const OF_THE_GUARD: [RefusalKind; 2] = [RefusalKind::Unauthenticated, RefusalKind::Denied];

/// Makes the document.
pub(super) fn document(routes: &[Route]) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut maker = Maker {
        requests: settings.clone().for_deserialize().into_generator(),
        answers: settings.for_serialize().into_generator(),
    };
    let mut paths = Map::new();
    for route in routes {
        let operation = maker.operation(route);
        paths.entry(route.path).or_insert_with(|| json!({}))[route.method.as_str().to_lowercase()] = operation;
    }
    let refusal = maker.answers.subschema_for::<Refusal>();
    let mut schemas = maker.answers.take_definitions(true);
    schemas.extend(maker.requests.take_definitions(true));
    schemas.sort_keys();
    let content = json!({JSON: {"schema": refusal}});
    let refusals: Map<String, Value> = RefusalKind::ALL
        .into_iter()
        .map(|kind| (format!("{kind:?}"), json!({"description": kind.what(), "content": content})))
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Regrow: jobs",
            "version": VERSION,
            "description": "Jobs, and the durable queue of their runs. Every agent serves it, by default at \
                            http://127.0.0.1:8500; without TLS it is asked for by an address or `localhost`.",
        },
        "security": [{"token": []}, {"certificate": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "One that `regrow token create` made."},
                "certificate": {"type": "mutualTLS", "description": "One that the cluster's authority signed."},
            },
            "responses": refusals,
            "schemas": schemas,
        },
    })
}

/// What is sent and what is answered have schemas of their own: a field that may be left out of the one is always in the other.
struct Maker {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Maker {
    fn operation(&mut self, route: &Route) -> Value {
        let talk = &route.talk;
        let mut operation = Map::new();
        let words = route.path.split(['/', '{', '}', '.']).filter(|word| !matches!(*word, "" | "api"));
        let id = words.fold(route.method.as_str().to_lowercase(), |id, word| format!("{id}_{word}"));
        let tag = if route.path.starts_with("/ansible/") { "ansible" } else { "jobs" };
        operation.insert("operationId".to_owned(), id.replace('-', "_").into());
        operation.insert("tags".to_owned(), json!([tag]));
        operation.insert("summary".to_owned(), route.what.into());
        if talk.is_signed {
            operation.insert("security".to_owned(), json!([]));
        }
        let parameters = self.parameters(route);
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        // What changes something has to come as JSON, even where there is nothing to send.
        let nothing = Body { kinds: &[JSON], is_required: true, shape: Shape::Empty };
        let body = talk.body.as_ref().or((route.method == Method::POST).then_some(&nothing));
        if let Some(Body { kinds, is_required, shape }) = body {
            let schema = made(&mut self.requests, *shape);
            let content: Map<String, Value> =
                kinds.iter().map(|kind| ((*kind).to_owned(), json!({"schema": schema}))).collect();
            operation.insert("requestBody".to_owned(), json!({"required": is_required, "content": content}));
        }
        operation.insert("responses".to_owned(), self.responses(talk).into());
        operation.into()
    }

    fn parameters(&mut self, route: &Route) -> Vec<Value> {
        let mut parameters = Vec::new();
        for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            let schema = match name {
                "id" => self.requests.subschema_for::<RunId>(),
                _ => self.requests.subschema_for::<Name>(),
            };
            parameters.push(json!({"name": name, "in": "path", "required": true, "schema": schema}));
        }
        let query = route.talk.query.map(|shape| made(&mut self.requests, shape).to_value()).unwrap_or_default();
        let is_required =
            |name: &str| query["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            let mut schema = given(schema);
            let what = schema.as_object_mut().and_then(|schema| schema.remove("description"));
            let mut parameter = json!({"name": name, "in": "query", "required": is_required(name)});
            if let Some(what) = what {
                parameter["description"] = what;
            }
            parameter["schema"] = schema;
            parameters.push(parameter);
        }
        for header in &route.talk.headers {
            let schema = json!({"type": "string"});
            let (name, is_required, what) = (header.name, header.is_required, header.what);
            parameters.push(json!({
                "name": name, "in": "header", "required": is_required, "description": what, "schema": schema,
            }));
        }
        parameters
    }

    fn responses(&mut self, talk: &Talk) -> Map<String, Value> {
        let mut responses = Map::new();
        for answer in &talk.answers {
            let status = answer.status.as_str().to_owned();
            let response = responses.entry(status).or_insert_with(|| json!({"description": "It is done."}));
            if !matches!(answer.shape, Shape::Empty) {
                response["content"][answer.kind] = json!({"schema": made(&mut self.answers, answer.shape)});
            }
        }
        let guard = if talk.is_signed { &[][..] } else { &OF_THE_GUARD };
        for kind in OF_ALL.iter().chain(guard).chain(talk.refusals) {
            let shared = json!({"$ref": format!("#/components/responses/{kind:?}")});
            responses.insert(kind.status().as_str().to_owned(), shared);
        }
        if talk.body.is_some() {
            responses.insert("413".to_owned(), json!({"description": "The body is larger than is taken."}));
        }
        responses.sort_keys();
        responses
    }
}

fn made(generator: &mut SchemaGenerator, shape: Shape) -> Schema {
    match shape {
        Shape::Of(schema) => schema(generator),
        Shape::Fields(fields) => {
            let properties: Map<String, Value> =
                fields.iter().map(|field| ((*field).to_owned(), json!({"type": "string"}))).collect();
            schemars::json_schema!({"type": "object", "properties": properties, "additionalProperties": false})
        }
        Shape::Empty => schemars::json_schema!({"type": "object", "description": "Nothing: send `{}`."}),
    }
}

/// The schema of a parameter that is given: in a query there is no null, only what is left out.
fn given(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(fields) = schema.as_object_mut() else { return schema };
    fields.retain(|name, value| name != "default" || !value.is_null());
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|one| one != "null");
        if let [one] = &types[..] {
            let one = one.clone();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(mut all)) = fields.remove("anyOf") {
        all.retain(|one| one["type"] != "null");
        match all.pop() {
            Some(Value::Object(one)) if all.is_empty() => fields.extend(one),
            last => {
                all.extend(last);
                fields.insert("anyOf".to_owned(), all.into());
            }
        }
    }
    schema
}
