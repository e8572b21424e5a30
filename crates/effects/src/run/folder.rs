//! A folder of a try's own.

use crate::error::io_error;
use regrow_model::observed::WorldError;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Makes a folder for its owner alone, and those that it is in.
pub(super) fn make(path: &Path) -> Result<(), WorldError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| io_error(format!("cannot make the folder {}", path.display()), &source))
}

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make(path: PathBuf) -> Result<Folder, WorldError> {
        make(&path)?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "a run's folder is left; the next start removes it");
        }
    }
}

/// Writes a new file for its owner alone.
pub(super) fn write(path: &Path, text: &str) -> Result<(), WorldError> {
    let written = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    written
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|source| io_error(format!("cannot write {}", path.display()), &source))
}
