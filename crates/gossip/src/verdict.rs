//! What is believed of members: life, suspicion and death, by incarnation, as memberlist decides it.
//!
//! Where memberlist would take somebody's word for a member that we know otherwise (dead for long, or at
//! another address), we look for ourselves first: a claim is believed when an ack comes from its address.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::directory::{Name, Profile};
use crate::event::{Change, Event, Evidence, Status};
use crate::gossip::{Gossip, VERSIONS};
use crate::limits::{MEMBERS_MAX, META_BYTES_MAX};
use crate::news::{News, encode_profile};
use crate::record::{Claim, Record};
use crate::suspicion::Suspicion;
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::{Accusation, AliveRef, Dead, StateCode, Suspect, is_unusable};

/// Time between two looks for another node with our name.
const TWIN_SOUGHT_EVERY: Duration = Duration::from_secs(5);
/// How long a claim is looked into; then another may be.
const CLAIM_KEPT: Duration = Duration::from_secs(30);

/// Whether a node that speaks these versions can be understood, and understands us.
fn is_compatible(versions: &[u8]) -> bool {
    let [least, most, current, serf_least, serf_most, serf_current] = *match versions.first_chunk::<6>() {
        Some(versions) => versions,
        // The oldest peers send none, or only memberlist's.
        None => return versions.first_chunk::<3>().is_none_or(|[least, most, _]| *least > 0 && least <= most),
    };
    let ranged = |ours: &[u8], least: u8, most: u8, current: u8| {
        (least..=most).contains(&ours[2]) && (ours[0]..=ours[1]).contains(&current)
    };
    least > 0
        && ranged(&VERSIONS[..3], least, most, current)
        // Without a delegate, plain memberlist says 0.
        && (serf_most == 0 || ranged(&VERSIONS[3..], serf_least, serf_most, serf_current))
}

impl Gossip {
    /// Somebody says that a node lives.
    pub(crate) fn on_alive(&mut self, mut alive: AliveRef<'_>) {
        // Most that come say what is known. By name, that is found soonest: one look into the table.
        if let Some(record) = self.members.get(alive.node)
            && record.state == StateCode::Alive
            && alive.incarnation <= record.incarnation
            && alive.address == record.address()
            && record.id() != self.members.me().id()
        {
            return;
        }
        if alive.node.is_empty() || alive.meta.len() > META_BYTES_MAX || !is_compatible(alive.versions.as_slice()) {
            return;
        }
        if alive.address.port() == 0 {
            // Protocol 1 sent no port: everybody used the same.
            alive.address.set_port(self.config.address.port());
        }
        if is_unusable(alive.address) {
            return;
        }
        if self.is_me(alive.node) {
            return self.on_alive_self(alive);
        }
        let Some(record) = self.members.get(alive.node) else {
            if self.members.len() >= MEMBERS_MAX {
                return self.drop_message(alive.address, "as many members are kept as may be");
            }
            let name = self.config.directory.name(alive.node);
            let profile = self.profile(name, &alive, [0; 6]);
            self.members.insert(Record::new(profile.clone(), self.now), &mut self.rng);
            return self.believe_alive(profile, alive.incarnation, true);
        };
        let newer = alive.incarnation > record.incarnation;
        let moved = alive.address != record.address();
        match (record.is_living(), moved, newer) {
            (true, false, true) | (false, _, true) => {
                let profile = self.profile(record.profile.name.clone(), &alive, record.profile.versions);
                self.believe_alive(profile, alive.incarnation, false);
            }
            (true, false, false) => {}
            // It lives where we know it, or so we think: see whether it still answers there.
            (true, true, _) => self.look_into(alive),
            // It is dead with this incarnation or a later one: it refutes if it lives, once it hears of it.
            (false, _, false) => self.look_into(alive),
        }
    }

