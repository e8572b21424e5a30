//! The remote store passes the suite on real etcd. Skipped where etcd is not installed (`etcd-server` on Debian).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use regrow_store::{
    BoxFuture, EventKind, PutRequest, RangeRequest, Remote, Store, Watch, WatchItem, WatchRequest,
    suite::{self, Harness},
};
use tempfile::TempDir;

/// How long a cluster may take to come up, or back. Far beyond what it takes.
const LONG: Duration = Duration::from_secs(60);

/// Attempts to start on ports that were free a moment ago.
const STARTS_MAX: usize = 5;

/// A cluster of etcd members, each with its ports.
struct Cluster {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    process: Child,
    url: String,
    alive: bool,
}

impl Cluster {
    /// `None` if etcd is not installed.
    async fn start(size: usize) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: etcd is not installed");
            return None;
        }
        for _ in 0..STARTS_MAX {
            let mut cluster = Self::launch(size);
            if cluster.is_up().await {
                return Some(cluster);
            }
        }
        panic!("etcd does not start");
    }

    fn launch(size: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let held: Vec<TcpListener> = (0..2 * size).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let urls: Vec<String> =
            held.iter().map(|port| format!("http://{}", port.local_addr().expect("an address"))).collect();
        drop(held);
        let (clients, peers) = urls.split_at(size);
        let initial: Vec<String> = peers.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let start = |n: usize| {
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("m{n}"), "--log-level", "error"]);
            command.arg("--data-dir").arg(folder.path().join(n.to_string()));
            command.args(["--listen-client-urls", &clients[n], "--advertise-client-urls", &clients[n]]);
            command.args(["--listen-peer-urls", &peers[n], "--initial-advertise-peer-urls", &peers[n]]);
            command.args(["--initial-cluster", &initial.join(",")]);
            let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("etcd starts");
            Member { process, url: clients[n].clone(), alive: true }
        };
        Self { members: (0..size).map(start).collect(), _folder: folder }
    }

    async fn is_up(&mut self) -> bool {
        let remote = self.remote();
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            if remote.status().await.is_ok() {
                return true;
            }
            if self.members.iter_mut().any(|member| member.process.try_wait().expect("a child").is_some()) {
                return false;
            }
        }
        false
    }

    fn remote(&self) -> Remote {
        Remote::new(self.members.iter().map(|member| &member.url)).expect("endpoints")
    }

    fn kill(&mut self, n: usize) {
        self.members[n].process.kill().expect("it runs");
        self.members[n].process.wait().expect("it ends");
        self.members[n].alive = false;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in self.members.iter_mut().filter(|member| member.alive) {
            // It may have ended by itself.
            let _ = member.process.kill();
            let _ = member.process.wait();
        }
    }
}

impl Harness for Cluster {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(self.remote())
    }

    /// A real etcd has real time. It ends leases up to half a second late, which the suite waits out by itself.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()> {
        Box::pin(tokio::time::sleep(time))
    }
}

/// One member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_passes() {
    let Some(cluster) = Cluster::start(1).await else { return };
    suite::run(&cluster).await;
}

/// Three members. After a third of the cases the one that is asked first is killed; the rest passes without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_passes_with_one_member_of_three_killed() {
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let cases = suite::cases();
    for (n, case) in cases.iter().enumerate() {
        if n == cases.len() / 3 {
            cluster.kill(0);
            // If it led, what is written before the others have elected may be lost on its way: a linearizable read
            // is answered when they have.
            cluster.remote().status().await.expect("the other two go on");
        }
        case.run(&cluster).await;
    }
}

async fn events(watch: &mut Watch, from: i64, count: usize) -> Vec<i64> {
    let mut revisions: Vec<i64> = Vec::new();
    while revisions.len() < count {
        if let WatchItem::Events { events, .. } = watch.next().await.expect("goes on").expect("no error") {
            assert!(events.iter().all(|event| event.kind == EventKind::Put));
            revisions.extend(events.iter().map(|event| event.kv.mod_revision.0 - from));
        }
    }
    revisions
}

/// A watch on a member that is killed goes on at another one: every event comes once and in order, those from while it
/// was without a server too. A write that fails is one whose fate is not known, which a read then tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_outlives_its_member() {
    const PUTS: usize = 300;
    let Some(mut cluster) = Cluster::start(3).await else { return };
    let watcher = cluster.remote();
    let writer = Remote::new(cluster.members[1..].iter().map(|member| &member.url)).expect("endpoints");
    let mut watch = watcher.watch(WatchRequest::key("k")).await.expect("watches");
    let start = watch.revision().0;
    let mut seen = Vec::new();
    for put in 0..PUTS {
        if put == PUTS / 3 {
            seen.extend(events(&mut watch, start, 10).await);
            cluster.kill(0);
        }
        // Puts one revision each: whether one that failed was done is seen by the key's version.
        loop {
            let done = match writer.put(PutRequest::new("k", put.to_string())).await {
                Ok(_) => true,
                Err(error) => {
                    assert!(error.is_retryable(), "{error}");
                    let found = writer.range(RangeRequest::key("k")).await.expect("a majority is there").kvs;
                    found.first().is_some_and(|kv| kv.value == put.to_string())
                }
            };
            if done {
                break;
            }
        }
    }
    let last = writer.range(RangeRequest::key("k")).await.expect("a majority is there");
    let total = usize::try_from(last.revision.0 - start).expect("forward");
    assert!(total >= PUTS);
    let rest = total - seen.len();
    seen.extend(events(&mut watch, start, rest).await);
    assert!(seen.iter().copied().eq(1..=total as i64), "{seen:?}");
}
