//! What is said of a node that lives, and the exchange of whole states.

use std::net::SocketAddr;

use super::{Reader, WireError, Writer, address_bytes, address_from_bytes, swim_type};
use crate::limits::{META_BYTES_MAX, NAME_BYTES_MAX, PUSH_PULL_NODES_MAX, STREAM_BYTES_MAX};

/// `node` lives at this address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// A higher one replaces what is known.
    pub incarnation: u32,
    /// Who lives.
    pub node: String,
    /// Where.
    pub address: SocketAddr,
    /// Encoded tags.
    pub meta: Vec<u8>,
    /// Protocol versions: least, most, current of memberlist, then the same of Serf. Empty from the oldest peers.
    pub versions: Vec<u8>,
}

impl Alive {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::ALIVE);
        writer.map(6);
        writer.uint_field("Incarnation", u64::from(self.incarnation));
        writer.raw_field("Node", self.node.as_bytes());
        writer.raw_field("Addr", &address_bytes(self.address.ip()));
        writer.uint_field("Port", u64::from(self.address.port()));
        writer.raw_field("Meta", &self.meta);
        writer.raw_field("Vsn", &self.versions);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let (alive, _) = node_fields(&mut Reader::new(body), b"Node")?;
        Ok(alive)
    }
}

/// State of a node on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StateCode {
    /// It answers.
    Alive,
    /// It may be dead.
    Suspect,
    /// It is dead.
    Dead,
    /// It has left.
    Left,
}

impl StateCode {
    fn from_wire(code: u64) -> Result<Self, WireError> {
        [Self::Alive, Self::Suspect, Self::Dead, Self::Left]
            .into_iter()
            .nth(usize::try_from(code).unwrap_or(usize::MAX))
            .ok_or(WireError::Range { field: "State" })
    }
}

/// One node of an exchanged state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Name, address, tags, incarnation and versions.
    pub alive: Alive,
    /// What the sender thinks of it.
    pub state: StateCode,
}

/// The fields that `alive` and a node's state share; they differ in the name's name and the state.
fn node_fields(reader: &mut Reader<'_>, name_field: &[u8]) -> Result<(Alive, u64), WireError> {
    let (mut incarnation, mut node, mut state) = (0, String::new(), 0);
    let (mut addr, mut port): (&[u8], u16) = (&[], 0);
    let (mut meta, mut versions) = (Vec::new(), Vec::new());
    for _ in 0..reader.map()? {
        match reader.raw()? {
            b"Incarnation" => incarnation = reader.u32("Incarnation")?,
            name if name == name_field => node = reader.text("Name", NAME_BYTES_MAX)?,
            b"Addr" => addr = reader.raw()?,
            b"Port" => port = reader.u16("Port")?,
            b"Meta" => meta = reader.bytes("Meta", META_BYTES_MAX)?,
            b"Vsn" => versions = versions_of(reader)?,
            b"State" => state = reader.uint("State")?,
            _ => reader.skip()?,
        }
    }
    let address = SocketAddr::new(address_from_bytes(addr)?, port);
    Ok((Alive { incarnation, node, address, meta, versions }, state))
}

/// Versions are bytes; a codec that takes them for a list of numbers is understood too.
fn versions_of(reader: &mut Reader<'_>) -> Result<Vec<u8>, WireError> {
    const VERSIONS_MAX: usize = 16;
    if !matches!(reader.rest().first(), Some(0x90..=0x9f | 0xdc | 0xdd)) {
        return reader.bytes("Vsn", VERSIONS_MAX);
    }
    let len = reader.array()?;
    if len > VERSIONS_MAX {
        return Err(WireError::Limit { what: "Vsn", limit: VERSIONS_MAX });
    }
    (0..len).map(|_| reader.u8("Vsn")).collect()
}

/// A whole state, exchanged over a stream: the nodes, then Serf's part as bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PushPull {
    /// Whether the sender is joining.
    pub join: bool,
    /// Every node that the sender knows of.
    pub nodes: Vec<NodeState>,
    /// Serf's part: a [`super::SerfState`] message.
    pub user_state: Vec<u8>,
}

