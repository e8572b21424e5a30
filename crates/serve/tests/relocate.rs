//! A store moves to another place while it is written to and watched, and back: engines behind doors, in one process.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use regrow_serve::access::{Audit, Guard};
use regrow_serve::etcd::{Door, Identity, serve};
use regrow_store::{
    BoxFuture, Compare, CompareOp, CompareTarget, Engine, Error, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest,
    Op, Options, PutRequest, RangeRequest, Remote, Revision, Store, TxnRequest, WatchItem, WatchRequest,
    clock::ManualClock,
    relocate::{COPY, Cut, Done, MOVED, MOVER, Mover, Origin, PLACE, Place, Standing, Switch, Ways},
    suite::{self, Harness},
};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// How long something may take that happens by itself.
const LONG: Duration = Duration::from_secs(60);

/// An agent's part: an engine, the switch before it, a door to the switch, and one to the engine itself.
struct Host {
    _folder: TempDir,
    clock: ManualClock,
    engine: Engine,
    switch: Switch,
    door: String,
    own: String,
    remembered: Arc<Mutex<Vec<Standing>>>,
    _serving: JoinSet<()>,
}

/// The ways to the engines of one host, and to whatever is elsewhere.
struct TestWays {
    engine: Engine,
    name: String,
    remembered: Arc<Mutex<Vec<Standing>>>,
}

impl Ways for TestWays {
    fn open(&self, standing: &Standing) -> regrow_store::Result<Origin> {
        if standing.place.host.as_ref() == Some(&self.name) {
            return Ok(Origin::Hosted(self.engine.clone()));
        }
        Remote::new(&standing.place.urls).map(Origin::Elsewhere)
    }

    fn remember(&self, standing: &Standing) -> io::Result<()> {
        self.remembered.lock().expect("whole").push(standing.clone());
        Ok(())
    }
}

async fn listen(serving: &mut JoinSet<()>, store: Arc<dyn Store>, name: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    serving.spawn(serve(listener, Door::new(store, Identity::new(name, vec![url.clone()]), Guard::open(Audit::off()))));
    url
}

impl Host {
    async fn start(name: &str) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = ManualClock::default();
        let options = Options { clock: Arc::new(clock.clone()), fence: Some(MOVED), ..Options::default() };
        let engine = Engine::open(folder.path(), options).expect("opens");
        let remembered = Arc::default();
        let ways = TestWays { engine: engine.clone(), name: name.to_owned(), remembered: Arc::clone(&remembered) };
        let switch = Switch::new(Origin::Hosted(engine.clone()), None, ways);
        let mut serving = JoinSet::new();
        let door = listen(&mut serving, Arc::new(switch.clone()), name).await;
        let own = listen(&mut serving, Arc::new(engine.clone()), &format!("{name}/hosted")).await;
        Host { _folder: folder, clock, engine, switch, door, own, remembered, _serving: serving }
    }

    fn client(&self) -> Remote {
        Remote::new([&self.door]).expect("an endpoint")
    }

    fn own(&self) -> Remote {
        Remote::new([&self.own]).expect("an endpoint")
    }

    /// A move to another host's own store, reached by its own door: as to a store of another kind.
    fn to(&self, other: &Host) -> Mover {
        static NUMBER: AtomicI64 = AtomicI64::new(0);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let place = Place { urls: vec![other.own.clone()], host: None };
        Mover::new(self.client(), other.own(), place, id, "the test".to_owned())
    }

    /// A move back to this host.
    fn back(&self) -> Mover {
        let place = Place { urls: vec![self.door.clone()], host: Some("a".to_owned()) };
        Mover::new(self.client(), self.own(), place, "back".to_owned(), "the test".to_owned())
    }
}

/// Writers, each of one key whose value counts up, and one that counts by comparing; each says what was acknowledged.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<Vec<AtomicI64>>,
    counted: Arc<AtomicI64>,
    doubtful: Arc<AtomicI64>,
    tasks: JoinSet<()>,
}

