//! What the engine's threads and its readers share.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use tokio::sync::{Semaphore, watch};

use super::{
    index::Index,
    leases::Leases,
    log::Segment,
    options::Options,
    signal::{Signal, lock, read},
    watcher::Watchers,
};
use crate::{Error, Result, Revision, Status, disk::Disk, limits::SNAPSHOTS_MAX};

/// What the engine's threads and its readers share.
///
/// Locks are taken in the order: watchers, leases, index, segments, pins; and none is held across a sync.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) disk: Arc<dyn Disk>,
    /// May be ahead of `revision` by what is being written; readers go by revision and do not see that.
    pub(crate) index: RwLock<Index>,
    pub(crate) leases: Mutex<Leases>,
    pub(crate) watchers: Mutex<Watchers>,
    /// Oldest first; the last is being written.
    pub(crate) segments: Mutex<Vec<Arc<Segment>>>,
    /// Bytes of the base, and the last segment that it stands for.
    pub(crate) base: Mutex<(u64, u64)>,
    /// The last revision that is durable.
    pub(crate) revision: AtomicI64,
    /// The oldest revision that may be read; 0 if never compacted.
    pub(crate) compacted: AtomicI64,
    /// How far the versions in memory have followed `compacted`.
    pub(crate) pruned: watch::Sender<i64>,
    pub(crate) housekeeping: Arc<Signal>,
    pub(crate) full: AtomicBool,
    /// The fence's key exists, as far as it is durable.
    pub(crate) fenced: AtomicBool,
    pub(crate) lease_bytes: AtomicU64,
    pub(crate) closed: AtomicBool,
    /// Held by the writer from the first change of a batch until it is durable or undone; taken before all others.
    pub(crate) batch: Mutex<()>,
    /// Room for snapshots.
    pub(crate) snapshots: Arc<Semaphore>,
    pins: Mutex<BTreeMap<i64, usize>>,
}

impl Shared {
    pub(crate) fn new(options: Options, disk: Arc<dyn Disk>, state: State) -> Self {
        let fenced = options.fence.is_some_and(|key| state.index.exists(key.as_bytes()));
        Self {
            options,
            disk,
            fenced: AtomicBool::new(fenced),
            lease_bytes: AtomicU64::new(state.leases.bytes()),
            index: RwLock::new(state.index),
            leases: Mutex::new(state.leases),
            watchers: Mutex::default(),
            segments: Mutex::new(state.segments),
            base: Mutex::new(state.base),
            revision: AtomicI64::new(state.revision),
            compacted: AtomicI64::new(state.compacted),
            pruned: watch::Sender::new(0),
            housekeeping: Arc::default(),
            full: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            batch: Mutex::default(),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
            pins: Mutex::default(),
        }
    }

    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Acquire)
    }

    pub(crate) fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Acquire)
    }

    /// Checks that a revision can be read when the store is at `current`; 0 or less is now.
    pub(crate) fn readable(&self, rev: i64, current: i64) -> Result<i64> {
        if rev > current {
            return Err(Error::FutureRevision { requested: Revision(rev), current: Revision(current) });
        }
        let compacted = self.compacted();
        match rev {
            ..=0 => Ok(current),
            rev if rev < compacted => {
                Err(Error::Compacted { requested: Revision(rev), compacted: Revision(compacted) })
            }
            rev => Ok(rev),
        }
    }

    /// Keeps a revision (0: now) readable while the pin lives.
    pub(crate) fn pin(&self, rev: i64) -> Result<Pin<'_>> {
        let pin = self.hold(rev);
        self.readable(rev, pin.current)?;
        Ok(pin)
    }

    /// The same before it is known whether the revision is readable. To be checked afterwards: then housekeeping has
    /// either seen the pin, or has moved `compacted` before.
    pub(crate) fn hold(&self, rev: i64) -> Pin<'_> {
        let (rev, current) = self.add_pin(rev);
        Pin { shared: self, rev, current }
    }

    /// The same for as long as [`Shared::remove_pin`] is not called: returns the revision pinned and the current one.
    pub(crate) fn add_pin(&self, rev: i64) -> (i64, i64) {
        let mut pins = lock(&self.pins);
        let current = self.revision();
        let rev = if rev <= 0 { current } else { rev };
        *pins.entry(rev).or_insert(0) += 1;
        (rev, current)
    }

    /// Undoes one [`Shared::add_pin`].
    pub(crate) fn remove_pin(&self, rev: i64) {
        let mut pins = lock(&self.pins);
        if let Some(count) = pins.get_mut(&rev) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&rev);
                // Pruning may have waited for this one.
                if rev < self.compacted() {
                    self.housekeeping.wake();
                }
            }
        }
    }

    /// The revision below which versions may be given up.
    pub(crate) fn prune_limit(&self) -> i64 {
        let compacted = self.compacted();
        lock(&self.pins).keys().next().map_or(compacted, |oldest| compacted.min(*oldest))
    }

    pub(crate) fn bytes_in_use(&self) -> u64 {
        read(&self.index).bytes + self.lease_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn status(&self) -> Status {
        let base = lock(&self.base).0;
        let log: u64 = lock(&self.segments).iter().map(|segment| segment.size).sum();
        // Two statements: the index must not be locked twice at once, a writer may be waiting in between.
        let keys = read(&self.index).live;
        let in_use = self.bytes_in_use();
        Status {
            revision: Revision(self.revision()),
            compact_revision: Revision(self.compacted()),
            db_size: base + log,
            db_size_in_use: in_use,
            quota: self.options.quota_bytes,
            keys,
            no_space: self.full.load(Ordering::Relaxed) || in_use >= self.options.quota_bytes,
        }
    }
}

/// What is found on disk.
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) leases: Leases,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) base: (u64, u64),
    pub(crate) revision: i64,
    pub(crate) compacted: i64,
}

/// A revision that stays readable.
pub(crate) struct Pin<'a> {
    shared: &'a Shared,
    /// The revision pinned.
    pub(crate) rev: i64,
    /// Where the store was.
    pub(crate) current: i64,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.shared.remove_pin(self.rev);
    }
}
