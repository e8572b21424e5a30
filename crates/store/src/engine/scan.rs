//! Reading a range: the index in steps, then the values.

use std::{cmp::Ordering, sync::Arc};

use bytes::{Bytes, BytesMut};

use super::{
    frame::DataFile,
    index::{Index, Key, Version},
    shared::Shared,
    signal::read,
};
use crate::{
    KeyRange, KeyValue, LeaseId, RangeRequest, RangeResponse, Result, Revision, SortOrder, SortTarget,
    limits::SCAN_KEYS,
};

/// Bytes of the first and of the largest pieces of memory that a range's keys and values are copied into.
const PIECE_BYTES: usize = 4 * 1024;
const PIECE_BYTES_MAX: usize = 64 * 1024;

/// Copies bytes next to one another: a range of 1,000 keys needs a few allocations and not 2,000, which were more than a
/// quarter of its time. A copy keeps its whole piece of memory, so pieces begin small.
struct Copies {
    room: BytesMut,
    next: usize,
}

impl Copies {
    fn new() -> Self {
        Self { room: BytesMut::new(), next: PIECE_BYTES }
    }

    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.len() > PIECE_BYTES / 4 {
            return Bytes::copy_from_slice(bytes);
        }
        if self.room.capacity() < bytes.len() {
            self.room = BytesMut::with_capacity(self.next);
            self.next = (self.next * 2).min(PIECE_BYTES_MAX);
        }
        self.room.extend_from_slice(bytes);
        self.room.split().freeze()
    }
}

/// A key found, its value perhaps still on disk.
pub(crate) struct Found {
    kv: KeyValue,
    place: Option<(Arc<DataFile>, u64, u32)>,
}

impl Found {
    /// Takes a version out of the index; `value`: with its value.
    pub(crate) fn new(index: &Index, key: &[u8], version: &Version, value: bool) -> Self {
        Self::copied(index, key, version, value, Bytes::copy_from_slice)
    }

    fn copied(index: &Index, key: &[u8], version: &Version, value: bool, mut copy: impl FnMut(&[u8]) -> Bytes) -> Self {
        let mut place = None;
        let mut inline = Bytes::new();
        if value {
            match &version.value {
                Some(bytes) => inline = copy(bytes),
                None => place = Some((index.files[&version.file].clone(), version.offset, version.len)),
            }
        }
        let kv = KeyValue {
            key: copy(key),
            value: inline,
            create_revision: Revision(version.create),
            mod_revision: Revision(version.rev),
            version: version.version,
            lease: LeaseId(version.lease),
        };
        Self { kv, place }
    }

    /// Reads the value if it is not there yet.
    pub(crate) fn load(mut self) -> Result<KeyValue> {
        if let Some((file, offset, len)) = self.place.take() {
            self.kv.value = file.value(offset, len)?.into();
        }
        Ok(self.kv)
    }
}

/// The key as it was at a revision.
pub(crate) fn get(shared: &Shared, key: &[u8], rev: i64) -> Result<Option<KeyValue>> {
    let found = {
        let index = read(&shared.index);
        index.get(key).and_then(|history| history.live_at(rev)).map(|version| Found::new(&index, key, version, true))
    };
    found.map(Found::load).transpose()
}

/// A range being read at one revision, a few keys under each hold of the lock. The revision must stay readable.
pub(crate) struct Scan {
    range: KeyRange,
    rev: i64,
    after: Option<Key>,
    found: Vec<Found>,
    count: i64,
    /// Keys to find at most.
    most: usize,
    values: bool,
    request: RangeRequest,
    copies: Copies,
}

impl Scan {
    pub(crate) fn new(request: RangeRequest, rev: i64) -> Self {
        let bounded = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        // What is sorted or filtered needs all keys. As in etcd a target alone does not: then the first keys by name
        // are sorted.
        let all = request.limit <= 0 || request.sort_order != SortOrder::None || bounded.iter().any(|rev| rev.0 != 0);
        let most = if all { usize::MAX } else { usize::try_from(request.limit).unwrap_or(usize::MAX) };
        Self {
            range: request.range(),
            rev,
            after: None,
            found: Vec::new(),
            count: 0,
            most: most.saturating_add(1),
            values: !request.keys_only || request.sort_target == SortTarget::Value,
            request,
            copies: Copies::new(),
        }
    }

