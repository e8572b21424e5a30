//! Small files of our own, written so that a crash leaves either the old or the new one.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Largest file of our own that is read: a record of a few hundred bytes, or a manifest of a set's files.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Writes `value` as JSON to `path`: complete or not at all, and still there after a power cut.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder_of(path)
}

/// A file that cannot fail for want of space: room for it is taken long before it is written.
#[derive(Debug)]
pub(crate) struct Reserved {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
}

impl Reserved {
    /// Takes `bytes` of room beside `path`. A file system that cannot reserve is taken as it is.
    pub(crate) fn new(path: &Path, bytes: u64) -> io::Result<Reserved> {
        let temporary = path.with_extension("reserved");
        let file = File::create(&temporary)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
            Err(source) => return Err(source.into()),
        }
        Ok(Reserved { file, temporary, path: path.to_owned() })
    }

    /// Writes `value` as JSON to the path: complete or not at all, and still there after a power cut.
    pub(crate) fn write(&self, value: &impl Serialize) -> io::Result<()> {
        let bytes = serde_json::to_vec(value)?;
        self.file.write_all_at(&bytes, 0)?;
        self.file.set_len(bytes.len() as u64)?;
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.path)?;
        sync_folder_of(&self.path)
    }
}

/// Reads JSON from `path`; `None` when there is no such file, or when it is not ours to understand.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(RECORD_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Makes the names in the folder that holds `path` durable.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// Makes a folder with all that lead to it, each durable in the one above.
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(path)?;
    missing.iter().rev().try_for_each(|folder| sync_folder_of(folder))
}

/// Removes a file; that it is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
