//! What a write of the source means on a target whose keys lie in lanes. Pure: a write in, a [`Deed`] out.
//!
//! A write whose keys are all in one lane is carried out as it is. One with keys in several is split where its parts mean
//! the same as the whole; where the result depends on values in other lanes, those are gathered first; where even that does
//! not give the meaning, the keys written are copied anew from the source.

use bytes::Bytes;

use super::lane::{Lane, Lanes, own};

/// What to do for one write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// It changes no data of ours.
    Nothing,
    /// The start of a transaction.
    Begin,
    /// The end of a transaction.
    End,
    /// As it is, in one lane.
    Lane(Lane, Vec<Bytes>),
    /// Parts that mean the same together, each in its lane.
    Split(Vec<(Lane, Vec<Bytes>)>),
    /// In a lane, after copies of the keys at `reads` were brought there.
    Gather {
        /// Where it writes.
        lane: Lane,
        /// The write.
        words: Vec<Bytes>,
        /// Which words name keys of other lanes that it reads.
        reads: Vec<usize>,
    },
    /// A key gets another name, in another lane.
    Rename {
        /// The old name.
        from: Bytes,
        /// The new name.
        to: Bytes,
    },
    /// An element goes from one list to another, in another lane.
    ListMove {
        /// The list it leaves.
        from: Bytes,
        /// The list it goes to.
        to: Bytes,
        /// Whether it leaves at the head.
        from_head: bool,
        /// Whether it arrives at the head.
        to_head: bool,
    },
    /// On every master of the target; the same twice is the same once.
    Everywhere(Vec<Bytes>),
    /// All keys of one database, or of all.
    Flush {
        /// `None`: of all.
        db: Option<u32>,
    },
    /// These keys are copied anew from the source, because the write means nothing across lanes.
    Anew(Vec<Bytes>),
    /// A command that is not known: the source must be asked for its keys.
    Ask,
    /// It cannot be carried over.
    Refused(&'static str),
}

/// Where a command's keys are among its words.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Keys {
    /// One key that is written.
    One(usize),
    /// Several keys, of which each is written for itself.
    Each(Vec<usize>),
    /// A key that is written from others that are read.
    From(usize, Vec<usize>),
    /// It means something else.
    Other,
}

