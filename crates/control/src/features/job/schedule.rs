//! Which times of a schedule have come, and what to do with them.

use regrow_model::cron::{self, Cron};
use regrow_model::run::{Run, State};
use regrow_model::spec::{Misfire, Overlap, Schedule};
use regrow_model::{RunId, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A time that is told of no later than this is not missed.
pub const ON_TIME: Duration = Duration::from_secs(10);

/// Missed times that [`Misfire::All`] makes up for at once.
pub const CATCH_UP_MAX: usize = 100;

/// Times looked at in one go: beyond, only the last ones count.
const TIMES_MAX: usize = 100_000;

/// What a queue remembers of a schedule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fired {
    /// Times up to here are dealt with.
    pub at: Time,
    /// Runs that it began and that may not have ended, newest last.
    #[serde(default)]
    pub runs: Vec<RunId>,
}

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Due {
    /// Times that each become a run.
    pub fire: Vec<Time>,
    /// Runs to cancel first.
    pub cancel: Vec<RunId>,
    /// Times that were left out, for people: how many, and why.
    pub left_out: Option<(usize, &'static str)>,
    /// Everything up to here is dealt with then.
    pub at: Time,
    /// When to look again.
    pub next: Option<Time>,
}

/// Looks at a schedule that was last changed at `changed`. `live`: those of its runs that have not ended.
pub fn due(schedule: &Schedule, changed: Time, fired: &Fired, live: &[&Run], now: Time) -> Due {
    let since = fired.at.max(changed);
    if schedule.paused {
        return Due { at: now.max(since), ..Due::default() };
    }
    let mut times = Vec::new();
    let mut next = next_after(schedule, since);
    while let Some(time) = next.filter(|time| *time <= now && times.len() < TIMES_MAX) {
        times.push(time);
        next = next_after(schedule, time);
    }
    let mut due = Due { at: times.last().copied().unwrap_or(since), next, ..Due::default() };
    if times.is_empty() {
        return due;
    }
    let all = times.len();
    times.retain(|time| now.since(*time) <= schedule.late.0);
    let (mut missed, on_time): (Vec<Time>, Vec<Time>) = times.iter().partition(|time| now.since(**time) > ON_TIME);
    match schedule.misfire {
        Misfire::Skip => missed.clear(),
        Misfire::Last if on_time.is_empty() => drop(missed.drain(..missed.len().saturating_sub(1))),
        Misfire::Last => missed.clear(),
        Misfire::All => drop(missed.drain(..missed.len().saturating_sub(CATCH_UP_MAX))),
    }
    missed.extend(on_time);
    if missed.len() < all {
        due.left_out = Some((all - missed.len(), "they were missed"));
    }
    let waiting = live.iter().any(|run| matches!(run.state, State::Queued | State::Parked));
    let keep = match schedule.overlap {
        Overlap::Allow => missed.len(),
        Overlap::Skip if live.is_empty() => 1,
        Overlap::Skip => 0,
        Overlap::Queue if waiting => 0,
        Overlap::Queue => 1,
        Overlap::Replace => {
            due.cancel = live.iter().map(|run| run.id.clone()).collect();
            1
        }
    };
    if keep < missed.len() {
        due.left_out = Some((all - keep, "the last run has not ended"));
        missed.drain(..missed.len() - keep);
    }
    due.fire = missed;
    if due.fire.is_empty() {
        due.cancel.clear();
    }
    due
}

/// The first time of a schedule after `after`.
pub fn next_after(schedule: &Schedule, after: Time) -> Option<Time> {
    match (&schedule.cron, schedule.every) {
        (Some(text), _) => Cron::parse(text).ok()?.next_after(after, &cron::zone(&schedule.zone)?),
        (None, Some(every)) => {
            let every = u64::try_from(every.0.as_millis()).ok().filter(|every| *every > 0)?;
            Some(Time((after.0 / every + 1).saturating_mul(every)))
        }
        (None, None) => None,
    }
}
