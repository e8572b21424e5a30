//! A whole cluster in one thread: virtual time, and a network that loses, delays, doubles and reorders.
//!
//! The machines run unmodified. Everything random comes from one seed, which each test prints.

// Each test file and the measuring example use a part of it.
#![allow(dead_code, unreachable_pub, reason = "shared by several programs")]

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use regrow_gossip::wire::{Alive, Envelope, NodeState, Ping, PushPull, SerfState, StateCode, encode_tags};
use regrow_gossip::{
    Change, Config, Directory, Event, Gossip, Input, Output, Rng, Snapshot, Status, StreamEnd, StreamId, Time,
};

/// When a simulation begins.
pub const START: Time = Time::ZERO;

/// A node by its number.
pub type Id = usize;

/// What the network does to what is sent.
pub struct Network {
    /// Share of packets that are lost, 0 to 1. A TCP segment that is lost comes later.
    pub loss: f64,
    /// Share of packets that come twice.
    pub duplicate: f64,
    /// Shortest and longest time on the way; a wide range reorders.
    pub delay: (Duration, Duration),
    /// Loss from one host to another on top of `loss`, by address: 1 is cut.
    pub link: Box<dyn Fn(SocketAddr, SocketAddr) -> f64>,
    /// Whether datagrams pass from one host to another; TCP does all the same.
    pub udp: Box<dyn Fn(SocketAddr, SocketAddr) -> bool>,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            delay: (Duration::from_micros(200), Duration::from_millis(2)),
            link: Box::new(|_, _| 0.0),
            udp: Box::new(|_, _| true),
        }
    }
}

/// How a node's process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// The process is gone and the host is there: connections are refused.
    Killed,
    /// The host is gone: nothing comes back.
    Off,
}

pub struct Node {
    pub gossip: Gossip,
    pub address: SocketAddr,
    /// What it told, and when.
    pub events: Vec<(Time, Event)>,
    pub bytes_sent: u64,
    pub packets_sent: u64,
    /// Those of `bytes_sent` that went over streams.
    pub stream_bytes: u64,
    power: Power,
    life: u32,
    paused: bool,
    /// What came while it was paused.
    backlog: VecDeque<Input>,
    wake: Option<Time>,
}

impl Node {
    fn count_stream(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
        self.stream_bytes += bytes as u64;
    }
}

/// One end of a connection: node, its life, its name for the stream.
type End = (Id, u32, StreamId);

enum Happening {
    Wake(Id, u32),
    Input(Id, u32, Input),
    Packet { from: SocketAddr, to: SocketAddr, bytes: Vec<u8> },
    Connect { from: End, to: SocketAddr, bytes: Vec<u8> },
}

/// Which events a simulation keeps. In a large one they would be most of its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    All,
    /// Only failures of nodes that run.
    FalseFailures,
}

pub struct Sim {
    pub now: Time,
    pub keep: Keep,
    /// Failures that nodes told of nodes that ran at that time.
    pub false_failures: u64,
    directory: Directory,
    names: BTreeMap<String, Id>,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    pub network: Network,
    queue: BTreeMap<(Time, u64), Happening>,
    order: u64,
    hosts: BTreeMap<SocketAddr, Id>,
    peers: BTreeMap<(Id, StreamId), End>,
    accepted: u64,
}

pub fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, (n >> 16) as u8, (n >> 8) as u8, n as u8], 7946))
}

/// The settings of simulated nodes: the defaults, without compression, which costs time and decides nothing.
pub fn config(name: &str, address: SocketAddr) -> Config {
    let mut config = Config::lan(name, address);
    config.envelope.compress = false;
    config
}

impl Sim {
    pub fn new(seed: u8) -> Self {
        let rng = Rng::new([seed; 32]);
        Self {
            now: Time::ZERO,
            keep: Keep::All,
            false_failures: 0,
            directory: Directory::new(),
            names: BTreeMap::new(),
            rng,
            nodes: Vec::new(),
            network: Network::default(),
            queue: BTreeMap::new(),
            order: 0,
            hosts: BTreeMap::new(),
            peers: BTreeMap::new(),
            accepted: 0,
        }
    }