/// What a write means on a target with these lanes.
pub(super) fn deed(words: &[Bytes], db: u32, lanes: &Lanes) -> Deed {
    let Some(name) = words.first().map(|name| name.to_ascii_uppercase()) else { return Deed::Nothing };
    let name = name.as_slice();
    let word = |index: usize| words.get(index).cloned().unwrap_or_default();
    let is = |index: usize, text: &[u8]| words.get(index).is_some_and(|word| word.eq_ignore_ascii_case(text));
    match name {
        b"MULTI" => return Deed::Begin,
        b"EXEC" => return Deed::End,
        b"PUBLISH" | b"SPUBLISH" | b"PING" | b"REPLCONF" | b"SELECT" => return Deed::Nothing,
        b"FLUSHALL" => return Deed::Flush { db: None },
        b"FLUSHDB" => return Deed::Flush { db: Some(db) },
        b"FUNCTION" | b"SCRIPT" => return Deed::Everywhere(everywhere(words)),
        b"SWAPDB" => return Deed::Refused("SWAPDB exchanges databases"),
        b"MOVE" => return Deed::Refused("MOVE carries a key to another database"),
        b"COPY" if (3..words.len()).any(|index| is(index, b"DB")) => {
            return Deed::Refused("COPY … DB carries a key to another database");
        }
        b"MIGRATE" => return Deed::Nothing,
        _ => {}
    }
    let Some(keys) = keys(name, words) else { return Deed::Ask };
    let all: Vec<usize> = match &keys {
        Keys::One(key) => vec![*key],
        Keys::Each(keys) => keys.clone(),
        Keys::From(to, from) => [&[*to], from.as_slice()].concat(),
        Keys::Other => vec![1, 2],
    };
    if all.is_empty() || all.iter().any(|index| words.get(*index).is_none_or(|key| own(key))) {
        return if all.iter().all(|index| words.get(*index).is_some()) { Deed::Nothing } else { Deed::Ask };
    }
    let lane = |index: usize| lanes.of(&words[index]);
    let first = lane(all[0]);
    let mut as_it_is = words.to_vec();
    if name == b"RESTORE-ASKING" {
        as_it_is[0] = Bytes::from_static(b"RESTORE");
    }
    // A key that a pattern names is in any lane.
    if lanes.cluster() && name == b"SORT" && reads_patterns(words) {
        return Deed::Anew(vec![word(all[0])]);
    }
    if all.iter().all(|index| lane(*index) == first) {
        return Deed::Lane(first, as_it_is);
    }
    match (name, keys) {
        (b"DEL" | b"UNLINK", Keys::Each(keys)) => {
            Deed::Split(parts(&keys, lanes, words, &word(0), |index| vec![words[index].clone()]))
        }
        (b"MSET" | b"MSETNX", Keys::Each(keys)) => {
            let mset = Bytes::from_static(b"MSET");
            Deed::Split(parts(&keys, lanes, words, &mset, |index| vec![words[index].clone(), word(index + 1)]))
        }
        (b"RENAME" | b"RENAMENX", _) => Deed::Rename { from: word(1), to: word(2) },
        (b"SMOVE", _) => Deed::Split(vec![
            (lane(2), vec![Bytes::from_static(b"SADD"), word(2), word(3)]),
            (lane(1), vec![Bytes::from_static(b"SREM"), word(1), word(3)]),
        ]),
        (b"RPOPLPUSH" | b"BRPOPLPUSH", _) => {
            Deed::ListMove { from: word(1), to: word(2), from_head: false, to_head: true }
        }
        (b"LMOVE" | b"BLMOVE", _) => {
            Deed::ListMove { from: word(1), to: word(2), from_head: is(3, b"LEFT"), to_head: is(4, b"LEFT") }
        }
        (b"EVAL" | b"EVALSHA" | b"FCALL", Keys::Each(keys)) => Deed::Anew(keys.into_iter().map(word).collect()),
        (_, Keys::From(to, from)) => {
            let reads = from.into_iter().filter(|index| lane(*index) != lane(to)).collect();
            Deed::Gather { lane: lane(to), words: as_it_is, reads }
        }
        (_, Keys::One(_) | Keys::Each(_) | Keys::Other) => Deed::Ask,
    }
}

/// Which words of a write name keys whose values it depends on, and which name keys that it writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Touched {
    /// Others than those that it changes where they are: only of these can something wrong spread to another key.
    pub reads: Vec<Bytes>,
    /// What may be another value afterwards.
    pub writes: Vec<Bytes>,
}

/// What a write touches; `None`: it is not known here, and a server must be asked.
pub(super) fn touched(words: &[Bytes]) -> Option<Touched> {
    let name = words.first()?.to_ascii_uppercase();
    let (reads, writes) = match keys(&name, words)? {
        Keys::One(key) => (Vec::new(), vec![key]),
        Keys::Each(all) if matches!(name.as_slice(), b"EVAL" | b"EVALSHA" | b"FCALL") => (all.clone(), all),
        Keys::Each(all) => (Vec::new(), all),
        Keys::From(to, from) => (from, vec![to]),
        Keys::Other => (vec![1, 2], vec![1, 2]),
    };
    let named = |of: Vec<usize>| of.into_iter().map(|index| words.get(index).cloned()).collect::<Option<Vec<_>>>();
    Some(Touched { reads: named(reads)?, writes: named(writes)? })
}

/// The deed of a command that only the source knows, by the keys that it told.
pub(super) fn deed_of_keys(words: &[Bytes], keys: Vec<Bytes>, lanes: &Lanes) -> Deed {
    match keys.first().map(|key| lanes.of(key)) {
        None => Deed::Refused("the source does not say which keys it writes"),
        Some(lane) if keys.iter().all(|key| lanes.of(key) == lane) => Deed::Lane(lane, words.to_vec()),
        Some(_) => Deed::Anew(keys),
    }
}

