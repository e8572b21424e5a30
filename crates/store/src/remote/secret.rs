//! A text that must not be seen.

use std::{fmt, io, path::Path};

/// Bytes of the longest secret read from a file.
const FILE_BYTES_MAX: u64 = 4096;

/// A token or another secret: it is shown as `…`, wherever it is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes a secret; white space around it is none of it.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// Reads one from a file of at most 4 KiB.
    ///
    /// # Errors
    /// What the system says, `InvalidData` for a file that is larger or not text, `UnexpectedEof` for an empty one.
    pub fn read(path: &Path) -> io::Result<Self> {
        use std::io::Read;
        let mut text = String::new();
        std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large to be a token"));
        }
        let secret = Self::new(&text);
        if secret.0.is_empty() {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is empty"));
        }
        Ok(secret)
    }

    /// The secret itself, for whoever must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
