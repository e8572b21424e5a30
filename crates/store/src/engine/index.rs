//! The index in memory: every key with the versions of it that can still be asked for.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    ops::Bound,
    sync::Arc,
};

use super::{
    frame::DataFile,
    places::{Place, Places},
};
use crate::{KeyRange, limits::VERSION_OVERHEAD_BYTES};

/// A key, shared between the index and leases.
pub(crate) type Key = Arc<[u8]>;

/// One version of a key, or its deletion.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) rev: i64,
    pub(crate) create: i64,
    /// 0: a deletion.
    pub(crate) version: i64,
    pub(crate) lease: i64,
    /// Where the value's CRC is in `file`; not known until the version is durable.
    pub(crate) offset: u64,
    /// 0: not durable yet, the value is in `value`.
    pub(crate) file: u32,
    pub(crate) len: u32,
    /// Place among the changes of the revision.
    pub(crate) sub: u32,
    /// The value itself, if it is short and the newest, or not durable yet.
    pub(crate) value: Option<Box<[u8]>>,
}

impl Version {
    pub(crate) fn is_deletion(&self) -> bool {
        self.version == 0
    }
}

/// The versions of one key, oldest first. The newest is apart, because most keys have only that.
#[derive(Debug)]
pub(crate) struct History {
    pub(crate) last: Version,
    /// Boxed once more because it is mostly absent: 8 bytes a key, not 24.
    #[expect(clippy::box_collection, reason = "8 bytes a key instead of 24")]
    older: Option<Box<Vec<Version>>>,
}

impl History {
    /// The key as it was at a revision, deletions included.
    pub(crate) fn at(&self, rev: i64) -> Option<&Version> {
        if self.last.rev <= rev {
            return Some(&self.last);
        }
        let older = self.older.as_ref()?;
        let count = older.partition_point(|version| version.rev <= rev);
        count.checked_sub(1).map(|at| &older[at])
    }

    /// The key as it was at a revision, if it existed.
    pub(crate) fn live_at(&self, rev: i64) -> Option<&Version> {
        self.at(rev).filter(|version| !version.is_deletion())
    }

    /// All versions, oldest first.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Version> {
        self.older.iter().flat_map(|older| older.iter()).chain([&self.last])
    }

    /// The versions that revisions from `oldest` to `rev` show, and deletions among them, oldest first. A deletion at or
    /// before `oldest` is none of them: it may be forgotten already.
    pub(crate) fn shown(&self, oldest: i64, rev: i64) -> impl Iterator<Item = &Version> {
        let first = self.at(oldest).filter(|version| !version.is_deletion());
        let later = self.versions().filter(move |version| version.rev > oldest && version.rev <= rev);
        first.into_iter().chain(later)
    }

    /// The version with this place in history.
    pub(crate) fn find(&self, rev: i64, sub: u32) -> Option<&Version> {
        self.versions().find(|version| (version.rev, version.sub) == (rev, sub))
    }

    fn find_mut(&mut self, rev: i64, sub: u32) -> Option<&mut Version> {
        if (self.last.rev, self.last.sub) == (rev, sub) {
            return Some(&mut self.last);
        }
        let older = self.older.as_mut()?;
        let at = older.binary_search_by_key(&(rev, sub), |version| (version.rev, version.sub)).ok()?;
        Some(&mut older[at])
    }
}

/// A key with its versions.
struct Entry {
    key: Key,
    history: History,
}

/// A version that was added.
pub(crate) struct Pushed {
    /// The key as it is shared.
    pub(crate) key: Key,
    /// Where its versions are, as long as this one is not given up.
    pub(crate) place: Place,
    /// The lease that the key had before.
    pub(crate) lease: i64,
}

/// All keys.
#[derive(Default)]
pub(crate) struct Index {
    keys: BTreeMap<Key, Place>,
    entries: Places<Entry>,
    /// For each change that superseded something, or was a deletion: when, and where; oldest first. What compaction has
    /// to look at, so that its cost follows the garbage and not the keys. If the key has gone meanwhile there may be
    /// another in its place: looking at that one does no harm.
    superseded: VecDeque<(i64, Place)>,
    /// Files that versions are in.
    pub(crate) files: BTreeMap<u32, Arc<DataFile>>,
    /// Keys that exist.
    pub(crate) live: u64,
    /// What the quota counts.
    pub(crate) bytes: u64,
}

