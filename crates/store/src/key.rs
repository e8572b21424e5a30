//! Revisions, lease ids, and ranges of keys as etcd writes them.

use std::fmt;

use bytes::Bytes;

/// A point in the store's history. The empty store is at revision 1; each transaction that changes something adds 1.
/// In requests 0 means "now".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of an empty store, as in etcd.
    pub const EMPTY: Revision = Revision(1);

    /// The next revision.
    #[must_use]
    pub fn next(self) -> Revision {
        Revision(self.0.saturating_add(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of a lease; 0 is "no lease". Shown as etcd shows it: hexadecimal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// No lease; in a grant: "choose one for me".
    pub const NONE: LeaseId = LeaseId(0);
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A range of keys in etcd's writing: `end` empty is the one key `start`; `end` = `"\0"` is every key from `start`
/// on; otherwise `start <= key < end`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRange {
    start: Bytes,
    end: Bytes,
}

impl KeyRange {
    /// The range that a request with these two fields means.
    pub fn new(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { start: start.into(), end: end.into() }
    }

    /// The first key that may be in the range.
    pub fn start(&self) -> &Bytes {
        &self.start
    }

    /// Whether this is one key, not an interval.
    pub fn is_point(&self) -> bool {
        self.end.is_empty()
    }

    /// The first key after the range; `None` if it has no end. A point ends at itself and answers `None` too.
    pub fn end(&self) -> Option<&[u8]> {
        match &self.end[..] {
            b"" | b"\0" => None,
            end => Some(end),
        }
    }

    /// Whether `key` lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_point() {
            return key == self.start;
        }
        key >= &self.start[..] && self.end().is_none_or(|end| key < end)
    }
}

/// The `range_end` that makes a range of all keys with this prefix: the prefix with its last byte that is not 0xff
/// raised by one. For an empty prefix, or one of 0xff only, `"\0"`: to the end.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    match prefix.iter().rposition(|&byte| byte != 0xff) {
        Some(last) => {
            let mut end = prefix[..=last].to_vec();
            end[last] += 1;
            end.into()
        }
        None => Bytes::from_static(b"\0"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of etcd's conventions for `range_end`.
    #[test]
    fn ranges_contain_what_etcd_says() {
        let check = |start: &'static [u8], end: &'static [u8], key: &[u8], expect: bool| {
            assert_eq!(KeyRange::new(start, end).contains(key), expect, "{start:?} {end:?} {key:?}");
        };
        check(b"a", b"", b"a", true);
        check(b"a", b"", b"aa", false);
        check(b"a", b"c", b"a", true);
        check(b"a", b"c", b"bzz", true);
        check(b"a", b"c", b"c", false);
        check(b"b", b"\0", b"zz", true);
        check(b"b", b"\0", b"a", false);
        check(b"\0", b"\0", b"a", true);
        check(b"c", b"a", b"b", false);
    }

    /// A prefix ends where the next key without it begins.
    #[test]
    fn a_prefix_ends_at_the_next_key_without_it() {
        assert_eq!(&prefix_end(b"aa")[..], b"ab");
        assert_eq!(&prefix_end(b"a\xff")[..], b"b");
        assert_eq!(&prefix_end(b"\xff\xff")[..], b"\0");
        assert_eq!(&prefix_end(b"")[..], b"\0");
    }
}
