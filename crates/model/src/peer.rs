//! The members of gossip, as one node sees them.

use crate::{Name, Time};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How a member stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It answers.
    Alive,
    /// It has said that it leaves, or was made to leave.
    Left,
    /// It has died, as far as gossip can tell.
    Failed,
}

impl Standing {
    /// The word for people and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Alive => "alive",
            Standing::Left => "left",
            Standing::Failed => "failed",
        }
    }
}

/// One member as this node's gossip sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// How it stands.
    pub standing: Standing,
    /// Somebody gets no answer from it, and it has not refuted that.
    pub suspect: bool,
    /// It comes and goes so often that nothing is replaced because of it.
    pub quarantined: bool,
    /// Which of its lives in gossip this is about; grows with each refutation and return.
    pub incarnation: u32,
    /// Where gossip reaches it, as `IP:PORT`.
    pub address: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When this node saw it take this standing.
    pub since: Time,
    /// Why it is taken for dead, for people: a clause without a full stop.
    pub why: String,
    /// What was seen of it lately, oldest first, a line each: who suspected it, which probes failed. At most
    /// [`crate::limits::PEER_TRAIL_LINES_MAX`] lines.
    pub trail: Vec<String>,
}

/// All members, as this node's gossip sees them; none where gossip is off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peers {
    /// By name, this node among them. Members whose names are no [`Name`] are not here.
    pub by_name: BTreeMap<Name, Peer>,
    /// What the keys that list members begin with; `None`: there are no such keys.
    pub listed_under: Option<String>,
}

impl Peers {
    /// Whether anybody but `node` is alive here.
    pub fn sees_others_than(&self, node: &Name) -> bool {
        self.by_name.iter().any(|(name, peer)| name != node && peer.standing == Standing::Alive)
    }
}
