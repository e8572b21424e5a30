//! The table of members, and what is kept of each.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::Config;
use crate::event::{Member, Status};
use crate::rng::Rng;
use crate::suspicion::Suspicion;
use crate::time::Time;
use crate::wire::{Alive, NodeState, StateCode, Tags};

/// Random picks tried before a search for members gives up.
const PICKS_MAX: usize = 256;
/// Returns after failure that are remembered.
const RETURNS_MAX: usize = 16;
/// Longest quarantine.
const QUARANTINE_MAX: Duration = Duration::from_secs(3600);

/// Somebody says that a member lives, where what we know does not allow to believe it unseen.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) alive: Alive,
    pub(crate) since: Time,
}

/// What is kept of a member.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) meta: Vec<u8>,
    pub(crate) tags: Tags,
    pub(crate) versions: [u8; 6],
    pub(crate) incarnation: u32,
    pub(crate) state: StateCode,
    /// When `state` last changed.
    pub(crate) changed: Time,
    pub(crate) status: Status,
    /// Lamport time of the last intent.
    pub(crate) status_ltime: u64,
    pub(crate) suspicion: Option<Suspicion>,
    pub(crate) claim: Option<Claim>,
    /// Forget it when it has left.
    pub(crate) prune: bool,
    /// Another has taken its address since it died.
    pub(crate) superseded: bool,
    pub(crate) quarantined_until: Option<Time>,
    /// When it was last told that only TCP gets through to it.
    pub(crate) udp_told: Option<Time>,
    /// When it returned after failure, within the window.
    returns: VecDeque<Time>,
    /// Whether its name is in the ring.
    ringed: bool,
}

impl Record {
    /// A record of a member that is not known to live yet.
    pub(crate) fn new(alive: &Alive, now: Time) -> Self {
        Self {
            name: alive.node.clone(),
            address: alive.address,
            meta: Vec::new(),
            tags: Tags::new(),
            versions: [0; 6],
            incarnation: 0,
            state: StateCode::Dead,
            changed: now,
            status: Status::Failed,
            status_ltime: 0,
            suspicion: None,
            claim: None,
            prune: false,
            superseded: false,
            quarantined_until: None,
            udp_told: None,
            returns: VecDeque::new(),
            ringed: false,
        }
    }

    pub(crate) fn is_living(&self) -> bool {
        matches!(self.state, StateCode::Alive | StateCode::Suspect)
    }

    /// Whether its death is so long ago that memberlist has forgotten it.
    pub(crate) fn is_forgotten(&self, config: &Config, now: Time) -> bool {
        !self.is_living() && now.since(self.changed) > config.gossip_to_the_dead
    }

    pub(crate) fn to_member(&self) -> Member {
        Member {
            name: self.name.clone(),
            address: self.address,
            tags: self.tags.clone(),
            status: self.status,
            suspect: self.state == StateCode::Suspect,
            incarnation: self.incarnation,
            versions: self.versions,
            quarantined_until: self.quarantined_until,
        }
    }

    pub(crate) fn to_alive(&self) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: self.name.clone(),
            address: self.address,
            meta: self.meta.clone(),
            versions: self.versions.to_vec(),
        }
    }

    pub(crate) fn to_node_state(&self) -> NodeState {
        NodeState { alive: self.to_alive(), state: self.state }
    }

    /// Whether it understands checksums on datagrams.
    pub(crate) fn takes_checksums(&self) -> bool {
        self.versions[1] >= 5
    }

    /// Whether it answers indirect pings with nacks.
    pub(crate) fn sends_nacks(&self) -> bool {
        self.versions[1] >= 4
    }

    /// Whether it answers pings over TCP.
    pub(crate) fn takes_tcp_pings(&self) -> bool {
        self.versions[1] >= 3
    }

    /// Counts a return after failure. Gives the number of returns in the window and the end of the
    /// quarantine when that makes one.
    pub(crate) fn count_return(&mut self, config: &Config, now: Time) -> Option<(u32, Time)> {
        self.returns.push_back(now);
        while self.returns.len() > RETURNS_MAX
            || self.returns.front().is_some_and(|at| now.since(*at) > config.flap_window)
        {
            self.returns.pop_front();
        }
        let returns = u32::try_from(self.returns.len()).unwrap_or(u32::MAX);
        let over = returns.checked_sub(config.flap_limit.max(1))?;
        let lasts = config.flap_quarantine.saturating_mul(1 << over.min(16)).min(QUARANTINE_MAX);
        self.quarantined_until = Some(now + lasts);
        Some((returns, now + lasts))
    }
}