/// Libraries and scripts, in words that may be repeated.
fn everywhere(words: &[Bytes]) -> Vec<Bytes> {
    let mut words = words.to_vec();
    let is = |index: usize, text: &[u8]| words.get(index).is_some_and(|word: &Bytes| word.eq_ignore_ascii_case(text));
    if is(0, b"FUNCTION") && is(1, b"LOAD") && !is(2, b"REPLACE") {
        words.insert(2, Bytes::from_static(b"REPLACE"));
    } else if is(0, b"FUNCTION") && is(1, b"RESTORE") && words.len() == 3 {
        words.push(Bytes::from_static(b"REPLACE"));
    }
    words
}

/// One command for each lane, in the order in which its first key comes.
fn parts(
    keys: &[usize],
    lanes: &Lanes,
    words: &[Bytes],
    name: &Bytes,
    arguments: impl Fn(usize) -> Vec<Bytes>,
) -> Vec<(Lane, Vec<Bytes>)> {
    let mut parts: Vec<(Lane, Vec<Bytes>)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    for index in keys {
        let lane = lanes.of(&words[*index]);
        let place = *places.entry(lane).or_insert_with(|| {
            parts.push((lane, vec![name.clone()]));
            parts.len() - 1
        });
        parts[place].1.extend(arguments(*index));
    }
    parts
}

fn reads_patterns(words: &[Bytes]) -> bool {
    let star = |index: usize| words.get(index).is_some_and(|word| word.contains(&b'*'));
    (2..words.len()).any(|index| {
        (words[index].eq_ignore_ascii_case(b"BY") || words[index].eq_ignore_ascii_case(b"GET")) && star(index + 1)
    })
}

