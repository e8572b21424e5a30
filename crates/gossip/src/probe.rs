//! The failure detector: SWIM's probes with Lifeguard's local health.
//!
//! Each round pings the next member. Without an ack in time, others are asked to ping it and it is pinged
//! over TCP; without any answer at the end it is suspected. Besides, each node watches its neighbours by
//! frequent pings, which start a probe and nothing more, and suspects are probed again and again, each time
//! with the suspicion, so that a living one learns of it and refutes.

use std::net::SocketAddr;
use std::time::Duration;

use crate::coordinate::Coordinate;
use crate::directory::Name;
use crate::event::{Event, Evidence};
use crate::exchange::Purpose;
use crate::gossip::Gossip;
use crate::io::StreamId;
use crate::limits::{PROBES_MAX, RELAYS_MAX};
use crate::record::Record;
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::{Ack, Bundle, IndirectPing, Nack, Ping, StateCode, Suspect, is_unusable};

/// Shortest time that a direct ack is given.
const DIRECT_MIN: Duration = Duration::from_millis(50);
/// A direct ack is given so many median round trips.
const DIRECT_ROUND_TRIPS: u32 = 4;
/// Time between pings of one probe once the first had no ack.
const PING_AGAIN: Duration = Duration::from_millis(200);
/// Time between two [`Event::UdpBlocked`] of one member.
const UDP_TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long an indirect ping is waited for, as Serf peers do before they send a nack.
const RELAY_TIMEOUT: Duration = Duration::from_millis(500);

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// Whether a member lives, in its turn.
    Round,
    /// Whether a member lives, out of turn: a neighbour, a suspect, or on evidence.
    Extra,
    /// Whether a member lives where somebody claims.
    Claim,
    /// Whether another node with our name lives.
    Twin,
}

/// A probe in flight.
#[derive(Debug, Clone)]
pub(crate) struct Probe {
    name: Name,
    address: SocketAddr,
    incarnation: u32,
    aim: Aim,
    sent: Time,
    /// How long a direct ack is given.
    wait: Duration,
    /// Whether it was pinged again.
    again: bool,
    /// Whether others and TCP were tried.
    widened: bool,
    asked: usize,
    expected_nacks: u32,
    nacks: u32,
    stream: Option<StreamId>,
    tcp_answered: bool,
}

/// A ping that we sent for another.
#[derive(Debug, Clone)]
pub(crate) struct Relay {
    to: SocketAddr,
    seq: u32,
    nack: bool,
}

impl Gossip {
    pub(crate) fn on_round(&mut self) {
        let interval = self.config.probe_interval * (self.awareness + 1);
        self.timers.set(self.now + interval, Timer::Round);
        if let Some(name) = self.members.next_to_probe(&self.config, self.now, &mut self.rng) {
            self.start_probe(&name, Aim::Round);
        }
    }

    pub(crate) fn on_watch(&mut self) {
        self.timers.set(self.now + self.config.watch_interval, Timer::Watch);
        let watched = self.members.watched(self.config.watch_neighbours).to_vec();
        for id in watched {
            if let Some(name) = self.members.at(id).map(|record| record.profile.name.clone()) {
                self.start_probe(&name, Aim::Extra);
            }
        }
    }

    /// A suspect is probed again, by those that suspect it themselves or watch it.
    pub(crate) fn on_reprobe(&mut self, id: u32, serial: u64) {
        if self.members.suspicion(id).is_none_or(|suspicion| suspicion.serial != serial) {
            return;
        }
        let Some(name) = self.members.at(id).map(|record| record.profile.name.clone()) else { return };
        self.timers.set(self.now + self.config.suspect_probe_interval, Timer::Reprobe(id, serial));
        self.start_probe(&name, Aim::Extra);
    }

    fn is_probing(&self, name: &Name) -> bool {
        self.probes.values().any(|probe| probe.name == *name)
    }

