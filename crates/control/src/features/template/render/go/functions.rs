//! The functions of a Go source: confd's, the services, and the engine's own that build text, bounded.
//! Source: confd's `docs/templates.md` and `resource/template/template_funcs.go`; Go's packages strings, strconv, path.

use super::super::context::{Context, Member};
use super::super::error::hint;
use super::super::glob;
use super::{text, time};
use gotmpl::{FuncMap, Result, TemplateError, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Pays for a run of a named template. No source can name it.
pub(super) const STEP: &str = "\0step";

/// Steps that one call takes, of a function or of a named template: it is that much dearer than an iteration.
pub(super) const CALL_STEPS: u64 = 10;

/// Begins the names of functions that note a place. No source can name them.
pub(super) const PLACE: &str = "\0place";

/// The engine's own functions.
const ENGINE: [&str; 17] = [
    "and", "call", "eq", "ge", "gt", "html", "index", "js", "le", "len", "lt", "ne", "not", "or", "print", "printf",
    "println",
];

/// The engine's own functions, the rest.
const ENGINE_MORE: [&str; 2] = ["slice", "urlquery"];

/// Ours, with the fewest and the most arguments.
const OURS: [(&str, usize, usize); 42] = [
    ("add", 2, 2),
    ("atoi", 1, 1),
    ("base", 1, 1),
    ("base64Decode", 1, 1),
    ("base64Encode", 1, 1),
    ("contains", 2, 2),
    ("datetime", 0, 0),
    (time::FORMAT, 1, 1),
    (time::UNIX, 0, 0),
    (time::UTC, 0, 0),
    ("dir", 1, 1),
    ("div", 2, 2),
    ("exists", 1, 1),
    ("get", 1, 1),
    ("getenv", 1, 2),
    ("gets", 1, 1),
    ("getv", 1, 2),
    ("getvs", 1, 1),
    ("join", 2, 2),
    ("json", 1, 1),
    ("jsonArray", 1, 1),
    ("ls", 1, 1),
    ("lsdir", 1, 1),
    ("map", 0, usize::MAX),
    ("mod", 2, 2),
    ("mul", 2, 2),
    ("parseBool", 1, 1),
    ("replace", 4, 4),
    ("reverse", 1, 1),
    ("seq", 2, 2),
    ("service", 1, 1),
    ("services", 0, 0),
    ("sortByLength", 1, 1),
    ("sortKVByLength", 1, 1),
    ("split", 2, 2),
    ("sub", 2, 2),
    ("toLower", 1, 1),
    ("toUpper", 1, 1),
    ("trimSuffix", 2, 2),
    ("cluster", 0, 0),
    ("node", 0, 0),
    ("vars", 0, 0),
];

/// confd's functions that are left out, and why.
const LEFT_OUT: [(&str, &str); 7] = [
    ("lookupIP", "it asks the DNS while rendering"),
    ("lookupSRV", "it asks the DNS while rendering"),
    ("fileExists", "it looks at the node's files while rendering"),
    ("cget", "values are not encrypted in the store"),
    ("cgets", "values are not encrypted in the store"),
    ("cgetv", "values are not encrypted in the store"),
    ("cgetvs", "values are not encrypted in the store"),
];

/// Whether a function is there; else why not, or which was perhaps meant.
pub(super) fn known(name: &str) -> std::result::Result<(), String> {
    let engine = ENGINE.iter().chain(&ENGINE_MORE);
    let ours = OURS.iter().map(|(name, ..)| name);
    if engine.clone().chain(ours.clone()).any(|known| *known == name) {
        return Ok(());
    }
    if let Some((_, why)) = LEFT_OUT.iter().find(|(left_out, _)| *left_out == name) {
        return Err(format!(
            "`{name}` is left out of confd's functions: {why}, so equal inputs could render unequally"
        ));
    }
    let hint = hint(name, engine.chain(ours).copied());
    Err(format!("no function is called `{name}`{hint}"))
}

/// The function that stands for a method of `datetime`.
pub(super) fn time_method(method: &str) -> String {
    format!("datetime.{method}")
}

/// The table for one rendering.
pub(super) fn table(context: &Arc<Context>) -> FuncMap {
    let mut table = FuncMap::new();
    for (name, fewest, most) in OURS {
        let context = context.clone();
        let function = move |args: &[Value]| {
            if args.len() < fewest || args.len() > most {
                return Err(fault(format!("{name} takes {}, not {}", arity(fewest, most), args.len())));
            }
            context.budget.step(CALL_STEPS).map_err(fault)?;
            call(&context, name, args).map_err(|message| fault(format!("{name}: {message}")))
        };
        table.insert(name.to_owned(), Arc::new(function));
    }
    let shared = context.clone();
    table.insert(
        STEP.to_owned(),
        Arc::new(move |_: &[Value]| {
            shared.budget.step(CALL_STEPS).map_err(fault)?;
            Ok(Value::String("".into()))
        }),
    );
    text::bounded(&mut table, context);
    table
}

fn arity(fewest: usize, most: usize) -> String {
    match (fewest, most) {
        (1, 1) => "1 argument".to_owned(),
        (fewest, most) if fewest == most => format!("{fewest} arguments"),
        (fewest, usize::MAX) => format!("at least {fewest} arguments"),
        (fewest, most) => format!("{fewest} to {most} arguments"),
    }
}

pub(super) fn fault(message: String) -> TemplateError {
    TemplateError::Exec(message)
}

type Answer = std::result::Result<Value, String>;

fn call(context: &Context, name: &str, args: &[Value]) -> Answer {
    let string = |at: usize| string(args, at);
    let int = |at: usize| int(args, at);
    Ok(match name {
        "get" => pair((string(0)?.to_owned(), context.value_or(string(0)?, None)?)),
        "getv" => text(context.value_or(string(0)?, args.get(1).map(|_| string(1)).transpose()?)?),
        "gets" => all(context.pairs(string(0)?)?.into_iter().map(pair)),
        "getvs" => {
            // confd sorts the values themselves, not by their keys.
            let mut values: Vec<String> = context.pairs(string(0)?)?.into_iter().map(|(_, value)| value).collect();
            values.sort();
            all(values.into_iter().map(text))
        }
        "exists" => Value::Bool(context.exists(string(0)?)?),
        "ls" => all(context.list(string(0)?)?.into_iter().map(text)),
        "lsdir" => all(context.list_folders(string(0)?)?.into_iter().map(text)),
        "getenv" => {
            let default = args.get(1).map(|_| string(1)).transpose()?.unwrap_or("");
            // An empty variable counts as missing, as with confd.
            text(context.environment(string(0)?).filter(|value| !value.is_empty()).unwrap_or(default))
        }
        "service" => all(context.service(string(0)?)?.iter().map(member)),
        "services" => all(context.services().iter().map(|name| text(name.as_str()))),
        "cluster" => text(context.cluster()),
        "node" => map([("Name", text(context.node().as_str())), ("Address", text(context.address()))]),
        "vars" => {
            let vars = context.vars().iter().map(|(key, value)| (key.as_str().into(), from_json(value)));
            Value::Map(Arc::new(vars.collect()))
        }
        "datetime" => text(time::display(context.applied())),
        time::FORMAT => text(time::format(context.applied(), string(0)?)),
        time::UNIX => Value::Int(i64::try_from(context.applied().0 / 1_000).unwrap_or(i64::MAX)),
        time::UTC => text(time::display(context.applied())),
        "base" => text(glob::base(string(0)?)),
        "dir" => text(glob::dir(string(0)?)),
        "add" => Value::Int(int(0)?.wrapping_add(int(1)?)),
        "sub" => Value::Int(int(0)?.wrapping_sub(int(1)?)),
        "mul" => Value::Int(int(0)?.wrapping_mul(int(1)?)),
        "div" if int(1)? == 0 => return Err("division by zero".to_owned()),
        "div" => Value::Int(int(0)?.wrapping_div(int(1)?)),
        "mod" if int(1)? == 0 => return Err("division by zero".to_owned()),
        "mod" => Value::Int(int(0)?.wrapping_rem(int(1)?)),
        "seq" => {
            let (first, last) = (int(0)?, int(1)?);
            let length =
                last.checked_sub(first).map_or(u64::MAX, |rest| u64::try_from(rest.saturating_add(1)).unwrap_or(0));
            context.budget.build(length.saturating_mul(size_of::<Value>() as u64))?;
            all((first..=last).map(Value::Int))
        }
        "map" => {
            if !args.len().is_multiple_of(2) {
                return Err("it takes keys and values in turn".to_owned());
            }
            let mut entries = BTreeMap::new();
            for at in (0..args.len()).step_by(2) {
                let key = args[at].as_str().ok_or("its keys are strings")?;
                entries.insert(key.into(), args[at + 1].clone());
            }
            paid(context, Value::Map(Arc::new(entries)))?
        }
        "reverse" => match &args[0] {
            Value::List(list) => all(list.iter().rev().cloned()),
            other => other.clone(),
        },
        "sortByLength" => sorted(list(args, 0)?, |value| value.as_str().map(str::len))?,
        "sortKVByLength" => sorted(list(args, 0)?, |value| value.field("Key")?.as_str().map(str::len))?,
        _ => return text::call(context, name, args),
    })
}

/// A value that was built here, paid for by what printing it takes: maps that hold maps twice grow fast.
pub(super) fn paid(context: &Context, value: Value) -> Answer {
    context.budget.build(text::printed(&value))?;
    Ok(value)
}

pub(super) fn string(args: &[Value], at: usize) -> std::result::Result<&str, String> {
    let value = &args[at];
    value.as_str().ok_or_else(|| format!("argument {} is {}, not a string", at + 1, value.type_name()))
}

pub(super) fn int(args: &[Value], at: usize) -> std::result::Result<i64, String> {
    let value = &args[at];
    value.as_int().ok_or_else(|| format!("argument {} is {}, not an int", at + 1, value.type_name()))
}

pub(super) fn list(args: &[Value], at: usize) -> std::result::Result<&[Value], String> {
    match &args[at] {
        Value::List(list) => Ok(list),
        other => Err(format!("argument {} is {}, not a list", at + 1, other.type_name())),
    }
}

fn sorted(list: &[Value], length: impl Fn(&Value) -> Option<usize>) -> Answer {
    if list.iter().any(|value| length(value).is_none()) {
        return Err("an element has no length to sort by".to_owned());
    }
    let mut list = list.to_vec();
    list.sort_by_key(|value| length(value));
    Ok(Value::List(list.into()))
}

pub(super) fn text(text: impl AsRef<str>) -> Value {
    Value::String(text.as_ref().into())
}

pub(super) fn all(values: impl Iterator<Item = Value>) -> Value {
    Value::List(values.collect())
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    Value::Map(Arc::new(entries.into_iter().map(|(key, value)| (key.into(), value)).collect()))
}

fn pair((key, value): (String, String)) -> Value {
    map([("Key", text(key)), ("Value", text(value))])
}

fn member(member: &Member) -> Value {
    let endpoint = &member.endpoint;
    let id = text(member.id.to_string());
    map([
        ("Id", id.clone()),
        ("Name", id.clone()),
        ("Instance", id),
        ("Node", text(endpoint.node.as_str())),
        ("Address", text(&endpoint.address)),
        ("Port", Value::Int(i64::from(endpoint.port))),
        ("Tags", all(member.tags().iter().map(text))),
    ])
}

/// JSON as Go's `encoding/json` makes it of an empty interface: every number is a float.
pub(super) fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(bool) => Value::Bool(*bool),
        serde_json::Value::Number(number) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        serde_json::Value::String(string) => text(string),
        serde_json::Value::Array(list) => all(list.iter().map(from_json)),
        serde_json::Value::Object(entries) => {
            Value::Map(Arc::new(entries.iter().map(|(key, value)| (key.as_str().into(), from_json(value))).collect()))
        }
    }
}

/// The engine's result type, for functions that it calls itself.
pub(super) type Called = Result<Value>;
