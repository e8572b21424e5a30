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

/// Bytes of events in one message, above which it is split: between two revisions, and within one if the client asked
/// for fragments. *etcd* splits at its largest request: 1.5 MiB.
pub const EVENTS_BYTES_MAX: usize = regrow_store::limits::REQUEST_BYTES_MAX;

/// Bytes of answers that wait on one connection for the client to take them, of those about many keys and again of those
/// about single ones. Further calls of that kind wait.
pub const CONNECTION_ANSWERS_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The same on all connections together. A connection for which nothing waits may still ask about single keys; a call about
/// many is refused.
pub const ANSWERS_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Comparisons and operations of one transaction, those of transactions within it counted too, above which it is not even
/// read. Far above what [`regrow_store::limits::TXN_OPS_MAX`] leaves of any that clients make.
pub const TXN_PARTS_MAX: usize = 16 * 1024;

/// How often a connection is asked whether it is still there. *etcd* `--grpc-keepalive-interval`: 2 h; less here, so
/// that a machine that is gone does not hold watches for so long.
pub const PING_INTERVAL: Duration = Duration::from_secs(60);

/// How long it has to answer. *etcd* `--grpc-keepalive-timeout`: 20 s.
pub const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Pieces of a snapshot that wait for the client.
pub const SNAPSHOT_PARTS_MAX: usize = 4;

/// How long a client may take to read on a snapshot before it is given up, so that history can be.
pub const SNAPSHOT_STALL: Duration = Duration::from_secs(60);

/// Parts of a node's name in etcd 2's interface: two keys are looked at for each, within one transaction of the store.
pub const V2_DEPTH_MAX: usize = 60;

/// Bytes of a form: the largest value with each byte written as three.
pub const V2_FORM_BYTES_MAX: usize = 3 * regrow_store::limits::REQUEST_BYTES_MAX + 64 * 1024;

/// Nodes in one answer, or keys moved to another lease with their directory.
pub const V2_NODES_MAX: usize = 100_000;

/// Bytes of names and values in one answer.
pub const V2_ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// KiB of answers of etcd 2's interface that wait for clients to take them, all together; what comes beyond is refused.
pub const V2_ANSWERS_KIB_MAX: u32 = 256 * 1024;

/// Directories read at once; others wait.
pub const V2_LISTINGS_MAX: usize = 8;

/// Writes under way at once; others wait. A write goes on when its client has gone.
pub const V2_WRITES_MAX: usize = 1024;

/// How often a write is tried when others change what it was decided on; each time one of them has got through.
pub const V2_TRIES_MAX: usize = 64;

/// Events whose action is remembered: etcd keeps 1,000 events at all. Older ones are told as `set`, `delete`, `expire`.
pub const V2_EVENTS_MAX: usize = 1000;

/// Bytes of values in the events remembered.
pub const V2_EVENTS_BYTES_MAX: usize = 16 * 1024 * 1024;

/// KiB of JSON requests and answers on their way, all together; what comes beyond is refused.
pub const GATEWAY_KIB_MAX: u32 = 256 * 1024;

/// How long a client may take to send the JSON of one call.
pub const GATEWAY_BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of one JSON object in a stream of them: of a watch, or a lease kept alive.
pub const GATEWAY_OBJECT_BYTES_MAX: usize = 64 * 1024;

/// Connections of one listener; further ones wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 8192;

/// How long a connection has to say what it speaks, to shake hands, and by HTTP/1.1 to send the headers of a request.
pub const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of the headers of one request.
pub const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// Bytes that a client may send before they are read, on one connection. *HTTP/2's* default is 64 KiB, which a large put
/// would have to wait for several times.
pub const WINDOW_BYTES: u32 = 1024 * 1024;

/// Bytes of one answer that wait to be sent; more are taken from its stream when these have gone.
pub const SEND_BYTES_MAX: usize = 400 * 1024;
