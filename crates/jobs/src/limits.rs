//! Every limit of the queue and the worker, in one place.

use std::time::Duration;

/// How long a worker's lease lives without a beat: the time after which a dead worker's runs are taken from it. Long
/// enough for eight beats, half of the 15 s in which a loss must be known.
pub const LEASE: Duration = Duration::from_secs(8);

/// Time between two beats.
pub const BEAT: Duration = Duration::from_secs(1);

/// A worker whose last good beat began so long ago kills what it runs: well before its lease can end.
pub const GIVE_UP: Duration = Duration::from_secs(5);

/// Operations of one transaction: etcd takes 128, and those nested in another count from what it left over.
pub const TXN_OPS: usize = 60;

/// Bytes of records in one transaction: a request may have 1.5 MiB, and one run half of one.
pub const TXN_BYTES: usize = 900 << 10;

/// Runs claimed at once at most.
pub const CLAIMS_MAX: usize = 60;

/// Bytes of one piece of a run's log.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Pieces of a log given at once.
pub const CHUNKS_MAX: usize = 64;

/// Longest wait of output before it is written: people watch it.
pub const CHUNK_WAIT: Duration = Duration::from_millis(100);

/// Lines that wait to be written; a run that prints faster is held up.
pub const LINES_WAITING: usize = 1_024;

/// Longest line; a longer one is cut.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Runs that a worker may run at a time.
pub const ROOM_MAX: u32 = 4_096;

/// Runs submitted at once at most.
pub const SUBMISSIONS_MAX: usize = 10_000;

/// Time between two looks at what nobody asks for.
pub const TEND: Duration = Duration::from_secs(1);

/// Time between two looks at what is old.
pub const SWEEP: Duration = Duration::from_secs(30);

/// Records looked at in one step of a sweep.
pub const SWEEP_PAGE: usize = 500;

/// Runs listed at once at most.
pub const LISTED_MAX: usize = 10_000;

/// Time between two tries when the store cannot be reached.
pub const AGAIN: Duration = Duration::from_millis(200);

/// How long a word of the caller's own is remembered (see `Wish::key`).
pub const KEY_KEPT: Duration = Duration::from_secs(24 * 3600);
