//! Values: what kinds there are, how to pass over one, and how to take one apart.

use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};

use super::crc64::crc64;
use super::error::{Fault, RdbError};
use super::input::Input;
use super::stream::{self, Form, StreamPiece};
use super::{listpack, packed, ziplist};

/// How a value is written. The number is that of the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "the names are those of rdb.h, which says no more")]
pub enum Kind {
    String = 0,
    List = 1,
    Set = 2,
    Zset = 3,
    Hash = 4,
    Zset2 = 5,
    Module2 = 7,
    HashZipmap = 9,
    ListZiplist = 10,
    SetIntset = 11,
    ZsetZiplist = 12,
    HashZiplist = 13,
    ListQuicklist = 14,
    StreamListpacks = 15,
    HashListpack = 16,
    ZsetListpack = 17,
    ListQuicklist2 = 18,
    StreamListpacks2 = 19,
    SetListpack = 20,
    StreamListpacks3 = 21,
}

use Kind::*;

const KINDS: [Kind; 20] = [
    String,
    List,
    Set,
    Zset,
    Hash,
    Zset2,
    Module2,
    HashZipmap,
    ListZiplist,
    SetIntset,
    ZsetZiplist,
    HashZiplist,
    ListQuicklist,
    StreamListpacks,
    HashListpack,
    ZsetListpack,
    ListQuicklist2,
    StreamListpacks2,
    SetListpack,
    StreamListpacks3,
];

impl Kind {
    /// The kind of a number; `None`: there is none, or not one that is understood.
    pub fn of(byte: u8) -> Option<Self> {
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }

    /// The first version of snapshots that has this kind: a server that writes an older one cannot `RESTORE` it.
    pub fn since(self) -> u16 {
        match self {
            SetListpack | StreamListpacks3 => 11,
            HashListpack | ZsetListpack | ListQuicklist2 | StreamListpacks2 => 10,
            StreamListpacks => 9,
            Zset2 | Module2 => 8,
            ListQuicklist => 7,
            HashZiplist => 4,
            ListZiplist | SetIntset | ZsetZiplist | HashZipmap => 2,
            String | List | Set | Zset | Hash => 1,
        }
    }
}

/// A part of a value. All parts of a value together, in order, are the value.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A part of a string.
    Text(Bytes),
    /// Elements of a list, from the head.
    Items(Vec<Bytes>),
    /// Members of a set.
    Members(Vec<Bytes>),
    /// Members of a sorted set with their scores.
    Scores(Vec<(Bytes, f64)>),
    /// Fields of a hash with their values.
    Fields(Vec<(Bytes, Bytes)>),
    /// A part of a stream.
    Stream(StreamPiece),
}

/// Elements in one piece, at most.
const PIECE_ITEMS_MAX: usize = 512;
/// Bytes in one piece, unless one element alone has more.
const PIECE_BYTES_MAX: usize = 1 << 20;

/// Passes over a value.
pub(super) fn skip<R: Read>(input: &mut Input<R>, kind: Kind) -> Result<(), Fault> {
    let what = "a value";
    match kind {
        String | HashZipmap | ListZiplist | SetIntset | ZsetZiplist | HashZiplist | HashListpack | ZsetListpack
        | SetListpack => input.skip_string(what),
        List | Set | ListQuicklist => (0..input.length(what)?).try_for_each(|_| input.skip_string(what)),
        Hash => {
            (0..input.length(what)?).try_for_each(|_| input.skip_string(what).and_then(|()| input.skip_string(what)))
        }
        Zset => (0..input.length(what)?)
            .try_for_each(|_| input.skip_string(what).and_then(|()| input.text_double().map(drop))),
        Zset2 => (0..input.length(what)?).try_for_each(|_| input.skip_string(what).and_then(|()| input.skip(8, what))),
        ListQuicklist2 => {
            (0..input.length(what)?).try_for_each(|_| input.length(what).and_then(|_| input.skip_string(what)))
        }
        StreamListpacks => stream::skip(input, Form::First),
        StreamListpacks2 => stream::skip(input, Form::Counted),
        StreamListpacks3 => stream::skip(input, Form::Active),
        Module2 => {
            input.length(what)?;
            skip_module(input)
        }
    }
}

/// What a module has written: numbers and strings, each with its kind before it.
pub(super) fn skip_module<R: Read>(input: &mut Input<R>) -> Result<(), Fault> {
    let what = "a module's data";
    loop {
        match input.length(what)? {
            0 => return Ok(()),
            1 | 2 => drop(input.length(what)?),
            3 => input.skip(4, what)?,
            4 => input.skip(8, what)?,
            5 => input.skip_string(what)?,
            _ => return Err(Fault::Corrupt(what)),
        }
    }
}