/// All members by name, ourselves included.
#[derive(Debug, Default)]
pub(crate) struct Members {
    records: BTreeMap<String, Record>,
    /// Names of others in the order of probing, which is shuffled each time round.
    ring: Vec<String>,
    at: usize,
    living: usize,
    addresses: BTreeMap<SocketAddr, String>,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Members alive or suspect, ourselves included.
    pub(crate) fn living(&self) -> usize {
        self.living
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(name)
    }

    /// A record to change; its state, address and place in the table change by their own functions only.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Record> {
        self.records.get_mut(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.records.values_mut()
    }

    /// Marks the dead whose address another has taken.
    pub(crate) fn mark_superseded(&mut self) {
        for record in self.records.values_mut().filter(|record| !record.is_living()) {
            record.superseded |= self.addresses.get(&record.address).is_some_and(|holder| *holder != record.name);
        }
    }

    /// The member last known at an address.
    pub(crate) fn at_address(&self, address: SocketAddr) -> Option<&Record> {
        self.records.get(self.addresses.get(&address)?)
    }

    /// Adds a member; `ours` are not probed. Its address is found once [`Members::set_address`] was called,
    /// so that one that takes another's address can be told from it until then.
    pub(crate) fn insert(&mut self, record: Record, ours: bool, rng: &mut Rng) {
        let name = record.name.clone();
        self.living += usize::from(record.is_living());
        self.records.insert(name.clone(), record);
        if !ours {
            self.enter_ring(&name, rng);
        }
    }

    fn enter_ring(&mut self, name: &str, rng: &mut Rng) {
        let Some(record) = self.records.get_mut(name).filter(|record| !record.ringed) else { return };
        record.ringed = true;
        self.ring.push(name.to_owned());
        // A random place keeps the time to its first probe low on average. Source: memberlist.
        let last = self.ring.len() - 1;
        let place = rng.below(last + 1);
        self.ring.swap(place, last);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Record> {
        let record = self.records.remove(name)?;
        self.living -= usize::from(record.is_living());
        if self.addresses.get(&record.address).is_some_and(|at| at == name) {
            self.addresses.remove(&record.address);
        }
        // Its name stays in the ring until the next time round.
        Some(record)
    }

    pub(crate) fn set_state(&mut self, name: &str, state: StateCode, now: Time, rng: &mut Rng) {
        let Some(record) = self.records.get_mut(name) else { return };
        if record.state == state {
            return;
        }
        let was = record.is_living();
        record.state = state;
        record.changed = now;
        let is = record.is_living();
        self.living = self.living + usize::from(is) - usize::from(was);
        if is && !was {
            self.enter_ring(name, rng);
        }
    }

    pub(crate) fn set_address(&mut self, name: &str, address: SocketAddr) {
        let Some(record) = self.records.get_mut(name) else { return };
        if self.addresses.get(&record.address).is_some_and(|at| at == name) {
            self.addresses.remove(&record.address);
        }
        record.address = address;
        self.addresses.insert(address, name.to_owned());
    }

    /// The next member to probe. `None` when nobody else lives.
    pub(crate) fn next_to_probe(&mut self, config: &Config, now: Time, rng: &mut Rng) -> Option<String> {
        for _ in 0..2 {
            while let Some(name) = self.ring.get(self.at) {
                self.at += 1;
                if self.records.get(name).is_some_and(Record::is_living) {
                    return Some(name.clone());
                }
            }
            self.at = 0;
            let records = &mut self.records;
            records.values_mut().for_each(|record| record.ringed = false);
            self.ring.retain(|name| {
                let record = records.get_mut(name).filter(|record| !record.ringed && !record.is_forgotten(config, now));
                record.map(|record| record.ringed = true).is_some()
            });
            rng.shuffle(&mut self.ring);
        }
        None
    }

    /// Up to `count` different other members that pass `choose`, at random.
    pub(crate) fn pick(&self, count: usize, rng: &mut Rng, choose: impl Fn(&Record) -> bool) -> Vec<&Record> {
        let mut found: Vec<&Record> = Vec::with_capacity(count.min(self.ring.len()));
        if self.ring.len() <= 3 * count {
            let mut names: Vec<&String> = self.ring.iter().collect();
            names.sort_unstable();
            names.dedup();
            rng.shuffle(&mut names);
            found.extend(names.into_iter().filter_map(|name| self.records.get(name)).filter(|r| choose(r)).take(count));
            return found;
        }
        for _ in 0..PICKS_MAX.min(3 * self.ring.len()) {
            if found.len() == count {
                break;
            }
            let name = &self.ring[rng.below(self.ring.len())];
            if let Some(record) = self.records.get(name)
                && choose(record)
                && !found.iter().any(|other| other.name == record.name)
            {
                found.push(record);
            }
        }
        found
    }

    /// The `count` living members that follow `name` in the order of names, round the end.
    pub(crate) fn neighbours(&self, name: &str, count: usize) -> Vec<String> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.records.range::<str, _>((Excluded(name), Unbounded));
        let before = self.records.range::<str, _>((Unbounded, Excluded(name)));
        after
            .chain(before)
            .map(|(_, record)| record)
            .filter(|r| r.is_living())
            .take(count)
            .map(|r| r.name.clone())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, port: u16) -> Record {
        let alive = Alive {
            incarnation: 1,
            node: name.to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            meta: Vec::new(),
            versions: Vec::new(),
        };
        let mut record = Record::new(&alive, Time::ZERO);
        record.state = StateCode::Alive;
        record
    }

