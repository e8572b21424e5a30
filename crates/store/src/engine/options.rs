//! How an engine is run.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::{Clock, SystemClock},
    limits,
};

/// How an engine is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// How much history is kept without being asked; default: the last [`limits::HISTORY_REVISIONS`] revisions.
    pub compaction: AutoCompaction,
    /// Bytes of live keys and kept history before puts are refused; default [`limits::QUOTA_BYTES`].
    pub quota_bytes: u64,
    /// Bytes of a log segment, 4 KiB to 1 GiB; default [`limits::SEGMENT_BYTES`]. Smaller ones give space back sooner
    /// and are changed more often.
    pub segment_bytes: u64,
    /// Bytes of the longest value kept in memory; default [`limits::INLINE_BYTES_MAX`].
    pub inline_bytes_max: usize,
    /// Operations in one list of a transaction, as etcd's `--max-txn-ops`; default [`limits::TXN_OPS_MAX`]. A door that
    /// lends its caller a larger one checks with [`crate::check_txn`] what its own clients send.
    pub txn_ops_max: usize,
    /// While this key exists, no key changes but those beside it, which begin as it does up to its last `/`, and no lease
    /// is granted or revoked: `Fenced`. Leases end all the same. Default: none.
    pub fence: Option<&'static str>,
    /// The time that leases live by; default: the machine's.
    pub clock: Arc<dyn Clock>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            compaction: AutoCompaction::Revisions(limits::HISTORY_REVISIONS),
            quota_bytes: limits::QUOTA_BYTES,
            segment_bytes: limits::SEGMENT_BYTES,
            inline_bytes_max: limits::INLINE_BYTES_MAX,
            txn_ops_max: limits::TXN_OPS_MAX,
            fence: None,
            clock: Arc::new(SystemClock::default()),
        }
    }
}

/// How much history is kept without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All; somebody else calls `compact`.
    Off,
    /// The last so many revisions, at least 1; done when there are a hundredth more.
    Revisions(i64),
    /// What happened in the last so long; done once in each tenth of it.
    Period(Duration),
}
