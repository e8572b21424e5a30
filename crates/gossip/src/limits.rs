//! Every limit of this crate by name. What a peer sends is never trusted with our memory: a length is
//! checked against one of these before anything is kept.

/// Longest node name accepted, in bytes. Serf's own check allows 128; some fleets use longer host names.
pub const NAME_BYTES_MAX: usize = 255;

/// Longest encoded tags of one node, in bytes. Source: memberlist `MetaMaxSize`.
pub const META_BYTES_MAX: usize = 512;

/// Longest label, in bytes; the header has one byte for it. Source: memberlist `LabelMaxSize`.
pub const LABEL_BYTES_MAX: usize = 255;

/// Largest datagram we build, in bytes, before the UDP header. Source: memberlist `UDPBufferSize`.
pub const PACKET_BYTES_MAX: usize = 1400;

/// Most bytes that one received datagram may grow to in all its nested layers together.
/// A datagram is at most 64 KiB; sixteen times that leaves room for any honest compression.
pub const PACKET_PLAIN_BYTES_MAX: usize = 1024 * 1024;

/// Most layers (compound in compressed in compound …) in one datagram. Serf makes at most two.
pub const PACKET_DEPTH_MAX: usize = 4;

/// Most messages taken from one datagram. A compound counts its parts in one byte.
pub const PACKET_PARTS_MAX: usize = 1024;

/// Most bytes of one stream message, sealed. Source: memberlist `maxPushStateBytes`.
pub const STREAM_BYTES_MAX: usize = 20 * 1024 * 1024;

/// Most bytes of one stream message after decompression. Source: memberlist `maxDecompressedBytes`.
pub const STREAM_PLAIN_BYTES_MAX: usize = 2 * STREAM_BYTES_MAX;

/// Most bytes that all half-received streams may hold together.
pub const STREAM_BYTES_TOTAL_MAX: usize = 64 * 1024 * 1024;

/// Most fields in one message; Serf's have 15 at most.
pub const FIELDS_MAX: usize = 64;

/// Most values in a field that we do not know. A member that Serf tells of has its tags in one: two values for each.
pub const SKIPPED_VALUES_MAX: usize = 1024;

/// Most streams open at a time, both directions. Source: memberlist `maxPushPullRequests`.
pub const STREAMS_MAX: usize = 128;

/// Most members in one push/pull message. Each takes some 20 bytes at least.
pub const PUSH_PULL_NODES_MAX: usize = 131_072;

/// Most members that are kept, alive or not. A new name beyond it is refused and said.
pub const MEMBERS_MAX: usize = 65_536;

/// Fewest failed and left members that are kept; see [`TOMBSTONES_PER_ALIVE`].
pub const TOMBSTONES_MIN: usize = 256;

/// Failed and left members kept for each alive one. What is over `max(TOMBSTONES_MIN, alive ×
/// TOMBSTONES_PER_ALIVE)` is forgotten, oldest first, so that a crash loop under fresh names stays bounded.
pub const TOMBSTONES_PER_ALIVE: usize = 2;

/// Most addresses kept to find the cluster again.
pub const SEEDS_MAX: usize = 1024;

/// Most intents kept for names that are not members yet.
pub const INTENTS_MAX: usize = 4096;

/// Most messages in one broadcast queue; the most often sent go first. Source: Serf `MaxQueueDepth`.
pub const BROADCASTS_MAX: usize = 4096;

/// Slots in the buffer of recent user events. Source: Serf `EventBuffer`.
pub const EVENT_SLOTS: usize = 512;

/// Slots in the buffer of recent queries. Source: Serf `QueryBuffer`.
pub const QUERY_SLOTS: usize = 512;

/// Most events or queries that may share one Lamport time.
pub const SLOT_ENTRIES_MAX: usize = 128;

/// Most bytes of all recent user events together; they travel in every push/pull.
pub const EVENT_BUFFER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Largest user event that is accepted, encoded, in bytes. Source: Serf `UserEventSizeLimit`.
pub const USER_EVENT_BYTES_MAX: usize = 9 * 1024;

/// Most filters in one query.
pub const FILTERS_MAX: usize = 64;

/// Most bytes that a compiled tag filter may take.
pub const FILTER_REGEX_BYTES_MAX: usize = 256 * 1024;

/// Most of our own queries that run at a time.
pub const QUERIES_RUNNING_MAX: usize = 256;

/// Most queries of others that wait for our reply at a time.
pub const QUERIES_WAITING_MAX: usize = 1024;

/// Most responders remembered for one query (duplicates are dropped by it).
pub const QUERY_RESPONDERS_MAX: usize = MEMBERS_MAX;

/// Most probes in flight at a time: the round, the watch of neighbours, suspects, claims after a split.
pub const PROBES_MAX: usize = 1024;

/// Most indirect pings served for others at a time.
pub const RELAYS_MAX: usize = 512;

/// Most keys in the ring.
pub const KEYS_MAX: usize = 64;

/// Dimensions of a coordinate. Source: Serf `Dimensionality`.
pub const COORDINATE_DIMENSIONS: usize = 8;

/// Lamport times at or over this are refused: one forged message must not end the clock.
pub const LAMPORT_MAX: u64 = 1 << 62;
