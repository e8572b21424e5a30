//! The node: the machine, its sockets and its timers, on one thread.

use super::disk::Disk;
use super::join::Joins;
use super::stream::{self, Note, Writes};
use crate::exit::Failure;
use regrow_gossip::{
    CommandError, Config, ConfigError, Event, Gossip, Input, KeyOp, KeyReport, Output, QueryRequest, Rng, Snapshot,
    StreamEnd, StreamId, Time,
};
use regrow_serve::membership::{Happening, Joining, QueryAnswer};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::time::Instant;

/// Questions waiting for the node; a full queue holds those who ask up, never the node.
pub(super) const ASKS: usize = 256;
/// Notes of connections waiting for the node; a full queue holds the connections up.
const NOTES: usize = 256;
/// Answers of one query waiting for a slow reader; what is over that is lost to it.
const ANSWERS_WAITING: usize = 4_096;
/// Largest datagram.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams read in a row before anything else has its turn.
const DATAGRAMS_IN_A_ROW: usize = 32;
/// Bytes of datagrams that the kernel keeps for us. Source: memberlist `udpRecvBufSize`.
const RECEIVE_BUFFER_BYTES: usize = 2 << 20;
/// Time between two writes of what a restart needs.
const PERSIST_INTERVAL: Duration = Duration::from_millis(500);
/// Tries to find one port that is free for both.
const PORT_TRIES: usize = 32;

/// What others ask of the node.
pub(super) enum Ask {
    /// Feed the machine.
    Do(Input, oneshot::Sender<Result<(), CommandError>>),
    /// Meet these; answered when each has said yes or no. Begins anew after a leave.
    Join(Vec<SocketAddr>, bool, oneshot::Sender<Joining>),
    /// Ask the cluster.
    Query(QueryRequest, oneshot::Sender<Result<mpsc::Receiver<QueryAnswer>, CommandError>>),
    /// Change the keys; answered when the members have.
    Keys(KeyOp, u8, oneshot::Sender<Result<KeyReport, CommandError>>),
    /// Leave; answered when it is done.
    Leave(oneshot::Sender<Result<(), CommandError>>),
    /// Look at the machine.
    Look(Box<dyn FnOnce(&Gossip) + Send>),
    /// End the thread, without a leave.
    Stop,
}

/// Both sockets, at one address.
pub(super) struct Bound {
    pub(super) address: SocketAddr,
    udp: std::net::UdpSocket,
    tcp: std::net::TcpListener,
}

impl Bound {
    pub(super) fn at(wanted: SocketAddr) -> Result<Bound, Failure> {
        let refuse = |error: std::io::Error| {
            Failure::failed(format!(
                "cannot open gossip at {wanted}: {error}\n  choose another with --gossip IP:PORT, any free one with \
                 --gossip 127.0.0.1:0, or --gossip off"
            ))
        };
        let mut tries = PORT_TRIES;
        loop {
            tries -= 1;
            let tcp = std::net::TcpListener::bind(wanted).map_err(refuse)?;
            let address = tcp.local_addr().map_err(refuse)?;
            // A free port of TCP may be taken for UDP: then another is drawn.
            let udp = match std::net::UdpSocket::bind(address) {
                Err(_) if wanted.port() == 0 && tries > 0 => continue,
                udp => udp.map_err(refuse)?,
            };
            tcp.set_nonblocking(true).map_err(refuse)?;
            udp.set_nonblocking(true).map_err(refuse)?;
            // The kernel cuts it to what the administrator allows; less only loses packets earlier.
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(&udp, RECEIVE_BUFFER_BYTES);
            return Ok(Bound { address, udp, tcp });
        }
    }
}

/// What a node is made of.
pub(super) struct Parts {
    pub(super) bound: Bound,
    pub(super) config: Config,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) happenings: broadcast::Sender<Arc<Happening>>,
    pub(super) disk: Disk,
}

pub(super) struct Node {
    gossip: Gossip,
    config: Config,
    source: IpAddr,
    sender: std::net::UdpSocket,
    streams: BTreeMap<StreamId, Writes>,
    accepted: u64,
    notes: mpsc::Sender<Note>,
    noted: Option<mpsc::Receiver<Note>>,
    started: Instant,
    wake: Option<Instant>,
    persist: Option<Instant>,
    happenings: broadcast::Sender<Arc<Happening>>,
    disk: Disk,
    token: u64,
    queries: BTreeMap<u64, mpsc::Sender<QueryAnswer>>,
    keys: BTreeMap<u64, oneshot::Sender<Result<KeyReport, CommandError>>>,
    joins: Joins,
    leaving: Vec<oneshot::Sender<Result<(), CommandError>>>,
}

/// Runs a node to its end, on this thread. `ready` is told whether it started.
pub(super) fn run(parts: Parts, ready: std::sync::mpsc::SyncSender<Result<(), String>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(ready.send(Err(error.to_string()))),
    };
    runtime.block_on(async move {
        let started = Node::start(parts).await;
        match started {
            Err(error) => drop(ready.send(Err(error))),
            Ok((node, udp, tcp, asks)) => {
                let _ = ready.send(Ok(()));
                node.run(udp, tcp, asks).await;
            }
        }
    });
}

