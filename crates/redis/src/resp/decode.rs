//! A decoder that is fed as bytes come in.

use bytes::{Buf, Bytes, BytesMut};

use super::Value;

/// What a peer may make us hold at most, for one top-level value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one bulk. Default 512 MiB, which is the default of Redis' own `proto-max-bulk-len`.
    pub bulk_bytes_max: usize,
    /// Bytes of all bulks and lines together. Default 1 GiB.
    pub total_bytes_max: usize,
    /// Elements of all aggregates together. Default 16 Mi.
    pub elements_max: usize,
    /// Aggregates inside each other. Default 32; Redis' own answers stay below 8.
    pub depth_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bulk_bytes_max: 512 << 20, total_bytes_max: 1 << 30, elements_max: 16 << 20, depth_max: 32 }
    }
}

/// Bytes of one line without its end. Errors of scripts are the longest that Redis sends.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Elements and bytes that room is set aside for before they have come: a length alone costs no more.
const ELEMENTS_EAGER_MAX: usize = 256;
const BYTES_EAGER_MAX: usize = 1 << 20;

/// A peer that does not speak the protocol, or more of it than [`Limits`] allow. The connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The first byte names no type.
    #[error("byte 0x{0:02x} starts no value")]
    UnknownType(u8),
    /// A length, number or truth value that is none.
    #[error("malformed {0}")]
    Malformed(&'static str),
    /// A line without an end.
    #[error("a line is longer than {LINE_BYTES_MAX} bytes")]
    LineTooLong,
    /// More than [`Limits`] allow.
    #[error("{what} above the limit of {limit}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit, in the unit of its field in [`Limits`].
        limit: usize,
    },
}

/// Decodes one value after another from a buffer that grows as bytes come in. Work done on half an aggregate is kept, so
/// the cost is linear in the bytes however they are cut.
#[derive(Debug, Default)]
pub struct Decoder {
    limits: Limits,
    stack: Vec<Open>,
    elements: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    kind: Kind,
    left: usize,
    items: Vec<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Array,
    Set,
    Push,
    Map,
    Attribute,
}

enum Step {
    Incomplete,
    Opened,
    Done(Value),
}

impl Decoder {
    /// A decoder with other limits than the default ones.
    pub fn new(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The next value, taken off the front of `buffer`; `None` when more bytes are needed. Attributes of version 3 are
    /// read and dropped.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Value>, ProtocolError> {
        loop {
            let mut value = match self.step(buffer)? {
                Step::Incomplete => return Ok(None),
                Step::Opened => continue,
                Step::Done(value) => value,
            };
            loop {
                let Some(open) = self.stack.last_mut() else {
                    self.elements = 0;
                    self.bytes = 0;
                    return Ok(Some(value));
                };
                open.items.push(value);
                open.left -= 1;
                if open.left > 0 {
                    break;
                }
                match self.stack.pop().and_then(Open::close) {
                    Some(whole) => value = whole,
                    None => break,
                }
            }
        }
    }

    /// Reads one scalar, or opens one aggregate.
    fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, ProtocolError> {
        let Some(&kind) = buffer.first() else {
            return Ok(Step::Incomplete);
        };
        if !b"+-:$*_,#!=(%~>|".contains(&kind) {
            return Err(ProtocolError::UnknownType(kind));
        }
        let Some(end) = line_end(&buffer[1..])? else {
            return Ok(Step::Incomplete);
        };
        if matches!(kind, b'$' | b'!' | b'=') {
            return self.bulk(kind, buffer, end);
        }
        let line = take_line(buffer, end);
        self.charge_bytes(line.len())?;
        let value = match kind {
            b'+' => Value::Simple(line),
            b'-' => Value::Error(line),
            b':' => Value::Int(number(&line).ok_or(ProtocolError::Malformed("number"))?),
            b'_' if line.is_empty() => Value::Null,
            b',' => Value::Double(double(&line)?),
            b'#' => match line.as_ref() {
                b"t" => Value::Bool(true),
                b"f" => Value::Bool(false),
                _ => return Err(ProtocolError::Malformed("truth value")),
            },
            b'(' => Value::BigNumber(line),
            b'*' => return self.open(Kind::Array, &line),
            b'~' => return self.open(Kind::Set, &line),
            b'>' => return self.open(Kind::Push, &line),
            b'%' => return self.open(Kind::Map, &line),
            b'|' => return self.open(Kind::Attribute, &line),
            _ => return Err(ProtocolError::Malformed("null")),
        };
        Ok(Step::Done(value))
    }