    pub(crate) fn start_probe(&mut self, name: &Name, aim: Aim) {
        let Some(record) = self.members.at(name.id()) else { return };
        if aim == Aim::Extra && self.is_probing(name) {
            return;
        }
        let mut messages = Vec::new();
        if record.state != StateCode::Alive {
            messages.push(self.accusation(name, record.incarnation));
        }
        let (address, incarnation) = (record.address(), record.incarnation);
        self.send_probe(name, address, incarnation, aim, messages);
    }

    /// Asks at `claimed` whether a member lives there; it hears what we hold against it, so it can refute.
    pub(crate) fn start_claim_probe(&mut self, name: &Name, claimed: SocketAddr) {
        let Some(record) = self.members.at(name.id()) else { return };
        let messages = vec![self.accusation(name, record.incarnation)];
        let incarnation = record.incarnation;
        self.send_probe(name, claimed, incarnation, Aim::Claim, messages);
    }

    /// Asks whether another node with our name lives at `address`.
    pub(crate) fn start_twin_probe(&mut self, address: SocketAddr, incarnation: u32) {
        if !self.probes.values().any(|probe| probe.aim == Aim::Twin) {
            let me = self.me();
            self.send_probe(&me, address, incarnation, Aim::Twin, Vec::new());
        }
    }

    /// A ping that says who we are.
    fn named_ping(&self, seq: u32, name: &str) -> Ping {
        Ping {
            seq,
            node: name.to_owned(),
            source: Some(self.config.address),
            source_node: self.config.name.clone(),
            brief: false,
        }
    }

    fn accusation(&self, name: &Name, incarnation: u32) -> Vec<u8> {
        let from = self.config.name.clone();
        Suspect { incarnation, node: name.as_str().to_owned(), from, refused: false }.encode()
    }

    fn send_probe(&mut self, name: &Name, address: SocketAddr, incarnation: u32, aim: Aim, messages: Vec<Vec<u8>>) {
        if self.probes.len() >= PROBES_MAX {
            if aim == Aim::Claim {
                // The next word of it is looked into.
                self.members.take_claim(name.id());
            }
            return;
        }
        let seq = self.next_seq();
        // Extra pings are many and are kept short: the ack finds its way by the datagram's sender.
        let (source, source_node) = match aim {
            Aim::Extra => (None, String::new()),
            Aim::Round | Aim::Claim | Aim::Twin => (Some(self.config.address), self.config.name.clone()),
        };
        let ping = Ping { seq, node: name.as_str().to_owned(), source, source_node, brief: aim == Aim::Extra };
        let wait = self.direct_wait(name);
        let probe = Probe {
            name: name.clone(),
            address,
            incarnation,
            aim,
            sent: self.now,
            wait,
            again: false,
            widened: false,
            asked: 0,
            expected_nacks: 0,
            nacks: 0,
            stream: None,
            tcp_answered: false,
        };
        self.probes.insert(seq, probe);
        if aim != Aim::Claim {
            self.timers.set(self.now + wait, Timer::ProbeDirect(seq));
        }
        let lasts = self.config.probe_deadline * (self.awareness + 1);
        self.timers.set(self.now + lasts, Timer::ProbeEnd(seq));
        if messages.is_empty() {
            self.send(address, ping.encode());
        } else {
            let mut bundle = Bundle::new();
            bundle.push(&ping.encode());
            messages.iter().for_each(|message| bundle.push(message));
            self.send_bundle(address, bundle);
        }
    }

    /// How long a direct ack is given.
    fn direct_wait(&self, name: &Name) -> Duration {
        let measured = self.position.median_rtt(name.id()).map(|rtt| (rtt * DIRECT_ROUND_TRIPS).max(DIRECT_MIN));
        measured.unwrap_or(self.config.probe_timeout).min(self.config.probe_timeout)
    }

