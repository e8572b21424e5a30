//! User events, and Serf's part of an exchanged state, which holds the recent ones.

use super::serf::{lamport, name};
use super::{Reader, WireError, Writer, serf_type};
use crate::limits::{PUSH_PULL_NODES_MAX, SLOT_ENTRIES_MAX, USER_EVENT_BYTES_MAX};

/// An event that a user fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserEvent {
    /// Lamport time of events.
    pub ltime: u64,
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Whether handlers may see only the newest of several with this name.
    pub coalesce: bool,
}

impl UserEvent {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::message(serf_type::USER_EVENT);
        writer.map(4);
        writer.uint_field("LTime", self.ltime);
        writer.raw_field("Name", self.name.as_bytes());
        writer.raw_field("Payload", &self.payload);
        writer.bool_field("CC", self.coalesce);
        writer.finish()
    }

    /// The message from its body.
    pub fn decode(body: &[u8]) -> Result<Self, WireError> {
        let mut event = Self { ltime: 0, name: String::new(), payload: Vec::new(), coalesce: false };
        Reader::new(body).fields(|field, reader| {
            match field {
                b"LTime" => event.ltime = lamport(reader)?,
                b"Name" => event.name = reader.text("event name", USER_EVENT_BYTES_MAX)?,
                b"Payload" => event.payload = reader.bytes("event payload", USER_EVENT_BYTES_MAX)?,
                b"CC" => event.coalesce = reader.bool()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(event)
    }
}

/// One event of a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotEvent {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// The events of one Lamport time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SlotEvents {
    /// The time.
    pub ltime: u64,
    /// The events.
    pub events: Vec<SlotEvent>,
}

/// Serf's part of an exchanged state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SerfState {
    /// Clock of membership.
    pub ltime: u64,
    /// For each member the time of its last intent, in the order in which it came.
    pub status_ltimes: Vec<(String, u64)>,
    /// Members that have left.
    pub left: Vec<String>,
    /// Clock of events.
    pub event_ltime: u64,
    /// Recent events.
    pub events: Vec<SlotEvents>,
    /// Clock of queries.
    pub query_ltime: u64,
}

impl SerfState {
    /// The message, type byte included.
    pub fn encode(&self) -> Vec<u8> {
        let times = self.status_ltimes.iter().map(|(node, ltime)| (node.as_str(), *ltime));
        let left = self.left.iter().map(String::as_str);
        let clocks = [self.ltime, self.event_ltime, self.query_ltime];
        encode_state(clocks, times, left, &self.events)
    }

    /// The message, type byte included.
    pub fn decode(message: &[u8]) -> Result<Self, WireError> {
        let StateRef { clocks: [ltime, event_ltime, query_ltime], status_ltimes, left, events } =
            StateRef::decode(message)?;
        Ok(Self {
            ltime,
            status_ltimes: status_ltimes.into_iter().map(|(node, ltime)| (node.to_owned(), ltime)).collect(),
            left: left.into_iter().map(str::to_owned).collect(),
            event_ltime,
            events,
            query_ltime,
        })
    }
}

/// A [`SerfState`] within the bytes that it came in: most names that it tells are known.
#[derive(Debug, Default)]
pub(crate) struct StateRef<'a> {
    /// Of membership, events, queries.
    pub(crate) clocks: [u64; 3],
    pub(crate) status_ltimes: Vec<(&'a str, u64)>,
    pub(crate) left: Vec<&'a str>,
    pub(crate) events: Vec<SlotEvents>,
}

