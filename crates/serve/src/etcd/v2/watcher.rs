//! Waiting for events: the store's watch, told in etcd 2's words.
//!
//! **Flow.** A watch of the store gives puts and deletions, all of one revision together. If this door made the
//! revision, its [`super::ledger`] knows what it was; else that is derived: a put is a `set`, a deletion is `expire` if
//! the key's lease has ended, else `delete`, and a directory goes with all beneath as one event.
//!
//! **Caveats.** A transaction of etcd 3 may change several nodes in one revision, so several events may have one index:
//! a long poll is told the first of them, a stream all.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use regrow_store::{
    Error, EventKind, LeaseId, LeaseTimeToLiveRequest, RangeRequest, Revision, Store, Watch, WatchItem, WatchRequest,
};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Shared,
    ledger::Entry,
    node::{Action, Event, Node},
    path::{Path, Seen},
    read::own_life,
    refused::{Code, Refused},
    request::Wait,
};

/// A client that waits.
pub(super) struct Watcher {
    watch: Watch,
    teller: Teller,
    /// Events of one item of the watch.
    told: VecDeque<Event>,
    _room: OwnedSemaphorePermit,
}

/// Who finds the words for what a client waits for.
struct Teller {
    store: Arc<dyn Store>,
    shared: Arc<Shared>,
    wait: Wait,
}

/// One change of a node, as the store tells it.
struct Change {
    path: Path,
    is_marker: bool,
    event: regrow_store::Event,
}

impl Watcher {
    /// Begins to wait. `room` is this client's place among all that wait.
    pub(super) async fn open(
        store: Arc<dyn Store>,
        shared: Arc<Shared>,
        wait: Wait,
        room: OwnedSemaphorePermit,
    ) -> Result<Self, Refused> {
        let start = Revision(i64::try_from(wait.index).unwrap_or(i64::MAX));
        let (key, range_end) = match (wait.path.is_root(), wait.recursive) {
            // The root itself is never changed.
            (true, false) => (Bytes::from_static(b"/"), Bytes::new()),
            (true, true) => (Bytes::from_static(b"/"), wait.path.after()),
            (false, true) => (wait.path.key(), wait.path.after()),
            // The file, what sorts between, and the marker of the directory.
            (false, false) => (wait.path.key(), wait.path.inside().start().clone()),
        };
        if start.0 > 0 {
            // The watch itself would tell only after the answer has begun.
            let probe = RangeRequest { revision: start, limit: 1, keys_only: true, ..RangeRequest::key(key.clone()) };
            match store.range(probe).await {
                Ok(_) | Err(Error::FutureRevision { .. }) => {}
                Err(Error::Compacted { requested, compacted }) => {
                    let cause = format!("the requested history has been cleared [{compacted}/{requested}]");
                    let index = store.status().await?.revision;
                    return Err(Refused { code: Code::EventIndexCleared, cause, index });
                }
                Err(error) => return Err(error.into()),
            }
        }
        let request = WatchRequest { key, range_end, start_revision: start, prev_kv: true, ..WatchRequest::default() };
        let watch = store.watch(request).await?;
        shared.counts.watching(1);
        Ok(Self { watch, teller: Teller { store, shared, wait }, told: VecDeque::new(), _room: room })
    }

    /// Where the store was when the client began to wait.
    pub(super) fn index(&self) -> Revision {
        self.watch.revision()
    }

    /// The next event; nothing when there will be none.
    pub(super) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            match self.watch.next().await? {
                Ok(WatchItem::Events { events, .. }) => {
                    for changes in events.chunk_by(|one, other| one.kv.mod_revision == other.kv.mod_revision) {
                        self.teller.tell(changes, &mut self.told).await;
                    }
                }
                Ok(WatchItem::Progress { .. }) => {}
                Err(error) => {
                    tracing::debug!(%error, path = %self.teller.wait.path, "a watch of an etcd 2 client has ended");
                    return None;
                }
            }
        }
    }
}

