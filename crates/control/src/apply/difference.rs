//! What a change of the spec changes, field by field, for people.

use regrow_model::Ref;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One object that a change of the spec touches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Which.
    pub object: Ref,
    /// What happens to it.
    pub verb: Verb,
    /// For an update the fields that differ, as `size: 3 → 6`.
    pub fields: Vec<String>,
}

/// What happens to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// It is new.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Remove,
}

impl Difference {
    /// Compares the JSON forms of what is there and what is wanted.
    pub(super) fn between<T: Serialize>(object: Ref, old: Option<&T>, new: &T) -> Difference {
        let Some(old) = old else { return Difference { object, verb: Verb::Create, fields: Vec::new() } };
        let json = |value: &T| serde_json::to_value(value).expect("model types always serialise");
        let mut fields = Vec::new();
        walk(&mut Vec::new(), &json(old), &json(new), &mut fields);
        Difference { object, verb: Verb::Update, fields }
    }
}

fn walk(path: &mut Vec<String>, old: &Value, new: &Value, fields: &mut Vec<String>) {
    let (Value::Object(a), Value::Object(b)) = (old, new) else {
        if let (Value::Array(a), Value::Array(b)) = (old, new)
            && path.is_empty()
            && a.len() == b.len()
        {
            return a.iter().zip(b).for_each(|(a, b)| walk(path, a, b, fields));
        }
        if old != new {
            let name = path.join(".");
            // Values of an environment are often secrets, and what is told here is read aloud: logs, chats, reviews.
            let secret = path.first().is_some_and(|field| field == "environment");
            fields.push(match (secret, old, new) {
                (false, ..) => format!("{name}: {} → {}", shown(old), shown(new)),
                (true, Value::Null, _) => format!("{name}: (added)"),
                (true, _, Value::Null) => format!("{name}: (removed)"),
                (true, ..) => format!("{name}: (changed)"),
            });
        }
        return;
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    for key in keys {
        path.push(key.clone());
        walk(path, a.get(key).unwrap_or(&Value::Null), b.get(key).unwrap_or(&Value::Null), fields);
        path.pop();
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "(default)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
