//! memberlist's messages: probes, suspicion and death.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Reader, WireError, Writer};
use crate::limits::NAME_BYTES_MAX;

/// Type bytes of memberlist's messages.
pub mod swim_type {
    #![allow(missing_docs, reason = "each is the message of that name")]
    pub const PING: u8 = 0;
    pub const INDIRECT_PING: u8 = 1;
    pub const ACK: u8 = 2;
    pub const SUSPECT: u8 = 3;
    pub const ALIVE: u8 = 4;
    pub const DEAD: u8 = 5;
    pub const PUSH_PULL: u8 = 6;
    pub const COMPOUND: u8 = 7;
    pub const USER: u8 = 8;
    pub const COMPRESS: u8 = 9;
    pub const ENCRYPT: u8 = 10;
    pub const NACK: u8 = 11;
    pub const CRC: u8 = 12;
    pub const ERROR: u8 = 13;
    pub const LABEL: u8 = 244;
}

/// Longest ack payload and error text that is kept, in bytes.
const SMALL_BYTES_MAX: usize = 1024;

/// An address as its bytes on the wire: 4 or 16. memberlist compares them byte by byte, so an IPv4
/// address is always 4.
pub fn address_bytes(ip: IpAddr) -> Vec<u8> {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// The address that 4 or 16 bytes mean.
pub fn address_from_bytes(bytes: &[u8]) -> Result<IpAddr, WireError> {
    if let Ok(octets) = <[u8; 4]>::try_from(bytes) {
        return Ok(IpAddr::from(octets));
    }
    let octets = <[u8; 16]>::try_from(bytes).map_err(|_| WireError::Address(bytes.len()))?;
    Ok(IpAddr::from(octets).to_canonical())
}

/// An optional address of a reply: absent unless both the bytes and the port are there.
fn source(bytes: &[u8], port: u16) -> Result<Option<SocketAddr>, WireError> {
    if bytes.is_empty() || port == 0 {
        return Ok(None);
    }
    Ok(Some(SocketAddr::new(address_from_bytes(bytes)?, port)))
}

/// Are you there? The ack goes to `source`, else to where the ping came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ping {
    /// Number that the ack repeats.
    pub seq: u32,
    /// Whom the ping is for; another node drops it. Empty is anyone.
    pub node: String,
    /// Address for the ack.
    pub source: Option<SocketAddr>,
    /// Name of the sender; empty when it does not say.
    pub source_node: String,
    /// Our addition, which Serf reads over: the ack needs no payload.
    pub brief: bool,
}

impl Ping {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::PING);
        writer.map(2 + source_len(self.source, &self.source_node) + usize::from(self.brief));
        writer.uint_field("SeqNo", u64::from(self.seq));
        writer.raw_field("Node", self.node.as_bytes());
        source_fields(&mut writer, self.source, &self.source_node);
        if self.brief {
            writer.bool_field("Brief", true);
        }
        writer.finish()
    }

    /// The message from its body. Gives the bytes it took too: on a stream more may follow.
    pub fn decode(body: &[u8]) -> Result<(Self, usize), WireError> {
        let mut ping = Self::default();
        let (mut addr, mut port): (&[u8], u16) = (&[], 0);
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"SeqNo" => ping.seq = reader.u32("SeqNo")?,
                b"Node" => ping.node = reader.text("Node", NAME_BYTES_MAX)?,
                b"SourceAddr" => addr = reader.raw()?,
                b"SourcePort" => port = reader.u16("SourcePort")?,
                b"SourceNode" => ping.source_node = reader.text("SourceNode", NAME_BYTES_MAX)?,
                b"Brief" => ping.brief = reader.bool()?,
                _ => reader.skip()?,
            }
        }
        ping.source = source(addr, port)?;
        Ok((ping, reader.position()))
    }
}

/// Fields that [`source_fields`] writes.
fn source_len(source: Option<SocketAddr>, node: &str) -> usize {
    2 * usize::from(source.is_some()) + usize::from(!node.is_empty())
}

fn source_fields(writer: &mut Writer, source: Option<SocketAddr>, node: &str) {
    if let Some(address) = source {
        writer.raw_field("SourceAddr", &address_bytes(address.ip()));
        writer.uint_field("SourcePort", u64::from(address.port()));
    }
    if !node.is_empty() {
        writer.raw_field("SourceNode", node.as_bytes());
    }
}

