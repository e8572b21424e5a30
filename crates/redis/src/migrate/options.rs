//! What a migration is told, and what its parts share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::RwLock;

use super::board::Board;
use super::by_scan::Changes;
use super::carrier::{Carrier, Who};
use super::hold::hold;
use super::lane::Lanes;
use super::place::Side;

/// Expiries nearer than this when the target's are released stay held until the source's own `DEL` or the very end: time
/// enough to go through all keys, and to cut over.
pub const NEAR_MS: u64 = 300_000;

/// Expiries of live writes are held.
pub const HELD: u8 = 0;
/// Those that are not near are released.
pub const FAR_RELEASED: u8 = 1;
/// All are released.
pub const RELEASED: u8 = 2;

/// Keys with near expiries that are remembered until the end; with more, all keys are gone through once more.
const NEAR_KEYS_MAX: usize = 1_000_000;

/// Keys written lately that are remembered.
const RECENT_MAX: usize = 2000;

/// How a migration goes about it.
#[derive(Debug, Clone)]
pub struct Options {
    /// Databases carried over: from which to which.
    pub databases: BTreeMap<u32, u32>,
    /// Databases left behind.
    pub left: Vec<u32>,
    /// Keys of the snapshot a second, at most; `None`: as fast as the target takes them.
    pub rate: Option<u32>,
    /// Bytes of live writes on disk, for each feed. Default 16 GiB.
    pub spool_bytes_max: u64,
    /// How long a server may be unusable before the migration stops. Default an hour.
    pub patience: Duration,
    /// Tasks that bring the snapshot to the target, for each feed. Default 4.
    pub loaders: usize,
    /// Whether keys are read by `SCAN` and `DUMP`, and changes known by keyspace events, because replication is refused. Not by default.
    pub by_scan: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            databases: BTreeMap::from([(0, 0)]),
            left: Vec::new(),
            rate: None,
            spool_bytes_max: 16 << 30,
            patience: Duration::from_secs(3600),
            loaders: 4,
            by_scan: false,
        }
    }
}

/// Keys with their databases.
pub type Keys = Vec<(u32, Bytes)>;

/// What all parts of a migration share.
#[derive(Debug, Clone)]
pub struct Shared {
    /// How it goes about it.
    pub options: Arc<Options>,
    /// Where from.
    pub source: Side,
    /// Where to.
    pub target: Side,
    /// The target's lanes.
    pub lanes: Arc<Lanes>,
    /// The source's lanes.
    pub source_lanes: Arc<Lanes>,
    /// The word of this migration.
    pub run: String,
    /// What it shows.
    pub board: Board,
    /// Read by each round of live writes, written by what must see the target stand still.
    pub gate: Arc<RwLock<()>>,
    /// How expiries of live writes are written: [`HELD`], [`FAR_RELEASED`] or [`RELEASED`].
    pub expiries: Arc<AtomicU8>,
    /// Keys whose expiries may still be held although far ones are released, by database of the target; `None` once there were
    /// too many to be remembered.
    pub near: Arc<Mutex<Option<Keys>>>,
    /// Keys written lately, by database of the source.
    pub recent: Arc<Mutex<VecDeque<(u32, Bytes)>>>,
    /// Makes each carrier's connections known by a name of their own.
    pub count: Arc<AtomicU64>,
    /// How many feeds there are.
    pub feeds: usize,
    /// Of each feed by scan, what changes.
    pub(super) scans: Arc<[Changes]>,
}

impl Shared {
    /// A carrier to the target. `part`: connections of other carriers of the same part, of this or of a process before, are
    /// ended when it first comes to a server.
    pub fn to_target(&self, part: &str) -> Who {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Who::new(&format!("{}:{part}", self.run), &format!("{}-{count}", std::process::id()))
    }

    /// A carrier to the target, for a part that others share.
    pub fn carrier(&self, who: &Arc<Who>) -> Carrier {
        Carrier::new(
            self.target.clone(),
            Arc::clone(&self.lanes),
            Arc::clone(who),
            self.board.clone(),
            self.options.patience,
        )
    }

    /// A carrier that reads the source.
    pub fn source_carrier(&self) -> Carrier {
        let who = Arc::new(self.to_target("read"));
        Carrier::new(
            self.source.clone(),
            Arc::clone(&self.source_lanes),
            who,
            self.board.clone(),
            self.options.patience,
        )
    }

    /// The form in which an expiry is written to the target now.
    pub fn expiry(&self, at_ms: u64, now_ms: u64) -> u64 {
        let released = match self.expiries.load(Ordering::Acquire) {
            HELD => false,
            FAR_RELEASED => at_ms > now_ms.saturating_add(NEAR_MS),
            _ => true,
        };
        if released { at_ms } else { hold(at_ms) }
    }

    /// Remembers that keys were written.
    pub fn written<'a>(&self, db: u32, keys: impl IntoIterator<Item = &'a Bytes>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if recent.len() >= RECENT_MAX {
                recent.pop_front();
            }
            recent.push_back((db, key.clone()));
        }
    }

    /// Remembers keys whose expiries may be held.
    pub(super) fn near(&self, db: u32, keys: impl IntoIterator<Item = Bytes>) {
        if self.expiries.load(Ordering::Acquire) != FAR_RELEASED {
            return;
        }
        let mut near = self.near.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = near.as_mut() {
            list.extend(keys.into_iter().map(|key| (db, key)));
            if list.len() > NEAR_KEYS_MAX {
                *near = None;
            }
        }
    }

    /// The keys written lately, each once.
    pub fn recent(&self) -> BTreeSet<(u32, Bytes)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}
