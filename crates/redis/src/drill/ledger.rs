//! What clients wrote, and what they were told. Pure.

use std::time::Duration;

use crate::slot::Slot;
use crate::slot_set::SlotSet;

/// A write that a client sent. Times count from the start of the load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Its number, which makes its key.
    pub number: u64,
    /// The slot of its key.
    pub slot: Slot,
    /// When the answer came, or the client gave up.
    pub done: Duration,
    /// Whether it was acknowledged.
    pub acknowledged: bool,
    /// Replicas that had it by then, where the client asked (`WAIT`).
    pub replicas: Option<u64>,
}

/// All writes of a drill.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// In no order.
    pub writes: Vec<Write>,
    /// Reads of acknowledged writes that were refused, or not answered in time.
    pub reads_failed: u64,
    /// Reads.
    pub reads: u64,
}

/// A time without an acknowledged write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// The last acknowledgement before it.
    pub from: Duration,
    /// The first after it.
    pub to: Duration,
}

impl Ledger {
    /// The longest time that ends after `since`, in which no write to these slots was acknowledged, although at least one
    /// failed. `None`: none failed, or none was acknowledged after the last failure.
    pub fn outage(&self, slots: &SlotSet, since: Duration) -> Option<Outage> {
        let of = |acknowledged| {
            let mut times: Vec<Duration> = self
                .writes
                .iter()
                .filter(|write| write.acknowledged == acknowledged && slots.contains(write.slot))
                .map(|write| write.done)
                .collect();
            times.sort_unstable();
            times
        };
        let (good, bad) = (of(true), of(false));
        let pairs = good.windows(2).map(|pair| Outage { from: pair[0], to: pair[1] });
        pairs
            .filter(|gap| gap.to > since && bad.iter().any(|time| gap.from <= *time && *time <= gap.to))
            .max_by_key(|gap| gap.to - gap.from)
    }

    /// How many were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.writes.iter().filter(|write| write.acknowledged).count() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes as `(ms, slot, acknowledged)`.
    fn ledger(writes: &[(u64, u16, bool)]) -> Ledger {
        let write = |(ms, slot, acknowledged): &(u64, u16, bool)| Write {
            number: 0,
            slot: Slot::new(*slot).unwrap(),
            done: Duration::from_millis(*ms),
            acknowledged: *acknowledged,
            replicas: None,
        };
        Ledger { writes: writes.iter().map(write).collect(), ..Ledger::default() }
    }

    #[test]
    fn outages() {
        let slots: SlotSet = [Slot::new(1).unwrap()].into_iter().collect();
        let check = |writes: &[(u64, u16, bool)], since, expect: Option<(u64, u64)>| {
            let outage = ledger(writes).outage(&slots, Duration::from_millis(since));
            assert_eq!(
                outage.map(|gap| (gap.from.as_millis() as u64, gap.to.as_millis() as u64)),
                expect,
                "{writes:?}"
            );
        };
        check(&[(1, 1, true), (2, 1, true), (900, 1, true)], 0, None);
        check(&[(1, 1, true), (2, 1, false), (900, 1, true), (905, 1, true)], 0, Some((1, 900)));
        // The order of the list does not matter, other slots do not, and what ended before the fault does not.
        check(&[(900, 1, true), (2, 1, false), (400, 2, true), (1, 1, true)], 0, Some((1, 900)));
        check(&[(1, 1, true), (2, 1, false), (900, 1, true), (950, 1, false), (960, 1, true)], 910, Some((900, 960)));
        check(&[(1, 1, true), (2, 1, false)], 0, None);
    }
}
