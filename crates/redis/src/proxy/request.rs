//! Commands as clients send them. Pure.
//!
//! Guarantee: what is called a whole command here is read as the same command by Redis. Its bytes are sent on as they
//! came, on a connection that clients share, so a difference would let one client speak for another. Hence this is
//! stricter than Redis: no sign, no leading zero, `\r\n` after every bulk.

use std::ops::Range;

use bytes::BytesMut;

use crate::resp::Command;

/// What a client may send at most; see [`super::Limits`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RequestLimits {
    /// Bytes of one command.
    pub(crate) bytes_max: usize,
    /// Arguments of one command.
    pub(crate) words_max: usize,
}

/// Before a client has said the password. Source: Redis' own limits for such clients.
pub(crate) const STRANGER: RequestLimits = RequestLimits { bytes_max: 32 << 10, words_max: 10 };

/// Bytes of a command typed in by hand, as in Redis.
const INLINE_BYTES_MAX: usize = 64 << 10;
/// Digits of a length with its end.
const LENGTH_BYTES_MAX: usize = 12;

/// A client that does not speak the protocol; it is told and closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadRequest {
    /// No count of arguments, or too many.
    #[error("invalid multibulk length")]
    Count,
    /// An argument without its sign.
    #[error("expected '$', got '{}'", char::from(*.0).escape_default())]
    Sign(u8),
    /// No length, or too long.
    #[error("invalid bulk length")]
    Length,
    /// An argument that does not end where its length says.
    #[error("a bulk does not end where its length says")]
    End,
    /// More than one command may have.
    #[error("a command is longer than {0} bytes")]
    TooLong(usize),
    /// A quote that is not closed.
    #[error("unbalanced quotes in request")]
    Quotes,
}

/// What stands at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Front {
    /// Half a command, or nothing.
    Half,
    /// A command of so many bytes; [`Parser::words`] are its parts.
    Whole(usize),
    /// So many bytes without a command in them.
    Empty(usize),
    /// So many bytes of a command typed by hand, and what it says.
    Inline(usize, BytesMut),
}

/// Finds the end of a command. Work done on half of one is kept: the cost is linear in the bytes however they are cut.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    words: Vec<Range<usize>>,
    at: usize,
    left: Option<usize>,
}

impl Parser {
    /// The words of the last whole command, as places from its start.
    pub(crate) fn words(&self) -> &[Range<usize>] {
        &self.words
    }

    /// Looks at the front of a buffer. After [`Front::Half`] the next call gets the same bytes with more after them.
    pub(crate) fn parse(&mut self, bytes: &[u8], limits: RequestLimits) -> Result<Front, BadRequest> {
        let mut left = match self.left {
            Some(left) => left,
            None => {
                self.words.clear();
                match bytes.first() {
                    None => return Ok(Front::Half),
                    Some(b'*') => {}
                    Some(_) => return inline(bytes, limits),
                }
                let Some((count, end)) = length(bytes, 1).ok_or(BadRequest::Count)? else { return Ok(Front::Half) };
                let Some(count) = count.filter(|count| *count > 0) else { return Ok(Front::Empty(end)) };
                if count > limits.words_max {
                    return Err(BadRequest::Count);
                }
                self.at = end;
                count
            }
        };
        while left > 0 {
            self.left = Some(left);
            match bytes.get(self.at) {
                None => return Ok(Front::Half),
                Some(b'$') => {}
                Some(sign) => return Err(BadRequest::Sign(*sign)),
            }
            let Some((size, start)) = length(bytes, self.at + 1).ok_or(BadRequest::Length)? else {
                return Ok(Front::Half);
            };
            let size = size.ok_or(BadRequest::Length)?;
            let end = start + size;
            if end > limits.bytes_max {
                return Err(BadRequest::TooLong(limits.bytes_max));
            }
            if bytes.len() < end + 2 {
                return Ok(Front::Half);
            }
            if &bytes[end..end + 2] != b"\r\n" {
                return Err(BadRequest::End);
            }
            self.words.push(start..end);
            self.at = end + 2;
            left -= 1;
        }
        self.left = None;
        Ok(Front::Whole(self.at))
    }
}

