//! Virtual time: what is still to happen, in order.

use regrow_model::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// When every run begins: a date that looks like one, because ids are made of times.
pub(crate) const BEGIN: Time = Time(1_700_000_000_000);

/// What is to happen, by when. What is due at the same time happens in the order in which it was planned.
#[derive(Debug)]
pub(crate) struct Timeline<T> {
    now: Time,
    planned: u64,
    coming: BTreeMap<(Time, u64), T>,
}

impl<T> Timeline<T> {
    pub(crate) fn new() -> Timeline<T> {
        Timeline { now: BEGIN, planned: 0, coming: BTreeMap::new() }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Plans something for `after` from now.
    pub(crate) fn plan(&mut self, after: Duration, what: T) {
        self.plan_at(self.now.after(after), what);
    }

    /// Plans something for a time; for now, when that is over.
    pub(crate) fn plan_at(&mut self, at: Time, what: T) {
        self.planned += 1;
        self.coming.insert((at.max(self.now), self.planned), what);
    }

    /// Moves to the next thing, unless that is later than `last`.
    pub(crate) fn next(&mut self, last: Time) -> Option<T> {
        let entry = self.coming.first_entry().filter(|entry| entry.key().0 <= last);
        let Some(entry) = entry else {
            self.now = self.now.max(last);
            return None;
        };
        self.now = entry.key().0;
        Some(entry.remove())
    }
}
