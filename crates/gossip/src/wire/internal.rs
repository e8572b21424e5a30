//! Payloads of the queries that agents answer themselves: name conflicts and keys.

use std::net::SocketAddr;

use super::{Reader, Tags, WireError, Writer, address_bytes, address_from_bytes, serf_type};
use crate::limits::USER_EVENT_BYTES_MAX;

/// A member as the answer to a conflict query names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictMember {
    /// Its name.
    pub name: String,
    /// Where the answerer thinks it is.
    pub address: SocketAddr,
    /// Its tags.
    pub tags: Tags,
    /// Serf's status number: 0 none, 1 alive, 2 leaving, 3 left, 4 failed.
    pub status: u8,
    /// Six protocol versions, as in [`super::Alive`].
    pub versions: [u8; 6],
}

impl ConflictMember {
    const VERSION_FIELDS: [&'static str; 6] =
        ["ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur"];

    /// The message, type byte included; `None` is "I know no such member".
    pub fn encode(member: Option<&Self>) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::CONFLICT_RESPONSE);
        let Some(member) = member else {
            writer.nil();
            return writer.finish();
        };
        writer.map(5 + Self::VERSION_FIELDS.len());
        writer.raw_field("Name", member.name.as_bytes());
        writer.raw_field("Addr", &address_bytes(member.address.ip()));
        writer.uint_field("Port", u64::from(member.address.port()));
        writer.text("Tags");
        writer.map(member.tags.len());
        for (tag, value) in &member.tags {
            writer.raw_field(tag, value.as_bytes());
        }
        writer.uint_field("Status", u64::from(member.status));
        for (field, version) in Self::VERSION_FIELDS.iter().zip(member.versions) {
            writer.uint_field(field, u64::from(version));
        }
        writer.finish()
    }

    /// The address that the message (type byte included) names, if any: all that the vote counts.
    pub fn decode_address(message: &[u8]) -> Result<Option<SocketAddr>, WireError> {
        let (&kind, body) = message.split_first().ok_or(WireError::Truncated)?;
        if kind != serf_type::CONFLICT_RESPONSE {
            return Err(WireError::UnknownType(kind));
        }
        let (mut addr, mut port): (&[u8], u16) = (&[], 0);
        Reader::new(body).fields(|field, reader| {
            match field {
                b"Addr" => addr = reader.raw()?,
                b"Port" => port = reader.u16("Port")?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        if addr.is_empty() {
            return Ok(None);
        }
        Ok(Some(SocketAddr::new(address_from_bytes(addr)?, port)))
    }
}

/// The payload of a key query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRequest {
    /// The key; empty when keys are listed.
    pub key: Vec<u8>,
}

impl KeyRequest {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::KEY_REQUEST);
        writer.map(1);
        writer.raw_field("Key", &self.key);
        writer.finish()
    }

    /// The message, type byte included.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        const KEY_BYTES_MAX: usize = 256;
        let (_, body) = message.split_first().ok_or(WireError::Truncated)?;
        let mut key = Vec::new();
        Reader::new(body).fields(|field, reader| {
            if field != b"Key" {
                return Ok(false);
            }
            key = reader.bytes("key", KEY_BYTES_MAX)?;
            Ok(true)
        })?;
        Ok(Self { key })
    }
}

/// The answer to a key query.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyReply {
    /// Whether it was done.
    pub result: bool,
    /// What went wrong, or a remark.
    pub message: String,
    /// The ring in base64, when keys are listed.
    pub keys: Vec<String>,
    /// The primary key in base64, when keys are listed.
    pub primary: String,
}

impl KeyReply {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::KEY_RESPONSE);
        writer.map(4);
        writer.bool_field("Result", self.result);
        writer.raw_field("Message", self.message.as_bytes());
        writer.text("Keys");
        writer.array(self.keys.len());
        self.keys.iter().for_each(|key| writer.text(key));
        writer.raw_field("PrimaryKey", self.primary.as_bytes());
        writer.finish()
    }

    /// The message, type byte included.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        const KEY_TEXT_MAX: usize = 256;
        let (&kind, body) = message.split_first().ok_or(WireError::Truncated)?;
        if kind != serf_type::KEY_RESPONSE {
            return Err(WireError::UnknownType(kind));
        }
        let mut reply = Self::default();
        Reader::new(body).fields(|field, reader| {
            match field {
                b"Result" => reply.result = reader.bool()?,
                b"Message" => reply.message = reader.text("message", USER_EVENT_BYTES_MAX)?,
                b"Keys" => {
                    reply.keys =
                        (0..reader.array()?).map(|_| reader.text("key", KEY_TEXT_MAX)).collect::<Result<_, _>>()?;
                }
                b"PrimaryKey" => reply.primary = reader.text("key", KEY_TEXT_MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(reply)
    }
}
