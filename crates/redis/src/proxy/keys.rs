//! Which words of a command are its keys. Pure.

use std::ops::Range;

use crate::slot::Slot;

use super::table::Keys;

/// A command with its words as places in its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) places: &'a [Range<usize>],
}

impl<'a> Words<'a> {
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.places.get(index).map(|place| &self.bytes[place.clone()])
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// From one word on.
    pub(crate) fn from(self, index: usize) -> impl Iterator<Item = &'a [u8]> {
        self.places.iter().skip(index).map(move |place| &self.bytes[place.clone()])
    }

    fn number(&self, index: usize) -> Option<usize> {
        std::str::from_utf8(self.get(index)?).ok()?.parse().ok()
    }

    fn position(&self, from: usize, word: &str) -> Option<usize> {
        (from..self.len()).find(|index| self.is(*index, word))
    }

    /// Whether a word is this one, in any case.
    pub(crate) fn is(&self, index: usize, word: &str) -> bool {
        self.get(index).is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
    }
}

/// Calls `each` with the place of every key among the words, in order. Words that make no sense have no keys: the server
/// says what is wrong with them.
pub(crate) fn each_key(keys: Keys, words: Words<'_>, mut each: impl FnMut(usize)) {
    let count = words.len();
    match keys {
        Keys::None => {}
        Keys::Range { first, last, step } => {
            let last = match usize::try_from(last) {
                Ok(last) => last.min(count.saturating_sub(1)),
                Err(_) => match count.checked_sub(last.unsigned_abs() as usize) {
                    Some(last) => last,
                    None => return,
                },
            };
            (first..=last).step_by(step).for_each(each);
        }
        Keys::Counted(at) => counted(words, at, each),
        Keys::OneAndCounted(at) => {
            if count > 1 {
                each(1);
            }
            counted(words, at, each);
        }
        Keys::Streams => {
            if let Some(at) = words.position(1, "STREAMS") {
                (at + 1..at + 1 + (count - at - 1) / 2).for_each(each);
            }
        }
        Keys::Sort => {
            if count > 1 {
                each(1);
            }
            // The last one counts, as in Redis; words of other options are passed over.
            let (mut at, mut store) = (2, None);
            while at < count {
                match () {
                    () if words.is(at, "LIMIT") => at += 3,
                    () if words.is(at, "BY") || words.is(at, "GET") => at += 2,
                    () if words.is(at, "STORE") => {
                        store = Some(at + 1).filter(|at| *at < count);
                        at += 2;
                    }
                    () => at += 1,
                }
            }
            store.into_iter().for_each(each);
        }
        Keys::Geo => {
            if count > 1 {
                each(1);
            }
            let store = (5..count.saturating_sub(1)).rfind(|at| words.is(*at, "STORE") || words.is(*at, "STOREDIST"));
            store.map(|at| at + 1).into_iter().for_each(each);
        }
    }
}

fn counted(words: Words<'_>, at: usize, each: impl FnMut(usize)) {
    let left = words.len().saturating_sub(at + 1);
    if let Some(keys) = words.number(at).filter(|keys| *keys <= left) {
        (at + 1..at + 1 + keys).for_each(each);
    }
}

/// Keys of more than one slot in a command that needs them together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CrossSlot;

/// The slot of all keys; `None` without keys.
pub(crate) fn slot_of(keys: Keys, words: Words<'_>) -> Result<Option<Slot>, CrossSlot> {
    let (mut slot, mut crossed) = (None, false);
    each_key(keys, words, |index| {
        let Some(key) = words.get(index) else { return };
        let this = Slot::of_key(key);
        crossed |= *slot.get_or_insert(this) != this;
    });
    if crossed { Err(CrossSlot) } else { Ok(slot) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::request::{Parser, RequestLimits, encode};
    use super::super::table::tests::table;
    use super::*;

    /// Runs `check` with the words of a command line.
    pub(crate) fn with_words<T>(line: &str, check: impl FnOnce(Words<'_>) -> T) -> T {
        let bytes = encode(line.split(' '));
        let mut parser = Parser::default();
        parser.parse(&bytes, RequestLimits { bytes_max: 1 << 20, words_max: 1000 }).unwrap();
        check(Words { bytes: &bytes, places: parser.words() })
    }

    fn keys(line: &str) -> String {
        with_words(line, |words| {
            let mut keys = Vec::new();
            let table = table();
            let spec = table.find(words.get(0).unwrap()).unwrap();
            each_key(spec.keys, words, |at| keys.push(String::from_utf8_lossy(words.get(at).unwrap()).into_owned()));
            keys.join(" ")
        })
    }

    /// The keys of every form of command, also where the words make no sense.
    #[test]
    fn finds_keys() {
        for (line, wanted) in [
            ("GET a", "a"),
            ("GET", ""),
            ("MGET a b c", "a b c"),
            ("MSET a 1 b 2", "a b"),
            ("BLPOP a b 0", "a b"),
            ("BLPOP", ""),
            ("EVAL s 2 a b c", "a b"),
            ("EVAL s 0", ""),
            ("EVAL s 9 a", ""),
            ("EVAL s x a", ""),
            ("EVAL s -1 a", ""),
            ("ZUNIONSTORE d 2 a b WEIGHTS 1 2", "d a b"),
            ("XREAD COUNT 1 STREAMS a b 0 0", "a b"),
            ("XREAD COUNT 1 STREAMS", ""),
            ("XREAD COUNT 1", ""),
            ("SORT a BY store GET x STORE d", "a d"),
            ("SORT a LIMIT store 1 STORE", "a"),
            ("GEORADIUS a 1 2 3 km STORE d", "a d"),
            ("GEORADIUS a 1 2 3 km STOREDIST", "a"),
            ("OBJECT ENCODING a", "a"),
            ("OBJECT HELP", ""),
            ("PING a", ""),
        ] {
            assert_eq!(keys(line), wanted, "{line}");
        }
    }

    #[test]
    fn slots() {
        let slot = |line: &str, keys| with_words(line, |words| slot_of(keys, words));
        let all = Keys::Range { first: 1, last: -1, step: 1 };
        assert_eq!(slot("DEL {a}1 {a}2", all), Ok(Some(Slot::of_key(b"a"))));
        assert_eq!(slot("DEL a b", all), Err(CrossSlot));
        assert_eq!(slot("PING", Keys::None), Ok(None));
    }
}
