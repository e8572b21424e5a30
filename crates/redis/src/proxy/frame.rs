//! Where an answer ends, without taking it apart. Pure.

/// An answer that is none; the connection it came by is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    /// The first byte names no type.
    #[error("byte 0x{0:02x} starts no value")]
    UnknownType(u8),
    /// A length or count that is none.
    #[error("malformed length")]
    Length,
    /// A line with a `\r` in it.
    #[error("malformed end of a line")]
    Line,
    /// Above [`super::Limits::answer_bytes_max`].
    #[error("an answer is longer than {0} bytes")]
    TooLong(usize),
}

/// Elements of one answer; what is behind it is bounded by bytes, this keeps the counter from overflowing.
const ELEMENTS_MAX: u64 = 1 << 40;

/// Finds the end of one answer after another. Work done on half of one is kept.
#[derive(Debug)]
pub(crate) struct Scanner {
    at: usize,
    wanted: u64,
    bytes_max: usize,
}

impl Scanner {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { at: 0, wanted: 1, bytes_max }
    }

    /// The length of the answer at the front of the buffer; `None` when its end has not come. Then the next call gets the
    /// same bytes with more after them.
    pub(crate) fn scan(&mut self, bytes: &[u8]) -> Result<Option<usize>, BadFrame> {
        while self.wanted > 0 {
            let Some(kind) = bytes.get(self.at) else { return Ok(None) };
            if !b"+-:_,#($!=*~>%|".contains(kind) {
                return Err(BadFrame::UnknownType(*kind));
            }
            let end = bytes[self.at..].iter().position(|byte| *byte == b'\r').map(|end| self.at + end);
            let Some((end, after)) = end.and_then(|end| Some((end, bytes.get(end + 1)?))) else {
                return if bytes.len() > self.bytes_max { Err(BadFrame::TooLong(self.bytes_max)) } else { Ok(None) };
            };
            if *after != b'\n' {
                return Err(BadFrame::Line);
            }
            let line = &bytes[self.at + 1..end];
            let next = end + 2;
            match kind {
                b'+' | b'-' | b':' | b'_' | b',' | b'#' | b'(' => {
                    self.at = next;
                    self.wanted -= 1;
                }
                b'$' | b'!' | b'=' => {
                    let whole = match number(line)? {
                        Some(length) => {
                            let length = usize::try_from(length).map_err(|_| BadFrame::Length)?;
                            next.checked_add(length).and_then(|end| end.checked_add(2)).ok_or(BadFrame::Length)?
                        }
                        None => next,
                    };
                    if whole > self.bytes_max {
                        return Err(BadFrame::TooLong(self.bytes_max));
                    }
                    if bytes.len() < whole {
                        return Ok(None);
                    }
                    self.at = whole;
                    self.wanted -= 1;
                }
                b'*' | b'~' | b'>' => self.open(number(line)?.unwrap_or(0), next)?,
                b'%' => self.open(number(line)?.unwrap_or(0).saturating_mul(2), next)?,
                b'|' => {
                    self.open(number(line)?.unwrap_or(0).saturating_mul(2), next)?;
                    self.wanted += 1;
                }
                _ => return Err(BadFrame::UnknownType(*kind)),
            }
        }
        self.wanted = 1;
        Ok(Some(std::mem::take(&mut self.at)))
    }

    fn open(&mut self, elements: u64, next: usize) -> Result<(), BadFrame> {
        self.wanted = self.wanted.saturating_add(elements) - 1;
        if self.wanted > ELEMENTS_MAX {
            return Err(BadFrame::Length);
        }
        self.at = next;
        Ok(())
    }
}

/// A length; `None` for `-1`.
fn number(digits: &[u8]) -> Result<Option<u64>, BadFrame> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 18 {
        return Err(BadFrame::Length);
    }
    digits
        .iter()
        .try_fold(0u64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + u64::from(byte - b'0')))
        .map(Some)
        .ok_or(BadFrame::Length)
}

/// The elements of an array, set, map or push as they stand on the wire: keys and values of a map in turn. `None`: the
/// answer is of another kind, or nothing.
pub(crate) fn elements(frame: &[u8]) -> Option<Vec<&[u8]>> {
    if !matches!(frame.first()?, b'*' | b'~' | b'>' | b'%') {
        return None;
    }
    let mut rest = &frame[frame.iter().position(|byte| *byte == b'\n')? + 1..];
    let mut elements = Vec::new();
    let mut scanner = Scanner::new(usize::MAX);
    while !rest.is_empty() {
        let length = scanner.scan(rest).ok()??;
        let (element, tail) = rest.split_at(length);
        elements.push(element);
        rest = tail;
    }
    Some(elements)
}

