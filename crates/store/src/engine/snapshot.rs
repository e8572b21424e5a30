//! The copy of the store in etcd's format: versions in order of revision, which the index is not.
//!
//! So the index is gone through once for every [`SNAPSHOT_WINDOW`] versions, a few keys under each hold of its lock:
//! first to find how large the file is, then to write it. What is copied is pinned, so both times see the same.

use std::{collections::VecDeque, sync::Arc};

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedSemaphorePermit;

use super::{
    index::{Key, Version},
    scan::Found,
    shared::Shared,
    signal::read,
};
use crate::{
    BoxFuture, Error, KeyValue, LeaseId, Result, Revision, Snapshot, SnapshotPart, SnapshotSource,
    limits::{SCAN_KEYS, SNAPSHOT_PART_BYTES, SNAPSHOT_WINDOW, SNAPSHOTS_MAX},
    proto::mvccpb,
    snapshot::{
        Lease,
        bolt::{self, FIRST_TREE, PAGE_BYTES, Plan, Tree},
    },
};

/// A revision as etcd writes it: big-endian u64, `_`, the place in it as big-endian u64.
const REVISION_BYTES: usize = 17;

/// What a deletion's revision ends with.
const DELETION: u8 = b't';

/// Begins a copy. `ask` answers where the store is and which leases are in force there.
pub(crate) async fn snapshot(
    shared: Arc<Shared>,
    ask: impl Future<Output = Result<(Revision, Vec<(LeaseId, i64)>)>>,
) -> Result<Snapshot> {
    let room = shared.snapshots.clone().try_acquire_owned();
    let room = room.map_err(|_| Error::TooManySnapshots { max: SNAPSHOTS_MAX })?;
    // Compaction may come in between, but from when its revision is pinned, what that one shows stays.
    let pinned = loop {
        let pinned = Pinned::new(shared.clone(), shared.compacted().max(1));
        if pinned.rev >= shared.compacted() {
            break pinned;
        }
    };
    let (revision, leases) = ask.await?;
    let contents = Contents { oldest: pinned.rev, pinned, rev: revision.0 };
    let mut keys = Plan::default();
    let mut place = Place::START;
    loop {
        let window = contents.window(place).await;
        let Some(last) = window.last() else { break };
        place = last.place;
        window.iter().for_each(|entry| keys.push(entry.place.bytes(entry.deletion), entry.value));
    }
    Ok(Snapshot::new(revision, Box::new(Source::new(contents, keys.finish(), leases, room))))
}

/// Keeps a revision readable.
struct Pinned {
    shared: Arc<Shared>,
    rev: i64,
}

impl Pinned {
    fn new(shared: Arc<Shared>, rev: i64) -> Self {
        let (rev, _) = shared.add_pin(rev);
        Self { shared, rev }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.shared.remove_pin(self.rev);
    }
}

/// Where a version stands in history: its revision, and its place in that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place(i64, u32);

impl Place {
    const START: Place = Place(0, 0);

    fn encode(self, deletion: bool) -> Vec<u8> {
        let mut key = Vec::with_capacity(REVISION_BYTES + 1);
        key.extend_from_slice(&self.0.to_be_bytes());
        key.push(b'_');
        key.extend_from_slice(&u64::from(self.1).to_be_bytes());
        key.extend(deletion.then_some(DELETION));
        key
    }

    fn bytes(self, deletion: bool) -> usize {
        REVISION_BYTES + usize::from(deletion)
    }
}

/// A version to be written.
struct Entry {
    place: Place,
    key: Key,
    deletion: bool,
    /// Bytes of its value in the database.
    value: usize,
}

impl Entry {
    fn new(key: &Key, version: &Version) -> Self {
        let place = Place(version.rev, version.sub);
        Self { place, key: key.clone(), deletion: version.is_deletion(), value: value_bytes(key, version) }
    }
}

/// What is copied: what revisions from `oldest` to `rev` show.
struct Contents {
    pinned: Pinned,
    oldest: i64,
    rev: i64,
}

