//! A store's files made from a copy of it: a base with the state that history begins with, and the log behind it.

use std::sync::Arc;

use super::{
    base::{FRAME_BYTES, Output},
    frame,
    log::{Log, Spare, create},
    options::Options,
    record::{Put, Record, encode},
    recover::{self, Found},
};
use crate::{KeyValue, LeaseId, Result, Revision, disk::Disk, limits::BATCH_BYTES_MAX};

/// The number of the base; the log goes on with the next.
const BASE: u64 = 1;

/// A store being written. Keys of the base come first, then [`Restoring::log`].
pub(crate) struct Restoring {
    disk: Arc<dyn Disk>,
    base: Revision,
    out: Output,
    puts: u64,
}

impl Restoring {
    /// On an empty disk. `base`: the oldest revision that can be read afterwards.
    pub(crate) fn begin(disk: Arc<dyn Disk>, base: Revision) -> Result<Self> {
        let mut out = Output::create(&*disk, BASE)?;
        // A store that was never compacted says so.
        let compacted = if base > Revision::EMPTY { base.0 } else { 0 };
        encode(Record::BaseHead { rev: base.0, compacted, next_seq: 1 }, &mut out.frame);
        Ok(Self { disk, base, out, puts: 0 })
    }

    /// A key that exists at the base's revision. Keys come in order.
    pub(crate) fn key(&mut self, kv: &KeyValue, sub: u32) -> Result<()> {
        encode(Record::Put(put(kv, sub)), &mut self.out.frame);
        self.puts += 1;
        if self.out.frame.len() >= FRAME_BYTES { self.out.flush() } else { Ok(()) }
    }

    /// Ends the base, and begins with what happened since.
    pub(crate) fn log(mut self, leases: &[(LeaseId, i64)]) -> Result<Changes> {
        for (id, ttl) in leases {
            encode(Record::Grant { id: id.0, ttl: *ttl }, &mut self.out.frame);
        }
        encode(Record::BaseFoot { puts: self.puts }, &mut self.out.frame);
        self.out.flush()?;
        self.out.finish(&*self.disk, BASE)?;
        let segment_bytes = Options::default().segment_bytes;
        let active = create(&*self.disk, BASE + 1, 1, segment_bytes, self.base.0)?;
        let spare = Arc::new(Spare::new(Arc::default()));
        let log = Log::new(self.disk, active, 1, false, segment_bytes, spare);
        Ok(Changes { log, frame: frame::empty(), revision: self.base })
    }
}

/// What happened since the base's revision, oldest first; no revision is left out.
pub(crate) struct Changes {
    log: Log,
    frame: Vec<u8>,
    revision: Revision,
}

impl Changes {
    pub(crate) fn put(&mut self, kv: &KeyValue, sub: u32) -> Result<()> {
        self.advance(kv.mod_revision)?;
        encode(Record::Put(put(kv, sub)), &mut self.frame);
        Ok(())
    }

    pub(crate) fn delete(&mut self, key: &[u8], revision: Revision, sub: u32) -> Result<()> {
        self.advance(revision)?;
        encode(Record::Delete { key, sub, rev: revision.0 }, &mut self.frame);
        Ok(())
    }

    /// Makes all of it durable.
    pub(crate) fn end(mut self) -> Result<()> {
        self.flush()?;
        self.log.seal()
    }

    /// A revision is in one frame: readers of history count on it.
    fn advance(&mut self, revision: Revision) -> Result<()> {
        if revision > self.revision && self.frame.len() >= BATCH_BYTES_MAX {
            self.flush()?;
        }
        self.revision = revision;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.frame.len() > frame::HEAD {
            self.log.make_room(self.frame.len(), true)?;
            self.log.append(&mut self.frame, self.revision.0)?;
            self.frame = frame::empty();
        }
        Ok(())
    }
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

/// Reads a store from disk without running it: where it is, and each key that exists, in order.
pub(crate) fn read_back<E: From<crate::Error>>(
    disk: &dyn Disk,
    mut each: impl FnMut(KeyValue) -> std::result::Result<(), E>,
) -> std::result::Result<Revision, E> {
    let Found { state, .. } = recover::recover(disk, &Options::default())?;
    for (key, history) in state.index.after(None) {
        let Some(version) = history.live_at(state.revision) else { continue };
        each(super::scan::Found::new(&state.index, key, version, true).load()?)?;
    }
    Ok(Revision(state.revision))
}
