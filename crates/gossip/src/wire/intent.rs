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

/// Either intent within the bytes that it came in, or is written to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IntentRef<'a> {
    pub(crate) ltime: u64,
    pub(crate) node: &'a str,
    pub(crate) prune: bool,
}

impl<'a> IntentRef<'a> {
    /// Writes a join, type byte included.
    pub(crate) fn write_join(self, writer: &mut Writer) {
        writer.plain(&[serf_type::JOIN]);
        writer.map(2);
        writer.uint_field("LTime", self.ltime);
        writer.raw_field("Node", self.node.as_bytes());
    }

    /// Writes a leave, type byte included.
    pub(crate) fn write_leave(self, writer: &mut Writer) {
        writer.plain(&[serf_type::LEAVE]);
        writer.map(3);
        writer.uint_field("LTime", self.ltime);
        writer.raw_field("Node", self.node.as_bytes());
        writer.bool_field("Prune", self.prune);
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut intent = Self { ltime: 0, node: "", prune: false };
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"LTime" => intent.ltime = lamport(&mut reader)?,
                b"Node" => intent.node = name(&mut reader)?,
                b"Prune" => intent.prune = reader.bool()?,
                _ => reader.skip()?,
            }
        }
        Ok(intent)
    }
}

impl JoinIntent {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        IntentRef { ltime: self.ltime, node: &self.node, prune: false }.write_join(&mut writer);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let IntentRef { ltime, node, .. } = IntentRef::decode(body)?;
        Ok(Self { ltime, node: node.to_owned() })
    }
}

impl LeaveIntent {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        IntentRef { ltime: self.ltime, node: &self.node, prune: self.prune }.write_leave(&mut writer);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let IntentRef { ltime, node, prune } = IntentRef::decode(body)?;
        Ok(Self { ltime, node: node.to_owned(), prune })
    }
}