    /// What `alive` says of its node. `versions`: those known before; the oldest peers tell none.
    fn profile(&self, name: Name, alive: &AliveRef<'_>, versions: [u8; 6]) -> Arc<Profile> {
        let versions = alive.versions.as_slice().first_chunk::<6>().copied().unwrap_or(versions);
        self.config.directory.profile(&name, alive.address, alive.meta, versions)
    }

    /// Keeps a claim and sends probes for it.
    fn look_into(&mut self, alive: AliveRef<'_>) {
        let now = self.now;
        let Some(record) = self.members.get(alive.node) else { return };
        let (name, known, claimed) = (record.profile.name.clone(), record.address(), alive.address);
        let living = record.is_living();
        let rare = self.members.rare_mut(name.id());
        if rare
            .claim
            .as_ref()
            .is_some_and(|claim| now.since(claim.since) < CLAIM_KEPT && claim.alive.incarnation >= alive.incarnation)
        {
            return;
        }
        rare.claim = Some(Claim { alive: alive.to_owned(), since: now });
        if living {
            self.emit(Event::NameClaimed { name: name.as_str().to_owned(), known, claimed });
            self.probe_urgently(&name);
        } else {
            self.start_claim_probe(&name, claimed);
        }
    }

    /// An ack came from where a member was claimed to live.
    pub(crate) fn on_claim_proved(&mut self, name: &Name) {
        let Some(Claim { alive, .. }) = self.members.take_claim(name.id()) else { return };
        let Some(record) = self.members.at(name.id()) else { return };
        // A death that is still being told is refuted by the member itself, which our probe told of it.
        // One that is forgotten elsewhere, or a move, is believed on sight.
        if record.is_living() || record.is_forgotten(&self.config, self.now) || alive.incarnation > record.incarnation {
            let profile = self.profile(name.clone(), &alive.borrow(), record.profile.versions);
            self.believe_alive(profile, alive.incarnation, false);
        }
    }

    /// No ack came from there.
    pub(crate) fn on_claim_unproved(&mut self, name: &Name) {
        self.members.take_claim(name.id());
        let Some(record) = self.members.at(name.id()) else { return };
        if record.is_living() {
            let (incarnation, from) = (record.incarnation, self.config.name.clone());
            self.on_suspect(Suspect { incarnation, node: name.as_str().to_owned(), from, refused: false });
        }
    }

    /// Takes it that a node lives as it is said to, and passes that on.
    fn believe_alive(&mut self, profile: Arc<Profile>, incarnation: u32, new: bool) {
        let name = profile.name.clone();
        let id = name.id();
        let Some(record) = self.members.at_mut(id) else { return };
        let (was_living, was_suspect) = (record.is_living(), record.state == StateCode::Suspect);
        let was_failed = !new && record.status == Status::Failed;
        let changed = record.profile.meta != profile.meta || record.address() != profile.address;
        record.incarnation = incarnation;
        record.set_prune(false);
        if was_suspect {
            self.members.clear_suspicion(id);
        }
        self.members.take_claim(id);
        if !self.untold {
            self.news.push(News::Alive(profile.clone(), incarnation));
        }
        self.supersede(&name, profile.address);
        self.members.set_profile(id, profile);
        self.members.set_state(id, StateCode::Alive, self.now, &mut self.rng);
        if !was_living {
            self.on_return(&name, new, was_failed);
        } else {
            if was_suspect {
                self.emit(Event::Refuted { name: name.as_str().to_owned() });
            }
            if changed {
                self.tell_change(id, Change::Update, None, None);
            }
        }
    }

    /// Another member that lived at this address does not any more: found out at once.
    fn supersede(&mut self, name: &Name, address: SocketAddr) {
        let Some(other) = self.members.at_address(address).filter(|other| other.profile.name != *name) else { return };
        let (other, living) = (other.profile.name.clone(), other.is_living());
        if other == *self.members.me() {
            self.suspect_superseded(name);
        } else if living {
            self.probe_urgently(&other);
        }
    }

