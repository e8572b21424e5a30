//! A disk in memory that fails on purpose: power loss with unsynced writes dropped or torn, no space, errors, flipped
//! bits.
//!
//! What a crash leaves: all that was synced; of each later write any set of its 512-byte sectors; of the changes of
//! names since the folder was synced, the first so many, as a journal has them.

use std::{
    any::Any,
    collections::BTreeMap,
    io::{self, ErrorKind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Disk, DiskFile};

const SECTOR: usize = 512;

/// Random numbers from a seed, the same on every machine (xorshift64*).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Any seed will do.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next_u64() >> 11) % bound
    }
}

/// How an operation that changes the disk fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The power is gone: this operation is half done, and none succeeds any more.
    PowerLoss,
    /// No space for this operation and for the next so many.
    NoSpace(u64),
    /// An input/output error, once.
    Error,
}

/// A disk in memory. A clone is the same disk.
#[derive(Clone, Default)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    files: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    renames: Vec<Rename>,
    capacity: Option<u64>,
    /// Operations that changed the disk so far.
    operations: u64,
    fault: Option<(u64, Fault)>,
    dead: bool,
    locked: bool,
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<(usize, Vec<u8>)>,
}

/// A name that now means another file, or none.
struct Rename {
    removed: Option<String>,
    added: Option<(String, usize)>,
}

impl SimDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations changed the disk so far.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// Lets the operation after the next `after` fail.
    pub fn fail_after(&self, after: u64, fault: Fault) {
        let mut state = self.state();
        state.fault = Some((state.operations + after, fault));
    }

    /// Bounds the sum of the files' lengths; `None`: no bound.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The sum of the files' lengths in bytes.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// What is found when the power comes back, as chance has it.
    #[must_use]
    pub fn after_crash(&self, random: &mut Random) -> SimDisk {
        let state = self.state();
        let mut names = state.durable_names.clone();
        let kept = random.below(state.renames.len() as u64 + 1) as usize;
        for rename in &state.renames[..kept] {
            rename.apply(&mut names);
        }
        // Nothing, everything, or each sector by itself gets to the disk.
        let way = random.below(3);
        let files = state.files.iter().map(|file| {
            let mut bytes = file.durable.clone();
            for (offset, written) in &file.unsynced {
                for (at, sector) in sectors(*offset, written) {
                    if way == 1 || way == 2 && random.below(2) == 0 {
                        put(&mut bytes, at, sector);
                    }
                }
            }
            Inode { now: bytes.clone(), durable: bytes, unsynced: Vec::new() }
        });
        let files = files.collect();
        SimDisk(Arc::new(Mutex::new(State { files, names: names.clone(), durable_names: names, ..State::default() })))
    }

    /// A copy of the disk as it is, in good order.
    #[must_use]
    pub fn copy(&self) -> SimDisk {
        let state = self.state();
        let copy = |file: &Inode| Inode { now: file.now.clone(), durable: file.now.clone(), unsynced: Vec::new() };
        SimDisk(Arc::new(Mutex::new(State {
            files: state.files.iter().map(copy).collect(),
            names: state.names.clone(),
            durable_names: state.names.clone(),
            ..State::default()
        })))
    }

    /// The bytes of a file; `None` if there is no such file.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(name).map(|file| state.files[*file].now.clone())
    }

    /// Flips one bit of a file that exists.
    pub fn flip(&self, name: &str, offset: usize, bit: u8) {
        let mut state = self.state();
        let file = state.names[name];
        let file = &mut state.files[file];
        file.now[offset] ^= 1 << bit;
        file.durable[offset] ^= 1 << bit;
    }
}

impl State {
    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].now.len() as u64).sum()
    }

    /// Counts an operation and says whether it is to fail; `Ok(false)`: half of it is to be done.
    fn operation(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(io::Error::other("no power"));
        }
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if self.operations > at => match fault {
                Fault::PowerLoss => {
                    self.dead = true;
                    Ok(false)
                }
                Fault::NoSpace(more) => {
                    self.fault = (more > 0).then(|| (at, Fault::NoSpace(more - 1)));
                    Err(ErrorKind::StorageFull.into())
                }
                Fault::Error => {
                    self.fault = None;
                    Err(io::Error::other("input/output error"))
                }
            },
            _ => Ok(true),
        }
    }

    fn rename(&mut self, rename: Rename) -> io::Result<()> {
        let whole = self.operation()?;
        rename.apply(&mut self.names);
        self.renames.push(rename);
        if whole { Ok(()) } else { Err(io::Error::other("no power")) }
    }
}

impl Rename {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, file)) = &self.added {
            names.insert(name.clone(), *file);
        }
    }
}

fn sectors(offset: usize, bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = (SECTOR - (offset + at) % SECTOR).min(bytes.len() - at);
        let item = (offset + at, &bytes[at..at + len]);
        at += len;
        (len > 0).then_some(item)
    })
}

fn put(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    if bytes.len() < at + new.len() {
        bytes.resize(at + new.len(), 0);
    }
    bytes[at..at + new.len()].copy_from_slice(new);
}

struct SimFile {
    disk: SimDisk,
    file: usize,
}

struct Unlock(SimDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Disk for SimDisk {
    fn lock(&self) -> io::Result<Result<Box<dyn Any + Send + Sync>, Option<u32>>> {
        let taken = std::mem::replace(&mut self.state().locked, true);
        Ok(if taken { Err(None) } else { Ok(Box::new(Unlock(self.clone()))) })
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().cloned().collect())
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let file = *self.state().names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let file = state.files.len();
        state.files.push(Inode::default());
        state.rename(Rename { removed: None, added: Some((name.to_owned(), file)) })?;
        Ok(Arc::new(SimFile { disk: self.clone(), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        let file = *state.names.get(from).ok_or(ErrorKind::NotFound)?;
        state.rename(Rename { removed: Some(from.to_owned()), added: Some((to.to_owned(), file)) })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        state.rename(Rename { removed: Some(name.to_owned()), added: None })
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state();
        if !state.operation()? {
            return Err(io::Error::other("no power"));
        }
        state.durable_names = state.names.clone();
        state.renames.clear();
        Ok(())
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().files[self.file].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let state = self.disk.state();
        let bytes = &state.files[self.file].now;
        let start = offset as usize;
        let found = bytes.get(start..start + buffer.len()).ok_or(ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let whole = state.operation()?;
        let grows = (offset + bytes.len() as u64).saturating_sub(state.files[self.file].now.len() as u64);
        if state.capacity.is_some_and(|capacity| state.used() + grows > capacity) {
            return Err(ErrorKind::StorageFull.into());
        }
        let file = &mut state.files[self.file];
        put(&mut file.now, offset as usize, bytes);
        file.unsynced.push((offset as usize, bytes.to_vec()));
        if whole { Ok(()) } else { Err(io::Error::other("no power")) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        // A sync that is cut off has brought anything between nothing and all to the disk: the crash decides.
        if !state.operation()? {
            return Err(io::Error::other("no power"));
        }
        let file = &mut state.files[self.file];
        for (offset, bytes) in std::mem::take(&mut file.unsynced) {
            put(&mut file.durable, offset, &bytes);
        }
        Ok(())
    }
}
