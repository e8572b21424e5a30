//! The machine itself: its state, its entry, and how it speaks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::broadcast::Broadcasts;
use crate::config::{Config, ConfigError};
use crate::coordinate::{Coordinate, Position};
use crate::directory::Name;
use crate::event::{Change, Event, Member, Status};
use crate::exchange::Streams;
use crate::intent::RecentIntent;
use crate::io::{CommandError, Input, Output};
use crate::leave::Phase;
use crate::member::Members;
use crate::news::News;
use crate::probe::{Probe, Relay};
use crate::query::{Running, Waiting};
use crate::recent::{Clock, RecentEvents, RecentQueries};
use crate::record::Record;
use crate::rng::Rng;
use crate::seeds::Seeds;
use crate::snapshot::Snapshot;
use crate::time::Time;
use crate::timers::{Timer, Timers};
use crate::wire::{Bundle, COMPOUND_PART_BYTES, StateCode, encode_tags};

/// Versions that we speak: memberlist 1 to 5, speaking 2; Serf 2 to 5, speaking 5. As Serf's agent.
pub(crate) const VERSIONS: [u8; 6] = [1, 5, 2, 2, 5, 5];

/// A tick that comes this late means that we were held up, not that everybody else was.
const LATE: Duration = Duration::from_millis(200);
/// Held up for so long is told, and makes us trust ourselves less.
const PAUSE: Duration = Duration::from_millis(1500);
/// How much worse we think of our own health after a sleep.
const PAUSE_AWARENESS: u32 = 2;
/// Time between two [`Event::Dropped`].
const DROPPED_INTERVAL: Duration = Duration::from_secs(1);

/// One node of the cluster, as a state machine.
///
/// Feed an [`Input`] and the time, do what the [`Output`]s say in their order, repeat. Nothing is read from
/// clock, network or entropy; the same seed and inputs give the same outputs.
#[derive(Debug)]
pub struct Gossip {
    pub(crate) config: Config,
    pub(crate) rng: Rng,
    pub(crate) now: Time,
    out: Vec<Output>,
    pub(crate) timers: Timers,
    wake: Option<Time>,
    pub(crate) phase: Phase,
    pub(crate) members: Members,

    /// News about members (memberlist's).
    pub(crate) news: Broadcasts,
    /// Intents, queries and user events (Serf's), in the order in which they may fill a datagram.
    pub(crate) intents: Broadcasts,
    pub(crate) queries: Broadcasts,
    pub(crate) events: Broadcasts,
    pub(crate) spreading: bool,
    /// Whether an exchange out of turn is set.
    pub(crate) catching_up: bool,
    /// How many more may follow, each because the one before brought news.
    pub(crate) catch_ups_left: u8,
    /// While a state is taken in that is nobody's news.
    pub(crate) untold: bool,

    /// Lifeguard's score of our own health: 0 is well.
    pub(crate) awareness: u32,
    pub(crate) serial: u64,
    pub(crate) seq: u32,
    pub(crate) probes: BTreeMap<u32, Probe>,
    pub(crate) relays: BTreeMap<u32, Relay>,
    pub(crate) streams: Streams,

    pub(crate) clock: Clock,
    pub(crate) event_clock: Clock,
    pub(crate) query_clock: Clock,
    pub(crate) recent_events: RecentEvents,
    pub(crate) recent_queries: RecentQueries,
    pub(crate) recent_intents: BTreeMap<String, RecentIntent>,
    pub(crate) running: BTreeMap<u64, Running>,
    pub(crate) waiting: BTreeMap<u64, Waiting>,

    pub(crate) position: Position,
    pub(crate) seeds: Seeds,
    /// When we last looked whether another node has our name.
    pub(crate) twin_sought: Option<Time>,
    dropped: u64,
    dropped_told: Option<Time>,
    persist: bool,
}