    fn on_return(&mut self, name: &Name, new: bool, was_failed: bool) {
        let intent = if new { self.recent_intents.remove(name.as_str()) } else { None };
        let Some(record) = self.members.at_mut(name.id()) else { return };
        record.status = Status::Alive;
        if let Some(intent) = intent {
            record.status_ltime = intent.ltime;
            if intent.leaving {
                record.status = Status::Leaving;
            }
        }
        let address = record.address();
        let quarantine =
            if was_failed { self.members.rare_mut(name.id()).count_return(&self.config, self.now) } else { None };
        self.seeds.insert(address, &mut self.rng);
        self.seeds.tried(address, true, self.config.reconnect_interval, self.now);
        if let Some((returns, until)) = quarantine {
            self.emit(Event::Quarantined { name: name.as_str().to_owned(), returns, until });
        }
        self.tell_change(name.id(), Change::Join, None, None);
        self.changed();
    }

    pub(crate) fn tell_change(&mut self, id: u32, change: Change, by: Option<String>, evidence: Option<Evidence>) {
        if let Some(record) = self.members.at(id) {
            let member = self.members.to_member(record);
            self.emit(Event::Member { change, member, by, evidence });
        }
    }

    /// Somebody says that we live: our earlier life, a twin, or old news.
    fn on_alive_self(&mut self, alive: AliveRef<'_>) {
        let Some(me) = self.members.at(self.members.me().id()).filter(|_| self.is_running()) else { return };
        let beats = alive.incarnation >= me.incarnation;
        if alive.address != me.address() {
            // Our earlier life at another address, or a twin. The earlier life does not answer.
            if self.twin_sought.is_none_or(|sought| self.now.since(sought) >= TWIN_SOUGHT_EVERY) {
                self.twin_sought = Some(self.now);
                self.start_twin_probe(alive.address, alive.incarnation);
            }
            if beats {
                self.refute(alive.incarnation);
            }
        } else if alive.incarnation > me.incarnation
            || (beats && (*alive.meta != *me.profile.meta || *alive.versions.as_slice() != me.profile.versions))
        {
            self.refute(alive.incarnation);
        }
    }

    /// Somebody thinks that we live where nobody answers: we have moved. Serf refuses our new address as long as it
    /// thinks that we live at the old one, so our old life leaves, and we announce ourselves anew.
    pub(crate) fn disown(&mut self, incarnation: u32) {
        if self.is_running() {
            let name = self.config.name.clone();
            let dead = Dead { incarnation, node: name.clone(), from: name };
            self.news.push(News::Plain(dead.encode().into()));
            self.raise_incarnation(incarnation);
        }
    }

    /// Tells everybody that we live, with an incarnation that beats the accusation.
    fn refute(&mut self, accused: u32) {
        self.raise_incarnation(accused);
        // Being accused is a sign that we are slow to answer.
        self.worsen(1);
    }

    /// Announces ourselves anew with an incarnation over `over` and over our own.
    pub(crate) fn raise_incarnation(&mut self, over: u32) {
        let id = self.members.me().id();
        let Some(me) = self.members.at_mut(id) else { return };
        me.incarnation = me.incarnation.max(over).saturating_add(1);
        self.news.push(News::Alive(me.profile.clone(), me.incarnation));
        self.changed();
    }

    /// A member passes a suspicion on. Whoever does and missed the refutation is told of it.
    pub(crate) fn on_suspect_from(&mut self, sender: SocketAddr, suspect: Accusation<'_>) {
        let Some(record) = self.members.get(suspect.node) else { return };
        if !record.is_living() {
            return;
        }
        if suspect.incarnation < record.incarnation
            && record.state == StateCode::Alive
            && self.members.at_address(sender).is_some_and(|member| member.is_living())
        {
            let alive = encode_profile(&record.profile, record.incarnation);
            self.send_plain(sender, alive);
            return;
        }
        self.on_suspect(suspect.to_suspect());
    }

    /// A member passes a death on.
    pub(crate) fn on_dead_from(&mut self, dead: Accusation<'_>) {
        if self.members.get(dead.node).is_some_and(Record::is_living) {
            self.on_dead(dead.to_dead(), None);
        }
    }

