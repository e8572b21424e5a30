//! The table of members, and what is kept of each.
//!
//! Dense, because it is the bulk of a large cluster's state: a record is 32 bytes, at the place that its name's
//! number in the [`Directory`] says. What few members have (a suspicion, a claim, returns that are counted) is
//! kept beside it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::directory::{Directory, Name, Profile};
use crate::event::Member;
use crate::index::{HashKey, Index};
use crate::record::{Claim, RINGED, Rare, Record, Records, SUPERSEDED};
use crate::rng::Rng;
use crate::suspicion::Suspicion;
use crate::time::Time;
use crate::wire::{StateCode, decode_tags};

/// Random picks tried before a search for members gives up.
const PICKS_MAX: usize = 256;

/// All members by name, ourselves included.
#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) directory: Directory,
    me: Name,
    records: Records,
    /// Those that are suspected.
    suspicions: BTreeMap<u32, Suspicion>,
    rare: BTreeMap<u32, Rare>,
    /// Numbers of others in the order of probing, which is shuffled each time round.
    ring: Vec<u32>,
    at: usize,
    living: usize,
    /// The member last known at an address.
    addresses: Index,
    hash: HashKey,
    /// Those that we watch; `None` when they have to be looked up anew.
    watched: Option<(usize, Vec<u32>)>,
}

impl Members {
    /// A table without members, not even ourselves.
    pub(crate) fn new(directory: Directory, me: &str, rng: &Rng) -> Self {
        directory.key(HashKey::new(rng));
        Self {
            me: directory.name(me),
            directory,
            records: Records::default(),
            suspicions: BTreeMap::new(),
            rare: BTreeMap::new(),
            ring: Vec::new(),
            at: 0,
            living: 0,
            addresses: Index::default(),
            hash: HashKey::new(rng),
            watched: None,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records.used
    }

    /// Members alive or suspect, ourselves included.
    pub(crate) fn living(&self) -> usize {
        self.living
    }

    /// Our own name.
    pub(crate) fn me(&self) -> &Name {
        &self.me
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Record> {
        self.records.get(self.directory.id(name)?)
    }

    /// A record to change; its state, profile and place in the table change by their own functions only.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Record> {
        self.records.get_mut(self.directory.id(name)?)
    }

    /// The record of a number, which is the caller's to have held on to.
    pub(crate) fn at(&self, id: u32) -> Option<&Record> {
        self.records.get(id)
    }

    pub(crate) fn at_mut(&mut self, id: u32) -> Option<&mut Record> {
        self.records.get_mut(id)
    }

    /// All, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        let order = self.directory.order();
        (0..order.len()).filter_map(move |at| self.records.get(order[at]))
    }

    /// All that are dead or have left, in no order that means anything.
    pub(crate) fn gone(&self) -> impl Iterator<Item = &Record> {
        let gone = self.len() - self.living;
        self.records.iter().filter(|record| !record.is_living()).take(gone)
    }

    pub(crate) fn suspicion(&self, id: u32) -> Option<&Suspicion> {
        self.suspicions.get(&id)
    }

    pub(crate) fn suspicion_mut(&mut self, id: u32) -> Option<&mut Suspicion> {
        self.suspicions.get_mut(&id)
    }

    pub(crate) fn suspicions_mut(&mut self) -> impl Iterator<Item = &mut Suspicion> {
        self.suspicions.values_mut()
    }

    /// Members under suspicion.
    pub(crate) fn suspects(&self) -> usize {
        self.suspicions.len()
    }

    pub(crate) fn suspect(&mut self, id: u32, suspicion: Suspicion) {
        self.suspicions.insert(id, suspicion);
    }

    pub(crate) fn clear_suspicion(&mut self, id: u32) {
        self.suspicions.remove(&id);
    }

    pub(crate) fn rare(&self, id: u32) -> Option<&Rare> {
        self.rare.get(&id)
    }

    /// What is rare of a member, to be changed.
    pub(crate) fn rare_mut(&mut self, id: u32) -> &mut Rare {
        self.rare.entry(id).or_default()
    }

    pub(crate) fn claim(&self, id: u32) -> Option<&Claim> {
        self.rare.get(&id)?.claim.as_ref()
    }

    pub(crate) fn take_claim(&mut self, id: u32) -> Option<Claim> {
        self.rare.get_mut(&id)?.claim.take()
    }

