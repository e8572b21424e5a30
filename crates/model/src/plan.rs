//! What should happen next, as data.

use crate::event::Draft;
use crate::key::{Change, Key};
use crate::spec::Check;
use crate::{Action, CauseId, InstanceId, Name, Ref, Time};
use serde::Serialize;

/// What a planner wants: printable, comparable, and complete.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Plan {
    /// What to do, in order of importance. Actions on different objects may be done side by side.
    pub actions: Vec<Planned>,
    /// What would be done, were it not for a rule.
    pub held: Vec<Held>,
    /// Look again at this time even if nothing changes.
    pub recheck_at: Option<Time>,
}

/// One action with its reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Planned {
    /// What it is about. One action at a time is in flight for each object.
    pub object: Ref,
    /// What to do.
    pub action: Action,
    /// Why, for people: a clause without a full stop, `web-1 was killed by SIGKILL`.
    pub why: String,
    /// The chain that it belongs to.
    pub cause: CauseId,
    /// What it takes out of service on purpose; `None` for what disturbs nothing.
    pub disrupts: Option<Disruption>,
    /// Records that it was decided on and does not write: they are compared as well.
    #[serde(skip)]
    pub given: Vec<Key>,
    /// Written before the action begins, so that a crash in between leaks and doubles nothing. Empty for
    /// [`Action::Record`].
    pub intent: Vec<Change>,
    /// Events to be recorded with it: for [`Action::Record`] in its transaction, else with the intent.
    pub events: Vec<Draft>,
}

/// Something taken out of service on purpose: the governor's business.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Disruption {
    /// The group that loses a healthy instance.
    pub group: Name,
    /// Which one.
    pub instance: InstanceId,
    /// The process is alive and Regrow has decided that it must go (its checks fail): needs two sources, and is what
    /// the freeze holds back.
    pub destroys_alive: bool,
}

/// Something that a rule holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Held {
    /// What it is about.
    pub object: Ref,
    /// What would be done: `stop web-1`.
    pub what: String,
    /// The rule.
    pub rule: Rule,
    /// Why, for people.
    pub why: String,
    /// Since when or until when, where it is known.
    pub until: Option<Time>,
}

/// The rules that hold things back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Fewer than `min_healthy` would be left.
    MinHealthy,
    /// The budget of the window is spent.
    Budget,
    /// Too much looks dead at once.
    Freeze,
    /// Gossip says that a node is dead, and nobody else does yet.
    SecondSource,
    /// The member comes and goes.
    Quarantine,
    /// An operator has paused planned changes.
    Pause,
    /// A guard of a template.
    Guard,
    /// A crash loop's wait.
    Backoff,
    /// An object named by `after` is not ready.
    After,
    /// Waiting for pools to let go of it, or for requests in flight.
    Drain,
    /// This version failed before.
    KnownBad,
    /// No port is free, or no node is there.
    Placement,
}

impl Plan {
    /// Looks again at `at`, or sooner if that was asked before.
    pub fn recheck(&mut self, at: Time) {
        self.recheck_at = Some(self.recheck_at.map_or(at, |sooner| sooner.min(at)));
    }

    /// Adds what another planner wants.
    pub fn merge(&mut self, other: Plan) {
        self.actions.extend(other.actions);
        self.held.extend(other.held);
        if let Some(at) = other.recheck_at {
            self.recheck(at);
        }
    }
}

/// What an outcome or an observation changes in the store: one transaction.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recorded {
    /// The writes.
    pub changes: Vec<Change>,
    /// The events to be recorded in the same transaction.
    pub events: Vec<Draft>,
}

/// An endpoint whose checks this node must run.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckTarget {
    /// The service.
    pub service: Name,
    /// The slot.
    pub instance: InstanceId,
    /// The life.
    pub incarnation: u64,
    /// Where it serves.
    pub address: String,
    /// Where it serves.
    pub port: u16,
    /// It has not been healthy in this life: checked more often than the interval, at most every 100 ms.
    pub starting: bool,
    /// The checks other than `process`, which the end of the process answers.
    pub checks: Vec<Check>,
    /// Working directory of scripts.
    pub directory: String,
}