    /// No direct ack: ping again and again until the deadline, ask others, try TCP. A lost packet is then
    /// nothing, and a dead node is found no later. Extra probes, which are many, ask others only when the
    /// second ping has no ack either.
    pub(crate) fn on_probe_direct(&mut self, seq: u32) {
        let Some(probe) = self.probes.get_mut(&seq) else { return };
        let first = !probe.again;
        probe.again = true;
        let (name, address, wait) = (probe.name.clone(), probe.address, probe.wait);
        let spare_others = first && probe.aim == Aim::Extra;
        let widen = !probe.widened && !spare_others && probe.aim != Aim::Twin;
        let ping = Ping { seq, node: name.as_str().to_owned(), brief: true, ..Ping::default() };
        self.send(address, ping.encode());
        self.timers.set(self.now + if first { wait } else { PING_AGAIN }, Timer::ProbeDirect(seq));
        if widen {
            self.widen(seq, &name, address);
        }
    }

    fn widen(&mut self, seq: u32, name: &Name, address: SocketAddr) {
        let takes_tcp = self.members.at(name.id()).is_some_and(|record| record.takes_tcp_pings());
        let helpers = self.helpers(name);
        let (asked, expected) = (helpers.len(), helpers.iter().filter(|(_, nacks)| *nacks).count());
        for (to, nack) in helpers {
            let ping = self.indirect_ping(seq, name.as_str(), address, nack, false);
            self.send(to, ping);
        }
        let stream =
            if self.config.tcp_checks && takes_tcp { self.open_tcp_ping(seq, name.as_str(), address) } else { None };
        if let Some(probe) = self.probes.get_mut(&seq) {
            probe.widened = true;
            probe.asked = asked;
            probe.expected_nacks = u32::try_from(expected).unwrap_or(u32::MAX);
            probe.stream = stream;
        }
    }

    /// Members to ask for help with `name`: addresses, and whether they answer with nacks.
    fn helpers(&mut self, name: &Name) -> Vec<(SocketAddr, bool)> {
        let choose = |record: &Record| record.state == StateCode::Alive && record.profile.name != *name;
        self.members
            .pick(self.config.indirect_checks, &mut self.rng, choose)
            .into_iter()
            .map(|record| (record.address(), record.sends_nacks()))
            .collect()
    }

    fn indirect_ping(&self, seq: u32, name: &str, target: SocketAddr, nack: bool, refused: bool) -> Vec<u8> {
        IndirectPing {
            seq,
            target,
            node: name.to_owned(),
            nack,
            source: Some(self.config.address),
            source_node: self.config.name.clone(),
            refused,
        }
        .encode()
    }

    fn open_tcp_ping(&mut self, seq: u32, name: &str, address: SocketAddr) -> Option<StreamId> {
        let ping = self.named_ping(seq, name);
        let deadline = self.now + self.config.probe_deadline * (self.awareness + 1);
        self.open_stream(address, &ping.encode(), Purpose::Ping { seq }, deadline)
    }

    /// The probe's time is over.
    pub(crate) fn on_probe_end(&mut self, seq: u32) {
        let Some(probe) = self.probes.remove(&seq) else { return };
        if let Some(stream) = probe.stream {
            self.close_stream(stream);
        }
        match probe.aim {
            Aim::Round | Aim::Extra if probe.tcp_answered => {
                self.improve();
                self.on_suspect_answered(&probe.name);
                self.tell_udp_blocked(&probe.name);
            }
            Aim::Round | Aim::Extra => self.on_probe_failed(&probe, false),
            Aim::Claim => self.on_claim_unproved(&probe.name),
            Aim::Twin => self.disown(probe.incarnation),
        }
    }

    fn tell_udp_blocked(&mut self, name: &Name) {
        let now = self.now;
        if self.members.at(name.id()).is_none() {
            return;
        }
        let rare = self.members.rare_mut(name.id());
        if rare.udp_told.is_none_or(|told| now.since(told) >= UDP_TOLD_EVERY) {
            rare.udp_told = Some(now);
            self.emit(Event::UdpBlocked { name: name.as_str().to_owned() });
        }
    }

