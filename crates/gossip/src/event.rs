//! What the rest of the program is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::time::Time;
use crate::wire::Tags;

/// A member's standing, as Serf names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It answers, or is not known to be dead; see [`Member::suspect`].
    Alive,
    /// It said that it will leave.
    Leaving,
    /// It has left, or was made to.
    Left,
    /// It died.
    Failed,
}

impl Status {
    /// Serf's word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }

    /// Serf's number for it.
    pub const fn code(self) -> u8 {
        match self {
            Self::Alive => 1,
            Self::Leaving => 2,
            Self::Left => 3,
            Self::Failed => 4,
        }
    }
}

/// A member as we see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: SocketAddr,
    /// Its tags.
    pub tags: Tags,
    /// Its standing.
    pub status: Status,
    /// Whether it does not answer somebody, and has not refuted that yet.
    pub suspect: bool,
    /// Its incarnation.
    pub incarnation: u32,
    /// Protocol versions: least, most, current of memberlist, then the same of Serf.
    pub versions: [u8; 6],
    /// Until when it is in quarantine for flapping: nothing should be replaced because of it.
    pub quarantined_until: Option<Time>,
}

/// What became of a member. Serf's five member events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It came, or came back.
    Join,
    /// It left, or was made to.
    Leave,
    /// It died.
    Failed,
    /// Its tags or address changed.
    Update,
    /// It is listed no more.
    Reap,
}

impl Change {
    /// Serf's word for the event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Join => "member-join",
            Self::Leave => "member-leave",
            Self::Failed => "member-failed",
            Self::Update => "member-update",
            Self::Reap => "member-reap",
        }
    }
}

/// How a suspicion or death was come to: for `explain`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// No ack came, direct, through others or over TCP.
    NoAck,
    /// A TCP connection was refused.
    Refused,
    /// Two members had their TCP connection refused.
    RefusedTwice,
    /// The suspicion was not refuted in time.
    NotRefuted,
    /// Another member said so.
    Told,
    /// Another member has taken its address.
    AddressTaken,
}

/// What the rest of the program is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A member came, went or changed.
    Member {
        /// What became of it.
        change: Change,
        /// The member after the change.
        member: Member,
        /// Who said so, when it was not found out here.
        by: Option<String>,
        /// How it was found out, for [`Change::Failed`].
        evidence: Option<Evidence>,
    },
    /// A member is suspected: by a first, then by each whose word counts too.
    Suspected {
        /// Who.
        name: String,
        /// By whom.
        by: String,
        /// Why.
        evidence: Evidence,
    },
    /// A suspected member has refuted.
    Refuted {
        /// Who.
        name: String,
    },
    /// A probe of ours got no answer.
    ProbeFailed {
        /// Who was probed.
        name: String,
        /// Members that were asked to probe for us.
        asked: usize,
        /// Those of them that said that they got no answer either.
        nacks: usize,
        /// Whether the TCP connection was refused.
        refused: bool,
    },
    /// UDP does not get through though TCP does: the network is half open. Told once a minute.
    UdpBlocked {
        /// To whom.
        name: String,
    },
    /// A member is in quarantine for flapping from now on.
    Quarantined {
        /// Who.
        name: String,
        /// Returns after failure within the window.
        returns: u32,
        /// Until when.
        until: Time,
    },
    /// A member's quarantine is over.
    Released {
        /// Who.
        name: String,
    },
    /// A name is claimed at two addresses; the claim is being looked into.
    NameClaimed {
        /// The name.
        name: String,
        /// Where we know it.
        known: SocketAddr,
        /// Where it is claimed.
        claimed: SocketAddr,
    },
    /// Another living node has our name and most members know it by that: we have stopped.
    NameLost {
        /// Where it is.
        other: SocketAddr,
    },
    /// A user event.
    User {
        /// Lamport time.
        ltime: u64,
        /// Name.
        name: String,
        /// Payload.
        payload: Vec<u8>,
        /// Whether handlers may see only the newest of several with this name.
        coalesce: bool,
    },
    /// A query for us; answer with [`crate::Input::Reply`] before the deadline, once.
    Query {
        /// Our number for it.
        id: u64,
        /// Lamport time.
        ltime: u64,
        /// Name.
        name: String,
        /// Payload.
        payload: Vec<u8>,
        /// Who asks.
        from: String,
        /// Until when answers are taken.
        deadline: Time,
    },
    /// A member acknowledged our query.
    QueryAck {
        /// The query's token.
        token: u64,
        /// The member.
        from: String,
    },
    /// A member answered our query.
    QueryReply {
        /// The query's token.
        token: u64,
        /// The member.
        from: String,
        /// The answer.
        payload: Vec<u8>,
    },
    /// Our query is over.
    QueryDone {
        /// The query's token.
        token: u64,
    },
    /// A change or listing of keys is over.
    KeysDone {
        /// The token.
        token: u64,
        /// What the members answered.
        report: KeyReport,
    },
    /// Our keys changed; base64, primary first. Write them to the key file.
    KeyringChanged {
        /// The keys.
        keys: Vec<String>,
    },
    /// We have met the cluster at this address.
    Joined {
        /// The address.
        address: SocketAddr,
    },
    /// We have not.
    JoinFailed {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        reason: String,
    },
    /// We were asleep (paused, suspended, starved): deadlines were moved so that nobody is blamed for it.
    Paused {
        /// For how long, in milliseconds.
        millis: u64,
    },
    /// A message was dropped: not understood, not for us, over a limit. At most one a second is told.
    Dropped {
        /// From where.
        from: SocketAddr,
        /// Why.
        reason: String,
        /// Dropped since the last time that it was told, this one included.
        count: u64,
    },
    /// We have left; the machine does nothing more.
    Left,
}

/// What the members answered to a change or listing of keys.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyReport {
    /// Living members when it was asked, ourselves included.
    pub nodes: usize,
    /// Answers.
    pub answers: usize,
    /// Answers that say no.
    pub errors: usize,
    /// Remarks and errors by member.
    pub messages: BTreeMap<String, String>,
    /// Members that have each key (base64), when keys are listed.
    pub keys: BTreeMap<String, usize>,
    /// Members that have each key as primary, when keys are listed.
    pub primary: BTreeMap<String, usize>,
}