/// Takes a value apart.
pub(super) fn read<R: Read>(
    input: &mut Input<R>,
    kind: Kind,
    on: &mut dyn FnMut(Piece) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let what = "a value";
    match kind {
        String => {
            let mut any = false;
            input.string_steps(what, &mut |step| {
                any = true;
                on(Piece::Text(Bytes::copy_from_slice(step)))
            })?;
            if any { Ok(()) } else { on(Piece::Text(Bytes::new())) }
        }
        List | ListZiplist | ListQuicklist | ListQuicklist2 => {
            let mut batch = Batch::new(Piece::Items, on);
            match kind {
                List => (0..input.length(what)?).try_for_each(|_| batch.one(input.string(what)?))?,
                ListZiplist => batch.all(ziplist::elements(&input.string(what)?)?)?,
                ListQuicklist => {
                    (0..input.length(what)?).try_for_each(|_| batch.all(ziplist::elements(&input.string(what)?)?))?
                }
                _ => {
                    for _ in 0..input.length(what)? {
                        // Plain: one long element. Packed: a listpack.
                        match input.length(what)? {
                            1 => batch.one(input.string(what)?)?,
                            2 => batch.all(texts(&input.string(what)?)?)?,
                            _ => return Err(Fault::Corrupt("a part of a list")),
                        }
                    }
                }
            }
            batch.end()
        }
        Set | SetIntset | SetListpack => {
            let mut batch = Batch::new(Piece::Members, on);
            match kind {
                Set => (0..input.length(what)?).try_for_each(|_| batch.one(input.string(what)?))?,
                SetIntset => batch.all(packed::intset(&input.string(what)?)?)?,
                _ => batch.all(texts(&input.string(what)?)?)?,
            }
            batch.end()
        }
        Zset | Zset2 | ZsetZiplist | ZsetListpack => {
            let mut batch = Batch::new(Piece::Scores, on);
            match kind {
                Zset => (0..input.length(what)?).try_for_each(|_| {
                    let member = input.string(what)?;
                    batch.one((member, score(input.text_double()?)?))
                })?,
                Zset2 => (0..input.length(what)?).try_for_each(|_| {
                    let member = input.string(what)?;
                    batch.one((member, score(f64::from_le_bytes(input.bytes(what)?))?))
                })?,
                ZsetZiplist => batch.all(scores(ziplist::elements(&input.string(what)?)?)?)?,
                _ => batch.all(scores(texts(&input.string(what)?)?)?)?,
            }
            batch.end()
        }
        Hash | HashZipmap | HashZiplist | HashListpack => {
            let mut batch = Batch::new(Piece::Fields, on);
            match kind {
                Hash => {
                    (0..input.length(what)?).try_for_each(|_| batch.one((input.string(what)?, input.string(what)?)))?
                }
                HashZipmap => batch.all(pairs(packed::zipmap(&input.string(what)?)?)?)?,
                HashZiplist => batch.all(pairs(ziplist::elements(&input.string(what)?)?)?)?,
                _ => batch.all(pairs(texts(&input.string(what)?)?)?)?,
            }
            batch.end()
        }
        StreamListpacks => stream::read(input, Form::First, &mut |piece| on(Piece::Stream(piece))),
        StreamListpacks2 => stream::read(input, Form::Counted, &mut |piece| on(Piece::Stream(piece))),
        StreamListpacks3 => stream::read(input, Form::Active, &mut |piece| on(Piece::Stream(piece))),
        Module2 => Err(Fault::Unsupported("a module's value that is too long to be carried whole".to_owned())),
    }
}

/// Takes a whole value apart, as [`super::Reader`] gives it.
pub fn pieces_of(
    kind: Kind,
    serialized: &[u8],
    on: &mut dyn FnMut(Piece) -> Result<(), Fault>,
) -> Result<(), RdbError> {
    let mut input = Input::new(serialized);
    let done = read(&mut input, kind, on).and_then(|()| {
        if input.offset() == serialized.len() as u64 { Ok(()) } else { Err(Fault::Corrupt("bytes after a value")) }
    });
    done.map_err(|fault| RdbError { offset: input.offset(), key: None, fault })
}

/// What `RESTORE` takes: the kind, the value, the version (two bytes), the checksum of all that (eight bytes).
///
/// `version`: that of the snapshot the value comes from, or any not below [`Kind::since`]; the target refuses one above
/// its own.
pub fn dump(kind: Kind, serialized: &[u8], version: u16) -> Bytes {
    let mut bytes = BytesMut::with_capacity(serialized.len() + 11);
    bytes.put_u8(kind as u8);
    bytes.put_slice(serialized);
    bytes.put_u16_le(version);
    let crc = crc64(0, &bytes);
    bytes.put_u64_le(crc);
    bytes.freeze()
}

fn texts(blob: &Bytes) -> Result<Vec<Bytes>, Fault> {
    Ok(listpack::elements(blob)?.into_iter().map(listpack::Element::text).collect())
}

fn pairs(list: Vec<Bytes>) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    if !list.len().is_multiple_of(2) {
        return Err(Fault::Corrupt("a field without its value"));
    }
    Ok(list.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

fn scores(list: Vec<Bytes>) -> Result<Vec<(Bytes, f64)>, Fault> {
    let read =
        |text: &Bytes| score(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN));
    pairs(list)?.into_iter().map(|(member, text)| Ok((member, read(&text)?))).collect()
}

