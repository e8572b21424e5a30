//! What Serf's messages share; they travel inside memberlist's user messages and its state exchange.

use super::{Reader, WireError, swim_type};
use crate::limits::{LAMPORT_MAX, NAME_BYTES_MAX};

/// Type bytes of Serf's messages.
pub mod serf_type {
    #![allow(missing_docs, reason = "each is the message of that name")]
    pub const LEAVE: u8 = 0;
    pub const JOIN: u8 = 1;
    pub const PUSH_PULL: u8 = 2;
    pub const USER_EVENT: u8 = 3;
    pub const QUERY: u8 = 4;
    pub const QUERY_RESPONSE: u8 = 5;
    pub const CONFLICT_RESPONSE: u8 = 6;
    pub const KEY_REQUEST: u8 = 7;
    pub const KEY_RESPONSE: u8 = 8;
    pub const RELAY: u8 = 9;
}

/// A Lamport time that leaves room for the clock to go on.
pub(super) fn lamport(reader: &mut Reader<'_>) -> Result<u64, WireError> {
    match reader.uint("LTime")? {
        time if time < LAMPORT_MAX => Ok(time),
        _ => Err(WireError::Range { field: "LTime" }),
    }
}

pub(super) fn name<'a>(reader: &mut Reader<'a>) -> Result<&'a str, WireError> {
    reader.str("node name", NAME_BYTES_MAX)
}

/// Wraps a Serf message into a memberlist user message.
pub fn user_message(message: &[u8]) -> Vec<u8> {
    [&[swim_type::USER], message].concat()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::*;
    use crate::wire::query::{FLAG_ACK, decode_filters};
    use crate::wire::*;

    fn address() -> SocketAddr {
        SocketAddr::from(([10, 1, 2, 3], 7946))
    }

    /// Shows that every message comes back as it was written.
    #[test]
    fn messages_round_trip() {
        let leave = LeaveIntent { ltime: 7, node: "a".into(), prune: true };
        assert_eq!(LeaveIntent::decode(&leave.encode()[1..]).unwrap(), leave);
        let join = JoinIntent { ltime: 8, node: "b".into() };
        assert_eq!(JoinIntent::decode(&join.encode()[1..]).unwrap(), join);
        let event = UserEvent { ltime: 9, name: "deploy".into(), payload: vec![0, 255], coalesce: true };
        assert_eq!(UserEvent::decode(&event.encode()[1..]).unwrap(), event);
        let query = Query {
            ltime: 1,
            id: 77,
            source: address(),
            source_node: "a".into(),
            filters: Some(vec![
                Filter::Nodes(vec!["a".into(), "b".into()]),
                Filter::Tag { tag: "role".into(), expr: "^web".into() },
            ]),
            flags: FLAG_ACK,
            relay_factor: 3,
            timeout: Duration::from_secs(15),
            name: "load".into(),
            payload: vec![1],
        };
        assert_eq!(Query::decode(&query.encode()[1..]).unwrap(), query);
        let response = QueryResponse { ltime: 1, id: 77, from: "b".into(), flags: 0, payload: vec![5; 40] };
        assert_eq!(QueryResponse::decode(&response.encode()[1..]).unwrap(), response);
        let header = RelayHeader { address: address(), node: "a".into() };
        let relay = header.encode(&response.encode());
        assert_eq!(RelayHeader::decode(&relay[1..]).unwrap(), (header, &response.encode()[..]));
        let state = SerfState {
            ltime: 5,
            status_ltimes: vec![("a".into(), 3), ("b".into(), 4)],
            left: vec!["b".into()],
            event_ltime: 6,
            events: vec![SlotEvents { ltime: 5, events: vec![SlotEvent { name: "x".into(), payload: vec![] }] }],
            query_ltime: 2,
        };
        assert_eq!(SerfState::decode(&state.encode()).unwrap(), state);
        let reply = KeyReply { result: true, message: "m".into(), keys: vec!["k".into()], primary: "k".into() };
        assert_eq!(KeyReply::decode(&reply.encode()).unwrap(), reply);
        assert_eq!(KeyRequest::decode(&KeyRequest { key: vec![1; 32] }.encode()).unwrap().key, vec![1; 32]);
        let member = ConflictMember {
            name: "a".into(),
            address: address(),
            tags: Tags::new(),
            status: 1,
            versions: [1, 5, 2, 2, 5, 4],
        };
        assert_eq!(ConflictMember::decode_address(&ConflictMember::encode(Some(&member))), Ok(Some(address())));
        assert_eq!(ConflictMember::decode_address(&ConflictMember::encode(None)), Ok(None));
    }

    /// Shows that a filter of a kind that we do not know matches nobody rather than everybody.
    #[test]
    fn unknown_filters_match_nobody() {
        let mut writer = Writer::new();
        writer.array(1);
        writer.raw(&[9]);
        assert_eq!(decode_filters(&mut Reader::new(&writer.finish())), Ok(None));
    }

    /// Shows that a time at the end of the clock is refused.
    #[test]
    fn the_end_of_time_is_refused() {
        let join = JoinIntent { ltime: LAMPORT_MAX, node: "b".into() };
        assert_eq!(JoinIntent::decode(&join.encode()[1..]), Err(WireError::Range { field: "LTime" }));
    }
}
