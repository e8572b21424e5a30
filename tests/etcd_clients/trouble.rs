//! What goes wrong on purpose, at the etcd door of the real binary. A table of all of it is in
//! `docs/design/0007-etcd-door.md`.

use crate::support::etcd3::{Agent, endpoint};
use crate::support::http::{ask, open, post};
use crate::support::http2::Http2;
use crate::support::small::Small;
use crate::support::{Cluster, python, until};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Memory that an agent holds, in KiB.
fn memory(agent: &Agent) -> u64 {
    kib(agent, "VmRSS:")
}

/// The most memory that an agent has held, in KiB.
fn memory_peak(agent: &Agent) -> u64 {
    kib(agent, "VmHWM:")
}

fn kib(agent: &Agent, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.cluster.agent_pid())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with(name)).expect("a size");
    line.split_whitespace().nth(1).and_then(|size| size.parse().ok()).expect("a number")
}

fn put(endpoint: &str, key: &str, value: &[u8]) -> u16 {
    let (key, value) = (STANDARD.encode(key), STANDARD.encode(value));
    post(endpoint, "/v3/kv/put", &format!(r#"{{"key":"{key}","value":"{value}"}}"#)).status
}

/// A full disk: writes are refused as etcd refuses them, the alarm is up, reads and deletes go on; with space again writes
/// are taken, by themselves, and nothing acknowledged is missing, then or after a restart.
#[test]
fn a_full_disk_refuses_writes_and_recovers() {
    let cluster = Cluster::empty();
    let data = cluster.path("data");
    let Some(small) = Small::mount(&data) else {
        return eprintln!("skipped: it takes root to mount a small file system");
    };
    let Some(mut agent) = Agent::start_in(cluster) else { return };
    agent.ok(&["put", "first", "1"]);
    small.fill();
    // The store writes into space that it took before.
    let mut taken = 0;
    for size in [500_000, 20_000] {
        while put(&agent.endpoint, &format!("v/{taken:03}"), &vec![b'v'; size]) == 200 {
            taken += 1;
            assert!(taken < 200, "the disk is never full");
        }
    }
    let more = "x".repeat(20_000);
    let said = agent.fails(&["put", "more", &more]);
    assert!(said.contains("etcdserver: mvcc: database space exceeded"), "{said}");
    let form = ask(&agent.endpoint, "PUT", "/v2/keys/more", &format!("value={more}"));
    assert!(form.status >= 500 && form.body.contains("database space exceeded"), "{form:?}");
    // It stays up, though the store asks the disk again every 200 ms, and smaller writes may find space.
    for round in 0..40 {
        assert!(agent.ok(&["alarm", "list"]).contains("NOSPACE"), "the alarm is up, {round}");
        if round % 10 == 9 {
            put(&agent.endpoint, "small", b"1");
        }
    }
    assert_eq!(agent.ok(&["get", "first"]), "first\n1\n");
    assert_eq!(agent.json(&["get", "v/", "--prefix", "--keys-only"])["count"], taken);
    if taken > 0 {
        assert_eq!(agent.ok(&["del", "v/000"]), "1\n");
    }
    small.free();
    until("writes are taken again", || agent.run(&["put", "more", &more]).status.success().then_some(()));
    agent.ok(&["put", "more", "x"]);
    assert_eq!(agent.ok(&["alarm", "list"]), "");
    agent.restart();
    assert_eq!(
        agent.json(&["get", "v/", "--prefix", "--keys-only"])["count"].as_i64().unwrap_or(0),
        (taken - 1).max(0)
    );
    assert_eq!(agent.ok(&["get", "first", "n"]), "first\n1\nmore\nx\n");
}

/// Files of a store whose names begin so, and their sizes.
fn files(store: &Path, start: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(store).expect("a store").map(|entry| entry.expect("an entry").path());
    let begins = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start));
    names.filter(begins).collect()
}

fn flip(file: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(file).expect("a file");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("a byte");
    file.write_all_at(&[byte[0] ^ 0x10], offset).expect("it is written");
}

/// Where in a file a text is.
fn find(file: &Path, text: &[u8]) -> Option<u64> {
    let bytes = std::fs::read(file).expect("a file");
    bytes.windows(text.len()).position(|window| window == text).map(|at| at as u64)
}