    /// Ends quarantines whose time is over and forgets returns that are; gives the names of the released.
    pub(crate) fn release(&mut self, config: &Config, now: Time) -> Vec<String> {
        let mut released = Vec::new();
        let records = &self.records;
        self.rare.retain(|id, rare| {
            if rare.quarantined_until.is_some_and(|until| until <= now) {
                rare.quarantined_until = None;
                released.extend(records.get(*id).map(|record| record.name().to_owned()));
            }
            if rare.returns.back().is_some_and(|at| now.since(*at) > config.flap_window) {
                rare.returns.clear();
            }
            !rare.is_empty()
        });
        released.sort_unstable();
        released
    }

    pub(crate) fn to_member(&self, record: &Record) -> Member {
        Member {
            name: record.name().to_owned(),
            address: record.address(),
            tags: decode_tags(&record.profile.meta).unwrap_or_default(),
            status: record.status,
            suspect: record.state == StateCode::Suspect,
            incarnation: record.incarnation,
            versions: record.profile.versions,
            quarantined_until: self.rare(record.id()).and_then(|rare| rare.quarantined_until),
        }
    }

    /// Marks the dead whose address another has taken.
    pub(crate) fn mark_superseded(&mut self) {
        let taken: Vec<u32> = self
            .gone()
            .filter(|record| self.at_address(record.address()).is_some_and(|holder| holder.id() != record.id()))
            .map(Record::id)
            .collect();
        for id in taken {
            if let Some(record) = self.records.get_mut(id) {
                record.set(SUPERSEDED, true);
            }
        }
    }

    /// The member last known at an address.
    pub(crate) fn at_address(&self, address: SocketAddr) -> Option<&Record> {
        let is_there = |id| self.records.get(id).is_some_and(|record| record.address() == address);
        self.records.get(self.addresses.get(self.hash.of(address), is_there)?)
    }

    fn leave_address(&mut self, id: u32) {
        let Some(address) = self.records.get(id).map(Record::address) else { return };
        let (records, hash) = (&self.records, self.hash);
        self.addresses.remove(hash.of(address), id, |id| hash_of(records, hash, id));
    }

    /// Adds a member; we are not probed. Its address is found once [`Members::set_profile`] was called,
    /// so that one that takes another's address can be told from it until then.
    pub(crate) fn insert(&mut self, record: Record, rng: &mut Rng) {
        let id = record.id();
        let living = record.is_living();
        self.living += usize::from(living);
        self.records.insert(record);
        if id != self.me.id() {
            self.enter_ring(id, rng);
            self.watch_anew(id, living);
        }
    }

    fn enter_ring(&mut self, id: u32, rng: &mut Rng) {
        let Some(record) = self.records.get_mut(id).filter(|record| !record.has(RINGED)) else { return };
        record.set(RINGED, true);
        if self.ring.len() == self.ring.capacity() {
            self.ring.reserve_exact((self.ring.len() / 8).max(4));
        }
        self.ring.push(id);
        // A random place keeps the time to its first probe low on average. Source: memberlist.
        let last = self.ring.len() - 1;
        let place = rng.below(last + 1);
        self.ring.swap(place, last);
    }

    pub(crate) fn remove(&mut self, id: u32) {
        self.leave_address(id);
        let Some(record) = self.records.remove(id) else { return };
        self.living -= usize::from(record.is_living());
        self.suspicions.remove(&id);
        self.rare.remove(&id);
        self.forget_watched(id);
        // Its number stays in the ring until the next time round.
    }

    pub(crate) fn set_state(&mut self, id: u32, state: StateCode, now: Time, rng: &mut Rng) {
        let Some(record) = self.records.get_mut(id) else { return };
        if record.state == state {
            return;
        }
        let was = record.is_living();
        record.state = state;
        record.changed = now;
        let is = record.is_living();
        self.living = self.living + usize::from(is) - usize::from(was);
        if is && !was {
            if id != self.me.id() {
                self.enter_ring(id, rng);
            }
            self.watch_anew(id, true);
        } else if was && !is {
            self.forget_watched(id);
        }
    }

    /// Changes what a member says of itself. From now on it is the one at its address.
    pub(crate) fn set_profile(&mut self, id: u32, profile: Arc<Profile>) {
        self.leave_address(id);
        let address = profile.address;
        let holder = self.at_address(address).map(Record::id);
        let Some(record) = self.records.get_mut(id) else { return };
        record.profile = profile;
        record.set(SUPERSEDED, false);
        let (records, hash) = (&self.records, self.hash);
        if let Some(holder) = holder.filter(|holder| *holder != id) {
            self.addresses.remove(hash.of(address), holder, |id| hash_of(records, hash, id));
        }
        self.addresses.insert(hash.of(address), id, |id| hash_of(records, hash, id));
    }

