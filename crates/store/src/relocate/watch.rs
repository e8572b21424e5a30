//! A watch that goes on when the store has moved.
//!
//! What happened in the old place up to the decision is read to its end there: the decision is itself an event, so a watch of
//! a range that has both its key and the watch's own keys says for certain where the end is. Then the new place goes on behind
//! what was copied.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    MOVED,
    record::Cut,
    side::{Gone, Side},
    switch::Inner,
};
use crate::{BoxFuture, Error, Event, EventKind, Result, Revision, Watch, WatchItem, WatchRequest, WatchSource};

/// Begins a watch where the store is.
pub(super) async fn carried(inner: Arc<Inner>, request: WatchRequest) -> Result<Watch> {
    let mut side = inner.side();
    let mut next = request.start_revision;
    if let Some(cut) = side.cut() {
        match &side.before {
            Some(before) if (1..=cut.decided).contains(&next.0) => side = before.clone(),
            // Nothing happened there but the copying.
            _ if next.0 > cut.decided && next.0 <= cut.copied => next = Revision(cut.copied).next(),
            _ => {}
        }
    }
    let mut carried = Carried { inner, side, request, next, live: None, rest: None, asked: false };
    let revision = carried.begin().await?;
    Ok(Watch::new(revision, Box::new(carried)))
}

struct Carried {
    inner: Arc<Inner>,
    side: Arc<Side>,
    request: WatchRequest,
    /// The first revision that was not delivered; 0: from now on, and nothing was.
    next: Revision,
    live: Option<Watch>,
    /// What is left of the old place.
    rest: Option<Rest>,
    asked: bool,
}

struct Rest {
    watch: Watch,
    gone: Gone,
    cut: Cut,
}

impl Carried {
    async fn begin(&mut self) -> Result<Revision> {
        loop {
            self.open().await?;
            match &self.live {
                // A watch from now on begins behind everything that was there; a later one could have missed something.
                Some(live) => {
                    if self.next.0 <= 0 {
                        self.next = live.revision().next();
                    }
                    return Ok(live.revision());
                }
                None if self.rest.is_some() => return Ok(self.inner.side().store().status().await?.revision),
                None => {}
            }
        }
    }

    /// Sees to it that there is a watch, or a rest, unless the store has gone on without either.
    async fn open(&mut self) -> Result<()> {
        if self.live.is_some() || self.rest.is_some() {
            return Ok(());
        }
        if let Some(gone) = self.side.gone() {
            return self.go(gone).await;
        }
        let request = self.request.clone().from(self.next);
        let mut watch = self.side.store().watch(request).await?;
        if self.asked {
            watch.request_progress();
        }
        self.live = Some(watch);
        Ok(())
    }

    /// The store has gone from this side: what it still has is read, then the next side.
    async fn go(&mut self, gone: Gone) -> Result<()> {
        let Some(cut) = gone.cut else {
            self.side = gone.next;
            return Ok(());
        };
        if self.next.0 <= 0 || self.next.0 > cut.decided {
            self.cross(&gone, cut);
            return Ok(());
        }
        let both = hull(&self.request).from(self.next);
        let lost = Error::Compacted { requested: self.next, compacted: Revision(cut.copied) };
        // Where the old place is not there any more, nobody can say what was missed.
        let watch = self.side.store().watch(both).await.map_err(|_| lost)?;
        self.rest = Some(Rest { watch, gone, cut });
        Ok(())
    }

    fn cross(&mut self, gone: &Gone, cut: Cut) {
        self.side = gone.next.clone();
        if self.next.0 > 0 {
            self.next = self.next.max(Revision(cut.copied).next());
        }
    }

