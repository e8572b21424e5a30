//! A flood of garbage at an agent of a living cluster: noise in datagrams, real packets cut and damaged, noise in streams,
//! streams that announce much and hold on to it, streams that send a byte now and then. It costs the agent neither its
//! membership, as another agent and a real `serf` see it, nor memory beyond a limit, and it takes joins and events after it.

#![allow(clippy::print_stderr, reason = "a witness that is missing is said")]

mod support;

use regrow_gossip::Rng;
use serde_json::Value;
use std::io::Write;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::{Cluster, until};

/// How long it goes on: longer than the death of a member of so small a cluster takes to be declared.
const FLOOD: Duration = Duration::from_secs(8);
/// Rounds in that time; the rate is bounded, so that the flood measures the agent and not the machine.
const ROUNDS: u32 = 80;
/// Datagrams of each kind in a round.
const DATAGRAMS: usize = 40;
/// Longest datagram of noise.
const NOISE_BYTES_MAX: usize = 9_000;
/// Streams that send one byte in each round.
const SLOW_STREAMS: usize = 40;
/// Streams that announce [`ANNOUNCED_BYTES`] and send [`HELD_BYTES`] of them.
const HOLDING_STREAMS: usize = 30;
const ANNOUNCED_BYTES: u32 = 19 << 20;
const HELD_BYTES: usize = 8 << 20;
/// Of a message that says it goes on.
const ENDLESS_BYTES: usize = 4 << 20;
/// Most that the agent's resident memory may grow at any moment. What it promises to hold of streams is 64 MiB
/// (`STREAM_BYTES_TOTAL_MAX`), a growing buffer has up to twice what is in it, and reads that wait have 16 MiB;
/// the holding streams alone send 240 MiB.
const GROWTH_KIB_MAX: u64 = 160 << 10;

const CAPTURED: &str = include_str!("../fuzz/corpus/serf.txt");

#[test]
fn a_flood_costs_neither_membership_nor_memory() {
    let a = start("a", &[]);
    let b = start("b", &["--join", &door(&a)]);
    let serf = Serf::start(&door(&a));
    let mut names = vec!["a", "b"];
    names.extend(serf.iter().map(|_| "witness"));
    for cluster in [&a, &b] {
        until("all see all alive", || names.iter().all(|name| status(cluster, name) == "alive").then_some(()));
    }
    if let Some(serf) = &serf {
        until("serf sees both alive", || ["a", "b"].iter().all(|name| serf.status(name) == "alive").then_some(()));
    }

    let before = memory_kib(&a, "VmRSS");
    flood(door(&a).parse().expect("an address"), || {
        assert_eq!(status(&b, "a"), "alive", "{}", a.log());
        assert!(serf.iter().all(|serf| serf.status("a") == "alive"), "{}", a.log());
    });
    let most = memory_kib(&a, "VmHWM");
    eprintln!("resident: {before} KiB before, {most} KiB at most");
    assert!(most < before + GROWTH_KIB_MAX, "{before} KiB before the flood, {most} KiB in it");

    // Not even between two looks.
    assert!(!b.read("told").contains("member-failed|a\t"), "{}", b.read("told"));
    assert!(serf.iter().all(|serf| !serf.saw_failed("a")));
    let c = start("c", &[]);
    c.ok(&["join", &door(&a)]);
    until("the new one is seen by all", || [&a, &b].iter().all(|at| status(at, "c") == "alive").then_some(()));
    c.ok(&["event", "after", "from-c"]);
    until("its event is handled", || [&a, &b].iter().all(|at| at.read("told").contains("from-c")).then_some(()));
    a.ok(&["event", "after", "from-a"]);
    until("as is the flooded one's", || [&b, &c].iter().all(|at| at.read("told").contains("from-a")).then_some(()));
    if let Some(serf) = &serf {
        until("serf sees the new one", || (serf.status("c") == "alive").then_some(()));
        serf.run(&["event", "after", "from-serf"]);
        until("serf's event is handled", || a.read("told").contains("from-serf").then_some(()));
    }

    // The same looks do see a failure.
    let mut a = a;
    a.kill_agent();
    until("it is told as failed", || b.read("told").contains("member-failed|a\t").then_some(()));
    if let Some(serf) = &serf {
        until("serf tells it as failed", || serf.saw_failed("a").then_some(()));
    }
}

/// Sends rounds of everything, with a look after each tenth.
fn flood(to: SocketAddr, look: impl Fn()) {
    let mut rng = Rng::new([20; 32]);
    let packets = captured();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let mut slow: Vec<(TcpStream, Vec<u8>)> = Vec::new();
    let mut holding = Vec::new();
    let start = Instant::now();
    let mut sent = 0;
    for round in 1..=ROUNDS {
        for _ in 0..DATAGRAMS {
            let mut noise = vec![0; rng.below(NOISE_BYTES_MAX)];
            noise.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
            let packet = &packets[rng.below(packets.len())];
            let cut = packet[..rng.below(packet.len())].to_vec();
            let mut damaged = packet.clone();
            for _ in 0..=rng.below(4) {
                let at = rng.below(damaged.len());
                damaged[at] = rng.next_u64() as u8;
            }
            for bytes in [noise, cut, damaged] {
                sent += usize::from(socket.send_to(&bytes, to).is_ok());
            }
        }
        let mut noise = vec![0; 16 << 10];
        noise.iter_mut().for_each(|byte| *byte = rng.next_u64() as u8);
        // A type that is known, so that it is read at all.
        noise[0] = [0, 5, 6, 8, 9, 10][rng.below(6)];
        let _ = connect(to).write_all(&noise);
        if slow.len() < SLOW_STREAMS {
            slow.push((connect(to), packets[rng.below(packets.len())].clone()));
        }
        for (stream, bytes) in &mut slow {
            let byte = if bytes.is_empty() { 0 } else { bytes.remove(0) };
            if stream.write_all(&[byte]).is_err() {
                *stream = connect(to);
            }
        }
        if holding.len() < HOLDING_STREAMS {
            holding.push(hold(to));
        }
        if round % 10 == 0 {
            endless(to);
            look();
        }
        std::thread::sleep((start + FLOOD / ROUNDS * round).saturating_duration_since(Instant::now()));
    }
    eprintln!("{sent} datagrams, {} slow and {} holding streams", slow.len(), holding.len());
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("it accepts");
    stream.set_write_timeout(Some(Duration::from_secs(1))).expect("a timeout");
    stream
}