    /// Visits some keys; `true` when there are no more.
    pub(crate) fn step(&mut self, shared: &Shared) -> bool {
        let index = read(&shared.index);
        let after = self.after.take();
        let mut last: Option<&Key> = None;
        for (visited, (key, history)) in index.range(&self.range, after.as_ref()).enumerate() {
            if visited == SCAN_KEYS {
                self.after = last.cloned();
                return false;
            }
            last = Some(key);
            if let Some(version) = history.live_at(self.rev) {
                self.count += 1;
                if !self.request.count_only && self.found.len() < self.most && self.passes(version) {
                    let found = if self.range.is_point() {
                        Found::new(&index, key, version, self.values)
                    } else {
                        Found::copied(&index, key, version, self.values, |bytes| self.copies.copy(bytes))
                    };
                    self.found.push(found);
                }
            }
        }
        true
    }

    fn passes(&self, version: &Version) -> bool {
        let within =
            |rev: i64, min: Revision, max: Revision| (min.0 == 0 || rev >= min.0) && (max.0 == 0 || rev <= max.0);
        within(version.rev, self.request.min_mod_revision, self.request.max_mod_revision)
            && within(version.create, self.request.min_create_revision, self.request.max_create_revision)
    }

    /// Sorts, cuts and reads the values. `revision` is where the store is.
    pub(crate) fn finish(mut self, revision: i64) -> Result<RangeResponse> {
        let limit = usize::try_from(self.request.limit).unwrap_or(0);
        let more = limit > 0 && self.found.len() > limit;
        let by_value = self.request.sort_target == SortTarget::Value;
        let mut kvs: Vec<KeyValue>;
        if by_value {
            kvs = self.found.into_iter().map(Found::load).collect::<Result<_>>()?;
            sort(&mut kvs, &self.request, |kv| kv);
            kvs.truncate(if more { limit } else { usize::MAX });
        } else {
            sort(&mut self.found, &self.request, |found| &found.kv);
            self.found.truncate(if more { limit } else { usize::MAX });
            kvs = self.found.into_iter().map(Found::load).collect::<Result<_>>()?;
        }
        if self.request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value = Bytes::new());
        }
        Ok(RangeResponse { revision: Revision(revision), kvs, more, count: self.count })
    }
}

/// Keys come in ascending; equal targets keep that order.
fn sort<T>(items: &mut [T], request: &RangeRequest, kv: impl Fn(&T) -> &KeyValue) {
    let compare: fn(&KeyValue, &KeyValue) -> Ordering = match (request.sort_target, request.sort_order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascend) => return,
        (SortTarget::Key, _) => |a, b| a.key.cmp(&b.key),
        (SortTarget::Version, _) => |a, b| a.version.cmp(&b.version),
        (SortTarget::Create, _) => |a, b| a.create_revision.cmp(&b.create_revision),
        (SortTarget::Mod, _) => |a, b| a.mod_revision.cmp(&b.mod_revision),
        (SortTarget::Value, _) => |a, b| a.value.cmp(&b.value),
    };
    if request.sort_order == SortOrder::Descend {
        items.sort_by(|a, b| compare(kv(b), kv(a)));
    } else {
        items.sort_by(|a, b| compare(kv(a), kv(b)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Copies are what was copied, however they lie in memory: short, empty, just too long for a piece, and many.
    #[test]
    fn copies_are_equal() {
        let mut copies = Copies::new();
        let all: Vec<Vec<u8>> =
            (0..3 * PIECE_BYTES / 2).map(|len| vec![len as u8; len * 7 % (PIECE_BYTES / 2)]).collect();
        let copied: Vec<Bytes> = all.iter().map(|bytes| copies.copy(bytes)).collect();
        assert!(all.iter().zip(&copied).all(|(bytes, copy)| bytes == copy));
        assert_eq!(copies.next, PIECE_BYTES_MAX);
    }
}
