//! `etcdctl` with API 3 on an agent with an etcd door, and real etcd members to compare it with.

use super::{Cluster, LONG, pause, until};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Instant;
use tempfile::TempDir;

/// What `etcdctl` waits for an answer at most; far beyond what it takes.
const ANSWER: &str = "--command-timeout=60s";

/// The name of a real member.
pub const MEMBER: &str = "real";

/// Attempts to start on ports that were free a moment ago.
const STARTS_MAX: usize = 5;

/// `etcdctl` at an endpoint, working in a folder.
pub struct Ctl {
    pub endpoint: String,
    pub folder: PathBuf,
}

/// An agent with an etcd door on any free port.
pub struct Agent {
    pub cluster: Cluster,
    ctl: Ctl,
}

impl Deref for Agent {
    type Target = Ctl;

    fn deref(&self) -> &Ctl {
        &self.ctl
    }
}

impl Agent {
    /// `None` if `etcdctl` is not installed.
    pub fn start() -> Option<Agent> {
        Self::start_in(Cluster::empty())
    }

    /// The same in a folder that something was done with before.
    pub fn start_in(mut cluster: Cluster) -> Option<Agent> {
        if !is_installed("etcdctl", "version") {
            return None;
        }
        cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
        let ctl = Ctl { endpoint: endpoint(&cluster), folder: cluster.folder.path().to_owned() };
        // What an agent writes when it starts must not come between what a test counts.
        until("the agent has told of its node", || {
            let keys = ctl.ok(&["get", "--prefix", "--keys-only", "/regrow/observed/node/"]);
            (!keys.trim().is_empty()).then_some(())
        });
        Some(Agent { cluster, ctl })
    }

    /// Kills the agent with SIGKILL and starts it again.
    pub fn restart(&mut self) {
        self.cluster.kill_agent();
        std::fs::remove_file(self.cluster.path("data").join("doors.json")).expect("it is there");
        self.cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
        self.ctl.endpoint = endpoint(&self.cluster);
    }
}

/// A real etcd of one member.
pub struct Etcd {
    child: Child,
    folder: TempDir,
    ctl: Ctl,
}

impl Deref for Etcd {
    type Target = Ctl;

    fn deref(&self) -> &Ctl {
        &self.ctl
    }
}

impl Etcd {
    /// `None` if etcd or `etcdctl` is not installed.
    pub fn start() -> Option<Etcd> {
        Self::start_on(|_| {})
    }

    /// The same on the folder `data` that is made by `fill` in the folder that it is given.
    pub fn start_on(fill: impl Fn(&Path)) -> Option<Etcd> {
        if !is_installed("etcd", "--version") || !is_installed("etcdctl", "version") {
            return None;
        }
        // The ports are free when they are looked for, but may be taken a moment later.
        (0..STARTS_MAX).find_map(|_| Self::launch(&fill)).or_else(|| panic!("etcd does not start"))
    }

    fn launch(fill: &impl Fn(&Path)) -> Option<Etcd> {
        let folder = tempfile::Builder::new().prefix("regrow-etcd-").tempdir().expect("a folder");
        fill(folder.path());
        let [client, peer] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a port"));
        let [client, peer] = [client, peer].map(|port| format!("http://{}", port.local_addr().expect("an address")));
        let log = std::fs::File::create(folder.path().join("etcd.log")).expect("a log");
        let mut command = Command::new("etcd");
        command.args(["--name", MEMBER, "--log-level", "error", "--data-dir"]).arg(folder.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("{MEMBER}={peer}")]);
        let child = command.stdout(log.try_clone().expect("a copy")).stderr(log).spawn().expect("etcd starts");
        let endpoint = client.trim_start_matches("http://").to_owned();
        let ctl = Ctl { endpoint, folder: folder.path().to_owned() };
        let mut etcd = Etcd { child, folder, ctl };
        let end = Instant::now() + LONG;
        while !etcd.run(&["endpoint", "health"]).status.success() {
            if etcd.child.try_wait().expect("a child").is_some() {
                eprintln!("etcd: {}", std::fs::read_to_string(etcd.folder.path().join("etcd.log")).unwrap_or_default());
                return None;
            }
            assert!(Instant::now() < end, "etcd is not healthy after {LONG:?}");
            pause();
        }
        Some(etcd)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_installed(program: &str, version: &str) -> bool {
    let found = Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

impl Ctl {
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(&self.endpoint).arg(ANSWER).args(words);
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("etcdctl runs")
    }

    /// A command that must succeed; its standard output.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "etcdctl {words:?}: {out}{err}");
        out.into_owned()
    }

    /// A command that must fail; all it says.
    pub fn fails(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(!output.status.success(), "etcdctl {words:?}: {said}");
        said
    }

    pub fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["-w", "json"]].concat())).expect("JSON")
    }

    pub fn revision(&self) -> i64 {
        self.json(&["get", "x"])["header"]["revision"].as_i64().expect("a revision")
    }

    /// A transaction as `etcdctl txn` reads it.
    pub fn txn(&self, text: &str) -> String {
        let mut child = self.command(&["txn"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{text}");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// A command that goes on.
    pub fn follow(&self, words: &[&str]) -> Follower {
        Follower::of(self.command(words))
    }
}

/// Where the etcd door of an agent is.
pub fn endpoint(cluster: &Cluster) -> String {
    until("the etcd door is told", || {
        let doors = std::fs::read_to_string(cluster.path("data").join("doors.json")).ok()?;
        Some(serde_json::from_str::<Value>(&doors).ok()?["etcd"].as_str()?.to_owned())
    })
}

/// An `etcdctl` that runs until it is dropped.
pub struct Follower {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Follower {
    pub fn of(mut command: Command) -> Follower {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("etcdctl runs");
        let lines = BufReader::new(child.stdout.take().expect("piped"));
        Follower { child, lines }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("it says something");
        line.trim_end().to_owned()
    }

    pub fn lines(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
