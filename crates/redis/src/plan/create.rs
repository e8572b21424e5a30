//! Which of some empty servers become masters, with which slots, and whose replicas the others are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::address::Address;
use crate::slot::{SLOTS, Slot};

/// A cluster to be made.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CreatePlan {
    /// The masters, in order of their slots; at least three.
    pub masters: Vec<MasterPlan>,
    /// Replicas that share a host with their master, because the hosts allow nothing better.
    pub exposed: Vec<Address>,
}

/// A master to be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct MasterPlan {
    /// Where it runs.
    pub address: Address,
    /// Its first and last slot.
    pub slots: (Slot, Slot),
    /// Its replicas.
    pub replicas: Vec<Address>,
}

/// Servers that no cluster can be made of; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A cluster needs three masters, or it can elect nobody.
    #[error("{servers} servers are too few: three masters with {replicas} replica(s) each need {needed}")]
    TooFew {
        /// How many were given.
        servers: usize,
        /// Replicas wished for each master.
        replicas: usize,
        /// How many are needed.
        needed: usize,
    },
    /// More servers than a cluster carries.
    #[error("{0} servers are too many: a cluster carries at most {SERVERS_MAX}")]
    TooMany(usize),
    /// One server named twice.
    #[error("{0} is named twice")]
    Twice(Address),
}

/// Servers in one plan. Source: Redis Cluster specification, "Main properties" (up to 1,000 nodes).
pub(super) const SERVERS_MAX: usize = 1000;

/// Fewest masters: a promotion needs the votes of most masters, so two cannot survive the loss of one.
const MASTERS_MIN: usize = 3;

/// Plans a cluster of `servers` with `replicas` for each master. Servers beyond a whole number of groups become further
/// replicas.
///
/// Slots: as even as 16384 allows. Masters: taken from the hosts in turn, so that no host holds more of them than it
/// must. Replicas: as few as possible share their master's host (none, where the hosts allow), and of those plans, one
/// where few replicas of one master share a host.
pub fn create(servers: &[Address], replicas: usize) -> Result<CreatePlan, CreateError> {
    let mut seen = BTreeSet::new();
    if let Some(twice) = servers.iter().find(|server| !seen.insert(*server)) {
        return Err(CreateError::Twice(twice.clone()));
    }
    if servers.len() > SERVERS_MAX {
        return Err(CreateError::TooMany(servers.len()));
    }
    let group = replicas.saturating_add(1);
    let count = servers.len() / group;
    if count < MASTERS_MIN {
        return Err(CreateError::TooFew {
            servers: servers.len(),
            replicas,
            needed: group.saturating_mul(MASTERS_MIN),
        });
    }
    let mut ordered = in_turn(servers);
    let spare = ordered.split_off(count);
    let seats = (0..spare.len()).map(|index| index % count).collect();
    let mut seating = Seating { masters: &ordered, replicas: &spare, seats };
    seating.settle();

    let mut masters: Vec<MasterPlan> = ordered
        .iter()
        .enumerate()
        .map(|(index, address)| MasterPlan {
            address: (*address).clone(),
            slots: share(index, count),
            replicas: Vec::new(),
        })
        .collect();
    let mut exposed = Vec::new();
    for (replica, seat) in spare.iter().zip(&seating.seats) {
        if replica.host == ordered[*seat].host {
            exposed.push((*replica).clone());
        }
        masters[*seat].replicas.push((*replica).clone());
    }
    Ok(CreatePlan { masters, exposed })
}

/// The servers, one of each host after the other.
fn in_turn(servers: &[Address]) -> Vec<&Address> {
    let mut hosts: BTreeMap<&str, VecDeque<&Address>> = BTreeMap::new();
    for server in servers {
        hosts.entry(&server.host).or_default().push_back(server);
    }
    let mut ordered = Vec::with_capacity(servers.len());
    while ordered.len() < servers.len() {
        ordered.extend(hosts.values_mut().filter_map(VecDeque::pop_front));
    }
    ordered
}

