//! A small driver: the machine on real loopback sockets, and a real `serf agent` beside it.

#![expect(clippy::disallowed_types, reason = "a driver is where sockets and clock are")]
#![expect(clippy::print_stdout, reason = "tests say by name that they are skipped, and why they failed")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use regrow_gossip::{Config, Event, Gossip, Input, Output, Rng, StreamEnd, StreamId, Time};

/// Longest wait for anything; what takes longer is a failure.
const LIMIT: Duration = Duration::from_secs(40);

/// An address of this test process alone: nextest runs each test in its own.
pub(crate) fn loopback(host: u8) -> Ipv4Addr {
    let pid = std::process::id();
    Ipv4Addr::new(127, 64 + ((pid >> 8) & 0x7f) as u8, (pid & 0xff) as u8, host)
}

/// A port that is free for UDP and TCP at `ip`, with both sockets bound.
fn bind(ip: Ipv4Addr) -> (UdpSocket, TcpListener) {
    for _ in 0..100 {
        let tcp = TcpListener::bind((ip, 0)).expect("loopback can be bound");
        let address = tcp.local_addr().expect("bound");
        if let Ok(udp) = UdpSocket::bind(address) {
            return (udp, tcp);
        }
    }
    panic!("no port is free for both udp and tcp");
}

/// The machine on sockets. Everything that it tells is kept in `events`.
pub(crate) struct Node {
    pub(crate) gossip: Gossip,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<Event>,
    /// Answer to every query, if any.
    pub(crate) answer: Option<Vec<u8>>,
    udp: UdpSocket,
    tcp: TcpListener,
    streams: BTreeMap<StreamId, TcpStream>,
    accepted: u64,
    start: Instant,
}

impl Node {
    pub(crate) fn new(name: &str, host: u8, change: impl FnOnce(&mut Config)) -> Self {
        let (udp, tcp) = bind(loopback(host));
        let address = udp.local_addr().expect("bound");
        // The wait for a datagram is what paces the loop.
        udp.set_read_timeout(Some(Duration::from_millis(5))).expect("timeout");
        tcp.set_nonblocking(true).expect("nonblocking");
        let mut config = Config::lan(name, address);
        change(&mut config);
        let rng = Rng::new([host; 32]);
        let (gossip, outputs) = Gossip::new(config, None, rng, Time::ZERO).expect("valid");
        let streams = BTreeMap::new();
        let start = Instant::now();
        let mut node =
            Self { gossip, address, events: Vec::new(), answer: None, udp, tcp, streams, accepted: 0, start };
        node.carry_out(outputs);
        node
    }

    pub(crate) fn feed(&mut self, input: Input) {
        let now = Time::from_micros(self.start.elapsed().as_micros() as u64);
        let outputs = self.gossip.handle(input, now);
        self.carry_out(outputs);
    }

    fn carry_out(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Packet { to, bytes } => {
                    let _ = self.udp.send_to(&bytes, to);
                }
                Output::Open { stream, to, bytes, .. } => {
                    let opened = TcpStream::connect_timeout(&to, Duration::from_secs(1));
                    match opened.and_then(|mut tcp| tcp.write_all(&bytes).map(|()| tcp)) {
                        Ok(tcp) => {
                            tcp.set_nonblocking(true).expect("nonblocking");
                            self.streams.insert(stream, tcp);
                        }
                        Err(error) => {
                            let refused = error.kind() == ErrorKind::ConnectionRefused;
                            let end = if refused { StreamEnd::Refused } else { StreamEnd::Failed };
                            self.feed(Input::StreamEnded { stream, end });
                        }
                    }
                }
                Output::Write { stream, bytes } => {
                    if let Some(tcp) = self.streams.get_mut(&stream) {
                        tcp.set_nonblocking(false).expect("blocking");
                        let _ = tcp.write_all(&bytes);
                    }
                }
                Output::Close { stream } => {
                    self.streams.remove(&stream);
                }
                Output::Event(event) => {
                    if let (Event::Query { id, .. }, Some(payload)) = (&event, self.answer.clone()) {
                        let id = *id;
                        self.feed(Input::Reply { id, payload });
                    }
                    self.events.push(event);
                }
                Output::Rejected(error) => panic!("rejected: {error}"),
                Output::WakeAt(_) | Output::Persist => {}
            }
        }
    }

    /// Reads what has come, or waits a little; then lets the machine see the time.
    pub(crate) fn step(&mut self) {
        let mut buffer = [0; 65_536];
        if let Ok((length, from)) = self.udp.recv_from(&mut buffer) {
            self.feed(Input::Packet { from, bytes: buffer[..length].to_vec() });
        }
        while let Ok((tcp, from)) = self.tcp.accept() {
            tcp.set_nonblocking(true).expect("nonblocking");
            self.accepted += 1;
            let stream = StreamId::accepted(self.accepted);
            self.streams.insert(stream, tcp);
            self.feed(Input::StreamAccepted { stream, from });
        }
        for stream in self.streams.keys().copied().collect::<Vec<_>>() {
            let Some(tcp) = self.streams.get_mut(&stream) else { continue };
            match tcp.read(&mut buffer) {
                Ok(0) => {
                    self.streams.remove(&stream);
                    self.feed(Input::StreamEnded { stream, end: StreamEnd::Closed });
                }
                Ok(length) => self.feed(Input::StreamData { stream, bytes: buffer[..length].to_vec() }),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => {
                    self.streams.remove(&stream);
                    self.feed(Input::StreamEnded { stream, end: StreamEnd::Failed });
                }
            }
        }
        self.feed(Input::Tick);
    }

    /// Runs until `done` holds.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        until_all(std::slice::from_mut(self), what, |nodes| done(&mut nodes[0]));
    }

    /// Runs while a command does; gives what it printed.
    pub(crate) fn during(&mut self, command: Command) -> String {
        during_all(std::slice::from_mut(self), command)
    }

    /// The status of a member as the machine sees it.
    pub(crate) fn status(&self, name: &str) -> Option<&'static str> {
        self.gossip.member(name).map(|member| member.status.as_str())
    }
}