    /// A cluster of `count` nodes `n0`, `n1` …, each of which joins `n0`, run until all see all.
    pub fn cluster(seed: u8, count: usize, change: impl Fn(&mut Config)) -> Self {
        let mut sim = Self::new(seed);
        for n in 0..count {
            let mut config = config(&format!("n{n}"), address(n));
            change(&mut config);
            let id = sim.start(config, None);
            if id > 0 {
                sim.join(id, address(0));
            }
        }
        sim.until(Duration::from_secs(120), |sim| sim.all_see_all()).expect("the cluster forms");
        sim
    }

    /// As [`Sim::cluster`], but large: the nodes start over so much time, each joins one of the first sixteen, and
    /// only false failures are kept of what they tell.
    pub fn large(seed: u8, count: usize, ramp: Duration, change: impl Fn(&mut Config)) -> Self {
        let mut sim = Self::new(seed);
        sim.keep = Keep::FalseFailures;
        for n in 0..count {
            let mut config = config(&format!("n{n}"), address(n));
            change(&mut config);
            let id = sim.start(config, None);
            if id > 0 {
                let at = sim.rng.below(id.min(16));
                sim.join(id, address(at));
            }
            sim.run(ramp / u32::try_from(count).unwrap_or(u32::MAX));
        }
        sim
    }

    /// A cluster of `count` nodes that has run for long: each joined when all others were there, and all news has
    /// been told. The network stands still meanwhile; nothing of this is what [`Sim::large`] is for.
    ///
    /// `knowing`: how many know of the others. The rest answer, and begin nothing.
    pub fn settled(seed: u8, count: usize, knowing: usize, change: impl Fn(&mut Config)) -> Self {
        let mut sim = Self::new(seed);
        sim.keep = Keep::FalseFailures;
        let configs = (0..count).map(|n| {
            let mut config = config(&format!("n{n}"), address(n));
            change(&mut config);
            config
        });
        let configs: Vec<Config> = configs.collect();
        let nodes = configs.iter().map(|config| {
            let alive = Alive {
                incarnation: config.incarnation,
                node: config.name.clone(),
                address: config.address,
                meta: encode_tags(&config.tags),
                versions: vec![1, 5, 2, 2, 5, 5],
            };
            NodeState { alive, state: StateCode::Alive }
        });
        let nodes: Vec<NodeState> = nodes.collect();
        let user_state = SerfState {
            ltime: 2,
            status_ltimes: nodes.iter().map(|node| (node.alive.node.clone(), 1)).collect(),
            event_ltime: 1,
            query_ltime: 1,
            ..SerfState::default()
        };
        let state = PushPull { join: false, nodes, user_state: user_state.encode() }.encode();
        let bytes = Envelope { compress: false, ..Envelope::default() }.seal_stream(&state, &mut sim.rng);
        // The first takes it in before the others are there, so that names lie close together: that halves the time.
        for config in configs {
            let id = sim.start(config, None);
            if id < knowing {
                sim.accepted += 1;
                let stream = StreamId::accepted(sim.accepted);
                let from = address(count);
                sim.feed(id, Input::StreamAccepted { stream, from });
                sim.feed(id, Input::StreamData { stream, bytes: bytes.clone() });
            }
        }
        if knowing < count {
            // That each lives is told to nobody, or the rest would know of some.
            for id in (0..count).flat_map(|id| [id; 50]) {
                let bytes = Ping::default().encode();
                sim.feed(id, Input::Packet { from: address(count), bytes });
            }
        }
        sim.false_failures = 0;
        sim
    }

