//! No run is lost, whoever dies: runs are submitted and carried out while the agent and the workers are killed with -9
//! every few seconds, on each backend. Some hundreds of runs, 10,000 with `REGROW_FULL=1`.
//!
//! Each run's program makes a link that must not be there (`$n` to its own process), so that two of one run at a time are
//! seen, and writes when it begins and when it ends to a ledger. The seed of the kills is printed; `REGROW_SEED` takes it.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so, and the seed is to be seen")]

mod support;

use regrow_store::{RangeRequest, Remote, Store};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use support::etcd::Etcd;
use support::jobs::{Api, Redis, Worker};
use support::{Cluster, full, pause};

const SPEC: &str = r#"
cluster: test
jobs:
  again:
    parameters: {n: {type: name}}
    exec: {command: [sh, ROOT/work.sh, "${n}", ROOT]}
    on_loss: retry
    retention: 1h
  once:
    parameters: {n: {type: name}}
    exec: {command: [sh, ROOT/work.sh, "${n}", ROOT]}
    retention: 1h
"#;

/// See the module. A link whose process is gone was left by one that was killed.
const WORK: &str = r#"
if ! ln -s $$ "$2/lock/$1" 2>/dev/null; then
  other=$(readlink "$2/lock/$1")
  if test -z "$other" || tr '\0' ' ' < "/proc/$other/cmdline" 2>/dev/null | grep -q "work.sh $1 "; then
    echo "twice $1" >> "$2/ledger"
    exit 1
  fi
  rm -f "$2/lock/$1"
  ln -s $$ "$2/lock/$1" || { echo "twice $1" >> "$2/ledger"; exit 1; }
fi
echo "begin $1" >> "$2/ledger"
sleep "$(cat "$2/pace")"
echo "end $1" >> "$2/ledger"
rm "$2/lock/$1"
"#;

/// Workers of their own, beside the agent's.
const WORKERS: usize = 3;

/// How long a run may be taken for running when its worker is dead.
const KNOWN_DEAD: u64 = 15_000;

/// The whole trial may take so long; far beyond what it takes.
const PATIENCE: Duration = Duration::from_secs(1_800);

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("in this age")
}

/// Numbers from a seed (xorshift64).
struct Dice(u64);

impl Dice {
    fn new() -> Dice {
        let given = std::env::var("REGROW_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| now() | 1);
        eprintln!("REGROW_SEED={seed}");
        Dice(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The size of a trial.
struct Size {
    runs: usize,
    /// Seconds that each run's program sleeps.
    pace: &'static str,
    /// Runs under way of each worker.
    room: &'static str,
}

fn size() -> Size {
    if full() { Size { runs: 10_000, pace: "0.1", room: "8" } } else { Size { runs: 300, pace: "0.5", room: "3" } }
}

/// What a trial needs of its backend.
struct Backend<'a> {
    /// The agent's words.
    agent: Vec<String>,
    /// The workers'.
    worker: Vec<String>,
    /// kill -9 of the server behind the queue, where that is another than the agent, and its start.
    restart: Option<Box<dyn FnMut() + 'a>>,
}

/// Whoever can be killed.
struct Crew {
    workers: Vec<Worker>,
    lives: usize,
    /// When each node's worker was killed.
    killed: BTreeMap<String, u64>,
}

impl Crew {
    fn start(cluster: &Cluster, words: &[&str]) -> Crew {
        let workers = (0..WORKERS).map(|slot| worker(cluster, slot, 0, words)).collect();
        Crew { workers, lives: 0, killed: BTreeMap::new() }
    }

    fn kill(&mut self, cluster: &Cluster, slot: usize, words: &[&str]) {
        self.lives += 1;
        self.workers[slot].kill();
        self.killed.insert(self.workers[slot].node.clone(), now());
        self.workers[slot] = worker(cluster, slot, self.lives, words);
    }
}

fn worker(cluster: &Cluster, slot: usize, life: usize, words: &[&str]) -> Worker {
    Worker::start_in(cluster, &format!("w{slot}"), &format!("w{slot}-{life}"), words)
}

/// The node of a worker's id.
fn node(worker: &str) -> &str {
    worker.rsplit_once('-').expect("a node and an id").0
}

/// Submits every run, each until it is accepted; ids by number.
fn submit(api: &Api, count: usize, accepted: &Mutex<BTreeMap<usize, String>>) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let job = if n.is_multiple_of(2) { "again" } else { "once" };
                    let wish = json!({"job": job, "parameters": {"n": format!("n{n}")}, "key": format!("kill/{n}")});
                    // One whose answer was lost is asked for again by its word.
                    let id = loop {
                        match api.post("/api/runs", &wish) {
                            Some((200, answer)) => break answer["id"].as_str().expect("an id").to_owned(),
                            Some((status, answer)) => assert!(status >= 500, "{status} {answer}"),
                            None => {}
                        }
                        pause();
                    };
                    accepted.lock().expect("not poisoned").insert(n, id);
                }
            });
        }
    });
}

