//! Nodes and events as they are told.

use jiff::{SignedDuration, Timestamp};
use regrow_store::KeyValue;
use serde::Serialize;

use super::path::Path;

/// A node; what is empty or zero is left out, as in etcd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Node {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) dir: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expiration: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) ttl: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) nodes: Vec<Node>,
    #[serde(rename = "modifiedIndex", skip_serializing_if = "is_zero")]
    pub(super) modified: i64,
    #[serde(rename = "createdIndex", skip_serializing_if = "is_zero")]
    pub(super) created: i64,
}

/// How long a node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    seconds: i64,
    end: Option<String>,
}

impl Life {
    /// So many seconds from now.
    pub(super) fn new(seconds: i64) -> Self {
        let end = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).ok();
        Self { seconds, end: end.map(|end| end.to_string()) }
    }
}

impl Node {
    /// A file, as its key is.
    pub(super) fn file(path: &Path, kv: &KeyValue) -> Self {
        Self {
            key: path.text(),
            value: Some(String::from_utf8_lossy(&kv.value).into_owned()),
            modified: kv.mod_revision.0,
            created: kv.create_revision.0,
            ..Self::default()
        }
    }

    /// A directory. Its indexes are when its marker came into being, or that of its first key if it is implied; they
    /// never change, as in etcd.
    pub(super) fn dir(path: &Path, first: Option<&KeyValue>) -> Self {
        let created = first.filter(|_| !path.is_root()).map_or(0, |kv| kv.create_revision.0);
        Self { key: path.text(), dir: true, modified: created, created, ..Self::default() }
    }

    /// What is left of a node that is gone: its name, and when.
    pub(super) fn gone(prev: &Node, index: i64) -> Self {
        let Node { key, dir, created, .. } = prev.clone();
        Self { key, dir, created, modified: index, ..Self::default() }
    }

    /// With the time it has.
    pub(super) fn living(mut self, life: Option<Life>) -> Self {
        if let Some(life) = life {
            (self.ttl, self.expiration) = (life.seconds, life.end);
        }
        self
    }

    /// Bytes of name and value.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, String::len)
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    Get,
    Create,
    Set,
    Update,
    Delete,
    CompareAndSwap,
    CompareAndDelete,
    Expire,
}

/// An answer, or what a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Event {
    pub(super) action: Action,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<Node>,
    #[serde(rename = "prevNode", skip_serializing_if = "Option::is_none")]
    pub(super) prev: Option<Node>,
}

impl Event {
    /// Whether something came into being, which is answered with 201.
    pub(super) fn is_created(&self) -> bool {
        self.action == Action::Create || (self.action == Action::Set && self.prev.is_none())
    }

    /// Bytes of names and values.
    pub(super) fn bytes(&self) -> usize {
        self.node.iter().chain(&self.prev).map(Node::bytes).sum()
    }
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}