/// The number of a `:` answer.
pub(crate) fn int(frame: &[u8]) -> Option<i64> {
    let (b':', digits) = frame.split_first()? else { return None };
    std::str::from_utf8(digits.strip_suffix(b"\r\n")?).ok()?.parse().ok()
}

/// The text of a bulk or simple answer.
pub(crate) fn text(frame: &[u8]) -> Option<&[u8]> {
    match frame.first()? {
        b'+' | b'-' | b':' => frame[1..].strip_suffix(b"\r\n"),
        b'$' | b'!' | b'=' => {
            let start = frame.iter().position(|byte| *byte == b'\n')? + 1;
            let text = frame.get(start..)?.strip_suffix(b"\r\n")?;
            if frame[0] == b'=' { text.get(4..) } else { Some(text) }
        }
        _ => None,
    }
}

/// Whether an answer is "nothing", in any of its forms.
pub(crate) fn is_null(frame: &[u8]) -> bool {
    matches!(frame, b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STREAM: &[u8] = b"*3\r\n$5\r\nhello\r\n%1\r\n+a\r\n_\r\n:5\r\n$-1\r\n+OK\r\n>2\r\n#f\r\n,0.5\r\n|1\r\n+x\r\n:1\r\n*1\r\n*-1\r\n*0\r\n=5\r\ntxt:a\r\n";

    /// Each answer of a stream is as long as the decoder of whole values says.
    #[test]
    fn agrees_with_the_decoder() {
        let (mut scanner, mut rest) = (Scanner::new(1 << 20), STREAM);
        let mut decoder = crate::resp::Decoder::default();
        let mut buffer = bytes::BytesMut::from(STREAM);
        while !rest.is_empty() {
            let length = scanner.scan(rest).unwrap().unwrap();
            rest = &rest[length..];
            assert!(decoder.decode(&mut buffer).unwrap().is_some());
            assert_eq!(buffer.len(), rest.len());
        }
    }

    #[test]
    fn refusals() {
        let scan = |bytes: &[u8]| Scanner::new(100).scan(bytes);
        assert_eq!(scan(b"x\r\n"), Err(BadFrame::UnknownType(b'x')));
        assert_eq!(scan(b"$x\r\n"), Err(BadFrame::Length));
        assert_eq!(scan(b"+a\nb\r\n"), Ok(Some(6)));
        assert_eq!(scan(b"+a\rb\r\n"), Err(BadFrame::Line));
        assert_eq!(scan(b"+a\r"), Ok(None));
        assert_eq!(scan(b"$200\r\n"), Err(BadFrame::TooLong(100)));
        assert_eq!(scan(b"*99999999999999999\r\n"), Err(BadFrame::Length));
        assert_eq!(scan(b"$-1\r\n"), Ok(Some(5)));
    }

    #[test]
    fn parts() {
        assert_eq!(elements(b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n"), Some(vec![&b"$1\r\na\r\n"[..], b"*1\r\n:1\r\n"]));
        assert_eq!(elements(b"+OK\r\n"), None);
        assert_eq!(int(b":-7\r\n"), Some(-7));
        assert_eq!(text(b"$3\r\na\nb\r\n"), Some(&b"a\nb"[..]));
        assert_eq!(text(b"=5\r\ntxt:a\r\n"), Some(&b"a"[..]));
    }

    proptest! {
        /// However a stream is cut, the same ends are found.
        #[test]
        fn cuts_do_not_matter(sizes in prop::collection::vec(1usize..7, 1..40)) {
            let (mut scanner, mut buffer, mut found) = (Scanner::new(1 << 20), Vec::new(), Vec::new());
            let (mut rest, mut cuts) = (STREAM, sizes.iter().cycle());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                buffer.extend_from_slice(head);
                rest = tail;
                while let Some(length) = scanner.scan(&buffer).unwrap() { found.extend(buffer.drain(..length)) }
            }
            prop_assert_eq!(&found[..], STREAM);
        }

        /// No bytes make it panic.
        #[test]
        fn never_panics(bytes in prop::collection::vec(prop::sample::select(b"*$+-:_%~>|!=,#(0129\r\nax".to_vec()), 0..100)) {
            let mut scanner = Scanner::new(1 << 10);
            let mut rest = &bytes[..];
            while let Ok(Some(length)) = scanner.scan(rest) {
                let _ = (elements(&rest[..length]), int(&rest[..length]), text(&rest[..length]));
                rest = &rest[length..];
            }
        }
    }
}
