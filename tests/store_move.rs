//! `regrow store move`: from an agent's own store to a real etcd of three members and back, under load, with agents, doors and
//! watches going on; and with `kill -9` of the mover and of the agent on the way. Skipped where etcd is not installed
//! (`etcd-server` on Debian). A second or so of load by default, longer with `REGROW_FULL=1`.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use regrow_store::relocate::{COPY, MOVED, MOVER, PLACE, RESERVED};
use regrow_store::{
    KeyValue, LeaseGrantRequest, LeaseId, PutRequest, RangeRequest, Remote, Revision, Store, WatchItem, WatchRequest,
};
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::etcd::Etcd;
use support::{Cluster, full, until};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// Writers; with the pause between two writes of each, 1,000 a second in all.
const WRITERS: u64 = 10;
const PAUSE: Duration = Duration::from_millis(10);

/// Between two looks at whether a mover has ended.
const LOOK: Duration = Duration::from_millis(100);

/// An agent with an etcd door, and a runtime for clients of it.
struct Site {
    cluster: Cluster,
    door: String,
    runtime: Runtime,
}

impl Site {
    fn start() -> Site {
        let mut cluster = Cluster::empty();
        let door = format!("127.0.0.1:{}", cluster.ports.one());
        cluster.start(&["agent", "--node", "a", "--etcd", &door]);
        until("the agent answers", || cluster.try_status());
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Site { cluster, door: format!("http://{door}"), runtime: runtime.expect("a runtime") }
    }

    fn restart(&mut self) {
        let door = self.door.trim_start_matches("http://").to_owned();
        self.cluster.start(&["agent", "--node", "a", "--etcd", &door]);
        until("the agent answers", || self.cluster.try_status());
    }

    fn client(&self) -> Remote {
        let _within = self.runtime.enter();
        Remote::new([&self.door]).expect("an endpoint")
    }

    fn keys(&self, store: &Remote, prefix: &'static str) -> Vec<KeyValue> {
        self.runtime.block_on(async {
            let found = store.range(RangeRequest::prefix(prefix)).await;
            found.expect("the store answers").kvs
        })
    }

    fn mover(&self, to: &str) -> Child {
        let mut command = self.cluster.command(&["store", "move", "--to", to, "--json"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs")
    }

    fn moves(&self, to: &str) -> Value {
        let output = self.mover(to).wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "move to {to}: {said}\n{}", self.cluster.log());
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

/// Writers that each count up in a key of their own, and remember what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Vec<AtomicU64>>,
    tasks: JoinSet<()>,
}

impl Load {
    /// `pause`: between two writes of one writer.
    fn start(site: &Site, pause: Duration) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (store, stop, acknowledged) = (site.client(), stop.clone(), acknowledged.clone());
            let work = async move {
                let mut beat = tokio::time::interval(pause);
                let mut value = 1;
                while !stop.load(Ordering::Relaxed) {
                    beat.tick().await;
                    let put = PutRequest::new(format!("load/{writer}"), value.to_string());
                    match store.put(put).await {
                        Ok(_) => {
                            acknowledged[writer as usize].store(value, Ordering::Relaxed);
                            value += 1;
                        }
                        // The agent was killed, or the answer was lost: the same value again.
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
            };
            tasks.spawn_on(work, site.runtime.handle());
        }
        Load { stop, acknowledged, tasks }
    }

    fn count(&self) -> u64 {
        self.acknowledged.iter().map(|value| value.load(Ordering::Relaxed)).sum()
    }

    /// Waits until so many more writes were acknowledged.
    fn more(&self, writes: u64) {
        let wanted = self.count() + writes;
        let mut count = self.count();
        while count < wanted {
            count = until("writes go on", || (self.count() > count).then(|| self.count()));
        }
    }

    /// Stops, and checks that every acknowledged write is in each of the stores.
    fn end(mut self, site: &Site, stores: &[&Remote]) {
        self.stop.store(true, Ordering::Relaxed);
        site.runtime.block_on(async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("no writer panics");
            }
        });
        for store in stores {
            let found = site.keys(store, "load/");
            assert_eq!(found.len() as u64, WRITERS);
            for kv in &found {
                let key = std::str::from_utf8(&kv.key).expect("text");
                let writer: usize = key.trim_start_matches("load/").parse().expect("a number");
                let last = self.acknowledged[writer].load(Ordering::Relaxed);
                let there: u64 = std::str::from_utf8(&kv.value).expect("text").parse().expect("a number");
                assert!(there == last || there == last + 1, "{key}: {last} was acknowledged, {there} is there");
            }
        }
    }
}

