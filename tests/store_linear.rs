//! The store is linearizable and its watches keep what they promise, with clients and watchers on the etcd door of the
//! real binary that is killed (SIGKILL) and started again in the middle; and a store with a bug is found out.
//!
//! Two sizes: the one in `make test` (5,000 operations and 6 kills; 15 kills more), and with `REGROW_FULL=1` that of
//! the issue (60,000 operations and 20 kills; 500 kills more). `REGROW_LINEAR_SEED` chooses another run; the interleaving
//! of a run is the machine's.

#![allow(clippy::print_stdout, reason = "how much was checked is told")]

mod check;
mod support;

use check::{
    Wrong,
    drive::{self, Record, Size},
    history::Operation,
    linear,
    planted::{Bug, Planted},
    watches::{self, How, Watched, follow},
};
use regrow_store::{Engine, Options, RangeRequest, Remote, Revision, Store, WatchRequest};
use std::sync::Arc;
use support::{Cluster, full, until};
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn seed() -> u64 {
    std::env::var("REGROW_LINEAR_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

/// Watchers of every kind on a store, which see everything from `from` on.
struct Watchers {
    until: watch::Sender<Option<i64>>,
    tasks: Vec<JoinHandle<Watched>>,
}

impl Watchers {
    fn start(from: Revision, store: impl Fn() -> Arc<dyn Store>) -> Watchers {
        let (until, receiver) = watch::channel(None);
        let all = || WatchRequest::prefix("").from(from);
        let group = |group: usize| WatchRequest::prefix(format!("lin/{group}/")).from(from);
        let key = |key: usize| WatchRequest::key(format!("lin/0/{key}")).from(from);
        let wanted = [
            (all(), How::Steady),
            (all(), How::Restless),
            (all(), How::Marked),
            (all(), How::Late),
            (group(0), How::Steady),
            (group(1), How::Restless),
            (group(0), How::Marked),
            (group(1), How::Late),
            (key(0), How::Steady),
            (key(1), How::Restless),
            (key(2), How::Marked),
            (WatchRequest { no_delete: true, ..all() }, How::Restless),
            (WatchRequest { no_put: true, ..group(0) }, How::Marked),
        ];
        let start = |(request, how)| tokio::spawn(follow(store(), request, how, receiver.clone()));
        Watchers { until, tasks: wanted.into_iter().map(start).collect() }
    }

    /// What they were told up to a revision.
    async fn end(self, until: i64) -> Vec<Watched> {
        self.until.send_replace(Some(until));
        let mut all = Vec::new();
        for task in self.tasks {
            all.push(task.await.expect("a watcher does not panic"));
        }
        all
    }
}

/// Checks all guarantees once the load is over.
async fn verify(history: &[Operation], watchers: Watchers, from: Revision, store: Arc<dyn Store>) -> Result<(), Wrong> {
    let until = watches::now(&*store).await.0;
    let watched = watchers.end(until).await;
    let kvs = store.range(RangeRequest::prefix("lin/")).await.expect("it answers").kvs;
    let (_end, receiver) = watch::channel(Some(until));
    // Events from before belong to others than these clients.
    let all = follow(store, WatchRequest::prefix("").from(from), How::Steady, receiver).await;
    linear::check(history)?;
    watches::check(history, &all, &watched, until, &kvs)?;
    let resumed: usize = watched.iter().map(|one| one.resumed).sum();
    println!("{} operations, {} revisions, watches resumed {resumed} times", history.len(), until - from.0 + 1);
    Ok(())
}

/// Lets clients work over gRPC on an agent that is killed so often, evenly spread.
fn killed(size: Size, kills: usize) {
    let runtime = runtime();
    let _in = runtime.enter();
    let mut cluster = Cluster::empty();
    let address = format!("127.0.0.1:{}", cluster.ports.one());
    let start = |cluster: &mut Cluster| cluster.start(&["agent", "--etcd", &address]);
    start(&mut cluster);
    let url = format!("http://{address}");
    let store = || -> Arc<dyn Store> { Arc::new(Remote::new([&url]).expect("an endpoint")) };
    let from = until("it answers", || {
        runtime.block_on(store().range(RangeRequest::key("lin/none"))).ok().map(|answer| answer.revision.next())
    });
    let record = Arc::new(Record::default());
    // A connection for every few clients, as real ones have.
    let connections: Vec<Arc<dyn Store>> = (0..5).map(|_| store()).collect();
    let (clients, recorded) = (connections.clone(), record.clone());
    let work = drive::run(size, seed(), recorded, move |client| clients[client % clients.len()].clone());
    let watchers = Watchers::start(from, store);
    let work = runtime.spawn(work);
    for kill in 1..=kills {
        // Some operations turn out to be none, so the last kill is well before the end.
        let mark = size.operations * 9 / 10 * kill / kills;
        until("clients go on", || (record.answered() >= mark || work.is_finished()).then_some(()));
        assert!(!work.is_finished(), "killed in the middle of it");
        cluster.kill_agent();
        record.died();
        start(&mut cluster);
    }
    runtime.block_on(work).expect("clients do not panic");
    let history = record.history();
    if let Err(wrong) = runtime.block_on(verify(&history, watchers, from, store())) {
        panic!("{wrong}\n{}", cluster.log());
    }
}

/// Many operations, some kills.
#[test]
fn histories_over_kills_are_linearizable() {
    let (operations, kills) = if full() { (60_000, 20) } else { (5_000, 6) };
    killed(Size { clients: 24, groups: 8, operations }, kills);
}

/// Many kills.
#[test]
fn nothing_is_lost_over_many_kills() {
    let kills = if full() { 500 } else { 15 };
    killed(Size { clients: 12, groups: 4, operations: kills * 120 }, kills);
}

/// What is found in a history of a store with a bug.
fn found(bug: Bug) -> Result<(), Wrong> {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(folder.path(), Options::default()).expect("it opens");
    let planted: Arc<dyn Store> = Arc::new(Planted::new(Arc::new(engine), bug));
    runtime.block_on(async {
        let record = Arc::new(Record::default());
        let from = Revision(2);
        let watchers = Watchers::start(from, || planted.clone());
        let size = Size { clients: 8, groups: 2, operations: 2_500 };
        drive::run(size, seed(), record.clone(), |_| planted.clone()).await;
        verify(&record.history(), watchers, from, planted.clone()).await
    })
}

/// A store without a bug passes; so what is found below is the bug.
#[test]
fn no_bug_is_not_found() {
    found(Bug::None).unwrap_or_else(|wrong| panic!("{wrong}"));
}

/// Each planted bug is found, as what it is.
#[test]
fn every_planted_bug_is_found() {
    let cases: [(Bug, &[&str]); 15] = [
        (Bug::StaleRead, &["linearizable"]),
        (Bug::OldRead, &["linearizable"]),
        (Bug::LostWrite, &["linearizable"]),
        (Bug::LostDeletion, &["linearizable"]),
        (Bug::DoubledSwap, &["linearizable"]),
        (Bug::BlindSwap, &["linearizable"]),
        (Bug::SplitTransaction, &["linearizable", "acknowledged"]),
        (Bug::SurvivingKey, &["linearizable"]),
        (Bug::LostEvent, &["reliable", "atomic"]),
        (Bug::DoubledEvent, &["unique"]),
        (Bug::SwappedItems, &["ordered"]),
        (Bug::SplitRevision, &["atomic"]),
        (Bug::EarlyProgress, &["bookmarkable"]),
        (Bug::OverlappingResume, &["unique", "ordered"]),
        (Bug::GapAtResume, &["reliable"]),
    ];
    // Each waits for short leases most of the time.
    std::thread::scope(|scope| {
        for (bug, expect) in cases {
            scope.spawn(move || match found(bug) {
                Ok(()) => panic!("{bug:?} is not found"),
                Err(wrong) => assert!(expect.contains(&wrong.guarantee), "{bug:?} is found as {wrong}"),
            });
        }
    });
}