/// The machine's first incarnation beats what others remember of an earlier life, whether that was written down or not.
fn incarnation(snapshot: Option<&Snapshot>) -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let persisted = snapshot.map_or(0, |snapshot| snapshot.incarnation.saturating_add(1));
    persisted.max(u32::try_from(seconds).unwrap_or(1))
}

fn seeded() -> Result<Rng, String> {
    let mut seed = [0; 32];
    let read = rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty());
    match read {
        Ok(32) => Ok(Rng::new(seed)),
        Ok(_) => Err("the system gave too little entropy".to_owned()),
        Err(error) => Err(format!("the system gave no entropy: {error}")),
    }
}

impl Node {
    async fn start(parts: Parts) -> Result<(Node, UdpSocket, TcpListener, mpsc::Receiver<Ask>), String> {
        let Parts { bound, mut config, snapshot, asks, happenings, disk } = parts;
        let text = |error: std::io::Error| error.to_string();
        let source = bound.address.ip();
        let sender = bound.udp.try_clone().map_err(text)?;
        let udp = UdpSocket::from_std(bound.udp).map_err(text)?;
        let tcp = TcpListener::from_std(bound.tcp).map_err(text)?;
        config.incarnation = incarnation(snapshot.as_ref());
        let made = Gossip::new(config.clone(), snapshot, seeded()?, Time::ZERO);
        let (gossip, outputs) = made.map_err(|error: ConfigError| error.to_string())?;
        let (notes, noted) = mpsc::channel(NOTES);
        let mut node = Node {
            gossip,
            config,
            source,
            sender,
            streams: BTreeMap::new(),
            accepted: 0,
            notes,
            noted: Some(noted),
            started: Instant::now(),
            wake: None,
            persist: None,
            happenings,
            disk,
            token: 0,
            queries: BTreeMap::new(),
            keys: BTreeMap::new(),
            joins: Joins::default(),
            leaving: Vec::new(),
        };
        node.carry_out(outputs);
        Ok((node, udp, tcp, asks))
    }

    async fn run(mut self, udp: UdpSocket, tcp: TcpListener, mut asks: mpsc::Receiver<Ask>) {
        let Some(mut noted) = self.noted.take() else { return };
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        let far = Duration::from_secs(3600);
        loop {
            let wake = self.wake.unwrap_or_else(|| Instant::now() + far);
            let persist = self.persist.unwrap_or_else(|| Instant::now() + far);
            tokio::select! {
                ask = asks.recv() => match ask {
                    Some(Ask::Stop) | None => break,
                    Some(ask) => self.take(ask),
                },
                note = noted.recv() => match note {
                    Some(Note::Data(stream, bytes)) => self.on_data(stream, bytes),
                    Some(Note::Ended(stream, end)) => self.on_ended(stream, end),
                    None => break,
                },
                packet = udp.recv_from(&mut buffer) => {
                    let mut packet = packet.ok();
                    for _ in 0..DATAGRAMS_IN_A_ROW {
                        let Some((length, from)) = packet else { break };
                        self.feed(Input::Packet { from, bytes: buffer[..length].to_vec() });
                        packet = udp.try_recv_from(&mut buffer).ok();
                    }
                }
                connection = tcp.accept() => match connection {
                    Ok((tcp, from)) => self.on_accepted(tcp, from),
                    // Out of file descriptors, mostly: trying again at once would only burn the processor.
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                },
                () = tokio::time::sleep_until(wake) => {
                    self.wake = None;
                    self.feed(Input::Tick);
                }
                () = tokio::time::sleep_until(persist) => self.write(),
            }
        }
        self.write();
    }

