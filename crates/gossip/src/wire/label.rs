//! Labels: `244`, one length byte, the label, then the message. A cheap wall between clusters that share
//! ports; with encryption the label is authenticated too.

use super::{WireError, swim_type};
use crate::limits::LABEL_BYTES_MAX;

/// Bytes that a label adds in front of a message.
pub(super) fn label_overhead(label: &str) -> usize {
    if label.is_empty() { 0 } else { 2 + label.len() }
}

/// The header for `label`, or nothing for the empty label. Longer than 255 bytes is refused by the
/// configuration.
pub(super) fn label_header(label: &str) -> Vec<u8> {
    if label.is_empty() {
        return Vec::new();
    }
    debug_assert!(label.len() <= LABEL_BYTES_MAX);
    let mut bytes = vec![swim_type::LABEL, label.len() as u8];
    bytes.extend_from_slice(label.as_bytes());
    bytes
}

/// Takes the label off, which has to be `label`; gives the bytes after it.
pub(super) fn strip_label<'a>(bytes: &'a [u8], label: &str) -> Result<&'a [u8], WireError> {
    if bytes.first() != Some(&swim_type::LABEL) {
        return if label.is_empty() { Ok(bytes) } else { Err(WireError::Label) };
    }
    let length = usize::from(*bytes.get(1).ok_or(WireError::Truncated)?);
    let (found, rest) = bytes[2..].split_at_checked(length).ok_or(WireError::Truncated)?;
    if found.is_empty() || found != label.as_bytes() {
        return Err(WireError::Label);
    }
    Ok(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a label is accepted by its own cluster only, and a missing or empty one is not taken for it.
    #[test]
    fn only_our_label_passes() {
        let mut bytes = label_header("blue");
        bytes.push(7);
        assert_eq!(strip_label(&bytes, "blue"), Ok(&[7][..]));
        assert_eq!(strip_label(&bytes, "red"), Err(WireError::Label));
        assert_eq!(strip_label(&bytes, ""), Err(WireError::Label));
        assert_eq!(strip_label(&[7], "blue"), Err(WireError::Label));
        assert_eq!(strip_label(&[7], ""), Ok(&[7][..]));
        assert_eq!(strip_label(&[244, 0, 7], ""), Err(WireError::Label));
        assert_eq!(strip_label(&[244, 9, 7], ""), Err(WireError::Truncated));
        assert_eq!(strip_label(&[244], ""), Err(WireError::Truncated));
    }
}
