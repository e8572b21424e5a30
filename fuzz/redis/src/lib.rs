//! The decoders of the Redis toolbox, from the crate that they are part of, each with what must hold for any bytes.

#[path = "../../../crates/redis/src/rdb/mod.rs"]
pub mod rdb;
#[path = "../../../crates/redis/src/rebuild.rs"]
pub mod rebuild;
#[path = "../../../crates/redis/src/resp/mod.rs"]
pub mod resp;

#[path = "../../../crates/redis/src/replication/entries.rs"]
#[allow(dead_code, reason = "here streams are read and not followed")]
mod entries;
#[path = "../../../crates/redis/src/proxy/frame.rs"]
#[allow(dead_code, reason = "here answers are read and not passed on")]
mod frame;
#[path = "../../../crates/redis/src/proxy/request.rs"]
#[allow(dead_code, reason = "here requests are read and not answered")]
mod request;

use std::fmt::Debug;

use bytes::BytesMut;

use entries::Entries;
use frame::Scanner;
use rdb::{Fault, Key, Piece, RdbError, Reader, Record, Value, pieces_of};
use rebuild::{Dialect, Rebuild};
use request::{Front, Parser, RequestLimits};
use resp::{Decoder, Limits};

/// Bytes of an answer or of a request that are allowed here; inputs are shorter.
const BYTES_MAX: usize = 1 << 20;

/// What comes from bytes, item by item, until they end or are none. The first piece is as long as the first byte says: the
/// same comes, however bytes are cut.
fn uncut<T: Debug + PartialEq, E: Debug + PartialEq>(
    bytes: &[u8],
    reader: impl Fn() -> Box<dyn FnMut(&mut BytesMut) -> Result<Option<T>, E>>,
) -> (Vec<T>, Option<E>) {
    let all = |pieces: &[&[u8]]| {
        let (mut next, mut buffer, mut items) = (reader(), BytesMut::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                match next(&mut buffer) {
                    Ok(Some(item)) => items.push(item),
                    Ok(None) => break,
                    Err(error) => return (items, Some(error)),
                }
            }
        }
        (items, None)
    };
    let (first, second) = bytes.split_at(bytes.len().min(usize::from(bytes.first().copied().unwrap_or_default())));
    let (whole, cut) = (all(&[bytes]), all(&[first, second]));
    // No number that is none equals itself.
    assert!(whole == cut || format!("{whole:?}") == format!("{cut:?}"), "{whole:?}\ncut: {cut:?}");
    whole
}

/// Answers of a server.
pub fn resp(bytes: &[u8]) {
    uncut(bytes, || {
        let mut decoder = Decoder::new(Limits::default());
        Box::new(move |buffer| decoder.decode(buffer))
    });
}

/// Answers that a proxy passes on: it finds the end of each where the decoder finds it.
pub fn answer(bytes: &[u8]) {
    let (ends, _) = uncut(bytes, || {
        let mut scanner = Scanner::new(BYTES_MAX);
        Box::new(move |buffer| {
            let end = scanner.scan(buffer)?;
            Ok::<_, frame::BadFrame>(end.map(|end| buffer.split_to(end)))
        })
    });
    for answer in ends {
        let mut rest = answer.clone();
        if let Ok(value) = Decoder::default().decode(&mut rest) {
            assert!(value.is_some() && rest.is_empty(), "the decoder leaves {rest:?} of {answer:?}");
        }
        let _ = (frame::elements(&answer), frame::int(&answer), frame::text(&answer), frame::is_null(&answer));
    }
}

