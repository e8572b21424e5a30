//! Listpacks: the packed list of Redis 5 and later.
//!
//! Shape: bytes in all (`u32`), elements (`u16`, 65535 for "count them"); then for each element its form, its bytes, and
//! its length once more for reading backwards; 255 at the end.

use bytes::Bytes;

use super::error::Fault;
use super::packed::{signed, word};

/// An element: listpacks keep whole numbers as numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Element {
    Number(i64),
    Text(Bytes),
}

impl Element {
    /// As text, as Redis shows it.
    pub(super) fn text(self) -> Bytes {
        match self {
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => text,
        }
    }
}

/// All elements.
pub(super) fn elements(blob: &Bytes) -> Result<Vec<Element>, Fault> {
    let bad = || Fault::Corrupt("a listpack");
    if word(blob, 0).is_none_or(|size| size as usize != blob.len()) || blob.len() < 7 {
        return Err(bad());
    }
    let count = usize::from(u16::from_le_bytes([blob[4], blob[5]]));
    let mut list = Vec::with_capacity(count.min(blob.len() / 2));
    let mut at = 6;
    while blob.get(at) != Some(&0xff) {
        let (element, size) = element(blob, at).ok_or_else(bad)?;
        list.push(element);
        at += size + back_length(size);
    }
    if at + 1 != blob.len() || (count != usize::from(u16::MAX) && count != list.len()) {
        return Err(bad());
    }
    Ok(list)
}

/// The element at a place, with the bytes of its form and itself.
fn element(blob: &Bytes, at: usize) -> Option<(Element, usize)> {
    let first = *blob.get(at)?;
    let number = |bytes: usize| Some((Element::Number(signed(blob.get(at + 1..at + 1 + bytes)?)), 1 + bytes));
    let text = |head: usize, size: usize| {
        let start = at + head;
        let end = start.checked_add(size)?;
        (end <= blob.len()).then(|| (Element::Text(blob.slice(start..end)), head + size))
    };
    match first {
        0..=0x7f => Some((Element::Number(i64::from(first)), 1)),
        0x80..=0xbf => text(1, usize::from(first & 0x3f)),
        0xc0..=0xdf => {
            let raw = i64::from(first & 0x1f) << 8 | i64::from(*blob.get(at + 1)?);
            Some((Element::Number(if raw >= 1 << 12 { raw - (1 << 13) } else { raw }), 2))
        }
        0xe0..=0xef => text(2, usize::from(first & 0x0f) << 8 | usize::from(*blob.get(at + 1)?)),
        0xf0 => text(5, word(blob, at + 1)? as usize),
        0xf1 => number(2),
        0xf2 => number(3),
        0xf3 => number(4),
        0xf4 => number(8),
        _ => None,
    }
}

/// Bytes that the length takes behind an element.
fn back_length(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        2_097_152..=268_435_455 => 4,
        _ => 5,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A listpack of elements that are given with their form, without the length behind.
    pub(in crate::rdb) fn pack(raw: &[&[u8]]) -> Bytes {
        let mut body = Vec::new();
        for element in raw {
            body.extend_from_slice(element);
            body.extend(std::iter::repeat_n(0, back_length(element.len())));
        }
        let size = (body.len() + 7) as u32;
        [&size.to_le_bytes()[..], &(raw.len() as u16).to_le_bytes(), &body, &[0xff]].concat().into()
    }

    #[test]
    fn every_form() {
        let long = [&[0xe1, 0x00][..], &[b'x'; 256]].concat();
        let list = pack(&[
            &[5],
            &[0x82, b'h', b'i'],
            &[0xdf, 0xff],
            &[0xc0, 0x80],
            &[0xf1, 0, 0x80],
            &[0xf2, 1, 0, 0],
            &[0xf3, 0, 0, 0, 0x80],
            &[0xf4, 0, 0, 0, 0, 0, 0, 0, 0x80],
            &[0xf0, 1, 0, 0, 0, b'z'],
            &long,
        ]);
        let texts: Vec<Bytes> = elements(&list).unwrap().into_iter().map(Element::text).collect();
        let x = "x".repeat(256);
        assert_eq!(
            texts,
            ["5", "hi", "-1", "128", "-32768", "1", "-2147483648", "-9223372036854775808", "z", x.as_str()]
        );
    }

    /// Cut anywhere, or with any byte changed, a listpack is refused or read; nothing else.
    #[test]
    fn damage() {
        let list = pack(&[&[5], &[0x82, b'h', b'i'], &[0xf0, 1, 0, 0, 0, b'z'], &[0xf1, 1, 2]]);
        for cut in 0..list.len() {
            assert!(elements(&list.slice(..cut)).is_err());
        }
        for at in 0..list.len() {
            for byte in 0..=255 {
                let mut damaged = list.to_vec();
                damaged[at] = byte;
                let _ = elements(&damaged.into());
            }
        }
    }
}
