//! Watchers: those that keep up get events as they happen, those that do not read history.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, atomic::Ordering},
};

use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    history::History,
    scan::Found,
    shared::Shared,
    signal::{lock, read},
};
use crate::{
    BoxFuture, Error, Event, EventKind, KeyRange, Result, Revision, Watch, WatchItem, WatchRequest, WatchSource,
    limits::{WATCH_QUEUE_BATCHES, WATCH_QUEUE_BYTES, WATCHES_MAX},
};

/// All watchers, by what they watch.
#[derive(Default)]
pub(crate) struct Watchers {
    points: HashMap<Bytes, Vec<Arc<Watcher>>>,
    intervals: BTreeMap<KeyRange, Vec<Arc<Watcher>>>,
    count: usize,
    /// How many asked to be told of progress.
    pub(crate) told: usize,
}

/// The events of one batch for all who watch the same keys; at least one.
struct Batch {
    events: Vec<Event>,
    bytes: usize,
}

/// What the writer leaves for one watcher.
#[derive(Default)]
pub(crate) struct Watcher {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Arc<Batch>>,
    /// Of the batches in the queue.
    bytes: usize,
    /// The first revision that is not in the queue and must be read from history; `None` while keeping up.
    lag: Option<i64>,
    /// Progress is to be told.
    progress: bool,
    closed: bool,
}

impl Watchers {
    /// Hands out the events of a batch. Called with the lock held under which `revision` moves.
    pub(crate) fn publish(&self, events: &[Event]) {
        if self.count == 0 || events.is_empty() {
            return;
        }
        let mut points: HashMap<&Bytes, Vec<Event>> = HashMap::new();
        for event in events {
            if self.points.contains_key(&event.kv.key) {
                points.entry(&event.kv.key).or_default().push(event.clone());
            }
        }
        for (key, events) in points {
            push(&self.points[key], events);
        }
        for (range, members) in &self.intervals {
            let events: Vec<Event> = events.iter().filter(|event| range.contains(&event.kv.key)).cloned().collect();
            if !events.is_empty() {
                push(members, events);
            }
        }
    }

    /// Tells progress to those who asked for it (`told`), or closes all.
    pub(crate) fn tell_all(&self, closed: bool) {
        for watcher in self.points.values().chain(self.intervals.values()).flatten() {
            let mut state = lock(&watcher.state);
            state.progress |= !closed;
            state.closed |= closed;
            drop(state);
            watcher.notify.notify_one();
        }
    }

    fn members(&mut self, range: &KeyRange) -> &mut Vec<Arc<Watcher>> {
        if range.is_point() {
            self.points.entry(range.start().clone()).or_default()
        } else {
            self.intervals.entry(range.clone()).or_default()
        }
    }

    fn remove(&mut self, range: &KeyRange, watcher: &Arc<Watcher>) {
        let members = self.members(range);
        members.retain(|member| !Arc::ptr_eq(member, watcher));
        if members.is_empty() {
            if range.is_point() {
                self.points.remove(range.start());
            } else {
                self.intervals.remove(range);
            }
        }
        self.count -= 1;
    }
}

fn push(members: &[Arc<Watcher>], events: Vec<Event>) {
    let first = events[0].kv.mod_revision.0;
    let size = |event: &Event| event.kv.key.len() + event.kv.value.len() + size_of::<Event>();
    let batch = Arc::new(Batch { bytes: events.iter().map(size).sum(), events });
    for watcher in members {
        let mut state = lock(&watcher.state);
        if state.lag.is_none() {
            // One batch always fits, so that a large one is not read from disk by everybody.
            let full = state.queue.len() >= WATCH_QUEUE_BATCHES || state.bytes >= WATCH_QUEUE_BYTES;
            if full {
                state.lag = Some(first);
            } else {
                state.bytes += batch.bytes;
                state.queue.push_back(batch.clone());
                drop(state);
                watcher.notify.notify_one();
            }
        }
    }
}

/// Begins a watch.
pub(crate) fn watch(shared: &Arc<Shared>, request: WatchRequest) -> Result<Watch> {
    let range = request.range();
    let mut watchers = lock(&shared.watchers);
    if shared.closed.load(Ordering::Acquire) {
        return Err(Error::Closed);
    }
    if watchers.count >= WATCHES_MAX {
        return Err(Error::TooManyWatches { max: WATCHES_MAX });
    }
    let revision = shared.revision();
    let next = if request.start_revision.0 <= 0 { revision + 1 } else { request.start_revision.0 };
    let state = State { lag: (next <= revision).then_some(next), ..State::default() };
    let watcher = Arc::new(Watcher { state: Mutex::new(state), notify: Notify::new() });
    watchers.members(&range).push(watcher.clone());
    watchers.count += 1;
    watchers.told += usize::from(request.progress_notify);
    drop(watchers);
    let source = EngineWatch { shared: shared.clone(), watcher, range, request, next, asked: false, history: None };
    Ok(Watch::new(Revision(revision), Box::new(source)))
}