/// The runs that have not ended; `None`: nobody answers.
fn live(api: &Api) -> Option<Vec<Value>> {
    let answer = api.get("/api/runs?ended=false&limit=10000").filter(|answer| answer.status == 200)?;
    answer.json().as_array().cloned()
}

/// Kills somebody every few seconds until everything has ended; all runs then.
fn trial(cluster: &mut Cluster, mut backend: Backend<'_>) -> (Vec<Value>, Crew) {
    let size = size();
    cluster.write("work.sh", WORK);
    cluster.write("pace", size.pace);
    cluster.write("ledger", "");
    std::fs::create_dir(cluster.path("lock")).expect("a folder");
    let http = format!("127.0.0.1:{}", cluster.ports.one());
    let words: Vec<String> = ["up", "--http", &http, "--jobs", "0"].map(str::to_owned).to_vec();
    let agent: Vec<String> = words.into_iter().chain(backend.agent.clone()).collect();
    let agent: Vec<&str> = agent.iter().map(String::as_str).collect();
    let mut worker: Vec<&str> = backend.worker.iter().map(String::as_str).collect();
    worker.extend(["--jobs", size.room]);
    cluster.start(&agent);
    let api = Api::of(cluster);
    let mut crew = Crew::start(cluster, &worker);
    let accepted = Mutex::default();
    let mut dice = Dice::new();
    let submitted = std::thread::scope(|scope| {
        let submitting = scope.spawn(|| submit(&api, size.runs, &accepted));
        let (begun, mut kills, mut next) = (Instant::now(), 0, Instant::now());
        loop {
            if let Some(runs) = live(&api) {
                for run in runs.iter().filter(|run| run["state"] == "running") {
                    let by = run["worker"].as_str().expect("who runs it");
                    let since = crew.killed.get(node(by)).map_or(0, |at| now() - at);
                    assert!(since < KNOWN_DEAD, "{since} ms after {by} was killed: {run:#}");
                }
                if submitting.is_finished() && runs.is_empty() {
                    break kills;
                }
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            if next <= Instant::now() {
                let victims = WORKERS + 1 + usize::from(backend.restart.is_some());
                match usize::try_from(dice.below(victims as u64)).expect("a few") {
                    slot if slot < WORKERS => crew.kill(cluster, slot, &worker),
                    WORKERS => {
                        cluster.kill_agent();
                        cluster.start(&agent);
                    }
                    _ => backend.restart.iter_mut().for_each(|restart| restart()),
                }
                kills += 1;
                next = Instant::now() + Duration::from_millis(1_500 + dice.below(2_000));
            }
            pause();
        }
    });
    let accepted: BTreeMap<usize, String> = accepted.into_inner().expect("not poisoned");
    assert_eq!(accepted.len(), size.runs);
    let runs = api.json("/api/runs?limit=10000").as_array().cloned().expect("a list");
    let listed: BTreeSet<&str> = runs.iter().filter_map(|run| run["id"].as_str()).collect();
    assert_eq!(
        listed,
        accepted.values().map(String::as_str).collect(),
        "what was accepted is there, once, and nothing else"
    );
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for run in &runs {
        *states.entry(run["state"].as_str().expect("a state")).or_default() += 1;
    }
    eprintln!("{submitted} kills, {} tries, {states:?}", ledger(cluster, "begin").values().sum::<usize>());
    (runs, crew)
}

/// How often each run is in the ledger with a word.
fn ledger(cluster: &Cluster, word: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in cluster.read("ledger").lines() {
        match line.split_once(' ') {
            Some((found, n)) if found == word => *counts.entry(n.to_owned()).or_default() += 1,
            _ => {}
        }
    }
    counts
}

/// Every run has ended as its job allows, was never carried out twice at a time, and was known to be lost in time.
fn check(cluster: &Cluster, runs: &[Value], crew: &Crew) {
    let (begun, ended, twice) = (ledger(cluster, "begin"), ledger(cluster, "end"), ledger(cluster, "twice"));
    assert_eq!(twice, BTreeMap::new(), "runs that two have carried out at a time");
    for run in runs {
        let n = run["order"]["answers"]["n"].as_str().expect("its number");
        let (begun, ended) = (begun.get(n).copied().unwrap_or(0), ended.get(n).copied().unwrap_or(0));
        let tries = usize::try_from(run["attempt"].as_u64().expect("tries")).expect("a few");
        assert!(begun <= tries, "{n} has begun {begun} times: {run:#}");
        match (run["order"]["job"].as_str(), run["state"].as_str()) {
            (_, Some("succeeded")) => assert!(ended >= 1, "{n} did not come to its end: {run:#}"),
            (Some("once"), Some("lost")) => {
                assert_eq!(tries, 1, "{run:#}");
                let by = run["worker"].as_str().expect("who has lost it");
                // One that was not killed has lost its lease, because nobody answered it.
                if let Some(killed) = crew.killed.get(node(by)) {
                    let known = run["ended"].as_u64().expect("its end").saturating_sub(*killed);
                    assert!(known < KNOWN_DEAD, "known {known} ms after {by} was killed: {run:#}");
                }
            }
            (Some("again"), Some("lost")) => assert_eq!(run["dead"], true, "{run:#}"),
            _ => panic!("it can only succeed or be lost: {run:#}"),
        }
    }
}

/// The records of ended runs were each written once, and none of one that has not ended is left.
fn written_once(urls: &str, runs: &[Value]) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let remote = Remote::new(urls.split(',')).expect("endpoints");
        let done = remote.range(RangeRequest::prefix("/regrow/job/done/")).await.expect("an answer").kvs;
        assert_eq!(done.len(), runs.len());
        assert!(done.iter().all(|kv| kv.version == 1), "an end was written twice");
        for left in ["/regrow/job/queue/live/", "/regrow/job/queue/slot/", "/regrow/job/queue/cancel/"] {
            let kvs = remote.range(RangeRequest::prefix(left)).await.expect("an answer").kvs;
            assert!(kvs.is_empty(), "{left} has {} keys", kvs.len());
        }
    });
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn on_the_embedded_store() {
    let mut cluster = Cluster::with_spec(SPEC);
    let etcd = format!("127.0.0.1:{}", cluster.ports.one());
    let url = format!("http://{etcd}");
    let backend = Backend { agent: texts(&["--etcd", &etcd]), worker: texts(&["--store", &url]), restart: None };
    let (runs, crew) = trial(&mut cluster, backend);
    check(&cluster, &runs, &crew);
    written_once(&url, &runs);
}

