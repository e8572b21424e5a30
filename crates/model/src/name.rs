//! Names of things.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest [`Name`]: a DNS label (RFC 1035 §2.3.4), because services become DNS names.
pub const NAME_LENGTH_MAX: usize = 63;

/// The name of a service, group, template, node …: 1 to 63 characters of `a-z 0-9 - _`, the first a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

/// Why a text is no [`Name`]. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a name: use 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit")]
pub struct NameError {
    /// What was given.
    pub text: String,
}

impl Name {
    /// Checks and takes a name.
    pub fn new(text: &str) -> Result<Name, NameError> {
        let fits = (1..=NAME_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
            && !text.starts_with(['-', '_']);
        if fits { Ok(Name(text.into())) } else { Err(NameError { text: text.to_owned() }) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Name, NameError> {
        Name::new(text)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
        Name::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "A name: 1 to 63 of a-z, 0-9, - and _, beginning with a letter or digit.",
            "pattern": "^[a-z0-9][a-z0-9_-]{0,62}$"
        })
    }
}

/// One place in a group: the group's name and a slot, written `web-0`.
///
/// The id stays when what runs in the slot is replaced; the incarnation counts the replacements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// The group.
    pub group: Name,
    /// The slot: the lowest free number from 0 when the instance was first made.
    pub slot: u32,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}-{}", self.group, self.slot))
    }
}

impl FromStr for InstanceId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<InstanceId, NameError> {
        let wrong = || NameError { text: text.to_owned() };
        let (group, slot) = text.rsplit_once('-').ok_or_else(wrong)?;
        if slot.len() > 1 && slot.starts_with('0') || slot.starts_with('+') {
            return Err(wrong());
        }
        Ok(InstanceId { group: Name::new(group)?, slot: slot.parse().map_err(|_| wrong())? })
    }
}

impl Serialize for InstanceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InstanceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<InstanceId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
