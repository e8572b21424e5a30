//! The two small packed forms that are not lists: sets of numbers, and the maps of Redis before 2.6.

use bytes::Bytes;

use super::error::Fault;

/// A set of numbers. Shape: bytes a number (2, 4 or 8), count, both `u32`; then the numbers; all little-endian.
pub(super) fn intset(blob: &[u8]) -> Result<Vec<Bytes>, Fault> {
    let bad = Fault::Corrupt("a set of numbers");
    let (Some(width), Some(count)) = (word(blob, 0), word(blob, 4)) else { return Err(bad) };
    let (width, count) = (width as usize, count as usize);
    let body = &blob[8..];
    if !matches!(width, 2 | 4 | 8) || body.len() / width != count || !body.len().is_multiple_of(width) {
        return Err(bad);
    }
    Ok(body.chunks_exact(width).map(|number| signed(number).to_string().into()).collect())
}

/// A small map. Shape: count, then key and value after each other, each with its length (a byte, or 254 and a `u32`);
/// before a value's bytes stands how many unused ones follow them; 255 at the end.
pub(super) fn zipmap(blob: &Bytes) -> Result<Vec<Bytes>, Fault> {
    let mut items = Vec::new();
    let mut at = 1;
    zipmap_items(blob, &mut at, &mut items)
        .filter(|()| at == blob.len() && items.len() % 2 == 0)
        .ok_or(Fault::Corrupt("a small map"))?;
    Ok(items)
}

fn zipmap_items(blob: &Bytes, at: &mut usize, items: &mut Vec<Bytes>) -> Option<()> {
    loop {
        let size = match *blob.get(*at)? {
            255 => {
                *at += 1;
                return Some(());
            }
            254 => {
                let size = word(blob, *at + 1)? as usize;
                *at += 5;
                size
            }
            size => {
                *at += 1;
                usize::from(size)
            }
        };
        let is_value = items.len() % 2 == 1;
        let unused = if is_value { usize::from(*blob.get(*at)?) } else { 0 };
        let start = *at + usize::from(is_value);
        let end = start.checked_add(size)?;
        if end > blob.len() {
            return None;
        }
        items.push(blob.slice(start..end));
        *at = end.checked_add(unused)?;
    }
}

/// A `u32` at a place.
pub(super) fn word(blob: &[u8], at: usize) -> Option<u32> {
    let bytes = blob.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

/// A signed number of one to eight bytes.
pub(super) fn signed(bytes: &[u8]) -> i64 {
    let fill = if bytes.last().is_some_and(|high| high & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    i64::from_le_bytes(wide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intsets() {
        assert_eq!(intset(&[2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0]).unwrap(), ["-1", "5"]);
        for blob in
            [&[][..], &[2, 0, 0, 0, 2, 0, 0, 0, 1, 0], &[3, 0, 0, 0, 0, 0, 0, 0], &[2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0]]
        {
            assert!(intset(blob).is_err(), "{blob:?}");
        }
    }

    #[test]
    fn zipmaps() {
        let blob = Bytes::from_static(b"\x01\x03foo\x03\x02bar..\xff");
        assert_eq!(zipmap(&blob).unwrap(), ["foo", "bar"]);
        for blob in [
            &b""[..],
            b"\x01",
            b"\x01\x03fo",
            b"\x01\x03foo\xff",
            b"\x01\x03foo\x03\x09bar\xff",
            b"\x01\xff\xff",
            b"\x01\xfe\xff\xff\xff\xff",
        ] {
            assert!(zipmap(&Bytes::copy_from_slice(blob)).is_err(), "{blob:?}");
        }
    }
}