    pub fn start(&mut self, mut config: Config, snapshot: Option<Snapshot>) -> Id {
        config.directory = self.directory.clone();
        let id = self.nodes.len();
        self.names.insert(config.name.clone(), id);
        let address = config.address;
        let seed = self.seed();
        let (gossip, outputs) = Gossip::new(config, snapshot, Rng::new(seed), self.now).expect("valid");
        self.nodes.push(Node {
            gossip,
            address,
            events: Vec::new(),
            bytes_sent: 0,
            packets_sent: 0,
            stream_bytes: 0,
            power: Power::On,
            life: 0,
            paused: false,
            backlog: VecDeque::new(),
            wake: None,
        });
        self.hosts.insert(address, id);
        self.carry_out(id, outputs);
        id
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        seed
    }

    pub fn join(&mut self, id: Id, at: SocketAddr) {
        self.feed(id, Input::Join { addresses: vec![at], ignore_old_events: false });
    }

    /// SIGKILL: connections to it are refused from now on.
    pub fn kill(&mut self, id: Id) {
        self.nodes[id].power = Power::Killed;
        self.nodes[id].life += 1;
    }

    /// The host disappears.
    pub fn power_off(&mut self, id: Id) {
        self.nodes[id].power = Power::Off;
        self.nodes[id].life += 1;
    }

    /// The process starts again with these settings, knowing what its snapshot says.
    pub fn restart(&mut self, id: Id, mut config: Config, snapshot: Option<Snapshot>) {
        config.directory = self.directory.clone();
        self.names.insert(config.name.clone(), id);
        let seed = self.seed();
        let address = config.address;
        let (gossip, outputs) = Gossip::new(config, snapshot, Rng::new(seed), self.now).expect("valid");
        let node = &mut self.nodes[id];
        node.life += 1;
        node.gossip = gossip;
        node.power = Power::On;
        node.paused = false;
        node.wake = None;
        node.backlog.clear();
        if node.address != address {
            self.hosts.remove(&node.address);
            node.address = address;
        }
        self.hosts.insert(address, id);
        self.carry_out(id, outputs);
    }

    pub fn pause(&mut self, id: Id) {
        self.nodes[id].paused = true;
    }

    pub fn resume(&mut self, id: Id) {
        self.nodes[id].paused = false;
        // A process that wakes sees the time first, then what lay in its sockets.
        self.feed(id, Input::Tick);
        while let Some(input) = self.nodes[id].backlog.pop_front() {
            self.feed(id, input);
        }
    }

    pub fn feed(&mut self, id: Id, input: Input) {
        let outputs = self.nodes[id].gossip.handle(input, self.now);
        self.carry_out(id, outputs);
    }

