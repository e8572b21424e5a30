//! Ziplists: the packed list of Redis before 7.
//!
//! Shape: bytes in all and place of the last element (`u32`), elements (`u16`); then for each element the length of the
//! one before (a byte, or 254 and a `u32`), its form, its bytes; 255 at the end.

use bytes::Bytes;

use super::error::Fault;
use super::packed::{signed, word};

/// All elements, as text.
pub(super) fn elements(blob: &Bytes) -> Result<Vec<Bytes>, Fault> {
    let bad = || Fault::Corrupt("a ziplist");
    if word(blob, 0).is_none_or(|size| size as usize != blob.len()) || blob.len() < 11 {
        return Err(bad());
    }
    let count = usize::from(u16::from_le_bytes([blob[8], blob[9]]));
    let mut list = Vec::with_capacity(count.min(blob.len() / 2));
    let mut at = 10;
    while blob.get(at) != Some(&0xff) {
        at += if blob.get(at) == Some(&254) { 5 } else { 1 };
        let (text, size) = element(blob, at).ok_or_else(bad)?;
        list.push(text);
        at += size;
    }
    if at + 1 != blob.len() || (count != usize::from(u16::MAX) && count != list.len()) {
        return Err(bad());
    }
    Ok(list)
}

fn element(blob: &Bytes, at: usize) -> Option<(Bytes, usize)> {
    let first = *blob.get(at)?;
    let number = |bytes: usize| Some((signed(blob.get(at + 1..at + 1 + bytes)?).to_string().into(), 1 + bytes));
    let text = |head: usize, size: usize| {
        let start = at + head;
        let end = start.checked_add(size)?;
        (end <= blob.len()).then(|| (blob.slice(start..end), head + size))
    };
    match first {
        0x00..=0x3f => text(1, usize::from(first)),
        0x40..=0x7f => text(2, usize::from(first & 0x3f) << 8 | usize::from(*blob.get(at + 1)?)),
        0x80..=0xbf => text(5, u32::from_be_bytes(blob.get(at + 1..at + 5)?.try_into().ok()?) as usize),
        0xc0 => number(2),
        0xd0 => number(4),
        0xe0 => number(8),
        0xf0 => number(3),
        0xfe => number(1),
        0xf1..=0xfd => Some(((first - 0xf1).to_string().into(), 1)),
        _ => None,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A ziplist of elements that are given with their form.
    pub(in crate::rdb) fn pack(raw: &[&[u8]]) -> Bytes {
        let mut body = Vec::new();
        let (mut before, mut last) = (0, 10);
        for element in raw {
            last = 10 + body.len() as u32;
            let start = body.len();
            if before < 254 {
                body.push(before as u8);
            } else {
                body.push(254);
                body.extend_from_slice(&(before as u32).to_le_bytes());
            }
            body.extend_from_slice(element);
            before = body.len() - start;
        }
        let size = (body.len() + 11) as u32;
        [&size.to_le_bytes()[..], &last.to_le_bytes(), &(raw.len() as u16).to_le_bytes(), &body, &[0xff]]
            .concat()
            .into()
    }

    #[test]
    fn every_form() {
        let long = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
        let list = pack(&[
            &[2, b'h', b'i'],
            &long,
            &[0x80, 0, 0, 0, 1, b'z'],
            &[0xc0, 0, 0x80],
            &[0xd0, 1, 0, 0, 0],
            &[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80],
            &[0xf0, 0xff, 0xff, 0xff],
            &[0xfe, 0x80],
            &[0xf1],
            &[0xfd],
        ]);
        let x = "x".repeat(300);
        assert_eq!(
            elements(&list).unwrap(),
            ["hi", x.as_str(), "z", "-32768", "1", "-9223372036854775808", "-1", "-128", "0", "12"]
        );
    }

    /// Cut anywhere, or with any byte changed, a ziplist is refused or read; nothing else.
    #[test]
    fn damage() {
        let list = pack(&[&[2, b'h', b'i'], &[0x80, 0, 0, 0, 1, b'z'], &[0xc0, 0, 0x80]]);
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
