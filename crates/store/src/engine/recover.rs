//! Opening: the base, then the log behind it.

use std::sync::Arc;

use super::{
    base::{BASE_MAGIC, base_file_id, base_name},
    frame::{DataFile, FILE_HEAD, FileHead, FrameReader, Step, Tail},
    index::{Index, Key, Version},
    leases::Leases,
    log::{LOG_MAGIC, Segment, create, log_name},
    options::Options,
    record::{Put, Record, Records},
    shared::State,
};
use crate::{Error, Result, Revision, disk::Disk};

/// What was found, and where the log goes on.
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) seq: u64,
    pub(crate) ended: bool,
}

/// Reads everything on a disk, or begins a store on an empty one.
///
/// Errors: `Corrupt`, naming file and offset; `Disk`; `NoSpace`.
pub(crate) fn recover(disk: &dyn Disk, options: &Options) -> Result<Found> {
    let names = disk.list().map_err(|error| Error::disk("list", "the data folder", error))?;
    let remove = |name: &str| disk.remove(name).map_err(|error| Error::disk("remove", name, error));
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        remove(name)?;
    }
    let ids = |prefix: &str| {
        let mut ids: Vec<u64> =
            names.iter().filter_map(|name| u64::from_str_radix(name.strip_prefix(prefix)?, 16).ok()).collect();
        ids.sort_unstable();
        ids
    };
    let bases = ids("base-");
    let base = bases.last().copied();
    for id in bases.iter().filter(|id| Some(**id) != base) {
        remove(&base_name(*id))?;
    }
    let mut logs = ids("log-");
    for id in logs.iter().filter(|id| Some(**id) <= base) {
        remove(&log_name(*id))?;
    }
    logs.retain(|id| Some(*id) > base);

    let mut replay = Replay::new(options.inline_bytes_max);
    if let Some(id) = base {
        replay.base(disk, id)?;
    }
    let first = base.unwrap_or(0) + 1;
    if logs.is_empty() && base.is_none() {
        let segment = create(disk, first, 1, options.segment_bytes, replay.revision)?;
        replay.add(segment);
    }
    for (at, id) in logs.iter().enumerate() {
        let expected = first + at as u64;
        if *id != expected {
            return Err(Error::corrupt(&log_name(expected), 0, "file missing"));
        }
        replay.segment(disk, *id, at + 1 == logs.len())?;
    }
    if replay.segments.is_empty() {
        return Err(Error::corrupt(&log_name(first), 0, "file missing"));
    }
    replay.leases.start_all(options.clock.now());
    Ok(Found {
        state: State {
            index: replay.index,
            leases: replay.leases,
            segments: replay.segments,
            base: replay.base,
            revision: replay.revision,
            compacted: replay.compacted,
        },
        seq: replay.seq,
        ended: replay.ended,
    })
}

struct Replay {
    index: Index,
    leases: Leases,
    segments: Vec<Arc<Segment>>,
    base: (u64, u64),
    revision: i64,
    compacted: i64,
    seq: u64,
    ended: bool,
    inline: usize,
}

impl Replay {
    fn new(inline: usize) -> Self {
        Self {
            index: Index::default(),
            leases: Leases::default(),
            segments: Vec::new(),
            base: (0, 0),
            revision: Revision::EMPTY.0,
            compacted: 0,
            seq: 1,
            ended: false,
            inline,
        }
    }

    fn add(&mut self, segment: Arc<Segment>) {
        self.index.files.insert(segment.file_id(), segment.data.clone());
        self.segments.push(segment);
    }

    fn version(&self, put: &Put<'_>, place: (u32, u64)) -> Version {
        Version {
            rev: put.rev,
            create: put.create,
            version: put.version,
            lease: put.lease,
            offset: place.1,
            file: place.0,
            len: put.value.len() as u32,
            sub: put.sub,
            value: (put.value.len() <= self.inline).then(|| put.value.into()),
        }
    }

    fn base(&mut self, disk: &dyn Disk, id: u64) -> Result<()> {
        let name = base_name(id);
        let (data, _) = open(disk, &name, BASE_MAGIC, id)?;
        let len = data.file.len().map_err(|error| Error::disk("measure", &name, error))?;
        let mut reader = FrameReader::new(data.clone(), FILE_HEAD, len, Some(1));
        let mut keys: Vec<(Key, Version)> = Vec::new();
        let mut foot = None;
        while let Some((at, payload)) = reader.expect()? {
            for record in Records::new(payload) {
                let (record, place) = record.map_err(|place| unknown(&name, at, place))?;
                match record {
                    Record::BaseHead { rev, compacted, next_seq } => {
                        (self.revision, self.compacted, self.seq) = (rev, compacted, next_seq);
                    }
                    Record::Put(put) => {
                        let version = self.version(&put, (base_file_id(id), at + place as u64));
                        keys.push((put.key.into(), version));
                    }
                    Record::Grant { id, ttl } => self.leases.grant(id, ttl, Default::default(), true),
                    Record::BaseFoot { puts } => foot = Some(puts),
                    _ => return Err(Error::corrupt(&name, at, "record out of place")),
                }
            }
        }
        if foot != Some(keys.len() as u64) {
            return Err(Error::corrupt(&name, len, "end of the file missing"));
        }
        for (key, version) in &keys {
            self.leases.attach(key, 0, version.lease);
        }
        self.index.load(keys);
        self.index.files.insert(base_file_id(id), data);
        self.base = (len, id);
        Ok(())
    }