/// A watch of the agent's door that must see each value of each writer in order, none left out.
struct Watcher {
    seen: Arc<Mutex<BTreeMap<Vec<u8>, u64>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Watcher {
    fn start(site: &Site) -> Watcher {
        let store = site.client();
        let seen: Arc<Mutex<BTreeMap<Vec<u8>, u64>>> = Arc::default();
        let told = seen.clone();
        let task = site.runtime.spawn(async move {
            let mut watch = store.watch(WatchRequest::prefix("load/").from(Revision(1))).await.expect("a watch");
            let mut last = Revision(0);
            while let Some(item) = watch.next().await {
                let WatchItem::Events { events, .. } = item.expect("it goes on") else { continue };
                for event in events {
                    assert!(event.kv.mod_revision >= last, "revisions rise");
                    last = event.kv.mod_revision;
                    let value: u64 = std::str::from_utf8(&event.kv.value).expect("text").parse().expect("a number");
                    let before = told.lock().expect("whole").insert(event.kv.key.to_vec(), value).unwrap_or(0);
                    // The same again is a write whose answer was lost.
                    assert!(value == before + 1 || value == before, "{:?}: {before} to {value}", event.kv.key);
                }
            }
        });
        Watcher { seen, task }
    }

    fn catches_up(self, site: &Site) {
        for kv in site.keys(&site.client(), "load/") {
            let there: u64 = std::str::from_utf8(&kv.value).expect("text").parse().expect("a number");
            until("the watch sees the last write", || {
                assert!(!self.task.is_finished(), "the watch ended");
                let seen = self.seen.lock().expect("whole").get(&kv.key.to_vec()).copied();
                (seen == Some(there)).then_some(())
            });
        }
        self.task.abort();
    }
}

/// What users have in a store: keys, values and leases, in order.
fn contents(site: &Site, store: &Remote) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let keys = site.keys(store, "").into_iter().filter(|kv| !kv.key.starts_with(RESERVED.as_bytes()));
    keys.map(|kv| (kv.key.to_vec(), kv.value.to_vec(), kv.lease.0)).collect()
}

/// Under 1,000 writes a second from the agent's store to three etcd members, and back again: every acknowledged write is
/// there, watches and agents go on, a lease and its keys come along, and the place that was left is not needed any more.
#[test]
fn there_and_back_under_load() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let mut site = Site::start();
    let client = site.client();
    let mut other = Cluster::empty();
    other.start(&["agent", "--node", "b", "--store", &site.door]);
    until("the other agent answers", || other.try_status());
    let lease = LeaseId(0x5107);
    site.runtime.block_on(async {
        for key in 0..if full() { 20_000 } else { 300 } {
            client.put(PutRequest::new(format!("k/{key:05}"), format!("value {key}"))).await.expect("put");
        }
        client.lease_grant(LeaseGrantRequest { id: lease, ttl: 600 }).await.expect("a lease");
        client.put(PutRequest { lease, ..PutRequest::new("leased", "1") }).await.expect("put");
    });
    let load = Load::start(&site, PAUSE);
    let watcher = Watcher::start(&site);
    let some = if full() { 20_000 } else { 500 };
    load.more(some);

    let urls = etcd.urls();
    let check: Value =
        serde_json::from_str(&site.cluster.ok(&["store", "move", "--to", &urls, "--dry-run", "--json"])).expect("JSON");
    assert_eq!(check["resumed"], false, "{check}");
    assert!(etcd.keys("").is_empty(), "a rehearsal changes nothing");
    let moved = site.moves(&urls);
    assert!(moved["copied"].as_i64() > moved["decided"].as_i64(), "{moved}");
    load.more(some);
    assert!(!etcd.keys("load/").is_empty() && etcd.keys(COPY).is_empty() && !etcd.keys(PLACE).is_empty());

    // Both agents act on the new place: a spec given to one is seen by the other.
    let applied = |site: &Site, other: &Cluster, name: &str| {
        site.cluster.write("regrow.yaml", &format!("cluster: {name}\n"));
        site.cluster.ok(&["apply"]);
        for agent in [&site.cluster, other] {
            agent.until_status("the spec is known", |status| status["cluster"] == name);
        }
    };
    applied(&site, &other, "moved");

    // A restart goes to the new place, whatever the settings say.
    site.cluster.kill_agent();
    site.restart();
    load.more(some);
    let direct = etcd.with(|store| async move { store });
    assert_eq!(
        contents(&site, &direct).iter().filter(|(key, ..)| key.starts_with(b"k/")).count(),
        if full() { 20_000 } else { 300 }
    );
    let leased = site.keys(&direct, "leased");
    assert_eq!((leased.len(), leased[0].lease), (1, lease));

    // And back, to the agent where it came from; the etcd is not needed afterwards.
    let back = site.moves("hosted");
    assert!(back["decided"].as_i64() > moved["copied"].as_i64(), "{back}");
    load.more(some);
    for member in 0..3 {
        etcd.kill(member);
    }
    load.more(some);
    applied(&site, &other, "back");
    load.end(&site, &[&client]);
    watcher.catches_up(&site);
    let before = contents(&site, &client);
    site.cluster.kill_agent();
    site.restart();
    let after = contents(&site, &client);
    let users = |all: &[(Vec<u8>, Vec<u8>, i64)]| -> Vec<(Vec<u8>, Vec<u8>, i64)> {
        all.iter().filter(|(key, ..)| !key.starts_with(b"/regrow/")).cloned().collect()
    };
    assert_eq!(users(&before), users(&after), "what is hosted is durable");
}