    /// The next member to probe. `None` when nobody else lives.
    pub(crate) fn next_to_probe(&mut self, config: &Config, now: Time, rng: &mut Rng) -> Option<Name> {
        if self.ring.is_empty() {
            return None;
        }
        for _ in 0..2 {
            while let Some(id) = self.ring.get(self.at) {
                self.at += 1;
                if let Some(record) = self.records.get(*id).filter(|record| record.is_living()) {
                    return Some(record.profile.name.clone());
                }
            }
            self.at = 0;
            let records = &mut self.records;
            records.iter_mut().for_each(|record| record.set(RINGED, false));
            self.ring.retain(|id| {
                let record = records.get_mut(*id).filter(|r| !r.has(RINGED) && !r.is_forgotten(config, now));
                record.map(|record| record.set(RINGED, true)).is_some()
            });
            rng.shuffle(&mut self.ring);
        }
        None
    }

    /// Up to `count` different other members that pass `choose`, at random.
    pub(crate) fn pick(&self, count: usize, rng: &mut Rng, choose: impl Fn(&Record) -> bool) -> Vec<&Record> {
        let mut found: Vec<&Record> = Vec::with_capacity(count.min(self.ring.len()));
        if self.ring.len() <= 3 * count {
            let mut all: Vec<&Record> = self.ring.iter().filter_map(|id| self.records.get(*id)).collect();
            all.sort_unstable_by_key(|record| record.name());
            all.dedup_by_key(|record| record.id());
            rng.shuffle(&mut all);
            found.extend(all.into_iter().filter(|record| choose(record)).take(count));
            return found;
        }
        for _ in 0..PICKS_MAX.min(3 * self.ring.len()) {
            if found.len() == count {
                break;
            }
            if let Some(record) = self.records.get(self.ring[rng.below(self.ring.len())])
                && choose(record)
                && !found.iter().any(|other| other.id() == record.id())
            {
                found.push(record);
            }
        }
        found
    }

    /// Numbers of the `count` living members that follow us in the order of names, round the end.
    pub(crate) fn watched(&mut self, count: usize) -> &[u32] {
        if self.watched.as_ref().is_none_or(|(wanted, _)| *wanted != count) {
            let records = &self.records;
            let lives = |id| records.get(id).is_some_and(Record::is_living);
            self.watched = Some((count, self.directory.following(&self.me, count, lives)));
        }
        self.watched.as_ref().map_or(&[], |(_, ids)| ids)
    }

    /// One has come to life: those that we watch change when it comes before the last of them.
    fn watch_anew(&mut self, id: u32, living: bool) {
        let Some((count, ids)) = self.watched.as_ref().filter(|_| living) else { return };
        let place = |id: u32| self.records.get(id).map(|record| (record.name() < self.me.as_str(), record.name()));
        if ids.len() < *count || ids.last().is_some_and(|last| place(id) < place(*last)) {
            self.watched = None;
        }
    }

    fn forget_watched(&mut self, id: u32) {
        if self.watched.as_ref().is_some_and(|(_, ids)| ids.contains(&id)) {
            self.watched = None;
        }
    }
}