    fn segment(&mut self, disk: &dyn Disk, id: u64, last: bool) -> Result<()> {
        let name = log_name(id);
        let (data, head) = open(disk, &name, LOG_MAGIC, id)?;
        if head.first_seq != self.seq {
            return Err(Error::corrupt(&name, 0, "sequence of the file"));
        }
        let size = data.file.len().map_err(|error| Error::disk("measure", &name, error))?;
        let segment = Arc::new(Segment::new(id, data.clone(), size, self.seq, self.revision));
        self.add(segment.clone());
        let mut reader = FrameReader::new(data, FILE_HEAD, size, Some(self.seq));
        self.ended = false;
        loop {
            let from = reader.at;
            match reader.step()? {
                Step::Frame { at, payload } => {
                    self.apply(&segment, at, payload)?;
                    segment.grow(from, reader.at, self.revision);
                    self.seq += 1;
                    if self.ended {
                        break;
                    }
                }
                Step::Bad if last => {
                    cut(&reader)?;
                    break;
                }
                Step::End if last => break,
                Step::Bad => return Err(Error::corrupt(&name, from, "checksum of a frame")),
                Step::End => {
                    return Err(Error::corrupt(&name, from, "end of the log segment missing"));
                }
            }
        }
        if !last {
            segment.close();
        }
        Ok(())
    }

    fn apply(&mut self, segment: &Segment, at: u64, payload: &[u8]) -> Result<()> {
        let name = &segment.data.name;
        for record in Records::new(payload) {
            let (record, place) = record.map_err(|place| unknown(name, at, place))?;
            match record {
                Record::Put(put) => {
                    self.advance(put.rev, put.sub, name, at)?;
                    let version = self.version(&put, (segment.file_id(), at + place as u64));
                    let pushed = self.index.push(put.key, version);
                    self.leases.attach(&pushed.key, pushed.lease, put.lease);
                }
                Record::Delete { key, sub, rev } => {
                    self.advance(rev, sub, name, at)?;
                    let file = segment.file_id();
                    let version =
                        Version { rev, create: 0, version: 0, lease: 0, offset: 0, file, len: 0, sub, value: None };
                    let pushed = self.index.push(key, version);
                    self.leases.attach(&pushed.key, pushed.lease, 0);
                }
                Record::Grant { id, ttl } => {
                    // A base is newer than the log behind it as far as leases go, so it may be there already.
                    if !self.leases.all.contains_key(&id) {
                        self.leases.grant(id, ttl, Default::default(), true);
                    }
                }
                Record::Revoke { id } => drop(self.leases.remove(id)),
                Record::Compact { rev } => {
                    self.compacted = self.compacted.max(rev);
                    self.index.prune(self.compacted, usize::MAX);
                }
                Record::End => self.ended = true,
                Record::Seal => {}
                Record::BaseHead { .. } | Record::BaseFoot { .. } => {
                    return Err(Error::corrupt(name, at, "record out of place"));
                }
            }
        }
        Ok(())
    }

    /// Revisions have no gaps, and the changes of each are numbered.
    fn advance(&mut self, rev: i64, sub: u32, name: &str, at: u64) -> Result<()> {
        let next = if sub == 0 { self.revision + 1 } else { self.revision };
        if rev != next {
            return Err(Error::corrupt(name, at, "revision out of order"));
        }
        self.revision = rev;
        Ok(())
    }
}

fn open(disk: &dyn Disk, name: &str, magic: [u8; 8], id: u64) -> Result<(Arc<DataFile>, FileHead)> {
    let file = disk.open(name).map_err(|error| Error::disk("open", name, error))?;
    let head = FileHead::read(&*file, name, magic, id)?;
    Ok((Arc::new(DataFile { name: name.to_owned(), file, salt: head.salt }), head))
}

fn unknown(name: &str, at: u64, place: usize) -> Error {
    Error::corrupt(name, at + place as u64, "unknown record")
}

/// Cuts a torn write off the end of the log.
fn cut(reader: &FrameReader) -> Result<()> {
    let name = &reader.source.name;
    match reader.tail()? {
        Tail::Clean => Ok(()),
        Tail::Damage => Err(Error::corrupt(name, reader.at, "checksum of a frame")),
        Tail::Torn { len } => {
            tracing::warn!(file = name, offset = reader.at, bytes = len, "cut an unfinished write off the log");
            let zeros = vec![0; len as usize];
            let wiped = reader.source.file.write_at(&zeros, reader.at).and_then(|()| reader.source.file.sync());
            wiped.map_err(|error| Error::disk("wipe", name, error))
        }
    }
}