/// Numbers about the machine: for metrics, and for tests of its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Members listed, ourselves included.
    pub members: usize,
    /// Members alive or suspect, ourselves included.
    pub living: usize,
    /// Members under suspicion.
    pub suspects: usize,
    /// Lifeguard's score of our own health; 0 is well.
    pub health_score: u32,
    /// Lamport times of membership, events and queries.
    pub clocks: [u64; 3],
    /// Messages queued: news of members, intents, queries, user events.
    pub queued: [usize; 4],
    /// Probes in flight.
    pub probes: usize,
    /// Streams open.
    pub streams: usize,
    /// Addresses kept to find the cluster by.
    pub seeds: usize,
    /// Intents kept for names that are not members.
    pub intents: usize,
    /// Timers set.
    pub timers: usize,
}

impl Gossip {
    /// A node that is alone in its cluster; what it asks for first is in the outputs.
    ///
    /// `snapshot`: what [`Gossip::snapshot`] gave in an earlier life; its members are joined again unless it
    /// had left. `rng`: seeded from the system's entropy.
    pub fn new(
        config: Config,
        snapshot: Option<Snapshot>,
        rng: Rng,
        now: Time,
    ) -> Result<(Self, Vec<Output>), ConfigError> {
        config.check()?;
        let members = Members::new(config.directory.clone(), &config.name, &rng);
        let seeds = Seeds::new(&rng);
        let mut gossip = Self {
            config,
            rng,
            now,
            out: Vec::new(),
            timers: Timers::default(),
            wake: None,
            phase: Phase::Running,
            members,
            news: Broadcasts::default(),
            intents: Broadcasts::default(),
            queries: Broadcasts::default(),
            events: Broadcasts::default(),
            spreading: false,
            catching_up: false,
            catch_ups_left: 0,
            untold: false,
            awareness: 0,
            serial: 0,
            seq: 0,
            probes: BTreeMap::new(),
            relays: BTreeMap::new(),
            streams: Streams::default(),
            clock: Clock::default(),
            event_clock: Clock::default(),
            query_clock: Clock::default(),
            recent_events: RecentEvents::default(),
            recent_queries: RecentQueries::default(),
            recent_intents: BTreeMap::new(),
            running: BTreeMap::new(),
            waiting: BTreeMap::new(),
            position: Position::default(),
            seeds,
            twin_sought: None,
            dropped: 0,
            dropped_told: None,
            persist: false,
        };
        gossip.start(snapshot);
        let outputs = gossip.finish();
        Ok((gossip, outputs))
    }

    fn start(&mut self, snapshot: Option<Snapshot>) {
        let config = &self.config;
        let name = self.members.me().clone();
        let profile = config.directory.profile(&name, config.address, &encode_tags(&config.tags), VERSIONS);
        let mut me = Record::new(profile.clone(), self.now);
        me.incarnation = config.incarnation.max(1);
        me.state = StateCode::Alive;
        me.status = Status::Alive;
        let incarnation = me.incarnation;
        self.members.insert(me, &mut self.rng);
        self.members.set_profile(name.id(), profile.clone());
        self.news.push(News::Alive(profile, incarnation));
        // Serf tells its handlers of the node itself first.
        self.tell_change(name.id(), Change::Join, None, None);
        for address in self.config.seeds.clone() {
            self.seeds.insert_fixed(address, &mut self.rng);
        }
        // At random places within their intervals, so that nodes started together do not act together.
        for (timer, interval) in [
            (Timer::Round, self.config.probe_interval),
            (Timer::Watch, self.config.watch_interval),
            (Timer::PushPull, self.config.push_pull_interval),
            (Timer::Reconnect, self.config.reconnect_interval),
            (Timer::Reap, self.config.reap_interval),
        ] {
            let at = self.now + self.rng.within(interval);
            self.timers.set(at, timer);
        }
        if let Some(snapshot) = snapshot {
            self.restore(snapshot);
        }
        self.changed();
    }

