//! A cluster of one machine under test: the real binary in a folder of its own, with ports that are its own.

#![allow(dead_code, unreachable_pub, clippy::print_stderr, reason = "support: each test file uses a part of it")]

pub mod etcd;
pub mod etcd3;
pub mod guide;
pub mod hosts;
pub mod http;
pub mod http2;
pub mod jobs;
pub mod python;
pub mod small;
pub mod sshd;

use serde_json::Value;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a condition may take to come true. Far beyond what it takes: reaching it is a failure, not a measurement.
pub const LONG: Duration = Duration::from_secs(60);

/// Ports of one test: the first is held as a lock, so that no other test has the same ones.
pub struct Ports {
    _lock: TcpListener,
    next: u16,
    last: u16,
}

/// Ports of one block.
const BLOCK: u16 = 50;

impl Ports {
    pub fn take() -> Ports {
        let start = std::process::id() % 200;
        for offset in 0..200 {
            let first = 10_000 + ((start + offset) % 200) as u16 * BLOCK;
            if let Ok(lock) = TcpListener::bind(("127.0.0.1", first)) {
                return Ports { _lock: lock, next: first + 1, last: first + BLOCK - 1 };
            }
        }
        panic!("no block of ports is free");
    }

    /// One port that nothing listens on.
    pub fn one(&mut self) -> u16 {
        loop {
            assert!(self.next <= self.last, "the block of ports is used up");
            self.next += 1;
            if TcpListener::bind(("127.0.0.1", self.next - 1)).is_ok() {
                return self.next - 1;
            }
        }
    }

    /// A range for a group.
    pub fn range(&mut self, size: u16) -> String {
        let first = self.next;
        self.next += size;
        assert!(self.next <= self.last, "the block of ports is used up");
        format!("{first}-{}", self.next - 1)
    }
}

/// A folder with a spec, and perhaps an agent that runs it.
pub struct Cluster {
    pub folder: TempDir,
    pub ports: Ports,
    agent: Option<Child>,
}

impl Cluster {
    /// A folder with nothing in it.
    pub fn empty() -> Cluster {
        let folder = tempfile::Builder::new().prefix("regrow-").tempdir().expect("a folder");
        Cluster { folder, ports: Ports::take(), agent: None }
    }

    /// A folder with a spec. `PORTS` in it becomes a range of ports, `ROOT` the folder.
    pub fn with_spec(spec: &str) -> Cluster {
        let mut cluster = Cluster::empty();
        cluster.write_spec(spec);
        cluster
    }

    /// The example `web` on ports of its own; the number is its front's port.
    pub fn web() -> (Cluster, u16) {
        let mut cluster = Cluster::empty();
        let front = cluster.ports.one();
        let range = cluster.ports.range(20);
        let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/web");
        for file in ["regrow.yaml", "haproxy.cfg.j2", "server.py"] {
            let text = std::fs::read_to_string(example.join(file)).expect("the example");
            let text = text.replace("8080", &front.to_string());
            let text = text.replace("    size: 3\n", &format!("    size: 3\n    port: {range}\n"));
            cluster.write(file, &text);
        }
        (cluster, front)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file in the test's folder");
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn write_spec(&mut self, spec: &str) {
        let mut text = spec.replace("ROOT", self.folder.path().to_str().expect("UTF-8"));
        while text.contains("PORTS") {
            let range = self.ports.range(5);
            text = text.replacen("PORTS", &range, 1);
        }
        self.write("regrow.yaml", &text);
    }

    /// Changes a file by replacing one text in it, which must be there.
    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let text = self.read(name);
        assert!(text.contains(from), "{name} has no {from:?}");
        self.write(name, &text.replace(from, to));
    }

