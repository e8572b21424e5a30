//! Several messages in one: a count byte, a 16-bit length for each, then the messages.

use super::{COMPOUND_PART_BYTES, WireError, Writer, swim_type};
use crate::limits::PACKET_BYTES_MAX;

/// Most messages in one: a byte counts them.
const MESSAGES_MAX: usize = 255;

/// Messages that are written one after the other and then joined, so that none is memory of its own.
#[derive(Debug)]
pub(crate) struct Bundle {
    writer: Writer,
    /// Where each ends.
    ends: Vec<usize>,
}

impl Bundle {
    /// One with room for a datagram.
    pub(crate) fn new() -> Self {
        Self { writer: Writer::with_capacity(PACKET_BYTES_MAX), ends: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.ends.len() >= MESSAGES_MAX
    }

    /// Adds a message, type byte included.
    pub(crate) fn push(&mut self, message: &[u8]) {
        self.write(|writer| writer.plain(message));
    }

    /// Adds what `write` writes: one message, type byte included.
    pub(crate) fn write(&mut self, write: impl FnOnce(&mut Writer)) {
        write(&mut self.writer);
        self.ends.push(self.writer.len());
    }

    /// The one message there is, or all in a compound message.
    pub(crate) fn join(self) -> Vec<u8> {
        let messages = self.writer.finish();
        if self.ends.len() == 1 {
            return messages;
        }
        let mut bytes = Vec::with_capacity(2 + self.ends.len() * COMPOUND_PART_BYTES + messages.len());
        bytes.extend([swim_type::COMPOUND, self.ends.len() as u8]);
        let mut start = 0;
        for end in self.ends {
            bytes.extend_from_slice(&((end - start) as u16).to_be_bytes());
            start = end;
        }
        bytes.extend_from_slice(&messages);
        bytes
    }
}

/// Joins messages into one compound message, type byte included.
///
/// At most 255 messages of at most 65,535 bytes: the caller fills a datagram, which holds far less.
pub fn join_compound(messages: &[Vec<u8>]) -> Vec<u8> {
    debug_assert!(messages.len() <= MESSAGES_MAX && messages.iter().all(|message| message.len() <= 0xffff));
    let mut bytes = Vec::with_capacity(2 + messages.iter().map(|message| message.len() + 2).sum::<usize>());
    bytes.extend([swim_type::COMPOUND, messages.len() as u8]);
    for message in messages {
        bytes.extend_from_slice(&(message.len() as u16).to_be_bytes());
    }
    for message in messages {
        bytes.extend_from_slice(message);
    }
    bytes
}

/// Splits the body of a compound message (without its type byte). What is cut off at the end is left out,
/// as memberlist does: the messages before it are whole.
pub fn split_compound(body: &[u8]) -> Result<Vec<&[u8]>, WireError> {
    let (&count, rest) = body.split_first().ok_or(WireError::Truncated)?;
    let (lengths, mut rest) = rest.split_at_checked(2 * usize::from(count)).ok_or(WireError::Truncated)?;
    let mut parts = Vec::with_capacity(usize::from(count));
    for length in lengths.chunks_exact(2) {
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let Some((part, after)) = rest.split_at_checked(length) else {
            break;
        };
        parts.push(part);
        rest = after;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that what is joined splits into the same messages, and that a cut-off tail costs only itself.
    #[test]
    fn joined_messages_split() {
        let messages = vec![vec![1, 2, 3], vec![], vec![9; 300]];
        let bytes = join_compound(&messages);
        assert_eq!(split_compound(&bytes[1..]).unwrap(), messages);
        assert_eq!(split_compound(&bytes[1..bytes.len() - 1]).unwrap(), &messages[..2]);
        let mut bundle = Bundle::new();
        messages.iter().for_each(|message| bundle.push(message));
        assert_eq!(bundle.join(), bytes);
        assert_eq!(split_compound(&[]), Err(WireError::Truncated));
        assert_eq!(split_compound(&[2, 0, 1]), Err(WireError::Truncated));
    }
}