/// A length with its end: outer `None`: malformed; inner: not whole yet. The number is `None` where it is `-1`.
fn length(bytes: &[u8], start: usize) -> Option<Option<(Option<usize>, usize)>> {
    let seen = &bytes[start..bytes.len().min(start + LENGTH_BYTES_MAX)];
    let mut number = 0usize;
    for (index, byte) in seen.iter().enumerate() {
        match byte {
            b'0'..=b'9' if !(index == 1 && seen[0] == b'0') => number = number * 10 + usize::from(byte - b'0'),
            b'-' if index == 0 => match seen.get(..4) {
                Some(b"-1\r\n") => return Some(Some((None, start + 4))),
                Some(_) => return None,
                None => return if b"-1\r\n".starts_with(seen) { Some(None) } else { None },
            },
            b'\r' if index > 0 => {
                return match seen.get(index + 1) {
                    Some(b'\n') => Some(Some((Some(number), start + index + 2))),
                    Some(_) => None,
                    None if seen.len() < LENGTH_BYTES_MAX => Some(None),
                    None => None,
                };
            }
            _ => return None,
        }
    }
    if seen.len() < LENGTH_BYTES_MAX { Some(None) } else { None }
}

/// A line typed by hand: words with quotes as in a shell.
fn inline(bytes: &[u8], limits: RequestLimits) -> Result<Front, BadRequest> {
    let seen = &bytes[..bytes.len().min(INLINE_BYTES_MAX)];
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < INLINE_BYTES_MAX {
            Ok(Front::Half)
        } else {
            Err(BadRequest::TooLong(INLINE_BYTES_MAX))
        };
    };
    let line = seen[..end].strip_suffix(b"\r").unwrap_or(&seen[..end]);
    let words = split_line(line).ok_or(BadRequest::Quotes)?;
    if words.len() > limits.words_max {
        return Err(BadRequest::Count);
    }
    if words.is_empty() {
        return Ok(Front::Empty(end + 1));
    }
    Ok(Front::Inline(end + 1, encode(words)))
}

/// The wire form of words.
pub(crate) fn encode<W: AsRef<[u8]>>(words: impl IntoIterator<Item = W>) -> BytesMut {
    let mut out = BytesMut::new();
    Command::of("command", words).encode(&mut out);
    out
}

/// `None`: a quote is not closed, or something other than a space follows it. Source: Redis' `sdssplitargs`.
fn split_line(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [first, tail @ ..] = rest
            && first.is_ascii_whitespace()
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Some(words);
        }
        let mut word = Vec::new();
        while let [first, tail @ ..] = rest
            && !first.is_ascii_whitespace()
        {
            rest = tail;
            if matches!(first, b'"' | b'\'') {
                rest = quoted(*first, rest, &mut word)?;
                break;
            }
            word.push(*first);
        }
        words.push(word);
    }
}