    fn bulk(&mut self, kind: u8, buffer: &mut BytesMut, end: usize) -> Result<Step, ProtocolError> {
        let length = number(&buffer[1..1 + end]).ok_or(ProtocolError::Malformed("length"))?;
        if length == -1 && kind == b'$' {
            take_line(buffer, end);
            return Ok(Step::Done(Value::Null));
        }
        let length = usize::try_from(length).map_err(|_| ProtocolError::Malformed("length"))?;
        let limit = self.limits.bulk_bytes_max;
        if length > limit {
            return Err(ProtocolError::TooLarge { what: "bytes of one value", limit });
        }
        let whole = 1 + end + 2 + length + 2;
        if buffer.len() < whole {
            buffer.reserve((whole - buffer.len()).min(BYTES_EAGER_MAX));
            return Ok(Step::Incomplete);
        }
        take_line(buffer, end);
        let mut bytes = buffer.split_to(length).freeze();
        if &buffer[..2] != b"\r\n" {
            return Err(ProtocolError::Malformed("end of a bulk"));
        }
        buffer.advance(2);
        self.charge_bytes(length)?;
        Ok(Step::Done(match kind {
            b'!' => Value::Error(bytes),
            b'=' => {
                if bytes.len() < 4 || bytes[3] != b':' {
                    return Err(ProtocolError::Malformed("verbatim text"));
                }
                bytes.advance(4);
                Value::Bulk(bytes)
            }
            _ => Value::Bulk(bytes),
        }))
    }

    fn open(&mut self, kind: Kind, line: &[u8]) -> Result<Step, ProtocolError> {
        let count = number(line).ok_or(ProtocolError::Malformed("count"))?;
        if count == -1 && matches!(kind, Kind::Array) {
            return Ok(Step::Done(Value::Null));
        }
        let count = usize::try_from(count).map_err(|_| ProtocolError::Malformed("count"))?;
        let per = if matches!(kind, Kind::Map | Kind::Attribute) { 2 } else { 1 };
        let limit = self.limits.elements_max;
        let left = count
            .checked_mul(per)
            .filter(|left| *left <= limit - self.elements)
            .ok_or(ProtocolError::TooLarge { what: "elements", limit })?;
        self.elements += left;
        let open = Open { kind, left, items: Vec::with_capacity(left.min(ELEMENTS_EAGER_MAX)) };
        if left == 0 {
            return Ok(open.close().map_or(Step::Opened, Step::Done));
        }
        let limit = self.limits.depth_max;
        if self.stack.len() >= limit {
            return Err(ProtocolError::TooLarge { what: "nesting", limit });
        }
        self.stack.push(open);
        Ok(Step::Opened)
    }

    fn charge_bytes(&mut self, bytes: usize) -> Result<(), ProtocolError> {
        self.bytes += bytes;
        let limit = self.limits.total_bytes_max;
        if self.bytes > limit { Err(ProtocolError::TooLarge { what: "bytes of one answer", limit }) } else { Ok(()) }
    }
}

impl Open {
    /// The whole value; `None` for an attribute, which belongs to the value after it and is dropped.
    fn close(self) -> Option<Value> {
        Some(match self.kind {
            Kind::Array => Value::Array(self.items),
            Kind::Set => Value::Set(self.items),
            Kind::Push => Value::Push(self.items),
            Kind::Map => {
                let mut items = self.items.into_iter();
                let mut pairs = Vec::with_capacity(items.len() / 2);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Value::Map(pairs)
            }
            Kind::Attribute => return None,
        })
    }
}

/// Where the line ends, counted from its start; `None` when its end has not come.
fn line_end(bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
    let seen = &bytes[..bytes.len().min(LINE_BYTES_MAX + 1)];
    match seen.iter().position(|byte| *byte == b'\r') {
        Some(end) => match bytes.get(end + 1) {
            Some(b'\n') => Ok(Some(end)),
            Some(_) => Err(ProtocolError::Malformed("end of a line")),
            None => Ok(None),
        },
        None if seen.len() > LINE_BYTES_MAX => Err(ProtocolError::LineTooLong),
        None => Ok(None),
    }
}

fn take_line(buffer: &mut BytesMut, end: usize) -> Bytes {
    buffer.advance(1);
    let line = buffer.split_to(end).freeze();
    buffer.advance(2);
    line
}

fn number(line: &[u8]) -> Option<i64> {
    std::str::from_utf8(line).ok()?.parse().ok()
}

