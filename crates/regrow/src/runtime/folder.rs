//! The data folder: whose it is.

use crate::exit::Failure;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A data folder that is this agent's alone while this lives.
pub(super) struct Folder {
    id: String,
    _lock: File,
}

impl Folder {
    /// Tells this data folder from every other: the same after a restart. 36 characters of a UUID.
    pub(super) fn id(&self) -> &str {
        &self.id
    }
}

/// Makes the folder if need be; its absolute path.
pub(super) fn open(data: &Path) -> Result<PathBuf, Failure> {
    let refuse = |error: std::io::Error| {
        let hint = "name another with --data";
        Failure::failed(format!("cannot use the data folder {}: {error}\n  {hint}", data.display()))
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(refuse)?;
    data.canonicalize().map_err(refuse)
}

/// Takes the folder for this agent. The embedded store has its own lock; this one is for agents without.
pub(super) fn claim(data: &Path) -> Result<Folder, Failure> {
    let path = data.join("agent.id");
    let refuse = |error: std::io::Error| Failure::failed(format!("cannot use {}: {error}", path.display()));
    let mut options = File::options();
    let lock = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(refuse)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Failure::failed(format!(
                "the data folder {} is in use by another agent or worker",
                data.display()
            )));
        }
        Err(TryLockError::Error(error)) => return Err(refuse(error)),
    }
    let kept = std::fs::read_to_string(&path).map_err(refuse)?;
    let kept = kept.trim();
    if !kept.is_empty() {
        return Ok(Folder { id: kept.to_owned(), _lock: lock });
    }
    // Source: proc(5), random/uuid: a new random UUID at each read.
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid").map_err(refuse)?;
    (&lock).write_all(id.as_bytes()).and_then(|()| lock.sync_all()).map_err(refuse)?;
    Ok(Folder { id: id.trim().to_owned(), _lock: lock })
}
