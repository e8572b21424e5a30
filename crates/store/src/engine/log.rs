//! The log: frames in segments of a fixed size, filled with zeros beforehand so that a sync has only data to write.
//!
//! A segment ends with an `End` record, durable before the next segment exists under its name. So only the last
//! segment can have a torn frame, and it only as its last.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io,
    sync::{Arc, Mutex},
};

use super::{
    frame::{self, DataFile, FILE_HEAD, FileHead},
    record::{Record, encode},
    signal::{Signal, lock},
};
use crate::{
    Error, Result,
    disk::{Disk, DiskFile},
    error::is_no_space,
    limits::{RESERVE_PART, UNSYNCED_BYTES_MAX},
};

pub(crate) const LOG_MAGIC: [u8; 8] = *b"REGROWL1";
/// The next segment while it is being filled in advance, and while it is made because that was too late.
const SPARE: &str = "spare.tmp";
const NEXT: &str = "next.tmp";
/// Room kept in a segment for its `End`.
const END_BYTES: u64 = 32;
/// A mark for readers of history is kept every so many bytes.
const MARK_BYTES: u64 = 64 * 1024;

pub(crate) fn log_name(id: u64) -> String {
    format!("log-{id:016x}")
}

/// A number nobody can guess.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// One segment of the log.
pub(crate) struct Segment {
    pub(crate) id: u64,
    pub(crate) data: Arc<DataFile>,
    pub(crate) size: u64,
    /// The sequence of its first frame.
    pub(crate) first_seq: u64,
    extent: Mutex<Extent>,
}

/// What of a segment is durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Extent {
    /// Bytes, head included.
    pub(crate) used: u64,
    /// The last revision in it or before it.
    pub(crate) last_rev: i64,
    /// Whether the next segment has begun.
    pub(crate) closed: bool,
    /// Revisions and where the first frame with nothing older begins.
    marks: Vec<(i64, u64)>,
}

impl Segment {
    pub(crate) fn new(id: u64, data: Arc<DataFile>, size: u64, first_seq: u64, last_rev: i64) -> Self {
        let extent = Extent { used: FILE_HEAD, last_rev, closed: false, marks: Vec::new() };
        Self { id, data, size, first_seq, extent: Mutex::new(extent) }
    }

    /// The number that versions in it know it by.
    pub(crate) fn file_id(&self) -> u32 {
        // 2^31 segments of 16 MiB are more than any disk's life.
        self.id as u32
    }

    pub(crate) fn extent(&self) -> Extent {
        let extent = lock(&self.extent);
        Extent { marks: Vec::new(), ..*extent }
    }

    /// Where to start reading to find all of `rev` and later that is in the segment.
    pub(crate) fn seek(&self, rev: i64) -> u64 {
        let extent = lock(&self.extent);
        let at = extent.marks.partition_point(|(first, _)| *first <= rev);
        at.checked_sub(1).map_or(FILE_HEAD, |at| extent.marks[at].1)
    }

    /// Notes a durable frame from `at` to `end`, after which the store is at `last_rev`.
    pub(crate) fn grow(&self, at: u64, end: u64, last_rev: i64) {
        let mut extent = lock(&self.extent);
        if at >= extent.marks.last().map_or(FILE_HEAD, |(_, at)| *at) + MARK_BYTES {
            let next = extent.last_rev + 1;
            extent.marks.push((next, at));
        }
        extent.used = end;
        extent.last_rev = last_rev;
    }

    pub(crate) fn close(&self) {
        lock(&self.extent).closed = true;
    }
}

/// A zero-filled file that becomes the next segment.
struct Blank {
    name: String,
    file: Arc<dyn DiskFile>,
    size: u64,
    /// Set when it has its head.
    salt: Option<u64>,
}

/// The place where housekeeping leaves the next segment.
pub(crate) struct Spare {
    slot: Mutex<Slot>,
    housekeeping: Arc<Signal>,
}

#[derive(Default)]
struct Slot {
    wanted: bool,
    blank: Option<Blank>,
}

impl Spare {
    pub(crate) fn new(housekeeping: Arc<Signal>) -> Self {
        Self { slot: Mutex::default(), housekeeping }
    }