    fn push(&mut self, at: Time, happening: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), happening);
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.network.delay;
        least + self.rng.within(most - least)
    }

    fn is_lost(&mut self, from: SocketAddr, to: SocketAddr) -> bool {
        let link = (self.network.link)(from, to);
        self.rng.fraction() < self.network.loss || (link > 0.0 && self.rng.fraction() < link)
    }

    /// Time until a TCP segment is there, with retransmissions; `None` when the way is cut.
    fn segment(&mut self, from: SocketAddr, to: SocketAddr) -> Option<Duration> {
        let mut total = self.delay();
        let mut wait = Duration::from_secs(1);
        for _ in 0..6 {
            if !self.is_lost(from, to) {
                return Some(total);
            }
            total += wait;
            wait *= 2;
        }
        None
    }

    fn carry_out(&mut self, id: Id, outputs: Vec<Output>) {
        let (own, life) = (self.nodes[id].address, self.nodes[id].life);
        for output in outputs {
            match output {
                Output::Packet { to, bytes } => {
                    self.nodes[id].bytes_sent += bytes.len() as u64;
                    self.nodes[id].packets_sent += 1;
                    let copies = if self.rng.fraction() < self.network.duplicate { 2 } else { 1 };
                    for _ in 0..copies {
                        if (self.network.udp)(own, to) && !self.is_lost(own, to) {
                            let at = self.now + self.delay();
                            self.push(at, Happening::Packet { from: own, to, bytes: bytes.clone() });
                        }
                    }
                }
                Output::Open { stream, to, bytes, .. } => {
                    self.nodes[id].count_stream(bytes.len());
                    // There, back, and there again with the data.
                    let way = [(own, to), (to, own), (own, to)].map(|(a, b)| self.segment(a, b));
                    if let [Some(a), Some(b), Some(c)] = way {
                        self.push(self.now + a + b + c, Happening::Connect { from: (id, life, stream), to, bytes });
                    }
                }
                Output::Write { stream, bytes } => {
                    self.nodes[id].count_stream(bytes.len());
                    if let Some((peer, life, theirs)) = self.peers.get(&(id, stream)).copied()
                        && let Some(delay) = self.segment(own, self.nodes[peer].address)
                    {
                        let input = Input::StreamData { stream: theirs, bytes };
                        self.push(self.now + delay, Happening::Input(peer, life, input));
                    }
                }
                Output::Close { stream } => {
                    if let Some((peer, life, theirs)) = self.peers.remove(&(id, stream)) {
                        self.peers.remove(&(peer, theirs));
                        // After what was written before it, however that was delayed.
                        let at = self.now + Duration::from_secs(70);
                        let input = Input::StreamEnded { stream: theirs, end: StreamEnd::Closed };
                        self.push(at, Happening::Input(peer, life, input));
                    }
                }
                Output::WakeAt(at) => {
                    if self.nodes[id].wake.is_none_or(|wake| at < wake || wake <= self.now) {
                        self.nodes[id].wake = Some(at);
                        self.push(at, Happening::Wake(id, life));
                    }
                }
                Output::Event(event) => {
                    let wrong = self.is_false_failure(&event);
                    self.false_failures += u64::from(wrong);
                    if wrong || self.keep == Keep::All {
                        self.nodes[id].events.push((self.now, event));
                    }
                }
                Output::Persist => {}
                Output::Rejected(error) => panic!("rejected: {error}"),
            }
        }
    }

    fn is_false_failure(&self, event: &Event) -> bool {
        let Event::Member { change: Change::Failed, member, .. } = event else { return false };
        self.names.get(&member.name).is_some_and(|id| {
            let node = &self.nodes[*id];
            node.power == Power::On && !node.paused && node.gossip.name() == member.name
        })
    }

    fn is_running(&self, id: Id, life: u32) -> bool {
        self.nodes[id].power == Power::On && self.nodes[id].life == life
    }

    fn deliver(&mut self, id: Id, input: Input) {
        if self.nodes[id].paused {
            // A socket buffer holds so much and no more.
            if self.nodes[id].backlog.len() < 1000 {
                self.nodes[id].backlog.push_back(input);
            }
        } else {
            self.feed(id, input);
        }
    }

    /// Lets the next thing happen, if it does before `end`.
    fn step(&mut self, end: Time) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) else {
            self.now = end;
            return false;
        };
        let ((at, _), happening) = entry.remove_entry();
        self.now = self.now.max(at);
        match happening {
            Happening::Wake(id, life) => {
                if self.is_running(id, life) && !self.nodes[id].paused && self.nodes[id].wake == Some(at) {
                    self.nodes[id].wake = None;
                    self.feed(id, Input::Tick);
                    // Another time may have been given before this one came.
                    if self.nodes[id].wake.is_none()
                        && let Some(next) = self.nodes[id].gossip.wake_at()
                    {
                        self.nodes[id].wake = Some(next);
                        self.push(next, Happening::Wake(id, life));
                    }
                }
            }
            Happening::Input(id, life, input) => {
                if self.is_running(id, life) {
                    self.deliver(id, input);
                }
            }
            Happening::Packet { from, to, bytes } => {
                if let Some(id) = self.hosts.get(&to).copied()
                    && self.nodes[id].power == Power::On
                {
                    self.deliver(id, Input::Packet { from, bytes });
                }
            }
            Happening::Connect { from: (from, life, stream), to, bytes } => {
                let target = self.hosts.get(&to).copied();
                match target.map(|id| (id, self.nodes[id].power)) {
                    Some((id, Power::On)) => {
                        self.accepted += 1;
                        let theirs = StreamId::accepted(self.accepted);
                        self.peers.insert((from, stream), (id, self.nodes[id].life, theirs));
                        self.peers.insert((id, theirs), (from, life, stream));
                        let from = self.nodes[from].address;
                        self.deliver(id, Input::StreamAccepted { stream: theirs, from });
                        self.deliver(id, Input::StreamData { stream: theirs, bytes });
                    }
                    Some((_, Power::Killed)) => {
                        if self.is_running(from, life) {
                            self.deliver(from, Input::StreamEnded { stream, end: StreamEnd::Refused });
                        }
                    }
                    Some((_, Power::Off)) | None => {}
                }
            }
        }
        true
    }

    pub fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.step(end) {}
    }

    /// Runs until `done` holds, looked at every 50 ms; gives the time that took, or `None` after `limit`.
    pub fn until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while !done(self) {
            if self.now.since(start) >= limit {
                return None;
            }
            self.run(Duration::from_millis(50));
        }
        Some(self.now.since(start))
    }

    /// As [`Sim::until`], looked at every second, and said how it goes when that takes long.
    #[expect(clippy::print_stdout, clippy::disallowed_types, reason = "long simulations say how they go")]
    pub fn until_said(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let (start, mut told) = (self.now, std::time::Instant::now());
        while !done(self) {
            if self.now.since(start) >= limit {
                return None;
            }
            self.run(Duration::from_secs(1));
            if told.elapsed() > Duration::from_secs(20) {
                told = std::time::Instant::now();
                let stats = self.nodes[self.nodes.len() / 2].gossip.stats();
                println!("{:?}: knowledge {:.6}; {stats:?}", self.now.since(start), self.knowledge());
            }
        }
        Some(self.now.since(start))
    }

    /// Nodes whose process runs.
    pub fn running(&self) -> impl Iterator<Item = (Id, &Node)> {
        self.nodes.iter().enumerate().filter(|(_, node)| node.power == Power::On && !node.paused)
    }

    /// Whether every running node lists every running node as alive and not suspect, and nobody else as alive.
    pub fn all_see_all(&self) -> bool {
        let count = self.running().count();
        // What is cheap first: there are `count` squared entries to look at.
        if !self.running().all(|(_, node)| {
            let stats = node.gossip.stats();
            (stats.living, stats.suspects) == (count, 0)
        }) {
            return false;
        }
        let mut names: Vec<&str> = self.running().map(|(_, node)| node.gossip.name()).collect();
        names.sort_unstable();
        self.running().all(|(_, node)| {
            let (mut at, mut wrong) = (0, false);
            node.gossip.survey(|name, status, suspect| {
                if names.get(at) == Some(&name) {
                    wrong |= status != Status::Alive || suspect;
                    at += 1;
                } else {
                    wrong |= status == Status::Alive;
                }
            });
            !wrong && at == names.len()
        })
    }

    /// Share of what each running node should list as alive of all running nodes that it does: 1 is whole.
    pub fn knowledge(&self) -> f64 {
        let count = self.running().count() as f64;
        let known: usize = self.running().map(|(_, node)| node.gossip.stats().living).sum();
        known as f64 / (count * count)
    }

    /// Whether every running node lists `name` with `status`.
    pub fn all_see(&self, name: &str, status: &str) -> bool {
        self.running().all(|(_, node)| node.gossip.member(name).is_some_and(|m| m.status.as_str() == status))
    }

    /// Failures told since `since`: who told, and whom it was about.
    pub fn failures(&self, since: Time) -> Vec<(Id, String)> {
        let told = |(id, node): (Id, &Node)| {
            let failed =
                node.events.iter().filter(move |(at, _)| *at >= since).filter_map(move |(_, event)| match event {
                    Event::Member { change: Change::Failed, member, .. } => Some((id, member.name.clone())),
                    _ => None,
                });
            failed.collect::<Vec<_>>()
        };
        self.nodes.iter().enumerate().flat_map(told).collect()
    }
}
