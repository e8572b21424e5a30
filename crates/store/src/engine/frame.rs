//! Checksummed frames, the unit of a write: what one sync makes durable is one frame, so a frame is there whole or
//! not at all.
//!
//! Bytes, little-endian: `"RGF1"`, payload length u32, CRC-32 u32, zero u32, sequence u64, payload, zeros up to a
//! multiple of 8. The CRC covers the file's salt, sequence, length and payload. The salt is random and never leaves
//! the file, so a value cannot be made to look like a frame. A file starts with 64 bytes: magic of 8, id u64,
//! salt u64, first sequence u64, CRC-32 u32 of these, zeros.

use std::{io, sync::Arc};

use crate::{
    Error, Result,
    disk::DiskFile,
    limits::{FRAME_BYTES_MAX, HISTORY_BYTES},
};

/// Bytes before a payload.
pub(crate) const HEAD: usize = 24;
/// Bytes before the first frame of a file.
pub(crate) const FILE_HEAD: u64 = 64;
/// Bytes of the longest frame without payload, padded.
pub(crate) const ALIGN: u64 = 8;

const MAGIC: [u8; 4] = *b"RGF1";

/// An open file of frames.
pub(crate) struct DataFile {
    pub(crate) name: String,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) salt: u64,
}

impl DataFile {
    /// Reads a value and checks it; `offset` is that of its CRC.
    pub(crate) fn value(&self, offset: u64, len: u32) -> Result<Vec<u8>> {
        let mut crc = [0; 4];
        let mut value = vec![0; len as usize];
        // One read for small values, which are most.
        if len <= 4096 {
            let mut both = vec![0; len as usize + 4];
            self.read(&mut both, offset)?;
            crc.copy_from_slice(&both[..4]);
            value.copy_from_slice(&both[4..]);
        } else {
            self.read(&mut crc, offset)?;
            self.read(&mut value, offset + 4)?;
        }
        if crc32fast::hash(&value) != u32::from_le_bytes(crc) {
            return Err(Error::corrupt(&self.name, offset, "checksum of a value"));
        }
        Ok(value)
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(buffer, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt(&self.name, offset, "file too short"),
            _ => Error::disk("read", &self.name, error),
        })
    }
}

/// The first bytes of a file of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHead {
    pub(crate) magic: [u8; 8],
    pub(crate) id: u64,
    pub(crate) salt: u64,
    pub(crate) first_seq: u64,
}

impl FileHead {
    pub(crate) fn encode(&self) -> [u8; FILE_HEAD as usize] {
        let mut bytes = [0; FILE_HEAD as usize];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.salt.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_seq.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads and checks the head of a file that should be number `id`.
    pub(crate) fn read(file: &dyn DiskFile, name: &str, magic: [u8; 8], id: u64) -> Result<Self> {
        let mut bytes = [0; FILE_HEAD as usize];
        file.read_at(&mut bytes, 0).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => Error::corrupt(name, 0, "file too short"),
            _ => Error::disk("read", name, error),
        })?;
        let head = Self { magic, id, salt: u64_at(&bytes, 16), first_seq: u64_at(&bytes, 24) };
        if head.encode() != bytes { Err(Error::corrupt(name, 0, "head of the file")) } else { Ok(head) }
    }
}

/// An empty frame: room for its head, to which the payload is appended.
pub(crate) fn empty() -> Vec<u8> {
    vec![0; HEAD]
}

/// Bytes that a frame of this length, head included, takes in a file.
pub(crate) fn padded(len: usize) -> u64 {
    (len as u64).next_multiple_of(ALIGN)
}

/// Fills in the head of a frame and pads it.
pub(crate) fn seal(frame: &mut Vec<u8>, salt: u64, seq: u64) {
    let len = u32::try_from(frame.len() - HEAD).expect("a frame is below FRAME_BYTES_MAX");
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&len.to_le_bytes());
    let crc = checksum(salt, seq, &frame[HEAD..]);
    frame[8..12].copy_from_slice(&crc.to_le_bytes());
    frame[12..16].fill(0);
    frame[16..24].copy_from_slice(&seq.to_le_bytes());
    frame.resize(frame.len().next_multiple_of(ALIGN as usize), 0);
}

fn checksum(salt: u64, seq: u64, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&seq.to_le_bytes());
    hasher.update(&(payload.len() as u64).to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

/// Length and sequence that a head claims, if it looks like one.
fn head(bytes: &[u8], room: u64) -> Option<(u32, u32, u64)> {
    let len = u32_at(bytes, 4);
    let fits = padded(HEAD + len as usize) <= room && u64::from(len) <= FRAME_BYTES_MAX;
    (bytes[..4] == MAGIC && bytes[12..16] == [0; 4] && fits).then(|| (len, u32_at(bytes, 8), u64_at(bytes, 16)))
}

/// What is at some place of a file.
pub(crate) enum Step<'a> {
    /// A frame; `at` is the offset of its payload.
    Frame {
        /// Offset of the payload in the file.
        at: u64,
        /// The payload.
        payload: &'a [u8],
    },
    /// No valid frame.
    Bad,
    /// The end that the reader was given.
    End,
}