    /// Makes the next segment if the log wants one. An error is left for the writer to run into by itself.
    pub(crate) fn prepare(&self, disk: &dyn Disk, size: u64) {
        let wanted = {
            let mut slot = lock(&self.slot);
            std::mem::take(&mut slot.wanted) && slot.blank.is_none()
        };
        if wanted {
            match blank(disk, SPARE, size) {
                Ok(made) => lock(&self.slot).blank = Some(made),
                Err(error) => tracing::debug!(%error, "no log segment in advance"),
            }
        }
    }

    /// Must not be called while a spare that was taken still has its name: the next one would be written over it.
    fn want(&self) {
        let mut slot = lock(&self.slot);
        if slot.blank.is_none() && !slot.wanted {
            slot.wanted = true;
            self.housekeeping.wake();
        }
    }

    fn take(&self, size: u64) -> Option<Blank> {
        let mut slot = lock(&self.slot);
        slot.wanted = false;
        slot.blank.take_if(|blank| blank.size >= size)
    }
}

fn blank(disk: &dyn Disk, name: &'static str, size: u64) -> io::Result<Blank> {
    let make = || {
        let file = disk.create(name)?;
        let zeros = vec![0; UNSYNCED_BYTES_MAX.min(size) as usize];
        let mut at = 0;
        while at < size {
            let len = UNSYNCED_BYTES_MAX.min(size - at);
            file.write_at(&zeros[..len as usize], at)?;
            file.sync()?;
            at += len;
        }
        Ok(Blank { name: name.to_owned(), file, size, salt: None })
    };
    make().inspect_err(|_| {
        // Whatever was taken is given back; what cannot be removed is overwritten next time.
        let _ = disk.remove(name);
    })
}

/// The log as its one writer has it.
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    pub(crate) active: Arc<Segment>,
    offset: u64,
    seq: u64,
    last_rev: i64,
    segment_bytes: u64,
    spare: Arc<Spare>,
    next: Option<Blank>,
    /// The active segment has its `End`.
    ended: bool,
    /// The active segment, as long as nobody else knows it.
    begun: Option<Arc<Segment>>,
    broken: Option<Broken>,
}

/// A write that failed; nothing is written behind it before it is wiped.
struct Broken {
    len: u64,
    error: Error,
    no_space: bool,
}

