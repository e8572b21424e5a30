//! The base: the keys as they were at some revision, in one file that stands for all segments of the log up to there.
//!
//! It is written only when compaction has made enough of those segments garbage, in small steps beside the writer,
//! and only then are they removed. A crash in between leaves a file that has no name yet, and the segments.

use std::sync::Arc;

use super::{
    frame::{self, DataFile, FILE_HEAD, FileHead, FrameReader},
    index::Key,
    log::{Segment, random},
    record::{Put, Record, Records, encode},
    scan::Found,
    shared::Shared,
    signal::{lock, read, write},
};
use crate::{
    Error, KeyValue, Result,
    disk::Disk,
    limits::{SCAN_KEYS, STEP_KEYS, UNSYNCED_BYTES_MAX},
};

pub(crate) const BASE_MAGIC: [u8; 8] = *b"REGROWB1";
const TEMPORARY: &str = "base.tmp";
/// Bytes of a frame.
pub(super) const FRAME_BYTES: usize = 256 * 1024;

pub(crate) fn base_name(id: u64) -> String {
    format!("base-{id:016x}")
}

/// The number that versions in a base know it by.
pub(crate) fn base_file_id(id: u64) -> u32 {
    id as u32 | 1 << 31
}

/// Writes a new base if it is worth it, and removes what it stands for. Returns whether it did.
///
/// `pruned`: versions that only revisions below this one show are gone from the index, so nothing there points to what
/// is removed. `pause` is called between steps and says whether to go on.
pub(crate) fn renew(shared: &Shared, pruned: i64, pause: impl Fn() -> bool) -> Result<bool> {
    let Some(plan) = plan(shared, pruned) else {
        return Ok(false);
    };
    let written = write_base(shared, &plan, &pause);
    match written {
        Ok(Some((data, bytes))) => {
            relocate(shared, &plan, &data, bytes, &pause)?;
            remove(shared, &plan, bytes)?;
            Ok(true)
        }
        Ok(None) => {
            shared.disk.remove(TEMPORARY).map_err(|error| Error::disk("remove", TEMPORARY, error))?;
            Ok(false)
        }
        Err(error) => {
            // Gives back what was taken; the file is overwritten by the next attempt in any case.
            let _ = shared.disk.remove(TEMPORARY);
            Err(error)
        }
    }
}

/// Which segments a base would stand for.
struct Plan {
    upto: u64,
    rev: i64,
    compacted: i64,
    next_seq: u64,
    old_base: u64,
}

fn plan(shared: &Shared, compacted: i64) -> Option<Plan> {
    let (base_bytes, old_base) = *lock(&shared.base);
    let segments = lock(&shared.segments);
    let mut log_bytes = 0;
    let mut plan = None;
    for pair in segments.windows(2) {
        let extent = pair[0].extent();
        if extent.last_rev >= compacted {
            break;
        }
        log_bytes += pair[0].size;
        let (upto, next_seq) = (pair[0].id, pair[1].first_seq);
        plan = Some(Plan { upto, rev: extent.last_rev, compacted, next_seq, old_base });
    }
    drop(segments);
    // Worth it when a third of what would be replaced is garbage: so the disk holds at most about half as much again
    // as is needed, and each byte is rewritten about twice in its life.
    let needed = read(&shared.index).bytes;
    plan.filter(|_| base_bytes + log_bytes >= needed + needed / 2)
}

type Written = Option<(Arc<DataFile>, u64)>;

fn write_base(shared: &Shared, plan: &Plan, pause: &impl Fn() -> bool) -> Result<Written> {
    let mut out = Output::create(&*shared.disk, plan.upto)?;
    encode(Record::BaseHead { rev: plan.rev, compacted: plan.compacted, next_seq: plan.next_seq }, &mut out.frame);
    let mut puts = 0;
    let mut after: Option<Key> = None;
    loop {
        if !pause() {
            return Ok(None);
        }
        let mut found = Vec::new();
        let mut last = None;
        {
            let index = read(&shared.index);
            for (key, history) in index.after(after.as_ref()).take(SCAN_KEYS) {
                last = Some(key);
                if let Some(version) = history.live_at(plan.rev) {
                    found.push((Found::new(&index, key, version, true), version.sub));
                }
            }
            after = last.cloned();
        }
        if after.is_none() {
            break;
        }
        for (found, sub) in found {
            let kv = found.load()?;
            encode(Record::Put(put(&kv, sub)), &mut out.frame);
            puts += 1;
            if out.frame.len() >= FRAME_BYTES {
                out.flush()?;
            }
        }
    }
    let leases: Vec<(i64, i64)> = {
        // Between batches no lease is granted or revoked that might not be so after a crash.
        let _between = lock(&shared.batch);
        lock(&shared.leases).all.iter().map(|(id, lease)| (*id, lease.ttl)).collect()
    };
    for (id, ttl) in leases {
        encode(Record::Grant { id, ttl }, &mut out.frame);
    }
    encode(Record::BaseFoot { puts }, &mut out.frame);
    out.flush()?;
    out.finish(&*shared.disk, plan.upto).map(Some)
}