    async fn item(&mut self) -> Result<WatchItem> {
        loop {
            if let Some(rest) = &mut self.rest {
                let item = rest.watch.next().await;
                if let Some(item) = self.take_rest(item)? {
                    return Ok(item);
                }
                continue;
            }
            self.open().await?;
            let Some(live) = &mut self.live else { continue };
            let item = tokio::select! {
                item = live.next() => item,
                () = self.side.left() => {
                    self.live = None;
                    continue;
                }
            };
            match item {
                Some(Ok(WatchItem::Events { revision, events })) => {
                    // What the old place tells behind the decision does not count.
                    let left = self.inner.is_left(&self.side).await.unwrap_or(false);
                    let events = match self.side.gone().and_then(|gone| gone.cut).filter(|_| left) {
                        Some(cut) => within(events, cut),
                        None => events,
                    };
                    let Some(last) = events.last() else {
                        self.live = None;
                        continue;
                    };
                    self.next = last.kv.mod_revision.next();
                    return Ok(WatchItem::Events { revision, events });
                }
                Some(Ok(WatchItem::Progress { revision })) => {
                    if self.side.gone().is_none() {
                        self.asked = false;
                        return Ok(WatchItem::Progress { revision });
                    }
                }
                Some(Err(error)) => {
                    self.live = None;
                    if self.side.gone().is_none() {
                        return Err(error);
                    }
                }
                None => return Err(Error::Closed),
            }
        }
    }

    fn take_rest(&mut self, item: Option<Result<WatchItem>>) -> Result<Option<WatchItem>> {
        let Some(rest) = &self.rest else { return Ok(None) };
        let (cut, gone) = (rest.cut, rest.gone.clone());
        let events = match item {
            Some(Ok(WatchItem::Events { events, .. })) => events,
            Some(Ok(WatchItem::Progress { .. })) => return Ok(None),
            Some(Err(_)) | None => {
                return Err(Error::Compacted { requested: self.next, compacted: Revision(cut.copied) });
            }
        };
        let Some(last) = events.last().map(|event| event.kv.mod_revision) else { return Ok(None) };
        self.next = last.min(Revision(cut.decided)).next();
        let wanted: Vec<Event> = within(events, cut).into_iter().filter(|event| wants(&self.request, event)).collect();
        if last.0 >= cut.decided {
            self.rest = None;
            self.cross(&gone, cut);
        }
        let revision = wanted.last().map(|event| event.kv.mod_revision);
        Ok(revision.map(|revision| WatchItem::Events { revision, events: wanted }))
    }
}

impl WatchSource for Carried {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem>> {
        Box::pin(self.item())
    }

    fn request_progress(&mut self) {
        self.asked = true;
        if let Some(live) = &mut self.live {
            live.request_progress();
        }
    }
}

fn within(mut events: Vec<Event>, cut: Cut) -> Vec<Event> {
    events.retain(|event| event.kv.mod_revision.0 <= cut.decided);
    events
}

/// Whether a watch asked for this event.
fn wants(request: &WatchRequest, event: &Event) -> bool {
    let left_out = match event.kind {
        EventKind::Put => request.no_put,
        EventKind::Delete => request.no_delete,
    };
    !left_out && request.range().contains(&event.kv.key)
}

/// The smallest range with the keys of a watch and the decision, and every kind of event.
fn hull(request: &WatchRequest) -> WatchRequest {
    let range = request.range();
    let behind = |key: &[u8]| Bytes::from([key, b"\0"].concat());
    let end = match range.end() {
        _ if range.is_point() => Some(behind(range.start())),
        Some(end) => Some(Bytes::copy_from_slice(end)),
        None => None,
    };
    let key = range.start().clone().min(Bytes::from_static(MOVED.as_bytes()));
    let range_end = end.map_or_else(|| Bytes::from_static(b"\0"), |end| end.max(behind(MOVED.as_bytes())));
    WatchRequest { key, range_end, no_put: false, no_delete: false, ..request.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hull of any watch has its keys and the decision's.
    #[test]
    fn hulls() {
        let all = WatchRequest::prefix("");
        let high = WatchRequest { key: "z".into(), range_end: "\0".into(), ..WatchRequest::default() };
        for request in [WatchRequest::key("a"), WatchRequest::key("z"), WatchRequest::prefix("/regrow/"), all, high] {
            let hull = hull(&request).range();
            assert!(hull.contains(MOVED.as_bytes()), "{request:?}");
            for key in [&b"a"[..], b"z", b"zz", b"/regrow/x", b"/regrow/store/moved"] {
                assert!(!request.range().contains(key) || hull.contains(key), "{request:?} {key:?}");
            }
        }
    }
}
