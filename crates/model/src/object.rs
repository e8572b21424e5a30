//! What events, actions and explanations are about.

use crate::{InstanceId, Name, NameError};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::str::FromStr;

/// The kinds of objects: a section of the spec, a folder of the planners, a part of the key and a word of the
/// command line each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The cluster as a whole: its spec, pause, halt.
    Cluster,
    /// A machine that runs an agent.
    Node,
    /// A name with healthy endpoints.
    Service,
    /// Instances kept at a size.
    Group,
    /// One of a group's instances.
    Instance,
    /// A set of files rendered from the view.
    Template,
    /// A thing to execute.
    Job,
    /// A job at times.
    Schedule,
}

impl Kind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Kind; 8] = [
        Kind::Cluster,
        Kind::Node,
        Kind::Service,
        Kind::Group,
        Kind::Instance,
        Kind::Template,
        Kind::Job,
        Kind::Schedule,
    ];

    /// The word in keys and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Cluster => "cluster",
            Kind::Node => "node",
            Kind::Service => "service",
            Kind::Group => "group",
            Kind::Instance => "instance",
            Kind::Template => "template",
            Kind::Job => "job",
            Kind::Schedule => "schedule",
        }
    }
}

/// One object, written `kind/name`: `template/haproxy`, `instance/web-0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ref {
    /// What it is.
    pub kind: Kind,
    /// Which one; an instance's id for [`Kind::Instance`].
    pub name: Name,
}

impl Ref {
    /// A reference to `name` of `kind`.
    pub fn new(kind: Kind, name: &Name) -> Ref {
        Ref { kind, name: name.clone() }
    }

    /// A reference to an instance.
    pub fn instance(id: &InstanceId) -> Ref {
        let name = Name::new(&id.to_string()).expect("GROUP_NAME_LENGTH_MAX leaves room for the slot");
        Ref { kind: Kind::Instance, name }
    }

    /// The id, when this is an instance.
    pub fn instance_id(&self) -> Option<InstanceId> {
        (self.kind == Kind::Instance).then(|| self.name.as_str().parse().ok()).flatten()
    }
}

impl fmt::Display for Ref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.kind.as_str(), self.name))
    }
}

/// Why a text is no [`Ref`]. The caller's fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefError {
    /// No slash in it.
    #[error("`{0}` is not an object: write it as kind/name, for example group/web or template/haproxy")]
    Shape(String),
    /// Not one of [`Kind::ALL`].
    #[error("`{0}` is not a kind of object: use cluster, node, service, group, instance, template, job or schedule")]
    Kind(String),
    /// The part behind the slash.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl FromStr for Ref {
    type Err = RefError;
    fn from_str(text: &str) -> Result<Ref, RefError> {
        let (kind, name) = text.split_once('/').ok_or_else(|| RefError::Shape(text.to_owned()))?;
        let kind = Kind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| RefError::Kind(kind.to_owned()))?;
        Ok(Ref { kind, name: Name::new(name)? })
    }
}

impl Serialize for Ref {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ref {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ref, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl schemars::JsonSchema for Ref {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ref".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "An object, as kind/name: template/haproxy, group/web.",
            "pattern": "^(service|group|template)/[a-z0-9][a-z0-9_-]{0,62}$"
        })
    }
}
