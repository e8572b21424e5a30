//! The tree against the JSON Schema: unknown keys, missing keys, values of the wrong type, all of them at once.
//!
//! What fits comes out as JSON that the types of this module take without a further error: numbers written where text
//! is wanted as their text, keys without a value left out.

mod told;

use super::diagnostic::{Wrong, Wrongs, clipped, quoted};
use super::tree::{Member, Node, Place, Scalar, Value};
use super::{Ports, near, schema};
use crate::{Name, Ref};
use serde_json::{Map, Value as Json};
pub(super) use told::no_name;
use told::{bad_name, bad_span, example, last, mismatch, no_number};

/// The schema that trees are read by.
pub(super) struct Shapes {
    root: Json,
}

/// What a schema wants in a place.
enum Wanted<'s> {
    Name,
    Span,
    Ref,
    Ports,
    Text,
    Choice(Vec<&'s str>),
    Flag,
    Whole { min: i128, max: i128 },
    Real { min: f64, max: f64 },
    List(&'s Json),
    Named(&'s Json),
    Free(&'s Json),
    Object(&'s Json),
    Anything,
}

/// A value, where it is and what it is called.
#[derive(Clone, Copy)]
pub(super) struct Here<'a> {
    pub(super) node: &'a Node,
    /// Its key, for errors about what is missing.
    pub(super) key: Place,
    pub(super) path: &'a str,
}

impl Shapes {
    pub(super) fn new() -> Shapes {
        Shapes { root: schema::schema() }
    }

    /// The schema of the whole spec.
    pub(super) fn root(&self) -> &Json {
        &self.root
    }

    /// What the entries of a section of named objects are; `None` for any other section.
    pub(super) fn entries<'s>(&'s self, schema: &'s Json) -> Option<&'s Json> {
        match self.wanted(schema).0 {
            Wanted::Named(values) => Some(values),
            _ => None,
        }
    }

    /// Reads a value; `None` when it, or something in it, is wrong.
    pub(super) fn read(&self, schema: &Json, here: Here<'_>, wrong: &mut Wrongs) -> Option<Json> {
        let Here { node, path, .. } = here;
        let (wanted, schema) = self.wanted(schema);
        match (&wanted, &node.value) {
            (Wanted::Name | Wanted::Span | Wanted::Ref | Wanted::Text, Value::Scalar(text, scalar))
                if *scalar != Scalar::Nothing =>
            {
                let told = match wanted {
                    Wanted::Name => Name::new(text).err().map(|_| bad_name(text)),
                    Wanted::Span => bad_span(text),
                    Wanted::Ref => text.parse::<Ref>().err().map(|error| (error.to_string(), None)),
                    _ => None,
                };
                match told {
                    None => Some(Json::String(text.clone())),
                    Some((message, help)) => {
                        wrong.push(Wrong { help, ..Wrong::new(node.place, message).path(path) });
                        None
                    }
                }
            }
            (Wanted::Choice(choices), Value::Scalar(text, scalar)) if *scalar != Scalar::Nothing => {
                if choices.contains(&text.as_str()) {
                    return Some(Json::String(text.clone()));
                }
                let message = format!("{} is not one of the values of `{}`", quoted(text), last(path));
                let help = near::help(text, choices.iter().copied(), "use one of");
                wrong.push(Wrong::new(node.place, message).path(path).help(help));
                None
            }
            (Wanted::Ports, Value::Scalar(text, Scalar::Whole(_) | Scalar::Text)) => {
                let read: Result<Ports, serde_json::Error> = serde_json::from_value(Json::String(text.clone()));
                if read.is_ok() {
                    return Some(Json::String(text.clone()));
                }
                let message = format!("{} is neither a port nor a range of ports", quoted(text));
                let help = "write a port from 1 to 65535, `port: 8080`, or a range, `port: 21000-21999`";
                wrong.push(Wrong::new(node.place, message).path(path).help(help));
                None
            }
            (Wanted::Flag, Value::Scalar(_, Scalar::Flag(flag))) => Some(Json::Bool(*flag)),
            (Wanted::Whole { min, max }, Value::Scalar(text, Scalar::Whole(whole))) => {
                if (*min..=*max).contains(whole) {
                    return i64::try_from(*whole).map(Json::from).or(u64::try_from(*whole).map(Json::from)).ok();
                }
                let bounds =
                    if *max == i128::from(i64::MAX) { format!("at least {min}") } else { format!("{min} to {max}") };
                let message = format!("`{}` must be {bounds}, found {}", last(path), clipped(text));
                wrong.push(Wrong::new(node.place, message).path(path));
                None
            }
            (Wanted::Real { min, max }, Value::Scalar(text, Scalar::Whole(_) | Scalar::Real(_))) => {
                let real = text.parse::<f64>().unwrap_or(f64::NAN);
                if (*min..=*max).contains(&real) {
                    return Some(Json::from(real));
                }
                let message = format!("`{}` must be {min} to {max}, found {}", last(path), clipped(text));
                wrong.push(Wrong::new(node.place, message).path(path));
                None
            }
            (Wanted::List(items), Value::List(nodes)) => {
                let mut out = Vec::with_capacity(nodes.len());
                for (index, node) in nodes.iter().enumerate() {
                    if wrong.full() {
                        return None;
                    }
                    let path = format!("{path}[{index}]");
                    out.push(self.read(items, Here { node, key: node.place, path: &path }, wrong));
                }
                out.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
            }
            (Wanted::Object(object), Value::Map(_)) => self.object(object, here, wrong),
            (Wanted::Object(object), Value::Scalar(_, Scalar::Nothing)) => self.object(object, here, wrong),
            (Wanted::Named(values) | Wanted::Free(values), Value::Map(members)) => {
                let mut out = Map::new();
                let mut whole = true;
                for member in members {
                    if wrong.full() {
                        return None;
                    }
                    let path = join(path, &member.key);
                    if matches!(wanted, Wanted::Named(_)) && Name::new(&member.key).is_err() {
                        wrong.push(no_name(&member.key, member.key_place, &path));
                        whole = false;
                        continue;
                    }
                    let here = Here { node: &member.node, key: member.key_place, path: &path };
                    match self.read(values, here, wrong) {
                        Some(value) => drop(out.insert(member.key.clone(), value)),
                        None => whole = false,
                    }
                }
                whole.then_some(Json::Object(out))
            }
            (Wanted::Anything, _) => anything(here, wrong),
            _ => {
                wrong.push(mismatch(&wanted, schema, here));
                None
            }
        }
    }

    /// Reads the keys of an object.
    fn object(&self, object: &Json, here: Here<'_>, wrong: &mut Wrongs) -> Option<Json> {
        let none = Map::new();
        let properties = object["properties"].as_object().unwrap_or(&none);
        let members = match &here.node.value {
            Value::Map(members) => members.as_slice(),
            _ => &[],
        };
        let required: Vec<&str> =
            object["required"].as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        let mut out = Map::new();
        let mut whole = true;
        for member in members {
            if wrong.full() {
                return None;
            }
            let path = join(here.path, &member.key);
            let Some(schema) = properties.get(&member.key) else {
                wrong.push(self.unknown(&member.key, member.key_place, here.path, properties));
                whole = false;
                continue;
            };
            if member.node.is_nothing() {
                if required.contains(&member.key.as_str()) {
                    let message = format!("`{}` has no value", member.key);
                    wrong.push(
                        Wrong::new(member.key_place, message).path(&path).help(self.example(&member.key, schema)),
                    );
                    whole = false;
                }
                continue;
            }
            let here = Here { node: &member.node, key: member.key_place, path: &path };
            match self.read(schema, here, wrong) {
                Some(value) => drop(out.insert(member.key.clone(), value)),
                None => whole = false,
            }
        }
        for key in required {
            // A slip of the pen in the key was told already.
            let meant = |member: &Member| {
                !properties.contains_key(&member.key)
                    && near::nearest(&member.key, properties.keys().map(String::as_str)) == Some(key)
            };
            if members.iter().all(|member| member.key != key && !meant(member)) {
                let owner = if here.path.is_empty() { "the spec".to_owned() } else { quoted(here.path) };
                let message = format!("`{key}` is missing in {owner}");
                let help = self.example(key, &properties[key]);
                wrong.push(Wrong::new(here.key, message).path(&join(here.path, key)).help(help));
                whole = false;
            }
        }
        whole.then_some(Json::Object(out))
    }

    /// A key that nothing reads: the one that was meant, the part that it belongs in, or what there is.
    pub(super) fn unknown(&self, key: &str, place: Place, path: &str, properties: &Map<String, Json>) -> Wrong {
        let message = match path {
            "" => format!("there is no section {}", quoted(key)),
            path => format!("there is no key {} in {}", quoted(key), quoted(path)),
        };
        let deeper = properties.iter().find(|(_, schema)| match self.wanted(schema).0 {
            Wanted::Object(object) => !object["properties"][key].is_null(),
            Wanted::List(items) => match self.wanted(items).0 {
                Wanted::Object(object) => !object["properties"][key].is_null(),
                _ => false,
            },
            _ => false,
        });
        let help = match deeper {
            Some((part, _)) if near::nearest(key, properties.keys().map(String::as_str)).is_none() => {
                format!("{} belongs in `{part}`", quoted(key))
            }
            _ => {
                let what = if path.is_empty() { "the sections are" } else { "the keys here are" };
                near::help(key, properties.keys().map(String::as_str), what)
            }
        };
        Wrong::new(place, message).path(&join(path, key)).help(help)
    }

    /// Follows references; the schema that comes back is the one with a default, if any has one.
    fn wanted<'s>(&'s self, schema: &'s Json) -> (Wanted<'s>, &'s Json) {
        let mut at = schema;
        if let Some(options) = at["anyOf"].as_array() {
            at = options.iter().find(|option| option["type"] != "null").unwrap_or(at);
        }
        if let Some(name) = at["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
            match name {
                "Name" => return (Wanted::Name, schema),
                "Span" => return (Wanted::Span, schema),
                "Ref" => return (Wanted::Ref, schema),
                "Ports" => return (Wanted::Ports, schema),
                _ => at = &self.root["$defs"][name],
            }
        }
        if let Some(options) = at["oneOf"].as_array() {
            return (Wanted::Choice(options.iter().filter_map(|option| option["const"].as_str()).collect()), schema);
        }
        let kind = at["type"].as_str().or_else(|| at["type"].as_array()?.iter().filter_map(Json::as_str).next());
        let wanted = match kind {
            Some("string") => Wanted::Text,
            Some("boolean") => Wanted::Flag,
            Some("integer") => Wanted::Whole {
                min: bound(&at["minimum"], i128::from(i64::MIN)),
                max: bound(&at["maximum"], if at["format"] == "uint32" { u32::MAX.into() } else { i64::MAX.into() }),
            },
            Some("number") => Wanted::Real {
                min: at["minimum"].as_f64().unwrap_or(f64::MIN),
                max: at["maximum"].as_f64().unwrap_or(f64::MAX),
            },
            Some("array") => Wanted::List(&at["items"]),
            Some("object") if at["properties"].is_object() => Wanted::Object(at),
            Some("object") => match at["patternProperties"].as_object().and_then(|patterns| patterns.values().next()) {
                Some(values) => Wanted::Named(values),
                None => Wanted::Free(&at["additionalProperties"]),
            },
            _ => Wanted::Anything,
        };
        (wanted, schema)
    }

    /// How a key is written, as help.
    fn example(&self, key: &str, schema: &Json) -> String {
        let (wanted, schema) = self.wanted(schema);
        format!("for example `{key}: {}`", example(&wanted, schema))
    }
}

fn bound(bound: &Json, default: i128) -> i128 {
    bound.as_i64().map(i128::from).or(bound.as_u64().map(i128::from)).unwrap_or(default)
}

/// A value of which only the user knows the meaning, as JSON.
fn anything(here: Here<'_>, wrong: &mut Wrongs) -> Option<Json> {
    let Here { node, path, .. } = here;
    match &node.value {
        Value::Scalar(_, Scalar::Nothing) => Some(Json::Null),
        Value::Scalar(_, Scalar::Flag(flag)) => Some(Json::Bool(*flag)),
        Value::Scalar(text, Scalar::Text) => Some(Json::String(text.clone())),
        Value::Scalar(text, Scalar::Whole(whole)) => {
            let number = i64::try_from(*whole).map(Json::from).or(u64::try_from(*whole).map(Json::from));
            number.map_err(|_| wrong.push(no_number(text, node.place, path))).ok()
        }
        Value::Scalar(text, Scalar::Real(real)) => match serde_json::Number::from_f64(*real) {
            Some(number) => Some(Json::Number(number)),
            None => {
                wrong.push(no_number(text, node.place, path));
                None
            }
        },
        Value::List(nodes) => {
            let mut items = Vec::new();
            for (index, node) in nodes.iter().enumerate() {
                items.push(anything(Here { node, key: node.place, path: &format!("{path}[{index}]") }, wrong));
            }
            items.into_iter().collect::<Option<Vec<Json>>>().map(Json::Array)
        }
        Value::Map(members) => {
            let mut out = Map::new();
            for member in members {
                let path = join(path, &member.key);
                let value = anything(Here { node: &member.node, key: member.key_place, path: &path }, wrong)?;
                out.insert(member.key.clone(), value);
            }
            Some(Json::Object(out))
        }
    }
}

/// `groups.web` and `size` to `groups.web.size`. Bounded: paths are as deep as the spec.
pub(super) fn join(path: &str, key: &str) -> String {
    let key = clipped(key);
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