/// kill -9 of the mover when it has left each of its marks, and of the agent: before the decision the store is where it was
/// and the next mover goes on; after it, all go over without the mover. Nothing acknowledged is lost.
#[test]
fn killed_on_the_way() {
    let Some(etcd) = Etcd::start(3) else { return };
    let mut site = Site::start();
    let client = site.client();
    site.runtime.block_on(async {
        for key in 0..300 {
            client.put(PutRequest::new(format!("k/{key:03}"), "value")).await.expect("put");
        }
    });
    let load = Load::start(&site, 10 * PAUSE);
    load.more(100);
    let urls = etcd.urls();
    let direct = etcd.with(|store| async move { store });
    let decided = |kv: &KeyValue| kv.value.windows(8).any(|some| some == b"\"copied\"");
    // What is waited for, and where.
    type Mark = (&'static str, bool, bool);
    let marks: [Mark; 5] = [
        (MOVER, true, false),
        (COPY, false, false),
        ("load/0", false, false),
        (MOVED, true, false),
        (MOVED, true, true),
    ];
    for (key, at_source, decision) in marks {
        // After the decision nobody but the target is left to do anything: both are killed.
        for agent_too in if decision { &[true][..] } else { &[false, true] }.iter().copied() {
            let store = if at_source { client.clone() } else { direct.clone() };
            let mut watch = site.runtime.block_on(store.watch(WatchRequest::key(key))).expect("a watch");
            // One that was killed holds its lease for some seconds.
            let mut mover = until("a mover begins", || {
                let mut mover = site.mover(&urls);
                let begins = site.runtime.block_on(async {
                    loop {
                        match tokio::time::timeout(LOOK, watch.next()).await {
                            Ok(item) => {
                                let WatchItem::Events { events, .. } = item?.ok()? else { continue };
                                let put = |kv: &KeyValue| !kv.value.is_empty() && (!decision || decided(kv));
                                if events.iter().any(|event| put(&event.kv)) {
                                    return Some(());
                                }
                            }
                            // It was refused: the lease of the one before has not ended yet.
                            Err(_) if mover.try_wait().ok()?.is_some() => return None,
                            Err(_) => {}
                        }
                    }
                });
                if begins.is_none() {
                    let _ = mover.kill();
                    let _ = mover.wait();
                }
                begins.map(|()| mover)
            });
            mover.kill().expect("it can be killed");
            mover.wait().expect("it ends");
            if agent_too {
                site.cluster.kill_agent();
                site.restart();
            }
            load.more(50);
            // The door tells of the old place, where there is never a copy, or of the new one.
            let is_moved = until("the fence is gone", || {
                let found = site.runtime.block_on(client.range(RangeRequest::prefix(RESERVED))).ok()?;
                let has = |key: &str| found.kvs.iter().any(|kv| kv.key == key);
                (!has(MOVED)).then(|| has(COPY) || has(PLACE))
            });
            if decision {
                assert!(is_moved, "what is decided stays decided");
                until("the move is finished without its mover", || etcd.keys(COPY).is_empty().then_some(()));
            }
            if is_moved {
                load.more(50);
                load.end(&site, &[&client, &direct]);
                return;
            }
        }
    }
    panic!("the last mark is the decision");
}
