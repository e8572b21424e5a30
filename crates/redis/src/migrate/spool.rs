//! Live writes that wait on disk until they can be applied.
//!
//! Shape: files `live-<n>` of about [`SEGMENT_BYTES`] in a folder. A file is a row of frames: length of the body (4 bytes,
//! little-endian), its CRC64 (8), the body. A body: the name of the history (40), the position after it (8), the database chosen
//! there (4), the number of writes (4), then each write: position after it (8), database (4), number of words (4), each word
//! with its length (4) before it.
//!
//! Guarantees: a frame is read whole or not at all, so a writer that was killed leaves a spool that ends at its last whole frame.
//! The writer stops taking more when the limit is reached, and goes on when the reader has given files up.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::Notify;

use crate::disk::private;
use crate::rdb::crc64;
use crate::replication::Position;

/// Bytes after which a new file is begun.
pub(super) const SEGMENT_BYTES: u64 = 32 << 20;
/// Bytes of one frame that are believed: two values of the greatest size, and some.
const FRAME_BYTES_MAX: u32 = 1200 << 20;
const HEAD_BYTES: usize = 12;
const HISTORY_BYTES: usize = 40;

/// A write that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spooled {
    /// The position after it.
    pub end: u64,
    /// The database it is for.
    pub db: u32,
    /// The command's name and arguments.
    pub words: Vec<Bytes>,
}

/// A frame: writes, and the position after them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// The position after it; beyond the last write's where the source had nothing to say.
    pub position: Position,
    /// The writes.
    pub writes: Vec<Spooled>,
}

#[derive(Debug, Default)]
struct State {
    /// Files, oldest first: number, bytes, position after the last frame.
    segments: VecDeque<(u64, u64, u64)>,
}

/// What writer and reader share.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    bytes_max: u64,
    segment_bytes: u64,
    state: Mutex<State>,
    /// Something was added, or given up.
    changed: Notify,
}

