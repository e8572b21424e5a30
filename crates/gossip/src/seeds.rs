//! Addresses to find the cluster again by, kept outside the list of members: a split that outlasts every
//! record of the other side still heals.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::limits::SEEDS_MAX;
use crate::rng::Rng;
use crate::time::Time;

/// Longest wait between two tries of one address.
const WAIT_MAX: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Default)]
struct Seed {
    /// Given by the operator: never dropped.
    fixed: bool,
    failures: u32,
    next: Time,
}

/// At most [`SEEDS_MAX`] addresses, those of the operator first.
#[derive(Debug, Default)]
pub(crate) struct Seeds {
    seeds: BTreeMap<SocketAddr, Seed>,
}

impl Seeds {
    /// Keeps an address that the operator gave.
    pub(crate) fn insert_fixed(&mut self, address: SocketAddr, rng: &mut Rng) {
        self.insert(address, rng);
        if let Some(seed) = self.seeds.get_mut(&address) {
            seed.fixed = true;
        }
    }

    /// Keeps an address where a member was. When there are too many, one at random goes.
    pub(crate) fn insert(&mut self, address: SocketAddr, rng: &mut Rng) {
        self.seeds.entry(address).or_default();
        if self.seeds.len() > SEEDS_MAX {
            let loose: Vec<SocketAddr> =
                self.seeds.iter().filter(|(_, seed)| !seed.fixed).map(|(address, _)| *address).collect();
            let victim = loose.get(rng.below(loose.len())).copied().unwrap_or(address);
            self.seeds.remove(&victim);
        }
    }

    /// A try at `address` went well or not; each failure doubles the wait for the next, to ten minutes.
    pub(crate) fn tried(&mut self, address: SocketAddr, reached: bool, interval: Duration, now: Time) {
        let Some(seed) = self.seeds.get_mut(&address) else { return };
        seed.failures = if reached { 0 } else { seed.failures.saturating_add(1) };
        let wait = interval.saturating_mul(1 << seed.failures.min(10)).min(WAIT_MAX);
        seed.next = now + wait;
    }

    /// Addresses that may be tried now and that `wanted` asks for.
    pub(crate) fn due(&self, now: Time, wanted: impl Fn(SocketAddr) -> bool) -> Vec<SocketAddr> {
        self.seeds.iter().filter(|(at, seed)| seed.next <= now && wanted(**at)).map(|(at, _)| *at).collect()
    }

    /// How many that `wanted` asks for, due or not.
    pub(crate) fn count(&self, wanted: impl Fn(SocketAddr) -> bool) -> usize {
        self.seeds.keys().filter(|at| wanted(**at)).count()
    }

    pub(crate) fn contains(&self, address: SocketAddr) -> bool {
        self.seeds.contains_key(&address)
    }

    pub(crate) fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.seeds.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that seeds are bounded, the operator's are kept, and failures double the wait up to a bound.
    #[test]
    fn seeds_are_bounded_and_never_given_up() {
        let mut rng = Rng::new([1; 32]);
        let mut seeds = Seeds::default();
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
