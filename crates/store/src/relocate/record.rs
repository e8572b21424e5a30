//! What is written about a move.

use serde::{Deserialize, Serialize};

use crate::{KeyValue, Revision};

/// Where a store is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its endpoints, each as `http://HOST:PORT`.
    pub urls: Vec<String>,
    /// The agent that hosts it, by the id of its data folder; none for an etcd cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Where the numbers of the old store end and those of the new one begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cut {
    /// The revision of the decision in the old store.
    pub decided: i64,
    /// Up to and with this revision the new store says the same as the old one did; it is above `decided`.
    pub copied: i64,
}

/// Where a store is, and how its numbers go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Where.
    pub place: Place,
    /// None if it was always there, as far as anybody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
    /// The move by which it came there, as long as the mark of the copy may be there still.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfinished: Option<String>,
}

/// The record under [`MOVED`](super::MOVED).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Of the move; the same in the target's [`COPY`](super::COPY).
    pub id: String,
    /// Where it goes.
    pub to: Place,
    /// The target's revision when all was there. None: the fence stands, and nothing is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copied: Option<i64>,
}

impl Moved {
    /// Reads the record. `None` for what is none: then there is a fence, and no decision.
    pub(super) fn read(kv: &KeyValue) -> Option<Moved> {
        serde_json::from_slice(&kv.value).ok()
    }

    /// Where the store is then, if that is decided.
    pub(super) fn standing(&self, decided: Revision) -> Option<Standing> {
        let cut = Cut { decided: decided.0, copied: self.copied? };
        Some(Standing { place: self.to.clone(), cut: Some(cut), unfinished: Some(self.id.clone()) })
    }
}

/// The record under [`COPY`](super::COPY).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copying {
    /// Of the move.
    pub(super) id: String,
    /// The cluster that is copied, in hexadecimal.
    pub(super) source: String,
    /// Keys of the copy were all put above this revision.
    pub(super) above: i64,
}

/// A record's JSON.
pub(super) fn json(record: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(record).expect("texts and numbers always serialise")
}