    fn on_probe_failed(&mut self, probe: &Probe, refused: bool) {
        if probe.aim == Aim::Round && !refused {
            // Helpers whose nack is missing make our own network suspect; without helpers any failure does.
            let missing = probe.expected_nacks.saturating_sub(probe.nacks);
            self.worsen(if probe.expected_nacks > 0 { missing } else { 1 });
        }
        if self.members.at(probe.name.id()).is_none_or(|record| !record.is_living()) {
            return;
        }
        if let Some(claimed) = self.members.claim(probe.name.id()).map(|claim| claim.alive.address) {
            // It does not answer where we know it, but somebody says it lives elsewhere: look there first.
            if claimed != probe.address {
                self.start_claim_probe(&probe.name, claimed);
                return;
            }
        }
        self.emit(Event::ProbeFailed {
            name: probe.name.as_str().to_owned(),
            asked: probe.asked,
            nacks: probe.nacks as usize,
            refused,
        });
        self.on_suspect(Suspect {
            incarnation: probe.incarnation,
            node: probe.name.as_str().to_owned(),
            from: self.config.name.clone(),
            refused,
        });
    }

    /// The TCP ping of a probe was refused: the host is there and the process is not.
    pub(crate) fn on_tcp_ping_refused(&mut self, seq: u32) {
        let Some(probe) = self.probes.remove(&seq) else { return };
        self.ask_for_refusals(&probe.name, probe.address);
        self.on_probe_failed(&probe, true);
    }

    pub(crate) fn on_tcp_ping_answered(&mut self, seq: u32) {
        if let Some(probe) = self.probes.get_mut(&seq) {
            probe.tcp_answered = true;
            probe.stream = None;
        }
    }

    /// Asks others to see for themselves whether a connection is refused. Serf peers just ping.
    fn ask_for_refusals(&mut self, name: &Name, address: SocketAddr) {
        for (to, _) in self.helpers(name) {
            let seq = self.next_seq();
            let ping = self.indirect_ping(seq, name.as_str(), address, false, true);
            self.send(to, ping);
        }
    }

    pub(crate) fn on_ping(&mut self, from: SocketAddr, ping: Ping) {
        let to = ping.source.unwrap_or(from);
        if !ping.node.is_empty() && !self.is_me(&ping.node) {
            self.on_misdirected(&ping.node);
            return;
        }
        let payload = self.position.own().encode_payload();
        let payload = if ping.brief { Vec::new() } else { payload };
        self.send(to, Ack { seq: ping.seq, payload }.encode());
        if let Some(record) = self.members.get(&ping.source_node)
            && !record.is_living()
            && record.address() == to
        {
            self.on_ping_from_lost(to);
        }
    }

    /// A ping for another came to us: if that one is thought to be here, it is not.
    fn on_misdirected(&mut self, name: &str) {
        let here = self.config.address;
        if let Some(record) = self.members.get(name)
            && record.address() == here
            && record.is_living()
        {
            let name = record.profile.name.clone();
            self.suspect_superseded(&name);
        }
    }

    /// Suspects a member whose address we have.
    pub(crate) fn suspect_superseded(&mut self, name: &Name) {
        let Some(record) = self.members.at(name.id()) else { return };
        let incarnation = record.incarnation;
        let from = self.config.name.clone();
        let node = name.as_str().to_owned();
        self.suspect_with(Suspect { incarnation, node, from, refused: true }, Evidence::AddressTaken);
    }

