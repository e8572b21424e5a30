//! What is said of a node that lives, and the exchange of whole states.

use std::net::SocketAddr;

use super::{Reader, WireError, Writer, address_from_bytes, swim_type};
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
        encode_alive(self.incarnation, &self.node, self.address, &self.meta, &self.versions)
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        Ok(AliveRef::decode(body)?.to_owned())
    }

    pub(crate) fn borrow(&self) -> AliveRef<'_> {
        let Self { incarnation, node, address, meta, versions } = self;
        let mut kept = Versions::default();
        versions.iter().for_each(|version| kept.push(*version));
        AliveRef { incarnation: *incarnation, node, address: *address, meta, versions: kept }
    }
}

/// An [`Alive`] within the bytes that it came in: most that come tell nothing new and are not kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AliveRef<'a> {
    pub(crate) incarnation: u32,
    pub(crate) node: &'a str,
    pub(crate) address: SocketAddr,
    pub(crate) meta: &'a [u8],
    pub(crate) versions: Versions,
}

impl<'a> AliveRef<'a> {
    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let (alive, _) = node_fields(&mut Reader::new(body), b"Node")?;
        Ok(alive)
    }

    pub(crate) fn to_owned(self) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: self.node.to_owned(),
            address: self.address,
            meta: self.meta.to_vec(),
            versions: self.versions.as_slice().to_vec(),
        }
    }
}

/// Most versions that a node may tell.
const VERSIONS_MAX: usize = 16;

/// Versions that a node told.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Versions {
    bytes: [u8; VERSIONS_MAX],
    len: u8,
}

impl From<[u8; 6]> for Versions {
    fn from(six: [u8; 6]) -> Self {
        let mut versions = Self::default();
        six.into_iter().for_each(|version| versions.push(version));
        versions
    }
}

impl Versions {
    /// Those beyond the most are left out.
    fn push(&mut self, version: u8) {
        if let Some(place) = self.bytes.get_mut(usize::from(self.len)) {
            *place = version;
            self.len += 1;
        }
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The message that a node lives, type byte included.
pub(crate) fn encode_alive(incarnation: u32, node: &str, address: SocketAddr, meta: &[u8], versions: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(80 + node.len() + meta.len());
    write_alive(&mut writer, incarnation, node, address, meta, versions);
    writer.finish()
}

/// As [`encode_alive`], after what `writer` holds.
pub(crate) fn write_alive(
    writer: &mut Writer,
    incarnation: u32,
    node: &str,
    address: SocketAddr,
    meta: &[u8],
    versions: &[u8],
) {
    writer.plain(&[swim_type::ALIVE]);
    writer.map(6);
    writer.uint_field("Incarnation", u64::from(incarnation));
    writer.raw_field("Node", node.as_bytes());
    writer.address_field("Addr", address.ip());
    writer.uint_field("Port", u64::from(address.port()));
    writer.raw_field("Meta", meta);
    writer.raw_field("Vsn", versions);
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
fn node_fields<'a>(reader: &mut Reader<'a>, name_field: &[u8]) -> Result<(AliveRef<'a>, u64), WireError> {
    let (mut incarnation, mut node, mut state) = (0, "", 0);
    let (mut addr, mut port): (&[u8], u16) = (&[], 0);
    let (mut meta, mut versions): (&[u8], _) = (&[], Versions::default());
    for _ in 0..reader.field_count()? {
        match reader.raw()? {
            b"Incarnation" => incarnation = reader.u32("Incarnation")?,
            name if name == name_field => node = reader.str("Name", NAME_BYTES_MAX)?,
            b"Addr" => addr = reader.raw()?,
            b"Port" => port = reader.u16("Port")?,
            b"Meta" => meta = reader.slice("Meta", META_BYTES_MAX)?,
            b"Vsn" => versions = versions_of(reader)?,
            b"State" => state = reader.uint("State")?,
            _ => reader.skip()?,
        }
    }
    let address = SocketAddr::new(address_from_bytes(addr)?, port);
    Ok((AliveRef { incarnation, node, address, meta, versions }, state))
}

/// Versions are bytes; a codec that takes them for a list of numbers is understood too.
fn versions_of(reader: &mut Reader<'_>) -> Result<Versions, WireError> {
    let mut versions = Versions::default();
    if !matches!(reader.rest().first(), Some(0x90..=0x9f | 0xdc | 0xdd)) {
        reader.slice("Vsn", VERSIONS_MAX)?.iter().for_each(|version| versions.push(*version));
        return Ok(versions);
    }
    let len = reader.array()?;
    if len > VERSIONS_MAX {
        return Err(WireError::Limit { what: "Vsn", limit: VERSIONS_MAX });
    }
    for _ in 0..len {
        versions.push(reader.u8("Vsn")?);
    }
    Ok(versions)
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
        let mut writer = push_pull_header(self.join, self.nodes.len(), self.user_state.len());
        for NodeState { alive, state } in &self.nodes {
            push_pull_node(&mut writer, alive.borrow(), *state);
        }
        writer.plain(&self.user_state);
        writer.finish()
    }
}

/// The start of a push/pull message; so many nodes follow by [`push_pull_node`], then so many bytes of Serf's part.
pub(crate) fn push_pull_header(join: bool, nodes: usize, user_state: usize) -> Writer {
    const NODE_BYTES: usize = 100;
    let mut writer = Writer::with_capacity(64 + nodes * NODE_BYTES + user_state);
    writer.plain(&[swim_type::PUSH_PULL]);
    writer.map(3);
    writer.uint_field("Nodes", nodes as u64);
    writer.uint_field("UserStateLen", user_state as u64);
    writer.bool_field("Join", join);
    writer
}

pub(crate) fn push_pull_node(writer: &mut Writer, alive: AliveRef<'_>, state: StateCode) {
    writer.map(7);
    writer.raw_field("Name", alive.node.as_bytes());
    writer.address_field("Addr", alive.address.ip());
    writer.uint_field("Port", u64::from(alive.address.port()));
    writer.raw_field("Meta", alive.meta);
    writer.uint_field("Incarnation", u64::from(alive.incarnation));
    writer.uint_field("State", state as u64);
    writer.raw_field("Vsn", alive.versions.as_slice());
}

/// A whole state that came, in the bytes that it came in: most that it tells is known and never kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exchange {
    /// Whether the sender is joining.
    pub join: bool,
    /// How many nodes it tells of.
    pub count: usize,
    nodes: Vec<u8>,
    user_state: Vec<u8>,
}