    pub(crate) fn on_suspect(&mut self, suspect: Suspect) {
        let evidence = match (self.is_me(&suspect.from), suspect.refused) {
            (true, true) => Evidence::Refused,
            (true, false) => Evidence::NoAck,
            (false, _) => Evidence::Told,
        };
        self.suspect_with(suspect, evidence);
    }

    /// Somebody suspects a node.
    pub(crate) fn suspect_with(&mut self, suspect: Suspect, evidence: Evidence) {
        let Some(record) = self.members.get(&suspect.node) else { return };
        if suspect.incarnation < record.incarnation {
            return;
        }
        if self.is_me(&suspect.node) {
            if self.is_running() {
                self.refute(suspect.incarnation);
            }
            return;
        }
        let about = record.profile.name.clone();
        match record.state {
            StateCode::Suspect => self.confirm(about, suspect, evidence),
            StateCode::Alive => self.begin_suspicion(about, suspect, evidence),
            StateCode::Dead | StateCode::Left => {}
        }
    }

    /// Sets the timer of a suspicion's end; the one before is taken back.
    fn time_suspicion(&mut self, id: u32, at: Time) {
        let Some(suspicion) = self.members.suspicion_mut(id) else { return };
        if let Some(before) = suspicion.timer.take() {
            self.timers.cancel(before);
        }
        suspicion.timer = Some(self.timers.set(at, Timer::Suspicion(id, suspicion.serial)));
    }

    /// Another suspicion of one that is suspected.
    fn confirm(&mut self, about: Name, suspect: Suspect, evidence: Evidence) {
        let (now, grace, ours) = (self.now, self.config.refused_grace, self.is_me(&suspect.from));
        let from = self.config.directory.name(&suspect.from);
        let Some(suspicion) = self.members.suspicion_mut(about.id()) else { return };
        suspicion.seen |= ours;
        let confirmed = suspicion.confirm(&from);
        let refused = suspect.refused && suspicion.refuse(&from, now, grace);
        let news = confirmed || refused;
        if news || ours {
            let at = suspicion.deadline().max(now);
            self.time_suspicion(about.id(), at);
        }
        if news {
            let Suspect { incarnation, refused, .. } = suspect;
            self.news.push(News::Suspect { about, from, incarnation, refused });
            self.emit(Event::Suspected { name: suspect.node, by: suspect.from, evidence });
        }
    }

    fn begin_suspicion(&mut self, about: Name, suspect: Suspect, evidence: Evidence) {
        self.serial += 1;
        let (serial, id, ours) = (self.serial, about.id(), self.is_me(&suspect.from));
        let from = self.config.directory.name(&suspect.from);
        let mut suspicion = Suspicion::new(serial, from.clone(), self.members.living(), &self.config, self.now);
        suspicion.seen = ours;
        if suspect.refused {
            suspicion.refuse(&from, self.now, self.config.refused_grace);
        }
        let Suspect { incarnation, refused, .. } = suspect;
        let deadline = suspicion.deadline();
        self.members.suspect(id, suspicion);
        self.time_suspicion(id, deadline);
        self.news.push(News::Suspect { about, from, incarnation, refused });
        if let Some(record) = self.members.at_mut(id) {
            record.incarnation = incarnation;
        }
        self.members.set_state(id, StateCode::Suspect, self.now, &mut self.rng);
        let watched = ours || self.members.watched(self.config.watch_neighbours).contains(&id);
        if watched && !self.config.suspect_probe_interval.is_zero() {
            let at = self.now + self.rng.within(self.config.suspect_probe_interval);
            self.timers.set(at, Timer::Reprobe(id, serial));
        }
        self.emit(Event::Suspected { name: suspect.node, by: suspect.from, evidence });
    }

