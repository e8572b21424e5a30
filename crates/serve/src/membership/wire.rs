//! What travels between the command line and the agent about members.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A member as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberLine {
    /// Its name.
    pub name: String,
    /// Where it is, as `IP:PORT`.
    pub address: String,
    /// `alive`, `suspect`, `leaving`, `left` or `failed`.
    pub status: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its incarnation.
    pub incarnation: u32,
    /// Whether it is in quarantine for coming and going too often: nothing is replaced because of it.
    #[serde(default)]
    pub quarantined: bool,
}

/// Addresses to join by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// As `host[:port]`; the port is 7946 unless given.
    pub addresses: Vec<String>,
    /// Whether user events from before the join are to be handled too.
    #[serde(default)]
    pub replay: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Addresses at which the cluster was met.
    pub joined: Vec<String>,
    /// Addresses at which it was not, with the reason.
    pub failed: BTreeMap<String, String>,
}

/// A user event to fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fire {
    /// Its name.
    pub name: String,
    /// Its payload.
    #[serde(default)]
    pub payload: String,
    /// Whether handlers may see only the newest of several with this name.
    #[serde(default)]
    pub coalesce: bool,
}

/// A question to the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ask {
    /// Its name.
    pub name: String,
    /// Its payload.
    pub payload: String,
    /// Only these members; all when empty.
    pub nodes: Vec<String>,
    /// Only members whose tags match these regular expressions.
    pub tags: BTreeMap<String, String>,
    /// Whether each member shall acknowledge.
    pub ack: bool,
    /// Copies of each answer that travel through other members.
    pub relay_factor: u8,
    /// How long answers are taken, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// One line of the answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Told {
    /// A member has got it.
    Ack {
        /// Which.
        from: String,
    },
    /// A member has answered.
    Reply {
        /// Which.
        from: String,
        /// What; bytes that are no UTF-8 are replaced.
        payload: String,
    },
}

/// Tags to set and to remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retag {
    /// Set these.
    pub set: BTreeMap<String, String>,
    /// Remove these.
    pub delete: Vec<String>,
}

/// A member to be declared gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForceLeave {
    /// Who.
    pub name: String,
    /// Whether to forget it at once.
    #[serde(default)]
    pub prune: bool,
}

/// A change of the cluster's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rekey {
    /// `install`, `use`, `remove` or `list`.
    pub op: String,
    /// The key in base64; none for `list`.
    #[serde(default)]
    pub key: String,
}

/// What the members said to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rekeyed {
    /// Living members.
    pub nodes: usize,
    /// Answers.
    pub answers: usize,
    /// Answers that say no.
    pub errors: usize,
    /// Remarks and errors by member.
    pub messages: BTreeMap<String, String>,
    /// How many members have each key, when keys are listed.
    pub keys: BTreeMap<String, usize>,
    /// How many seal with each key, when keys are listed.
    pub primary: BTreeMap<String, usize>,
}

/// An estimate of a round trip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rtt {
    /// From whom.
    pub from: String,
    /// To whom.
    pub to: String,
    /// In seconds.
    pub seconds: f64,
}