const WRITERS: usize = 4;

impl Load {
    fn start(store: &Remote) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let acknowledged: Arc<Vec<AtomicI64>> = Arc::new((0..WRITERS).map(|_| AtomicI64::new(0)).collect());
        let (counted, doubtful) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicI64::new(0)));
        let mut tasks = JoinSet::new();
        for writer in 0..WRITERS {
            let (store, stop, acknowledged) = (store.clone(), stop.clone(), acknowledged.clone());
            tasks.spawn(async move {
                let mut value = 1;
                while !stop.load(Ordering::Relaxed) {
                    let put = PutRequest::new(format!("w/{writer}"), value.to_string());
                    match store.put(put).await {
                        Ok(_) => {
                            acknowledged[writer].store(value, Ordering::Relaxed);
                            value += 1;
                        }
                        Err(error) => assert!(error.is_retryable(), "{error}"),
                    }
                }
            });
        }
        let (store, stopped, count, doubt) = (store.clone(), stop.clone(), counted.clone(), doubtful.clone());
        tasks.spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                match increment(&store).await {
                    Ok(true) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Ok(false) => {}
                    Err(error) => {
                        assert!(error.is_retryable(), "{error}");
                        doubt.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        });
        Load { stop, acknowledged, counted, doubtful, tasks }
    }

    fn done(&self) -> i64 {
        self.acknowledged.iter().map(|value| value.load(Ordering::Relaxed)).sum()
    }

    /// Waits until so many more writes were acknowledged, some by every writer.
    async fn more(&self, writes: i64) {
        let before: Vec<i64> = self.acknowledged.iter().map(|value| value.load(Ordering::Relaxed)).collect();
        let total: i64 = before.iter().sum();
        let go_on = async {
            let rose = |(value, before): (&AtomicI64, &i64)| value.load(Ordering::Relaxed) > *before;
            while self.done() < total + writes || !self.acknowledged.iter().zip(&before).all(rose) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, go_on).await.expect("writes go on");
    }

    async fn end(mut self, store: &dyn Store) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no writer panics");
        }
        for (writer, acknowledged) in self.acknowledged.iter().enumerate() {
            let last = acknowledged.load(Ordering::Relaxed);
            let found = number(store, &format!("w/{writer}")).await;
            assert!(found == last || found == last + 1, "writer {writer}: {last} was acknowledged, {found} is there");
        }
        let (count, doubt) = (self.counted.load(Ordering::Relaxed), self.doubtful.load(Ordering::Relaxed));
        let found = number(store, "count").await;
        assert!((count..=count + doubt).contains(&found), "{count} increments and {doubt} doubtful, {found} is there");
    }
}

async fn number(store: &dyn Store, key: &str) -> i64 {
    let found = store.range(RangeRequest::key(key.to_owned())).await.expect("a range");
    found.kvs.first().map_or(0, |kv| std::str::from_utf8(&kv.value).expect("text").parse().expect("a number"))
}

/// Adds one, if nobody else did meanwhile.
async fn increment(store: &Remote) -> regrow_store::Result<bool> {
    let found = store.range(RangeRequest::key("count")).await?.kvs.into_iter().next();
    let (value, revision) = found.map_or((0, Revision(0)), |kv| {
        (std::str::from_utf8(&kv.value).expect("text").parse::<i64>().expect("a number"), kv.mod_revision)
    });
    let compare = vec![Compare::new("count", CompareOp::Equal, CompareTarget::ModRevision(revision))];
    let success = vec![Op::Put(PutRequest::new("count", (value + 1).to_string()))];
    Ok(store.txn(TxnRequest { compare, success, failure: Vec::new() }).await?.succeeded)
}

