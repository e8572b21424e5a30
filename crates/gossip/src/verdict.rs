//! What is believed of members: life, suspicion and death, by incarnation, as memberlist decides it.
//!
//! Where memberlist would take somebody's word for a member that we know otherwise (dead for long, or at
//! another address), we look for ourselves first: a claim is believed when an ack comes from its address.

use std::net::SocketAddr;
use std::time::Duration;

use crate::event::{Change, Event, Evidence, Status};
use crate::gossip::{Gossip, VERSIONS};
use crate::limits::{MEMBERS_MAX, META_BYTES_MAX};
use crate::member::{Claim, Record};
use crate::suspicion::Suspicion;
use crate::timers::Timer;
use crate::wire::{Alive, Dead, StateCode, Suspect, decode_tags, is_unusable};

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
    pub(crate) fn on_alive(&mut self, mut alive: Alive) {
        if alive.node.is_empty() || alive.meta.len() > META_BYTES_MAX || !is_compatible(&alive.versions) {
            return;
        }
        if alive.address.port() == 0 {
            // Protocol 1 sent no port: everybody used the same.
            alive.address.set_port(self.config.address.port());
        }
        if is_unusable(alive.address) {
            return;
        }
        if self.is_me(&alive.node) {
            return self.on_alive_self(&alive);
        }
        let Some(record) = self.members.get(&alive.node) else {
            if self.members.len() >= MEMBERS_MAX {
                return self.drop_message(alive.address, "as many members are kept as may be");
            }
            let record = Record::new(&alive, self.now);
            self.members.insert(record, false, &mut self.rng);
            return self.believe_alive(alive, true);
        };
        let newer = alive.incarnation > record.incarnation;
        let moved = alive.address != record.address;
        match (record.is_living(), moved, newer) {
            (true, false, true) | (false, _, true) => self.believe_alive(alive, false),
            (true, false, false) => {}
            // It lives where we know it, or so we think: see whether it still answers there.
            (true, true, _) => self.look_into(alive),
            // It is dead with this incarnation or a later one: it refutes if it lives, once it hears of it.
            (false, _, false) => self.look_into(alive),
        }
    }

    /// Keeps a claim and sends probes for it.
    fn look_into(&mut self, alive: Alive) {
        let now = self.now;
        let Some(record) = self.members.get_mut(&alive.node) else { return };
        if record
            .claim
            .as_ref()
            .is_some_and(|claim| now.since(claim.since) < CLAIM_KEPT && claim.alive.incarnation >= alive.incarnation)
        {
            return;
        }
        let (name, known, claimed) = (alive.node.clone(), record.address, alive.address);
        let living = record.is_living();
        record.claim = Some(Claim { alive, since: now });
        if living {
            self.emit(Event::NameClaimed { name: name.clone(), known, claimed });
            self.probe_urgently(&name);
        } else {
            self.start_claim_probe(&name, claimed);
        }
    }

    /// An ack came from where a member was claimed to live.
    pub(crate) fn on_claim_proved(&mut self, name: &str) {
        let (now, config) = (self.now, &self.config);
        let Some(record) = self.members.get_mut(name) else { return };
        let Some(claim) = record.claim.take() else { return };
        // A death that is still being told is refuted by the member itself, which our probe told of it.
        // One that is forgotten elsewhere, or a move, is believed on sight.
        if record.is_living() || record.is_forgotten(config, now) || claim.alive.incarnation > record.incarnation {
            self.believe_alive(claim.alive, false);
        }
    }

    /// No ack came from there.
    pub(crate) fn on_claim_unproved(&mut self, name: &str) {
        let Some(record) = self.members.get_mut(name) else { return };
        record.claim = None;
        if record.is_living() {
            let (incarnation, from) = (record.incarnation, self.config.name.clone());
            self.on_suspect(Suspect { incarnation, node: name.to_owned(), from, refused: false });
        }
    }

    /// Takes it that a node lives as it is said to, and passes that on.
    fn believe_alive(&mut self, alive: Alive, new: bool) {
        let name = alive.node.clone();
        let tags = decode_tags(&alive.meta).unwrap_or_default();
        let Some(record) = self.members.get_mut(&name) else { return };
        let (was_living, was_suspect) = (record.is_living(), record.state == StateCode::Suspect);
        let was_failed = !new && record.status == Status::Failed;
        let changed = record.meta != alive.meta || record.address != alive.address;
        record.incarnation = alive.incarnation;
        record.meta.clone_from(&alive.meta);
        record.tags = tags;
        if let Some(versions) = alive.versions.first_chunk::<6>() {
            record.versions = *versions;
        }
        record.suspicion = None;
        record.claim = None;
        record.superseded = false;
        record.prune = false;
        let address = alive.address;
        self.news.push(Some(&name), alive.encode());
        self.supersede(&name, address);
        self.members.set_address(&name, address);
        self.members.set_state(&name, StateCode::Alive, self.now, &mut self.rng);
        if !was_living {
            self.on_return(&name, new, was_failed);
        } else {
            if was_suspect {
                self.emit(Event::Refuted { name: name.clone() });
            }
            if changed {
                self.tell_change(&name, Change::Update, None, None);
            }
        }
    }

    /// Another member that lived at this address does not any more: found out at once.
    fn supersede(&mut self, name: &str, address: SocketAddr) {
        let Some(other) = self.members.at_address(address).filter(|other| other.name != name) else { return };
        let (other_name, living) = (other.name.clone(), other.is_living());
        if self.is_me(&other_name) {
            self.suspect_superseded(name);
        } else if living {
            self.probe_urgently(&other_name);
        }
    }

    fn on_return(&mut self, name: &str, new: bool, was_failed: bool) {
        let intent = if new { self.recent_intents.remove(name) } else { None };
        let (now, config) = (self.now, &self.config);
        let Some(record) = self.members.get_mut(name) else { return };
        record.status = Status::Alive;
        if let Some(intent) = intent {
            record.status_ltime = intent.ltime;
            if intent.leaving {
                record.status = Status::Leaving;
            }
        }
        let quarantine = if was_failed { record.count_return(config, now) } else { None };
        let address = record.address;
        self.seeds.insert(address, &mut self.rng);
        self.seeds.tried(address, true, self.config.reconnect_interval, self.now);
        if let Some((returns, until)) = quarantine {
            self.emit(Event::Quarantined { name: name.to_owned(), returns, until });
        }
        self.tell_change(name, Change::Join, None, None);
        self.changed();
    }

    pub(crate) fn tell_change(&mut self, name: &str, change: Change, by: Option<String>, evidence: Option<Evidence>) {
        if let Some(record) = self.members.get(name) {
            let member = record.to_member();
            self.emit(Event::Member { change, member, by, evidence });
        }
    }

    /// Somebody says that we live: our earlier life, a twin, or old news.
    fn on_alive_self(&mut self, alive: &Alive) {
        let Some(me) = self.members.get(&self.config.name).filter(|_| self.is_running()) else { return };
        let beats = alive.incarnation >= me.incarnation;
        if alive.address != me.address {
            // Our earlier life at another address, or a twin. The earlier life does not answer.
            if self.twin_sought.is_none_or(|sought| self.now.since(sought) >= TWIN_SOUGHT_EVERY) {
                self.twin_sought = Some(self.now);
                self.start_twin_probe(alive);
            }
            if beats {
                self.refute(alive.incarnation);
            }
        } else if alive.incarnation > me.incarnation
            || (beats && (alive.meta != me.meta || alive.versions != me.versions))
        {
            self.refute(alive.incarnation);
        }
    }

    /// Somebody thinks that we live where nobody answers: we have moved. Serf refuses our new address as long as it
    /// thinks that we live at the old one, so our old life leaves, and we announce ourselves anew.
    pub(crate) fn disown(&mut self, incarnation: u32) {
        if self.is_running() {
            let name = self.config.name.clone();
            self.news.push(None, Dead { incarnation, node: name.clone(), from: name }.encode());
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
        let Some(me) = self.members.get_mut(&self.config.name) else { return };
        me.incarnation = me.incarnation.max(over).saturating_add(1);
        let alive = me.to_alive();
        self.news.push(Some(&alive.node), alive.encode());
        self.changed();
    }

    /// A member passes a suspicion on. Whoever does and missed the refutation is told of it.
    pub(crate) fn on_suspect_from(&mut self, sender: SocketAddr, suspect: Suspect) {
        if let Some(record) = self.members.get(&suspect.node)
            && suspect.incarnation < record.incarnation
            && record.state == StateCode::Alive
            && self.members.at_address(sender).is_some_and(|member| member.is_living())
        {
            let alive = record.to_alive().encode();
            self.send_plain(sender, alive);
            return;
        }
        self.on_suspect(suspect);
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
        match record.state {
            StateCode::Suspect => self.confirm(suspect, evidence),
            StateCode::Alive => self.begin_suspicion(suspect, evidence),
            StateCode::Dead | StateCode::Left => {}
        }
    }

    /// Another suspicion of one that is suspected.
    fn confirm(&mut self, suspect: Suspect, evidence: Evidence) {
        let (now, grace, ours) = (self.now, self.config.refused_grace, self.is_me(&suspect.from));
        let Some(suspicion) = self.members.get_mut(&suspect.node).and_then(|record| record.suspicion.as_mut()) else {
            return;
        };
        suspicion.seen |= ours;
        let confirmed = suspicion.confirm(&suspect.from);
        let refused = suspect.refused && suspicion.refuse(&suspect.from, now, grace);
        let news = confirmed || refused;
        if news || ours {
            let (deadline, serial) = (suspicion.deadline(), suspicion.serial);
            self.timers.set(deadline.max(now), Timer::Suspicion(suspect.node.clone(), serial));
        }
        if news {
            self.news.push(Some(&suspect.node), suspect.encode());
            self.emit(Event::Suspected { name: suspect.node, by: suspect.from, evidence });
        }
    }

    fn begin_suspicion(&mut self, suspect: Suspect, evidence: Evidence) {
        self.serial += 1;
        let serial = self.serial;
        let mut suspicion = Suspicion::new(serial, &suspect.from, self.members.living(), &self.config, self.now);
        if suspect.refused {
            suspicion.refuse(&suspect.from, self.now, self.config.refused_grace);
        }
        let name = suspect.node.clone();
        self.timers.set(suspicion.deadline(), Timer::Suspicion(name.clone(), serial));
        self.news.push(Some(&name), suspect.encode());
        if let Some(record) = self.members.get_mut(&name) {
            record.incarnation = suspect.incarnation;
            record.suspicion = Some(suspicion);
        }
        self.members.set_state(&name, StateCode::Suspect, self.now, &mut self.rng);
        let ours = self.is_me(&suspect.from);
        if let Some(suspicion) = self.members.get_mut(&name).and_then(|record| record.suspicion.as_mut()) {
            suspicion.seen = ours;
        }
        let watched = ours || self.members.neighbours(&self.config.name, self.config.watch_neighbours).contains(&name);
        if watched && !self.config.suspect_probe_interval.is_zero() {
            let at = self.now + self.rng.within(self.config.suspect_probe_interval);
            self.timers.set(at, Timer::Reprobe(name.clone(), serial));
        }
        self.emit(Event::Suspected { name, by: suspect.from, evidence });
    }

    pub(crate) fn on_suspicion_due(&mut self, name: &str, serial: u64) {
        let Some(record) = self.members.get(name) else { return };
        let Some(suspicion) = record.suspicion.as_ref().filter(|suspicion| suspicion.serial == serial) else { return };
        if suspicion.deadline() > self.now {
            // Moved while we slept; its timer moved with it, or another was set.
            self.timers.set(suspicion.deadline(), Timer::Suspicion(name.to_owned(), serial));
            return;
        }
        if !suspicion.seen && !suspicion.is_refused() {
            // Others said so, and we may have missed the refutation: a last look of our own. Those that
            // found out have looked, so this delays no true death.
            self.timers.set(self.now + self.config.probe_deadline * 2, Timer::Suspicion(name.to_owned(), serial));
            return self.probe_urgently(name);
        }
        let evidence = if suspicion.is_refused() { Evidence::RefusedTwice } else { Evidence::NotRefuted };
        let from = self.config.name.clone();
        self.on_dead(Dead { incarnation: record.incarnation, node: name.to_owned(), from }, Some(evidence));
    }

    /// One that is suspected has answered us. When its time is over all the same, we missed its refutation:
    /// it gets another term, in which we ask it for its state.
    pub(crate) fn on_suspect_answered(&mut self, name: &str) {
        let now = self.now;
        let Some(record) = self.members.get_mut(name) else { return };
        let Some(suspicion) = record.suspicion.as_mut().filter(|suspicion| suspicion.deadline() <= now) else { return };
        suspicion.renew(now);
        let (deadline, serial, address) = (suspicion.deadline(), suspicion.serial, record.address);
        self.timers.set(deadline, Timer::Suspicion(name.to_owned(), serial));
        self.on_ping_from_lost(address);
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
        record.suspicion = None;
        let status = if left || record.status == Status::Leaving { Status::Left } else { Status::Failed };
        record.status = status;
        let (prune, claimed) = (record.prune, record.claim.as_ref().map(|claim| claim.alive.address));
        // One that was killed while leaving is dead to memberlist, and has left to Serf.
        let state = if left { StateCode::Left } else { StateCode::Dead };
        self.news.push(Some(&dead.node), dead.encode());
        self.members.set_state(&dead.node, state, self.now, &mut self.rng);
        let change = if status == Status::Left { Change::Leave } else { Change::Failed };
        let by = (!self.is_me(&dead.from)).then_some(dead.from);
        let evidence = evidence.or(Some(Evidence::Told)).filter(|_| change == Change::Failed);
        self.tell_change(&dead.node, change, by, evidence);
        self.changed();
        if prune {
            self.erase(&dead.node);
        } else if let Some(claimed) = claimed {
            self.start_claim_probe(&dead.node, claimed);
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