/// Runs several until `done` holds.
pub(crate) fn until_all(nodes: &mut [Node], what: &str, mut done: impl FnMut(&mut [Node]) -> bool) {
    let start = Instant::now();
    while !done(nodes) {
        let events: Vec<_> = nodes.iter().map(|node| &node.events).collect();
        assert!(start.elapsed() < LIMIT, "waited in vain until {what}; events: {events:#?}");
        nodes.iter_mut().for_each(Node::step);
    }
}

/// Runs several while a command does; gives what it printed.
pub(crate) fn during_all(nodes: &mut [Node], mut command: Command) -> String {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("command starts");
    until_all(nodes, "the command ends", |_| child.try_wait().expect("waited").is_some());
    let output = child.wait_with_output().expect("read");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A real `serf agent`; killed when dropped.
pub(crate) struct Serf {
    pub(crate) address: SocketAddr,
    rpc: SocketAddr,
    child: Child,
    folder: tempfile::TempDir,
}

impl Serf {
    /// Starts one, or says that there is none.
    pub(crate) fn start(test: &str, name: &str, host: u8, arguments: &[&str]) -> Option<Self> {
        if Command::new("serf").arg("version").output().is_err() {
            println!("SKIPPED: {test}: serf not installed");
            return None;
        }
        let ip = loopback(host);
        let address = bind(ip).0.local_addr().expect("bound");
        Some(Self::start_at(name, address, arguments))
    }

    /// Starts one at an address.
    pub(crate) fn start_at(name: &str, address: SocketAddr, arguments: &[&str]) -> Self {
        let rpc = bind(loopback(address_host(address))).1.local_addr().expect("bound");
        let folder = tempfile::tempdir().expect("folder");
        let handler = folder.path().join("handler.sh");
        let script = "#!/bin/sh\nif [ \"$SERF_EVENT\" = query ]; then printf 'answer from serf'; fi\n\
                      printf '%s %s%s %s\\n' \"$SERF_EVENT\" \"$SERF_USER_EVENT\" \"$SERF_QUERY_NAME\" \"$(cat)\" \
                      >> \"$(dirname \"$0\")/events\"\n";
        std::fs::write(&handler, script).expect("handler");
        let log = |file: &str| Stdio::from(std::fs::File::create(folder.path().join(file)).expect("log"));
        let child = Command::new("serf")
            .args(["agent", &format!("-node={name}"), &format!("-bind={address}"), &format!("-rpc-addr={rpc}")])
            .args(["-profile=local", "-log-level=debug", &format!("-event-handler=/bin/sh {}", handler.display())])
            .args(arguments)
            .stdout(log("stdout"))
            .stderr(log("stderr"))
            .spawn()
            .expect("serf starts");
        let serf = Self { address, rpc, child, folder };
        let start = Instant::now();
        while !serf.command(&["members"]).output().expect("serf runs").status.success() {
            assert!(start.elapsed() < LIMIT, "serf did not start: {}", serf.log());
        }
        serf
    }

    /// A command of its client.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("serf");
        command.arg(arguments[0]).arg(format!("-rpc-addr={}", self.rpc)).args(&arguments[1..]);
        command
    }

    /// What its client prints of its members.
    pub(crate) fn members(&self) -> String {
        let output = self.command(&["members"]).output().expect("serf runs");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether its client prints a member with this status, and all of `parts` with it.
    pub(crate) fn sees(&self, name: &str, status: &str, parts: &[&str]) -> bool {
        self.members().lines().any(|line| {
            let mut words = line.split_whitespace();
            words.next() == Some(name) && words.any(|word| word == status) && parts.iter().all(|p| line.contains(p))
        })
    }

    /// What its event handler was given, a line each.
    pub(crate) fn handled(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("events")).unwrap_or_default()
    }

    /// What it logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stdout")).unwrap_or_default()
    }

    /// Whether its process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn address_host(address: SocketAddr) -> u8 {
    match address.ip() {
        std::net::IpAddr::V4(ip) => ip.octets()[3],
        std::net::IpAddr::V6(_) => 1,
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            println!("--- serf's log ---\n{}", self.log());
        }
    }
}