/// No sorted set has a score that is no number.
fn score(score: f64) -> Result<f64, Fault> {
    if score.is_nan() { Err(Fault::Corrupt("a score")) } else { Ok(score) }
}

/// Bytes of an element, for batching.
trait Weight {
    fn weight(&self) -> usize;
}

impl Weight for Bytes {
    fn weight(&self) -> usize {
        self.len()
    }
}

impl Weight for (Bytes, Bytes) {
    fn weight(&self) -> usize {
        self.0.len() + self.1.len()
    }
}

impl Weight for (Bytes, f64) {
    fn weight(&self) -> usize {
        self.0.len()
    }
}

/// Gathers elements into pieces of a bounded size.
struct Batch<'a, T> {
    items: Vec<T>,
    bytes: usize,
    piece: fn(Vec<T>) -> Piece,
    on: &'a mut dyn FnMut(Piece) -> Result<(), Fault>,
}

impl<'a, T: Weight> Batch<'a, T> {
    fn new(piece: fn(Vec<T>) -> Piece, on: &'a mut dyn FnMut(Piece) -> Result<(), Fault>) -> Self {
        Self { items: Vec::new(), bytes: 0, piece, on }
    }

    fn one(&mut self, item: T) -> Result<(), Fault> {
        self.bytes += item.weight();
        self.items.push(item);
        if self.items.len() >= PIECE_ITEMS_MAX || self.bytes >= PIECE_BYTES_MAX {
            self.bytes = 0;
            (self.on)((self.piece)(std::mem::take(&mut self.items)))?;
        }
        Ok(())
    }

    fn all(&mut self, items: Vec<T>) -> Result<(), Fault> {
        items.into_iter().try_for_each(|item| self.one(item))
    }

    fn end(self) -> Result<(), Fault> {
        if self.items.is_empty() { Ok(()) } else { (self.on)((self.piece)(self.items)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Bytes that often make sense: small counts, short strings, packed forms, and noise.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let string =
            prop::collection::vec(any::<u8>(), 0..20).prop_map(|text| [&[text.len() as u8][..], &text].concat());
        let listpack = prop::collection::vec(0u8..=0x7f, 0..8).prop_map(|numbers| {
            let elements: Vec<Vec<u8>> = numbers.into_iter().map(|number| vec![number]).collect();
            let blob = listpack::tests::pack(&elements.iter().map(Vec::as_slice).collect::<Vec<_>>());
            [&[blob.len() as u8][..], &blob].concat()
        });
        let ziplist = prop::collection::vec(0xf1u8..=0xfd, 0..8).prop_map(|numbers| {
            let elements: Vec<Vec<u8>> = numbers.into_iter().map(|number| vec![number]).collect();
            let blob = ziplist::tests::pack(&elements.iter().map(Vec::as_slice).collect::<Vec<_>>());
            [&[blob.len() as u8][..], &blob].concat()
        });
        let part = prop_oneof![
            3 => (0u8..4).prop_map(|count| vec![count]),
            3 => string,
            2 => listpack,
            1 => ziplist,
            1 => prop::collection::vec(any::<u8>(), 0..24),
            1 => Just(vec![0; 16]),
        ];
        prop::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    #[test]
    fn a_score_is_a_number() {
        let read =
            |kind, bytes: &[u8]| pieces_of(kind, bytes, &mut |_| Ok(())).map_err(|error| error.fault.to_string());
        let corrupt = Err("it is corrupt: a score".to_owned());
        assert_eq!(read(Zset, b"\x01\x01m\x032.5"), Ok(()));
        assert_eq!(read(Zset, b"\x01\x01m\xfd"), corrupt);
        assert_eq!(read(Zset2, &[&b"\x01\x01m"[..], &f64::NAN.to_le_bytes()].concat()), corrupt);
        let packed = listpack::tests::pack(&[b"\x81m", b"\x83nan"]);
        assert_eq!(read(ZsetListpack, &[&[packed.len() as u8][..], &packed].concat()), corrupt);
    }

    proptest! {
        /// Whatever the bytes: nothing panics; and what can be taken apart can be passed over, to the same place. Else a
        /// value that is carried whole would end elsewhere than one that is carried in pieces.
        #[test]
        fn passing_over_and_taking_apart_agree(bytes in bytes(), index in 0..KINDS.len()) {
            let kind = KINDS[index];
            let (mut apart, mut over) = (Input::new(&bytes[..]), Input::new(&bytes[..]));
            let (read, skipped) = (read(&mut apart, kind, &mut |_| Ok(())), skip(&mut over, kind));
            if read.is_ok() {
                prop_assert!(skipped.is_ok(), "{kind:?}: {skipped:?}");
                prop_assert_eq!(apart.offset(), over.offset(), "{:?}", kind);
            }
        }
    }
}
