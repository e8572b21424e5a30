//! Queries, their filters, answers, and the relaying of answers.

use std::net::SocketAddr;
use std::time::Duration;

use super::serf::{lamport, name};
use super::{Reader, WireError, Writer, address_bytes, address_from_bytes, serf_type};
use crate::limits::{FILTERS_MAX, NAME_BYTES_MAX, PACKET_PLAIN_BYTES_MAX, USER_EVENT_BYTES_MAX};

/// Who should answer a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Filter {
    /// Nodes of these names.
    Nodes(Vec<String>),
    /// Nodes whose tag matches a regular expression anywhere. A missing tag is empty text.
    Tag {
        /// Name of the tag.
        tag: String,
        /// The expression, in RE2's syntax.
        expr: String,
    },
}

impl Filter {
    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Nodes(names) => {
                let mut writer = Writer::message(0);
                writer.array(names.len());
                names.iter().for_each(|name| writer.text(name));
                writer.finish()
            }
            Self::Tag { tag, expr } => {
                let mut writer = Writer::message(1);
                writer.map(2);
                writer.raw_field("Tag", tag.as_bytes());
                writer.raw_field("Expr", expr.as_bytes());
                writer.finish()
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let (&kind, body) = bytes.split_first().ok_or(WireError::Truncated)?;
        let mut reader = Reader::new(body);
        match kind {
            0 => (0..reader.array()?)
                .map(|_| name(&mut reader).map(str::to_owned))
                .collect::<Result<_, _>>()
                .map(Self::Nodes),
            1 => {
                let (mut tag, mut expr) = (String::new(), String::new());
                reader.fields(|field, reader| {
                    match field {
                        b"Tag" => tag = reader.text("tag", NAME_BYTES_MAX)?,
                        b"Expr" => expr = reader.text("expression", USER_EVENT_BYTES_MAX)?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?;
                Ok(Self::Tag { tag, expr })
            }
            kind => Err(WireError::UnknownType(kind)),
        }
    }
}

/// A question to the cluster, answered straight to `source`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Lamport time of queries.
    pub ltime: u64,
    /// Random; with the time it names the query.
    pub id: u32,
    /// Where answers go.
    pub source: SocketAddr,
    /// Who asks.
    pub source_node: String,
    /// All must match. A filter that is not understood matches nobody: `None`.
    pub filters: Option<Vec<Filter>>,
    /// Bit 0: an ack is wanted; bit 1: do not pass it on.
    pub flags: u32,
    /// Copies of each answer to send through others.
    pub relay_factor: u8,
    /// How long answers are taken.
    pub timeout: Duration,
    /// Its name; `_serf_…` is answered by the agent itself.
    pub name: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// Flag of a query: an ack is wanted; of a response: this is one.
pub const FLAG_ACK: u32 = 1;
/// Flag of a query: do not pass it on.
pub const FLAG_NO_BROADCAST: u32 = 2;

impl Query {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::QUERY);
        writer.map(11);
        writer.uint_field("LTime", self.ltime);
        writer.uint_field("ID", u64::from(self.id));
        writer.raw_field("Addr", &address_bytes(self.source.ip()));
        writer.uint_field("Port", u64::from(self.source.port()));
        writer.raw_field("SourceNode", self.source_node.as_bytes());
        writer.text("Filters");
        let filters = self.filters.as_deref().unwrap_or_default();
        writer.array(filters.len());
        filters.iter().for_each(|filter| writer.raw(&filter.encode()));
        writer.uint_field("Flags", u64::from(self.flags));
        writer.uint_field("RelayFactor", u64::from(self.relay_factor));
        writer.uint_field("Timeout", u64::try_from(self.timeout.as_nanos()).unwrap_or(u64::MAX >> 1));
        writer.raw_field("Name", self.name.as_bytes());
        writer.raw_field("Payload", &self.payload);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let (mut ltime, mut id, mut source_node, mut flags) = (0, 0, String::new(), 0);
        let (mut addr, mut port): (&[u8], u16) = (&[], 0);
        let (mut relay_factor, mut timeout) = (0, 0);
        let (mut query_name, mut payload, mut filters) = (String::new(), Vec::new(), Some(Vec::new()));
        Reader::new(body).fields(|field, reader| {
            match field {
                b"LTime" => ltime = lamport(reader)?,
                b"ID" => id = reader.u32("ID")?,
                b"Addr" => addr = reader.raw()?,
                b"Port" => port = reader.u16("Port")?,
                b"SourceNode" => source_node = name(reader)?.to_owned(),
                b"Filters" => filters = decode_filters(reader)?,
                b"Flags" => flags = reader.u32("Flags")?,
                b"RelayFactor" => relay_factor = reader.u8("RelayFactor")?,
                b"Timeout" => timeout = reader.uint("Timeout")?,
                b"Name" => query_name = reader.text("query name", USER_EVENT_BYTES_MAX)?,
                b"Payload" => payload = reader.bytes("query payload", PACKET_PLAIN_BYTES_MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(Self {
            ltime,
            id,
            source: SocketAddr::new(address_from_bytes(addr)?, port),
            source_node,
            filters,
            flags,
            relay_factor,
            timeout: Duration::from_nanos(timeout),
            name: query_name,
            payload,
        })
    }
}

/// `None` when one is not understood: such a query is passed on but matches nobody here.
pub(super) fn decode_filters(reader: &mut Reader<'_>) -> Result<Option<Vec<Filter>>, WireError> {
    let len = reader.array()?;
    if len > FILTERS_MAX {
        return Err(WireError::Limit { what: "filters", limit: FILTERS_MAX });
    }
    let raw = (0..len).map(|_| reader.raw()).collect::<Result<Vec<_>, _>>()?;
    Ok(raw.into_iter().map(Filter::decode).collect::<Result<_, _>>().ok())
}

/// An ack of, or an answer to, a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryResponse {
    /// Time of the query.
    pub ltime: u64,
    /// Id of the query.
    pub id: u32,
    /// Who answers.
    pub from: String,
    /// Bit 0: this is an ack.
    pub flags: u32,
    /// The answer.
    pub payload: Vec<u8>,
}

impl QueryResponse {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::QUERY_RESPONSE);
        writer.map(5);
        writer.uint_field("LTime", self.ltime);
        writer.uint_field("ID", u64::from(self.id));
        writer.raw_field("From", self.from.as_bytes());
        writer.uint_field("Flags", u64::from(self.flags));
        writer.raw_field("Payload", &self.payload);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut response = Self { ltime: 0, id: 0, from: String::new(), flags: 0, payload: Vec::new() };
        Reader::new(body).fields(|field, reader| {
            match field {
                b"LTime" => response.ltime = lamport(reader)?,
                b"ID" => response.id = reader.u32("ID")?,
                b"From" => response.from = name(reader)?.to_owned(),
                b"Flags" => response.flags = reader.u32("Flags")?,
                b"Payload" => response.payload = reader.bytes("response payload", PACKET_PLAIN_BYTES_MAX)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(response)
    }
}

/// Where a relayed message has to go; the message follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayHeader {
    /// Address of the receiver.
    pub address: SocketAddr,
    /// Name of the receiver.
    pub node: String,
}

impl RelayHeader {
    /// A relay message around `message` (a Serf message, type byte included).
    pub fn encode(&self, message: &[u8]) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::RELAY);
        writer.map(2);
        writer.text("DestAddr");
        writer.map(3);
        writer.raw_field("IP", &address_bytes(self.address.ip()));
        writer.uint_field("Port", u64::from(self.address.port()));
        writer.raw_field("Zone", b"");
        writer.raw_field("DestName", self.node.as_bytes());
        writer.plain(message);
        writer.finish()
    }

    /// The header from the body of a relay message, and the message after it.
    pub fn decode(body: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let (mut addr, mut port, mut node): (&[u8], u16, _) = (&[], 0, String::new());
        let mut reader = Reader::new(body);
        reader.fields(|field, reader| {
            match field {
                b"DestAddr" => reader.fields(|field, reader| {
                    match field {
                        b"IP" => addr = reader.raw()?,
                        b"Port" => port = reader.u16("Port")?,
                        _ => return Ok(false),
                    }
                    Ok(true)
                })?,
                b"DestName" => node = name(reader)?.to_owned(),
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok((Self { address: SocketAddr::new(address_from_bytes(addr)?, port), node }, reader.rest()))
    }
}