    /// A command of the binary in the test's folder.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
        command
            .args(words)
            .current_dir(self.folder.path())
            .env_remove("REGROW_AGENT")
            .env("REGROW_HTTP", "off")
            .env("REGROW_ETCD", "off")
            .env("REGROW_GOSSIP", "off")
            .env("REGROW_RPC", "off");
        command.env("REGROW_DATA", self.path("data")).stdin(Stdio::null());
        command
    }

    /// Runs a command to its end.
    pub fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("the binary runs")
    }

    /// Runs a command that must succeed; its standard output.
    pub fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert!(
            output.status.success(),
            "regrow {words:?} failed: {}{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Runs a command that must end with `code`; its standard error.
    pub fn fails(&self, code: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "regrow {words:?}: {out}{err}");
        err.into_owned()
    }

    /// Starts `regrow up`, or `regrow agent`; its log goes to `agent.log`.
    pub fn start(&mut self, words: &[&str]) {
        self.start_with(words, &[]);
    }

    /// The same with more in its environment.
    pub fn start_with(&mut self, words: &[&str], variables: &[(&str, &str)]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).expect("a log");
        let mut command = self.command(words);
        command.envs(variables.iter().copied());
        command.stdout(log.try_clone().expect("a copy")).stderr(log);
        self.agent = Some(command.spawn().expect("the binary starts"));
    }

    /// The same on a host of its own.
    pub fn start_on(&mut self, hosts: &hosts::Hosts, host: u8, words: &[&str]) {
        let program = env!("CARGO_BIN_EXE_regrow");
        let command = hosts.command(host, program);
        self.start_by(command, words);
    }

    /// The same, with this folder's `site` in place of another folder: each host has files of its own there.
    pub fn start_with_site(&mut self, hosts: &hosts::Hosts, host: u8, site: &Path, words: &[&str]) {
        let mut command = hosts.command(host, "sh");
        // What is mounted there, nobody else sees (ip-netns(8)).
        command.args(["-c", "mount --bind \"$0\" \"$1\" && shift && exec \"$@\""]).arg(self.path("site")).arg(site);
        command.arg(env!("CARGO_BIN_EXE_regrow"));
        self.start_by(command, words);
    }

    fn start_by(&mut self, mut command: Command, words: &[&str]) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.path("agent.log")).expect("a log");
        let ours = self.command(words);
        command.args(ours.get_args()).current_dir(self.folder.path());
        for (name, value) in ours.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdout(log.try_clone().expect("a copy")).stderr(log);
        self.agent = Some(command.spawn().expect("the binary starts"));
    }

    pub fn up(&mut self) {
        self.start(&["up"]);
    }

    /// `regrow up`, until everything is as wanted.
    pub fn up_healthy(&mut self) {
        self.up();
        self.until_healthy();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("agent.log")).unwrap_or_default()
    }

    pub fn agent_pid(&self) -> u32 {
        self.agent.as_ref().expect("an agent runs").id()
    }

    /// kill -9 of the agent, and nothing else.
    pub fn kill_agent(&mut self) {
        let mut agent = self.agent.take().expect("an agent runs");
        agent.kill().expect("it can be killed");
        agent.wait().expect("it ends");
    }

    /// Waits for the agent's own end; its exit code.
    pub fn agent_ends(&mut self) -> i32 {
        let mut agent = self.agent.take().expect("an agent runs");
        let ended = until("the agent ends", || agent.try_wait().expect("it is a child"));
        ended.code().unwrap_or(-1)
    }

    /// Waits for the agent's own end; how it ended.
    pub fn agent_status(&mut self) -> std::process::ExitStatus {
        let mut agent = self.agent.take().expect("an agent runs");
        until("the agent ends", || agent.try_wait().expect("it is a child"))
    }

    /// Somebody else has killed the agent.
    pub fn agent_is_gone(&mut self) {
        let mut agent = self.agent.take().expect("an agent ran");
        agent.wait().expect("it has ended");
    }

    pub fn signal_agent(&self, name: &str) {
        signal(self.agent_pid(), name);
    }

    /// The status, when the agent answers.
    pub fn try_status(&self) -> Option<Value> {
        let output = self.run(&["status", "--json"]);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    pub fn status(&self) -> Value {
        serde_json::from_str(&self.ok(&["status", "--json"])).expect("JSON")
    }

    pub fn until_healthy(&self) -> Value {
        self.until_status("everything is as wanted", |status| status["health"] == "healthy")
    }

    /// Waits until the status is as described.
    pub fn until_status(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LONG;
        let mut last = Value::Null;
        while Instant::now() < end {
            if let Some(status) = self.try_status() {
                if holds(&status) {
                    return status;
                }
                last = status;
            }
            pause();
        }
        panic!("not so after {LONG:?}: {what}; the status is {last:#}\n{}", self.log());
    }

    /// Waits until a command's output has a text.
    pub fn until_shown(&self, words: &[&str], text: &str) -> String {
        let end = Instant::now() + LONG;
        loop {
            let output = self.run(words);
            let out = String::from_utf8_lossy(&output.stdout).into_owned();
            if out.contains(text) {
                return out;
            }
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(Instant::now() < end, "regrow {words:?} never shows {text:?}:\n{out}{err}\n{}", self.log());
            pause();
        }
    }

    /// The instances of a group in the status.
    pub fn instances(&self, group: &str) -> Vec<Value> {
        instances(&self.status(), group)
    }

    /// Each instance's id, pid and start.
    pub fn pids(&self, group: &str) -> Vec<(String, u64, u64)> {
        let one = |instance: &Value| {
            let id = instance["id"].as_str()?.to_owned();
            Some((id, instance["pid"].as_u64()?, instance["start_ticks"].as_u64()?))
        };
        self.instances(group).iter().filter_map(one).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the agent's log:\n{}", self.log());
        }
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        // Instances outlive the agent: whatever was started from this folder is ended with it.
        let data = self.path("data");
        kill_all(|pid, words| {
            let of_ours = words.contains("shim") && words.contains(data.to_str().expect("UTF-8"));
            of_ours || works_in(pid, self.folder.path())
        });
    }
}

