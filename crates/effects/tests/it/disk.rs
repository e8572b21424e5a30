//! A disk that is soon full: a small file system in memory, which only root may mount.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Its size.
const BYTES: u64 = 1 << 20;

/// A mounted small file system; unmounted at the end.
pub(crate) struct SmallDisk {
    mount: TempDir,
}

impl SmallDisk {
    /// `None`, and a line that says so, where it cannot be had.
    pub(crate) fn new(test: &str) -> Option<SmallDisk> {
        let mount = TempDir::new().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={BYTES},mode=755"), "tmpfs"])
            .arg(mount.path())
            .output();
        match mounted {
            Ok(ran) if ran.status.success() => Some(SmallDisk { mount }),
            other => {
                crate::bench::skipped(test, &format!("cannot mount a small disk: {other:?}"));
                None
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.mount.path()
    }

    /// A folder on it.
    pub(crate) fn folder(&self) -> TempDir {
        TempDir::new_in(self.mount.path()).expect("a folder")
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) {
        let zeros = vec![0; 4 << 10];
        let mut file = std::fs::File::create(self.filler()).expect("a file");
        while std::io::Write::write_all(&mut file, &zeros).is_ok() {}
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.filler()).expect("the filler");
    }

    fn filler(&self) -> PathBuf {
        self.mount.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.mount.path()).status();
    }
}
