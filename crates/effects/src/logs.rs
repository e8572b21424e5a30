//! Reading what an instance has printed: JSON lines that its shim keeps.
//!
//! `DATA/instances/<id>/logs/output` is written to; `output.1` was closed last, `output.2` before it, and so on. A line
//! is `{"ts":"2026-01-02T03:04:05.678Z","stream":"stdout","line":"…"}`. `stream` is `stdout`, `stderr`, or `regrow` for
//! what the shim itself has to say: starts, ends, and lines that were dropped because the disk was full. A line longer
//! than 16 KiB comes in pieces; all but the last have `"more":true`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Name of the file that is written to.
const CURRENT: &str = "output";
/// Most that [`Reader::more`] gives at once, bytes.
const READ_BYTES_MAX: usize = 256 << 10;

/// The files of an instance, the oldest first.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut closed: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix(CURRENT)?.strip_prefix('.')?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    closed.sort();
    let current = folder.join(CURRENT);
    closed.into_iter().rev().map(|(_, path)| path).chain(current.exists().then_some(current)).collect()
}

/// Reads an instance's lines from somewhere near the end, and what is written after.
///
/// It does not wait: call [`Reader::more`] until it gives nothing, and again a little later to follow.
#[derive(Debug)]
pub struct Reader {
    folder: PathBuf,
    /// Files that were closed before and are still to be read, the next one last.
    closed: Vec<File>,
    current: Option<File>,
    /// A line whose end has not come yet.
    begun: Vec<u8>,
}

impl Reader {
    /// Begins with the last `lines` lines of the folder's files.
    pub(crate) fn open(folder: &Path, lines: usize) -> io::Result<Reader> {
        let mut left = lines;
        let mut open = Vec::new();
        for path in files(folder).iter().rev() {
            let mut file = match File::open(path) {
                Ok(file) => file,
                // Rotated away meanwhile: it is older than what was asked for, or read under its next name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            left -= seek_back(&mut file, left)?;
            open.push(file);
            if left == 0 {
                break;
            }
        }
        let newest = (!open.is_empty()).then(|| open.remove(0));
        Ok(Reader { folder: folder.to_owned(), closed: open, current: newest, begun: Vec::new() })
    }

    /// The next whole lines, at most some hundred KiB; none when there are no more for now.
    pub fn more(&mut self) -> io::Result<Vec<String>> {
        loop {
            let lines = self.read()?;
            if !lines.is_empty() {
                return Ok(lines);
            }
            if self.closed.pop().is_some() {
                continue;
            }
            let newer = self.newer()?;
            if newer.is_empty() {
                return Ok(Vec::new());
            }
            // Lines that came between the read above and the rotation.
            let last = self.read()?;
            self.current = None;
            for file in newer {
                self.closed.extend(self.current.replace(file));
            }
            self.closed.reverse();
            if !last.is_empty() {
                return Ok(last);
            }
        }
    }

    /// The next whole lines of the file that is being read.
    fn read(&mut self) -> io::Result<Vec<String>> {
        let Some(file) = self.closed.last_mut().or(self.current.as_mut()) else { return Ok(Vec::new()) };
        file.take(READ_BYTES_MAX as u64).read_to_end(&mut self.begun)?;
        let whole = self.begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let rest = self.begun.split_off(whole);
        let lines = std::mem::replace(&mut self.begun, rest);
        Ok(String::from_utf8_lossy(&lines).lines().map(str::to_owned).collect())
    }

    /// Files that were begun after the one that is being read, the oldest first.
    fn newer(&self) -> io::Result<Vec<File>> {
        let own = self.current.as_ref().map(|file| file.metadata().map(|data| data.ino())).transpose()?;
        let mut newer = Vec::new();
        for path in files(&self.folder) {
            match File::open(path) {
                Ok(file) if Some(file.metadata()?.ino()) == own => newer.clear(),
                Ok(file) => newer.push(file),
                // Rotated meanwhile; the next call finds it under its next name.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(newer)
    }
}

/// Goes to where the last `lines` lines begin; gives how many there are.
fn seek_back(file: &mut File, lines: usize) -> io::Result<usize> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut found = 0;
    let mut block = Vec::new();
    let mut is_last_byte = true;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        block.clear();
        Read::by_ref(file).take(end - begin).read_to_end(&mut block)?;
        for (at, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            // The end of the last line begins no other.
            if !std::mem::take(&mut is_last_byte) {
                found += 1;
            }
            if found == lines {
                file.seek(SeekFrom::Start(begin + at as u64 + 1))?;
                return Ok(found);
            }
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0))?;
    // The first line has no end before it.
    Ok(if is_last_byte { 0 } else { found + 1 })
}