impl Spool {
    /// Opens a folder, which is there. The second: the position after the last whole frame; what follows it is cut off.
    pub(super) fn open(folder: &Path, bytes_max: u64) -> io::Result<(Arc<Self>, Option<Position>)> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_prefix("live-")?.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        let (mut state, mut last) = (State::default(), None);
        let count = numbers.len();
        for (index, number) in numbers.into_iter().enumerate() {
            let path = folder.join(format!("live-{number}"));
            let mut file = File::open(&path)?;
            let mut whole = 0;
            while let Some(frame) = read_frame(&mut file)? {
                whole = file.stream_position()?;
                last = Some(frame.position);
            }
            if whole < file.metadata()?.len() {
                if index + 1 < count {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", path.display())));
                }
                OpenOptions::new().write(true).open(&path)?.set_len(whole)?;
            }
            state.segments.push_back((number, whole, last.as_ref().map_or(0, |position| position.offset)));
        }
        let spool = Self {
            folder: folder.to_owned(),
            bytes_max,
            segment_bytes: SEGMENT_BYTES.min(bytes_max / 4).max(1),
            state: Mutex::new(state),
            changed: Notify::new(),
        };
        Ok((Arc::new(spool), last))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("live-{number}"))
    }

    /// Bytes on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.state().segments.iter().map(|(_, bytes, _)| bytes).sum()
    }

    /// Forgets all, for a new beginning. Nobody may be reading or writing.
    pub(super) fn clear(&self) -> io::Result<()> {
        let mut state = self.state();
        while let Some((number, ..)) = state.segments.front().copied() {
            fs::remove_file(self.path(number))?;
            state.segments.pop_front();
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Gives up files of which every write is at or before a position; the last one stays.
    pub(super) fn give_up(&self, position: u64) -> io::Result<()> {
        let mut state = self.state();
        while state.segments.len() > 1
            && let Some((number, _, end)) = state.segments.front().copied()
            && end <= position
        {
            fs::remove_file(self.path(number))?;
            state.segments.pop_front();
        }
        self.changed.notify_waiters();
        Ok(())
    }
}

/// Adds frames at the end.
#[derive(Debug)]
pub(super) struct SpoolWriter {
    spool: Arc<Spool>,
    file: File,
    number: u64,
    bytes: u64,
}

impl SpoolWriter {
    /// Goes on in a new file.
    pub(super) fn new(spool: Arc<Spool>) -> io::Result<Self> {
        let number = spool.state().segments.back().map_or(1, |(number, ..)| number + 1);
        let file = Self::begin(&spool, number)?;
        Ok(Self { spool, file, number, bytes: 0 })
    }

    fn begin(spool: &Spool, number: u64) -> io::Result<File> {
        let file = private().truncate(true).open(spool.path(number))?;
        let mut state = spool.state();
        let end = state.segments.back().map_or(0, |(.., end)| *end);
        state.segments.push_back((number, 0, end));
        Ok(file)
    }

    /// Waits until there is room below the limit.
    pub(super) async fn room(&self) {
        loop {
            let changed = self.spool.changed.notified();
            if self.spool.bytes() < self.spool.bytes_max {
                return;
            }
            changed.await;
        }
    }

    /// Adds a frame.
    pub(super) fn put(&mut self, frame: &Frame) -> io::Result<()> {
        if self.bytes >= self.spool.segment_bytes {
            self.file.sync_data()?;
            self.number += 1;
            self.file = Self::begin(&self.spool, self.number)?;
            self.bytes = 0;
        }
        let body = encode(frame);
        let mut head = BytesMut::with_capacity(HEAD_BYTES);
        head.put_u32_le(u32::try_from(body.len()).map_err(|_| io::ErrorKind::InvalidInput)?);
        head.put_u64_le(crc64(0, &body));
        self.file.write_all(&head)?;
        self.file.write_all(&body)?;
        self.bytes += (head.len() + body.len()) as u64;
        if let Some(last) = self.spool.state().segments.back_mut() {
            (last.1, last.2) = (self.bytes, frame.position.offset);
        }
        self.spool.changed.notify_waiters();
        Ok(())
    }

    /// A handle whose `sync_data` makes all that was put safe from a power cut.
    pub(super) fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

/// Reads frames from the oldest on, and waits for more.
#[derive(Debug)]
pub(super) struct SpoolReader {
    spool: Arc<Spool>,
    file: Option<(u64, File, u64)>,
}

impl SpoolReader {
    /// From the oldest frame that is left.
    pub(super) fn new(spool: Arc<Spool>) -> Self {
        Self { spool, file: None }
    }

    /// The next frame, if there is one now.
    pub(super) fn try_next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let (number, written, last) = {
                let state = self.spool.state();
                let at = self.file.as_ref().map_or(0, |(number, ..)| *number);
                let Some(found) = state.segments.iter().position(|(number, ..)| *number >= at) else { return Ok(None) };
                let (number, written, _) = state.segments[found];
                (number, written, found + 1 == state.segments.len())
            };
            if self.file.as_ref().is_none_or(|(at, ..)| *at != number) {
                self.file = Some((number, File::open(self.spool.path(number))?, 0));
            }
            let Some((_, file, read)) = &mut self.file else { return Ok(None) };
            if *read < written {
                file.seek(SeekFrom::Start(*read))?;
                let frame = read_frame(file)?
                    .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("live-{number} is damaged")))?;
                *read = file.stream_position()?;
                return Ok(Some(frame));
            }
            if last {
                return Ok(None);
            }
            self.file = Some((number + 1, File::open(self.spool.path(number + 1))?, 0));
        }
    }

    /// Waits for the next frame. Dropping the call loses nothing.
    pub(super) async fn next(&mut self) -> io::Result<Frame> {
        let spool = Arc::clone(&self.spool);
        loop {
            let changed = spool.changed.notified();
            tokio::pin!(changed);
            // Registered before the look, so that nothing added in between is missed.
            changed.as_mut().enable();
            if let Some(frame) = self.try_next()? {
                return Ok(frame);
            }
            changed.await;
        }
    }
}

fn encode(frame: &Frame) -> Vec<u8> {
    let mut body = Vec::new();
    let mut history = frame.position.history.clone().into_bytes();
    history.resize(HISTORY_BYTES, b' ');
    body.put_slice(&history);
    body.put_u64_le(frame.position.offset);
    body.put_u32_le(frame.position.db);
    body.put_u32_le(frame.writes.len() as u32);
    for write in &frame.writes {
        body.put_u64_le(write.end);
        body.put_u32_le(write.db);
        body.put_u32_le(write.words.len() as u32);
        for word in &write.words {
            body.put_u32_le(word.len() as u32);
            body.put_slice(word);
        }
    }
    body
}

/// The next frame; `None` where no whole one is.
fn read_frame(file: &mut File) -> io::Result<Option<Frame>> {
    let mut head = [0; HEAD_BYTES];
    if !read_all(file, &mut head)? {
        return Ok(None);
    }
    let mut parts = &head[..];
    let (size, crc) = (parts.get_u32_le(), parts.get_u64_le());
    if size > FRAME_BYTES_MAX {
        return Ok(None);
    }
    let mut body = Vec::new();
    Read::by_ref(file).take(u64::from(size)).read_to_end(&mut body)?;
    if body.len() != size as usize || crc64(0, &body) != crc {
        return Ok(None);
    }
    Ok(decode(body.into()))
}

