//! Follows the store: one watch of all that has not ended.

use super::Inner;
use super::state::{Known, hot};
use crate::Error;
use crate::limits::AGAIN;
use regrow_store::{EventKind, RangeRequest, Revision, Watch, WatchItem, WatchRequest};
use std::sync::{Arc, Weak};

/// Reads everything anew, and watches from there.
pub(super) async fn load(inner: &Arc<Inner>) -> Result<Watch, Error> {
    let answer = inner.store.range(RangeRequest::prefix(hot())).await?;
    let next = Revision(answer.revision.0 + 1);
    let watch = inner.store.watch(WatchRequest::prefix(hot()).from(next)).await?;
    let mut fresh = Known::default();
    for kv in &answer.kvs {
        fresh.apply(&kv.key, Some(&kv.value), kv.mod_revision.0);
    }
    let mut known = inner.known();
    fresh.remember(&known);
    fresh.taken = std::mem::take(&mut known.taken);
    *known = fresh;
    drop(known);
    inner.tell_news();
    Ok(watch)
}

/// Follows until the queue is dropped; a watch that ends is begun again.
///
/// `moved`: told when the store has gone to another place.
pub(super) async fn follow(inner: Weak<Inner>, mut watch: Watch, mut moved: tokio::sync::watch::Receiver<u64>) {
    moved.mark_unchanged();
    loop {
        let item = tokio::select! {
            biased;
            Ok(()) = moved.changed() => {
                let gone = Revision(0);
                Some(Err(regrow_store::Error::Compacted { requested: gone, compacted: gone }))
            }
            item = watch.next() => item,
        };
        let Some(inner) = inner.upgrade() else { return };
        match item {
            Some(Ok(WatchItem::Events { events, .. })) => {
                let mut known = inner.known();
                let mut is_news = false;
                for event in events {
                    let value = (event.kind == EventKind::Put).then_some(event.kv.value.as_ref());
                    is_news |= known.apply(&event.kv.key, value, event.kv.mod_revision.0);
                }
                drop(known);
                if is_news {
                    inner.tell_news();
                }
            }
            Some(Ok(WatchItem::Progress { .. })) => {}
            Some(Err(regrow_store::Error::Closed)) | None => return,
            Some(Err(error)) => {
                tracing::warn!(%error, "the watch on the queue ended; it is read anew");
                watch = loop {
                    match load(&inner).await {
                        Ok(watch) => break watch,
                        Err(Error::Store(regrow_store::Error::Closed)) => return,
                        Err(error) => tracing::debug!(%error, "the queue cannot be read"),
                    }
                    tokio::time::sleep(AGAIN).await;
                };
            }
        }
    }
}
