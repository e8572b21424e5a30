//! Reading history from the log.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    frame::FrameReader,
    log::Segment,
    record::{Record, Records},
    shared::Shared,
    signal::lock,
};
use crate::{Error, Event, EventKind, KeyValue, LeaseId, Result, Revision, limits::HISTORY_BYTES};

/// A reader of history, a piece at a time.
pub(crate) struct History {
    /// The next revision to read.
    pub(crate) next: i64,
    at: Option<(Arc<Segment>, FrameReader)>,
}

impl History {
    pub(crate) fn new(next: i64) -> Self {
        Self { next, at: None }
    }

    /// Reads on and gives every event from `next` on, whole revisions only. `true` when it has come to where the store
    /// is.
    ///
    /// Errors: `Compacted`, `Corrupt`, `Disk`.
    pub(crate) fn step(&mut self, shared: &Shared, mut give: impl FnMut(Event)) -> Result<bool> {
        let current = shared.revision();
        let (segment, mut reader) = match self.at.take() {
            Some(at) => at,
            None => self.seek(shared)?,
        };
        reader.end = segment.extent().used;
        let end = reader.at.saturating_add(HISTORY_BYTES as u64);
        while reader.at < end {
            let name = reader.source.name.clone();
            let Some((at, payload)) = reader.expect()? else {
                if segment.extent().closed {
                    // The next step finds the next segment.
                    return Ok(self.next > current);
                }
                self.next = self.next.max(current + 1);
                self.at = Some((segment, reader));
                return Ok(true);
            };
            let mut last = self.next - 1;
            for record in Records::new(payload) {
                let (record, _) = record.map_err(|place| Error::corrupt(&name, at + place as u64, "unknown record"))?;
                let Some(event) = event(record) else { continue };
                let rev = event.kv.mod_revision.0;
                if rev > current {
                    // Durable, but not shown yet. It is looked for anew when it is.
                    return Ok(true);
                }
                last = last.max(rev);
                if rev >= self.next {
                    give(event);
                }
            }
            self.next = last + 1;
        }
        self.at = Some((segment, reader));
        Ok(false)
    }

    fn seek(&self, shared: &Shared) -> Result<(Arc<Segment>, FrameReader)> {
        let segment = {
            let segments = lock(&shared.segments);
            let found = segments.iter().find(|segment| segment.extent().last_rev >= self.next);
            found.or(segments.last()).cloned().expect("there is always a segment")
        };
        // Asked after the segment was found: what is not compacted now was still in the list then.
        let compacted = shared.compacted();
        if self.next < compacted {
            return Err(Error::Compacted { requested: Revision(self.next), compacted: Revision(compacted) });
        }
        let reader = FrameReader::new(segment.data.clone(), segment.seek(self.next), segment.extent().used, None);
        Ok((segment, reader))
    }
}

fn event(record: Record<'_>) -> Option<Event> {
    match record {
        Record::Put(put) => {
            let kv = KeyValue {
                key: Bytes::copy_from_slice(put.key),
                value: Bytes::copy_from_slice(put.value),
                create_revision: Revision(put.create),
                mod_revision: Revision(put.rev),
                version: put.version,
                lease: LeaseId(put.lease),
            };
            Some(Event { kind: EventKind::Put, kv, prev_kv: None })
        }
        Record::Delete { key, rev, .. } => {
            let kv = KeyValue { key: Bytes::copy_from_slice(key), mod_revision: Revision(rev), ..KeyValue::default() };
            Some(Event { kind: EventKind::Delete, kv, prev_kv: None })
        }
        _ => None,
    }
}