    /// Takes an input; gives what has to be done, in order. Never panics, whatever the input.
    ///
    /// `now`: never earlier than before; an earlier one is taken as the one before.
    pub fn handle(&mut self, input: Input, now: Time) -> Vec<Output> {
        self.now = self.now.max(now);
        if self.phase == Phase::Gone {
            return Vec::new();
        }
        self.notice_pause();
        // Ends: a timer that sets another sets it later than now, but for leaving, whose steps end.
        while let Some(timer) = self.timers.pop(self.now) {
            self.on_timer(timer);
        }
        match input {
            Input::Tick => {}
            Input::Packet { from, bytes } => self.on_packet(from, &bytes),
            Input::PortUnreachable { to } => self.on_port_unreachable(to),
            Input::StreamAccepted { stream, from } => self.on_stream_accepted(stream, from),
            Input::StreamData { stream, bytes } => self.on_stream_data(stream, &bytes),
            Input::StreamEnded { stream, end } => self.on_stream_ended(stream, end),
            Input::Join { addresses, ignore_old_events } => self.on_join(addresses, ignore_old_events),
            Input::Leave => self.on_leave(),
            Input::UserEvent { name, payload, coalesce } => self.on_fire(name, payload, coalesce),
            Input::Query(request) => self.on_ask(request),
            Input::Reply { id, payload } => self.on_reply(id, payload),
            Input::SetTags(tags) => self.on_set_tags(tags),
            Input::SetKeys(ring) => self.on_set_keys(ring),
            Input::ForceLeave { name, prune } => self.on_force_leave(name, prune),
            Input::Keys { token, op, relay_factor } => self.on_keys(token, op, relay_factor),
            Input::ConnectionRefused { name } => self.on_connection_refused(&name),
        }
        self.finish()
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::Round => self.on_round(),
            Timer::Watch => self.on_watch(),
            Timer::ProbeDirect(seq) => self.on_probe_direct(seq),
            Timer::ProbeEnd(seq) => self.on_probe_end(seq),
            Timer::RelayEnd(seq) => self.on_relay_end(seq),
            Timer::Suspicion(id, serial) => self.on_suspicion_due(id, serial),
            Timer::Reprobe(id, serial) => self.on_reprobe(id, serial),
            Timer::Spread => self.on_spread(),
            Timer::PushPull => self.on_push_pull_due(),
            Timer::CatchUp => self.on_catch_up(),
            Timer::Stream(stream) => self.on_stream_timeout(stream),
            Timer::Reconnect => self.on_reconnect(),
            Timer::Reap => self.on_reap(),
            Timer::QueryEnd(ltime) => self.on_query_end(ltime),
            Timer::Leave => self.on_leave_due(),
        }
    }

    /// When we slept (stopped process, suspended machine, starved of CPU), the packets that would have
    /// refuted our suspicions were not read meanwhile: every deadline moves by the time slept.
    fn notice_pause(&mut self) {
        let Some(late) = self.timers.first().map(|due| self.now.since(due)).filter(|late| *late >= LATE) else {
            return;
        };
        self.timers.shift(late);
        self.members.suspicions_mut().for_each(|suspicion| suspicion.shift(late));
        if late < PAUSE {
            return;
        }
        self.worsen(PAUSE_AWARENESS);
        self.emit(Event::Paused { millis: u64::try_from(late.as_millis()).unwrap_or(u64::MAX) });
    }

    fn finish(&mut self) -> Vec<Output> {
        self.arm_spreading();
        self.arm_catching_up();
        if std::mem::take(&mut self.persist) {
            self.out.push(Output::Persist);
        }
        let first = self.timers.first();
        if let Some(at) = first
            && first != self.wake
        {
            self.out.push(Output::WakeAt(at));
        }
        self.wake = first;
        std::mem::take(&mut self.out)
    }

    /// When the next [`Input::Tick`] is due.
    pub fn wake_at(&self) -> Option<Time> {
        self.timers.first()
    }

    /// Our own name.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Every member listed, by name, ourselves included.
    pub fn members(&self) -> impl Iterator<Item = Member> + '_ {
        self.members.iter().map(|record| self.members.to_member(record))
    }

    /// One member.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.members.get(name).map(|record| self.members.to_member(record))
    }

    /// Calls `each` with every member listed, by name: its name, its standing, and whether it is suspected. Makes
    /// nothing, so that tables of thousands can be compared.
    pub fn survey(&self, mut each: impl FnMut(&str, Status, bool)) {
        self.members.iter().for_each(|r| each(r.name(), r.status, r.state == StateCode::Suspect));
    }

    /// The coordinate of a member, ours included, as far as it is known.
    pub fn coordinate(&self, name: &str) -> Option<Coordinate> {
        if name == self.config.name {
            return Some(self.position.own());
        }
        self.position.of(self.members.get(name)?.id())
    }

    /// The keys installed (base64), primary first; empty without encryption.
    pub fn keys(&self) -> Vec<String> {
        self.config.envelope.keyring.iter().flat_map(|ring| ring.keys()).map(|key| key.to_base64()).collect()
    }

    /// Numbers about the machine.
    pub fn stats(&self) -> Stats {
        Stats {
            members: self.members.len(),
            living: self.members.living(),
            health_score: self.awareness,
            clocks: [self.clock.time(), self.event_clock.time(), self.query_clock.time()],
            queued: [self.news.len(), self.intents.len(), self.queries.len(), self.events.len()],
            probes: self.probes.len(),
            streams: self.streams.len(),
            suspects: self.members.suspects(),
            seeds: self.seeds.len(),
            intents: self.recent_intents.len(),
            timers: self.timers.len(),
        }
    }

    pub(crate) fn emit(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    pub(crate) fn put(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(crate) fn reject(&mut self, error: CommandError) {
        self.out.push(Output::Rejected(error));
    }

    /// Says that what a restart needs has changed.
    pub(crate) fn changed(&mut self) {
        self.persist = true;
    }

    /// Stops everything: nothing is asked for or answered any more.
    pub(crate) fn stop(&mut self) {
        self.phase = Phase::Gone;
        self.timers.clear();
        for stream in self.streams.clear() {
            self.put(Output::Close { stream });
        }
    }

    pub(crate) fn is_me(&self, name: &str) -> bool {
        name == self.config.name
    }

    /// Our own name.
    pub(crate) fn me(&self) -> Name {
        self.members.me().clone()
    }

    pub(crate) fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    pub(crate) fn worsen(&mut self, by: u32) {
        self.awareness = (self.awareness + by).min(self.config.awareness_max - 1);
    }

    pub(crate) fn improve(&mut self) {
        self.awareness = self.awareness.saturating_sub(1);
    }

    /// Counts a dropped message, and tells of it once a second at most.
    pub(crate) fn drop_message(&mut self, from: SocketAddr, reason: impl ToString) {
        self.dropped += 1;
        if self.dropped_told.is_none_or(|told| self.now.since(told) >= DROPPED_INTERVAL) {
            self.dropped_told = Some(self.now);
            let count = std::mem::take(&mut self.dropped);
            self.emit(Event::Dropped { from, reason: reason.to_string(), count });
        }
    }

    /// Sends one message as it is.
    pub(crate) fn send_plain(&mut self, to: SocketAddr, message: Vec<u8>) {
        let checksum = self.members.at_address(to).is_some_and(Record::takes_checksums);
        let bytes = self.config.envelope.seal_packet(message, checksum, &mut self.rng);
        self.put(Output::Packet { to, bytes });
    }

    /// Sends a message with as much news as fits beside it.
    pub(crate) fn send(&mut self, to: SocketAddr, message: Vec<u8>) {
        let mut room = self.config.envelope.room().saturating_sub(message.len() + COMPOUND_PART_BYTES);
        if !self.has_news() {
            return self.send_plain(to, message);
        }
        let mut bundle = Bundle::new();
        bundle.push(&message);
        self.take_news(&mut room, &mut bundle);
        self.send_bundle(to, bundle);
    }

    pub(crate) fn send_bundle(&mut self, to: SocketAddr, bundle: Bundle) {
        self.send_plain(to, bundle.join());
    }
}
