//! Deadlines of the machine, in order.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::io::StreamId;
use crate::time::Time;

/// What is due. A late one is known by its number or by what it finds, and does nothing. Only the end of a
/// suspicion is taken back when another is set: after a split there are as many as members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The next round of probing.
    Round,
    /// The next pings to watched neighbours.
    Watch,
    /// No direct ack of probe `0` came.
    ProbeDirect(u32),
    /// Probe `0` is over.
    ProbeEnd(u32),
    /// No ack came for the indirect ping served as `0`.
    RelayEnd(u32),
    /// The suspicion of a member is over, when its serial number is this.
    Suspicion(u32, u64),
    /// A suspect is probed again, when its suspicion's serial number is this.
    Reprobe(u32, u64),
    /// News is sent.
    Spread,
    /// A whole state is exchanged.
    PushPull,
    /// The same, out of turn, because news was dropped.
    CatchUp,
    /// A stream took too long.
    Stream(StreamId),
    /// A lost member or seed is tried.
    Reconnect,
    /// Clean-up.
    Reap,
    /// Our query of this Lamport time is over.
    QueryEnd(u64),
    /// The next step of leaving.
    Leave,
}

/// Names a timer that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey(Time, u64);

impl TimerKey {
    /// The same after [`Timers::shift`].
    pub(crate) fn shifted(self, by: Duration) -> Self {
        Self(self.0 + by, self.1)
    }
}

/// Timers by time, in the order they were set when the times are equal.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    queue: BTreeMap<TimerKey, Timer>,
    next: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) -> TimerKey {
        self.next += 1;
        let key = TimerKey(at, self.next);
        self.queue.insert(key, timer);
        key
    }

    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.queue.remove(&key);
    }

    /// When the first is due.
    pub(crate) fn first(&self) -> Option<Time> {
        self.queue.first_key_value().map(|(key, _)| key.0)
    }

    /// Takes the first that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        let entry = self.queue.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// Moves all by `by`, as if that time had not passed.
    pub(crate) fn shift(&mut self, by: Duration) {
        self.queue = std::mem::take(&mut self.queue).into_iter().map(|(key, timer)| (key.shifted(by), timer)).collect();
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}
