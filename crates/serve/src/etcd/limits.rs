//! Every limit of the etcd door, in one place.

use std::time::Duration;

/// Bytes of one message from a client. Above the store's 1.5 MiB, so that a request a little too large gets etcd's own
/// answer, and low enough to be no burden.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Calls open at once on one connection. A client has one for each request in flight and each watch stream.
pub const STREAMS_MAX: u32 = 1000;

/// Watches on one stream.
pub const STREAM_WATCHES_MAX: usize = 10_000;

/// Watches on all streams of all connections.
pub const WATCHES_MAX: usize = 100_000;

/// Messages that wait on one stream for a client that does not read. Its watches wait in the store then, which keeps
/// bounded queues and goes over to reading history.
pub const STREAM_MESSAGES_MAX: usize = 4;

/// Bytes of events in one message, above which it is split: between two revisions, and within one if the client asked
/// for fragments. *etcd* splits at its largest request: 1.5 MiB.
pub const EVENTS_BYTES_MAX: usize = regrow_store::limits::REQUEST_BYTES_MAX;

/// How often a connection is asked whether it is still there. *etcd* `--grpc-keepalive-interval`: 2 h; less here, so
/// that a machine that is gone does not hold watches for so long.
pub const PING_INTERVAL: Duration = Duration::from_secs(60);

/// How long it has to answer. *etcd* `--grpc-keepalive-timeout`: 20 s.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Pieces of a snapshot that wait for the client.
pub const SNAPSHOT_PARTS_MAX: usize = 4;

/// How long a client may take to read on a snapshot before it is given up, so that history can be.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(60);
