//! A file's keys, handed to the tasks that work on them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::disk::DiskError;
use crate::migrate::options::now_ms;
use crate::rdb::{Fault, Key, Piece, Reader, Record, Value, dump};

use super::error::BackupError;
use super::examine::READ_BYTES;

/// A key, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) db: u32,
    pub(super) name: Bytes,
    pub(super) expires_ms: Option<u64>,
}

impl Head {
    /// Whether its time has come.
    pub(super) fn expired(&self) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms())
    }
}

/// What a task gets. Of one file each key goes to one task, whole or from its begin to its end.
#[derive(Debug)]
pub(super) enum Item {
    /// A library of functions.
    Function(Bytes),
    /// A key with its value as `RESTORE` takes it.
    Whole(Head, Bytes),
    /// A key whose value is long; its pieces follow.
    Begin(Head),
    /// The next of them.
    Piece(Piece),
    /// That was the last.
    End,
}

/// An item, with the room that it takes until it is dropped.
pub(super) type Parcel = (Item, OwnedSemaphorePermit);

/// Items on their way to one task.
const ITEMS_MAX: usize = 1024;
/// Bytes on their way to all tasks, unless one item alone has more.
const BYTES_MAX: usize = 64 << 20;

/// The way to some tasks.
pub(super) struct Dealer {
    tasks: Vec<mpsc::Sender<Parcel>>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

/// What a dealer has handed out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Dealt {
    /// Keys handed out.
    pub(super) keys: u64,
    /// Keys left out, because their time has come.
    pub(super) expired: u64,
}

impl Dealer {
    /// For as many tasks, and the ends that they read from. Called within a runtime.
    pub(super) fn new(tasks: usize) -> (Self, Vec<mpsc::Receiver<Parcel>>) {
        let (tasks, ends) = (0..tasks.max(1)).map(|_| mpsc::channel(ITEMS_MAX)).unzip();
        (Self { tasks, room: Arc::new(Semaphore::new(BYTES_MAX)), runtime: Handle::current() }, ends)
    }

    /// Reads a file and hands its keys out, on a thread that may block. `wanted`: keys that others are passed over for. `task`:
    /// which task a key goes to. `tell` is told the bytes read so far. Ends early, without an error, when a task is gone.
    pub(super) fn deal(
        &self,
        path: &Path,
        wanted: &dyn Fn(&[u8]) -> bool,
        task: &dyn Fn(&[u8]) -> usize,
        tell: &dyn Fn(u64),
    ) -> Result<Dealt, BackupError> {
        let file = File::open(path).map_err(DiskError::at(path))?;
        let damaged = |source| BackupError::Damaged { path: path.to_owned(), source };
        let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, file)).map_err(damaged)?;
        let (version, mut dealt) = (reader.version(), Dealt::default());
        while let Some(record) = reader.next_record().map_err(damaged)? {
            tell(reader.offset());
            let good = match record {
                Record::Note { .. } => true,
                Record::Function(code) => self.put(0, code.len(), Item::Function(code)),
                Record::Key(Key { db, name, expires_ms, kind, value }) => {
                    let head = Head { db, name, expires_ms };
                    let to = task(&head.name);
                    if !wanted(&head.name) {
                        continue;
                    }
                    if head.expired() {
                        dealt.expired += 1;
                        continue;
                    }
                    dealt.keys += 1;
                    match value {
                        Value::Whole(bytes) => {
                            let bytes = dump(kind, &bytes, version);
                            self.put(to, bytes.len(), Item::Whole(head, bytes))
                        }
                        Value::Long => {
                            let mut good = self.put(to, 0, Item::Begin(head));
                            let pieces = reader.pieces(&mut |piece| {
                                good = good && self.put(to, size(&piece), Item::Piece(piece));
                                if good { Ok(()) } else { Err(Fault::Stopped) }
                            });
                            match pieces {
                                Err(error) if matches!(error.fault, Fault::Stopped) => {}
                                other => other.map_err(damaged)?,
                            }
                            good && self.put(to, 0, Item::End)
                        }
                    }
                }
            };
            if !good {
                break;
            }
        }
        Ok(dealt)
    }

    fn put(&self, task: usize, bytes: usize, item: Item) -> bool {
        let bytes = u32::try_from(bytes.clamp(1, BYTES_MAX)).unwrap_or(1);
        let Ok(room) = self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(bytes)) else { return false };
        self.tasks.get(task % self.tasks.len()).is_some_and(|to| to.blocking_send((item, room)).is_ok())
    }
}

/// Bytes of a piece, about.
fn size(piece: &Piece) -> usize {
    match piece {
        Piece::Text(text) => text.len(),
        Piece::Items(items) | Piece::Members(items) => items.iter().map(Bytes::len).sum(),
        Piece::Scores(scores) => scores.iter().map(|(member, _)| member.len() + 8).sum(),
        Piece::Fields(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        Piece::Stream(crate::rdb::StreamPiece::Entry { fields, .. }) => {
            fields.iter().map(|(name, value)| name.len() + value.len()).sum()
        }
        Piece::Stream(_) => 0,
    }
}