/// Watches the writers' keys, and checks that none of their values is left out or repeated, and that revisions rise.
struct Watcher {
    seen: Arc<Mutex<BTreeMap<String, i64>>>,
    task: JoinHandle<()>,
}

impl Watcher {
    async fn start(store: &dyn Store) -> Watcher {
        let mut watch = store.watch(WatchRequest::prefix("w/").from(Revision(1))).await.expect("a watch");
        let seen: Arc<Mutex<BTreeMap<String, i64>>> = Arc::default();
        let told = seen.clone();
        let task = tokio::spawn(async move {
            let mut last = Revision(0);
            while let Some(item) = watch.next().await {
                let WatchItem::Events { events, .. } = item.expect("it goes on") else { continue };
                for event in events {
                    assert!(event.kv.mod_revision >= last, "{} after {last}", event.kv.mod_revision);
                    last = event.kv.mod_revision;
                    let key = String::from_utf8(event.kv.key.to_vec()).expect("text");
                    let value: i64 = std::str::from_utf8(&event.kv.value).expect("text").parse().expect("a number");
                    let before = told.lock().expect("whole").insert(key.clone(), value).unwrap_or(0);
                    // A put that was answered with an error and was done is done again.
                    assert!(value == before + 1 || value == before, "{key} goes from {before} to {value}");
                }
            }
        });
        Watcher { seen, task }
    }

    /// Waits until it has seen what is there.
    async fn catches_up(self, store: &dyn Store) {
        let all = async {
            for writer in 0..WRITERS {
                let key = format!("w/{writer}");
                let there = number(store, &key).await;
                while self.seen.lock().expect("whole").get(&key).copied().unwrap_or(0) < there {
                    assert!(!self.task.is_finished(), "the watch ended");
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        timeout(LONG, all).await.expect("the watch sees everything");
        self.task.abort();
    }
}

async fn moved(mover: Mover) -> Done {
    timeout(2 * LONG, mover.run(&mut |_| {})).await.expect("it ends").expect("it is moved")
}

impl Harness for Host {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.switch.clone())
    }

    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        self.clock.advance(time);
        Box::pin(std::future::ready(()))
    }
}

/// A store that may move is a store like any other as long as it does not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_switch_passes_the_suite() {
    suite::run(&Host::start("a").await).await;
}

/// Under load nothing that was acknowledged is lost, watches of the old door go on without gap or repeat, leases and their
/// keys come along; then all of it back again, with the place in between gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_and_back_under_load() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    for key in 0..500 {
        a.engine.put(PutRequest::new(format!("k/{key:03}"), format!("value {key}"))).await.expect("put");
    }
    let lease = a.engine.lease_grant(LeaseGrantRequest { id: LeaseId(77), ttl: 60 }).await.expect("a lease").id;
    a.engine.put(PutRequest { lease, ..PutRequest::new("leased", "1") }).await.expect("put");
    let load = Load::start(&a.client());
    let (remote, own) = (Watcher::start(&a.client()).await, Watcher::start(&a.switch).await);
    load.more(200).await;

    let old = a.engine.status().await.expect("a status").revision;
    let done = moved(a.to(&b)).await;
    let Cut { decided, copied } = done.cut;
    assert!(decided > old.0 && copied > decided, "{done:?}");
    load.more(200).await;
    assert_eq!(a.remembered.lock().expect("whole").last().and_then(|kept| kept.cut), Some(done.cut));
    assert!(matches!(a.engine.put(PutRequest::new("x", "y")).await, Err(Error::Fenced)), "the old place is shut");
    let grant = LeaseGrantRequest { id: LeaseId::NONE, ttl: 60 };
    assert!(matches!(a.engine.lease_grant(grant).await, Err(Error::Fenced)), "for leases too");
    assert!(matches!(a.engine.lease_revoke(lease).await, Err(Error::Fenced)));
    let request = LeaseTimeToLiveRequest { id: lease, keys: true };
    let there = b.engine.lease_time_to_live(request).await.expect("the lease is there");
    assert_eq!((there.granted_ttl, there.keys), (60, vec!["leased".into()]));
    assert!(b.engine.range(RangeRequest::key(COPY)).await.expect("a range").kvs.is_empty(), "the copy is whole");
    let ours = a.engine.range(RangeRequest::prefix("k/")).await.expect("a range").kvs;
    let theirs = b.engine.range(RangeRequest::prefix("k/")).await.expect("a range").kvs;
    assert_eq!(theirs.len(), 500);
    assert!(ours.iter().zip(&theirs).all(|(one, other)| (&one.key, &one.value) == (&other.key, &other.value)));
    assert!(theirs.iter().all(|kv| kv.mod_revision.0 > decided), "no number of before stands for something else");

    let again = moved(a.back()).await;
    assert!(again.cut.decided > copied && again.cut.copied > again.cut.decided, "{again:?}");
    b.engine.close();
    load.more(200).await;
    let client = a.client();
    load.end(&client).await;
    remote.catches_up(&client).await;
    own.catches_up(&client).await;
    let status = a.engine.status().await.expect("a status");
    assert_eq!(client.status().await.expect("a status").revision, status.revision, "it is hosted here again");
    assert_eq!(a.engine.range(RangeRequest::prefix("k/")).await.expect("a range").kvs.len(), 500);
}