impl PushPull {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::PUSH_PULL);
        writer.map(3);
        writer.uint_field("Nodes", self.nodes.len() as u64);
        writer.uint_field("UserStateLen", self.user_state.len() as u64);
        writer.bool_field("Join", self.join);
        for NodeState { alive, state } in &self.nodes {
            writer.map(7);
            writer.raw_field("Name", alive.node.as_bytes());
            writer.raw_field("Addr", &address_bytes(alive.address.ip()));
            writer.uint_field("Port", u64::from(alive.address.port()));
            writer.raw_field("Meta", &alive.meta);
            writer.uint_field("Incarnation", u64::from(alive.incarnation));
            writer.uint_field("State", *state as u64);
            writer.raw_field("Vsn", &alive.versions);
        }
        writer.plain(&self.user_state);
        writer.finish()
    }
}

/// A push/pull message that is read as its bytes come in: each node once.
#[derive(Debug, Default)]
pub(super) struct PushPullProgress {
    header: Option<(usize, usize)>,
    at: usize,
    found: PushPull,
}

impl PushPullProgress {
    /// Reads on in `body` (the bytes so far, from the start). Gives the message when it is whole.
    pub(super) fn advance(&mut self, body: &[u8]) -> Result<PushPull, WireError> {
        let (nodes, user_len) = match self.header {
            Some(header) => header,
            None => {
                let mut reader = Reader::new(body);
                let (mut nodes, mut user_len) = (0, 0);
                for _ in 0..reader.map()? {
                    match reader.raw()? {
                        b"Nodes" => nodes = reader.uint("Nodes")?,
                        b"UserStateLen" => user_len = reader.uint("UserStateLen")?,
                        b"Join" => self.found.join = reader.bool()?,
                        _ => reader.skip()?,
                    }
                }
                let limit = |value: u64, limit: usize, what| match usize::try_from(value) {
                    Ok(value) if value <= limit => Ok(value),
                    _ => Err(WireError::Limit { what, limit }),
                };
                let header = (limit(nodes, PUSH_PULL_NODES_MAX, "nodes")?, limit(user_len, STREAM_BYTES_MAX, "state")?);
                self.at = reader.position();
                self.header = Some(header);
                header
            }
        };
        while self.found.nodes.len() < nodes {
            let mut reader = Reader::new(body.get(self.at..).ok_or(WireError::Truncated)?);
            let (alive, state) = node_fields(&mut reader, b"Name")?;
            self.at += reader.position();
            self.found.nodes.push(NodeState { alive, state: StateCode::from_wire(state)? });
        }
        let user_state = body.get(self.at..self.at + user_len).ok_or(WireError::Truncated)?;
        self.found.user_state = user_state.to_vec();
        Ok(std::mem::take(&mut self.found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alive(name: &str) -> Alive {
        Alive {
            incarnation: 70_000,
            node: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 9], 7946)),
            meta: vec![255, 0x80],
            versions: vec![1, 5, 2, 2, 5, 4],
        }
    }

    /// Shows that a node comes back as it was written.
    #[test]
    fn alive_round_trips() {
        assert_eq!(Alive::decode(&alive("b").encode()[1..]).unwrap(), alive("b"));
    }

    /// Shows that a push/pull that arrives byte by byte is read once whole, and not before.
    #[test]
    fn push_pull_arrives_in_pieces() {
        let nodes = ["a", "b", "c"].map(|name| NodeState { alive: alive(name), state: StateCode::Suspect }).to_vec();
        let sent = PushPull { join: true, nodes, user_state: vec![2, 3, 4] };
        let bytes = sent.encode();
        let mut progress = PushPullProgress::default();
        for end in 1..bytes.len() {
            assert_eq!(progress.advance(&bytes[1..end]), Err(WireError::Truncated), "at {end}");
        }
        assert_eq!(progress.advance(&bytes[1..]).unwrap(), sent);
    }

    /// Shows that a header that promises a million nodes is refused at once.
    #[test]
    fn too_many_nodes_are_refused() {
        let mut writer = Writer::new();
        writer.map(1);
        writer.uint_field("Nodes", 1 << 40);
        let found = PushPullProgress::default().advance(&writer.finish());
        assert_eq!(found, Err(WireError::Limit { what: "nodes", limit: PUSH_PULL_NODES_MAX }));
    }
}
