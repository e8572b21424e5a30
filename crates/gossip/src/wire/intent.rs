//! Intents: who means to be a member, and who means to leave.

use super::serf::{lamport, name};
use super::{Reader, WireError, Writer, serf_type};

/// `node` joined at `ltime`; newer than any leave it had announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinIntent {
    /// Lamport time of membership.
    pub ltime: u64,
    /// Who joined.
    pub node: String,
}

/// `node` means to leave, or is made to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveIntent {
    /// Lamport time of membership.
    pub ltime: u64,
    /// Who leaves.
    pub node: String,
    /// Whether it shall be forgotten at once.
    pub prune: bool,
}

impl JoinIntent {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::JOIN);
        writer.map(2);
        writer.uint_field("LTime", self.ltime);
        writer.raw_field("Node", self.node.as_bytes());
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let LeaveIntent { ltime, node, .. } = LeaveIntent::decode(body)?;
        Ok(Self { ltime, node })
    }
}

impl LeaveIntent {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::LEAVE);
        writer.map(3);
        writer.uint_field("LTime", self.ltime);
        writer.raw_field("Node", self.node.as_bytes());
        writer.bool_field("Prune", self.prune);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut leave = Self { ltime: 0, node: String::new(), prune: false };
        Reader::new(body).fields(|field, reader| {
            match field {
                b"LTime" => leave.ltime = lamport(reader)?,
                b"Node" => leave.node = name(reader)?,
                b"Prune" => leave.prune = reader.bool()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(leave)
    }
}
