//! Copies of a store in files: checked, and made into a store again.
//!
//! **Shape.** What [`Store::snapshot`](crate::Store::snapshot) sends and `etcdctl snapshot save` writes: a bbolt database
//! with etcd's buckets, then its SHA-256.
//!
//! **Guarantees.** A store is restored whole and compared with the copy before it gets its name; a crash before that
//! leaves a folder `NAME.part`, which the next attempt clears. Revisions, versions and leases are as they were; leases
//! begin their time anew, as after any restart.
//!
//! **Caveats.** History begins at the compacted revision of the copy; where revisions are missing later (as after
//! `etcdutl snapshot restore --bump-revision`), behind the last gap. Members, users and alarms are not taken over.
//!
//! **Errors.** [`BackupError`]. Nothing that a file holds can make this panic or take memory beyond its own size.

mod database;
mod entry;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;

use self::{
    database::{Database, Place},
    entry::Moment,
};
use crate::{
    Error, LeaseId, Revision,
    disk::{self, Disk, RealDisk},
    engine::restore::{Restoring, read_back},
};

/// Why a copy was not checked or restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The file cannot be read.
    #[error("cannot read the copy")]
    Read(#[source] io::Error),
    /// The file is not what was written: cut off, changed, or something else altogether.
    #[error("{0}")]
    Damaged(String),
    /// There is a store already where one is to be made; it is unchanged.
    #[error("{} is there already", .0.display())]
    Occupied(PathBuf),
    /// The folder cannot be written.
    #[error("cannot write the folder")]
    Write(#[source] io::Error),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] Error),
    /// What was written is not what the copy has; it was removed.
    #[error("{0}")]
    Differs(String),
}

type Result<T> = std::result::Result<T, BackupError>;

/// What is in a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Where the store was.
    pub revision: Revision,
    /// The oldest revision that can be read from it.
    pub oldest: Revision,
    /// Keys that existed.
    pub keys: u64,
    /// Versions of keys, deletions among them.
    pub versions: u64,
    /// Leases in force.
    pub leases: u64,
    /// Bytes of the file.
    pub bytes: u64,
    /// Its checksum, as 64 hex digits.
    pub sha256: String,
}

/// Reads a copy from front to back and checks all of it. Blocks.
///
/// # Errors
/// `Read`, `Damaged`.
pub fn verify(file: &Path) -> Result<Summary> {
    let database = Database::open(file, &mut |_, _| {})?;
    Ok(Survey::of(&database)?.summary)
}