impl Log {
    /// Goes on behind the last frame of a segment.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        active: Arc<Segment>,
        seq: u64,
        ended: bool,
        segment_bytes: u64,
        spare: Arc<Spare>,
    ) -> Self {
        let extent = active.extent();
        Self {
            disk,
            offset: extent.used,
            last_rev: extent.last_rev,
            active,
            seq,
            segment_bytes,
            spare,
            next: None,
            ended,
            begun: None,
            broken: None,
        }
    }

    /// Makes sure that a frame of `len` bytes can be written. `shrinks`: it gives space back in the end, and may use
    /// the reserve.
    ///
    /// Errors: `NoSpace`; `Disk` if an earlier write failed.
    pub(crate) fn make_room(&mut self, len: usize, shrinks: bool) -> Result<()> {
        self.heal()?;
        let reserve = if shrinks { 0 } else { self.segment_bytes / RESERVE_PART };
        let need = frame::padded(len) + END_BYTES;
        if !self.ended && self.offset + need + reserve <= self.active.size {
            return Ok(());
        }
        let size = self.segment_bytes.max(FILE_HEAD + need + reserve);
        if self.next.as_ref().is_some_and(|next| next.size < size) {
            self.next = None;
        }
        if self.next.is_none() {
            self.next = self.spare.take(size);
        }
        if self.next.is_none() {
            let made = blank(&*self.disk, NEXT, size).map_err(|error| Error::disk("create", NEXT, error))?;
            self.next = Some(made);
        }
        Ok(())
    }

    /// Writes a frame durably. There must be room. Returns the offset of the frame, and the segment that was begun
    /// since the last frame that was written, if one was.
    ///
    /// Errors: `NoSpace`, then nothing was written; `Disk`, then it may have been.
    pub(crate) fn append(&mut self, frame: &mut Vec<u8>, last_rev: i64) -> Result<(u64, Option<Arc<Segment>>)> {
        self.heal()?;
        if self.ended || self.offset + frame::padded(frame.len()) + END_BYTES > self.active.size {
            self.rotate()?;
        }
        let at = self.offset;
        self.write(frame, last_rev)?;
        if self.next.is_none() && self.offset * 2 > self.active.size {
            self.spare.want();
        }
        Ok((at, self.begun.take()))
    }

    fn write(&mut self, frame: &mut Vec<u8>, last_rev: i64) -> Result<()> {
        let (data, at) = (self.active.data.clone(), self.offset);
        frame::seal(frame, data.salt, self.seq);
        let written = data.file.write_at(frame, at).and_then(|()| data.file.sync());
        if let Err(error) = written {
            let source = Arc::new(error);
            let file = data.name.clone();
            let unknown = Error::Disk { action: "write", file, source: source.clone() };
            let no_space = is_no_space(&source);
            self.broken = Some(Broken { len: frame.len() as u64, error: unknown.clone(), no_space });
            // If it can be wiped at once it has certainly not happened. Else a crash may still bring it to light.
            return Err(if no_space && self.heal().is_ok() { Error::NoSpace } else { unknown });
        }
        self.offset += frame.len() as u64;
        self.seq += 1;
        self.last_rev = last_rev;
        self.active.grow(at, self.offset, last_rev);
        Ok(())
    }

    /// Wipes a write that failed for want of space. One that failed otherwise stays failed: the kernel may have
    /// dropped the data and forgotten about it, so nothing more can be promised for this file.
    fn heal(&mut self) -> Result<()> {
        let Some(broken) = &self.broken else {
            return Ok(());
        };
        if !broken.no_space {
            return Err(broken.error.clone());
        }
        let data = &self.active.data;
        let zeros = vec![0; broken.len as usize];
        data.file
            .write_at(&zeros, self.offset)
            .and_then(|()| data.file.sync())
            .map_err(|error| Error::disk("wipe", &data.name, error))?;
        self.broken = None;
        Ok(())
    }

    fn rotate(&mut self) -> Result<()> {
        if !self.ended {
            let mut end = frame::empty();
            encode(Record::End, &mut end);
            self.write(&mut end, self.last_rev)?;
            self.ended = true;
        }
        let next = self.next.as_mut().expect("room was made");
        let data = begin(&*self.disk, next, self.active.id + 1, self.seq);
        let data = data.map_err(|error| Error::disk("begin", "the next log segment", error))?;
        let size = next.size;
        self.next = None;
        self.active.close();
        self.active = Arc::new(Segment::new(self.active.id + 1, data, size, self.seq, self.last_rev));
        self.offset = FILE_HEAD;
        self.ended = false;
        self.begun = Some(self.active.clone());
        Ok(())
    }

    /// Writes a frame that says nothing, so that damage to the one before it cannot be taken for a torn write.
    pub(crate) fn seal(&mut self) -> Result<()> {
        let mut seal = frame::empty();
        encode(Record::Seal, &mut seal);
        let room = frame::padded(seal.len()) + END_BYTES;
        if self.ended || self.broken.is_some() || self.offset + room > self.active.size {
            return Ok(());
        }
        self.write(&mut seal, self.last_rev)
    }
}

/// Gives a blank its head and its name. After an error it is called again with the same arguments, and goes on where
/// it was.
fn begin(disk: &dyn Disk, blank: &mut Blank, id: u64, first_seq: u64) -> io::Result<Arc<DataFile>> {
    let salt = match blank.salt {
        Some(salt) => salt,
        None => {
            let salt = random();
            let head = FileHead { magic: LOG_MAGIC, id, salt, first_seq };
            blank.file.write_at(&head.encode(), 0)?;
            blank.file.sync()?;
            *blank.salt.insert(salt)
        }
    };
    let name = log_name(id);
    if blank.name != name {
        disk.rename(&blank.name, &name)?;
        blank.name.clone_from(&name);
    }
    disk.sync_folder()?;
    Ok(Arc::new(DataFile { name, file: blank.file.clone(), salt }))
}

/// Creates a segment outright, as the first of a new store or after a crash between two segments.
pub(crate) fn create(disk: &dyn Disk, id: u64, first_seq: u64, size: u64, last_rev: i64) -> Result<Arc<Segment>> {
    let name = log_name(id);
    let made = blank(disk, NEXT, size).and_then(|mut blank| begin(disk, &mut blank, id, first_seq));
    let data = made.map_err(|error| Error::disk("create", &name, error))?;
    Ok(Arc::new(Segment::new(id, data, size, first_seq, last_rev)))
}
