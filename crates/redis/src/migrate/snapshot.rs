//! The source's snapshot: taken to disk, looked through while it comes, and proven whole before anything of it is used.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::disk::private;
use crate::rdb::{Key, Kind, RdbError, Reader, Record};
use crate::replication::{Feed, ReplicationError, pipe};

use super::board::{Board, shown};
use super::error::MigrateError;

/// How often it is told how much has come.
const TELL_EVERY: Duration = Duration::from_millis(200);
/// Bytes read from the file at once.
const READ_BYTES: usize = 1 << 20;

/// What is in a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// A key whose value only a module understands.
    pub module: Option<Bytes>,
    /// Bytes of it.
    pub bytes: u64,
}

impl Summary {
    /// Keys of all databases.
    pub(super) fn total(&self) -> u64 {
        self.keys.values().sum()
    }

    /// Why it cannot be carried over, if so.
    pub(super) fn refusal(&self, databases: &BTreeMap<u32, u32>, left: &[u32]) -> Option<MigrateError> {
        let unmapped: Vec<String> = self
            .keys
            .iter()
            .filter(|(db, count)| **count > 0 && !databases.contains_key(db) && !left.contains(db))
            .map(|(db, count)| format!("{db} ({count} keys)"))
            .collect();
        if !unmapped.is_empty() {
            return Some(MigrateError::refused(
                format!("nothing says where these databases of the source go: {}", unmapped.join(", ")),
                "give each a place with --db FROM=TO, or leave it behind with --leave-db N",
            ));
        }
        let key = self.module.as_ref()?;
        Some(MigrateError::refused(
            format!("the value of key \"{}\" is of a module, and only that module can carry it", shown(key)),
            "remove such keys, or copy them with the module's own means",
        ))
    }
}

/// Takes the snapshot of a feed to a file. When this is done, its checksum was right and it is safe on disk.
pub(crate) async fn take(feed: &mut Feed, path: &Path, board: &Board, index: usize) -> Result<Summary, MigrateError> {
    let file = private().truncate(true).open(path).map_err(MigrateError::disk(path))?;
    let (writer, reader) = pipe();
    let come = Arc::new(AtomicU64::new(0));
    let tee = Tee { from: reader, to: file, failed: None, come: Arc::clone(&come) };
    let reading = tokio::task::spawn_blocking(move || look_through(tee));
    let taken = {
        let taking = feed.snapshot(&writer);
        tokio::pin!(taking);
        loop {
            tokio::select! {
                taken = &mut taking => break taken,
                () = tokio::time::sleep(TELL_EVERY) => {
                    board.feed(index, |feed| feed.snapshot_bytes = come.load(Ordering::Relaxed));
                }
                () = board.stopped() => return Err(MigrateError::Stopped),
            }
        }
    };
    drop(writer);
    let (file, looked) = reading
        .await
        .map_err(|error| MigrateError::Disk { path: path.to_owned(), source: io::Error::other(error.to_string()) })?;
    match taken {
        // The reader's own words are better than that it is gone.
        Ok(_) | Err(ReplicationError::NoReader) => {}
        Err(error) => return Err(error.into()),
    }
    let file = file.map_err(MigrateError::disk(path))?;
    let summary = looked?;
    file.sync_all().map_err(MigrateError::disk(path))?;
    board.feed(index, |feed| {
        feed.snapshot_bytes = summary.bytes;
        feed.snapshot_keys = summary.total();
    });
    Ok(summary)
}

/// A reader that keeps what it has read.
struct Tee<R> {
    from: R,
    to: File,
    failed: Option<io::Error>,
    come: Arc<AtomicU64>,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(out)?;
        if let Err(error) = self.to.write_all(&out[..count]) {
            let copy = io::Error::from(error.kind());
            self.failed = Some(error);
            return Err(copy);
        }
        self.come.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

type Looked = (Result<File, io::Error>, Result<Summary, RdbError>);

fn look_through(mut tee: Tee<impl Read>) -> Looked {
    let looked = summary(&mut tee);
    (tee.failed.map_or(Ok(tee.to), Err), looked)
}

fn summary(from: &mut impl Read) -> Result<Summary, RdbError> {
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, from))?;
    let mut summary = Summary::default();
    while let Some(record) = reader.next_record()? {
        if let Record::Key(Key { db, kind, name, .. }) = record {
            *summary.keys.entry(db).or_default() += 1;
            if kind == Kind::Module2 {
                summary.module.get_or_insert(name);
            }
        }
    }
    summary.bytes = reader.offset();
    Ok(summary)
}

/// Reads a snapshot that was taken.
pub(super) fn open(path: &Path) -> Result<Reader<BufReader<File>>, MigrateError> {
    let file = File::open(path).map_err(MigrateError::disk(path))?;
    Ok(Reader::new(BufReader::with_capacity(READ_BYTES, file))?)
}
