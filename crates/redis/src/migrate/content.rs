//! What a value says, whatever its encoding: two servers may write the same set in many ways.

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use bytes::{Buf, Bytes};

use crate::rdb::{Fault, Kind, Piece, RdbError, StreamPiece, pieces_of};

/// Bytes after the value in what `DUMP` gives: version and checksum.
const TAIL_BYTES: usize = 10;

/// The type of a value as `TYPE` names it, and a fingerprint of what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    /// `string`, `list`, `set`, `zset`, `hash`, `stream`, `module`.
    pub kind: &'static str,
    /// Elements.
    pub count: u64,
    /// Of all of them; in order only where the order is part of the value.
    pub print: u128,
    /// Of what only servers since 7.0 know of a stream: which entry was deleted last, and how many there ever were.
    since: Option<u128>,
}

impl Content {
    /// Whether two say the same, as far as both know.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let known = self.since.is_none() || other.since.is_none() || self.since == other.since;
        known && (self.kind, self.count, self.print) == (other.kind, other.count, other.print)
    }
}

/// What a `DUMP` holds.
pub(crate) fn content(dump: &Bytes) -> Result<Content, RdbError> {
    let bad = |fault| RdbError { offset: 0, key: None, fault };
    let mut bytes = dump.clone();
    if bytes.len() <= TAIL_BYTES {
        return Err(bad(Fault::Truncated("a dump")));
    }
    let kind = Kind::of(bytes.get_u8()).ok_or_else(|| bad(Fault::Unsupported("a value of this type".to_owned())))?;
    bytes.truncate(bytes.len() - TAIL_BYTES);
    if kind == Kind::Module2 {
        return Ok(Content { kind: "module", count: 1, print: hash(&bytes), since: None });
    }
    let mut content = Content { kind: name(kind), count: 0, print: 0, since: None };
    // A string may come in several parts, cut differently.
    let mut text = [DefaultHasher::new(), DefaultHasher::new()];
    1u8.hash(&mut text[1]);
    pieces_of(kind, &bytes, &mut |piece| {
        match piece {
            Piece::Text(part) => {
                content.count += part.len() as u64;
                text.iter_mut().for_each(|hasher| hasher.write(&part));
            }
            Piece::Items(items) => items.iter().for_each(|item| content.ordered(hash(item))),
            Piece::Members(members) => members.iter().for_each(|member| content.any(hash(member))),
            Piece::Scores(scores) => {
                scores.iter().for_each(|(member, score)| content.any(hash(&(member, (score + 0.0).to_bits()))));
            }
            Piece::Fields(fields) => fields.iter().for_each(|field| content.any(hash(field))),
            Piece::Stream(StreamPiece::Entry { id, fields }) => content.ordered(hash(&(id, &fields))),
            // How many entries a group was given is not told to replicas by every server (7.0 leaves it out of what it sends for
            // XREADGROUP), and only serves to show a lag.
            Piece::Stream(StreamPiece::Group { name, last, .. }) => content.any(hash(&("group", &name, last))),
            Piece::Stream(StreamPiece::Tail { last, deleted, added }) => {
                content.any(hash(&("tail", last)));
                content.since = deleted.zip(added).map(|known| hash(&known));
            }
            // Groups and what is pending come in the order of a tree, which is that of their names.
            Piece::Stream(piece) => content.any(hash(&format!("{piece:?}"))),
        }
        Ok(())
    })?;
    if content.kind == "string" {
        content.print = u128::from(text[0].finish()) << 64 | u128::from(text[1].finish());
    }
    Ok(content)
}

/// Whether a `DUMP` is of a stream with groups. A stream that cannot be read may have some.
pub(super) fn has_groups(dump: &Bytes) -> bool {
    let kind = dump.first().and_then(|byte| Kind::of(*byte));
    let Some(kind) = kind.filter(|kind| name(*kind) == "stream" && dump.len() > TAIL_BYTES) else { return false };
    let mut found = false;
    let read = pieces_of(kind, &dump.slice(1..dump.len() - TAIL_BYTES), &mut |piece| {
        found |= matches!(piece, Piece::Stream(StreamPiece::Group { .. }));
        Ok(())
    });
    found || read.is_err()
}

/// Characters of a difference that are shown.
const SHOWN_MAX: usize = 120;

/// The first part of a value that another does not have, as text.
pub(super) fn first_missing(value: &Bytes, other: &Bytes) -> Option<String> {
    let other: HashSet<String> = parts(other)?.into_iter().collect();
    let missing = parts(value)?.into_iter().find(|part| !other.contains(part))?;
    Some(missing.chars().take(SHOWN_MAX).collect())
}

