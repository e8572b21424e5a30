//! What can be wrong with a snapshot.

use std::fmt;
use std::io;

use bytes::Bytes;

/// A snapshot that cannot be read on. What was read before is as it was written, but not yet proven by the checksum.
#[derive(Debug, thiserror::Error)]
pub struct RdbError {
    /// Bytes from the start of the snapshot.
    pub offset: u64,
    /// The key whose value was being read.
    pub key: Option<Bytes>,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

impl fmt::Display for RdbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the snapshot cannot be read at byte {}", self.offset)?;
        match &self.key {
            Some(key) => write!(f, ", in key \"{}\"", key[..key.len().min(100)].escape_ascii()),
            None => Ok(()),
        }
    }
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes end where more must come.
    #[error("it is cut off in the middle of {0}")]
    Truncated(&'static str),
    /// The bytes make no sense.
    #[error("it is corrupt: {0}")]
    Corrupt(&'static str),
    /// The checksum at the end is not that of the bytes.
    #[error("it is corrupt: its checksum is {found:016x}, but its bytes have {computed:016x}")]
    Checksum {
        /// As written.
        found: u64,
        /// As computed.
        computed: u64,
    },
    /// Of a server that is newer than this reader, or of a kind that cannot be carried.
    #[error("{0} cannot be read")]
    Unsupported(String),
    /// More than Redis itself allows.
    #[error("{what} of {size} bytes is above the limit of {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// How large it says it is.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The source of the bytes failed.
    #[error("the bytes cannot be had")]
    Io(#[from] io::Error),
    /// The receiver of pieces gave up; its own error says why.
    #[error("the receiver gave up")]
    Stopped,
    /// Not an error: the value does not fit into what may be kept whole.
    #[error("the value is too long to be kept whole")]
    Long,
}