    fn table(count: u16) -> (Members, Rng) {
        let mut rng = Rng::new([1; 32]);
        let mut members = Members::default();
        members.insert(member("me", 1), true, &mut rng);
        for n in 0..count {
            members.insert(member(&format!("n{n:02}"), 100 + n), false, &mut rng);
        }
        (members, rng)
    }

    /// Shows that each round probes every living member once, and nobody else.
    #[test]
    fn a_round_probes_each_once() {
        let (mut members, mut rng) = table(10);
        let config = Config::lan("me", SocketAddr::from(([127, 0, 0, 1], 1)));
        members.set_state("n03", StateCode::Dead, Time::ZERO, &mut rng);
        for _ in 0..3 {
            let mut round: Vec<String> =
                (0..9).map(|_| members.next_to_probe(&config, Time::ZERO, &mut rng).unwrap()).collect();
            round.sort();
            round.dedup();
            assert_eq!(round.len(), 9);
            assert!(!round.contains(&"n03".to_owned()) && !round.contains(&"me".to_owned()));
        }
        assert_eq!(members.living(), 10);
        let (mut alone, mut rng) = table(0);
        assert_eq!(alone.next_to_probe(&config, Time::ZERO, &mut rng), None);
    }

    /// Shows that a forgotten member leaves the ring and comes back to it when it lives again.
    #[test]
    fn the_dead_leave_the_ring() {
        let (mut members, mut rng) = table(3);
        let config = Config::lan("me", SocketAddr::from(([127, 0, 0, 1], 1)));
        members.set_state("n01", StateCode::Dead, Time::ZERO, &mut rng);
        let later = Time::from_millis(60_000);
        for _ in 0..4 {
            members.next_to_probe(&config, later, &mut rng);
        }
        assert!(!members.ring.contains(&"n01".to_owned()));
        members.set_state("n01", StateCode::Alive, later, &mut rng);
        assert_eq!(members.ring.len(), 3);
        let again = members.remove("n01").unwrap();
        members.insert(Record { ringed: false, ..again }, false, &mut rng);
        let mut probed: Vec<_> = (0..8).filter_map(|_| members.next_to_probe(&config, later, &mut rng)).collect();
        probed.drain(..5);
        probed.sort();
        assert_eq!(probed, ["n00", "n01", "n02"], "once each, though it was in the ring twice");
        assert_eq!((members.ring.len(), members.living()), (3, 4));
    }

    /// Shows that neighbours go round the end of the names and skip the dead.
    #[test]
    fn neighbours_go_round() {
        let (mut members, mut rng) = table(4);
        members.set_state("n00", StateCode::Dead, Time::ZERO, &mut rng);
        assert_eq!(members.neighbours("n02", 3), ["n03", "me", "n01"]);
        assert_eq!(members.neighbours("n02", 9), ["n03", "me", "n01"]);
    }

    /// Shows that picks are different, at random, and only those that pass.
    #[test]
    fn picks_are_different() {
        let (members, mut rng) = table(50);
        for count in [1, 3, 40] {
            let mut names: Vec<&str> =
                members.pick(count, &mut rng, |r| r.name != "n07").iter().map(|r| r.name.as_str()).collect();
            assert_eq!(names.len(), count);
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            assert!(!names.contains(&"n07") && !names.contains(&"me"));
        }
    }

    /// Shows that the third return in ten minutes makes a quarantine and a fourth doubles it.
    #[test]
    fn flapping_makes_a_quarantine() {
        let config = Config::lan("me", SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut record = member("a", 1);
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        assert_eq!(record.count_return(&config, at(0)), None);
        assert_eq!(record.count_return(&config, at(10)), None);
        assert_eq!(record.count_return(&config, at(20)), Some((3, at(320))));
        assert_eq!(record.count_return(&config, at(30)), Some((4, at(630))));
        assert_eq!(record.count_return(&config, at(30_000)), None, "old returns are forgotten");
    }
}