impl Index {
    /// Whether a key exists, with what is not durable yet.
    pub(crate) fn exists(&self, key: &[u8]) -> bool {
        self.get(key).is_some_and(|history| !history.last.is_deletion())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&History> {
        self.keys.get(key).map(|place| self.history(*place))
    }

    /// The versions of a key that is there.
    fn history(&self, place: Place) -> &History {
        &self.entries.get(place).expect("a key has an entry").history
    }

    /// The keys of a range, those up to and with `after` left out.
    pub(crate) fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        after: Option<&'a Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a History)> {
        let start: &[u8] = range.start();
        let low = after.map_or(Bound::Included(start), |key| Bound::Excluded(&key[..]));
        let high = match range.end() {
            _ if range.is_point() => Bound::Included(start),
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        // A range whose end is not after its start is empty; BTreeMap would panic.
        let empty = match (low, high) {
            (Bound::Included(low), Bound::Excluded(high)) => low >= high,
            (Bound::Excluded(low), Bound::Excluded(high) | Bound::Included(high)) => low >= high,
            _ => false,
        };
        let found = (!empty).then(|| self.keys.range::<[u8], _>((low, high)));
        found.into_iter().flatten().map(|(key, place)| (key, self.history(*place)))
    }

    /// Keys in order from the one behind `after`.
    pub(crate) fn after(&self, after: Option<&Key>) -> impl Iterator<Item = (&Key, &History)> {
        let low = after.map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
        self.keys.range::<[u8], _>((low, Bound::Unbounded)).map(|(key, place)| (key, self.history(*place)))
    }

    /// Adds the newest version of a key.
    pub(crate) fn push(&mut self, key: &[u8], version: Version) -> Pushed {
        let Ok(pushed) = self.push_after(key, |_| Ok::<_, Infallible>(version));
        pushed
    }

    /// The same for a version that is made from the one before, if the key exists.
    pub(crate) fn push_after<E>(
        &mut self,
        key: &[u8],
        version: impl FnOnce(Option<&Version>) -> Result<Version, E>,
    ) -> Result<Pushed, E> {
        let Some(&place) = self.keys.get(key) else {
            let version = version(None)?;
            return Ok(self.insert(key.into(), version));
        };
        let Entry { key, history } = self.entries.get_mut(place).expect("a key has an entry");
        let version = version(Some(&history.last).filter(|last| !last.is_deletion()))?;
        self.bytes += bytes(key, &version);
        let (rev, live) = (version.rev, !version.is_deletion());
        let mut old = std::mem::replace(&mut history.last, version);
        if old.file != 0 {
            old.value = None;
        }
        let lease = if old.is_deletion() { 0 } else { old.lease };
        self.live = self.live + u64::from(live) - u64::from(!old.is_deletion());
        history.older.get_or_insert_default().push(old);
        self.superseded.push_back((rev, place));
        Ok(Pushed { key: key.clone(), place, lease })
    }

    /// Adds a key that is new.
    fn insert(&mut self, key: Key, last: Version) -> Pushed {
        self.bytes += bytes(&key, &last);
        let (rev, live) = (last.rev, !last.is_deletion());
        let place = self.entries.insert(Entry { key: key.clone(), history: History { last, older: None } });
        if !live {
            self.superseded.push_back((rev, place));
        }
        self.live += u64::from(live);
        self.keys.insert(key.clone(), place);
        Pushed { key, place, lease: 0 }
    }

    /// Adds the keys of a base, in order, to an index that has none; makes loading it fast.
    pub(crate) fn load(&mut self, sorted: Vec<(Key, Version)>) {
        self.live = sorted.len() as u64;
        self.bytes = sorted.iter().map(|(key, version)| bytes(key, version)).sum();
        let entries = sorted.into_iter().map(|(key, last)| {
            let entry = Entry { key: key.clone(), history: History { last, older: None } };
            (key, self.entries.insert(entry))
        });
        self.keys = entries.collect();
    }

    /// Takes the newest version of a key away again. Returns its lease and that of the version before it.
    pub(crate) fn pop(&mut self, key: &Key) -> (i64, i64) {
        let place = self.keys[key];
        let history = &mut self.entries.get_mut(place).expect("a key has an entry").history;
        let before = history.older.as_mut().and_then(|older| older.pop());
        self.live -= u64::from(!history.last.is_deletion());
        let (undone, lease) = match before {
            Some(before) => {
                self.live += u64::from(!before.is_deletion());
                let lease = before.lease;
                self.superseded.pop_back();
                (std::mem::replace(&mut history.last, before), lease)
            }
            None => {
                self.keys.remove(key);
                let undone = self.entries.remove(place).expect("it was just there").history.last;
                if undone.is_deletion() {
                    self.superseded.pop_back();
                }
                (undone, 0)
            }
        };
        self.bytes -= bytes(key, &undone);
        (undone.lease, lease)
    }

    /// Notes where a version that was pushed is on disk. Its value leaves memory if it is longer than `inline` or no
    /// longer the newest.
    pub(crate) fn settle(&mut self, place: Place, rev: i64, sub: u32, file: (u32, u64), inline: usize) {
        let Some(Entry { history, .. }) = self.entries.get_mut(place) else {
            return;
        };
        let newest = (history.last.rev, history.last.sub) == (rev, sub);
        if let Some(version) = history.find_mut(rev, sub) {
            (version.file, version.offset) = file;
            if !newest || version.len as usize > inline {
                version.value = None;
            }
        }
    }

    /// Notes that a version has moved to another file.
    pub(crate) fn relocate(&mut self, key: &[u8], rev: i64, sub: u32, file: (u32, u64)) {
        let entry = self.keys.get(key).and_then(|place| self.entries.get_mut(*place));
        if let Some(version) = entry.and_then(|entry| entry.history.find_mut(rev, sub)) {
            (version.file, version.offset) = file;
        }
    }

    /// How many there are for [`Index::prune`] to look at.
    pub(crate) fn due(&self, oldest: i64) -> usize {
        self.superseded.partition_point(|(rev, _)| *rev <= oldest)
    }

    /// Gives up versions that nobody may ask for once history starts at `oldest`; looks at `most` of them at most.
    /// Returns whether there is more to do.
    pub(crate) fn prune(&mut self, oldest: i64, most: usize) -> bool {
        for _ in 0..most {
            let Some((_, place)) = self.superseded.pop_front_if(|(rev, _)| *rev <= oldest) else {
                return false;
            };
            self.prune_entry(place, oldest);
        }
        self.superseded.front().is_some_and(|(rev, _)| *rev <= oldest)
    }

    fn prune_entry(&mut self, place: Place, oldest: i64) {
        let Some(Entry { key, history }) = self.entries.get_mut(place) else {
            return;
        };
        let mut freed = 0;
        if history.last.rev <= oldest {
            freed += history.older.take().iter().flat_map(|older| older.iter()).map(|old| bytes(key, old)).sum::<u64>();
            if history.last.is_deletion() {
                freed += bytes(key, &history.last);
                self.keys.remove(key);
                self.entries.remove(place);
            }
        } else if let Some(older) = &mut history.older {
            let mut keep = older.partition_point(|version| version.rev <= oldest).saturating_sub(1);
            if older.get(keep).is_some_and(|version| version.rev <= oldest && version.is_deletion()) {
                keep += 1;
            }
            freed += older.drain(..keep).map(|old| bytes(key, &old)).sum::<u64>();
            if older.is_empty() {
                history.older = None;
            } else {
                older.shrink_to(older.len() * 2);
            }
        }
        self.bytes -= freed;
    }
}

fn bytes(key: &[u8], version: &Version) -> u64 {
    key.len() as u64 + u64::from(version.len) + VERSION_OVERHEAD_BYTES
}