#[test]
fn on_etcd() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let urls = etcd.urls();
    let mut cluster = Cluster::with_spec(SPEC);
    let restart = || {
        etcd.kill(0);
        etcd.restart(0);
    };
    let words = texts(&["--store", &urls]);
    let backend = Backend { agent: words.clone(), worker: words, restart: Some(Box::new(restart)) };
    let (runs, crew) = trial(&mut cluster, backend);
    check(&cluster, &runs, &crew);
    written_once(&urls, &runs);
}

#[test]
fn on_redis() {
    let Some(redis) = Redis::start() else { return };
    let url = redis.url();
    let redis = std::cell::RefCell::new(redis);
    let mut cluster = Cluster::with_spec(SPEC);
    let words = texts(&["--queue", &url]);
    let restart = || redis.borrow_mut().kill_and_restart();
    let backend = Backend { agent: words.clone(), worker: words, restart: Some(Box::new(restart)) };
    let (runs, crew) = trial(&mut cluster, backend);
    check(&cluster, &runs, &crew);
    let ends = redis.borrow().cli(&["XRANGE", "regrow:{jobs}:ended", "-", "+"]);
    let ends: Vec<&str> = ends.lines().filter(|line| runs.iter().any(|run| run["id"] == *line)).collect();
    let ended: BTreeSet<&str> = ends.iter().copied().collect();
    assert_eq!((ends.len(), ended.len()), (runs.len(), runs.len()), "each run ends once");
}
