//! Lamport clocks, and what was seen lately of user events and queries, so that each is taken once.

use std::collections::BTreeMap;

use crate::limits::{EVENT_BUFFER_BYTES_MAX, EVENT_SLOTS, LAMPORT_MAX, QUERY_SLOTS, SLOT_ENTRIES_MAX};
use crate::wire::{SlotEvent, SlotEvents};

/// Farthest that a clock follows another: a trillion events.
const JUMP_MAX: u64 = 1 << 40;

/// A Lamport clock. Starts at 1, so that a join at time 0 is older than everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock(u64);

impl Default for Clock {
    fn default() -> Self {
        Self(1)
    }
}

impl Clock {
    pub(crate) fn time(self) -> u64 {
        self.0
    }

    /// The time before, and then one more.
    pub(crate) fn tick(&mut self) -> u64 {
        let time = self.0;
        self.witness(time);
        time
    }

    /// Goes past a time that was seen. A jump that no cluster makes in its life is a forgery or damage, and
    /// is not followed.
    pub(crate) fn witness(&mut self, seen: u64) {
        if seen >= self.0 && seen - self.0 <= JUMP_MAX {
            self.0 = (seen + 1).min(LAMPORT_MAX);
        }
    }
}

/// Whether `ltime` is within the last `slots` times.
fn is_recent(ltime: u64, clock: Clock, slots: usize) -> bool {
    ltime >= clock.time().saturating_sub(slots as u64)
}

/// User events of the last [`EVENT_SLOTS`] Lamport times.
#[derive(Debug, Default)]
pub(crate) struct RecentEvents {
    slots: BTreeMap<u64, Vec<SlotEvent>>,
    bytes: usize,
    /// Events before this are not taken.
    pub(crate) min_ltime: u64,
}

impl RecentEvents {
    /// Takes an event unless it is old, was seen, or its time is full.
    pub(crate) fn take(&mut self, clock: Clock, ltime: u64, event: SlotEvent) -> bool {
        if ltime < self.min_ltime || !is_recent(ltime, clock, EVENT_SLOTS) {
            return false;
        }
        let size = event.name.len() + event.payload.len();
        let slot = self.slots.entry(ltime).or_default();
        if slot.contains(&event) || slot.len() >= SLOT_ENTRIES_MAX || self.bytes + size > EVENT_BUFFER_BYTES_MAX {
            return false;
        }
        slot.push(event);
        self.bytes += size;
        while let Some(entry) = self.slots.first_entry().filter(|entry| !is_recent(*entry.key(), clock, EVENT_SLOTS)) {
            self.bytes -= entry.remove().iter().map(|event| event.name.len() + event.payload.len()).sum::<usize>();
        }
        true
    }

    pub(crate) fn slots(&self) -> Vec<SlotEvents> {
        self.slots.iter().map(|(ltime, events)| SlotEvents { ltime: *ltime, events: events.clone() }).collect()
    }
}

/// Ids of queries of the last [`QUERY_SLOTS`] Lamport times.
#[derive(Debug, Default)]
pub(crate) struct RecentQueries {
    slots: BTreeMap<u64, Vec<u32>>,
    /// Queries before this are not taken.
    pub(crate) min_ltime: u64,
}

impl RecentQueries {
    /// Takes a query unless it is old, was seen, or its time is full.
    pub(crate) fn take(&mut self, clock: Clock, ltime: u64, id: u32) -> bool {
        if ltime < self.min_ltime || !is_recent(ltime, clock, QUERY_SLOTS) {
            return false;
        }
        let slot = self.slots.entry(ltime).or_default();
        if slot.contains(&id) || slot.len() >= SLOT_ENTRIES_MAX {
            return false;
        }
        slot.push(id);
        self.slots.retain(|ltime, _| is_recent(*ltime, clock, QUERY_SLOTS));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: usize, size: usize) -> SlotEvent {
        SlotEvent { name: n.to_string(), payload: vec![0; size] }
    }

    /// Shows that an event is taken once, an old one not at all, and that a flood at one time is bounded.
    #[test]
    fn events_are_taken_once() {
        let mut clock = Clock::default();
        let mut recent = RecentEvents::default();
        for _ in 0..1000 {
            let ltime = clock.tick();
            assert!(recent.take(clock, ltime, event(0, 10)));
            assert!(!recent.take(clock, ltime, event(0, 10)));
        }
        assert!(recent.slots.len() <= EVENT_SLOTS + 1);
        assert!(!recent.take(clock, 1, event(1, 10)), "too old");
        let taken = (0..1000).filter(|n| recent.take(clock, 1000, event(*n + 1, 10))).count();
        assert!(taken < SLOT_ENTRIES_MAX);
        let taken = (0..100).filter(|n| recent.take(clock, 1001 + *n as u64, event(*n, 1 << 20))).count();
        assert!(taken <= 4, "bytes are bounded");
    }

    /// Shows the same for queries.
    #[test]
    fn queries_are_taken_once() {
        let mut clock = Clock::default();
        let mut recent = RecentQueries::default();
        for n in 0..2000 {
            let ltime = clock.tick();
            assert!(recent.take(clock, ltime, n));
            assert!(!recent.take(clock, ltime, n));
        }
        assert!(recent.slots.len() <= QUERY_SLOTS + 1);
        assert!(!recent.take(clock, 1, 7));
    }

    /// Shows that the clock never runs backwards and never past its end.
    #[test]
    fn clocks_go_forward() {
        let mut clock = Clock::default();
        clock.witness(41);
        assert_eq!(clock.time(), 42);
        clock.witness(5);
        assert_eq!((clock.tick(), clock.time()), (42, 43));
        clock.witness(LAMPORT_MAX - 1);
        assert_eq!(clock.time(), 43, "one forged time does not end the clock");
    }
}
