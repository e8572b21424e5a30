//! What gossip keeps on disk, written by a thread of its own, in the order in which it happened.
//!
//! - `DATA/gossip.json`: incarnation, Lamport times, living members, seeds; written whole, then renamed.
//! - the file of keys, when the cluster has changed them.
//! - happenings that handlers have still to see: the `sink` writes them to the handlers' journal.
//!
//! Guarantee: a happening reaches the sink before a snapshot is written that says that it was taken, so that one is
//! handled at least once however the process ends. A queue that is full (a disk that hangs) loses what comes, counted.

use super::keys;
use regrow_gossip::Snapshot;
use regrow_gossip::wire::{Key, Keyring};
use regrow_serve::membership::Happening;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Entries waiting for the disk.
const WAITING: usize = 8_192;
/// Largest snapshot that is read: 65,536 members with the longest of names.
const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// Takes in happenings, on the disk's thread.
pub(super) type Sink = Box<dyn FnMut(&Arc<Happening>) + Send>;

enum Entry {
    Happening(Arc<Happening>),
    Snapshot(Snapshot),
    Keys(Vec<String>),
}

/// The way to the disk. Dropping it ends the thread once all is written.
pub(super) struct Disk {
    entries: Option<SyncSender<Entry>>,
    thread: Option<JoinHandle<()>>,
    lost: u64,
}

impl Disk {
    pub(super) fn start(snapshot: PathBuf, keys: Option<PathBuf>, sink: Sink) -> std::io::Result<Disk> {
        let (sender, entries) = sync_channel(WAITING);
        let thread = std::thread::Builder::new()
            .name("gossip-disk".to_owned())
            .spawn(move || write_all(&entries, &snapshot, keys.as_deref(), sink))?;
        Ok(Disk { entries: Some(sender), thread: Some(thread), lost: 0 })
    }

    pub(super) fn happening(&mut self, happening: &Arc<Happening>) {
        self.put(Entry::Happening(happening.clone()));
    }

    pub(super) fn snapshot(&mut self, snapshot: Snapshot) {
        self.put(Entry::Snapshot(snapshot));
    }

    pub(super) fn keys(&mut self, keys: Vec<String>) {
        self.put(Entry::Keys(keys));
    }

    fn put(&mut self, entry: Entry) {
        let Some(entries) = &self.entries else { return };
        if entries.try_send(entry).is_err() {
            self.lost += 1;
            // Told at 1, 2, 4, 8 …: the disk is stuck, and the log may be on it.
            if self.lost.is_power_of_two() {
                tracing::error!("the disk does not keep up with gossip: {} records were left out", self.lost);
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn write_all(entries: &Receiver<Entry>, snapshot: &Path, key_file: Option<&Path>, mut sink: Sink) {
    while let Ok(entry) = entries.recv() {
        let (what, written) = match entry {
            Entry::Happening(happening) => {
                sink(&happening);
                continue;
            }
            Entry::Snapshot(state) => (snapshot, write(snapshot, &state)),
            Entry::Keys(all) => match key_file {
                Some(file) => (file, keys::write(file, &all)),
                None => continue,
            },
        };
        if let Err(error) = written {
            tracing::error!("cannot write {}: {error}", what.display());
        }
    }
}

/// A snapshot as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    incarnation: u32,
    clocks: [u64; 3],
    alive: Vec<(String, SocketAddr)>,
    seeds: Vec<SocketAddr>,
    left: bool,
}

fn write(path: &Path, snapshot: &Snapshot) -> std::io::Result<()> {
    let Snapshot { incarnation, clocks, alive, seeds, left } = snapshot.clone();
    let bytes = serde_json::to_vec(&Written { incarnation, clocks, alive, seeds, left })?;
    let staged = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&staged)?;
    file.write_all(&bytes)?;
    file.sync_data()?;
    std::fs::rename(&staged, path)
}

/// What an earlier life has written; `None` if there was none, or it is not to be understood.
pub(super) fn read(path: &Path) -> Option<Snapshot> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(SNAPSHOT_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(Written { incarnation, clocks, alive, seeds, left }) => {
            Some(Snapshot { incarnation, clocks, alive, seeds, left })
        }
        Err(error) => {
            tracing::warn!("passed over {}, which is not to be understood: {error}", path.display());
            None
        }
    }
}

/// A ring from keys in base64, primary first.
pub(super) fn keyring(keys: &[String]) -> Option<Keyring> {
    let mut keys = keys.iter().filter_map(|key| Key::from_base64(key).ok());
    let mut ring = Keyring::new(keys.next()?);
    for key in keys {
        // They come from a ring that held them all.
        let _ = ring.install(key);
    }
    Some(ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that all that was handed in before the end is on disk after it, in order, and that damage is no state.
    #[test]
    fn the_end_waits_for_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("gossip.json");
        let seen = Arc::new(std::sync::Mutex::new(0));
        let count = seen.clone();
        let mut disk =
            Disk::start(path.clone(), None, Box::new(move |_| *count.lock().expect("whole") += 1)).expect("starts");
        let event = regrow_gossip::Event::Left;
        for incarnation in 1..=50 {
            disk.happening(&Arc::new(Happening { at: std::time::SystemTime::UNIX_EPOCH, event: event.clone() }));
            disk.snapshot(Snapshot { incarnation, ..Snapshot::default() });
        }
        drop(disk);
        assert_eq!(*seen.lock().expect("whole"), 50);
        assert_eq!(read(&path).expect("written").incarnation, 50);
        std::fs::write(&path, b"{").expect("written");
        assert_eq!(read(&path), None);
        assert_eq!(read(&folder.path().join("none")), None);
    }
}
