//! What etcd keeps in its buckets.

use prost::Message;

use super::{
    BackupError, Result,
    database::{Database, Place, damaged},
};
use crate::{KeyValue, LeaseId, proto::mvccpb, snapshot::Lease};

const REVISION_BYTES: usize = 17;

/// When something happened: a revision, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    pub(super) revision: i64,
    pub(super) sub: u32,
}

/// One version of a key.
pub(super) struct Entry {
    pub(super) moment: Moment,
    pub(super) deletion: bool,
    /// A deletion has only its key.
    pub(super) kv: KeyValue,
}

/// Every version, oldest first.
pub(super) fn each(database: &Database, each: &mut dyn FnMut(Entry, Place) -> Result<()>) -> Result<()> {
    let mut last = None;
    database.each(b"key", &mut |key, value, place| {
        let (moment, deletion) = moment(key).ok_or_else(|| damaged("a revision is not one"))?;
        if last.is_some_and(|last| last >= moment) {
            return Err(damaged("its revisions are not in order"));
        }
        last = Some(moment);
        each(Entry { moment, deletion, kv: read(value)? }, place)
    })
}

/// A key and its value.
pub(super) fn read(value: &[u8]) -> Result<KeyValue> {
    let kv =
        mvccpb::KeyValue::decode(value).map_err(|error| BackupError::Damaged(format!("a key is not one: {error}")))?;
    if kv.key.is_empty() {
        return Err(damaged("a key is empty"));
    }
    Ok(kv.into())
}

/// The revision that the store was compacted to last; 0 if never.
pub(super) fn compacted(database: &Database) -> Result<i64> {
    let mut compacted = 0;
    database.each(b"meta", &mut |key, value, _| {
        if matches!(key, b"scheduledCompactRev" | b"finishedCompactRev") {
            let (moment, _) = moment(value).ok_or_else(|| damaged("the compacted revision is not one"))?;
            compacted = compacted.max(moment.revision);
        }
        Ok(())
    })?;
    Ok(compacted)
}

/// The leases, each with its seconds.
pub(super) fn leases(database: &Database) -> Result<Vec<(LeaseId, i64)>> {
    let mut leases = Vec::new();
    database.each(b"lease", &mut |_, value, _| {
        let lease =
            Lease::decode(value).map_err(|error| BackupError::Damaged(format!("a lease is not one: {error}")))?;
        if lease.id != 0 && lease.ttl > 0 {
            leases.push((LeaseId(lease.id), lease.ttl));
        }
        Ok(())
    })?;
    Ok(leases)
}

fn moment(key: &[u8]) -> Option<(Moment, bool)> {
    let deletion = match key.get(REVISION_BYTES..)? {
        b"" => false,
        b"t" => true,
        _ => return None,
    };
    let number = |at: usize| Some(u64::from_be_bytes(key.get(at..at + 8)?.try_into().ok()?));
    let revision = i64::try_from(number(0)?).ok().filter(|revision| *revision < i64::MAX)?;
    let sub = u32::try_from(number(9)?).ok()?;
    (key[8] == b'_').then_some((Moment { revision, sub }, deletion))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is not exactly a revision is none.
    #[test]
    fn revisions() {
        let key = |revision: u64, between: u8, sub: u64, end: &[u8]| {
            [&revision.to_be_bytes()[..], &[between], &sub.to_be_bytes(), end].concat()
        };
        assert_eq!(moment(&key(7, b'_', 3, b"")), Some((Moment { revision: 7, sub: 3 }, false)));
        assert_eq!(moment(&key(7, b'_', 0, b"t")), Some((Moment { revision: 7, sub: 0 }, true)));
        for bad in [
            key(7, b'-', 3, b""),
            key(7, b'_', 3, b"x"),
            key(u64::MAX, b'_', 0, b""),
            key(1, b'_', 1 << 40, b""),
            vec![1; 9],
        ] {
            assert_eq!(moment(&bad), None);
        }
    }
}