/// A mover that dies in any step leaves the store where it was and writes going on; the next one goes on with what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mover_may_die_anywhere() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    for key in 0..300 {
        a.engine.put(PutRequest::new(format!("k/{key:03}"), "value")).await.expect("put");
    }
    let load = Load::start(&a.client());
    for phase in ["raising", "copying", "following", "verifying", "deciding"] {
        let reached = Arc::new(Notify::new());
        let tell = reached.clone();
        let mover = a.to(&b);
        let mut report = move |at: regrow_store::relocate::Progress| {
            if at.phase == phase {
                tell.notify_one();
            }
        };
        let died = timeout(2 * LONG, async {
            tokio::select! {
                biased;
                () = reached.notified() => true,
                ended = mover.run(&mut report) => panic!("it was to die while {phase}: {ended:?}"),
            }
        });
        assert!(died.await.expect("it gets there"));
        // Its lease ends, and with it the fence.
        a.clock.advance(LONG);
        load.more(50).await;
        assert!(a.switch.standing().is_none(), "{phase}: nothing is decided");
        let left = a.engine.range(RangeRequest::key(MOVER)).await.expect("a range").kvs;
        assert!(left.is_empty(), "{phase}: {left:?}");
    }
    assert!(a.to(&b).check().await.expect("it can be begun again").resumed);
    let done = moved(a.to(&b)).await;
    load.more(50).await;
    load.end(&b.engine).await;
    assert_eq!(a.switch.standing().and_then(|standing| standing.cut), Some(done.cut));
}

/// When the decision is there and its author is not, whoever uses the store goes over and takes the mark of the copy away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_needs_no_mover() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    a.engine.put(PutRequest::new("k", "v")).await.expect("put");
    let mut decision = a.engine.watch(WatchRequest::key(MOVED)).await.expect("a watch");
    let mover = a.to(&b);
    let run = tokio::spawn(async move { mover.run(&mut |_| {}).await });
    let decided = async {
        loop {
            let Some(Ok(WatchItem::Events { events, .. })) = decision.next().await else { panic!("the watch ended") };
            if events.iter().any(|event| event.kv.value.windows(8).any(|some| some == b"\"copied\"")) {
                return;
            }
        }
    };
    timeout(2 * LONG, decided).await.expect("it is decided");
    run.abort();
    let client = a.client();
    let finished = async {
        while b.engine.range(RangeRequest::key(PLACE)).await.expect("a range").kvs.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, finished).await.expect("it is finished");
    client.put(PutRequest::new("k", "w")).await.expect("put");
    assert_eq!(b.engine.range(RangeRequest::key("k")).await.expect("a range").kvs[0].value, "w");
}

