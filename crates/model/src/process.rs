//! A process, resolved: nothing left to look up or to decide.

use crate::Time;
use crate::spec::{Limits, Logs};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What to run and how. All `${…}` are replaced, all paths absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Program and arguments. A program without a slash is looked up in `PATH`.
    pub command: Vec<String>,
    /// Working directory.
    pub directory: String,
    /// Environment in addition to `PATH`, `HOME`, `LANG` of the node.
    pub environment: BTreeMap<String, String>,
    /// User to run as; `None` is Regrow's own.
    pub user: Option<String>,
    /// Resource limits.
    pub limits: Limits,
    /// Output kept.
    pub logs: LogKeep,
}

/// How much output is kept, in bytes and files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogKeep {
    /// A file is closed when it is larger than this.
    pub bytes: u64,
    /// Closed files kept.
    pub files: u32,
}

impl From<&Logs> for LogKeep {
    fn from(logs: &Logs) -> LogKeep {
        LogKeep { bytes: logs.size_mib.saturating_mul(1 << 20), files: logs.keep }
    }
}

/// Which process it is: a pid alone is used again by the kernel, with its start time it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId {
    /// The process id, which is also its process group's.
    pub pid: u32,
    /// Start time in clock ticks since boot: field 22 of `/proc/PID/stat` (proc(5)).
    pub start_ticks: u64,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code, when it ended by itself.
    pub code: Option<i32>,
    /// Signal number, when one ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: Time,
    /// The last lines that it wrote to standard error, at most [`crate::limits::OUTPUT_BYTES_MAX`] bytes.
    pub tail: String,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.code, self.signal) {
            (_, Some(9)) => f.write_str("killed by SIGKILL"),
            (_, Some(15)) => f.write_str("ended by SIGTERM"),
            (_, Some(signal)) => write!(f, "ended by signal {signal}"),
            (Some(code), None) => write!(f, "exited with code {code}"),
            (None, None) => f.write_str("gone, and nobody saw how"),
        }
    }
}