fn hash_of(records: &Records, key: HashKey, id: u32) -> u64 {
    records.get(id).map_or(0, |record| key.of(record.address()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(count: u16) -> (Members, Rng) {
        let mut rng = Rng::new([1; 32]);
        let mut members = Members::new(Directory::new(), "me", &rng);
        insert(&mut members, "me", 1, &mut rng);
        for n in 0..count {
            insert(&mut members, &format!("n{n:02}"), 100 + n, &mut rng);
        }
        (members, rng)
    }

    fn insert(members: &mut Members, name: &str, port: u16, rng: &mut Rng) {
        let directory = members.directory.clone();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let profile = directory.profile(&directory.name(name), address, &[], [0; 6]);
        let mut record = Record::new(profile.clone(), Time::ZERO);
        record.state = StateCode::Alive;
        let id = record.id();
        members.insert(record, rng);
        members.set_profile(id, profile);
    }

    fn id(members: &Members, name: &str) -> u32 {
        members.get(name).unwrap().id()
    }

    fn set(members: &mut Members, name: &str, state: StateCode, now: Time, rng: &mut Rng) {
        let id = id(members, name);
        members.set_state(id, state, now, rng);
    }

    fn probed(members: &mut Members, count: usize, now: Time, rng: &mut Rng) -> Vec<String> {
        let config = Config::lan("me", SocketAddr::from(([127, 0, 0, 1], 1)));
        let next = |_| members.next_to_probe(&config, now, rng).map(|name| name.as_str().to_owned());
        (0..count).filter_map(next).collect()
    }

    /// Shows that each round probes every living member once, and nobody else.
    #[test]
    fn a_round_probes_each_once() {
        let (mut members, mut rng) = table(10);
        set(&mut members, "n03", StateCode::Dead, Time::ZERO, &mut rng);
        for _ in 0..3 {
            let mut round = probed(&mut members, 9, Time::ZERO, &mut rng);
            round.sort();
            round.dedup();
            assert_eq!(round.len(), 9);
            assert!(!round.contains(&"n03".to_owned()) && !round.contains(&"me".to_owned()));
        }
        assert_eq!(members.living(), 10);
        let (mut alone, mut rng) = table(0);
        assert!(probed(&mut alone, 1, Time::ZERO, &mut rng).is_empty());
    }

    /// Shows that a forgotten member leaves the ring and comes back to it when it lives again.
    #[test]
    fn the_dead_leave_the_ring() {
        let (mut members, mut rng) = table(3);
        set(&mut members, "n01", StateCode::Dead, Time::ZERO, &mut rng);
        let later = Time::from_millis(60_000);
        probed(&mut members, 4, later, &mut rng);
        assert!(!members.ring.contains(&id(&members, "n01")));
        set(&mut members, "n01", StateCode::Alive, later, &mut rng);
        assert_eq!(members.ring.len(), 3);
        let gone = id(&members, "n01");
        members.remove(gone);
        insert(&mut members, "n01", 101, &mut rng);
        let mut probed = probed(&mut members, 8, later, &mut rng);
        probed.drain(..5);
        probed.sort();
        assert_eq!(probed, ["n00", "n01", "n02"], "once each, though it was in the ring twice");
        assert_eq!((members.ring.len(), members.living()), (3, 4));
    }

    /// Shows that those whom we watch go round the end of the names, skip the dead, and are looked up anew when
    /// one of them dies or one comes between us and them.
    #[test]
    fn neighbours_go_round() {
        let (mut members, mut rng) = table(4);
        insert(&mut members, "a", 50, &mut rng);
        let watched = |members: &mut Members, count: usize| {
            let ids = members.watched(count).to_vec();
            ids.into_iter().map(|id| members.at(id).unwrap().name().to_owned()).collect::<Vec<_>>()
        };
        set(&mut members, "n00", StateCode::Dead, Time::ZERO, &mut rng);
        assert_eq!(watched(&mut members, 2), ["n01", "n02"]);
        assert_eq!(watched(&mut members, 9), ["n01", "n02", "n03", "a"]);
        set(&mut members, "n02", StateCode::Dead, Time::ZERO, &mut rng);
        assert_eq!(watched(&mut members, 2), ["n01", "n03"]);
        set(&mut members, "n00", StateCode::Alive, Time::ZERO, &mut rng);
        assert_eq!(watched(&mut members, 2), ["n00", "n01"]);
        insert(&mut members, "mf", 60, &mut rng);
        assert_eq!(watched(&mut members, 2), ["mf", "n00"]);
        insert(&mut members, "zz", 61, &mut rng);
        assert!(members.watched.is_some(), "one that comes after them changes nothing");
        let gone = id(&members, "mf");
        members.remove(gone);
        assert_eq!(watched(&mut members, 9), ["n00", "n01", "n03", "zz", "a"]);
    }

    /// Shows that picks are different, at random, and only those that pass.
    #[test]
    fn picks_are_different() {
        let (members, mut rng) = table(50);
        for count in [1, 3, 40] {
            let mut names: Vec<&str> =
                members.pick(count, &mut rng, |r| r.name() != "n07").iter().map(|r| r.name()).collect();
            assert_eq!(names.len(), count);
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
            assert!(!names.contains(&"n07") && !names.contains(&"me"));
        }
    }

    /// Shows that the last that took an address is the one there, that nobody is when it goes, and that a dead one
    /// whose address another took is marked.
    #[test]
    fn an_address_has_one_holder() {
        let (mut members, mut rng) = table(3);
        let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let holder = |members: &Members, port| members.at_address(at(port)).map(|record| record.name().to_owned());
        assert_eq!(holder(&members, 101), Some("n01".to_owned()));
        set(&mut members, "n01", StateCode::Dead, Time::ZERO, &mut rng);
        insert(&mut members, "heir", 101, &mut rng);
        assert_eq!(holder(&members, 101), Some("heir".to_owned()));
        members.mark_superseded();
        assert!(members.get("n01").unwrap().is_superseded() && !members.get("n02").unwrap().is_superseded());
        let heir = id(&members, "heir");
        members.remove(heir);
        assert_eq!(holder(&members, 101), None);
        let moved = id(&members, "n02");
        let profile = members.directory.profile(&members.directory.name("n02"), at(7), &[], [0; 6]);
        members.set_profile(moved, profile);
        assert_eq!((holder(&members, 7), holder(&members, 102)), (Some("n02".to_owned()), None));
    }
}