/// Ends every process that `meant` picks by its pid and its command line.
pub fn kill_all(meant: impl Fn(u32, &str) -> bool) {
    let Ok(entries) = std::fs::read_dir("/proc") else { return };
    for entry in entries.flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(words) = std::fs::read(entry.path().join("cmdline")) else { continue };
        if meant(pid, &String::from_utf8_lossy(&words)) {
            signal(pid, "KILL");
        }
    }
}

fn works_in(pid: u32, folder: &Path) -> bool {
    std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
}

/// The instances of a group in a status.
pub fn instances(status: &Value, group: &str) -> Vec<Value> {
    let groups = status["groups"].as_array().cloned().unwrap_or_default();
    let group = groups.into_iter().find(|found| found["name"] == group);
    group.and_then(|group| group["instances"].as_array().cloned()).unwrap_or_default()
}

/// How many of a group serve.
pub fn healthy(status: &Value, group: &str) -> usize {
    instances(status, group).iter().filter(|instance| instance["healthy"] == true).count()
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), "--", &pid.to_string()]).stderr(Stdio::null()).status();
}

/// SIGKILL for what runs on a host under this program's name.
pub fn kill_group(hosts: &hosts::Hosts, host: u8, program: &str) {
    let pids = Command::new("ip").args(["netns", "pids", &hosts.name(host)]).output().expect("ip runs");
    for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if name.trim() == program {
            signal(pid.parse().expect("a number"), "KILL");
        }
    }
}

/// Waits for a condition; the only place where a test sleeps, between two looks.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not so after {LONG:?}: {what}");
        pause();
    }
}

/// Between two looks at a condition.
pub fn pause() {
    std::thread::sleep(Duration::from_millis(25));
}

/// A GET of a path: status and body, or why not.
pub fn get(port: u16, path: &str) -> Result<(u16, String), String> {
    let error = |error: std::io::Error| error.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(error)?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(error)?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").map_err(error)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(error)?;
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or("no answer")?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Connections of a load: at most so many requests are in flight.
pub const CONNECTIONS: u64 = 8;

/// A load of `wrk` in the background, for so many seconds.
pub struct Load {
    wrk: Child,
}

/// What a load has seen.
#[derive(Debug)]
pub struct LoadReport {
    pub requests: u64,
    /// Answers other than 2xx and 3xx.
    pub refused: u64,
    /// Connections refused, reset or timed out.
    pub broken: u64,
    pub text: String,
}

impl Load {
    pub fn start(port: u16, seconds: u32) -> Load {
        let url = format!("http://127.0.0.1:{port}/");
        let duration = format!("{seconds}s");
        let mut wrk = Command::new("wrk");
        wrk.args(["-t", "1", "-c", &CONNECTIONS.to_string(), "-d", &duration, "--timeout", "10s", &url]);
        Load { wrk: wrk.stdout(Stdio::piped()).spawn().expect("wrk is installed: make test installs it") }
    }

    pub fn is_over(&mut self) -> bool {
        self.wrk.try_wait().expect("it is a child").is_some()
    }

    /// Ends it before its time.
    pub fn end(self) -> LoadReport {
        signal(self.wrk.id(), "INT");
        self.report()
    }

    pub fn report(self) -> LoadReport {
        let output = self.wrk.wait_with_output().expect("wrk ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = |line: &str| -> Vec<u64> {
            line.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
        };
        let line = |start: &str| text.lines().find(|line| line.trim_start().starts_with(start)).map(numbers);
        let requests = text.lines().find(|line| line.contains(" requests in ")).map(numbers);
        LoadReport {
            requests: requests.and_then(|all| all.first().copied()).unwrap_or(0),
            refused: line("Non-2xx or 3xx responses").map_or(0, |all| all.iter().sum()),
            broken: line("Socket errors").map_or(0, |all| all.iter().sum()),
            text,
        }
    }
}

/// Whether the full size of a test is wanted (`make soak`).
pub fn full() -> bool {
    std::env::var_os("REGROW_FULL").is_some_and(|value| value == "1")
}