/// Requests of clients: what is passed on as one command is one to a server.
pub fn request(bytes: &[u8]) {
    let limits = RequestLimits { bytes_max: BYTES_MAX, words_max: 1 << 10 };
    let (fronts, _) = uncut(bytes, || {
        let mut parser = Parser::default();
        Box::new(move |buffer| {
            let front = parser.parse(buffer, limits)?;
            Ok::<_, request::BadRequest>(match front {
                Front::Half => None,
                Front::Empty(length) => {
                    let _ = buffer.split_to(length);
                    Some(None)
                }
                Front::Inline(length, command) => {
                    let _ = buffer.split_to(length);
                    Some(Some((command, None)))
                }
                Front::Whole(length) => {
                    let command = buffer.split_to(length);
                    let words: Vec<_> = parser.words().iter().map(|word| command[word.clone()].to_vec()).collect();
                    Some(Some((command, Some(words))))
                }
            })
        })
    });
    for (command, words) in fronts.into_iter().flatten() {
        let mut rest = command.clone();
        let value = Decoder::default().decode(&mut rest).expect("it is the protocol").expect("it is whole");
        assert!(rest.is_empty(), "{rest:?} is left of {command:?}");
        let array = value.array().expect("it is an array");
        assert!(!array.is_empty() && array.iter().all(|word| matches!(word, resp::Value::Bulk(_))), "{array:?}");
        if let Some(words) = words {
            assert!(
                words.iter().map(Vec::as_slice).eq(array.iter().map(|word| &word.bytes().expect("it is text")[..]))
            );
        }
    }
}

/// What a replica is sent after the snapshot: its positions add up.
pub fn entries(bytes: &[u8]) {
    uncut(bytes, || {
        let mut entries = Entries::new(7, 0);
        Box::new(move |buffer| {
            let (held, before) = (buffer.len() as u64, entries.end());
            let entry = entries.next_entry(buffer)?;
            assert!(entries.end() >= before);
            if entry.is_some() {
                assert!(entries.end() > before && buffer.len() as u64 <= held);
            }
            Ok::<_, entries::StreamError>(entry)
        })
    });
}

/// Snapshots: one that can be read with each value in pieces is the same as with each value whole.
pub fn snapshot(bytes: &[u8]) {
    let whole = read(bytes, 1 << 20);
    if let Ok(pieces) = read(bytes, 8) {
        assert_eq!(whole.expect("values that can be taken apart can be passed over"), pieces);
    }
}

/// A value behind its kind.
pub fn value(bytes: &[u8]) {
    let Some((kind, value)) = bytes.split_first() else { return };
    snapshot(&[b"REDIS0011", &[*kind, 1, b'k'][..], value, &[255, 0, 0, 0, 0, 0, 0, 0, 0]].concat());
}

/// The values of a snapshot that are whole, behind their kinds.
pub fn values(snapshot: &[u8]) -> Vec<Vec<u8>> {
    let mut reader = Reader::new(snapshot).expect("a sample is a snapshot");
    let mut values = Vec::new();
    while let Some(record) = reader.next_record().expect("a sample is whole") {
        if let Record::Key(Key { kind, value: Value::Whole(value), .. }) = record {
            values.push([&[kind as u8][..], &value].concat());
        }
    }
    values
}

/// Keys with what makes them anew, and whatever else a snapshot has. Values up to so many bytes are carried whole.
fn read(bytes: &[u8], whole_bytes_max: usize) -> Result<Vec<(Record, BytesMut)>, RdbError> {
    let mut reader = Reader::new(bytes)?.keep_whole(whole_bytes_max);
    let mut records = Vec::new();
    while let Some(mut record) = reader.next_record()? {
        let mut commands = BytesMut::new();
        if let Record::Key(key) = &mut record {
            let mut rebuild = Rebuild::new(key.name.clone(), Dialect::Seven);
            let mut on = |piece: Piece| {
                rebuild.commands(&piece).iter().for_each(|command| command.encode(&mut commands));
                Ok::<_, Fault>(())
            };
            match std::mem::replace(&mut key.value, Value::Long) {
                // A server judges what is carried whole.
                Value::Whole(value) => drop(pieces_of(key.kind, &value, &mut on)),
                Value::Long => reader.pieces(&mut on)?,
            }
        }
        records.push((record, commands));
    }
    Ok(records)
}