    pub(crate) fn on_indirect_ping(&mut self, from: SocketAddr, ping: IndirectPing) {
        if self.relays.len() >= RELAYS_MAX || is_unusable(ping.target) {
            return;
        }
        // A connection is opened to members only, where we know them: nobody is to scan hosts through us.
        if ping.refused
            && let Some(record) = self.members.get(&ping.node)
            && record.is_living()
            && record.address() == ping.target
        {
            let (name, incarnation) = (record.profile.name.clone(), record.incarnation);
            self.open_verification(name, incarnation, ping.target);
        }
        let seq = self.next_seq();
        self.relays.insert(seq, Relay { to: ping.source.unwrap_or(from), seq: ping.seq, nack: ping.nack });
        self.timers.set(self.now + RELAY_TIMEOUT, Timer::RelayEnd(seq));
        let ours = self.named_ping(seq, &ping.node);
        self.send(ping.target, ours.encode());
    }

    /// Tries a TCP connection to see whether it is refused.
    fn open_verification(&mut self, name: Name, incarnation: u32, address: SocketAddr) {
        let known = self.members.suspicion(name.id());
        if !self.config.tcp_checks || known.is_some_and(|s| s.is_refused()) || self.streams.is_verifying(&name) {
            return;
        }
        let ping = self.named_ping(0, name.as_str());
        let deadline = self.now + self.config.probe_deadline;
        let purpose = Purpose::Verify { name, incarnation };
        self.open_stream(address, &ping.encode(), purpose, deadline);
    }

    pub(crate) fn on_relay_end(&mut self, seq: u32) {
        if let Some(relay) = self.relays.remove(&seq)
            && relay.nack
        {
            self.send(relay.to, Nack { seq: relay.seq }.encode());
        }
    }

    pub(crate) fn on_ack(&mut self, ack: Ack) {
        if let Some(relay) = self.relays.remove(&ack.seq) {
            self.send(relay.to, Ack { seq: relay.seq, payload: Vec::new() }.encode());
            return;
        }
        let Some(probe) = self.probes.remove(&ack.seq) else { return };
        if let Some(stream) = probe.stream {
            self.close_stream(stream);
        }
        match probe.aim {
            Aim::Claim => return self.on_claim_proved(&probe.name),
            Aim::Twin => return self.on_twin_found(probe.address),
            Aim::Round => self.improve(),
            Aim::Extra => {}
        }
        self.on_suspect_answered(&probe.name);
        // The ack of a second ping, or one that came through others, does not tell the time of a round trip.
        if self.config.coordinates
            && !probe.again
            && !probe.widened
            && self.members.at(probe.name.id()).is_some()
            && let Ok(coordinate) = Coordinate::decode_payload(&ack.payload)
        {
            let rtt = self.now.since(probe.sent);
            self.position.update(probe.name.id(), coordinate, rtt, &mut self.rng);
        }
    }

    pub(crate) fn on_nack(&mut self, seq: u32) {
        if let Some(probe) = self.probes.get_mut(&seq) {
            probe.nacks += 1;
        }
    }

    /// Evidence from outside: probe at once.
    pub(crate) fn on_port_unreachable(&mut self, to: SocketAddr) {
        let Some(record) = self.members.at_address(to).filter(|record| record.is_living()) else { return };
        let name = record.profile.name.clone();
        self.probe_urgently(&name);
    }

    pub(crate) fn on_connection_refused(&mut self, name: &str) {
        let found = self.members.get(name).filter(|record| record.is_living() && !self.is_me(name));
        if let Some(name) = found.map(|record| record.profile.name.clone()) {
            self.probe_urgently(&name);
        }
    }

    /// Probes with all means at once, without waiting for the direct ack.
    pub(crate) fn probe_urgently(&mut self, name: &Name) {
        self.start_probe(name, Aim::Extra);
        let found = self.probes.iter().find(|(_, p)| p.name == *name && matches!(p.aim, Aim::Extra | Aim::Round));
        if let Some((seq, probe)) = found.filter(|(_, probe)| !probe.widened) {
            let (seq, address) = (*seq, probe.address);
            self.widen(seq, name, address);
        }
    }
}