impl Contents {
    /// The versions behind a place, as many as are put into order at once.
    async fn window(&self, behind: Place) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        let mut last: Option<Place> = None;
        let mut after: Option<Key> = None;
        loop {
            after = self.step(after.as_ref(), |entry| {
                if entry.place > behind && last.is_none_or(|last| entry.place < last) {
                    found.push(entry);
                }
            });
            if found.len() >= 2 * SNAPSHOT_WINDOW {
                found.select_nth_unstable_by_key(SNAPSHOT_WINDOW, |entry| entry.place);
                last = Some(found[SNAPSHOT_WINDOW].place);
                found.truncate(SNAPSHOT_WINDOW);
            }
            if after.is_none() {
                break;
            }
            tokio::task::yield_now().await;
        }
        found.sort_unstable_by_key(|entry| entry.place);
        found.truncate(SNAPSHOT_WINDOW);
        found
    }

    /// Visits some keys; returns the last, `None` behind all.
    fn step(&self, after: Option<&Key>, mut give: impl FnMut(Entry)) -> Option<Key> {
        let index = read(&self.pinned.shared.index);
        let mut last = None;
        for (key, history) in index.after(after).take(SCAN_KEYS) {
            last = Some(key);
            history.shown(self.oldest, self.rev).for_each(|version| give(Entry::new(key, version)));
        }
        last.cloned()
    }

    fn find(&self, entries: &[Entry]) -> Vec<(Found, Place, bool)> {
        let index = read(&self.pinned.shared.index);
        let find = |entry: &Entry| {
            let version = index.get(&entry.key).and_then(|history| history.find(entry.place.0, entry.place.1));
            let version = version.expect("what is pinned stays");
            (Found::new(&index, &entry.key, version, !entry.deletion), entry.place, entry.deletion)
        };
        entries.iter().map(find).collect()
    }
}

/// The copy, written as it is read.
struct Source {
    contents: Contents,
    /// Behind which place the next window begins.
    place: Place,
    window: VecDeque<Entry>,
    found: VecDeque<(Found, Place, bool)>,
    /// The keys' tree; `None` when it is written.
    keys: Option<Tree>,
    /// Written and not yet given.
    out: Vec<u8>,
    ready: BytesMut,
    remaining: u64,
    hasher: Option<Sha256>,
    _room: OwnedSemaphorePermit,
}

impl Source {
    /// Writes everything but the keys, which come last.
    fn new(contents: Contents, key_pages: u64, mut leases: Vec<(LeaseId, i64)>, room: OwnedSemaphorePermit) -> Self {
        // As etcd's keys are: ordered as numbers without a sign.
        leases.sort_unstable_by_key(|(id, _)| id.0 as u64);
        let mut trees = Vec::new();
        let mut next = FIRST_TREE;
        let mut buckets = Vec::new();
        // Those of users, members and alarms are expected to be there, and a restore wants them empty.
        for name in
            ["alarm", "auth", "authRoles", "authUsers", "cluster", "key", "lease", "members", "members_removed", "meta"]
        {
            if name == "key" {
                buckets.push((name, 0));
                continue;
            }
            let mut tree = Tree::new(next);
            match name {
                "lease" => leases.iter().for_each(|(id, ttl)| {
                    tree.push(&id.0.to_be_bytes(), &lease_value(*id, *ttl), &mut trees);
                }),
                "meta" => meta(contents.rev, contents.oldest, &mut tree, &mut trees),
                _ => {}
            }
            let (root, end) = tree.finish(&mut trees);
            buckets.push((name, root));
            next = end;
        }
        let pages = next + key_pages;
        // The root of a tree is the last page written of it.
        buckets.iter_mut().filter(|(name, _)| *name == "key").for_each(|(_, root)| *root = pages - 1);
        let mut out = Vec::new();
        bolt::front(&buckets, pages, contents.rev.unsigned_abs(), &mut out);
        out.append(&mut trees);
        Self {
            contents,
            place: Place::START,
            window: VecDeque::new(),
            found: VecDeque::new(),
            keys: Some(Tree::new(next)),
            out,
            ready: BytesMut::new(),
            remaining: pages * PAGE_BYTES as u64,
            hasher: Some(Sha256::new()),
            _room: room,
        }
    }