impl Teller {
    /// Tells what one revision was.
    async fn tell(&self, events: &[regrow_store::Event], told: &mut VecDeque<Event>) {
        let changes: Vec<Change> = events.iter().filter_map(|event| self.change(event)).collect();
        let Some(first) = changes.first() else { return };
        let revision = first.event.kv.mod_revision;
        match self.shared.ledger.entry(revision, &first.path).await {
            Some(Entry::Quiet) => {}
            Some(Entry::Told(path, event)) => {
                // Who looks at what was beneath a directory is told that the directory is gone.
                let is_taken_along = path.is_above(&self.wait.path) && event.action == Action::Delete;
                if is_taken_along || self.concerns(&path) {
                    told.push_back(Event::clone(&event));
                }
            }
            None => {
                for change in changes.iter().filter(|change| stands_alone(change, &changes)) {
                    if self.concerns(&change.path) {
                        let event = self.derive(change).await;
                        told.push_back(event);
                    }
                }
            }
        }
    }

    fn change(&self, event: &regrow_store::Event) -> Option<Change> {
        let (path, is_marker) = match Path::of(&event.kv.key)? {
            Seen::File(path) => (path, false),
            Seen::Marker(path) => (path, true),
        };
        let is_beneath = self.wait.recursive && self.wait.path.is_above(&path);
        (path == self.wait.path || is_beneath).then(|| Change { path, is_marker, event: event.clone() })
    }

    /// Whether the client is told of what happens to a node.
    fn concerns(&self, path: &Path) -> bool {
        let wanted = &self.wait.path;
        path == wanted || (self.wait.recursive && wanted.is_above(path) && !wanted.hides(path))
    }

    async fn derive(&self, change: &Change) -> Event {
        let Change { path, is_marker, event } = change;
        let node = |kv: &regrow_store::KeyValue| match is_marker {
            true => Node::dir(path, Some(kv)),
            false => Node::file(path, kv),
        };
        let prev = event.prev_kv.as_ref().map(node);
        let revision = event.kv.mod_revision;
        if event.kind == EventKind::Put {
            let action = if *is_marker && prev.is_some() { Action::Update } else { Action::Set };
            let life = own_life(&*self.store, path, event.kv.lease, Revision(0)).await.unwrap_or(None);
            let told = Node { modified: revision.0, ..node(&event.kv) }.living(life);
            return Event { action, node: Some(told), prev };
        }
        let lease = event.prev_kv.as_ref().map_or(LeaseId::NONE, |kv| kv.lease);
        let action = if self.has_ended(lease).await { Action::Expire } else { Action::Delete };
        if action == Action::Expire {
            self.shared.counts.expired();
        }
        let bare = Node { key: path.text(), dir: *is_marker, ..Node::default() };
        Event { action, node: Some(Node::gone(prev.as_ref().unwrap_or(&bare), revision.0)), prev }
    }

    async fn has_ended(&self, lease: LeaseId) -> bool {
        if lease == LeaseId::NONE {
            return false;
        }
        let asked = self.store.lease_time_to_live(LeaseTimeToLiveRequest { id: lease, keys: false }).await;
        matches!(asked, Err(Error::LeaseNotFound(_)))
    }
}

/// Whether a change is told by itself: not what goes with its directory, nor a directory made on the way to a node, nor
/// a file in whose place a directory is put.
fn stands_alone(change: &Change, all: &[Change]) -> bool {
    let puts = change.event.kind == EventKind::Put;
    !all.iter().any(|other| match (puts, other.event.kind == EventKind::Put) {
        (true, true) => change.is_marker && change.event.prev_kv.is_none() && change.path.is_above(&other.path),
        (false, false) => other.is_marker && other.path.is_above(&change.path),
        (false, true) => other.is_marker && other.path == change.path,
        (true, false) => false,
    })
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.teller.shared.counts.watching(-1);
    }
}