/// The slots of master `index` of `count`.
fn share(index: usize, count: usize) -> (Slot, Slot) {
    let border = |index: usize| (index * usize::from(SLOTS) / count) as u16;
    let at = |number| Slot::new(number).expect("a border below 16384, because index < count");
    (at(border(index)), at(border(index + 1) - 1))
}

/// Which replica sits at which master.
struct Seating<'a> {
    masters: &'a [&'a Address],
    replicas: &'a [&'a Address],
    seats: Vec<usize>,
}

/// Rounds of the second aim, which is a nicety: each round looks at all pairs.
const SPREAD_ROUNDS_MAX: usize = 8;

impl Seating<'_> {
    /// Swaps replicas until none sits at a master of its own host, if that can be had; then spreads them.
    ///
    /// Single swaps are enough for the first aim. Let replica r of host A sit at a master of A, let a replicas live on A and
    /// b seats be at masters of A. A seating without conflict exists only if a + b is at most the number of replicas.
    /// Then, because r is counted in both, some replica s is neither of A nor at a master of A; swapping r and s heals
    /// r and hurts nobody. Where a + b is more, the same swaps lead to the least number of conflicts.
    fn settle(&mut self) {
        for r in 0..self.seats.len() {
            if self.clash(r, self.seats[r]) == 0 {
                continue;
            }
            let host = &self.replicas[r].host;
            if let Some(s) = (0..self.seats.len())
                .find(|s| self.replicas[*s].host != *host && self.masters[self.seats[*s]].host != *host)
            {
                self.seats.swap(r, s);
            }
        }
        for _ in 0..SPREAD_ROUNDS_MAX {
            if !self.spread() {
                return;
            }
        }
    }

    /// One round of swaps that put fewer replicas of one master on one host and raise no clash. True when one was made.
    fn spread(&mut self) -> bool {
        let mut crowd: BTreeMap<(usize, &str), usize> = BTreeMap::new();
        for (replica, seat) in self.replicas.iter().zip(&self.seats) {
            *crowd.entry((*seat, &replica.host)).or_default() += 1;
        }
        let at = |crowd: &BTreeMap<(usize, &str), usize>, seat, host| crowd.get(&(seat, host)).copied().unwrap_or(0);
        let mut swapped = false;
        for r in 0..self.seats.len() {
            for s in 0..r {
                let (seat_r, seat_s) = (self.seats[r], self.seats[s]);
                let (host_r, host_s) = (self.replicas[r].host.as_str(), self.replicas[s].host.as_str());
                if seat_r == seat_s
                    || host_r == host_s
                    || self.clash(r, seat_s) + self.clash(s, seat_r) > self.clash(r, seat_r) + self.clash(s, seat_s)
                {
                    continue;
                }
                let now = at(&crowd, seat_r, host_r) + at(&crowd, seat_s, host_s);
                let then = at(&crowd, seat_s, host_r) + at(&crowd, seat_r, host_s) + 2;
                if then < now {
                    for (seat, host, up) in [
                        (seat_r, host_r, false),
                        (seat_s, host_s, false),
                        (seat_s, host_r, true),
                        (seat_r, host_s, true),
                    ] {
                        let entry = crowd.entry((seat, host)).or_default();
                        *entry = if up { *entry + 1 } else { *entry - 1 };
                    }
                    self.seats.swap(r, s);
                    swapped = true;
                }
            }
        }
        swapped
    }

    fn clash(&self, replica: usize, seat: usize) -> usize {
        usize::from(self.replicas[replica].host == self.masters[seat].host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Servers written as one letter a host: `AAB` is two on host A and one on B.
    fn servers(hosts: &str) -> Vec<Address> {
        hosts.chars().enumerate().map(|(index, host)| Address::new(host, 7000 + index as u16)).collect()
    }

    /// Each master as `host first-last: hosts of its replicas`.
    fn shown(hosts: &str, replicas: usize) -> (Vec<String>, usize) {
        let plan = create(&servers(hosts), replicas).unwrap();
        let line = |master: &MasterPlan| {
            let mut hosts: Vec<_> = master.replicas.iter().map(|replica| replica.host.as_str()).collect();
            hosts.sort_unstable();
            format!("{} {}-{}: {}", master.address.host, master.slots.0, master.slots.1, hosts.concat())
        };
        (plan.masters.iter().map(line).collect(), plan.exposed.len())
    }

    #[test]
    fn plans() {
        for (hosts, replicas, masters, exposed) in [
            ("ABC", 0, vec!["A 0-5460: ", "B 5461-10921: ", "C 10922-16383: "], 0),
            ("AABBCC", 1, vec!["A 0-5460: B", "B 5461-10921: C", "C 10922-16383: A"], 0),
            ("AAABBB", 1, vec!["A 0-5460: B", "B 5461-10921: A", "A 10922-16383: B"], 0),
            ("AAAAAA", 1, vec!["A 0-5460: A", "A 5461-10921: A", "A 10922-16383: A"], 3),
            ("AAAABC", 1, vec!["A 0-5460: A", "B 5461-10921: A", "C 10922-16383: A"], 1),
            ("AAABBBCCC", 2, vec!["A 0-5460: BC", "B 5461-10921: AC", "C 10922-16383: AB"], 0),
            ("ABCD", 0, vec!["A 0-4095: ", "B 4096-8191: ", "C 8192-12287: ", "D 12288-16383: "], 0),
            ("AABBCCD", 1, vec!["A 0-5460: CD", "B 5461-10921: A", "C 10922-16383: B"], 0),
        ] {
            let (lines, count) = shown(hosts, replicas);
            assert_eq!(count, exposed, "{hosts}: {lines:?}");
            assert_eq!(lines, masters, "{hosts}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(create(&servers("ABCDE"), 1), Err(CreateError::TooFew { servers: 5, replicas: 1, needed: 6 }));
        assert_eq!(
            create(&servers("AB"), usize::MAX),
            Err(CreateError::TooFew { servers: 2, replicas: usize::MAX, needed: usize::MAX })
        );
        let mut twice = servers("ABC");
        twice.push(twice[0].clone());
        assert_eq!(create(&twice, 0), Err(CreateError::Twice(twice[0].clone())));
    }

    proptest! {
        /// For any servers: every slot once, shares within one of each other, every server used once, and as few exposed
        /// replicas as the masters chosen allow: for each host A, (replicas on A + seats at masters of A − all replicas).
        #[test]
        fn holds_for_any_servers(hosts in "[A-E]{3,24}", replicas in 0usize..4) {
            let servers = servers(&hosts);
            let Ok(plan) = create(&servers, replicas) else {
                prop_assert!(servers.len() < 3 * (replicas + 1));
                return Ok(());
            };
            let mut next = 0;
            let mut used = BTreeSet::new();
            for master in &plan.masters {
                let (first, last) = (master.slots.0.number(), master.slots.1.number());
                prop_assert_eq!(first, next);
                next = last + 1;
                let size = usize::from(last - first) + 1;
                prop_assert!(size.abs_diff(16384 / plan.masters.len()) <= 1);
                prop_assert!(master.replicas.len() >= replicas);
                used.insert(&master.address);
                used.extend(&master.replicas);
            }
            prop_assert_eq!(next, SLOTS);
            prop_assert_eq!(used.len(), servers.len());
            let all: usize = plan.masters.iter().map(|master| master.replicas.len()).sum();
            let least: usize = ["A", "B", "C", "D", "E"].iter().map(|host| {
                let live = plan.masters.iter().flat_map(|master| &master.replicas).filter(|replica| replica.host == *host).count();
                let seats: usize = plan.masters.iter().filter(|master| master.address.host == *host).map(|master| master.replicas.len()).sum();
                (live + seats).saturating_sub(all)
            }).sum();
            prop_assert_eq!(plan.exposed.len(), least);
        }
    }
}
