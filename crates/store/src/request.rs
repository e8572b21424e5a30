//! Requests and responses on keys, field for field as etcd's `rpc.proto` and `kv.proto` have them.
//!
//! A response's `revision` is its header's.

use bytes::Bytes;

use crate::{KeyRange, LeaseId, Revision, prefix_end};

/// A key as it was at some revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyValue {
    /// The key, at least one byte.
    pub key: Bytes,
    /// The value; empty if the request said `keys_only`.
    pub value: Bytes,
    /// When the key came into being (again, after a deletion).
    pub create_revision: Revision,
    /// When it was last put.
    pub mod_revision: Revision,
    /// How often it was put since `create_revision`: 1 and up; 0 in a deletion event.
    pub version: i64,
    /// The lease it is attached to, or none.
    pub lease: LeaseId,
}

/// The order of a range's answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortOrder {
    /// By key ascending, or ascending by the target if that is not the key.
    #[default]
    None,
    /// Smallest first.
    Ascend,
    /// Largest first.
    Descend,
}

/// What a range's answer is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    #[default]
    Key,
    /// The version.
    Version,
    /// The revision of creation.
    Create,
    /// The revision of the last put.
    Mod,
    /// The value.
    Value,
}

/// Reads keys.
///
/// Errors: `EmptyKey`, `Compacted`, `FutureRevision`, `Corrupt`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeRequest {
    /// The first key.
    pub key: Bytes,
    /// See [`KeyRange`].
    pub range_end: Bytes,
    /// Keys returned at most; 0 or less: all.
    pub limit: i64,
    /// As of which revision; 0 or less: now.
    pub revision: Revision,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Whether a member's own, perhaps stale, state will do. The embedded engine has no other.
    pub serializable: bool,
    /// Leave the values out.
    pub keys_only: bool,
    /// Only count.
    pub count_only: bool,
    /// Leave out keys last put before; 0: no bound.
    pub min_mod_revision: Revision,
    /// Leave out keys last put after; 0: no bound.
    pub max_mod_revision: Revision,
    /// Leave out keys created before; 0: no bound.
    pub min_create_revision: Revision,
    /// Leave out keys created after; 0: no bound.
    pub max_create_revision: Revision,
}

impl RangeRequest {
    /// One key, now.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// All keys with a prefix (all keys if it is empty), now.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let (key, range_end) = prefix_range(prefix.into());
        Self { key, range_end, ..Self::default() }
    }

    /// The keys asked for.
    pub fn range(&self) -> KeyRange {
        KeyRange::new(self.key.clone(), self.range_end.clone())
    }
}

/// What a range found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// Where the store was.
    pub revision: Revision,
    /// The keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut some off.
    pub more: bool,
    /// How many keys are in the range, whatever the limit and the bounds on revisions.
    pub count: i64,
}

/// Puts a key.
///
/// Errors: `EmptyKey`, `RequestTooLarge`, `LeaseNotFound`, `KeyNotFound`, `ValueProvided`, `LeaseProvided`, `NoSpace`,
/// `Disk`, `Closed`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutRequest {
    /// The key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The lease to attach it to; none detaches it.
    pub lease: LeaseId,
    /// Return the key as it was.
    pub prev_kv: bool,
    /// Keep the value it has.
    pub ignore_value: bool,
    /// Keep the lease it has.
    pub ignore_lease: bool,
}

impl PutRequest {
    /// A plain put.
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), ..Self::default() }
    }
}

/// A put is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PutResponse {
    /// The revision of the put.
    pub revision: Revision,
    /// The key as it was, if asked for and there.
    pub prev_kv: Option<KeyValue>,
}

/// Deletes keys. The revision is raised only if there was something to delete.
///
/// Errors: `EmptyKey`, `NoSpace`, `Disk`, `Closed`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteRangeRequest {
    /// The first key.
    pub key: Bytes,
    /// See [`KeyRange`].
    pub range_end: Bytes,
    /// Return the keys as they were.
    pub prev_kv: bool,
}

impl DeleteRangeRequest {
    /// One key.
    pub fn key(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), ..Self::default() }
    }

    /// All keys with a prefix (all keys if it is empty).
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let (key, range_end) = prefix_range(prefix.into());
        Self { key, range_end, ..Self::default() }
    }

    /// The keys to delete.
    pub fn range(&self) -> KeyRange {
        KeyRange::new(self.key.clone(), self.range_end.clone())
    }
}

/// Keys are deleted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteRangeResponse {
    /// Where the store is.
    pub revision: Revision,
    /// How many keys were deleted.
    pub deleted: i64,
    /// The keys as they were, if asked for.
    pub prev_kvs: Vec<KeyValue>,
}

/// Gives up history below a revision.
///
/// Errors: `Compacted` (done already), `FutureRevision`, `Disk`, `Closed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactRequest {
    /// The oldest revision that can still be read afterwards.
    pub revision: Revision,
    /// Answer only when the history is gone from memory too.
    pub physical: bool,
}

/// History is given up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CompactResponse {
    /// Where the store is.
    pub revision: Revision,
}

/// Asks for a checksum of the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashRequest {
    /// Of everything up to this revision; 0: now.
    pub revision: Revision,
}

/// A checksum of all keys and their kept history. Equal contents have equal hashes within one implementation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HashResponse {
    /// Where the store is.
    pub revision: Revision,
    /// The checksum.
    pub hash: u32,
    /// The revision hashed up to.
    pub hash_revision: Revision,
    /// The oldest revision included.
    pub compact_revision: Revision,
}

/// How the store is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Status {
    /// Where the store is.
    pub revision: Revision,
    /// The oldest revision that can be read; 0: never compacted, or not known (a store elsewhere does not tell).
    pub compact_revision: Revision,
    /// Bytes of its files.
    pub db_size: u64,
    /// Bytes of live keys and kept history, as the quota counts them.
    pub db_size_in_use: u64,
    /// The quota in bytes; 0: not known.
    pub quota: u64,
    /// Keys that exist now.
    pub keys: u64,
    /// Whether puts are refused for want of space.
    pub no_space: bool,
}

fn prefix_range(prefix: Bytes) -> (Bytes, Bytes) {
    let end = prefix_end(&prefix);
    if prefix.is_empty() { (Bytes::from_static(b"\0"), end) } else { (prefix, end) }
}