impl<'a> StateRef<'a> {
    pub(crate) fn decode(message: &'a [u8]) -> Result<Self, WireError> {
        let (&kind, body) = message.split_first().ok_or(WireError::Truncated)?;
        if kind != serf_type::PUSH_PULL {
            return Err(WireError::UnknownType(kind));
        }
        let mut state = Self::default();
        let mut reader = Reader::new(body);
        for _ in 0..reader.field_count()? {
            match reader.raw()? {
                b"LTime" => state.clocks[0] = lamport(&mut reader)?,
                b"StatusLTimes" => {
                    for _ in 0..limited(reader.map()?, PUSH_PULL_NODES_MAX, "status times")? {
                        let node = name(&mut reader)?;
                        state.status_ltimes.push((node, lamport(&mut reader)?));
                    }
                }
                b"LeftMembers" => {
                    for _ in 0..limited(reader.array()?, PUSH_PULL_NODES_MAX, "left members")? {
                        state.left.push(name(&mut reader)?);
                    }
                }
                b"EventLTime" => state.clocks[1] = lamport(&mut reader)?,
                b"Events" => state.events = decode_slots(&mut reader)?,
                b"QueryLTime" => state.clocks[2] = lamport(&mut reader)?,
                _ => reader.skip()?,
            }
        }
        Ok(state)
    }
}

/// The message of Serf's part, type byte included. `clocks`: of membership, events, queries.
pub(crate) fn encode_state<'a>(
    clocks: [u64; 3],
    times: impl ExactSizeIterator<Item = (&'a str, u64)>,
    left: impl ExactSizeIterator<Item = &'a str>,
    events: &[SlotEvents],
) -> Vec<u8> {
    const MEMBER_BYTES: usize = 32;
    let mut writer = Writer::with_capacity(128 + times.len() * MEMBER_BYTES);
    writer.plain(&[serf_type::PUSH_PULL]);
    writer.map(6);
    writer.uint_field("LTime", clocks[0]);
    writer.text("StatusLTimes");
    writer.map(times.len());
    for (node, ltime) in times {
        writer.uint_field(node, ltime);
    }
    writer.text("LeftMembers");
    writer.array(left.len());
    left.for_each(|node| writer.text(node));
    writer.uint_field("EventLTime", clocks[1]);
    writer.text("Events");
    writer.array(events.len());
    for slot in events {
        writer.map(2);
        writer.uint_field("LTime", slot.ltime);
        writer.text("Events");
        writer.array(slot.events.len());
        for event in &slot.events {
            writer.map(2);
            writer.raw_field("Name", event.name.as_bytes());
            writer.raw_field("Payload", &event.payload);
        }
    }
    writer.uint_field("QueryLTime", clocks[2]);
    writer.finish()
}

fn limited(len: usize, limit: usize, what: &'static str) -> Result<usize, WireError> {
    if len > limit { Err(WireError::Limit { what, limit }) } else { Ok(len) }
}

/// Most slots of another's buffer; its operator may have made it larger than ours.
const PEER_SLOTS_MAX: usize = 65_536;

/// Slots; those never filled come as nil and are left out.
fn decode_slots(reader: &mut Reader<'_>) -> Result<Vec<SlotEvents>, WireError> {
    let mut slots = Vec::new();
    for _ in 0..limited(reader.array()?, PEER_SLOTS_MAX, "event slots")? {
        if reader.nil() {
            continue;
        }
        let mut slot = SlotEvents::default();
        reader.fields(|field, reader| {
            match field {
                b"LTime" => slot.ltime = lamport(reader)?,
                b"Events" => {
                    for _ in 0..limited(reader.array()?, SLOT_ENTRIES_MAX, "events of one time")? {
                        slot.events.push(decode_slot_event(reader)?);
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        slots.push(slot);
    }
    Ok(slots)
}

fn decode_slot_event(reader: &mut Reader<'_>) -> Result<SlotEvent, WireError> {
    let mut event = SlotEvent { name: String::new(), payload: Vec::new() };
    reader.fields(|field, reader| {
        match field {
            b"Name" => event.name = reader.text("event name", USER_EVENT_BYTES_MAX)?,
            b"Payload" => event.payload = reader.bytes("event payload", USER_EVENT_BYTES_MAX)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(event)
}
