//! Streams in snapshots: entries in listpacks, then groups, consumers, and what is pending.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use bytes::Bytes;

use super::error::Fault;
use super::input::Input;
use super::listpack::{self, Element};

/// The name of an entry: milliseconds and a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct StreamId {
    /// Milliseconds since 1970.
    pub ms: u64,
    /// Number within the millisecond.
    pub number: u64,
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// A part of a stream, in the order of a snapshot: entries, then the tail, then each group with its consumers and what is
/// pending with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamPiece {
    /// An entry.
    Entry {
        /// Its name.
        id: StreamId,
        /// Names and values.
        fields: Vec<(Bytes, Bytes)>,
    },
    /// What the entries alone do not tell.
    Tail {
        /// The highest name ever given.
        last: StreamId,
        /// The highest name ever deleted. Known from Redis 7 on.
        deleted: Option<StreamId>,
        /// Entries ever added. Known from Redis 7 on.
        added: Option<u64>,
    },
    /// A group.
    Group {
        /// Its name.
        name: Bytes,
        /// The last entry it was given.
        last: StreamId,
        /// Entries it was given. Known from Redis 7 on, and not always then.
        read: Option<u64>,
    },
    /// A consumer of the group before.
    Consumer {
        /// Its group.
        group: Bytes,
        /// Its name.
        name: Bytes,
    },
    /// An entry that a consumer has, but has not acknowledged.
    Pending {
        /// The group.
        group: Bytes,
        /// The consumer.
        consumer: Bytes,
        /// The entry.
        id: StreamId,
        /// When it was given, in milliseconds since 1970.
        given_ms: u64,
        /// How often.
        count: u64,
    },
}

/// How much a stream says about itself: grows with the versions of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// Redis 5.
    First,
    /// Redis 7.0: first and deleted entry, counts.
    Counted,
    /// Redis 7.2: when a consumer was active.
    Active,
}

/// Entries pending in one group; Redis has no limit, but the bytes of one take 26 in the snapshot and must have come.
type Pending = BTreeMap<StreamId, (u64, u64)>;

/// Reads a stream, piece by piece.
pub(super) fn read<R: Read>(
    input: &mut Input<R>,
    form: Form,
    on: &mut dyn FnMut(StreamPiece) -> Result<(), Fault>,
) -> Result<(), Fault> {
    for _ in 0..input.length("a stream")? {
        let master = input.string("a stream")?;
        let master = id(&master).ok_or(Fault::Corrupt("the name of a stream's entry"))?;
        let blob = input.string("a stream")?;
        entries(master, &blob, on)?;
    }
    input.length("a stream")?;
    let last = long_id(input)?;
    let (mut deleted, mut added) = (None, None);
    if form >= Form::Counted {
        long_id(input)?;
        deleted = Some(long_id(input)?);
        added = Some(input.length("a stream")?);
    }
    on(StreamPiece::Tail { last, deleted, added })?;
    for _ in 0..input.length("a stream's groups")? {
        group(input, form, on)?;
    }
    Ok(())
}

/// Passes over a stream.
pub(super) fn skip<R: Read>(input: &mut Input<R>, form: Form) -> Result<(), Fault> {
    for _ in 0..input.length("a stream")? {
        input.skip_string("a stream")?;
        input.skip_string("a stream")?;
    }
    for _ in 0..if form >= Form::Counted { 8 } else { 3 } {
        input.length("a stream")?;
    }
    let what = "a stream's groups";
    for _ in 0..input.length(what)? {
        input.skip_string(what)?;
        for _ in 0..if form >= Form::Counted { 3 } else { 2 } {
            input.length(what)?;
        }
        for _ in 0..input.length(what)? {
            input.skip(24, what)?;
            input.length(what)?;
        }
        for _ in 0..input.length(what)? {
            input.skip_string(what)?;
            input.skip(if form >= Form::Active { 16 } else { 8 }, what)?;
            for _ in 0..input.length(what)? {
                input.skip(16, what)?;
            }
        }
    }
    Ok(())
}

fn group<R: Read>(
    input: &mut Input<R>,
    form: Form,
    on: &mut dyn FnMut(StreamPiece) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let what = "a stream's groups";
    let name = input.string(what)?;
    let last = long_id(input)?;
    // All bits set: the server does not know.
    let read = if form >= Form::Counted { Some(input.length(what)?).filter(|read| *read != u64::MAX) } else { None };
    on(StreamPiece::Group { name: name.clone(), last, read })?;
    let mut pending = Pending::new();
    for _ in 0..input.length(what)? {
        let id = raw_id(input)?;
        let given_ms = u64::from_le_bytes(input.bytes(what)?);
        pending.insert(id, (given_ms, input.length(what)?));
    }
    for _ in 0..input.length(what)? {
        let consumer = input.string(what)?;
        input.skip(if form >= Form::Active { 16 } else { 8 }, what)?;
        on(StreamPiece::Consumer { group: name.clone(), name: consumer.clone() })?;
        for _ in 0..input.length(what)? {
            let id = raw_id(input)?;
            let (given_ms, count) =
                pending.remove(&id).ok_or(Fault::Corrupt("a pending entry that its group does not know"))?;
            on(StreamPiece::Pending { group: name.clone(), consumer: consumer.clone(), id, given_ms, count })?;
        }
    }
    if pending.is_empty() { Ok(()) } else { Err(Fault::Corrupt("a pending entry that no consumer has")) }
}