impl Exchange {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (AliveRef<'_>, StateCode)> {
        let mut reader = Reader::new(&self.nodes);
        // Every node was read once already, so none fails.
        (0..self.count).map_while(move |_| read_node(&mut reader).ok())
    }

    /// Serf's part: a [`super::SerfState`] message.
    pub fn user_state(&self) -> &[u8] {
        &self.user_state
    }

    /// All of it, taken out of its bytes.
    pub fn to_push_pull(&self) -> PushPull {
        let nodes = self.nodes().map(|(alive, state)| NodeState { alive: alive.to_owned(), state }).collect();
        PushPull { join: self.join, nodes, user_state: self.user_state.clone() }
    }
}

fn read_node<'a>(reader: &mut Reader<'a>) -> Result<(AliveRef<'a>, StateCode), WireError> {
    let (alive, state) = node_fields(reader, b"Name")?;
    Ok((alive, StateCode::from_wire(state)?))
}

/// A push/pull message that is read as its bytes come in: each node once.
#[derive(Debug, Default)]
pub(super) struct PushPullProgress {
    header: Option<Header>,
    /// Nodes read so far, and where the next one begins.
    read: usize,
    at: usize,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    join: bool,
    nodes: usize,
    user_len: usize,
    /// Where the first node begins.
    start: usize,
}

impl Header {
    fn read(body: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(body);
        let (mut nodes, mut user_len, mut join) = (0, 0, false);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"Nodes" => nodes = reader.uint("Nodes")?,
                b"UserStateLen" => user_len = reader.uint("UserStateLen")?,
                b"Join" => join = reader.bool()?,
                _ => reader.skip()?,
            }
        }
        let limit = |value: u64, limit: usize, what| match usize::try_from(value) {
            Ok(value) if value <= limit => Ok(value),
            _ => Err(WireError::Limit { what, limit }),
        };
        Ok(Self {
            join,
            nodes: limit(nodes, PUSH_PULL_NODES_MAX, "nodes")?,
            user_len: limit(user_len, STREAM_BYTES_MAX, "state")?,
            start: reader.position(),
        })
    }
}

impl PushPullProgress {
    /// Reads on in `body` (the bytes so far, from the start). Gives the message when it is whole.
    pub(super) fn advance(&mut self, body: &[u8]) -> Result<Exchange, WireError> {
        let header = match self.header {
            Some(header) => header,
            None => {
                let header = Header::read(body)?;
                self.at = header.start;
                *self.header.insert(header)
            }
        };
        while self.read < header.nodes {
            let mut reader = Reader::new(body.get(self.at..).ok_or(WireError::Truncated)?);
            read_node(&mut reader)?;
            self.at += reader.position();
            self.read += 1;
        }
        let user_state = body.get(self.at..self.at + header.user_len).ok_or(WireError::Truncated)?;
        Ok(Exchange {
            join: header.join,
            count: header.nodes,
            nodes: body[header.start..self.at].to_vec(),
            user_state: user_state.to_vec(),
        })
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
        assert_eq!(progress.advance(&bytes[1..]).unwrap().to_push_pull(), sent);
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
