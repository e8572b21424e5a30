//! Addresses to find the cluster again by, kept outside the list of members: a split that outlasts every
//! record of the other side still heals.

use std::net::SocketAddr;
use std::time::Duration;

use crate::index::{HashKey, Index};
use crate::limits::SEEDS_MAX;
use crate::rng::Rng;
use crate::time::Time;

/// Longest wait between two tries of one address by one node, which tries one address each interval at most: so the
/// wait saves no traffic worth the time that a split would last longer. It only lets the others come first.
const WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
struct Seed {
    address: SocketAddr,
    next: Time,
    failures: u32,
    /// Given by the operator: never dropped.
    fixed: bool,
}

/// At most [`SEEDS_MAX`] addresses, those of the operator first.
#[derive(Debug)]
pub(crate) struct Seeds {
    seeds: Vec<Seed>,
    index: Index,
    hash: HashKey,
}

impl Seeds {
    pub(crate) fn new(rng: &Rng) -> Self {
        Self { seeds: Vec::new(), index: Index::default(), hash: HashKey::new(rng) }
    }

    fn find(&self, address: SocketAddr) -> Option<usize> {
        let is = |at: u32| self.seeds.get(at as usize).is_some_and(|seed| seed.address == address);
        self.index.get(self.hash.of(address), is).map(|at| at as usize)
    }

    /// Keeps an address that the operator gave.
    pub(crate) fn insert_fixed(&mut self, address: SocketAddr, rng: &mut Rng) {
        self.insert(address, rng);
        if let Some(at) = self.find(address) {
            self.seeds[at].fixed = true;
        }
    }

    /// Keeps an address where a member was. When there are too many, it takes the place of one at random.
    pub(crate) fn insert(&mut self, address: SocketAddr, rng: &mut Rng) {
        if self.find(address).is_some() {
            return;
        }
        let new = Seed { address, next: Time::ZERO, failures: 0, fixed: false };
        let hashes = |seeds: &[Seed], hash: HashKey, at: u32| seeds.get(at as usize).map_or(0, |s| hash.of(s.address));
        let (hash, at) = if self.seeds.len() < SEEDS_MAX {
            if self.seeds.len() == self.seeds.capacity() {
                self.seeds.reserve_exact((self.seeds.len() / 8).max(4));
            }
            self.seeds.push(new);
            (self.hash, self.seeds.len() - 1)
        } else {
            // From a random place on: the operator's are few.
            let from = rng.below(SEEDS_MAX);
            let places = (from..SEEDS_MAX).chain(0..from);
            let Some(at) = places.into_iter().find(|at| !self.seeds[*at].fixed) else { return };
            let (seeds, hash) = (&self.seeds, self.hash);
            self.index.remove(hash.of(seeds[at].address), at as u32, |at| hashes(seeds, hash, at));
            self.seeds[at] = new;
            (hash, at)
        };
        let seeds = &self.seeds;
        self.index.insert(hash.of(address), at as u32, |at| hashes(seeds, hash, at));
    }

    /// A try at `address` went well or not; each failure doubles the wait for the next, to a minute.
    pub(crate) fn tried(&mut self, address: SocketAddr, reached: bool, interval: Duration, now: Time) {
        let Some(at) = self.find(address) else { return };
        let seed = &mut self.seeds[at];
        seed.failures = if reached { 0 } else { seed.failures.saturating_add(1) };
        let wait = interval.saturating_mul(1 << seed.failures.min(10)).min(WAIT_MAX);
        seed.next = now + wait;
    }

    /// Addresses that may be tried now and that `wanted` asks for.
    pub(crate) fn due(&self, now: Time, wanted: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        self.seeds.iter().filter(|seed| seed.next <= now && wanted(seed.address)).map(|seed| seed.address).collect()
    }

    /// How many that `wanted` asks for, due or not.
    pub(crate) fn count(&self, wanted: impl Fn(SocketAddr) -> bool) -> usize {
        self.seeds.iter().filter(|seed| wanted(seed.address)).count()
    }

    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        self.find(address).is_some()
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.seeds.iter().map(|seed| seed.address)
    }

    pub(crate) fn len(&self) -> usize {
        self.seeds.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that seeds are bounded, the operator's are kept, and failures double the wait up to a bound.
    #[test]
    fn seeds_are_bounded_and_never_given_up() {
        let mut rng = Rng::new([1; 32]);
        let mut seeds = Seeds::new(&rng);
        let fixed = SocketAddr::from(([127, 0, 0, 1], 1));
        seeds.insert_fixed(fixed, &mut rng);
        for port in 2..3000 {
            seeds.insert(SocketAddr::from(([127, 0, 0, 1], port)), &mut rng);
        }
        assert_eq!(seeds.addresses().count(), SEEDS_MAX);
        assert!(seeds.addresses().any(|address| address == fixed));
        let mut now = Time::ZERO;
        for _ in 0..100 {
            seeds.tried(fixed, false, Duration::from_secs(10), now);
            assert!(seeds.due(now, |at| at == fixed).is_empty());
            now = now + WAIT_MAX;
            assert_eq!(seeds.due(now, |at| at == fixed), [fixed], "tried for ever");
        }
    }
}