    fn now(&self) -> Time {
        Time::from_micros(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Feeds the machine and does what it says. The error is the machine's refusal of this input.
    fn feed(&mut self, input: Input) -> Option<CommandError> {
        let outputs = self.gossip.handle(input, self.now());
        self.carry_out(outputs)
    }

    fn carry_out(&mut self, outputs: Vec<Output>) -> Option<CommandError> {
        let mut refused = None;
        for output in outputs {
            match output {
                // A datagram that the kernel does not take now is lost, as any may be on its way.
                Output::Packet { to, bytes } => drop(self.sender.send_to(&bytes, to)),
                Output::Open { stream, to, bytes, deadline } => {
                    let within = deadline - self.now();
                    let notes = self.notes.clone();
                    self.streams.insert(stream, stream::open(stream, self.source, to, bytes, within, notes));
                }
                Output::Write { stream, bytes } => {
                    let stuck = self.streams.get(&stream).is_some_and(|writes| writes.try_send(bytes).is_err());
                    if stuck {
                        self.on_ended(stream, StreamEnd::Failed);
                    }
                }
                Output::Close { stream } => drop(self.streams.remove(&stream)),
                Output::WakeAt(at) => self.wake = Some(self.started + Duration::from_micros(at.as_micros())),
                Output::Event(event) => self.on_event(event),
                Output::Persist => {
                    self.persist.get_or_insert_with(|| Instant::now() + PERSIST_INTERVAL);
                }
                Output::Rejected(error) => refused = Some(error),
            }
        }
        refused
    }

    fn on_accepted(&mut self, tcp: tokio::net::TcpStream, from: SocketAddr) {
        self.accepted += 1;
        let stream = StreamId::accepted(self.accepted);
        self.streams.insert(stream, stream::accepted(stream, tcp, self.notes.clone()));
        self.feed(Input::StreamAccepted { stream, from });
    }

    fn on_data(&mut self, stream: StreamId, bytes: Vec<u8>) {
        // What came before the machine closed it is of no interest any more.
        if self.streams.contains_key(&stream) {
            self.feed(Input::StreamData { stream, bytes });
        }
    }

    fn on_ended(&mut self, stream: StreamId, end: StreamEnd) {
        if self.streams.remove(&stream).is_some() {
            self.feed(Input::StreamEnded { stream, end });
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Do(input, answer) => {
                let refused = self.feed(input);
                let _ = answer.send(refused.map_or(Ok(()), Err));
            }
            Ask::Join(addresses, ignore_old_events, answer) => self.join(addresses, ignore_old_events, answer),
            Ask::Query(mut request, answer) => {
                self.token += 1;
                request.token = self.token;
                let (sender, answers) = mpsc::channel(ANSWERS_WAITING);
                self.queries.insert(self.token, sender);
                match self.feed(Input::Query(request)) {
                    None => drop(answer.send(Ok(answers))),
                    Some(error) => {
                        self.queries.remove(&self.token);
                        let _ = answer.send(Err(error));
                    }
                }
            }
            Ask::Keys(op, relay_factor, answer) => {
                self.token += 1;
                let token = self.token;
                self.keys.insert(token, answer);
                if let Some(error) = self.feed(Input::Keys { token, op, relay_factor })
                    && let Some(answer) = self.keys.remove(&token)
                {
                    let _ = answer.send(Err(error));
                }
            }
            Ask::Leave(answer) => {
                self.leaving.push(answer);
                if let Some(error) = self.feed(Input::Leave)
                    && error != CommandError::Left
                {
                    self.left(&Err(error));
                } else if self.gossip.wake_at().is_none() {
                    // It had left long before.
                    self.left(&Ok(()));
                }
            }
            Ask::Look(look) => look(&self.gossip),
            Ask::Stop => {}
        }
    }

    fn left(&mut self, result: &Result<(), CommandError>) {
        for answer in self.leaving.drain(..) {
            let _ = answer.send(result.clone());
        }
    }

    fn join(&mut self, addresses: Vec<SocketAddr>, ignore_old_events: bool, answer: oneshot::Sender<Joining>) {
        if self.gossip.wake_at().is_none() {
            self.begin_anew();
        }
        self.joins.add(&addresses, answer);
        if let Some(error) = self.feed(Input::Join { addresses: addresses.clone(), ignore_old_events }) {
            for address in addresses {
                self.joins.failed(address, &error.to_string());
            }
        }
    }

    /// After a leave the machine is done; another takes its place, and its clocks.
    fn begin_anew(&mut self) {
        let snapshot = self.gossip.snapshot();
        self.config.incarnation = incarnation(Some(&snapshot));
        self.config.envelope.keyring = super::disk::keyring(&self.gossip.keys());
        let Ok(rng) = seeded() else { return };
        if let Ok((gossip, outputs)) = Gossip::new(self.config.clone(), Some(snapshot), rng, self.now()) {
            self.gossip = gossip;
            self.carry_out(outputs);
        }
    }

    /// Hands what a restart needs to the disk.
    fn write(&mut self) {
        self.persist = None;
        self.disk.snapshot(self.gossip.snapshot());
    }

    fn on_event(&mut self, event: Event) {
        match &event {
            Event::QueryAck { token, from } => self.answer(*token, QueryAnswer::Ack { from: from.clone() }),
            Event::QueryReply { token, from, payload } => {
                self.answer(*token, QueryAnswer::Reply { from: from.clone(), payload: payload.clone() });
            }
            Event::QueryDone { token } => drop(self.queries.remove(token)),
            Event::KeysDone { token, report } => {
                if let Some(answer) = self.keys.remove(token) {
                    let _ = answer.send(Ok(report.clone()));
                }
            }
            Event::KeyringChanged { keys } => self.disk.keys(keys.clone()),
            Event::Joined { address } => self.joins.joined(*address),
            Event::JoinFailed { address, reason } => self.joins.failed(*address, reason),
            Event::Left => {
                self.left(&Ok(()));
                self.write();
            }
            _ => {}
        }
        let happening = Arc::new(Happening { at: SystemTime::now(), event });
        self.disk.happening(&happening);
        // Nobody may be listening; that is no error.
        let _ = self.happenings.send(happening);
    }

    fn answer(&mut self, token: u64, answer: QueryAnswer) {
        if let Some(sender) = self.queries.get(&token) {
            let _ = sender.try_send(answer);
        }
    }
}