/// Reads up to the closing quote; gives back what follows it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let [first, tail @ ..] = rest else { return None };
        rest = tail;
        match (*first, rest) {
            (byte, []) if byte == quote => return Some(rest),
            (byte, [next, ..]) if byte == quote => return next.is_ascii_whitespace().then_some(rest),
            (b'\\', [b'x', high, low, tail @ ..])
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: &u8| char::from(*byte).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(high) * 16 + digit(low));
                rest = tail;
            }
            (b'\\', [b'\'', tail @ ..]) if quote == b'\'' => {
                word.push(b'\'');
                rest = tail;
            }
            (b'\\', [next, tail @ ..]) if quote == b'"' => {
                word.push(match next {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => *other,
                });
                rest = tail;
            }
            (byte, _) => word.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: RequestLimits = RequestLimits { bytes_max: 1 << 20, words_max: 100 };

    fn front(bytes: &[u8]) -> Result<Front, BadRequest> {
        Parser::default().parse(bytes, LIMITS)
    }

    /// Whole, half and empty commands.
    #[test]
    fn fronts() {
        for (bytes, wanted) in [
            ("", Front::Half),
            ("*", Front::Half),
            ("*1\r", Front::Half),
            ("*1\r\n$4\r\nPING\r", Front::Half),
            ("*1\r\n$4\r\nPING\r\nrest", Front::Whole(14)),
            ("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", Front::Whole(19)),
            ("*0\r\n*1", Front::Empty(4)),
            ("*-1\r\n", Front::Empty(5)),
            ("*-", Front::Half),
            ("\r\nPING", Front::Empty(2)),
            ("PING", Front::Half),
            ("SET a \"b\\x41\\n\"\r\n", Front::Inline(17, encode([&b"SET"[..], b"a", b"bA\n"]))),
            ("ECHO 'it\\'s'\n", Front::Inline(13, encode(["ECHO", "it's"]))),
        ] {
            assert_eq!(front(bytes.as_bytes()), Ok(wanted), "{bytes:?}");
        }
    }

    /// Whatever Redis might read in another way is refused.
    #[test]
    fn refusals() {
        for (bytes, wanted) in [
            ("*01\r\n", BadRequest::Count),
            ("*+1\r\n", BadRequest::Count),
            ("*-2\r\n", BadRequest::Count),
            ("*1\n\n", BadRequest::Count),
            ("*101\r\n", BadRequest::Count),
            ("*99999999999999999999\r\n", BadRequest::Count),
            ("*\r\n", BadRequest::Count),
            ("*1\r\n:1\r\n", BadRequest::Sign(b':')),
            ("*1\r\n$-1\r\n", BadRequest::Length),
            ("*1\r\n$04\r\nPING\r\n", BadRequest::Length),
            ("*1\r\n$4\rxPING\r\n", BadRequest::Length),
            ("*1\r\n$4\r\nPINGxx", BadRequest::End),
            ("*1\r\n$2000000\r\n", BadRequest::TooLong(1 << 20)),
            ("SET a \"b\r\n", BadRequest::Quotes),
            ("SET a \"b\"c\r\n", BadRequest::Quotes),
        ] {
            assert_eq!(front(bytes.as_bytes()), Err(wanted), "{bytes:?}");
        }
        assert_eq!(front(&vec![b'x'; INLINE_BYTES_MAX]), Err(BadRequest::TooLong(INLINE_BYTES_MAX)));
    }

    proptest! {
        /// However commands are cut, the same words come out.
        #[test]
        fn cuts_do_not_matter(
            commands in prop::collection::vec(prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..5), 1..6),
            sizes in prop::collection::vec(1usize..9, 1..40),
        ) {
            let stream: Vec<u8> = commands.iter().flat_map(encode).collect();
            let (mut parser, mut buffer, mut seen) = (Parser::default(), BytesMut::new(), Vec::new());
            let (mut rest, mut cuts) = (&stream[..], sizes.iter().cycle());
            while !rest.is_empty() {
                let (head, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                buffer.extend_from_slice(head);
                rest = tail;
                while let Front::Whole(length) = parser.parse(&buffer, LIMITS).unwrap() {
                    let command = buffer.split_to(length);
                    seen.push(parser.words().iter().map(|word| command[word.clone()].to_vec()).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(seen, commands);
            prop_assert!(buffer.is_empty());
        }

        /// No bytes make the parser panic, and what it calls whole is the canonical form of its words.
        #[test]
        fn canonical_or_refused(bytes in prop::collection::vec(prop::sample::select(b"*$-+0123\r\naX \"'\\".to_vec()), 0..60)) {
            let mut parser = Parser::default();
            if let Ok(Front::Whole(length)) = parser.parse(&bytes, LIMITS) {
                let words: Vec<_> = parser.words().iter().map(|word| &bytes[word.clone()]).collect();
                prop_assert_eq!(&encode(words)[..], &bytes[..length]);
            }
        }
    }
}
