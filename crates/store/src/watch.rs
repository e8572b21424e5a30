//! Watches.

use std::fmt;

use bytes::Bytes;

use crate::{BoxFuture, Error, KeyRange, KeyValue, Revision, prefix_end};

/// Asks for the events on keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WatchRequest {
    /// The first key; empty means `"\0"`, as in etcd.
    pub key: Bytes,
    /// See [`KeyRange`].
    pub range_end: Bytes,
    /// The first revision wanted, which may be in the past or in the future; 0 or less: what happens from now on.
    pub start_revision: Revision,
    /// Tell from time to time how far the watch is, even if nothing happens: `limits::PROGRESS_INTERVAL`.
    pub progress_notify: bool,
    /// Leave puts out.
    pub no_put: bool,
    /// Leave deletions out.
    pub no_delete: bool,
    /// Return keys as they were before the event, unless that is compacted.
    pub prev_kv: bool,
}

impl WatchRequest {
    /// One key, from now on.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// All keys with a prefix (all keys if it is empty), from now on.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        Self { range_end: prefix_end(&prefix), key: prefix, ..Self::default() }
    }

    /// The same from a revision on.
    #[must_use]
    pub fn from(mut self, revision: Revision) -> Self {
        self.start_revision = revision;
        self
    }

    /// The keys watched.
    pub fn range(&self) -> KeyRange {
        let key = if self.key.is_empty() { Bytes::from_static(b"\0") } else { self.key.clone() };
        KeyRange::new(key, self.range_end.clone())
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It was put.
    Put,
    /// It was deleted, or its lease ended.
    Delete,
}

/// One thing that happened to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The key as it is since; for a deletion only key and `mod_revision`.
    pub kv: KeyValue,
    /// The key as it was, if asked for, there, and not compacted.
    pub prev_kv: Option<KeyValue>,
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchItem {
    /// Events in order. All those of one revision are in one item; an item may have several revisions.
    Events {
        /// Where the store was.
        revision: Revision,
        /// At least one.
        events: Vec<Event>,
    },
    /// Everything up to and with this revision has been delivered.
    Progress {
        /// How far the watch is.
        revision: Revision,
    },
}

/// A running watch: a stream of bounded memory. A reader that is slow delays nobody; it is served from history.
///
/// Dropping it cancels it.
pub struct Watch {
    source: Box<dyn WatchSource>,
    revision: Revision,
    ended: bool,
}

/// Where a [`Watch`] comes from; written by implementations of `Store`.
pub trait WatchSource: Send {
    /// Waits for the next item. Must be safe to drop and to call again without losing an item.
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem, Error>>;

    /// Asks for a [`WatchItem::Progress`] once everything so far is delivered.
    fn request_progress(&mut self);
}

impl Watch {
    /// A watch that was created when the store was at `revision`.
    pub fn new(revision: Revision, source: Box<dyn WatchSource>) -> Self {
        Self { source, revision, ended: false }
    }

    /// Where the store was when the watch was created.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Waits for the next item; `None` after an error. Dropping the future loses nothing.
    ///
    /// Errors: `Compacted` when the history needed is gone (the reader must start over), `Corrupt`, `Disk`,
    /// `Unavailable`, `Closed`.
    pub async fn next(&mut self) -> Option<Result<WatchItem, Error>> {
        if self.ended {
            return None;
        }
        let item = self.source.next().await;
        self.ended = item.is_err();
        Some(item)
    }

    /// Asks for a [`WatchItem::Progress`] once everything so far is delivered.
    pub fn request_progress(&mut self) {
        self.source.request_progress();
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("revision", &self.revision).field("ended", &self.ended).finish_non_exhaustive()
    }
}