fn long_id<R: Read>(input: &mut Input<R>) -> Result<StreamId, Fault> {
    Ok(StreamId { ms: input.length("a stream")?, number: input.length("a stream")? })
}

fn raw_id<R: Read>(input: &mut Input<R>) -> Result<StreamId, Fault> {
    let raw: [u8; 16] = input.bytes("a stream's groups")?;
    id(&raw).ok_or(Fault::Corrupt("the name of a stream's entry"))
}

/// Two big-endian numbers.
fn id(raw: &[u8]) -> Option<StreamId> {
    let (ms, number) = raw.split_first_chunk::<8>()?;
    Some(StreamId { ms: u64::from_be_bytes(*ms), number: u64::from_be_bytes(number.try_into().ok()?) })
}

/// Entry is deleted.
const DELETED: i64 = 1;
/// Entry has the names of the first one, which are not repeated.
const SAME_NAMES: i64 = 2;

/// The entries of one listpack. Shape: entries, deleted ones, count of names, the names, 0; then for each entry its flags,
/// its distance from the first in milliseconds and number, [count of names,] values [with names], and how many elements it
/// has. Deleted ones are left out.
fn entries(master: StreamId, blob: &Bytes, on: &mut dyn FnMut(StreamPiece) -> Result<(), Fault>) -> Result<(), Fault> {
    let mut list = listpack::elements(blob)?.into_iter();
    let bad = || Fault::Corrupt("the entries of a stream");
    let live = number(&mut list).ok_or_else(bad)?;
    let dead = number(&mut list).ok_or_else(bad)?;
    let names = count(&mut list).ok_or_else(bad)?;
    let names: Vec<Bytes> = (0..names).map_while(|_| list.next().map(Element::text)).collect();
    number(&mut list).ok_or_else(bad)?;
    let (mut seen_live, mut seen_dead) = (0, 0);
    while list.len() > 0 {
        let flags = number(&mut list).ok_or_else(bad)?;
        let ms = number(&mut list).ok_or_else(bad)?;
        let distance = number(&mut list).ok_or_else(bad)?;
        let id =
            StreamId { ms: master.ms.wrapping_add(ms as u64), number: master.number.wrapping_add(distance as u64) };
        let mut fields = Vec::new();
        if flags & SAME_NAMES != 0 {
            for name in &names {
                fields.push((name.clone(), list.next().map(Element::text).ok_or_else(bad)?));
            }
        } else {
            for _ in 0..count(&mut list).ok_or_else(bad)? {
                let (Some(name), Some(value)) = (list.next(), list.next()) else { return Err(bad()) };
                fields.push((name.text(), value.text()));
            }
        }
        number(&mut list).ok_or_else(bad)?;
        if flags & DELETED == 0 {
            seen_live += 1;
            on(StreamPiece::Entry { id, fields })?;
        } else {
            seen_dead += 1;
        }
    }
    if (seen_live, seen_dead) == (live, dead) { Ok(()) } else { Err(bad()) }
}

fn number(list: &mut impl Iterator<Item = Element>) -> Option<i64> {
    match list.next()? {
        Element::Number(number) => Some(number),
        Element::Text(_) => None,
    }
}

fn count(list: &mut impl ExactSizeIterator<Item = Element>) -> Option<usize> {
    let count = usize::try_from(number(list)?).ok()?;
    (count <= list.len()).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::super::listpack::tests::pack;
    use super::*;

    /// A listpack with an entry that has the names of the first, a deleted one, and one with a name of its own.
    #[test]
    fn reads_entries() {
        let blob = pack(&[
            &[2],
            &[1],
            &[1],
            &[0x81, b'n'],
            &[0], // two live, one dead, one name
            &[2],
            &[0],
            &[0],
            &[0x81, b'a'],
            &[4],
            &[3],
            &[0],
            &[1],
            &[0x81, b'b'],
            &[4],
            &[0],
            &[5],
            &[0xdf, 0xfd],
            &[1],
            &[0x81, b'm'],
            &[7],
            &[6],
        ]);
        let mut seen = Vec::new();
        entries(StreamId { ms: 100, number: 4 }, &blob, &mut |piece| {
            seen.push(piece);
            Ok(())
        })
        .unwrap();
        let entry = |ms, number, name: &'static str, value: &'static str| StreamPiece::Entry {
            id: StreamId { ms, number },
            fields: vec![(name.into(), value.into())],
        };
        assert_eq!(seen, [entry(100, 4, "n", "a"), entry(105, 1, "m", "7")]);
        let short = pack(&[&[2], &[0], &[1], &[0x81, b'n'], &[0], &[2], &[0], &[0], &[0x81, b'a'], &[4]]);
        assert!(entries(StreamId::default(), &short, &mut |_| Ok(())).is_err(), "two are announced, one is there");
    }
}