    pub(crate) fn on_suspicion_due(&mut self, id: u32, serial: u64) {
        let Some(suspicion) = self.members.suspicion(id).filter(|suspicion| suspicion.serial == serial) else { return };
        let Some(record) = self.members.at(id) else { return };
        if suspicion.deadline() > self.now {
            // Moved while we slept; its timer moved with it, or another was set.
            let deadline = suspicion.deadline();
            return self.time_suspicion(id, deadline);
        }
        let name = record.profile.name.clone();
        if !suspicion.seen && !suspicion.is_refused() {
            // Others said so, and we may have missed the refutation: a last look of our own. Those that
            // found out have looked, so this delays no true death.
            self.time_suspicion(id, self.now + self.config.probe_deadline * 2);
            return self.probe_urgently(&name);
        }
        let evidence = if suspicion.is_refused() { Evidence::RefusedTwice } else { Evidence::NotRefuted };
        let from = self.config.name.clone();
        let dead = Dead { incarnation: record.incarnation, node: name.as_str().to_owned(), from };
        self.on_dead(dead, Some(evidence));
    }

    /// One that is suspected has answered us. When its time is over all the same, we missed its refutation:
    /// it gets another term, in which we ask it for its state.
    pub(crate) fn on_suspect_answered(&mut self, name: &Name) {
        let now = self.now;
        let Some(suspicion) = self.members.suspicion_mut(name.id()).filter(|s| s.deadline() <= now) else { return };
        suspicion.renew(now);
        let deadline = suspicion.deadline();
        self.time_suspicion(name.id(), deadline);
        if let Some(address) = self.members.at(name.id()).map(Record::address) {
            self.on_ping_from_lost(address);
        }
    }

    /// Somebody says that a node is dead, or the node says that it leaves. `evidence`: ours, if it was us.
    pub(crate) fn on_dead(&mut self, dead: Dead, evidence: Option<Evidence>) {
        let Some(record) = self.members.get_mut(&dead.node) else { return };
        if dead.incarnation < record.incarnation || !record.is_living() {
            return;
        }
        if dead.node == self.config.name {
            if self.phase.is_running() {
                self.refute(dead.incarnation);
            }
            return;
        }
        let left = dead.from == dead.node;
        record.incarnation = dead.incarnation;
        let status = if left || record.status == Status::Leaving { Status::Left } else { Status::Failed };
        record.status = status;
        let (about, prune) = (record.profile.name.clone(), record.is_pruned());
        let id = about.id();
        self.members.clear_suspicion(id);
        let claimed = self.members.claim(id).map(|claim| claim.alive.address);
        // One that was killed while leaving is dead to memberlist, and has left to Serf.
        let state = if left { StateCode::Left } else { StateCode::Dead };
        let from = self.config.directory.name(&dead.from);
        self.news.push(News::Dead { about: about.clone(), from, incarnation: dead.incarnation });
        self.members.set_state(id, state, self.now, &mut self.rng);
        let change = if status == Status::Left { Change::Leave } else { Change::Failed };
        let by = (!self.is_me(&dead.from)).then_some(dead.from);
        let evidence = evidence.or(Some(Evidence::Told)).filter(|_| change == Change::Failed);
        self.tell_change(id, change, by, evidence);
        self.changed();
        if prune {
            self.erase(id);
        } else if let Some(claimed) = claimed {
            self.start_claim_probe(&about, claimed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows whose versions are compatible: Serf's of all protocols, the oldest without any, not the future.
    #[test]
    fn compatible_versions() {
        assert!(is_compatible(&[1, 5, 2, 2, 5, 4]), "serf 0.8 to 0.10");
        assert!(is_compatible(&[1, 5, 2, 0, 0, 0]), "plain memberlist");
        assert!(is_compatible(&[]));
        assert!(is_compatible(&[1, 2, 2]));
        assert!(!is_compatible(&[0, 5, 2, 2, 5, 4]));
        assert!(!is_compatible(&[3, 9, 5, 2, 5, 4]), "does not speak our version");
        assert!(!is_compatible(&[1, 9, 9, 2, 5, 4]), "speaks a version that we do not");
        assert!(!is_compatible(&[3, 2, 2]));
    }
}