/// A user message whose end never comes. The agent may well close it before all is sent.
fn hold(to: SocketAddr) -> TcpStream {
    let mut stream = connect(to);
    let head = [&[8, 0x81, 0xaa][..], b"UserMsgLen", &[0xce], &ANNOUNCED_BYTES.to_be_bytes()].concat();
    let _ = stream.write_all(&head).and_then(|()| stream.write_all(&vec![7; HELD_BYTES]));
    stream
}

/// A ping with a field that we do not know, lists in lists without end, in small pieces: each might be read from the start.
fn endless(to: SocketAddr) {
    let mut stream = connect(to);
    let _ = stream.set_nodelay(true).and_then(|()| stream.write_all(&[0, 0x82, 0xa1, b'x']));
    (0..ENDLESS_BYTES / 1024).all(|_| stream.write_all(&[0x91; 1024]).is_ok());
}

/// Real packets. On a stream the same messages mean the same.
fn captured() -> Vec<Vec<u8>> {
    let line = |line: &str| {
        let hex = line.strip_prefix("udp")?.trim();
        (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()).collect()
    };
    let all: Vec<Vec<u8>> = CAPTURED.lines().filter_map(line).filter(|bytes: &Vec<u8>| !bytes.is_empty()).collect();
    assert!(!all.is_empty());
    all
}

/// An agent with a handler that notes what it is told.
fn start(node: &str, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty();
    let script = cluster.path("handler.sh");
    let text = "#!/bin/sh\nsed \"s/^/$SERF_EVENT|/\" >> \"$(dirname \"$0\")/told\"\n";
    std::fs::write(&script, text).expect("written");
    cluster.write("told", "");
    let handler = format!("member-failed,user:after=/bin/sh {}", script.display());
    let words = ["agent", "--node", node, "--gossip", "127.0.0.1:0", "--rpc", "off", "--event-handler", &handler];
    cluster.start(&[&words, more].concat());
    until("it answers", || cluster.try_status());
    cluster
}

/// Where its gossip is.
fn door(cluster: &Cluster) -> String {
    let doors: Value = serde_json::from_str(&cluster.read("data/doors.json")).expect("JSON");
    doors["gossip"].as_str().expect("an address").to_owned()
}

fn status(cluster: &Cluster, name: &str) -> String {
    let members: Value = serde_json::from_str(&cluster.ok(&["members", "--json"])).expect("JSON");
    let found = members.as_array().into_iter().flatten().find(|member| member["name"] == name);
    found.and_then(|member| member["status"].as_str()).unwrap_or_default().to_owned()
}

/// A line of `/proc/PID/status`.
fn memory_kib(cluster: &Cluster, line: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.agent_pid())).expect("it runs");
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')).expect("a size");
    found.trim_end_matches("kB").trim().parse().expect("a number")
}

/// A real agent as a witness.
struct Serf {
    child: Child,
    rpc: String,
    folder: tempfile::TempDir,
    _ports: support::Ports,
}

impl Serf {
    fn start(join: &str) -> Option<Serf> {
        let version = Command::new("serf").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if version.is_err() {
            eprintln!("skipped: the witness of another make: serf is not installed");
            return None;
        }
        let mut ports = support::Ports::take();
        let rpc = format!("127.0.0.1:{}", ports.one());
        let folder = tempfile::tempdir().expect("a folder");
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut command = Command::new("serf");
        command.args(["agent", "-node=witness", "-profile=lan", "-log-level=debug", &format!("-rpc-addr={rpc}")]);
        command.args([&format!("-bind=127.0.0.1:{}", ports.one()), &format!("-join={join}")]);
        let child = command.stdout(log.try_clone().expect("a copy")).stderr(log).spawn().expect("serf starts");
        Some(Serf { child, rpc, folder, _ports: ports })
    }

    fn run(&self, words: &[&str]) -> String {
        let mut command = Command::new("serf");
        command.arg(words[0]).arg(format!("-rpc-addr={}", self.rpc)).args(&words[1..]);
        String::from_utf8_lossy(&command.output().expect("serf runs").stdout).into_owned()
    }

    fn status(&self, name: &str) -> String {
        let members = self.run(&["members"]);
        let line = members.lines().find(|line| line.split_whitespace().next() == Some(name));
        line.and_then(|line| line.split_whitespace().nth(2)).unwrap_or_default().to_owned()
    }

    /// Whether it ever did, however short.
    fn saw_failed(&self, name: &str) -> bool {
        let log = std::fs::read_to_string(self.folder.path().join("log")).expect("a log");
        log.contains(&format!("EventMemberFailed: {name} "))
    }
}

impl Drop for Serf {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
