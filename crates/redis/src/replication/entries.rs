//! The writes in a replication stream. Pure: bytes in, entries out.

use bytes::{Bytes, BytesMut};

use crate::resp::{Decoder, Limits, ProtocolError, Value};

/// What a master sends after the snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A write, as a command. `MULTI` and `EXEC` around several are entries of their own.
    Write {
        /// The database it is for.
        db: u32,
        /// The command's name and arguments.
        words: Vec<Bytes>,
        /// The position after it.
        end: u64,
    },
    /// The master wants to know how far we are.
    AckWanted {
        /// The position after the question.
        end: u64,
    },
    /// The master lives, or has chosen a database.
    Nothing {
        /// The position after it.
        end: u64,
    },
}

/// A stream that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It is not the protocol.
    #[error("the replication stream is corrupt after position {after}")]
    Protocol {
        /// The last position known to be good.
        after: u64,
        /// What is wrong.
        source: ProtocolError,
    },
    /// It is the protocol, but no command.
    #[error("the replication stream has {what} after position {after}")]
    NoCommand {
        /// What there is instead.
        what: &'static str,
        /// The last position known to be good.
        after: u64,
    },
}

/// Takes a stream apart.
#[derive(Debug)]
pub struct Entries {
    decoder: Decoder,
    /// Position after the last whole entry.
    end: u64,
    /// Bytes of the next entry that were taken already.
    taken: u64,
    db: u32,
}

/// Arguments of one command: what Redis allows at most is far above what its memory allows.
const WORDS_MAX: usize = 4 << 20;

impl Entries {
    /// From a position on, with the database that is chosen there. After a full copy that is 0; going on, it is the one of
    /// the last entry ([`Self::db`]), because the stream does not repeat it.
    pub fn new(position: u64, db: u32) -> Self {
        let limits = Limits { elements_max: WORDS_MAX, depth_max: 1, ..Limits::default() };
        Self { decoder: Decoder::new(limits), end: position, taken: 0, db }
    }

    /// The position after the last whole entry.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// The database that is chosen after the last whole entry.
    pub fn db(&self) -> u32 {
        self.db
    }

    /// The next entry, taken off the front; `None` when more bytes are needed.
    pub fn next_entry(&mut self, buffer: &mut BytesMut) -> Result<Option<Entry>, StreamError> {
        // A master that has nothing to say may send an empty line, which no position counts.
        while self.taken == 0 && buffer.first() == Some(&b'\n') {
            let _ = buffer.split_to(1);
        }
        let before = buffer.len();
        let value = self.decoder.decode(buffer).map_err(|source| StreamError::Protocol { after: self.end, source })?;
        self.taken += (before - buffer.len()) as u64;
        let Some(value) = value else { return Ok(None) };
        let words = words(value).map_err(|what| StreamError::NoCommand { what, after: self.end })?;
        self.end += std::mem::take(&mut self.taken);
        let end = self.end;
        let is = |index: usize, text: &[u8]| words.get(index).is_some_and(|word| word.eq_ignore_ascii_case(text));
        if is(0, b"SELECT") {
            let db = words.get(1).and_then(|db| std::str::from_utf8(db).ok()?.parse().ok());
            self.db = db.ok_or(StreamError::NoCommand { what: "a choice of no database", after: end })?;
            return Ok(Some(Entry::Nothing { end }));
        }
        Ok(Some(if is(0, b"PING") {
            Entry::Nothing { end }
        } else if is(0, b"REPLCONF") {
            if is(1, b"GETACK") { Entry::AckWanted { end } } else { Entry::Nothing { end } }
        } else {
            Entry::Write { db: self.db, words, end }
        }))
    }
}

fn words(value: Value) -> Result<Vec<Bytes>, &'static str> {
    let Value::Array(items) = value else { return Err("no command") };
    if items.is_empty() {
        return Err("an empty command");
    }
    items
        .into_iter()
        .map(|item| if let Value::Bulk(word) = item { Ok(word) } else { Err("a command with a word that is no text") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n*3\r\n$3\r\nset\r\n$1\r\nk\r\n$2\r\nv\n\r\n\n*1\r\n$4\r\nPING\r\n*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n*1\r\n$5\r\nMULTI\r\n";

    fn expect() -> Vec<Entry> {
        let words = |words: &[&'static str]| words.iter().map(|word| Bytes::from_static(word.as_bytes())).collect();
        vec![
            Entry::Nothing { end: 1023 },
            Entry::Write { db: 3, words: words(&["set", "k", "v\n"]), end: 1051 },
            Entry::Nothing { end: 1065 },
            Entry::AckWanted { end: 1102 },
            Entry::Write { db: 3, words: words(&["MULTI"]), end: 1117 },
        ]
    }

    proptest! {
        /// However the stream is cut, the same entries come at the same positions.
        #[test]
        fn cuts_do_not_matter(sizes in prop::collection::vec(1usize..9, 1..30)) {
            let (mut entries, mut buffer, mut seen, mut rest) = (Entries::new(1000, 0), BytesMut::new(), Vec::new(), STREAM);
            for size in sizes.iter().cycle() {
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                buffer.extend_from_slice(head);
                rest = tail;
                while let Some(entry) = entries.next_entry(&mut buffer).unwrap() { seen.push(entry) }
                if rest.is_empty() { break }
            }
            prop_assert_eq!(seen, expect());
            prop_assert_eq!((entries.end(), entries.db()), (1117, 3));
        }

        /// No bytes make it panic.
        #[test]
        fn never_panics(bytes in prop::collection::vec(prop::sample::select(b"*$+-:012359\r\nSELECTPIG".to_vec()), 0..200)) {
            let (mut entries, mut buffer) = (Entries::new(0, 0), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = entries.next_entry(&mut buffer) {}
        }
    }

    #[test]
    fn refusals() {
        let first = |bytes: &[u8]| Entries::new(7, 0).next_entry(&mut BytesMut::from(bytes)).unwrap_err().to_string();
        assert_eq!(first(b"+OK\r\n"), "the replication stream has no command after position 7");
        assert_eq!(first(b"*0\r\n"), "the replication stream has an empty command after position 7");
        assert_eq!(
            first(b"*1\r\n:1\r\n"),
            "the replication stream has a command with a word that is no text after position 7"
        );
        assert_eq!(first(b"*1\r\n*1\r\n"), "the replication stream is corrupt after position 7");
        assert_eq!(first(b"hello\r\n"), "the replication stream is corrupt after position 7");
    }
}
