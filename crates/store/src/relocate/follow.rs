//! What is written to the source while it is copied.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    MoveError,
    target::{BYTES_MAX, Change, OPS_MAX, Target, is_reserved},
};
use crate::{Error, Event, EventKind, Remote, Revision, Store, Watch, WatchItem, WatchRequest};

/// Keys that changed since they were last verified, at most: beyond, all are verified again.
const TOUCHED_MAX: usize = 20_000;

/// The source's changes, on their way to the target.
pub(super) struct Follow {
    watch: Watch,
    /// Up to and with this revision the target has what the source has.
    pub(super) applied: Revision,
    /// Keys that changed since they were last verified; `None`: too many.
    touched: Option<BTreeSet<Bytes>>,
}

impl Follow {
    /// Behind a revision.
    pub(super) async fn behind(source: &Remote, revision: Revision) -> Result<Follow, MoveError> {
        let watch = source.watch(WatchRequest::prefix("").from(revision.next())).await.map_err(MoveError::Source)?;
        Ok(Follow { watch, applied: revision, touched: Some(BTreeSet::new()) })
    }

    /// Everything was verified just now.
    pub(super) fn verified(&mut self) {
        self.touched = Some(BTreeSet::new());
    }

    /// Keys that changed since they were verified; `None`: too many to be looked at one by one.
    pub(super) fn touched(&self) -> Option<&BTreeSet<Bytes>> {
        self.touched.as_ref()
    }

    /// Waits for changes, a while at most, and applies what has come.
    pub(super) async fn step(&mut self, target: &Target, wait: Duration) -> Result<(), MoveError> {
        let mut pending: BTreeMap<Bytes, Change> = BTreeMap::new();
        let (mut bytes, mut reached) = (0, self.applied);
        let mut wait = wait;
        while pending.len() < OPS_MAX && bytes < BYTES_MAX {
            match timeout(wait, self.watch.next()).await {
                // Nothing more has come.
                Err(_) => break,
                Ok(Some(Ok(WatchItem::Events { events, .. }))) => {
                    reached = events.last().map_or(reached, |event| event.kv.mod_revision);
                    for change in events.into_iter().filter_map(change) {
                        bytes += change.bytes();
                        let key = key(&change).clone();
                        self.touch(&key);
                        // Only the latest counts: nobody reads the target yet.
                        pending.insert(key, change);
                    }
                }
                Ok(Some(Ok(WatchItem::Progress { .. }))) => {}
                Ok(Some(Err(error))) => return Err(MoveError::Source(error)),
                Ok(None) => return Err(MoveError::Source(Error::Closed)),
            }
            wait = Duration::ZERO;
        }
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for change in pending.into_values() {
            if batch.len() >= OPS_MAX || (!batch.is_empty() && bytes + change.bytes() > BYTES_MAX) {
                target.apply(std::mem::take(&mut batch)).await?;
                bytes = 0;
            }
            bytes += change.bytes();
            batch.push(change);
        }
        target.apply(batch).await?;
        self.applied = reached;
        Ok(())
    }

    fn touch(&mut self, key: &Bytes) {
        if let Some(touched) = &mut self.touched {
            touched.insert(key.clone());
            if touched.len() > TOUCHED_MAX {
                self.touched = None;
            }
        }
    }
}

fn change(event: Event) -> Option<Change> {
    if is_reserved(&event.kv.key) {
        return None;
    }
    Some(match event.kind {
        EventKind::Put => Change::Put(event.kv),
        EventKind::Delete => Change::Delete(event.kv.key),
    })
}

fn key(change: &Change) -> &Bytes {
    match change {
        Change::Put(kv) => &kv.key,
        Change::Delete(key) => key,
    }
}
