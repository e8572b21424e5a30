//! The little that the engine needs of a disk, so that a test can hand in one that fails.

mod real;
#[cfg(feature = "suite")]
pub mod sim;

use std::{any::Any, io, sync::Arc};

pub(crate) use real::LOCK;
pub use real::RealDisk;

/// A flat folder of files.
///
/// Names are the engine's own. A file created, renamed or removed is sure to be so after a crash only once
/// [`Disk::sync_folder`] has returned.
pub trait Disk: Send + Sync {
    /// Keeps other processes out while the returned value lives; `Err(Some(pid))` names the one inside.
    ///
    /// # Errors
    /// `Ok(Err(pid))` if the folder is taken; `Err` if the disk failed.
    fn lock(&self) -> io::Result<Result<Box<dyn Any + Send + Sync>, Option<u32>>>;

    /// All names in the folder.
    ///
    /// # Errors
    /// Those of the disk.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens an existing file.
    ///
    /// # Errors
    /// Those of the disk.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Creates an empty file, in place of one that may be there.
    ///
    /// # Errors
    /// Those of the disk.
    fn create(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, in place of one that may be there.
    ///
    /// # Errors
    /// Those of the disk.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; handles that are open go on working.
    ///
    /// # Errors
    /// Those of the disk.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all changes of names durable.
    ///
    /// # Errors
    /// Those of the disk.
    fn sync_folder(&self) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    ///
    /// # Errors
    /// Those of the disk.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file is too short; those of the disk.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`, growing the file if need be.
    ///
    /// # Errors
    /// Those of the disk; then any part may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes all writes durable.
    ///
    /// # Errors
    /// Those of the disk; then any part may be durable.
    fn sync(&self) -> io::Result<()>;
}