fn double(line: &[u8]) -> Result<f64, ProtocolError> {
    std::str::from_utf8(line).ok().and_then(|text| text.parse().ok()).ok_or(ProtocolError::Malformed("floating number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8]) -> Result<Option<Value>, ProtocolError> {
        Decoder::default().decode(&mut BytesMut::from(bytes))
    }

    fn bulk(text: &'static str) -> Value {
        Value::Bulk(Bytes::from_static(text.as_bytes()))
    }

    /// Every type of both versions, whole, is read as what it is.
    #[test]
    fn every_type() {
        for (bytes, value) in [
            ("+OK\r\n", Value::Simple(Bytes::from_static(b"OK"))),
            ("-ERR no\r\n", Value::Error(Bytes::from_static(b"ERR no"))),
            (":-42\r\n", Value::Int(-42)),
            ("$3\r\na\r\n\r\n", bulk("a\r\n")),
            ("$0\r\n\r\n", bulk("")),
            ("$-1\r\n", Value::Null),
            ("*-1\r\n", Value::Null),
            ("_\r\n", Value::Null),
            ("*0\r\n", Value::Array(vec![])),
            ("*2\r\n:1\r\n*1\r\n$1\r\nx\r\n", Value::Array(vec![Value::Int(1), Value::Array(vec![bulk("x")])])),
            ("%1\r\n+k\r\n:1\r\n", Value::Map(vec![(Value::Simple(Bytes::from_static(b"k")), Value::Int(1))])),
            ("~1\r\n:1\r\n", Value::Set(vec![Value::Int(1)])),
            (">1\r\n:1\r\n", Value::Push(vec![Value::Int(1)])),
            (",1.5\r\n", Value::Double(1.5)),
            (",inf\r\n", Value::Double(f64::INFINITY)),
            ("#t\r\n", Value::Bool(true)),
            ("!5\r\nERR x\r\n", Value::Error(Bytes::from_static(b"ERR x"))),
            ("=5\r\ntxt:a\r\n", bulk("a")),
            ("(123\r\n", Value::BigNumber(Bytes::from_static(b"123"))),
            ("|1\r\n+ttl\r\n:1\r\n:7\r\n", Value::Int(7)),
            ("*1\r\n|1\r\n+ttl\r\n:1\r\n:7\r\n", Value::Array(vec![Value::Int(7)])),
        ] {
            assert_eq!(whole(bytes.as_bytes()), Ok(Some(value)), "{bytes:?}");
        }
    }

    /// What is not the protocol is named and refused.
    #[test]
    fn refusals() {
        for (bytes, error) in [
            ("hello\r\n", ProtocolError::UnknownType(b'h')),
            (":x\r\n", ProtocolError::Malformed("number")),
            ("$-2\r\n", ProtocolError::Malformed("length")),
            ("$1\r\nabc", ProtocolError::Malformed("end of a bulk")),
            ("*-2\r\n", ProtocolError::Malformed("count")),
            ("+a\rb\r\n", ProtocolError::Malformed("end of a line")),
            ("#x\r\n", ProtocolError::Malformed("truth value")),
            ("_x\r\n", ProtocolError::Malformed("null")),
            ("$536870913\r\n", ProtocolError::TooLarge { what: "bytes of one value", limit: 512 << 20 }),
            ("*999999999\r\n", ProtocolError::TooLarge { what: "elements", limit: 16 << 20 }),
            ("%9223372036854775807\r\n", ProtocolError::TooLarge { what: "elements", limit: 16 << 20 }),
        ] {
            assert_eq!(whole(bytes.as_bytes()), Err(error), "{bytes:?}");
        }
        assert_eq!(whole("*1\r\n".repeat(40).as_bytes()), Err(ProtocolError::TooLarge { what: "nesting", limit: 32 }));
        assert_eq!(whole(&vec![b'+'; LINE_BYTES_MAX + 9]), Err(ProtocolError::LineTooLong));
    }

    /// Limits count over the whole value, not for each part of it.
    #[test]
    fn limits_add_up() {
        let mut decoder = Decoder::new(Limits { total_bytes_max: 3, elements_max: 5, ..Limits::default() });
        let error = decoder.decode(&mut BytesMut::from(&b"*2\r\n$2\r\nab\r\n$2\r\ncd\r\n"[..]));
        assert_eq!(error, Err(ProtocolError::TooLarge { what: "bytes of one answer", limit: 3 }));
        let mut decoder = Decoder::new(Limits { elements_max: 5, ..Limits::default() });
        let error = decoder.decode(&mut BytesMut::from(&b"*2\r\n*3\r\n:1\r\n:1\r\n:1\r\n*1\r\n"[..]));
        assert_eq!(error, Err(ProtocolError::TooLarge { what: "elements", limit: 5 }));
    }

    proptest! {
        /// However a stream is cut, the same values come out, and nothing is left over.
        #[test]
        fn cuts_do_not_matter(sizes in prop::collection::vec(1usize..7, 1..60)) {
            let stream: &[u8] = b"*3\r\n$5\r\nhello\r\n%1\r\n+a\r\n_\r\n:5\r\n$-1\r\n+OK\r\n>2\r\n#f\r\n,0.5\r\n";
            let mut expect = Vec::new();
            let mut all = BytesMut::from(stream);
            let mut decoder = Decoder::default();
            while let Some(value) = decoder.decode(&mut all).unwrap() { expect.push(value) }
            let (mut decoder, mut buffer, mut values, mut rest) = (Decoder::default(), BytesMut::new(), Vec::new(), stream);
            for size in sizes.iter().cycle() {
                let (head, tail) = rest.split_at((*size).min(rest.len()));
                buffer.extend_from_slice(head);
                rest = tail;
                while let Some(value) = decoder.decode(&mut buffer).unwrap() { values.push(value) }
                if rest.is_empty() { break }
            }
            prop_assert_eq!(values, expect);
            prop_assert!(buffer.is_empty());
        }

        /// No bytes at all make the decoder panic.
        #[test]
        fn never_panics(bytes in prop::collection::vec(prop::sample::select(b"*$+-:_%~>|!=,#(0123456789\r\nax".to_vec()), 0..200)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut decoder = Decoder::default();
            while let Ok(Some(_)) = decoder.decode(&mut buffer) {}
        }
    }
}
