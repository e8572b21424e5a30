//! A spec as written: values with their places.

use std::collections::BTreeMap;

/// Where something is: a file by its index, and a range of bytes in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What was written.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A single value: its text, and what YAML's core schema takes it for.
    Scalar(String, Scalar),
    /// `[a, b]`, or lines that begin with `-`.
    List(Vec<Node>),
    /// `{a: 1}`, or lines of `key: value`. Keys differ from each other.
    Map(Vec<Member>),
}

/// One `key: value`.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: String,
    pub(super) key_place: Place,
    pub(super) node: Node,
}

/// What a single value is. Source: YAML 1.2.2 §10.3.2, the core schema.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Nothing,
    Flag(bool),
    Whole(i128),
    Real(f64),
    Text,
}

impl Scalar {
    /// What a value without quotes and tag is.
    pub(super) fn plain(text: &str) -> Scalar {
        match text {
            "" | "~" | "null" | "Null" | "NULL" => Scalar::Nothing,
            "true" | "True" | "TRUE" => Scalar::Flag(true),
            "false" | "False" | "FALSE" => Scalar::Flag(false),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Real(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => Scalar::Real(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => Scalar::Real(f64::NAN),
            _ => number(text).unwrap_or(Scalar::Text),
        }
    }
}

/// Reads `12`, `-3`, `0x1f`, `0o644`, `1.5`, `1e3`; words that Rust alone takes for numbers (`inf`, `infinity`) are text.
fn number(text: &str) -> Option<Scalar> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if let Some(hex) = text.strip_prefix("0x") {
        return whole(hex, 16);
    }
    if let Some(octal) = text.strip_prefix("0o") {
        return whole(octal, 8);
    }
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        // One beyond all bounds stays a number: what it is too large for is told where it is used.
        let beyond = if text.starts_with('-') { i128::MIN } else { i128::MAX };
        return Some(Scalar::Whole(text.parse().unwrap_or(beyond)));
    }
    let real = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|b| b.is_ascii_digit())
        && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'));
    if real { text.parse().ok().map(Scalar::Real) } else { None }
}

fn whole(digits: &str, radix: u32) -> Option<Scalar> {
    let fits = digits.bytes().all(|b| char::from(b).is_digit(radix));
    if fits { i128::from_str_radix(digits, radix).ok().map(Scalar::Whole) } else { None }
}

impl Node {
    /// The value of a key, when this is a map that has it.
    pub(super) fn member(&self, key: &str) -> Option<&Member> {
        match &self.value {
            Value::Map(members) => members.iter().find(|member| member.key == key),
            _ => None,
        }
    }

    /// The value at an index, when this is a list that has it.
    pub(super) fn item(&self, index: usize) -> Option<&Node> {
        match &self.value {
            Value::List(items) => items.get(index),
            _ => None,
        }
    }

    /// Whether nothing was written: `key:`, `~` or `null`.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self.value, Value::Scalar(_, Scalar::Nothing))
    }

    /// How it looks, for messages.
    pub(super) fn found(&self) -> String {
        match &self.value {
            Value::Scalar(_, Scalar::Nothing) => "nothing".to_owned(),
            Value::Scalar(text, Scalar::Flag(_)) => super::diagnostic::quoted(text),
            Value::Scalar(text, Scalar::Whole(_) | Scalar::Real(_)) => {
                format!("the number {}", super::diagnostic::quoted(text))
            }
            Value::Scalar(text, Scalar::Text) => format!("the text {}", super::diagnostic::quoted(text)),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }
}

/// A value that rules are applied to: where it is, even when it was left out.
#[derive(Clone, Debug)]
pub(super) struct At<'a> {
    pub(super) path: String,
    node: Option<&'a Node>,
    key: Option<Place>,
    /// The nearest that was written: where to point when this was left out.
    around: Place,
}

impl<'a> At<'a> {
    /// The spec as a whole.
    pub(super) fn root(node: &'a Node) -> At<'a> {
        At { path: String::new(), node: Some(node), key: None, around: node.place }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> At<'a> {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        match self.node.and_then(|node| node.member(key)) {
            Some(member) => {
                At { path, node: Some(&member.node), key: Some(member.key_place), around: member.key_place }
            }
            None => At { path, node: None, key: None, around: self.key_place() },
        }
    }

    /// The item of a list.
    pub(super) fn index(&self, index: usize) -> At<'a> {
        let path = format!("{}[{index}]", self.path);
        let node = self.node.and_then(|node| node.item(index));
        At { path, node, key: None, around: node.map_or(self.around, |node| node.place) }
    }

    /// The key, or the item of a list as a whole; what is around it when it was left out.
    pub(super) fn key_place(&self) -> Place {
        self.key.or(self.node.map(|node| node.place)).unwrap_or(self.around)
    }

    /// The value; what is around it when it was left out.
    pub(super) fn place(&self) -> Place {
        match self.node {
            Some(node) if node.place.start < node.place.end => node.place,
            _ => self.key_place(),
        }
    }

    /// The entries of a map by their keys.
    pub(super) fn entries(&self) -> BTreeMap<&'a str, At<'a>> {
        let Some(Value::Map(members)) = self.node.map(|node| &node.value) else { return BTreeMap::new() };
        let entry = |member: &'a Member| At {
            path: super::shape::join(&self.path, &member.key),
            node: Some(&member.node),
            key: Some(member.key_place),
            around: member.key_place,
        };
        members.iter().map(|member| (member.key.as_str(), entry(member))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that plain values are taken for what YAML 1.2's core schema says, and nothing else.
    #[test]
    fn plain_values() {
        let table = [
            ("", Scalar::Nothing),
            ("~", Scalar::Nothing),
            ("true", Scalar::Flag(true)),
            ("yes", Scalar::Text),
            ("12", Scalar::Whole(12)),
            ("-3", Scalar::Whole(-3)),
            ("0644", Scalar::Whole(644)),
            ("0x1f", Scalar::Whole(31)),
            ("0o644", Scalar::Whole(420)),
            ("0x-1", Scalar::Text),
            ("1.5", Scalar::Real(1.5)),
            ("1e3", Scalar::Real(1000.0)),
            (".5", Scalar::Real(0.5)),
            ("inf", Scalar::Text),
            ("1.2.3", Scalar::Text),
            ("21000-21999", Scalar::Text),
            ("-", Scalar::Text),
            (".", Scalar::Text),
            ("10s", Scalar::Text),
        ];
        for (text, expected) in table {
            assert_eq!(Scalar::plain(text), expected, "{text}");
        }
    }
}
