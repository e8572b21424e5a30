//! The bytes on the network: memberlist's and Serf's, as Serf 0.8 to 0.10 write them.
//!
//! A datagram is `[label] [encrypted [crc [compressed [compound of messages]]]]`, each layer optional; a
//! stream is `[label] [encrypted [compressed [message]]]`. A message is one type byte and a MessagePack
//! map. Decoders borrow nothing beyond their input, allocate no more than it holds, and never panic.

mod compound;
mod compress;
mod crypt;
mod intent;
mod internal;
mod label;
mod node;
mod pack;
mod packet;
mod query;
mod serf;
mod state;
mod stream;
mod swim;
mod tags;

pub(crate) use compound::Bundle;
pub use compound::{join_compound, split_compound};
pub use compress::{compress, decompress};
pub use crypt::{EncryptionVersion, Key, Keyring, KeyringError};
pub(crate) use intent::IntentRef;
pub use intent::{JoinIntent, LeaveIntent};
pub use internal::{ConflictMember, KeyReply, KeyRequest};
pub use node::{Alive, Exchange, NodeState, PushPull, StateCode};
pub(crate) use node::{AliveRef, encode_alive, push_pull_header, push_pull_node, write_alive};
pub use pack::{Reader, Writer};
pub use packet::{COMPOUND_PART_BYTES, Envelope, Part};
pub use query::{FLAG_ACK, FLAG_NO_BROADCAST, Filter, Query, QueryResponse, RelayHeader};
pub use serf::{serf_type, user_message};
pub use state::{SerfState, SlotEvent, SlotEvents, UserEvent};
pub(crate) use state::{StateRef, encode_state};
pub use stream::{Feed, StreamBuffer, StreamMessage};
pub(crate) use swim::Accusation;
pub use swim::{
    Ack, Dead, ErrorReply, IndirectPing, Nack, Ping, Suspect, address_bytes, address_from_bytes, is_unusable, swim_type,
};
pub use tags::{Tags, decode_tags, encode_tags};

/// Why bytes from a peer were not understood. The message is dropped and state is unchanged; the fault is
/// the sender's (or the network's).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The input ends before the value does. On a stream this means that more has to come.
    #[error("input ends too early")]
    Truncated,
    /// A MessagePack value of another kind was expected.
    #[error("expected {expected}, found marker {marker:#04x}")]
    Kind {
        /// What was expected.
        expected: &'static str,
        /// The marker byte that was found.
        marker: u8,
    },
    /// A number does not fit its field.
    #[error("number does not fit {field}")]
    Range {
        /// The field.
        field: &'static str,
    },
    /// A length, count or depth is over its limit.
    #[error("{what} is over its limit of {limit}")]
    Limit {
        /// What is too long, too many or too deep.
        what: &'static str,
        /// The limit, in bytes or pieces.
        limit: usize,
    },
    /// Text that has to be UTF-8 is not.
    #[error("{field} is not utf-8")]
    Text {
        /// The field.
        field: &'static str,
    },
    /// The type byte of a message is unknown.
    #[error("unknown message type {0}")]
    UnknownType(u8),
    /// The compression algorithm is unknown.
    #[error("unknown compression algorithm {0}")]
    UnknownCompression(u8),
    /// The compressed bytes are damaged.
    #[error("damaged compressed data")]
    Compression,
    /// The checksum does not match.
    #[error("checksum does not match")]
    Checksum,
    /// The label is not ours: another cluster's message.
    #[error("label is not ours")]
    Label,
    /// No key of the ring opens the message, or it is not encrypted though it has to be.
    #[error("no installed key opens the message")]
    Decrypt,
    /// An encrypted message came and we have no key.
    #[error("message is encrypted and no key is installed")]
    NoKey,
    /// An address is neither 4 nor 16 bytes long.
    #[error("address of {0} bytes")]
    Address(usize),
}
