//! A process that writes is killed (SIGKILL) at random moments, 200 times on one folder, 500 times with
//! `REGROW_FULL=1`. Nothing it acknowledged is lost, revisions have no gaps, and a watch resumed from the last revision
//! seen misses and repeats nothing.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use regrow_store::{
    AutoCompaction, Engine, Op, Options, PutRequest, RangeRequest, Revision, Store, TxnRequest, WatchItem,
    WatchRequest, disk::sim::Random,
};

const KILLS: usize = 200;
/// The same at full size.
const KILLS_FULL: usize = 500;
const WRITERS: usize = 4;
/// Tells the child where to write.
const FOLDER: &str = "REGROW_STORE_CRASH_FOLDER";
/// Repeats a run.
const SEED: &str = "REGROW_STORE_SEED";

fn open(folder: &Path) -> Engine {
    // Small, so that segments, bases and compactions are cut off in the middle too.
    let options = Options {
        segment_bytes: 32 * 1024,
        inline_bytes_max: 64,
        compaction: AutoCompaction::Revisions(3000),
        ..Options::default()
    };
    Engine::open(folder, options).unwrap_or_else(|error| panic!("{error}"))
}

/// The process that is killed: does nothing unless it was started for that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    let engine = open(&folder);
    let start = engine.status().await.expect("status").revision.0;
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(engine.clone(), writer, start))).collect();
    for writer in writers {
        writer.await.expect("writes until it is killed");
    }
}

/// Writes without end; a line for each write that was acknowledged: revision, writer, number.
async fn write(engine: Engine, writer: usize, start: i64) {
    for number in start.. {
        let put = |part: &str| {
            let value = format!("{number}/{}", "x".repeat((number as usize * 37) % 300));
            PutRequest::new(format!("{writer}/{part}"), value)
        };
        let revision = if number % 3 == 0 {
            let success = vec![Op::Put(put("a")), Op::Put(put("b"))];
            engine.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("txn").revision
        } else {
            engine.put(put("a")).await.expect("put").revision
        };
        let line = format!("\nack {revision} {writer} {number} end\n");
        std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
    }
}

/// Lets a child write until it has acknowledged `acks` writes, kills it, and returns all it acknowledged.
fn run_child(folder: &Path, acks: usize) -> Vec<(Revision, usize, i64)> {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("a child");
    let mut output = child.stdout.take().expect("a pipe");
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = output.read(&mut piece).expect("a pipe");
        assert!(read > 0, "the child ended by itself: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..read]);
        if text.windows(4).filter(|window| window == b"end\n").count() >= acks {
            break;
        }
    }
    child.kill().expect("killed");
    output.read_to_end(&mut text).expect("a pipe");
    child.wait().expect("it is gone");
    let text = String::from_utf8(text).expect("text");
    let acknowledged = text.lines().filter_map(|line| {
        let fields: Vec<&str> = line.strip_prefix("ack ")?.strip_suffix(" end")?.split(' ').collect();
        let number = |at: usize| fields[at].parse::<i64>().expect("a number");
        Some((Revision(number(0)), number(1) as usize, number(2)))
    });
    acknowledged.collect()
}

/// See the top of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again() {
    let kills = if std::env::var_os("REGROW_FULL").is_some_and(|full| full == "1") { KILLS_FULL } else { KILLS };
    let seed = std::env::var(SEED)
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").subsec_nanos().into());
    writeln!(std::io::stderr(), "{SEED}={seed}").expect("stderr");
    let mut random = Random::new(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let mut seen = Revision::EMPTY;
    let mut latest: BTreeMap<String, (Revision, String)> = BTreeMap::new();
    let mut written = 0;
    for kill in 0..kills {
        let acknowledged = run_child(folder.path(), random.below(30) as usize);
        let engine = open(folder.path());
        let now = engine.status().await.expect("status").revision;
        // A watch from where the last one stopped gives exactly the revisions since.
        let mut events: BTreeMap<Revision, Vec<(String, String)>> = BTreeMap::new();
        let mut watch = engine.watch(WatchRequest::prefix("").from(seen.next())).await.expect("watch");
        while seen < now {
            let item = watch.next().await.expect("goes on").expect("no error");
            let WatchItem::Events { events: some, .. } = item else { continue };
            for event in some {
                let revision = event.kv.mod_revision;
                assert!(revision == seen || revision == seen.next(), "kill {kill}: {revision} follows {seen}");
                seen = revision;
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
                let (key, value) = (text(&event.kv.key), text(&event.kv.value));
                latest.insert(key.clone(), (revision, value.clone()));
                events.entry(revision).or_default().push((key, value));
            }
        }
        for (revision, writer, number) in &acknowledged {
            let found = events.get(revision).unwrap_or_else(|| panic!("kill {kill}: {revision} is lost"));
            assert_eq!(found.len(), if number % 3 == 0 { 2 } else { 1 }, "kill {kill}: {revision} is whole");
            for (key, value) in found {
                assert!(key.starts_with(&format!("{writer}/")), "kill {kill}: {revision} is {key}");
                assert!(value.starts_with(&format!("{number}/")), "kill {kill}: {revision} is {value}");
            }
        }
        let kvs = engine.range(RangeRequest::prefix("")).await.expect("range").kvs;
        assert_eq!(kvs.len(), latest.len());
        for kv in kvs {
            let (revision, value) = &latest[std::str::from_utf8(&kv.key).expect("text")];
            assert_eq!((kv.mod_revision, &kv.value[..]), (*revision, value.as_bytes()), "kill {kill}");
        }
        written += acknowledged.len();
    }
    assert!(written > kills, "{written} writes were acknowledged");
}
