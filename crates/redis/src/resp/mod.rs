//! The wire format of Redis, versions 2 and 3.
//!
//! Guarantees: a value is given back only when it is whole; bytes after it stay in the buffer; whatever a peer sends,
//! memory stays within [`Limits`] and nothing panics. Assumes the caller stops after an error, because the position in
//! the stream is then unknown. Source: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

mod command;
mod decode;

pub use command::Command;
pub use decode::{Decoder, Limits, ProtocolError};

use bytes::Bytes;

/// What a server answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `+OK`: short text.
    Simple(Bytes),
    /// `-ERR …` or the long form `!`: the text without the sign.
    Error(Bytes),
    /// `:1`.
    Int(i64),
    /// `$3`: any bytes; also a verbatim text of version 3, without its three-letter kind.
    Bulk(Bytes),
    /// `$-1`, `*-1`, `_`.
    Null,
    /// `*2`.
    Array(Vec<Value>),
    /// `%1`: pairs in the order sent.
    Map(Vec<(Value, Value)>),
    /// `~2`.
    Set(Vec<Value>),
    /// `,1.5`.
    Double(f64),
    /// `#t`.
    Bool(bool),
    /// `(123…`: the digits.
    BigNumber(Bytes),
    /// `>2`: not an answer to a command, but a message of its own (pub/sub, invalidation).
    Push(Vec<Value>),
}

impl Value {
    /// The bytes of a text of any kind.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Simple(bytes) | Self::Bulk(bytes) | Self::Error(bytes) | Self::BigNumber(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The text of a text of any kind, where it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// A number, also one written as text.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            _ => self.text().and_then(|text| text.parse().ok()),
        }
    }

    /// The elements of an array, set or push.
    pub fn array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) | Self::Set(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is the plain `OK`.
    pub fn is_ok(&self) -> bool {
        matches!(self, Self::Simple(text) if text.as_ref() == b"OK")
    }

    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Simple(_) => "simple text",
            Self::Error(_) => "an error",
            Self::Int(_) => "a number",
            Self::Bulk(_) => "bytes",
            Self::Null => "nothing",
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Set(_) => "a set",
            Self::Double(_) => "a floating number",
            Self::Bool(_) => "a truth value",
            Self::BigNumber(_) => "a big number",
            Self::Push(_) => "a push message",
        }
    }
}