/// Makes a store from a copy in `folder`, which must not have one. `progress` is told bytes done, and of how many.
/// Blocks.
///
/// # Errors
/// `Occupied`, `Read`, `Damaged`, `Write`, `Store`, `Differs`.
pub fn restore(file: &Path, folder: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Summary> {
    if is_occupied(folder)? {
        return Err(BackupError::Occupied(folder.to_owned()));
    }
    let database = Database::open(file, &mut |done, of| progress(done, 2 * of))?;
    let survey = Survey::of(&database)?;
    let part = part_of(folder);
    private_folder(&part).map_err(BackupError::Write)?;
    let disk = Arc::new(RealDisk::open(&part).map_err(BackupError::Write)?);
    // Somebody else who restores into the same folder is kept out; what one before left is removed.
    let held = disk.lock().map_err(BackupError::Write)?;
    let _held = held.map_err(|pid| Error::Locked { path: part.clone(), pid })?;
    for name in disk.list().map_err(BackupError::Write)? {
        if name != disk::LOCK {
            disk.remove(&name).map_err(BackupError::Write)?;
        }
    }
    let bytes = database.bytes();
    let written = write(&database, &survey, disk.clone(), &mut |done| progress(bytes + done, 2 * bytes));
    let done = written.and_then(|()| compare(&database, &survey, &*disk)).and_then(|()| {
        name(&part, folder).map_err(|error| match error.kind() {
            io::ErrorKind::DirectoryNotEmpty => BackupError::Occupied(folder.to_owned()),
            _ => BackupError::Write(error),
        })
    });
    if let Err(error) = done {
        // What cannot be removed is by the next attempt.
        let _ = std::fs::remove_dir_all(&part);
        return Err(error);
    }
    Ok(survey.summary)
}

fn write(database: &Database, survey: &Survey, disk: Arc<dyn Disk>, progress: &mut dyn FnMut(u64)) -> Result<()> {
    let mut base: BTreeMap<Bytes, (Place, u32)> = BTreeMap::new();
    if survey.base > Revision::EMPTY {
        entry::each(database, &mut |entry, place| {
            if entry.moment.revision > survey.base.0 {
                return Ok(());
            }
            match entry.deletion {
                true => drop(base.remove(&entry.kv.key)),
                false => drop(base.insert(entry.kv.key, (place, entry.moment.sub))),
            }
            Ok(())
        })?;
    }
    let mut restoring = Restoring::begin(disk, survey.base)?;
    for (place, sub) in base.into_values() {
        restoring.key(&entry::read(&database.value(place)?)?, sub)?;
    }
    let mut changes = restoring.log(&survey.leases)?;
    let mut done = 0;
    entry::each(database, &mut |entry, _| {
        if entry.moment.revision <= survey.base.0 {
            return Ok(());
        }
        let Moment { revision, sub } = entry.moment;
        done += (entry.kv.key.len() + entry.kv.value.len()) as u64;
        progress(done);
        match entry.deletion {
            true => changes.delete(&entry.kv.key, Revision(revision), sub)?,
            false => changes.put(&entry.kv, sub)?,
        }
        Ok(())
    })?;
    Ok(changes.end()?)
}

/// Reads the store again, as an agent that starts will, and compares each key that exists with the copy.
fn compare(database: &Database, survey: &Survey, disk: &dyn Disk) -> Result<()> {
    let mut expected = survey.live.values();
    let differs = |key: &Bytes| BackupError::Differs(format!("key {} differs", key.escape_ascii()));
    let revision = read_back::<BackupError>(disk, |kv| {
        let place = expected.next().ok_or_else(|| differs(&kv.key))?;
        if entry::read(&database.value(*place)?)? == kv { Ok(()) } else { Err(differs(&kv.key)) }
    })?;
    if expected.next().is_some() {
        return Err(BackupError::Differs("a key is missing".to_owned()));
    }
    if revision != survey.summary.revision {
        let wanted = survey.summary.revision;
        return Err(BackupError::Differs(format!("it is at revision {revision}, not {wanted}")));
    }
    Ok(())
}

fn part_of(folder: &Path) -> PathBuf {
    let mut name = folder.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    folder.with_file_name(name)
}

fn is_occupied(folder: &Path) -> Result<bool> {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(BackupError::Write(error)),
    }
}

/// A folder, with those above it, for its owner alone.
fn private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn name(part: &Path, folder: &Path) -> io::Result<()> {
    // An empty folder may be there; one with something in it makes this fail.
    std::fs::rename(part, folder)?;
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(above)?.sync_all()
}

/// What a copy has, found by going through it once.
struct Survey {
    summary: Summary,
    /// The state that history begins with.
    base: Revision,
    /// The keys that exist in the end.
    live: BTreeMap<Bytes, Place>,
    leases: Vec<(LeaseId, i64)>,
}

impl Survey {
    fn of(database: &Database) -> Result<Survey> {
        let compacted = entry::compacted(database)?;
        let leases = entry::leases(database)?;
        // The last revision, and where those without a gap up to it begin.
        let (mut last, mut begun, mut versions) = (0, Revision::EMPTY.0 + 1, 0);
        let mut live = BTreeMap::new();
        entry::each(database, &mut |entry, place| {
            let revision = entry.moment.revision;
            let follows = match entry.moment.sub {
                0 => revision == last + 1,
                _ => revision == last,
            };
            if !follows {
                begun = revision + i64::from(entry.moment.sub != 0);
            }
            last = revision;
            versions += 1;
            match entry.deletion {
                true => drop(live.remove(&entry.kv.key)),
                false => drop(live.insert(entry.kv.key, place)),
            }
            Ok(())
        })?;
        let base = compacted.max(begun - 1).max(Revision::EMPTY.0);
        let revision = Revision(last.max(base));
        let summary = Summary {
            revision,
            oldest: Revision(base),
            keys: live.len() as u64,
            versions,
            leases: leases.len() as u64,
            bytes: database.bytes(),
            sha256: database.sha256(),
        };
        Ok(Survey { summary, base: Revision(base), live, leases })
    }
}
