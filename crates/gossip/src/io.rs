//! What goes in and what comes out: two closed enums.

use std::net::SocketAddr;
use std::time::Duration;

use crate::event::Event;
use crate::time::Time;
use crate::wire::{Filter, Key, Keyring, KeyringError, Tags};

/// Names a stream (a TCP connection). The driver numbers those that it accepts, the machine those that it
/// asks for; the two never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u64);

/// Marks streams that the machine asked for.
const OURS: u64 = 1 << 63;

impl StreamId {
    /// A stream that the driver accepted. `number`: any it has not used, below 2^63.
    pub const fn accepted(number: u64) -> Self {
        Self(number & !OURS)
    }

    pub(crate) const fn opened(number: u64) -> Self {
        Self(number | OURS)
    }
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// The peer closed it.
    Closed,
    /// The connection was refused: nobody listens there.
    Refused,
    /// Anything else: timed out, reset, unreachable.
    Failed,
}

/// A question to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryRequest {
    /// The caller's number for it; events about it carry it.
    pub token: u64,
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: Vec<u8>,
    /// All must match.
    pub filters: Vec<Filter>,
    /// Whether every receiver shall acknowledge.
    pub ack: bool,
    /// Copies of each answer that travel through other members. Default: 0.
    pub relay_factor: u8,
    /// How long answers are taken; `None`: see `query_timeout_mult`.
    pub timeout: Option<Duration>,
}

/// What to do with the keys of the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOp {
    /// Make it known to all, for opening.
    Install(Key),
    /// Seal with it from now on.
    Use(Key),
    /// Forget it.
    Remove(Key),
    /// Tell which are installed.
    List,
}

/// All that can happen to the machine.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The time of [`Output::WakeAt`] has come. An extra one does no harm.
    Tick,
    /// A datagram came.
    Packet {
        /// Its sender.
        from: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// The host at this address said that nobody listens on the port (ICMP, or an error of the socket).
    /// Starts a probe of the member there; on its own it is no proof.
    PortUnreachable {
        /// Where we had sent.
        to: SocketAddr,
    },
    /// A stream was accepted.
    StreamAccepted {
        /// The driver's number for it.
        stream: StreamId,
        /// The peer.
        from: SocketAddr,
    },
    /// Bytes came over a stream.
    StreamData {
        /// Which.
        stream: StreamId,
        /// Any part of what the peer sent.
        bytes: Vec<u8>,
    },
    /// A stream ended, or was never opened.
    StreamEnded {
        /// Which.
        stream: StreamId,
        /// Why.
        end: StreamEnd,
    },
    /// Meet these; each is answered by [`Event::Joined`] or [`Event::JoinFailed`].
    Join {
        /// At most 1,024 are tried.
        addresses: Vec<SocketAddr>,
        /// Whether user events from before the join are of no interest.
        ignore_old_events: bool,
    },
    /// Leave the cluster; ends with [`Event::Left`].
    Leave,
    /// Fire a user event.
    UserEvent {
        /// Its name.
        name: String,
        /// Its payload.
        payload: Vec<u8>,
        /// Whether handlers may see only the newest of several with this name.
        coalesce: bool,
    },
    /// Ask the cluster.
    Query(QueryRequest),
    /// Answer a query of [`Event::Query`].
    Reply {
        /// The event's `id`.
        id: u64,
        /// The answer.
        payload: Vec<u8>,
    },
    /// Replace our tags.
    SetTags(Tags),
    /// Replace the keys of this member, and of no other.
    SetKeys(Keyring),
    /// Declare a failed member to have left.
    ForceLeave {
        /// Who.
        name: String,
        /// Whether to forget it at once.
        prune: bool,
    },
    /// Change or list the keys of the whole cluster; ends with [`Event::KeysDone`].
    Keys {
        /// The caller's number for it.
        token: u64,
        /// What to do.
        op: KeyOp,
        /// As in [`QueryRequest`].
        relay_factor: u8,
    },
    /// The runtime saw a TCP connection to this member's process refused.
    ConnectionRefused {
        /// The member.
        name: String,
    },
}

/// All that the machine asks of the driver.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Send a datagram.
    Packet {
        /// Where to.
        to: SocketAddr,
        /// The datagram, at most 1,400 bytes.
        bytes: Vec<u8>,
    },
    /// Connect and send these bytes, then hand in what comes. Give up at `deadline`.
    Open {
        /// The machine's number for it.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
        /// What to send first.
        bytes: Vec<u8>,
        /// When connecting has to be done.
        deadline: Time,
    },
    /// Send bytes on a stream that is open.
    Write {
        /// Which.
        stream: StreamId,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Close a stream once all is sent. Nothing needs to be handed in for it any more.
    Close {
        /// Which.
        stream: StreamId,
    },
    /// Hand in [`Input::Tick`] then. Replaces the time given before.
    WakeAt(Time),
    /// Something the rest of the program wants to know.
    Event(Event),
    /// [`crate::Gossip::snapshot`] has changed in what a restart needs: write it soon (half a second is soon).
    Persist,
    /// The input was refused; state is unchanged.
    Rejected(CommandError),
}

/// Why an input was refused. The fault is the caller's; state is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// We are leaving or have left.
    #[error("this node has left the cluster")]
    Left,
    /// The encoded message is too long.
    #[error("{what} of {length} encoded bytes, allowed are {limit}")]
    TooLong {
        /// What.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many are under way.
    #[error("too many {what}, allowed are {limit}")]
    TooMany {
        /// What.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// There is no such member.
    #[error("no member named {0}")]
    UnknownMember(String),
    /// The query is over, was answered, or never was.
    #[error("no query {0} waits for an answer")]
    UnknownQuery(u64),
    /// There are no keys to change.
    #[error("encryption is not enabled")]
    NoKeyring,
    /// The keys do not allow it.
    #[error("keyring refused")]
    Keyring(#[from] KeyringError),
}
