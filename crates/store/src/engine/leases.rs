//! Leases in force, the keys attached to them, and when they end.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use super::index::Key;
use crate::limits::VERSION_OVERHEAD_BYTES;

/// One lease.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) ttl: i64,
    pub(crate) expires: Duration,
    pub(crate) keys: BTreeSet<Key>,
    /// Whether its grant is durable, so that others may see it.
    pub(crate) durable: bool,
}

/// All leases.
#[derive(Default)]
pub(crate) struct Leases {
    pub(crate) all: BTreeMap<i64, Lease>,
    /// A lease is here once, at a time not after it ends: keeping it alive does not move it.
    due: BinaryHeap<Reverse<(Duration, i64)>>,
}

impl Leases {
    /// Puts a lease in force until `now + ttl`.
    pub(crate) fn grant(&mut self, id: i64, ttl: i64, now: Duration, durable: bool) {
        let expires = now + seconds(ttl);
        if self.all.insert(id, Lease { ttl, expires, keys: BTreeSet::new(), durable }).is_none() {
            self.due.push(Reverse((expires, id)));
        }
    }

    /// Takes a lease out of force.
    pub(crate) fn remove(&mut self, id: i64) -> Option<Lease> {
        self.all.remove(&id)
    }

    /// Puts back what [`Leases::remove`] took out.
    pub(crate) fn restore(&mut self, id: i64, lease: Lease) {
        self.due.push(Reverse((lease.expires, id)));
        self.all.insert(id, lease);
    }

    /// Lets a lease live for its full time from now. Returns its seconds; `None` if it is not, or no longer, in force.
    pub(crate) fn keep_alive(&mut self, id: i64, now: Duration) -> Option<i64> {
        let lease = self.all.get_mut(&id).filter(|lease| lease.durable && lease.expires > now)?;
        lease.expires = now + seconds(lease.ttl);
        Some(lease.ttl)
    }

    /// Starts the time of a lease whose grant has become durable.
    pub(crate) fn start(&mut self, id: i64, now: Duration) {
        if let Some(lease) = self.all.get_mut(&id) {
            lease.durable = true;
            lease.expires = now + seconds(lease.ttl);
        }
    }

    /// Starts all leases anew, as after a restart.
    pub(crate) fn start_all(&mut self, now: Duration) {
        self.due.clear();
        for (id, lease) in &mut self.all {
            lease.expires = now + seconds(lease.ttl);
            self.due.push(Reverse((lease.expires, *id)));
        }
    }

    /// Moves a key from one lease to another; 0 is none.
    pub(crate) fn attach(&mut self, key: &Key, from: i64, to: i64) {
        if from == to {
            return;
        }
        if let Some(lease) = self.all.get_mut(&from) {
            lease.keys.remove(key);
        }
        if let Some(lease) = self.all.get_mut(&to) {
            lease.keys.insert(key.clone());
        }
    }

    /// A lease whose time is over; it is not given twice, so it must be revoked, or [`Leases::retry`]-ed.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<i64> {
        while let Some(Reverse((at, id))) = self.due.peek().copied() {
            if at > now {
                return None;
            }
            self.due.pop();
            match self.all.get(&id) {
                // It was kept alive; it has its turn at its new time.
                Some(lease) if lease.expires > at => self.due.push(Reverse((lease.expires, id))),
                Some(_) => return Some(id),
                None => {}
            }
        }
        None
    }

    /// Asks for a lease that could not be revoked to be given again at `at`.
    pub(crate) fn retry(&mut self, id: i64, at: Duration) {
        self.due.push(Reverse((at, id)));
    }

    /// When the next lease may end.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// What the quota counts for leases.
    pub(crate) fn bytes(&self) -> u64 {
        self.all.len() as u64 * VERSION_OVERHEAD_BYTES
    }
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(u64::try_from(ttl).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A lease is due once, when its time is over, however often it was kept alive before.
    #[test]
    fn a_lease_is_due_when_its_last_keep_alive_is_over() {
        let mut leases = Leases::default();
        leases.grant(1, 10, at(0), true);
        leases.grant(2, 5, at(0), true);
        for now in 1..=9 {
            assert_eq!(leases.keep_alive(1, at(now)), Some(10));
        }
        assert_eq!(leases.pop_due(at(5)), Some(2));
        assert_eq!(leases.pop_due(at(5)), None);
        assert_eq!(leases.keep_alive(2, at(5)), None);
        assert_eq!(leases.pop_due(at(18)), None);
        assert_eq!(leases.due.len(), 1);
        assert_eq!(leases.pop_due(at(19)), Some(1));
        assert_eq!(leases.pop_due(at(19)), None);
    }
}