/// Please ping `node` for me.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndirectPing {
    /// Number that the ack or nack repeats.
    pub seq: u32,
    /// Address of the node to ping.
    pub target: SocketAddr,
    /// Name of the node to ping.
    pub node: String,
    /// Whether a nack is wanted when no ack comes in time.
    pub nack: bool,
    /// Address for the answer.
    pub source: Option<SocketAddr>,
    /// Name of the sender.
    pub source_node: String,
    /// Our addition, which Serf reads over: the sender's TCP connection was refused; please see for yourself.
    pub refused: bool,
}

impl IndirectPing {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::INDIRECT_PING);
        writer.map(5 + source_len(self.source, &self.source_node) + usize::from(self.refused));
        writer.uint_field("SeqNo", u64::from(self.seq));
        writer.raw_field("Target", &address_bytes(self.target.ip()));
        writer.uint_field("Port", u64::from(self.target.port()));
        writer.raw_field("Node", self.node.as_bytes());
        writer.bool_field("Nack", self.nack);
        source_fields(&mut writer, self.source, &self.source_node);
        if self.refused {
            writer.bool_field("Refused", true);
        }
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let (mut seq, mut node, mut nack, mut refused) = (0, String::new(), false, false);
        let (mut target, mut target_port): (&[u8], u16) = (&[], 0);
        let (mut addr, mut port, mut source_node): (&[u8], u16, _) = (&[], 0, String::new());
        Reader::new(body).fields(|name, reader| {
            match name {
                b"SeqNo" => seq = reader.u32("SeqNo")?,
                b"Target" => target = reader.raw()?,
                b"Port" => target_port = reader.u16("Port")?,
                b"Node" => node = reader.text("Node", NAME_BYTES_MAX)?,
                b"Nack" => nack = reader.bool()?,
                b"Refused" => refused = reader.bool()?,
                b"SourceAddr" => addr = reader.raw()?,
                b"SourcePort" => port = reader.u16("SourcePort")?,
                b"SourceNode" => source_node = reader.text("SourceNode", NAME_BYTES_MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let target = SocketAddr::new(address_from_bytes(target)?, target_port);
        Ok(Self { seq, target, node, nack, source: source(addr, port)?, source_node, refused })
    }
}

/// I am here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    /// Number of the ping.
    pub seq: u32,
    /// Serf's payload: a version byte and a coordinate. Empty when relayed or on a stream.
    pub payload: Vec<u8>,
}

impl Ack {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::ACK);
        writer.map(2);
        writer.uint_field("SeqNo", u64::from(self.seq));
        writer.raw_field("Payload", &self.payload);
        writer.finish()
    }

    /// The message from its body, and the bytes it took.
    pub fn decode(body: &[u8]) -> Result<(Self, usize), WireError> {
        let mut ack = Self { seq: 0, payload: Vec::new() };
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"SeqNo" => ack.seq = reader.u32("SeqNo")?,
                b"Payload" => ack.payload = reader.bytes("Payload", SMALL_BYTES_MAX)?,
                _ => reader.skip()?,
            }
        }
        Ok((ack, reader.position()))
    }
}

/// I pinged for you, and nothing came back so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nack {
    /// Number of the indirect ping.
    pub seq: u32,
}

impl Nack {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::NACK);
        writer.map(1);
        writer.uint_field("SeqNo", u64::from(self.seq));
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        Ok(Self { seq: Ack::decode(body)?.0.seq })
    }
}

/// What went wrong on a stream, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply {
    /// For a log.
    pub error: String,
}

impl ErrorReply {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(swim_type::ERROR);
        writer.map(1);
        writer.raw_field("Error", self.error.as_bytes());
        writer.finish()
    }

    /// The message from its body, and the bytes it took.
    pub fn decode(body: &[u8]) -> Result<(Self, usize), WireError> {
        let mut error = String::new();
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"Error" => error = reader.text("Error", SMALL_BYTES_MAX)?,
                _ => reader.skip()?,
            }
        }
        Ok((Self { error }, reader.position()))
    }
}

/// `node` does not answer `from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    /// Incarnation that is suspected; a higher one refutes.
    pub incarnation: u32,
    /// Who is suspected.
    pub node: String,
    /// Who suspects.
    pub from: String,
    /// Our addition, which Serf reads over: `from` had its TCP connection refused, so the process is gone.
    pub refused: bool,
}

/// `node` is dead, says `from`; when both are the same it has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// Incarnation that died; a higher one refutes.
    pub incarnation: u32,
    /// Who is dead.
    pub node: String,
    /// Who says so.
    pub from: String,
}