fn put(kv: &KeyValue, sub: u32) -> Put<'_> {
    Put {
        key: &kv.key,
        value: &kv.value,
        sub,
        rev: kv.mod_revision.0,
        create: kv.create_revision.0,
        version: kv.version,
        lease: kv.lease.0,
    }
}

/// The file being written.
pub(super) struct Output {
    data: DataFile,
    pub(super) frame: Vec<u8>,
    at: u64,
    synced: u64,
    seq: u64,
}

impl Output {
    pub(super) fn create(disk: &dyn Disk, id: u64) -> Result<Self> {
        let salt = random();
        let head = FileHead { magic: BASE_MAGIC, id, salt, first_seq: 1 };
        let file = disk.create(TEMPORARY).map_err(|error| Error::disk("create", TEMPORARY, error))?;
        file.write_at(&head.encode(), 0).map_err(|error| Error::disk("write", TEMPORARY, error))?;
        let data = DataFile { name: base_name(id), file, salt };
        Ok(Self { data, frame: frame::empty(), at: FILE_HEAD, synced: 0, seq: 1 })
    }

    pub(super) fn flush(&mut self) -> Result<()> {
        frame::seal(&mut self.frame, self.data.salt, self.seq);
        let written = self.data.file.write_at(&self.frame, self.at);
        written.map_err(|error| Error::disk("write", TEMPORARY, error))?;
        self.at += self.frame.len() as u64;
        self.seq += 1;
        self.frame = frame::empty();
        if self.at >= self.synced + UNSYNCED_BYTES_MAX {
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.synced = self.at;
        self.data.file.sync().map_err(|error| Error::disk("sync", TEMPORARY, error))
    }

    pub(super) fn finish(mut self, disk: &dyn Disk, id: u64) -> Result<(Arc<DataFile>, u64)> {
        self.sync()?;
        let name = base_name(id);
        let named = disk.rename(TEMPORARY, &name).and_then(|()| disk.sync_folder());
        named.map_err(|error| Error::disk("rename", &name, error))?;
        Ok((Arc::new(self.data), self.at))
    }
}

/// Lets the index point to the new file. Goes on when told to stop: the next start would find it done anyway.
fn relocate(shared: &Shared, plan: &Plan, data: &Arc<DataFile>, bytes: u64, pause: &impl Fn() -> bool) -> Result<()> {
    let id = base_file_id(plan.upto);
    write(&shared.index).files.insert(id, data.clone());
    let mut reader = FrameReader::new(data.clone(), FILE_HEAD, bytes, Some(1));
    while let Some((at, payload)) = reader.expect()? {
        for some in Records::new(payload).collect::<Vec<_>>().chunks(STEP_KEYS) {
            pause();
            let mut index = write(&shared.index);
            for record in some.iter().flatten() {
                if let (Record::Put(put), place) = record {
                    index.relocate(put.key, put.rev, put.sub, (id, at + *place as u64));
                }
            }
        }
    }
    Ok(())
}

fn remove(shared: &Shared, plan: &Plan, bytes: u64) -> Result<()> {
    let gone: Vec<Arc<Segment>> = {
        let mut segments = lock(&shared.segments);
        let keep = segments.partition_point(|segment| segment.id <= plan.upto);
        segments.drain(..keep).collect()
    };
    *lock(&shared.base) = (bytes, plan.upto);
    let mut names: Vec<String> = gone.iter().map(|segment| segment.data.name.clone()).collect();
    {
        let mut index = write(&shared.index);
        gone.iter().for_each(|segment| drop(index.files.remove(&segment.file_id())));
        if let Some(old) = index.files.remove(&base_file_id(plan.old_base)) {
            names.push(old.name.clone());
        }
    }
    for name in names {
        shared.disk.remove(&name).map_err(|error| Error::disk("remove", &name, error))?;
    }
    shared.disk.sync_folder().map_err(|error| Error::disk("sync", "the data folder", error))
}
