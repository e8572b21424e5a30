//! LZF, the compression of long strings in snapshots.

/// Unpacks into exactly `size` bytes; `None` when the bytes are no LZF of that size. The caller bounds `size`.
///
/// Shape: a control byte below 32 is followed by that many and one literal bytes; any other copies from before: its three
/// high bits are the length less two (7: a byte with more follows), its low five and the next byte are the distance less
/// one. Source: liblzf, `lzf_d.c`.
pub(super) fn unpack(packed: &[u8], size: usize) -> Option<Vec<u8>> {
    // No LZF shrinks to less than 1 in 100: a copy of 264 bytes takes three.
    let mut out = Vec::with_capacity(size.min(packed.len().saturating_mul(100)));
    let mut rest = packed.iter().copied();
    while let Some(control) = rest.next() {
        let control = usize::from(control);
        if control < 32 {
            for _ in 0..=control {
                out.push(rest.next()?);
            }
        } else {
            let mut length = control >> 5;
            if length == 7 {
                length += usize::from(rest.next()?);
            }
            let distance = ((control & 31) << 8) + usize::from(rest.next()?) + 1;
            let start = out.len().checked_sub(distance)?;
            for index in start..start + length + 2 {
                out.push(out[index]);
            }
        }
        if out.len() > size {
            return None;
        }
    }
    (out.len() == size).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::unpack;

    #[test]
    fn unpacks() {
        assert_eq!(unpack(&[2, b'a', b'b', b'c'], 3).as_deref(), Some(&b"abc"[..]));
        assert_eq!(unpack(&[0, b'a', 0x20, 0], 4).as_deref(), Some(&b"aaaa"[..]));
        assert_eq!(unpack(&[1, b'a', b'b', 0xe0, 3, 1], 14).as_deref(), Some(&b"ababababababab"[..]));
        for (bytes, size) in [
            (&[2u8, b'a'][..], 3),
            (&[0, b'a', 0x20, 9], 4),
            (&[0, b'a'], 2),
            (&[0, b'a', 0x20, 0], 3),
            (&[0, b'a', 0xe0], 9),
        ] {
            assert_eq!(unpack(bytes, size), None, "{bytes:?}");
        }
    }
}
