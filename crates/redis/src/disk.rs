//! Files that are their owner's alone, and that a power cut leaves old or new, never half.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A file or folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}", .path.display())]
pub struct DiskError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

impl DiskError {
    /// With a path, for `map_err`.
    pub(crate) fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self { path, source }
    }
}

/// How a file is opened to be written: its owner's alone (mode 0600), made if it is not there.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.create(true).write(true).mode(0o600);
    options
}

/// Makes a folder for its owner alone (mode 0700), and those that it is in. One that is there is left as it is.
pub(crate) fn make_folder(folder: &Path) -> Result<(), DiskError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(DiskError::at(folder))
}

/// Takes a state folder for this process, making it if it is not there; the lock ends with the file. `None`: another process has it.
pub(crate) fn hold_folder(folder: &Path) -> Result<Option<File>, DiskError> {
    make_folder(folder)?;
    let path = folder.join("lock");
    let lock = private().open(&path).map_err(DiskError::at(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(source)) => Err(DiskError { path, source }),
    }
}

/// Puts a folder's list of names on disk.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), DiskError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(DiskError::at(folder))
}

/// Reads a file of JSON; `None` where none is.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(DiskError { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| DiskError {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error.to_string()),
    })
}

/// Replaces a file whole with JSON, and syncs it: after a power cut it is the old or the new one.
pub(crate) fn replace_json(path: &Path, value: &impl Serialize) -> Result<(), DiskError> {
    let fresh = path.with_extension("new");
    let put = || {
        let bytes = serde_json::to_vec_pretty(value).map_err(io::Error::other)?;
        let mut file = private().truncate(true).open(&fresh)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    put().map_err(DiskError::at(path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    /// What is written is read, by its owner alone; what is not there is nothing; what makes no sense is named.
    #[test]
    fn json() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        make_folder(&folder).unwrap();
        let path = folder.join("x.json");
        assert_eq!(read_json::<u32>(&path).unwrap(), None);
        replace_json(&path, &5).unwrap();
        replace_json(&path, &7).unwrap();
        assert_eq!(read_json(&path).unwrap(), Some(7));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        fs::write(&path, "{").unwrap();
        assert!(read_json::<u32>(&path).unwrap_err().to_string().contains("x.json"));
    }
}
