//! Every limit of the store, in one place. Those marked *etcd* have etcd's default value.

use std::time::Duration;

/// Bytes of keys and values one request may carry, with 16 for each operation. *etcd* `--max-request-bytes`: 1.5 MiB.
pub const REQUEST_BYTES_MAX: usize = 1_572_864;

/// Operations (or compares) in one list of a transaction; a nested transaction gets what its parent left over.
/// *etcd* `--max-txn-ops`: 128.
pub const TXN_OPS_MAX: usize = 128;

/// Seconds a lease may be granted for. *etcd* `MaxLeaseTTL`: 9,000,000,000.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// Seconds a lease is granted for at least; a shorter wish is raised to it. *etcd* with its default election
/// timeout: 2.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// Bytes of live keys and history kept before puts are refused with `NoSpace`. *etcd* `--quota-backend-bytes`: 2 GiB.
pub const QUOTA_BYTES: u64 = 2 * 1024 * 1024 * 1024;

/// How often a watch that asked for it is told how far it is, when nothing happens. *etcd*: 10 minutes.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(600);

/// KiB of requests waiting for the writer; a further request waits for room. 64 MiB: some 40 of the largest.
pub const QUEUE_KIB_MAX: usize = 64 * 1024;

/// Requests that share one sync. More would only make the first of them wait longer.
pub const BATCH_REQUESTS_MAX: usize = 1024;

/// Bytes that share one sync; one larger request goes alone.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Leases that expire in one batch; the others follow in the next.
pub const BATCH_EXPIRIES_MAX: usize = 64;

/// Bytes of one log segment, zero-filled before use so that a sync writes no metadata.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bytes that are written beside the writer between two syncs: its own syncs wait for no more than these.
pub const UNSYNCED_BYTES_MAX: u64 = 1024 * 1024;

/// The smallest and the largest segment that can be asked for; other wishes are moved into these bounds.
pub const SEGMENT_BYTES_MIN: u64 = 4 * 1024;
/// See [`SEGMENT_BYTES_MIN`].
pub const SEGMENT_BYTES_MAX: u64 = FRAME_BYTES_MAX;

/// Bytes of a log segment kept for deletes, revocations and compactions when no further segment fits on the disk:
/// one part in this many of a segment.
pub const RESERVE_PART: u64 = 16;

/// Bytes of the longest frame: of what one sync makes durable. Only a deletion of millions of keys comes near it; it
/// is refused and has to be done in parts.
pub const FRAME_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Bytes of the longest value kept in memory beside its key; longer ones are read from disk when asked for.
/// With 256-byte values this keeps a node with 1,000,000 keys below etcd's memory, and reads need no system call.
pub const INLINE_BYTES_MAX: usize = 512;

/// Time that housekeeping leaves to others between two holds of the index lock, at least and at most. Within these it is as
/// long as the hold was.
pub const STEP_PAUSE: Duration = Duration::from_micros(50);
/// See [`STEP_PAUSE`].
pub const STEP_PAUSE_MAX: Duration = Duration::from_millis(5);

/// Keys visited under one hold of the index lock that others can read under.
pub const SCAN_KEYS: usize = 512;

/// Keys changed under one hold of the index lock by housekeeping: few, since puts wait for it. When thousands wait to be given
/// up it takes more at a time, up to [`SCAN_KEYS`].
pub const STEP_KEYS: usize = 64;

/// Bytes of history one step of a watch that lags behind reads at once (a longer frame is read whole).
pub const HISTORY_BYTES: usize = 1024 * 1024;

/// Batches that wait for one slow watcher before it falls back to reading history.
pub const WATCH_QUEUE_BATCHES: usize = 64;

/// Bytes of events that wait for one slow watcher before it falls back to reading history. Watchers of the same keys
/// share them.
pub const WATCH_QUEUE_BYTES: usize = 1024 * 1024;

/// Watches open at once on one engine.
pub const WATCHES_MAX: usize = 1_000_000;

/// Revisions of history kept by default; see `AutoCompaction`. Costs about 100 bytes of memory a revision at most.
pub const HISTORY_REVISIONS: i64 = 100_000;

/// How long writes stay refused after the disk was found full before the engine asks the disk again.
pub const NO_SPACE_RETRY: Duration = Duration::from_millis(200);

/// Bytes the quota counts for a version of a key besides key and value, and for a lease.
pub const VERSION_OVERHEAD_BYTES: u64 = 96;

/// Snapshots under way at once on one engine. Each holds back compaction while it is read.
pub const SNAPSHOTS_MAX: usize = 4;

/// Bytes of one piece of a snapshot. *etcd*: 32 KiB.
pub const SNAPSHOT_PART_BYTES: usize = 32 * 1024;

/// Versions that a snapshot puts into order at once, which takes up to 64 bytes of memory each. A larger store is gone
/// through once for each so many.
pub const SNAPSHOT_WINDOW: usize = 128 * 1024;
