//! Every queue passes the one suite: on the embedded store, on a real etcd, on a real Redis. Skipped by name where etcd
//! or Redis is not installed (`etcd-server`, `redis-server` on Debian).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use regrow_jobs::suite::{self, ManualClock};
use regrow_jobs::{RedisQueue, StoreQueue};
use regrow_store::{Engine, Options, Remote, Store};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a server may take to come up. Far beyond what it takes.
const LONG: Duration = Duration::from_secs(60);

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Addresses that were free a moment ago.
fn addresses<const N: usize>() -> [String; N] {
    let held: [TcpListener; N] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.each_ref().map(|port| port.local_addr().expect("an address").to_string())
}

/// Starts a server on addresses of its own, again when another took one of them.
fn start<const N: usize>(program: &str, arguments: impl Fn(&[String; N]) -> Vec<String>) -> Option<(Server, String)> {
    for _ in 0..5 {
        let addresses = addresses::<N>();
        let mut command = Command::new(program);
        command.args(arguments(&addresses)).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            eprintln!("skipped: {program} is not installed");
            return None;
        };
        let mut server = Server(child);
        let end = Instant::now() + LONG;
        while Instant::now() < end && server.0.try_wait().expect("a child").is_none() {
            if TcpStream::connect(&addresses[0]).is_ok() {
                return Some((server, addresses[0].clone()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    panic!("{program} does not start");
}

fn redis(folder: &Path) -> Option<(Server, String)> {
    start::<1>("redis-server", |[address]| {
        let port = address.rsplit(':').next().expect("a port");
        let folder = folder.to_str().expect("UTF-8");
        let words = ["--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "yes"];
        words.iter().chain(&["--appendfsync", "always"]).map(ToString::to_string).collect()
    })
}

async fn on_store(store: Arc<dyn Store>) {
    let clock = ManualClock::default();
    let queue = StoreQueue::open(store, clock.clock()).await.expect("opened");
    suite::run(Arc::new(queue), clock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_on_the_embedded_store_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    on_store(Arc::new(Engine::open(folder.path(), Options::default()).expect("opens"))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_on_etcd_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8").to_owned();
    let Some((_server, address)) = start::<2>("etcd", |[client, peer]| {
        let (client, peer) = (format!("http://{client}"), format!("http://{peer}"));
        let words = ["--name", "m", "--log-level", "error", "--data-dir", &data, "--listen-client-urls", &client];
        let more = ["--advertise-client-urls", &client, "--listen-peer-urls", &peer];
        let last = ["--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("m={peer}")];
        words.iter().chain(&more).chain(&last).map(ToString::to_string).collect()
    }) else {
        return;
    };
    let remote = Remote::new([format!("http://{address}")]).expect("an endpoint");
    let end = Instant::now() + LONG;
    while remote.status().await.is_err() {
        assert!(Instant::now() < end, "etcd does not answer");
    }
    on_store(Arc::new(remote)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_on_redis_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some((_server, address)) = redis(folder.path()) else { return };
    let clock = ManualClock::default();
    let queue = RedisQueue::new(&format!("redis://{address}"), clock.clock()).expect("a place");
    suite::run(Arc::new(queue), clock).await;
}
