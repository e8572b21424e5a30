//! A disk that can be filled.

use std::io::Write;
use std::path::Path;
use std::process::Command;

/// A file system of 64 MiB, unmounted at the end: a store takes 16 MiB at a time, and one in advance.
pub struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    /// `None`: it takes root.
    pub fn mount(on: &'a Path) -> Option<Small<'a>> {
        std::fs::create_dir_all(on).expect("a folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "regrow-test"]).arg(on);
        mount.output().ok().filter(|output| output.status.success()).map(|_| Small(on))
    }

    /// Fills it to the last byte.
    pub fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).expect("a file");
        let mut size = 1 << 20;
        while size > 0 {
            if file.write_all(&vec![b'x'; size]).is_err() {
                size /= 2;
            }
        }
    }

    pub fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it was filled");
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}