    /// Writes on until there is something to give.
    async fn fill(&mut self) -> Result<()> {
        while self.out.len() + self.ready.len() < SNAPSHOT_PART_BYTES && self.keys.is_some() {
            if let Some((found, place, deletion)) = self.found.pop_front() {
                let kv = found.load()?;
                let tree = self.keys.as_mut().expect("it is not written yet");
                tree.push(&place.encode(deletion), &value(kv, deletion), &mut self.out);
            } else if self.window.is_empty() {
                let window = self.contents.window(self.place).await;
                match window.last() {
                    Some(last) => self.place = last.place,
                    None => drop(self.keys.take().map(|tree| tree.finish(&mut self.out))),
                }
                self.window = window.into();
            } else {
                let some = self.window.len().min(SCAN_KEYS);
                let some: Vec<Entry> = self.window.drain(..some).collect();
                self.found = self.contents.find(&some).into();
                tokio::task::yield_now().await;
            }
        }
        self.ready.extend_from_slice(&self.out);
        self.out.clear();
        self.out.shrink_to(2 * SNAPSHOT_PART_BYTES);
        Ok(())
    }

    async fn part(&mut self) -> Result<Option<SnapshotPart>> {
        if self.ready.len() < SNAPSHOT_PART_BYTES {
            self.fill().await?;
        }
        if self.ready.has_remaining() {
            let some = self.ready.len().min(SNAPSHOT_PART_BYTES);
            let bytes = self.ready.split_to(some).freeze();
            self.remaining = self.remaining.checked_sub(some as u64).expect("it is as large as planned");
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&bytes);
            }
            return Ok(Some(SnapshotPart { bytes, remaining: self.remaining }));
        }
        let Some(hasher) = self.hasher.take() else { return Ok(None) };
        assert_eq!(self.remaining, 0, "it is as large as planned");
        Ok(Some(SnapshotPart { bytes: Bytes::copy_from_slice(&hasher.finalize()), remaining: 0 }))
    }
}

impl SnapshotSource for Source {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SnapshotPart>>> {
        Box::pin(self.part())
    }
}

/// What etcd knows of itself besides the keys. A restore sets the index anew.
fn meta(rev: i64, oldest: i64, tree: &mut Tree, out: &mut Vec<u8>) {
    tree.push(b"consistent_index", &rev.to_be_bytes(), out);
    if oldest > 1 {
        let oldest = Place(oldest, 0).encode(false);
        tree.push(b"finishedCompactRev", &oldest, out);
        tree.push(b"scheduledCompactRev", &oldest, out);
    }
}

fn lease_value(id: LeaseId, ttl: i64) -> Vec<u8> {
    Lease { id: id.0, ttl }.encode_to_vec()
}

fn value(kv: KeyValue, deletion: bool) -> Vec<u8> {
    let kv = if deletion { KeyValue { key: kv.key, ..KeyValue::default() } } else { kv };
    mvccpb::KeyValue::from(kv).encode_to_vec()
}

/// The length of [`value`], without the value itself.
fn value_bytes(key: &[u8], version: &Version) -> usize {
    let bytes = |len: usize| if len == 0 { 0 } else { 1 + prost::length_delimiter_len(len) + len };
    let number = |number: i64| if number == 0 { 0 } else { 1 + prost::encoding::encoded_len_varint(number as u64) };
    if version.is_deletion() {
        return bytes(key.len());
    }
    let numbers = [version.create, version.rev, version.version, version.lease];
    bytes(key.len()) + bytes(version.len as usize) + numbers.into_iter().map(number).sum::<usize>()
}