fn read_all(file: &mut File, bytes: &mut [u8]) -> io::Result<bool> {
    match file.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn decode(mut body: Bytes) -> Option<Frame> {
    let take = |body: &mut Bytes, size: usize| (body.len() >= size).then(|| body.split_to(size));
    let history = String::from_utf8(take(&mut body, HISTORY_BYTES)?.to_vec()).ok()?.trim_end().to_owned();
    let offset = body.try_get_u64_le().ok()?;
    let db = body.try_get_u32_le().ok()?;
    let mut writes = Vec::new();
    for _ in 0..body.try_get_u32_le().ok()? {
        let end = body.try_get_u64_le().ok()?;
        let db = body.try_get_u32_le().ok()?;
        let mut words = Vec::new();
        for _ in 0..body.try_get_u32_le().ok()? {
            let size = body.try_get_u32_le().ok()?;
            words.push(take(&mut body, size as usize)?);
        }
        writes.push(Spooled { end, db, words });
    }
    body.is_empty().then_some(Frame { position: Position { history, offset, db }, writes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 4000;

    fn frame(end: u64, size: usize) -> Frame {
        let position = Position { history: "a".repeat(40), offset: end, db: 2 };
        let words = vec![Bytes::from_static(b"SET"), Bytes::from_static(b"k\r\n\0"), vec![b'v'; size].into()];
        Frame { position, writes: vec![Spooled { end, db: 1, words }] }
    }

    /// What was put is read back, over several files and after a new opening; a cut or damaged end is the end.
    #[tokio::test]
    async fn written_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, end) = Spool::open(folder.path(), 4 * SEGMENT).unwrap();
        assert_eq!(end, None);
        let mut writer = SpoolWriter::new(Arc::clone(&spool)).unwrap();
        let mut reader = SpoolReader::new(Arc::clone(&spool));
        assert_eq!(reader.try_next().unwrap(), None);
        let size = SEGMENT as usize / 2;
        for end in 1..=5 {
            writer.put(&frame(end, size)).unwrap();
            assert_eq!(reader.next().await.unwrap(), frame(end, size));
        }
        assert_eq!(reader.try_next().unwrap(), None);

        let (again, end) = Spool::open(folder.path(), 4 * SEGMENT).unwrap();
        assert_eq!(end.unwrap().offset, 5);
        again.give_up(3).unwrap();
        let mut reader = SpoolReader::new(Arc::clone(&again));
        assert_eq!(reader.try_next().unwrap().unwrap().position.offset, 3);

        let last = again.state().segments.back().unwrap().0;
        let bytes = fs::read(again.path(last)).unwrap();
        for damage in [&bytes[..bytes.len() - 1], &[&bytes[..20], &[bytes[20] ^ 1], &bytes[21..]].concat()] {
            fs::write(again.path(last), damage).unwrap();
            let (cut, end) = Spool::open(folder.path(), 4 * SEGMENT).unwrap();
            assert_eq!(end.unwrap().offset, 4);
            cut.clear().unwrap();
            assert_eq!(cut.bytes(), 0);
            for (number, bytes) in [(last - 1, encode_file(&frame(4, 1))), (last, bytes.clone())] {
                fs::write(cut.path(number), bytes).unwrap();
            }
        }
    }

    fn encode_file(frame: &Frame) -> Vec<u8> {
        let body = encode(frame);
        let mut file = Vec::new();
        file.put_u32_le(body.len() as u32);
        file.put_u64_le(crc64(0, &body));
        file.extend(body);
        file
    }

    /// A writer at the limit waits until files are given up.
    #[tokio::test]
    async fn bounded() {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _) = Spool::open(folder.path(), SEGMENT).unwrap();
        let mut writer = SpoolWriter::new(Arc::clone(&spool)).unwrap();
        for end in 1..=2 {
            writer.put(&frame(end, SEGMENT as usize)).unwrap();
        }
        tokio::select! {
            biased;
            () = writer.room() => panic!("above the limit"),
            () = std::future::ready(()) => {}
        }
        spool.give_up(1).unwrap();
        assert!(spool.bytes() > SEGMENT, "one file alone is above this limit");
        spool.clear().unwrap();
        writer.room().await;
    }
}
