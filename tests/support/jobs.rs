//! Runs of jobs, by the HTTP door.

use super::http::{Answer, try_ask};
use super::{Cluster, LONG, pause, until};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// Attempts to start on a port that was free a moment ago.
const STARTS_MAX: usize = 5;

/// An agent's HTTP door.
#[derive(Clone, Debug)]
pub struct Api(pub String);

impl Api {
    /// The door of a cluster's agent, when it is open and the spec is applied.
    pub fn of(cluster: &Cluster) -> Api {
        until("the HTTP door is open and knows jobs", || {
            let doors = std::fs::read_to_string(cluster.path("data/doors.json")).ok()?;
            let doors: Value = serde_json::from_str(&doors).ok()?;
            let api = Api(doors["http"].as_str()?.to_owned());
            let jobs = api.get("/api/jobs").filter(|answer| answer.status == 200)?.json();
            jobs.as_object().is_some_and(|jobs| !jobs.is_empty()).then_some(api)
        })
    }

    /// `None`: nobody answers.
    pub fn get(&self, path: &str) -> Option<Answer> {
        try_ask(&self.0, "GET", path, "").ok()
    }

    pub fn json(&self, path: &str) -> Value {
        let answer = self.get(path).expect("an answer");
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    /// A request with JSON in it; `None`: nobody answers, or not whole.
    pub fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let body = body.to_string();
        let mut stream = TcpStream::connect(&self.0).ok()?;
        stream.set_read_timeout(Some(LONG)).ok()?;
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.0);
        stream
            .write_all(
                format!("{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes(),
            )
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned()))))
    }

    /// Submits a run; its id. `wish`: an object.
    pub fn submit(&self, job: &str, wish: Value) -> String {
        let mut body = wish;
        body["job"] = job.into();
        let (status, answer) = self.post("/api/runs", &body).expect("an answer");
        assert_eq!(status, 200, "{body}: {answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    /// Submits one that is refused; status and answer.
    pub fn refused(&self, job: &str, wish: Value) -> (u16, String) {
        let mut body = wish;
        body["job"] = job.into();
        let (status, answer) = self.post("/api/runs", &body).expect("an answer");
        assert!((400..500).contains(&status), "{status} {answer}");
        (status, answer.to_string())
    }

    /// A run as it is.
    pub fn run(&self, id: &str) -> Value {
        self.json(&format!("/api/runs/{id}"))
    }

    /// Waits until a run is as described.
    pub fn until(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + LONG;
        loop {
            let run = self.run(id);
            if holds(&run) {
                return run;
            }
            assert!(Instant::now() < end, "not so after {LONG:?}: {what}; the run is {run:#}");
            pause();
        }
    }

    /// Waits until a run is in a state.
    pub fn becomes(&self, id: &str, state: &str) -> Value {
        self.until(id, state, |run| run["state"] == state)
    }

    /// The lines that a run's log has now.
    pub fn log(&self, id: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/runs/{id}/log")).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.body.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    pub fn cancel(&self, id: &str) -> bool {
        let (status, answer) = self.post(&format!("/api/runs/{id}/cancel"), &json!({})).expect("an answer");
        assert_eq!(status, 200, "{answer}");
        answer["cancelled"] == true
    }

    pub fn retry(&self, id: &str, body: &Value) -> (u16, Value) {
        self.post(&format!("/api/runs/{id}/retry"), body).expect("an answer")
    }
}

/// A Redis that syncs what it acknowledges; ends with the test.
pub struct Redis {
    process: Child,
    folder: tempfile::TempDir,
    pub address: String,
}

impl Redis {
    /// `None`, said on standard error, where Redis is not installed.
    pub fn start() -> Option<Redis> {
        (0..STARTS_MAX).find_map(|_| {
            let folder = tempfile::tempdir().expect("a folder");
            let port = TcpListener::bind("127.0.0.1:0").expect("a port");
            let address = port.local_addr().expect("an address").to_string();
            drop(port);
            match launch(folder.path(), &address) {
                Ok(process) => {
                    let mut redis = Redis { process, folder, address };
                    redis.is_up().then_some(redis)
                }
                Err(_) => {
                    eprintln!("skipped: redis-server is not installed");
                    None
                }
            }
        })
    }

    fn is_up(&mut self) -> bool {
        let end = Instant::now() + LONG;
        while Instant::now() < end && self.process.try_wait().expect("a child").is_none() {
            if TcpStream::connect(&self.address).is_ok() {
                return true;
            }
            pause();
        }
        false
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// What `redis-cli` prints for a command.
    pub fn cli(&self, words: &[&str]) -> String {
        let port = self.address.rsplit(':').next().expect("a port");
        let output = Command::new("redis-cli").args(["-p", port]).args(words).output().expect("redis-cli runs");
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// kill -9, and a start anew on the same data.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
        self.process = launch(self.folder.path(), &self.address).expect("it starts");
        assert!(self.is_up(), "Redis does not start again");
    }
}

fn launch(folder: &Path, address: &str) -> std::io::Result<Child> {
    let port = address.rsplit(':').next().expect("a port");
    let mut command = Command::new("redis-server");
    command.args(["--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
    command.args(["--appendfsync", "always", "--dir"]).arg(folder);
    command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A `regrow worker` process; killed with the test.
pub struct Worker {
    process: Child,
    pub node: String,
}

impl Worker {
    /// Starts one in the cluster's folder, with a data folder of its own.
    pub fn start(cluster: &Cluster, node: &str, words: &[&str]) -> Worker {
        Worker::start_in(cluster, &format!("worker-{node}"), node, words)
    }

    /// The same in a data folder that another one may have had before.
    pub fn start_in(cluster: &Cluster, data: &str, node: &str, words: &[&str]) -> Worker {
        let data = cluster.path(data);
        let log = std::fs::OpenOptions::new().create(true).append(true).open(cluster.path("workers.log"));
        let log = log.expect("a log");
        let mut command = cluster.command(&[&["worker", "--node", node], words].concat());
        command.env("REGROW_DATA", data).stdout(log.try_clone().expect("a copy")).stderr(log);
        Worker { process: command.spawn().expect("the binary starts"), node: node.to_owned() }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn kill(&mut self) {
        self.process.kill().expect("it can be killed");
        self.process.wait().expect("it ends");
    }

    pub fn has_ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.try_wait().expect("a child")
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
