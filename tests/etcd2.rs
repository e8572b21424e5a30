//! etcd 2's interface: Regrow beside a real etcd, and etcd's own clients as they come. Skipped where etcd is not
//! installed (`etcd-server`, `etcd-client` on Debian).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::process::{Child, Command, Stdio};
use support::http::{ask, try_ask};
use support::{Cluster, Ports, until};

/// An agent with etcd doors on any free ports.
fn agent() -> (Cluster, String) {
    let mut cluster = Cluster::empty();
    cluster.start(&["agent", "--etcd", "127.0.0.1:0", "--http", "off"]);
    let endpoint = door(&cluster, "etcd");
    // What the agent itself writes when it starts would count among the indexes.
    cluster.until_shown(&["events"], "agent started");
    (cluster, endpoint)
}

fn door(cluster: &Cluster, name: &str) -> String {
    until("the door is told", || {
        let doors = std::fs::read_to_string(cluster.path("data").join("doors.json")).ok()?;
        Some(serde_json::from_str::<Value>(&doors).ok()?[name].as_str()?.to_owned())
    })
}

/// A real etcd of one member, with etcd 2's interface.
struct Etcd {
    child: Child,
    endpoint: String,
    _folder: tempfile::TempDir,
    _ports: Ports,
}

impl Etcd {
    /// `None` if etcd is not installed.
    fn start() -> Option<Etcd> {
        let (folder, mut ports) = (tempfile::tempdir().expect("a folder"), Ports::take());
        let (client, peer) = (ports.one(), ports.one());
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let mut command = Command::new("etcd");
        command.arg("--enable-v2=true").arg("--data-dir").arg(folder.path().join("data"));
        command.args(["--name", "one", "--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)]);
        command.args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)]);
        command.args(["--initial-cluster", &format!("one={}", url(peer))]);
        let Ok(child) = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() else {
            eprintln!("skipped: etcd is not installed");
            return None;
        };
        let endpoint = format!("127.0.0.1:{client}");
        until("etcd serves", || {
            let answer = try_ask(&endpoint, "GET", "/health", "").ok()?;
            (answer.status == 200).then_some(())
        });
        Some(Etcd { child, endpoint, _folder: folder, _ports: ports })
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One of the two servers that are asked the same.
struct Side {
    endpoint: String,
    base: i64,
    last: i64,
}

impl Side {
    fn new(endpoint: &str) -> Side {
        let base = ask(endpoint, "GET", "/v2/keys/", "").index();
        Side { endpoint: endpoint.to_owned(), base, last: base }
    }

    fn ask(&self, method: &str, name: &str, fields: &str) -> Value {
        let mut text = fields.to_owned();
        for n in (0..=20).rev() {
            text = text.replace(&format!("@{n}"), &(self.base + n).to_string());
            text = text.replace(&format!("${n}"), &(self.last + n).to_string());
        }
        let path = format!("/v2/keys{name}");
        let answer = match method {
            "GET" | "HEAD" | "DELETE" => ask(&self.endpoint, method, &format!("{path}?{text}"), ""),
            _ => ask(&self.endpoint, method, &path, &text),
        };
        let mut told = serde_json::json!({"status": answer.status, "body": self.plain(answer.json(), "")});
        for name in ["content-type", "x-etcd-index", "x-raft-index", "x-raft-term", "x-etcd-cluster-id", "allow"] {
            let Some(value) = answer.headers.get(name).filter(|_| answer.status != 405 || name == "allow") else {
                continue;
            };
            told[name] = match name {
                "x-etcd-index" => (answer.index() - self.base).max(-1).into(),
                "content-type" | "allow" => value.clone().into(),
                _ => true.into(),
            };
        }
        told
    }

    /// Without what differs between any two servers: where indexes begin, and the time of day. A file's `createdIndex`
    /// is left out: `set` keeps it, see `docs/design/0008-etcd-2.md`.
    fn plain(&self, value: Value, name: &str) -> Value {
        match (name, value) {
            ("modifiedIndex" | "createdIndex", Value::Number(index)) => {
                (index.as_i64().expect("a number") - self.base).into()
            }
            // Of a refused request, where the store was; 0 if it was refused without asking.
            ("index", Value::Number(index)) => (index.as_i64().expect("a number") - self.base).max(-1).into(),
            ("expiration", _) => true.into(),
            // Far from its end, a time differs by what the test takes at most.
            ("ttl", Value::Number(ttl)) => (ttl.as_i64().expect("a number") + 9).div_euclid(10).into(),
            ("cause", Value::String(text)) => self.relative(&text).into(),
            ("key", Value::String(text)) => match text.rsplit_once('/') {
                Some((dir, last)) if last.len() == 20 => {
                    let index: i64 = last.parse().expect("a number");
                    format!("{dir}/#{}", index - self.base).into()
                }
                _ => text.into(),
            },
            (_, Value::Object(fields)) => {
                let is_file = fields.contains_key("value") || (name != "nodes" && !fields.contains_key("dir"));
                let fields = fields.into_iter().filter(|(name, _)| !(is_file && name == "createdIndex"));
                fields
                    .map(|(name, value)| (name.clone(), self.plain(value, &name)))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            }
            (_, Value::Array(mut values)) => {
                // Regrow keeps its own records in the store too.
                values.retain(|value| value["key"] != "/regrow");
                values.sort_by_key(|value| value["key"].as_str().map(str::to_owned));
                values.into_iter().map(|value| self.plain(value, name)).collect::<Vec<_>>().into()
            }
            (_, value) => value,
        }
    }

    /// `[7 != 9]` with indexes from the beginning.
    fn relative(&self, cause: &str) -> String {
        let number = |word: &str| word.trim_matches(['[', ']']).parse::<i64>().ok();
        let words = cause.split(' ').map(|word| match number(word) {
            Some(index) => word.replace(&index.to_string(), &(index - self.base).to_string()),
            None => word.to_owned(),
        });
        words.collect::<Vec<_>>().join(" ")
    }
}

/// Each request of the script is answered by Regrow as by a real etcd: status, headers, and every field.
#[test]
fn answers_are_those_of_etcd() {
    let Some(etcd) = Etcd::start() else { return };
    let (_cluster, endpoint) = agent();
    let (mut theirs, mut ours) = (Side::new(&etcd.endpoint), Side::new(&endpoint));
    let mut differ = Vec::new();
    let script = include_str!("etcd2/compare.txt");
    let lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    for line in lines {
        let mut words = line.split(' ');
        let mut word = || words.next().unwrap_or("");
        let (method, name, fields) = (word(), word(), word());
        if method == "LAST" {
            let back: i64 = name.parse().expect("a number");
            for side in [&mut theirs, &mut ours] {
                side.last = ask(&side.endpoint, "GET", "/v2/keys/", "").index() - back - 1;
            }
            continue;
        }
        let (expect, told) = (theirs.ask(method, name, fields), ours.ask(method, name, fields));
        if expect != told {
            differ.push(format!("{line}\n  etcd:   {expect}\n  regrow: {told}"));
        }
    }
    assert!(differ.is_empty(), "{} answers differ:\n{}", differ.len(), differ.join("\n"));
}
