//! Keeping an instance's output: files with rotation that never stop the instance.

use regrow_model::process::LogKeep;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Name of the file that is written to. Closed ones are `output.1` (the newest), `output.2` ….
pub(crate) const CURRENT: &str = "output";
/// After a write failed, lines are dropped without another try for so long: a full disk must not cost a system call
/// for every line of a flood.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Smallest file before it is closed, bytes: a bound of nothing would rotate at every line.
const FILE_BYTES_MIN: u64 = 4 << 10;

/// The files of one instance.
#[derive(Debug)]
pub(super) struct Keep {
    folder: PathBuf,
    keep: LogKeep,
    file: Option<File>,
    written: u64,
    dropped: u64,
    failed: Option<(Instant, String)>,
}

impl Keep {
    /// Goes on where the file of an earlier life ends. That it cannot be opened now is no error: it is tried again.
    pub(super) fn open(folder: &Path, keep: LogKeep) -> Keep {
        let mut this = Keep { folder: folder.to_owned(), keep, file: None, written: 0, dropped: 0, failed: None };
        if let Err(source) = this.open_file() {
            this.failed = Some((Instant::now(), crate::error::reason(&source)));
        }
        this
    }

    /// Writes whole lines. When it fails they are dropped and counted, and when writing works again the count is
    /// written: `note` makes a line of it.
    pub(super) fn write(&mut self, lines: &[u8], note: impl Fn(&str) -> Vec<u8>) {
        let count = lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        if self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < RETRY_AFTER) {
            self.dropped += count;
            return;
        }
        if let Some((_, why)) = &self.failed {
            let note = note(&format!("{} lines dropped: {why}", self.dropped));
            if self.dropped > 0 && !self.try_write(&note) {
                self.dropped += count;
                return;
            }
            self.dropped = 0;
            self.failed = None;
        }
        if !self.try_write(lines) {
            self.dropped += count;
        }
    }

    fn try_write(&mut self, lines: &[u8]) -> bool {
        match self.append(lines) {
            Ok(()) => true,
            Err(source) => {
                self.failed = Some((Instant::now(), crate::error::reason(&source)));
                false
            }
        }
    }

    /// Writes lines; where a file is full, the next one is begun between two of them.
    fn append(&mut self, mut lines: &[u8]) -> io::Result<()> {
        let bound = self.keep.bytes.max(FILE_BYTES_MIN);
        while !lines.is_empty() {
            let room = usize::try_from(bound.saturating_sub(self.written)).unwrap_or(usize::MAX).min(lines.len());
            let fitting = lines[..room].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
            let count = match fitting {
                Some(count) => count,
                None if self.written > 0 => {
                    self.rotate()?;
                    continue;
                }
                // A line longer than a whole file.
                None => lines.iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| at + 1),
            };
            self.append_here(&lines[..count])?;
            lines = &lines[count..];
        }
        Ok(())
    }

    fn append_here(&mut self, lines: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            self.open_file()?;
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(source) = file.write_all(lines) {
            // Half a line would make the next one unreadable too.
            let _ = file.set_len(self.written);
            return Err(source);
        }
        self.written += lines.len() as u64;
        Ok(())
    }

    fn open_file(&mut self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let mut file = OpenOptions::new().append(true).create(true).open(self.folder.join(CURRENT))?;
        self.written = file.seek(io::SeekFrom::End(0))?;
        self.file = Some(file);
        Ok(())
    }

    /// `output` becomes `output.1` and so on; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| self.folder.join(format!("{CURRENT}.{number}"));
        let current = self.folder.join(CURRENT);
        if self.keep.files == 0 {
            crate::durable::remove(&current)?;
            return self.open_file();
        }
        for number in (1..self.keep.files).rev() {
            match fs::rename(numbered(number), numbered(number + 1)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(source),
                _ => {}
            }
        }
        fs::rename(&current, numbered(1))?;
        self.open_file()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(folder: &Path) -> Vec<(String, u64)> {
        let entries = fs::read_dir(folder).unwrap().flatten();
        let mut sizes: Vec<_> =
            entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len())).collect();
        sizes.sort();
        sizes
    }

    /// Shows that no more than the files asked for are kept, none larger than asked for, with the newest lines.
    #[test]
    fn rotation_is_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let mut keep = Keep::open(folder.path(), LogKeep { bytes: FILE_BYTES_MIN, files: 2 });
        let line = [[b'x'; 1023].as_slice(), b"\n"].concat();
        for _ in 0..50 {
            keep.write(&line, |_| unreachable!("nothing fails"));
        }
        let sizes = sizes(folder.path());
        assert_eq!(sizes.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["output", "output.1", "output.2"]);
        assert!(sizes.iter().all(|(_, bytes)| *bytes <= FILE_BYTES_MIN), "{sizes:?}");
    }

    /// Shows that a life goes on in the file of the one before.
    #[test]
    fn goes_on() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut keep = Keep::open(folder.path(), LogKeep { bytes: FILE_BYTES_MIN, files: 0 });
            keep.write(b"line\n", |_| unreachable!("nothing fails"));
        }
        assert_eq!(sizes(folder.path()), [("output".to_owned(), 10)]);
    }

    /// Shows that lines which cannot be kept are counted, and that the count is kept once that works again.
    #[test]
    fn drops_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("logs");
        fs::write(&logs, "a file where the folder should be").unwrap();
        let mut keep = Keep::open(&logs, LogKeep { bytes: FILE_BYTES_MIN, files: 1 });
        let note = |text: &str| format!("{text}\n").into_bytes();
        keep.write(b"one\ntwo\n", note);
        assert_eq!(keep.dropped, 2);
        fs::remove_file(&logs).unwrap();
        keep.failed = keep.failed.map(|(at, why)| (at - RETRY_AFTER, why));
        keep.write(b"three\n", note);
        let kept = fs::read_to_string(logs.join(CURRENT)).unwrap();
        assert_eq!(kept, "2 lines dropped: file exists\nthree\n");
    }
}