fn parts(dump: &Bytes) -> Option<Vec<String>> {
    let mut bytes = dump.clone();
    if bytes.len() <= TAIL_BYTES {
        return None;
    }
    let kind = Kind::of(bytes.get_u8())?;
    bytes.truncate(bytes.len() - TAIL_BYTES);
    let (mut parts, mut since) = (Vec::new(), None);
    let read = pieces_of(kind, &bytes, &mut |piece| {
        match piece {
            Piece::Text(text) => parts.push(format!("{text:?}")),
            Piece::Items(items) | Piece::Members(items) => parts.extend(items.iter().map(|item| format!("{item:?}"))),
            Piece::Scores(scores) => parts.extend(scores.iter().map(|score| format!("{score:?}"))),
            Piece::Fields(fields) => parts.extend(fields.iter().map(|field| format!("{field:?}"))),
            Piece::Stream(StreamPiece::Group { name, last, .. }) => parts.push(format!("group {name:?} at {last}")),
            Piece::Stream(StreamPiece::Tail { last, deleted, added }) => {
                parts.push(format!("the last entry {last}"));
                since = deleted
                    .zip(added)
                    .map(|(deleted, added)| format!("{added} entries ever, {deleted} the last that was deleted"));
            }
            Piece::Stream(piece) => parts.push(format!("{piece:?}")),
        }
        Ok(())
    });
    // Last, because it may be unknown to the other.
    parts.extend(since);
    read.ok().map(|()| parts)
}

impl Content {
    fn ordered(&mut self, hash_of: u128) {
        self.count += 1;
        self.print = hash(&(self.print, hash_of));
    }

    fn any(&mut self, hash_of: u128) {
        self.count += 1;
        self.print = self.print.wrapping_add(hash_of);
    }
}

fn hash(value: &impl Hash) -> u128 {
    let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
    1u8.hash(&mut halves[1]);
    for half in &mut halves {
        value.hash(half);
    }
    u128::from(halves[0].finish()) << 64 | u128::from(halves[1].finish())
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::List | Kind::ListZiplist | Kind::ListQuicklist | Kind::ListQuicklist2 => "list",
        Kind::Set | Kind::SetIntset | Kind::SetListpack => "set",
        Kind::Zset | Kind::Zset2 | Kind::ZsetZiplist | Kind::ZsetListpack => "zset",
        Kind::Hash | Kind::HashZipmap | Kind::HashZiplist | Kind::HashListpack => "hash",
        Kind::StreamListpacks | Kind::StreamListpacks2 | Kind::StreamListpacks3 => "stream",
        Kind::Module2 => "module",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::dump;

    fn of(kind: Kind, bytes: &[u8]) -> Content {
        content(&dump(kind, bytes, 10)).unwrap()
    }

    /// Order counts in lists only; encodings do not count; each difference does.
    #[test]
    fn what_counts() {
        let two = |a: u8, b: u8| vec![2, 1, a, 1, b];
        assert_eq!(of(Kind::Set, &two(b'a', b'b')), of(Kind::Set, &two(b'b', b'a')));
        assert_ne!(of(Kind::List, &two(b'a', b'b')), of(Kind::List, &two(b'b', b'a')));
        assert_ne!(of(Kind::Set, &two(b'a', b'b')), of(Kind::Set, &two(b'a', b'c')));
        assert_ne!(of(Kind::Set, &two(b'a', b'b')), of(Kind::Set, &[1, 1, b'a']));
        assert_eq!(of(Kind::String, &[0xc0, 5]), of(Kind::String, &[1, b'5']));
        assert_ne!(of(Kind::String, &[1, b'5']), of(Kind::String, &[1, b'6']));
        assert_ne!(of(Kind::Hash, &two2(b'a', b'b')), of(Kind::Hash, &two2(b'b', b'a')));
        assert!(content(&Bytes::from_static(b"short")).is_err());
    }

    /// What one of two servers is too old to know is no difference.
    #[test]
    fn what_only_one_knows() {
        let known = |since| Content { kind: "stream", count: 1, print: 5, since };
        assert!(known(None).same(&known(Some(1))) && known(Some(1)).same(&known(None)));
        assert!(known(Some(1)).same(&known(Some(1))) && !known(Some(1)).same(&known(Some(2))));
        assert!(!known(None).same(&Content { print: 6, ..known(Some(1)) }));
    }

    fn two2(a: u8, b: u8) -> Vec<u8> {
        vec![1, 1, a, 1, b]
    }
}
