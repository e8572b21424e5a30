//! Several messages in one: a count byte, a 16-bit length for each, then the messages.

use super::{WireError, swim_type};

/// Joins messages into one compound message, type byte included.
///
/// At most 255 messages of at most 65,535 bytes: the caller fills a datagram, which holds far less.
pub fn join_compound(messages: &[Vec<u8>]) -> Vec<u8> {
    debug_assert!(messages.len() <= 255 && messages.iter().all(|message| message.len() <= 0xffff));
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
        assert_eq!(split_compound(&[]), Err(WireError::Truncated));
        assert_eq!(split_compound(&[2, 0, 1]), Err(WireError::Truncated));
    }
}