/// Numbers of before the move: a watch from then goes through both places; a comparison for equality does not hold; what
/// could be answered wrongly, and history that only the old place had, is told as compacted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_numbers_are_not_taken_for_new_ones() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    let client = a.client();
    let first = client.put(PutRequest::new("k", "1")).await.expect("put").revision;
    let second = client.put(PutRequest::new("k", "2")).await.expect("put").revision;
    let done = moved(a.to(&b)).await;
    client.put(PutRequest::new("k", "3")).await.expect("put");

    let mut watch = client.watch(WatchRequest::key("k").from(first)).await.expect("a watch");
    let mut values = Vec::new();
    while values.len() < 3 {
        if let WatchItem::Events { events, .. } = watch.next().await.expect("an item").expect("no error") {
            values.extend(events.into_iter().map(|event| event.kv.value));
        }
    }
    assert_eq!(values, ["1", "2", "3"]);
    let at = RangeRequest { revision: first, ..RangeRequest::key("k") };
    assert_eq!(client.range(at.clone()).await.expect("the old place tells").kvs[0].value, "1");
    assert!(matches!(b.engine.range(at).await, Err(Error::Compacted { .. })), "the new place never had it");

    let txn = |op, revision| {
        let compare = vec![Compare::new("k", op, CompareTarget::ModRevision(revision))];
        let put = Op::Put(PutRequest::new("k", "wrong"));
        client.txn(TxnRequest { compare, success: vec![put], failure: vec![Op::Range(RangeRequest::key("k"))] })
    };
    assert!(!txn(CompareOp::Equal, second).await.expect("a transaction").succeeded);
    assert!(!txn(CompareOp::Less, second.next()).await.expect("a transaction").succeeded);
    for op in [CompareOp::NotEqual, CompareOp::Greater] {
        assert!(matches!(txn(op, second).await, Err(Error::Compacted { .. })));
    }
    // How a lock looks for who is before it.
    let before = RangeRequest { max_create_revision: second, ..RangeRequest::prefix("k") };
    assert!(matches!(client.range(before).await, Err(Error::Compacted { .. })));
    let now = RangeRequest { min_mod_revision: Revision(done.cut.copied), ..RangeRequest::prefix("k") };
    assert_eq!(client.range(now).await.expect("new numbers are fine").kvs.len(), 1);
}

/// A place that has keys of its own, the same store by another way, and a store that is being moved already are refused
/// before anything is changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused() {
    let (a, b) = (Host::start("a").await, Host::start("b").await);
    b.engine.put(PutRequest::new("theirs", "1")).await.expect("put");
    let said = a.to(&b).run(&mut |_| {}).await.expect_err("refused").to_string();
    assert!(said.contains("`theirs`") && said.contains("must be empty"), "{said}");
    let same = a.to(&a).run(&mut |_| {}).await.expect_err("refused").to_string();
    assert!(same.contains("keys of its own") || same.contains("the same store"), "{same}");
    assert!(a.engine.range(RangeRequest::prefix("/regrow/store/")).await.expect("a range").kvs.is_empty());

    let c = Host::start("c").await;
    let reached = Arc::new(Notify::new());
    let (first, tell) = (a.to(&c), reached.clone());
    let run = tokio::spawn(async move { first.run(&mut move |_| tell.notify_one()).await.map(drop) });
    reached.notified().await;
    let said = a.to(&c).run(&mut |_| {}).await.expect_err("refused").to_string();
    assert!(said.contains("the test moves this store already") || said.contains("moved to"), "{said}");
    run.await.expect("no panic").expect("the first one gets there");
    let said = a.to(&c).run(&mut |_| {}).await.expect_err("refused").to_string();
    assert!(said.contains("the same store") || said.contains("moved"), "{said}");
}
