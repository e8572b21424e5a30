//! Real etcd members (`etcd-server` on Debian), and a client for tests that look into a store.

use super::{LONG, until};
use regrow_store::{KeyValue, RangeRequest, Remote, Store};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Attempts to start on ports that were free a moment ago.
const STARTS_MAX: usize = 5;

/// A cluster of etcd members, each with its ports.
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
    runtime: Runtime,
}

struct Member {
    process: Option<Child>,
    client: String,
    words: Vec<String>,
}

impl Etcd {
    /// `None`, said on standard error, where etcd is not installed.
    pub fn start(size: usize) -> Option<Etcd> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: etcd is not installed");
            return None;
        }
        (0..STARTS_MAX).find_map(|_| {
            let mut etcd = Etcd::launch(size);
            etcd.is_up().then_some(etcd)
        })
    }

    fn launch(size: usize) -> Etcd {
        let folder = tempfile::tempdir().expect("a folder");
        let held: Vec<TcpListener> = (0..2 * size).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let urls: Vec<String> =
            held.iter().map(|port| format!("http://{}", port.local_addr().expect("an address"))).collect();
        drop(held);
        let (clients, peers) = urls.split_at(size);
        let initial: Vec<String> = peers.iter().enumerate().map(|(n, url)| format!("m{n}={url}")).collect();
        let member = |n: usize| {
            let data = folder.path().join(n.to_string()).display().to_string();
            let name = format!("m{n}");
            let words = ["--name", &name, "--log-level", "error", "--data-dir", &data];
            let urls = ["--listen-client-urls", &clients[n], "--advertise-client-urls", &clients[n]];
            let between = ["--listen-peer-urls", &peers[n], "--initial-advertise-peer-urls", &peers[n]];
            let all = ["--initial-cluster", &initial.join(",")].map(str::to_owned);
            let words = words.into_iter().chain(urls).chain(between).map(str::to_owned).chain(all).collect();
            let mut member = Member { process: None, client: clients[n].clone(), words };
            member.start();
            member
        };
        let members = (0..size).map(member).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Etcd { members, folder, runtime: runtime.expect("a runtime") }
    }

    fn is_up(&mut self) -> bool {
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            if self.with(|store| async move { store.status().await.is_ok() }) {
                return true;
            }
            let ended = |member: &mut Member| {
                member.process.as_mut().is_none_or(|process| process.try_wait().expect("a child").is_some())
            };
            if self.members.iter_mut().any(ended) {
                return false;
            }
        }
        false
    }

    /// All endpoints, as `--store` takes them.
    pub fn urls(&self) -> String {
        self.members.iter().map(|member| member.client.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Does something with the store.
    pub fn with<T, F: Future<Output = T>>(&self, what: impl FnOnce(Remote) -> F) -> T {
        self.runtime.block_on(async {
            let remote = Remote::new(self.members.iter().map(|member| &member.client)).expect("endpoints");
            what(remote).await
        })
    }

    /// The keys under a prefix.
    pub fn keys(&self, prefix: &'static str) -> Vec<KeyValue> {
        self.with(|store| async move { store.range(RangeRequest::prefix(prefix)).await.expect("etcd answers").kvs })
    }

    /// kill -9 of one member.
    pub fn kill(&mut self, n: usize) {
        let mut process = self.members[n].process.take().expect("it runs");
        process.kill().expect("it can be killed");
        process.wait().expect("it ends");
    }

    /// Starts a member again that was killed, and waits until the store answers.
    pub fn restart(&mut self, n: usize) {
        self.members[n].start();
        until("etcd answers again", || self.with(|store| async move { store.status().await.ok() }));
    }

    /// The member that leads.
    pub fn leader(&self) -> usize {
        let led = |member: &Member| {
            let output = Command::new("etcdctl")
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &member.client, "endpoint", "status", "-w", "json"])
                .output()
                .expect("etcdctl runs");
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let status = &status[0]["Status"];
            !status["leader"].is_null() && status["leader"] == status["header"]["member_id"]
        };
        until("there is a leader of etcd", || self.members.iter().position(led))
    }
}

impl Member {
    fn start(&mut self) {
        let mut command = Command::new("etcd");
        let process = command.args(&self.words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.process = Some(process.expect("etcd starts"));
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for process in self.members.iter_mut().filter_map(|member| member.process.as_mut()) {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        // The folder goes after its users.
        let _ = &self.folder;
    }
}