/// A suspicion or a death within the bytes that it came in, or is written to: most that come tell nothing new.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accusation<'a> {
    pub(crate) incarnation: u32,
    pub(crate) node: &'a str,
    pub(crate) from: &'a str,
    pub(crate) refused: bool,
}

impl<'a> Accusation<'a> {
    /// Writes the message, type byte included.
    pub(crate) fn write(self, kind: u8, writer: &mut Writer) {
        writer.plain(&[kind]);
        writer.map(3 + usize::from(self.refused));
        writer.uint_field("Incarnation", u64::from(self.incarnation));
        writer.raw_field("Node", self.node.as_bytes());
        writer.raw_field("From", self.from.as_bytes());
        if self.refused {
            writer.bool_field("Refused", true);
        }
    }

    fn encode(self, kind: u8) -> Vec<u8> {
        let mut writer = Writer::new();
        self.write(kind, &mut writer);
        writer.finish()
    }

    pub(crate) fn decode(body: &'a [u8]) -> Result<Self, WireError> {
        let mut found = Self { incarnation: 0, node: "", from: "", refused: false };
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"Incarnation" => found.incarnation = reader.u32("Incarnation")?,
                b"Node" => found.node = reader.str("Node", NAME_BYTES_MAX)?,
                b"From" => found.from = reader.str("From", NAME_BYTES_MAX)?,
                b"Refused" => found.refused = reader.bool()?,
                _ => reader.skip()?,
            }
        }
        Ok(found)
    }

    pub(crate) fn to_suspect(self) -> Suspect {
        let Self { incarnation, node, from, refused } = self;
        Suspect { incarnation, node: node.to_owned(), from: from.to_owned(), refused }
    }

    pub(crate) fn to_dead(self) -> Dead {
        let Self { incarnation, node, from, .. } = self;
        Dead { incarnation, node: node.to_owned(), from: from.to_owned() }
    }
}

impl Suspect {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let Self { incarnation, node, from, refused } = self;
        Accusation { incarnation: *incarnation, node, from, refused: *refused }.encode(swim_type::SUSPECT)
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        Accusation::decode(body).map(Accusation::to_suspect)
    }
}

impl Dead {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let Self { incarnation, node, from } = self;
        Accusation { incarnation: *incarnation, node, from, refused: false }.encode(swim_type::DEAD)
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        Accusation::decode(body).map(Accusation::to_dead)
    }
}

/// The address that means "anywhere on this machine"; peers must not be sent there.
pub fn is_unusable(address: SocketAddr) -> bool {
    address.port() == 0 || address.ip().is_unspecified() || address.ip() == IpAddr::V4(Ipv4Addr::BROADCAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::from([127, 0, 0, 9]), port)
    }

    /// Shows that every message comes back as it was written.
    #[test]
    fn messages_round_trip() {
        for source in [None, Some(address(1))] {
            let ping = Ping { seq: 9, node: "b".into(), source, source_node: "a".into(), brief: source.is_none() };
            assert_eq!(Ping::decode(&ping.encode()[1..]).unwrap().0, ping);
            for refused in [false, true] {
                let ping = IndirectPing {
                    seq: 300,
                    target: address(2),
                    node: "c".into(),
                    nack: true,
                    source,
                    source_node: "a".into(),
                    refused,
                };
                assert_eq!(IndirectPing::decode(&ping.encode()[1..]).unwrap(), ping);
            }
        }
        let ack = Ack { seq: u32::MAX, payload: vec![1, 2] };
        assert_eq!(Ack::decode(&ack.encode()[1..]).unwrap().0, ack);
        assert_eq!(Nack::decode(&Nack { seq: 5 }.encode()[1..]).unwrap().seq, 5);
        for refused in [false, true] {
            let suspect = Suspect { incarnation: 3, node: "b".into(), from: "a".into(), refused };
            assert_eq!(Suspect::decode(&suspect.encode()[1..]).unwrap(), suspect);
        }
        let dead = Dead { incarnation: 3, node: "b".into(), from: "b".into() };
        assert_eq!(Dead::decode(&dead.encode()[1..]).unwrap(), dead);
        let error = ErrorReply { error: "no".into() };
        assert_eq!(ErrorReply::decode(&error.encode()[1..]).unwrap().0, error);
    }

    /// Shows that both forms of an IPv4 address are one.
    #[test]
    fn mapped_addresses_are_plain() {
        let mapped = address_from_bytes(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 9]).unwrap();
        assert_eq!(mapped, address(0).ip());
        assert_eq!(address_bytes(mapped).len(), 4);
        assert_eq!(address_from_bytes(&[1, 2]), Err(WireError::Address(2)));
    }
}
