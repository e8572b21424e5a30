//! What the writes of this door were, for watchers: the store's own events know puts and deletions only.
//!
//! **Guarantees.** A watcher that asks about a revision made by this door is answered, even if it hears of the revision
//! before the writer does: it waits for the writes under way that touch the node. Bounded: the newest
//! [`V2_EVENTS_MAX`] events, of [`V2_EVENTS_BYTES_MAX`] bytes together.
//!
//! **Caveats.** Nothing is kept over a restart, and nothing is known of other doors' writes. A watcher derives such
//! events from what changed.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use regrow_store::Revision;
use tokio::sync::Notify;

use super::{node::Event, path::Path};
use crate::etcd::limits::{V2_EVENTS_BYTES_MAX, V2_EVENTS_MAX};

/// The newest writes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    closed: Notify,
}

/// What a revision was.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A write that watchers are told of, and its node.
    Told(Path, Arc<Event>),
    /// One that they are not told of: a refresh.
    Quiet,
}

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<Revision, Entry>,
    bytes: usize,
    /// Writes under way.
    open: BTreeMap<u64, Path>,
    next: u64,
}

/// A write under way; over when dropped.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    ledger: &'a Ledger,
    id: u64,
}

impl Ledger {
    /// Says that a node, and what is beneath, is about to be written. Before the request goes to the store.
    pub(super) fn open(&self, path: &Path) -> Ticket<'_> {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        state.open.insert(id, path.clone());
        Ticket { ledger: self, id }
    }

    /// What a revision was that touched a node, if this door made it and still knows.
    pub(super) async fn entry(&self, revision: Revision, path: &Path) -> Option<Entry> {
        loop {
            let mut closed = std::pin::pin!(self.closed.notified());
            // From here on no end of a write is missed.
            closed.as_mut().enable();
            {
                let state = self.lock();
                if let Some(entry) = state.entries.get(&revision) {
                    return Some(entry.clone());
                }
                let touches = |open: &Path| open == path || open.is_above(path) || path.is_above(open);
                if !state.open.values().any(touches) {
                    return None;
                }
            }
            closed.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    /// Says what a revision was.
    pub(super) fn done(&self, revision: Revision, entry: Entry) {
        let mut state = self.ledger.lock();
        state.bytes += entry.bytes();
        state.entries.insert(revision, entry);
        while state.entries.len() > V2_EVENTS_MAX || state.bytes > V2_EVENTS_BYTES_MAX {
            let Some((_, entry)) = state.entries.pop_first() else { break };
            state.bytes -= entry.bytes();
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.ledger.lock().open.remove(&self.id);
        self.ledger.closed.notify_waiters();
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        match self {
            Entry::Told(_, event) => event.bytes(),
            Entry::Quiet => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{super::node::Action, *};

    fn path(text: &str) -> Path {
        Path::clean(text.as_bytes()).expect("not too deep")
    }

    fn told(bytes: usize) -> Entry {
        let node = super::super::node::Node { value: Some("v".repeat(bytes)), ..Default::default() };
        Entry::Told(path("/a"), Arc::new(Event { action: Action::Set, node: Some(node), prev: None }))
    }

    /// Who asks waits for writes that touch the node, and for no others.
    #[tokio::test]
    async fn a_watcher_waits_for_the_writer() {
        let ledger = Ledger::default();
        let ticket = ledger.open(&path("/a/b"));
        assert!(ledger.entry(Revision(2), &path("/x")).now_or_never().expect("no wait").is_none());
        for touched in ["/a", "/a/b", "/a/b/c"] {
            let touched = path(touched);
            let mut asked = Box::pin(ledger.entry(Revision(2), &touched));
            assert!((&mut asked).now_or_never().is_none(), "{touched}");
        }
        let asked = path("/a/b");
        let mut asked = Box::pin(ledger.entry(Revision(2), &asked));
        assert!((&mut asked).now_or_never().is_none());
        ticket.done(Revision(2), told(1));
        drop(ticket);
        assert!(matches!(asked.await, Some(Entry::Told(..))));
        assert!(ledger.entry(Revision(3), &path("/a/b")).now_or_never().expect("no wait").is_none());
    }

    /// The oldest are forgotten, by number and by bytes.
    #[tokio::test]
    async fn the_ledger_is_bounded() {
        let ledger = Ledger::default();
        let ticket = ledger.open(&path("/x"));
        let most = V2_EVENTS_MAX as i64;
        (0..most + 5).for_each(|revision| ticket.done(Revision(revision), told(1)));
        assert!(ledger.entry(Revision(4), &path("/a")).await.is_none());
        assert!(ledger.entry(Revision(5), &path("/a")).await.is_some());
        (0..3).for_each(|more| ticket.done(Revision(most + 10 + more), told(V2_EVENTS_BYTES_MAX / 2)));
        assert!(ledger.entry(Revision(most + 10), &path("/a")).await.is_none());
        assert!(ledger.entry(Revision(most + 12), &path("/a")).await.is_some());
    }
}
