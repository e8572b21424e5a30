//! Datagrams that came: each message to its place.

use std::net::SocketAddr;

use crate::gossip::Gossip;
use crate::news::News;
use crate::wire::{
    Accusation, Ack, AliveRef, IndirectPing, IntentRef, LeaveIntent, Nack, Ping, Query, QueryResponse, RelayHeader,
    UserEvent, WireError, is_unusable, serf_type, swim_type, user_message,
};

/// Longest message that is relayed for another, in bytes.
const RELAY_BYTES_MAX: usize = 1300;

impl Gossip {
    pub(crate) fn on_packet(&mut self, from: SocketAddr, bytes: &[u8]) {
        match self.config.envelope.open_parts(bytes) {
            Ok(parts) => {
                for (kind, body) in parts.iter() {
                    if let Err(error) = self.on_part(from, kind, body) {
                        self.drop_message(from, error);
                    }
                }
            }
            Err(error) => self.drop_message(from, error),
        }
    }

    fn on_part(&mut self, from: SocketAddr, kind: u8, body: &[u8]) -> Result<(), WireError> {
        match kind {
            swim_type::PING => self.on_ping(from, Ping::decode(body)?.0),
            swim_type::INDIRECT_PING => self.on_indirect_ping(from, IndirectPing::decode(body)?),
            swim_type::ACK => self.on_ack(Ack::decode(body)?.0),
            swim_type::NACK => self.on_nack(Nack::decode(body)?.seq),
            swim_type::SUSPECT => self.on_suspect_from(from, Accusation::decode(body)?),
            swim_type::ALIVE => self.on_alive(AliveRef::decode(body)?),
            swim_type::DEAD => self.on_dead_from(Accusation::decode(body)?),
            swim_type::USER => self.on_user_message(body)?,
            kind => return Err(WireError::UnknownType(kind)),
        }
        Ok(())
    }

    /// A Serf message, by datagram or stream.
    pub(crate) fn on_user_message(&mut self, message: &[u8]) -> Result<(), WireError> {
        let (&kind, body) = message.split_first().ok_or(WireError::Truncated)?;
        match kind {
            serf_type::LEAVE => {
                let leave = LeaveIntent::decode(body)?;
                if self.on_leave_intent(&leave) {
                    let about = self.config.directory.name(&leave.node);
                    self.intents.push(News::Leave(about, leave.ltime, leave.prune));
                }
            }
            serf_type::JOIN => {
                let join = IntentRef::decode(body)?;
                if self.on_join_intent(join.node, join.ltime) {
                    self.intents.push(News::Join(self.config.directory.name(join.node), join.ltime));
                }
            }
            serf_type::USER_EVENT => {
                if self.on_user_event(UserEvent::decode(body)?) {
                    self.events.push(News::Plain(message.into()));
                }
            }
            serf_type::QUERY => {
                if self.on_query(Query::decode(body)?) {
                    self.queries.push(News::Plain(message.into()));
                }
            }
            serf_type::QUERY_RESPONSE => self.on_query_response(QueryResponse::decode(body)?),
            serf_type::RELAY => {
                let (header, message) = RelayHeader::decode(body)?;
                if message.len() > RELAY_BYTES_MAX {
                    return Err(WireError::Limit { what: "relayed message", limit: RELAY_BYTES_MAX });
                }
                if !is_unusable(header.address) {
                    self.send_plain(header.address, user_message(message));
                }
            }
            kind => return Err(WireError::UnknownType(kind)),
        }
        Ok(())
    }
}
