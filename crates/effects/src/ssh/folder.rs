//! A folder of the user's own for the sockets of connections that are kept, and for what `ssh` says of itself.

use super::KEPT_MAX;
use crate::error::{error, io_error};
use regrow_model::observed::{WorldError, WorldErrorKind};
use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Longest path of the folder: a socket's path has 107 bytes, of which `ssh` takes 58 for a name while it makes it.
const PATH_BYTES_MAX: usize = 48;

#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Logs given out by this process.
    logs: AtomicUsize,
}

impl Folder {
    /// Under the user's run-time folder, or in `/tmp`.
    pub(super) fn open() -> Result<Folder, WorldError> {
        let user = rustix::process::geteuid().as_raw();
        let run = std::env::var_os("XDG_RUNTIME_DIR").map(|run| PathBuf::from(run).join("regrow-ssh"));
        let run = run.filter(|run| run.as_os_str().len() <= PATH_BYTES_MAX && run.parent().is_some_and(Path::is_dir));
        Folder::at(run.unwrap_or_else(|| PathBuf::from(format!("/tmp/regrow-ssh-{user}"))), user)
    }

    fn at(path: PathBuf, user: u32) -> Result<Folder, WorldError> {
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io_error(format!("cannot create {}", path.display()), &source));
            }
            _ => {}
        }
        // In a folder for all, somebody else may have been first.
        let found = fs::symlink_metadata(&path)
            .map_err(|source| io_error(format!("cannot look at {}", path.display()), &source))?;
        if !found.is_dir() || found.uid() != user || found.mode() & 0o077 != 0 {
            let text = format!(
                "{} is not a folder of yours alone: remove it, or set XDG_RUNTIME_DIR to a folder of your own",
                path.display()
            );
            return Err(error(WorldErrorKind::Permission, text));
        }
        Ok(Folder { path, logs: AtomicUsize::new(0) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether one more connection may be kept.
    pub(super) fn has_room(&self) -> bool {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with("log-")).count() < KEPT_MAX
    }

    /// A file for what one `ssh` says of itself.
    pub(super) fn log(&self) -> Log {
        let number = self.logs.fetch_add(1, Ordering::Relaxed);
        Log(self.path.join(format!("log-{}-{number}", std::process::id())))
    }
}

/// Removed when dropped; a connection that is kept goes on writing to it unseen.
#[derive(Debug)]
pub(super) struct Log(PathBuf);

impl Log {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Its last line that says something.
    pub(super) fn reason(&self) -> Option<String> {
        let text = fs::read(&self.0).ok()?;
        let text = String::from_utf8_lossy(&text);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty())?;
        Some(line.strip_prefix("ssh: ").unwrap_or(line).to_owned())
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a folder that others can write to, or that is a link, is not used.
    #[test]
    fn somebody_else_s_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let user = rustix::process::geteuid().as_raw();
        let path = root.path().join("a");
        assert!(Folder::at(path.clone(), user).is_ok());
        assert!(Folder::at(path.clone(), user).is_ok(), "the second time too");
        assert!(Folder::at(path.clone(), user + 1).unwrap_err().text.contains("not a folder of yours alone"));
        std::os::unix::fs::symlink(&path, root.path().join("b")).unwrap();
        assert!(Folder::at(root.path().join("b"), user).is_err());
    }
}
