//! What a migration shows of itself while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

/// Commands named in a report, at most; the rest is counted together.
const NAMES_MAX: usize = 100;
/// Keys named for each command.
const KEYS_NAMED_MAX: usize = 20;

/// What is being done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The snapshot comes from the source.
    Taking,
    /// The snapshot goes to the target.
    Loading,
    /// Keys that are gone are removed from the target.
    Sweeping,
    /// Live writes are applied as they come.
    Live,
}

/// One feed's part.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FeedStatus {
    /// What is being done.
    pub stage: Stage,
    /// Bytes of the snapshot that have come.
    pub snapshot_bytes: u64,
    /// Keys in the snapshot, once it has come.
    pub snapshot_keys: u64,
    /// Keys of it on the target.
    pub loaded_keys: u64,
    /// Position of the source's stream that is on disk here; by scan: number of the last changed key.
    pub spooled: u64,
    /// Position up to which all is on the target.
    pub applied: u64,
    /// Bytes waiting on disk.
    pub spool_bytes: u64,
    /// Whether the link to the source is up.
    pub linked: bool,
}

impl FeedStatus {
    /// Whether all up to a position is on the target. While a new snapshot is on its way nothing is.
    pub fn has(&self, position: u64) -> bool {
        self.stage == Stage::Live && self.applied >= position
    }
}

/// Writes that were not carried over as they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Special {
    /// How many.
    pub count: u64,
    /// Some of their keys.
    pub keys: Vec<String>,
}

impl Special {
    fn name(&mut self, key: &[u8]) {
        let key = shown(key);
        if self.keys.len() < KEYS_NAMED_MAX && !self.keys.contains(&key) {
            self.keys.push(key);
        }
    }
}

/// All of it.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Status {
    /// By feed.
    pub feeds: Vec<FeedStatus>,
    /// Whether the source is read by scan: positions count keys then, not bytes.
    pub by_scan: bool,
    /// Live writes applied; by scan: changed keys copied.
    pub writes: u64,
    /// Why it waits, if it does.
    pub waiting: Option<String>,
    /// Multi-key writes by command that were split over slots or carried out on copies of their keys.
    pub split: BTreeMap<String, Special>,
    /// Writes by command whose keys were copied anew from the source.
    pub copied_anew: BTreeMap<String, Special>,
    /// Keys that the comparison found different although no event had told of a change, and that were copied anew; by scan only.
    pub silent: Special,
    /// How often the source could not go on and had to send a new snapshot, or all of it was read again.
    pub new_snapshots: u64,
    /// How often a fail-over of the target made us apply writes again.
    pub rewinds: u64,
}

/// Shared by all that work on a migration.
#[derive(Debug, Clone)]
pub struct Board(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    status: Mutex<Status>,
    stop: watch::Sender<bool>,
}

impl Board {
    /// For as many feeds.
    pub fn new(feeds: usize) -> Self {
        let feed = FeedStatus {
            stage: Stage::Taking,
            snapshot_bytes: 0,
            snapshot_keys: 0,
            loaded_keys: 0,
            spooled: 0,
            applied: 0,
            spool_bytes: 0,
            linked: false,
        };
        let status = Status { feeds: vec![feed; feeds], ..Status::default() };
        Self(Arc::new(Inner { status: Mutex::new(status), stop: watch::Sender::new(false) }))
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of it.
    pub fn status(&self) -> Status {
        self.lock().clone()
    }

    /// Changes a feed's part.
    pub fn feed(&self, feed: usize, change: impl FnOnce(&mut FeedStatus)) {
        if let Some(status) = self.lock().feeds.get_mut(feed) {
            change(status);
        }
    }

    /// Changes anything.
    pub fn change(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// Says why it waits, or that it does not.
    pub fn waiting(&self, why: Option<String>) {
        self.lock().waiting = why;
    }

    /// Whether all of a feed up to a position is on the target.
    pub fn has(&self, feed: usize, position: u64) -> bool {
        self.lock().feeds.get(feed).is_some_and(|feed| feed.has(position))
    }

    /// What a feed is doing.
    pub(super) fn stage(&self, feed: usize) -> Option<Stage> {
        self.lock().feeds.get(feed).map(|feed| feed.stage)
    }

    /// Counts keys that had changed without an event.
    pub(super) fn silent<'a>(&self, keys: impl IntoIterator<Item = &'a Bytes>) {
        let mut status = self.lock();
        for key in keys {
            status.silent.count += 1;
            status.silent.name(key);
        }
    }

    /// Counts a write that was not carried over as it was.
    pub fn special<'a>(&self, anew: bool, command: &[u8], keys: impl IntoIterator<Item = &'a [u8]>) {
        let mut status = self.lock();
        let list = if anew { &mut status.copied_anew } else { &mut status.split };
        let name: String = String::from_utf8_lossy(command).to_uppercase().chars().take(40).collect();
        let name = if list.len() >= NAMES_MAX && !list.contains_key(&name) { "OTHERS".to_owned() } else { name };
        let entry = list.entry(name).or_default();
        entry.count += 1;
        keys.into_iter().for_each(|key| entry.name(key));
    }

    /// Tells all to stop at the next good moment.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// Whether all were told to stop.
    pub fn stopping(&self) -> bool {
        *self.0.stop.borrow()
    }

    /// Waits until all are told to stop.
    pub async fn stopped(&self) {
        let mut stop = self.0.stop.subscribe();
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// A key as text: bytes that are no printable ASCII as escapes, cut at 100 bytes.
pub fn shown(key: &[u8]) -> String {
    let text = key[..key.len().min(100)].escape_ascii().to_string();
    if key.len() > 100 { text + "…" } else { text }
}
