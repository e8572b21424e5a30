//! What happened, and why.

use crate::{CauseId, Name, Ref, Time};
use serde::{Deserialize, Serialize};
use std::fmt;

/// An immutable record of something that happened: `/regrow/events/<id>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Time,
    /// The node that recorded it.
    pub node: Name,
    /// What sort.
    pub kind: EventKind,
    /// What it happened to.
    pub object: Ref,
    /// For people: a clause without a full stop, the object not repeated: `killed by SIGKILL after 4m 2s`.
    pub message: String,
    /// Output or text that shows more, at most [`crate::limits::OUTPUT_BYTES_MAX`] bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// An event before it is recorded: the recorder adds the time, the node and the id.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Draft {
    /// What sort.
    pub kind: EventKind,
    /// What it happened to.
    pub object: Ref,
    /// See [`Event::message`].
    pub message: String,
    /// See [`Event::detail`].
    pub detail: Option<String>,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

impl Draft {
    /// An event about `object` without detail.
    pub fn new(kind: EventKind, object: Ref, message: impl Into<String>, cause: &CauseId) -> Draft {
        Draft { kind, object, message: message.into(), detail: None, cause: cause.clone() }
    }
}

/// Sorts of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventKind {
    /// An agent has started.
    AgentStarted,
    /// A member of gossip was recorded for the first time.
    MemberJoined,
    /// A member has left gossip.
    MemberLeft,
    /// A member was found dead by gossip: its key is gone, and its node's endpoints are out of the catalog.
    MemberFailed,
    /// A member that had failed or left is back.
    MemberReturned,
    /// A second source agrees that a node is gone: what it ran is replaced.
    NodeDead,
    /// A spec was applied.
    Applied,
    /// An object left the spec.
    Removed,
    /// A group's size was changed by hand.
    Scaled,
    /// A group's or an instance's replacement was asked for.
    ReplaceAsked,
    /// Planned changes were paused.
    Paused,
    /// They go on.
    Resumed,
    /// Everything is to stop.
    Halted,
    /// An instance was given a slot, or its next life.
    Assigned,
    /// A process was started.
    Started,
    /// A process was found alive after the agent's restart.
    Adopted,
    /// A process could not be started.
    StartFailed,
    /// A job that accompanies an instance's life has ended.
    Hooked,
    /// A process ended by itself.
    Exited,
    /// An instance is in a crash loop and waits.
    BackingOff,
    /// An endpoint is healthy.
    Passing,
    /// An endpoint is no longer healthy.
    Failing,
    /// An endpoint leaves its pools on purpose.
    Draining,
    /// A process was told to stop.
    Stopping,
    /// It is gone.
    Stopped,
    /// A rolling replacement has begun.
    RolloutStarted,
    /// It is complete: the new version is the last good one.
    RolloutDone,
    /// A version failed; the last good one comes back.
    RolledBack,
    /// A set of files is in place.
    Installed,
    /// A set is loaded and proved.
    Loaded,
    /// A set was refused at some stage; the good one stays.
    Refused,
    /// The last good set is back in place.
    Restored,
    /// The governor or a guard holds something back.
    Held,
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = serde_json::to_value(self).expect("a unit variant serialises");
        f.pad(text.as_str().expect("to its name"))
    }
}

/// An event's id and the last part of its key: time, a counter, the node, so that ids sort by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Shape: `<ms, 13 digits>-<counter, 6 hex digits>-<node>`.
    pub fn new(at: Time, counter: u32, node: &Name) -> EventId {
        EventId(format!("{:013}-{:06x}-{node}", at.0, counter & 0xff_ffff))
    }

    /// Takes one out of a key.
    pub fn parse(text: &str) -> Option<EventId> {
        let mut parts = text.splitn(3, '-');
        let digits = |part: &str, length| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
        let fits = digits(parts.next()?, 13) && digits(parts.next()?, 6) && Name::new(parts.next()?).is_ok();
        fits.then(|| EventId(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