/// Reads frames one after the other.
pub(crate) struct FrameReader {
    pub(crate) source: Arc<DataFile>,
    /// Where the next frame is.
    pub(crate) at: u64,
    /// Where to stop.
    pub(crate) end: u64,
    /// The sequence the next frame must have; `None`: that of whichever frame is there.
    pub(crate) seq: Option<u64>,
    window: Vec<u8>,
    window_at: u64,
}

impl FrameReader {
    pub(crate) fn new(source: Arc<DataFile>, at: u64, end: u64, seq: Option<u64>) -> Self {
        Self { source, at, end, seq, window: Vec::new(), window_at: 0 }
    }

    /// Reads the frame at the place of the reader and goes on behind it; stays where it is if there is none.
    pub(crate) fn step(&mut self) -> Result<Step<'_>> {
        if self.at >= self.end {
            return Ok(Step::End);
        }
        let room = self.end - self.at;
        if room < HEAD as u64 {
            return Ok(Step::Bad);
        }
        let start = self.fill(HEAD)?;
        let Some((len, crc, seq)) = head(&self.window[start..], room) else {
            return Ok(Step::Bad);
        };
        if self.seq.is_some_and(|expected| expected != seq) {
            return Ok(Step::Bad);
        }
        let start = self.fill(HEAD + len as usize)? + HEAD;
        let payload = &self.window[start..start + len as usize];
        if checksum(self.source.salt, seq, payload) != crc {
            return Ok(Step::Bad);
        }
        let at = self.at + HEAD as u64;
        self.at += padded(HEAD + len as usize);
        self.seq = Some(seq + 1);
        Ok(Step::Frame { at, payload })
    }

    /// The same where nothing but a frame, or the end, may be.
    pub(crate) fn expect(&mut self) -> Result<Option<(u64, &[u8])>> {
        let (name, offset) = (self.source.name.clone(), self.at);
        match self.step()? {
            Step::Frame { at, payload } => Ok(Some((at, payload))),
            Step::Bad => Err(Error::corrupt(&name, offset, "checksum of a frame")),
            Step::End => Ok(None),
        }
    }

    /// Makes sure that `need` bytes from the place of the reader are in the window; returns where they start there.
    fn fill(&mut self, need: usize) -> Result<usize> {
        let window_end = self.window_at + self.window.len() as u64;
        if self.at < self.window_at || self.at + need as u64 > window_end {
            let take = (self.end - self.at).min(need.max(HISTORY_BYTES / 4) as u64);
            self.window.resize(take as usize, 0);
            self.window_at = self.at;
            self.source.read(&mut self.window, self.at)?;
        }
        Ok((self.at - self.window_at) as usize)
    }

    /// Looks behind a place without a valid frame. A valid frame there means that what is before it was once synced,
    /// so it is damaged; none means that the last write did not get to the disk whole.
    pub(crate) fn tail(&self) -> Result<Tail> {
        // Nearly all of it is zeros; those are compared in large pieces and not kept.
        let zeros = vec![0; HISTORY_BYTES];
        let mut bytes = Vec::new();
        let mut piece = vec![0; HISTORY_BYTES];
        let mut at = self.at;
        while at < self.end {
            let len = (self.end - at).min(HISTORY_BYTES as u64) as usize;
            self.source.read(&mut piece[..len], at)?;
            if piece[..len] != zeros[..len] {
                bytes.resize((at - self.at) as usize, 0);
                bytes.extend_from_slice(&piece[..len]);
            }
            at += len as u64;
        }
        let expected = self.seq.unwrap_or(0);
        for at in (0..bytes.len().saturating_sub(HEAD)).step_by(ALIGN as usize) {
            let rest = &bytes[at..];
            if let Some((len, crc, seq)) = head(rest, rest.len() as u64)
                && seq >= expected
                && checksum(self.source.salt, seq, &rest[HEAD..HEAD + len as usize]) == crc
            {
                return Ok(Tail::Damage);
            }
        }
        Ok(match bytes.iter().rposition(|&byte| byte != 0) {
            Some(last) => Tail::Torn { len: (last as u64 + 1).next_multiple_of(ALIGN) },
            None => Tail::Clean,
        })
    }
}

/// What is behind the last valid frame of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing.
    Clean,
    /// Bytes of a write that was never acknowledged.
    Torn {
        /// How many bytes to wipe.
        len: u64,
    },
    /// Valid frames behind an invalid one.
    Damage,
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
