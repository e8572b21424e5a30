//! What was asked, counted since the door was opened.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde_json::{Map, Value};

use super::request::Verb;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gets,
    Sets,
    Delete,
    Update,
    Create,
    CompareAndSwap,
    CompareAndDelete,
}

/// Names as etcd tells them, in its order.
const NAMES: [&str; 7] = ["gets", "sets", "delete", "update", "create", "compareAndSwap", "compareAndDelete"];

/// The counts of one door.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Done and refused, of each kind.
    asked: [[AtomicU64; 2]; NAMES.len()],
    expired: AtomicU64,
    watching: AtomicI64,
}

impl Counts {
    /// A request was done, or refused.
    pub(super) fn asked(&self, kind: Kind, done: bool) {
        self.asked[kind as usize][usize::from(!done)].fetch_add(1, Ordering::Relaxed);
    }

    /// A watcher was told that a node has expired.
    pub(super) fn expired(&self) {
        self.expired.fetch_add(1, Ordering::Relaxed);
    }

    /// Clients came to wait, or went.
    pub(super) fn watching(&self, more: i64) {
        self.watching.fetch_add(more, Ordering::Relaxed);
    }

    /// As `/v2/stats/store` tells them.
    pub(super) fn json(&self) -> Value {
        let mut json = Map::new();
        for (name, [done, refused]) in NAMES.iter().zip(&self.asked) {
            json.insert(format!("{name}Success"), done.load(Ordering::Relaxed).into());
            json.insert(format!("{name}Fail"), refused.load(Ordering::Relaxed).into());
        }
        json.insert("expireCount".to_owned(), self.expired.load(Ordering::Relaxed).into());
        json.insert("watchers".to_owned(), self.watching.load(Ordering::Relaxed).max(0).into());
        json.into()
    }
}

impl From<&Verb> for Kind {
    fn from(verb: &Verb) -> Self {
        match verb {
            Verb::Set(_) => Kind::Sets,
            Verb::Create(_) | Verb::Append(_) => Kind::Create,
            Verb::Update(_) => Kind::Update,
            Verb::Swap(..) => Kind::CompareAndSwap,
            Verb::Delete { .. } => Kind::Delete,
            Verb::CompareDelete(_) => Kind::CompareAndDelete,
        }
    }
}