/// Where the keys of each command that masters send are. Source: the `key_specs` of Redis 7.0's commands. `None`: not known.
fn keys(name: &[u8], words: &[Bytes]) -> Option<Keys> {
    let count = words.len();
    let number = |index: usize| -> Option<usize> { std::str::from_utf8(words.get(index)?).ok()?.parse().ok() };
    let after = |options: &[&[u8]]| {
        (2..count)
            .find(|index| options.iter().any(|option| words[*index].eq_ignore_ascii_case(option)))
            .map(|at| at + 1)
    };
    Some(match name {
        b"SET" | b"SETNX" | b"SETEX" | b"PSETEX" | b"APPEND" | b"SETRANGE" | b"INCR" | b"DECR" | b"INCRBY"
        | b"DECRBY" | b"INCRBYFLOAT" | b"GETSET" | b"GETDEL" | b"GETEX" | b"SETBIT" | b"BITFIELD" | b"LPUSH"
        | b"RPUSH" | b"LPUSHX" | b"RPUSHX" | b"LINSERT" | b"LPOP" | b"RPOP" | b"LSET" | b"LTRIM" | b"LREM"
        | b"SADD" | b"SREM" | b"SPOP" | b"ZADD" | b"ZINCRBY" | b"ZREM" | b"ZREMRANGEBYSCORE" | b"ZREMRANGEBYRANK"
        | b"ZREMRANGEBYLEX" | b"ZPOPMIN" | b"ZPOPMAX" | b"HSET" | b"HMSET" | b"HSETNX" | b"HDEL" | b"HINCRBY"
        | b"HINCRBYFLOAT" | b"PFADD" | b"GEOADD" | b"XADD" | b"XDEL" | b"XTRIM" | b"XACK" | b"XSETID" | b"XCLAIM"
        | b"XAUTOCLAIM" | b"EXPIRE" | b"PEXPIRE" | b"EXPIREAT" | b"PEXPIREAT" | b"PERSIST" | b"RESTORE"
        | b"RESTORE-ASKING" => Keys::One(1),
        b"XGROUP" => Keys::One(2),
        b"PFCOUNT" if count == 2 => Keys::One(1),
        b"DEL" | b"UNLINK" => Keys::Each((1..count).collect()),
        b"MSET" | b"MSETNX" => Keys::Each((1..count).step_by(2).collect()),
        b"SUNIONSTORE" | b"SINTERSTORE" | b"SDIFFSTORE" | b"PFMERGE" => Keys::From(1, (2..count).collect()),
        b"BITOP" => Keys::From(2, (3..count).collect()),
        b"ZUNIONSTORE" | b"ZINTERSTORE" | b"ZDIFFSTORE" => {
            let end = number(2)?.checked_add(3)?;
            if end > count {
                return None;
            }
            Keys::From(1, (3..end).collect())
        }
        b"ZRANGESTORE" | b"GEOSEARCHSTORE" => Keys::From(1, vec![2]),
        b"COPY" => Keys::From(2, vec![1]),
        b"SORT" => Keys::From(after(&[b"STORE"])?, vec![1]),
        b"GEORADIUS" | b"GEORADIUSBYMEMBER" => Keys::From(after(&[b"STORE", b"STOREDIST"])?, vec![1]),
        b"RENAME" | b"RENAMENX" | b"SMOVE" | b"RPOPLPUSH" | b"BRPOPLPUSH" | b"LMOVE" | b"BLMOVE" => Keys::Other,
        b"EVAL" | b"EVALSHA" | b"FCALL" => {
            let end = number(2)?.checked_add(3)?;
            if end > count {
                return None;
            }
            Keys::Each((3..end).collect())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<Bytes> {
        text.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    fn line(words: &[Bytes]) -> String {
        words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>().join(" ")
    }

    fn shown(deed: &Deed) -> String {
        match deed {
            Deed::Lane(_, words) => format!("as it is: {}", line(words)),
            Deed::Split(parts) => {
                let parts: Vec<_> = parts.iter().map(|(_, words)| line(words)).collect();
                format!("split: {}", parts.join("; "))
            }
            Deed::Gather { words, reads, .. } => format!("gather {reads:?}: {}", line(words)),
            Deed::Anew(keys) => format!("anew: {}", line(keys)),
            Deed::Everywhere(words) => format!("everywhere: {}", line(words)),
            other => format!("{other:?}"),
        }
    }

    /// What a write depends on, and what it changes; words that are no keys are neither.
    #[test]
    fn reads_and_writes() {
        for (write, reads, writes) in [
            ("INCR a", "", "a"),
            ("SET a 1", "", "a"),
            ("DEL a b", "", "a b"),
            ("MSET a 1 b 2", "", "a b"),
            ("ZUNIONSTORE a 2 b c WEIGHTS 1 2", "b c", "a"),
            ("PFMERGE a a b", "a b", "a"),
            ("COPY a b REPLACE", "a", "b"),
            ("RENAME a b", "a b", "a b"),
            ("SMOVE a b m", "a b", "a b"),
            ("EVAL x 2 a b 7", "a b", "a b"),
            ("XGROUP CREATE a g 0", "", "a"),
        ] {
            let found = touched(&words(write)).unwrap();
            assert_eq!((line(&found.reads).as_str(), line(&found.writes).as_str()), (reads, writes), "{write}");
        }
        for write in ["NEW a", "RENAME a", "ZUNIONSTORE a 9 b"] {
            assert_eq!(touched(&words(write)), None, "{write}");
        }
    }

    /// a, b and c are in three slots.
    #[test]
    fn on_a_cluster() {
        let lanes = Lanes::new(true, "r");
        for (write, deed_shown) in [
            ("SET a 1", "as it is: SET a 1"),
            ("restore-asking a 0 x", "as it is: RESTORE a 0 x"),
            ("DEL a", "as it is: DEL a"),
            ("DEL a b {a}x c", "split: DEL a {a}x; DEL b; DEL c"),
            ("MSET a 1 b 2 {b}c 3", "split: MSET a 1; MSET b 2 {b}c 3"),
            ("MSETNX a 1 b 2", "split: MSET a 1; MSET b 2"),
            ("MSET {a}1 1 {a}2 2", "as it is: MSET {a}1 1 {a}2 2"),
            ("SMOVE a b m", "split: SADD b m; SREM a m"),
            ("SUNIONSTORE a a b {a}c c", "gather [3, 5]: SUNIONSTORE a a b {a}c c"),
            ("BITOP AND a b c", "gather [3, 4]: BITOP AND a b c"),
            ("ZUNIONSTORE a 2 b c WEIGHTS 1 2", "gather [3, 4]: ZUNIONSTORE a 2 b c WEIGHTS 1 2"),
            ("ZUNIONSTORE a 9 b c", "Ask"),
            ("COPY a b REPLACE", "gather [1]: COPY a b REPLACE"),
            ("COPY a b DB 3", "Refused(\"COPY … DB carries a key to another database\")"),
            ("SORT a STORE b", "gather [1]: SORT a STORE b"),
            ("SORT a BY w_* STORE {a}b", "anew: {a}b"),
            ("GEORADIUS a 1 2 3 km STORE b", "gather [1]: GEORADIUS a 1 2 3 km STORE b"),
            ("RENAME a b", "Rename { from: b\"a\", to: b\"b\" }"),
            ("RENAME {a}a {a}b", "as it is: RENAME {a}a {a}b"),
            ("LMOVE a b LEFT RIGHT", "ListMove { from: b\"a\", to: b\"b\", from_head: true, to_head: false }"),
            ("RPOPLPUSH a b", "ListMove { from: b\"a\", to: b\"b\", from_head: false, to_head: true }"),
            ("EVALSHA ff 2 a b", "anew: a b"),
            ("EVAL code 0", "Nothing"),
            ("FLUSHALL", "Flush { db: None }"),
            ("FLUSHDB ASYNC", "Flush { db: Some(3) }"),
            ("FUNCTION LOAD code", "everywhere: FUNCTION LOAD REPLACE code"),
            ("FUNCTION DELETE lib", "everywhere: FUNCTION DELETE lib"),
            ("PUBLISH a b", "Nothing"),
            ("SET regrow:migrate:r:{0}:m0 5", "Nothing"),
            ("SWAPDB 0 1", "Refused(\"SWAPDB exchanges databases\")"),
            ("JSON.SET a $ 1", "Ask"),
            ("XGROUP CREATE a g $", "as it is: XGROUP CREATE a g $"),
        ] {
            assert_eq!(shown(&deed(&words(write), 3, &lanes)), deed_shown, "{write}");
        }
    }

    /// One server carries out all as it is.
    #[test]
    fn on_one_server() {
        let lanes = Lanes::new(false, "r");
        for write in [
            "DEL a b",
            "MSET a 1 b 2",
            "SUNIONSTORE a b c",
            "RENAME a b",
            "LMOVE a b LEFT LEFT",
            "SORT a BY w_* STORE b",
        ] {
            assert_eq!(deed(&words(write), 0, &lanes), Deed::Lane(0, words(write)));
        }
    }

    proptest! {
        /// Nothing a master sends makes it panic, and parts are in the lanes of their keys.
        #[test]
        fn any_words(list in prop::collection::vec(prop::sample::select(vec![
            "DEL", "MSET", "SMOVE", "BITOP", "ZUNIONSTORE", "SORT", "STORE", "EVAL", "COPY", "LMOVE", "GEORADIUS", "a", "b", "2", "",
        ]), 1..8)) {
            static LANES: std::sync::LazyLock<Lanes> = std::sync::LazyLock::new(|| Lanes::new(true, "r"));
            let lanes = &*LANES;
            let list: Vec<Bytes> = list.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
            if let Deed::Split(parts) = deed(&list, 0, lanes) {
                prop_assert!(parts.iter().all(|(lane, words)| lanes.of(&words[1]) == *lane));
            }
        }
    }
}
