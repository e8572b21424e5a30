//! What users are told about a value that does not fit.

use super::super::diagnostic::{Wrong, clipped, quoted};
use super::super::tree::{Place, Scalar, Value};
use super::{Here, Wanted};
use crate::Name;
use crate::duration::Span;
use serde_json::Value as Json;

/// What is wanted, for messages.
pub(super) fn wording(wanted: &Wanted<'_>) -> &'static str {
    match wanted {
        Wanted::Name => "a name",
        Wanted::Span => "a duration with its unit",
        Wanted::Ref => "an object as kind/name",
        Wanted::Ports => "a port or a range of ports",
        Wanted::Text => "text",
        Wanted::Choice(_) => "a word",
        Wanted::Flag => "`true` or `false`",
        Wanted::Whole { .. } => "a whole number",
        Wanted::Real { .. } => "a number",
        Wanted::List(_) => "a list",
        Wanted::Named(_) | Wanted::Free(_) | Wanted::Object(_) => "a map",
        Wanted::Anything => "a value",
    }
}

/// How a value is written: its default where that says something, else an example of its type.
pub(super) fn example(wanted: &Wanted<'_>, schema: &Json) -> String {
    match &schema["default"] {
        Json::String(text) => return text.clone(),
        default @ (Json::Number(_) | Json::Bool(_)) => return default.to_string(),
        _ => {}
    }
    match wanted {
        Wanted::Name => "web",
        Wanted::Span => "10s",
        Wanted::Ref => "template/haproxy",
        Wanted::Ports => "8080",
        Wanted::Text => "\"text\"",
        Wanted::Choice(choices) => choices.first().copied().unwrap_or("\"\""),
        Wanted::Flag => "true",
        Wanted::Whole { .. } => "3",
        Wanted::Real { .. } => "0.5",
        Wanted::List(_) => "[first, second]",
        Wanted::Named(_) | Wanted::Free(_) | Wanted::Object(_) => "{key: value}",
        Wanted::Anything => "1",
    }
    .to_owned()
}

pub(super) fn mismatch(wanted: &Wanted<'_>, schema: &Json, here: Here<'_>) -> Wrong {
    let Here { node, path, key } = here;
    let message = format!("`{}` must be {}, found {}", last(path), wording(wanted), node.found());
    let help = match (wanted, &node.value) {
        (Wanted::Text, Value::Map(members)) if members.len() == 1 && members[0].node.is_nothing() => {
            format!("text that begins with `{{` must be quoted: \"{{{}}}\"", clipped(&members[0].key))
        }
        (Wanted::Flag, Value::Scalar(text, _)) => match text.to_ascii_lowercase().as_str() {
            "yes" | "y" | "on" | "true" => "write `true`, without quotes".to_owned(),
            "no" | "n" | "off" | "false" => "write `false`, without quotes".to_owned(),
            _ => "write `true` or `false`".to_owned(),
        },
        (Wanted::Whole { .. } | Wanted::Real { .. }, Value::Scalar(text, Scalar::Text))
            if matches!(Scalar::plain(text), Scalar::Whole(_) | Scalar::Real(_)) =>
        {
            "write it without quotes".to_owned()
        }
        (Wanted::List(_), Value::Scalar(text, scalar)) if *scalar != Scalar::Nothing => {
            let words: Vec<&str> = text.split_whitespace().collect();
            format!("write `[{}]`", clipped(&words.join(", ")))
        }
        (Wanted::List(_), Value::Map(_)) => "begin each entry with `- `".to_owned(),
        (Wanted::Named(_) | Wanted::Object(_), Value::List(_)) => {
            "leave out the `- `: each entry has a key of its own".to_owned()
        }
        _ if last(path).contains('[') => format!("for example `{}`", example(wanted, schema)),
        _ => format!("for example `{}: {}`", last(path), example(wanted, schema)),
    };
    let place = if node.place.start < node.place.end { node.place } else { key };
    Wrong::new(place, message).path(path).help(help)
}

/// A key that should be a name and is none.
pub(in crate::spec) fn no_name(key: &str, place: Place, path: &str) -> Wrong {
    let (message, help) = bad_name(key);
    Wrong { help, ..Wrong::new(place, message).path(path) }
}

pub(super) fn bad_name(text: &str) -> (String, Option<String>) {
    let message = format!("{} is not a name", quoted(text));
    let repaired: String = text.trim().to_lowercase().replace([' ', '.', '/'], "-");
    let help = match Name::new(&repaired) {
        Ok(name) => format!("`{name}` is one: names have 1 to 63 of a-z, 0-9, - and _, the first a letter or digit"),
        Err(_) => "names have 1 to 63 of a-z, 0-9, - and _, the first a letter or digit".to_owned(),
    };
    (message, Some(help))
}

pub(super) fn bad_span(text: &str) -> Option<(String, Option<String>)> {
    let read: Result<Span, serde_json::Error> = serde_json::from_value(Json::String(text.to_owned()));
    if read.is_ok() {
        return None;
    }
    let help = match Scalar::plain(text) {
        Scalar::Whole(_) => format!("write it with its unit: `{0}s` or `{0}ms`", clipped(text)),
        _ => "write it with its unit, as `500ms`, `10s` or `2m`".to_owned(),
    };
    Some((format!("{} is not a duration", quoted(text)), Some(help)))
}

pub(super) fn no_number(text: &str, place: Place, path: &str) -> Wrong {
    let message = format!("the number {} cannot be kept exactly", quoted(text));
    Wrong::new(place, message).path(path).help("quote it to keep it as text")
}

/// The last part of a path: the word that the user wrote.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}
