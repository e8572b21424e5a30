//! Jinja: the engine's settings, and what its sources find in their names.

use super::budget::{Page, STEPS_MAX};
use super::context::{Context, Member};
use super::error::{Place, RenderError, hint};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Enumerator, Object, ObjectRepr, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior};
use std::sync::Arc;

/// Names that a source finds without setting them.
const ROOT_NAMES: [&str; 4] = ["services", "vars", "cluster", "node"];

/// Checks the syntax, and nothing that depends on values.
pub(super) fn validate(name: &str, text: &str) -> Result<(), RenderError> {
    environment()
        .template_from_named_str(name, text)
        .map(drop)
        .map_err(|error| describe(name, text, &error, |place, message| RenderError::Syntax { place, message }))
}

/// Renders one source.
pub(super) fn render(name: &str, text: &str, context: &Arc<Context>) -> Result<String, RenderError> {
    let mut environment = environment();
    functions(&mut environment, context);
    let template = environment
        .template_from_named_str(name, text)
        .map_err(|error| describe(name, text, &error, |place, message| RenderError::Syntax { place, message }))?;
    let mut page = Page::default();
    let result = template
        .render_captured_to(Value::from_object(Root(context.clone())), &mut page)
        .map(drop)
        .map_err(|error| describe(name, text, &error, |place, message| RenderError::Evaluation { place, message }));
    page.finish(name, result)
}

/// The engine as every source gets it: nothing is escaped, what is undefined is an error, lines that hold only a
/// block leave nothing behind, and the last newline stays (HAProxy refuses a file without it).
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are valid"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(STEPS_MAX));
    environment.set_debug(true);
    environment
}

fn functions(environment: &mut Environment<'_>, context: &Arc<Context>) {
    let shared = context.clone();
    environment.add_function("env", move |name: &str, default: Option<&str>| {
        match (shared.environment(name), default) {
            (Some(value), _) => Ok(value.to_owned()),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(refused(format!(
                "the agent's environment has no `{name}`: set it, or give a default, as env(\"{name}\", \"…\")"
            ))),
        }
    });
    let shared = context.clone();
    environment
        .add_function("getv", move |key: &str, default: Option<&str>| shared.value_or(key, default).map_err(refused));
    let shared = context.clone();
    environment.add_function("gets", move |path: &str| {
        let pairs = if super::glob::is_pattern(path) { shared.pairs(path) } else { shared.folder(path) };
        let pair = |(key, value): (String, String)| Value::from_pairs([("key", key), ("value", value)]);
        Ok::<_, Error>(pairs.map_err(refused)?.into_iter().map(pair).collect::<Vec<Value>>())
    });
    let shared = context.clone();
    environment.add_function("exists", move |key: &str| shared.exists(key).map_err(refused));
    let shared = context.clone();
    environment.add_function("ls", move |path: &str| shared.list(path).map_err(refused));
}

fn refused(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// The names at the top: looked up one by one, so that only what is read counts as read.
#[derive(Debug)]
struct Root(Arc<Context>);

impl Object for Root {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "services" => Some(Value::from_object(Services(self.0.clone()))),
            "vars" => Some(Value::from(minijinja::value::Serde(self.0.vars()))),
            "cluster" => Some(Value::from(self.0.cluster())),
            "node" => Some(Value::from_object(Node(self.0.clone()))),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&ROOT_NAMES)
    }
}

/// `services`: a map from name to endpoints.
#[derive(Debug)]
struct Services(Arc<Context>);

impl Object for Services {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match self.0.service(key) {
            Ok(members) => Value::from_object(Members(members)),
            Err(message) => Value::from(Error::new(ErrorKind::UndefinedError, message)),
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        let names = self.0.services();
        Enumerator::Values(names.into_iter().map(|name| Value::from(name.as_str())).collect())
    }
}

/// The endpoints of one service.
#[derive(Debug)]
struct Members(Arc<[Member]>);

impl Object for Members {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Seq
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.get(key.as_usize()?).map(|member| Value::from_object(member.clone()))
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Seq(self.0.len())
    }
}

impl Object for Member {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        Some(match key {
            "id" | "name" | "instance" => Value::from(self.id.to_string()),
            "node" => Value::from(self.endpoint.node.as_str()),
            "address" => Value::from(self.endpoint.address.as_str()),
            "port" => Value::from(self.endpoint.port),
            "tags" => self.tags().iter().map(String::as_str).collect(),
            _ => return None,
        })
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["id", "name", "instance", "node", "address", "port", "tags"])
    }
}

/// `node`: where this is rendered.
#[derive(Debug)]
struct Node(Arc<Context>);

impl Object for Node {
    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.get_value_by_str(key.as_str()?)
    }

    fn get_value_by_str(self: &Arc<Self>, key: &str) -> Option<Value> {
        match key {
            "name" => Some(Value::from(self.0.node().as_str())),
            "address" => Some(Value::from(self.0.address())),
            _ => None,
        }
    }

    fn enumerate(self: &Arc<Self>) -> Enumerator {
        Enumerator::Str(&["name", "address"])
    }
}

/// Turns an error of the engine into ours: where, what, and a name that was perhaps meant.
fn describe(name: &str, text: &str, error: &Error, make: impl FnOnce(Place, String) -> RenderError) -> RenderError {
    let place = match error.range() {
        Some(range) if error.line().is_some() => Place { line: error.line(), ..Place::at(name, text, range.start) },
        _ => Place { line: error.line(), ..Place::file(name) },
    };
    let mut message = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it takes more than {STEPS_MAX} steps: the source does not end"),
        (_, Some(detail)) => detail.to_owned(),
        (kind, None) => kind.to_string(),
    };
    // The engine names what is undefined in backticks, where it knows.
    if let Some(asked) = message.strip_suffix("` is undefined").and_then(|named| named.strip_prefix('`')) {
        let hint = meant(asked);
        message.push_str(&hint);
    }
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    make(place, message)
}

/// A name that is known and close to the last part of what was asked for.
fn meant(asked: &str) -> String {
    let fields = ["name", "address", "id", "instance", "node", "port", "tags"];
    match asked.rsplit_once('.') {
        Some(("vars", _)) => String::new(),
        Some((_, field)) => hint(field, fields),
        None => hint(asked, ROOT_NAMES),
    }
}