struct EngineWatch {
    shared: Arc<Shared>,
    watcher: Arc<Watcher>,
    range: KeyRange,
    request: WatchRequest,
    /// The next revision to deliver.
    next: i64,
    /// Progress was asked for by hand.
    asked: bool,
    history: Option<History>,
}

enum Work {
    Batch(Arc<Batch>),
    Lag(i64),
    Progress,
    Closed,
    Idle,
}

impl EngineWatch {
    fn work(&mut self) -> Work {
        let mut state = lock(&self.watcher.state);
        if let Some(batch) = state.queue.pop_front() {
            state.bytes -= batch.bytes;
            return Work::Batch(batch);
        }
        let told = std::mem::take(&mut state.progress) && self.request.progress_notify;
        self.asked |= told;
        match state.lag {
            _ if state.closed => Work::Closed,
            Some(rev) => Work::Lag(rev),
            None if self.asked => Work::Progress,
            None => Work::Idle,
        }
    }

    async fn item(&mut self) -> Result<WatchItem> {
        loop {
            match self.work() {
                Work::Batch(batch) => {
                    let last = batch.events.last().map_or(0, |event| event.kv.mod_revision.0);
                    let events: Vec<Event> = batch.events.iter().filter(|event| self.wants(event)).cloned().collect();
                    self.next = self.next.max(last + 1);
                    if let Some(item) = self.events(events)? {
                        return Ok(item);
                    }
                }
                Work::Lag(rev) => {
                    self.next = self.next.max(rev);
                    let events = self.catch_up()?;
                    if let Some(item) = self.events(events)? {
                        return Ok(item);
                    }
                    tokio::task::yield_now().await;
                }
                Work::Progress => {
                    if let Some(revision) = self.delivered() {
                        self.asked = false;
                        return Ok(WatchItem::Progress { revision });
                    }
                }
                Work::Closed => return Err(Error::Closed),
                Work::Idle => self.watcher.notify.notified().await,
            }
        }
    }

    fn wants(&self, event: &Event) -> bool {
        let kind = match event.kind {
            EventKind::Put => !self.request.no_put,
            EventKind::Delete => !self.request.no_delete,
        };
        kind && event.kv.mod_revision.0 >= self.next
    }

    /// Reads a piece of history; at its end goes over to what happens now.
    fn catch_up(&mut self) -> Result<Vec<Event>> {
        let mut history = match self.history.take() {
            Some(history) if history.next == self.next => history,
            _ => History::new(self.next),
        };
        let mut events = Vec::new();
        let at_end = history.step(&self.shared, |event| {
            if self.range.contains(&event.kv.key) && self.wants(&event) {
                events.push(event);
            }
        })?;
        self.next = self.next.max(history.next);
        // While this lock is held the revision does not move and nobody is given events.
        let watchers = lock(&self.shared.watchers);
        let through = at_end && self.shared.revision() < self.next;
        lock(&self.watcher.state).lag = (!through).then_some(self.next);
        drop(watchers);
        if !through {
            self.history = Some(history);
        }
        Ok(events)
    }

    /// The revision up to which everything is delivered, unless there is something to deliver.
    fn delivered(&self) -> Option<Revision> {
        let _watchers = lock(&self.shared.watchers);
        let state = lock(&self.watcher.state);
        (state.queue.is_empty() && state.lag.is_none()).then(|| Revision(self.shared.revision()))
    }

    fn events(&self, mut events: Vec<Event>) -> Result<Option<WatchItem>> {
        if events.is_empty() {
            return Ok(None);
        }
        if self.request.prev_kv {
            for event in &mut events {
                let before = event.kv.mod_revision.0 - 1;
                let index = read(&self.shared.index);
                if before < self.shared.compacted() {
                    continue;
                }
                let history = index.get(&event.kv.key);
                let found = history
                    .and_then(|history| history.live_at(before))
                    .map(|version| Found::new(&index, &event.kv.key, version, true));
                drop(index);
                event.prev_kv = found.map(Found::load).transpose()?;
            }
        }
        Ok(Some(WatchItem::Events { revision: Revision(self.shared.revision()), events }))
    }
}

impl WatchSource for EngineWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem>> {
        Box::pin(self.item())
    }

    fn request_progress(&mut self) {
        self.asked = true;
    }
}

impl Drop for EngineWatch {
    fn drop(&mut self) {
        let mut watchers = lock(&self.shared.watchers);
        watchers.remove(&self.range, &self.watcher);
        watchers.told -= usize::from(self.request.progress_notify);
    }
}