/// One flipped bit in the log, or in a data file: the agent says which file is damaged, where, and what to do, and serves
/// nothing. With the bit as it was, everything is there.
#[test]
fn a_flipped_bit_is_named_and_never_served() {
    let Some(mut agent) = Agent::start() else { return };
    let store = agent.cluster.path("data/store");
    let kept = format!("kept-{}", "value-".repeat(20_000));
    assert_eq!(put(&agent.endpoint, "kept", kept.as_bytes()), 200);
    for round in 0..40 {
        let value = format!("value-{round}-").repeat(60_000);
        assert_eq!(put(&agent.endpoint, &format!("key-{:02}", round % 10), value.as_bytes()), 200);
    }
    let mut revision = agent.revision();
    agent.ok(&["compact", "--physical", &revision.to_string()]);
    // Compaction writes what is kept into files of data.
    until("there is a file of data", || {
        if files(&store, "base-").iter().any(|file| find(file, b"kept-value-").is_some()) {
            return Some(());
        }
        put(&agent.endpoint, "more", b"1");
        revision = agent.revision();
        agent.run(&["compact", "--physical", &revision.to_string()]);
        None
    });
    agent.ok(&["put", "the-last", "in-the-log"]);
    // Behind it there is one more: damage to the very last write cannot be told from one that was never finished.
    agent.ok(&["put", "more", "2"]);
    agent.cluster.kill_agent();
    let damaged = |start: &str, text: &str| {
        let found = files(&store, start).into_iter().find_map(|file| find(&file, text.as_bytes()).map(|at| (file, at)));
        found.unwrap_or_else(|| panic!("{text} is in no {start} file: {:?}", std::fs::read_dir(&store)))
    };
    for (start, text) in [("log-", "in-the-log"), ("base-", "kept-value-")] {
        let (file, at) = damaged(start, text);
        flip(&file, at + 3);
        let name = file.file_name().expect("a name").to_string_lossy().into_owned();
        // Told when the store is opened, or when the value is read: a large value is not read before.
        let mut command = agent.cluster.command(&["agent", "--etcd", "127.0.0.1:0"]);
        // An agent that did not get so far left none.
        let _ = std::fs::remove_file(agent.cluster.path("data/doors.json"));
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let opened = until("it ends or serves", || {
            let ended = child.try_wait().expect("a child").is_some();
            (ended || agent.cluster.path("data/doors.json").exists()).then_some(!ended)
        });
        if opened {
            let at = endpoint(&agent.cluster);
            let answer = post(&at, "/v3/kv/range", &format!(r#"{{"key":"{}"}}"#, STANDARD.encode("kept")));
            assert_eq!((answer.status, &answer.json()["message"]), (500, &"etcdserver: corrupt cluster".into()));
            let other = post(&at, "/v3/kv/range", &format!(r#"{{"key":"{}"}}"#, STANDARD.encode("the-last")));
            assert_eq!(other.json()["count"], "1", "other keys are served");
            child.kill().expect("it runs");
        }
        let _ = child.wait();
        let said: Vec<String> = lines.by_ref().map(|line| line.expect("UTF-8")).collect();
        let line = said.iter().find(|line| line.contains(&name));
        let line = line.unwrap_or_else(|| panic!("{name} is not named: {said:#?}"));
        assert!(line.contains("corrupt at offset"), "{line}");
        if !opened {
            assert!(said.iter().any(|line| line.contains("restore")), "what to do is told: {said:#?}");
        }
        flip(&file, at + 3);
    }
    let _ = std::fs::remove_file(agent.cluster.path("data/doors.json"));
    agent.cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
    let at = endpoint(&agent.cluster);
    let answer = post(&at, "/v3/kv/range", &format!(r#"{{"key":"{}"}}"#, STANDARD.encode("kept")));
    assert_eq!(answer.json()["count"], "1", "undamaged it is served again");
}

/// An agent whose clock is told by a file.
struct Shifted {
    child: Child,
    shift: PathBuf,
}

impl Shifted {
    fn start(cluster: &Cluster, library: &Path) -> Shifted {
        let shift = cluster.path("shift");
        std::fs::write(&shift, "+0").expect("a file");
        let mut command = cluster.command(&["agent", "--etcd", "127.0.0.1:0"]);
        command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", &shift).env("FAKETIME_NO_CACHE", "1");
        // Who sets a clock sets the time of day; the clock that only goes forward is none of his.
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        let log = std::fs::File::create(cluster.path("agent.log")).expect("a log");
        Shifted {
            child: command.stdout(log.try_clone().expect("a copy")).stderr(log).spawn().expect("it starts"),
            shift,
        }
    }
}

impl Drop for Shifted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The library that shifts a program's clock.
fn faketime() -> Option<PathBuf> {
    let found = Command::new("sh").args(["-c", "ls /usr/lib/*/faketime/libfaketimeMT.so.1"]).output().ok()?;
    let path = String::from_utf8(found.stdout).ok()?.lines().next().map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: faketime is not installed");
    }
    path
}

/// The clock is set back an hour, and an hour forward: a lease of seconds still ends, with its key; one of ten minutes does
/// not end early, and is not longer. So it is after a restart too.
#[test]
fn leases_do_not_go_by_the_time_of_day() {
    let Some(library) = faketime() else { return };
    let cluster = Cluster::empty();
    let agent = Shifted::start(&cluster, &library);
    let at = endpoint(&cluster);
    let expiration = |at: &str| {
        let node = ask(at, "PUT", "/v2/keys/clock", "value=x&ttl=600").json();
        node["node"]["expiration"].as_str().expect("a time").to_owned()
    };
    let hour = |text: &str| text[11..13].parse::<i32>().expect("an hour");
    let before = expiration(&at);
    for (shift, hours) in [("-1h", -1_i32), ("+1h", 1)] {
        let grant =
            |id: u32, ttl: u32| post(&at, "/v3/lease/grant", &format!(r#"{{"ID":"{id}","TTL":"{ttl}"}}"#)).status;
        let keyed = |key: &str, lease: u32| {
            let key = STANDARD.encode(key);
            post(&at, "/v3/kv/put", &format!(r#"{{"key":"{key}","lease":"{lease}"}}"#)).status
        };
        assert_eq!([grant(1, 600), grant(2, 2), keyed("long", 1), keyed("short", 2)], [200; 4]);
        std::fs::write(&agent.shift, shift).expect("a file");
        let moved = (hour(&expiration(&at)) - hour(&before)).rem_euclid(24);
        // The test may go over the end of an hour.
        assert!([hours.rem_euclid(24), (hours + 1).rem_euclid(24)].contains(&moved), "the clock was set: {moved}");
        let count = |key: &str| {
            let answer = post(&at, "/v3/kv/range", &format!(r#"{{"key":"{}"}}"#, STANDARD.encode(key)));
            answer.json()["count"].as_str().map(str::to_owned)
        };
        until("the short lease ends", || count("short").is_none().then_some(()));
        let left = post(&at, "/v3/lease/timetolive", r#"{"ID":"1"}"#).json();
        let left: i32 = left["TTL"].as_str().and_then(|ttl| ttl.parse().ok()).unwrap_or(-1);
        assert!((300..=600).contains(&left) && count("long").is_some(), "{shift}: {left}");
        assert_eq!(post(&at, "/v3/lease/revoke", r#"{"ID":"1"}"#).status, 200);
    }
}

/// Watchers on one key, over this many connections.
const CONNECTIONS: usize = 10;
const WATCHERS: usize = 10_000;

/// What one watcher may cost the agent, in KiB.
const WATCHER_KIB_MAX: u64 = 24;

/// 10,000 watchers: all are told of every change, and each costs little.
#[test]
fn ten_thousand_watchers_are_told() {
    const PUTS: usize = 3;
    let Some(agent) = Agent::start() else { return };
    put(&agent.endpoint, "seen", b"0");
    let before = memory(&agent);
    let create =
        format!(r#"{{"create_request":{{"key":"{}"}}}}"#, STANDARD.encode("seen")).repeat(WATCHERS / CONNECTIONS);
    let (ready, all_ready) = std::sync::mpsc::channel();
    let readers: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut lines = BufReader::new(open(&agent.endpoint, "/v3/watch", &create, "")).lines();
            let ready = ready.clone();
            std::thread::spawn(move || {
                let mut next = || -> Value {
                    let json =
                        lines.by_ref().map(|line| line.expect("it goes on")).find(|line| line.starts_with("{\"r"));
                    serde_json::from_str(&json.expect("it goes on")).expect("JSON")
                };
                for _ in 0..WATCHERS / CONNECTIONS {
                    assert_eq!(next()["result"]["created"], true);
                }
                ready.send(()).expect("it waits");
                let mut events = 0;
                while events < PUTS * WATCHERS / CONNECTIONS {
                    events += next()["result"]["events"].as_array().map_or(0, Vec::len);
                }
                events
            })
        })
        .collect();
    (0..CONNECTIONS).for_each(|_| all_ready.recv().expect("they get ready"));
    let cost = (memory(&agent) - before) / WATCHERS as u64;
    for n in 0..PUTS {
        assert_eq!(put(&agent.endpoint, "seen", n.to_string().as_bytes()), 200);
    }
    let told: usize = readers.into_iter().map(|reader| reader.join().expect("no panic")).sum();
    assert_eq!(told, PUTS * WATCHERS);
    eprintln!("a watcher costs {cost} KiB");
    assert!(cost <= WATCHER_KIB_MAX, "a watcher costs {cost} KiB");
}

/// Clients that never read: watches with much to tell, and answers of many megabytes. They cost little, hold up nobody,
/// and others are served.
#[test]
fn clients_that_never_read_cost_little() {
    const KIB_MAX: u64 = 128 * 1024;
    let Some(agent) = Agent::start() else { return };
    let value = vec![b'v'; 1 << 20];
    put(&agent.endpoint, "v", &value);
    let before = memory(&agent);
    let create = format!(r#"{{"create_request":{{"key":"{}"}}}}"#, STANDARD.encode("v"));
    let silent: Vec<_> = (0..20).map(|_| open(&agent.endpoint, "/v3/watch", &create, "")).collect();
    for _ in 0..50 {
        assert_eq!(put(&agent.endpoint, "v", &value), 200);
    }
    // 20 watches of 50 MiB each: as much as two events of each may wait for its client.
    let grown = memory(&agent).saturating_sub(before);
    eprintln!("20 silent watches of 50 MiB: {grown} KiB");
    assert!(grown < KIB_MAX, "{grown} KiB");
    drop(silent);
}

/// A client asks for 100 ranges of 20 MiB on one connection and reads none: a few are made, the others wait. Other clients
/// are served, and when it reads on, so are the others of its calls.
#[test]
fn answers_that_are_not_read_cost_little() {
    const KIB_MAX: u64 = 300 * 1024;
    let Some(agent) = Agent::start() else { return };
    let value = vec![b'v'; 1 << 20];
    for n in 0..20 {
        assert_eq!(put(&agent.endpoint, &format!("large/{n:02}"), &value), 200);
    }
    let before = memory(&agent);
    let mut silent = Http2::open(&agent.endpoint);
    // `large/` to `large0`, as a RangeRequest.
    let range = b"\x0a\x06large/\x12\x06large0";
    (0..100).for_each(|_| silent.call("/etcdserverpb.KV/Range", range));
    for n in 0..20 {
        assert_eq!(put(&agent.endpoint, "other", n.to_string().as_bytes()), 200);
        assert_eq!(agent.ok(&["get", "other"]), format!("other\n{n}\n"));
    }
    assert!(silent.read(10) >= 10 * 20 * (1 << 20));
    let grown = memory_peak(&agent).saturating_sub(before);
    eprintln!("100 answers of 20 MiB: {grown} KiB");
    assert!(grown < KIB_MAX, "{grown} KiB");
    drop(silent);
    assert_eq!(agent.ok(&["get", "other"]), "other\n19\n");
}

/// A transaction of more than a million empty operations is refused without being read.
#[test]
fn millions_of_operations_cost_little() {
    const KIB_MAX: u64 = 64 * 1024;
    let Some(agent) = Agent::start() else { return };
    let before = memory(&agent);
    let text = format!(r#"{{"success":[{}{{}}]}}"#, "{},".repeat(1_390_000));
    for _ in 0..3 {
        let answer = post(&agent.endpoint, "/v3/kv/txn", &text);
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json()["message"], "etcdserver: too many operations in txn request", "{answer:?}");
    }
    let grown = memory_peak(&agent).saturating_sub(before);
    eprintln!("1,390,001 operations: {grown} KiB");
    assert!(grown < KIB_MAX, "{grown} KiB");
}

/// Noise on every interface: what is no HTTP, broken HTTP/2, JSON and forms. Each ends its own request or connection with
/// an error, nothing grows, and the agent serves on.
#[test]
fn noise_is_refused() {
    const KIB_MAX: u64 = 64 * 1024;
    let Some(agent) = Agent::start() else { return };
    agent.ok(&["put", "a", "1"]);
    let before = memory(&agent);
    let mut random = Random(7);
    let deep = "[".repeat(200_000);
    let long = format!("{{\"key\":\"{}", "A".repeat(3_000_000));
    for round in 0..60 {
        let noise = random.bytes(1 + round * 37);
        let text: String = noise.iter().map(|byte| char::from(b"{}[]\":,0aZ\\ "[usize::from(byte % 12)])).collect();
        for path in ["kv/put", "kv/range", "kv/txn", "lease/grant", "maintenance/alarm"] {
            let answer = post(&agent.endpoint, &format!("/v3/{path}"), &format!("{{\"key\":{text}"));
            // Some noise is an object after all, with nothing in it that is known.
            assert!([200, 400].contains(&answer.status), "{path} {text}: {answer:?}");
        }
        for path in ["watch", "lease/keepalive"] {
            let answer = post(&agent.endpoint, &format!("/v3/{path}"), &format!("[{text}"));
            assert_eq!(answer.status, 400, "{path} {text}");
        }
        let form: String = noise.iter().map(|byte| format!("%{byte:02x}=&{}", char::from(b'a' + byte % 26))).collect();
        let answer = ask(&agent.endpoint, "PUT", &format!("/v2/keys/{:x}?{form}", round), &form);
        assert!(answer.status < 500, "{answer:?}");
        // HTTP/2 with frames of noise, and noise that is no HTTP.
        let frame =
            [&[0, 0, noise.len() as u8, noise[0] % 12, noise[noise.len() / 2], 0, 0, 0, 1][..], &noise].concat();
        for bytes in [&[&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"[..], &frame].concat(), &noise] {
            let mut stream = std::net::TcpStream::connect(&agent.endpoint).expect("it listens");
            stream.set_read_timeout(Some(crate::support::LONG)).expect("a timeout");
            // It may hang up at any time.
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    for text in [&deep[..], &format!("{{\"success\":{deep}"), &long] {
        assert_eq!(post(&agent.endpoint, "/v3/kv/txn", text).status, 400);
        assert_eq!(post(&agent.endpoint, "/v3/watch", text).status, 400);
    }
    // Half a request, and no more: others are not kept waiting.
    let half: Vec<_> = (0..100).map(|_| open(&agent.endpoint, "/v3/kv/put", "{\"key\":", "x-more: ")).collect();
    assert_eq!(agent.ok(&["get", "a"]), "a\n1\n");
    let grown = memory(&agent).saturating_sub(before);
    eprintln!("after noise: {grown} KiB");
    assert!(grown < KIB_MAX, "{grown} KiB");
    assert!(!agent.cluster.log().contains("panicked"), "{}", agent.cluster.log());
    drop(half);
    // Messages of gRPC that are none, for every call, by a client that cannot be told from a good one.
    let Some(mut client) = python::script("grpcio", "noise.py") else { return };
    let (host, port) = agent.endpoint.rsplit_once(':').expect("an address");
    let output = client.args([host, port]).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(agent.ok(&["get", "a"]), "a\n1\n");
    let grown = memory(&agent).saturating_sub(before);
    assert!(grown < 4 * KIB_MAX, "{grown} KiB");
    assert!(!agent.cluster.log().contains("panicked"), "{}", agent.cluster.log());
}

/// Xorshift, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut next = || {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 as u8
        };
        (0..count).map(|_| next()).collect()
    }
}
