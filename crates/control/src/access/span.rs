//! A range of keys as etcd writes it.

use std::fmt;

/// `end` empty: the one key `start`; `end` = `"\0"`: every key from `start` on; else `start <= key < end`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span<'a> {
    start: &'a [u8],
    end: &'a [u8],
}

impl<'a> Span<'a> {
    /// The range that these two fields of a request mean.
    pub fn new(start: &'a [u8], end: &'a [u8]) -> Span<'a> {
        Span { start, end }
    }

    /// One key.
    pub fn key(key: &'a [u8]) -> Span<'a> {
        Span { start: key, end: b"" }
    }

    /// Whether every key of it begins with `prefix`.
    pub fn is_within(&self, prefix: &[u8]) -> bool {
        if prefix.is_empty() {
            return true;
        }
        if self.end.is_empty() {
            return self.start.starts_with(prefix);
        }
        self.start >= prefix && self.end != b"\0" && !beyond(self.end, prefix)
    }

    /// Whether a key of it could begin with `prefix`.
    pub fn meets(&self, prefix: &[u8]) -> bool {
        if self.end.is_empty() {
            return self.start.starts_with(prefix);
        }
        let begins_before_its_end = self.start < prefix || self.start.starts_with(prefix);
        begins_before_its_end && (self.end == b"\0" || self.end > prefix)
    }
}

/// Whether a range that ends before `end` reaches beyond the keys that begin with `prefix`: `end` is above the least
/// key that is above all of those.
fn beyond(end: &[u8], prefix: &[u8]) -> bool {
    let Some(last) = prefix.iter().rposition(|&byte| byte != 0xff) else { return false };
    let after = prefix[..last].iter().copied().chain([prefix[last] + 1]);
    end.iter().copied().gt(after)
}

impl fmt::Display for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Longest part of a key that is shown.
        const SHOWN: usize = 128;
        let show = |key: &[u8]| key[..key.len().min(SHOWN)].escape_ascii().to_string();
        match self.end {
            b"" => write!(f, "the key {}", show(self.start)),
            b"\0" => write!(
                f,
                "the keys from {} on",
                if self.start == b"\0" { "the first".into() } else { show(self.start) }
            ),
            end => write!(f, "the keys from {} up to {}", show(self.start), show(end)),
        }
    }
}

impl fmt::Debug for Span<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Within and beside, at the edges, for one key, for intervals and for those without an end.
    #[test]
    fn edges() {
        for (start, end, prefix, within, meets) in [
            (&b"a/x"[..], &b""[..], &b"a/"[..], true, true),
            (b"a", b"", b"a/", false, false),
            (b"a0", b"", b"a/", false, false),
            (b"a/", b"a0", b"a/", true, true),
            (b"a/b", b"a/c", b"a/", true, true),
            (b"a/", b"a0\0", b"a/", false, true),
            (b"a", b"a0", b"a/", false, true),
            (b"a", b"a/", b"a/", false, false),
            (b"a", b"a/\0", b"a/", false, true),
            (b"a0", b"b", b"a/", false, false),
            (b"\0", b"\0", b"a/", false, true),
            (b"a/z", b"\0", b"a/", false, true),
            (b"b", b"\0", b"a/", false, false),
            (b"a/b", b"b", b"a/", false, true),
            (b"anything", b"\0", b"", true, true),
            (b"\xff\xffa", b"\xff\xffb", b"\xff\xff", true, true),
            (b"\xff\xffa", b"\0", b"\xff\xff", false, true),
            (b"a\xff1", b"a\xff2", b"a\xff", true, true),
            (b"a\xff1", b"b", b"a\xff", true, true),
            (b"a\xff1", b"b\0", b"a\xff", false, true),
        ] {
            let span = Span::new(start, end);
            assert_eq!(
                (span.is_within(prefix), span.meets(prefix)),
                (within, meets),
                "{span} {}",
                prefix.escape_ascii()
            );
        }
    }
}
