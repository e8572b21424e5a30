//! What is in flight, by object.

use super::{Ticket, limits};
use regrow_model::{Action, CauseId, Observation, Outcome, Planned, Ref, Revision, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// How far an object's work has come.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// Its intent, or its record, is being committed.
    Intending,
    /// The action is under way; without an outcome until `deadline` it is planned again.
    Acting { deadline: Time },
    /// What came of it is being committed.
    Recording { origin: Origin, failures: u32 },
    /// What came of it is computed, once more or at last, when the view has `revision` or the time is `at`.
    Waiting { origin: Origin, failures: u32, revision: Revision, at: Time },
    /// All is committed; free when the view has `revision`.
    Settling { revision: Revision },
}

/// What is being recorded, kept so that it can be computed again from a newer view.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// An action's outcome.
    Outcome(Outcome),
    /// An observation, and the name of the chain that it began.
    Seen(Observation, CauseId),
}

/// One object's work.
#[derive(Clone, Debug)]
pub(super) struct Busy {
    /// The commit or action whose answer it waits for.
    pub(super) ticket: Ticket,
    pub(super) stage: Stage,
    /// The view that the commit in flight was computed from.
    pub(super) base: Revision,
    /// The view must have this before an outcome can be recorded: the intent's revision.
    pub(super) floor: Revision,
    /// The plan behind it; `None` for an observation.
    pub(super) planned: Option<Planned>,
}

/// The waits of objects whose actions fail without changing a record.
#[derive(Clone, Debug, Default)]
pub(super) struct Cooling {
    until: BTreeMap<Ref, (u32, Time)>,
}

impl Cooling {
    pub(super) fn failed(&mut self, object: &Ref, now: Time) {
        let entry = self.until.entry(object.clone()).or_insert((0, now));
        entry.1 = now.after(backoff(entry.0));
        entry.0 = entry.0.saturating_add(1);
    }

    pub(super) fn succeeded(&mut self, object: &Ref) {
        self.until.remove(object);
    }

    /// When the object may be acted on again, if that is later than now.
    pub(super) fn until(&self, object: &Ref, now: Time) -> Option<Time> {
        self.until.get(object).map(|(_, until)| *until).filter(|until| *until > now)
    }

    /// Forgets objects whose wait has been over for long.
    pub(super) fn tidy(&mut self, now: Time) {
        self.until.retain(|_, (_, until)| until.after(limits::RETRY_MAX) > now);
    }
}

/// The wait after `failures` failures before this one.
pub(super) fn backoff(failures: u32) -> Duration {
    limits::RETRY_FIRST.saturating_mul(1 << failures.min(16)).min(limits::RETRY_MAX)
}

/// How long an action may take by its own bounds.
pub(super) fn own_time(action: &Action) -> Duration {
    use regrow_model::action::Tell;
    let telling = |tell: &Tell| match tell {
        Tell::Command { timeout, .. } => *timeout,
        Tell::Nobody | Tell::Signal { .. } | Tell::Haproxy { .. } => Duration::ZERO,
    };
    match action {
        Action::Record { .. } | Action::Start { .. } | Action::Install { .. } => Duration::ZERO,
        Action::Stop { grace, .. } => *grace,
        Action::Load { tell, probe, .. } => {
            telling(tell).saturating_add(probe.as_ref().map_or(Duration::ZERO, |probe| probe.within.0))
        }
        Action::Restore { tell, .. } => telling(tell),
    }
}
