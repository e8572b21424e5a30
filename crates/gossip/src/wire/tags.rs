//! Tags of a node: the byte 255, then a map of text to text. Without that byte the whole is a role, as
//! Serf's first protocol versions had it.

use std::collections::BTreeMap;

use super::{Reader, WireError, Writer};

/// First byte of encoded tags. Source: Serf `tagMagicByte`.
const MAGIC: u8 = 255;

/// Names and values.
pub type Tags = BTreeMap<String, String>;

/// Tags as they travel in a node's metadata.
pub fn encode_tags(tags: &Tags) -> Vec<u8> {
    let mut writer = Writer::message(MAGIC);
    writer.map(tags.len());
    for (name, value) in tags {
        writer.text(name);
        writer.text(value);
    }
    writer.finish()
}

/// Tags from a node's metadata. Bytes that are not UTF-8 are replaced: tags are for people and scripts.
pub fn decode_tags(meta: &[u8]) -> Result<Tags, WireError> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match meta.split_first() {
        Some((&MAGIC, body)) => {
            let mut reader = Reader::new(body);
            let mut tags = Tags::new();
            for _ in 0..reader.map()? {
                let name = text(reader.raw()?);
                tags.insert(name, text(reader.raw()?));
            }
            Ok(tags)
        }
        _ => Ok(Tags::from([("role".to_owned(), text(meta))])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows both forms of tags, and that damage is an error and not a panic.
    #[test]
    fn tags_round_trip() {
        let tags = Tags::from([("role".to_owned(), "web".to_owned()), ("zone".to_owned(), "é".repeat(40))]);
        assert_eq!(decode_tags(&encode_tags(&tags)), Ok(tags));
        assert_eq!(decode_tags(b"db"), Ok(Tags::from([("role".to_owned(), "db".to_owned())])));
        assert_eq!(decode_tags(&[255, 0x81, 0xa1]), Err(WireError::Truncated));
    }
}
