//! Who may do what, at the doors of a running agent: tokens made and taken back, real clients that show them, the audit log,
//! and that no credential is seen anywhere. The whole matrix is in `crates/serve/tests/access.rs`.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use support::{Cluster, guide, python, until};

/// An agent whose doors ask for credentials.
struct Keyed {
    cluster: Cluster,
}

impl Keyed {
    fn start() -> Keyed {
        let mut cluster = Cluster::empty();
        cluster.ok(&["init", "--node", "n1", "--address", "127.0.0.1"]);
        let door = "127.0.0.1:0";
        let words = ["agent", "--node", "n1", "--etcd", door, "--http", door, "--gossip", door, "--rpc", door];
        cluster.start_with(&words, &[("REGROW_LOG", "trace")]);
        until("the agent answers", || cluster.try_status());
        Keyed { cluster }
    }

    fn door(&self, name: &str) -> String {
        let doors: Value = serde_json::from_str(&self.cluster.read("data/doors.json")).expect("JSON");
        doors[name].as_str().expect("a door").to_owned()
    }

    fn ca(&self) -> String {
        self.cluster.path("data/keys/ca.pem").display().to_string()
    }

    /// A new token.
    fn token(&self, name: &str, words: &[&str]) -> String {
        self.cluster.ok(&[&["token", "create", name], words].concat()).trim().to_owned()
    }

    /// `etcdctl`, showing a token as its user's password.
    fn etcdctl(&self, token: &str, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--command-timeout=60s", "--cacert", &self.ca()]);
        command.args(["--endpoints", &format!("https://{}", self.door("etcd"))]);
        if !token.is_empty() {
            // Not an argument: those can be seen by everybody on the machine.
            command.env("ETCDCTL_USER", format!("ci:{token}"));
        }
        command.args(words).stdin(Stdio::null());
        command
    }

    /// `curl`: status and body.
    fn curl(&self, words: &[&str], url: &str) -> (String, String) {
        let mut command = Command::new("curl");
        command.args(["-sS", "-m", "60", "-w", "\n%{http_code}", "--cacert", &self.ca()]).args(words).arg(url);
        let text = all(&command.output().expect("curl runs"));
        let (body, status) = text.trim_end().rsplit_once('\n').unwrap_or(("", &text));
        (status.to_owned(), body.to_owned())
    }

    fn audit(&self, who: &str) -> Vec<Value> {
        let lines = self.cluster.ok(&["audit", "--json", "--last", "1000", "--who", who]);
        lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }
}

fn all(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

fn is_installed(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// Real clients show a token each in its way; it opens what it was made for and nothing else; once revoked it opens nothing,
/// and what is open under it ends. The audit log tells all of it.
#[test]
fn tokens_with_real_clients() {
    if !is_installed("etcdctl") || !is_installed("curl") {
        return;
    }
    let agent = Keyed::start();
    let ci = agent.token("ci", &["--role", "operator", "--prefix", "/app/"]);
    let run = |token: &str, words: &[&str]| all(&agent.etcdctl(token, words).output().expect("etcdctl runs"));
    assert_eq!(run(&ci, &["put", "/app/a", "1"]), "OK\n");
    assert_eq!(run(&ci, &["get", "/app/", "--prefix", "--print-value-only"]), "1\n");
    let denied = run(&ci, &["put", "/web/a", "1"]);
    assert!(denied.contains("etcdserver: permission denied"), "{denied}");
    let nobody = run("", &["get", "/app/a"]);
    assert!(nobody.contains("etcdserver: user name is empty"), "{nobody}");
    let wrong = run("rgw_wrong", &["get", "/app/a"]);
    assert!(wrong.contains("authentication failed"), "{wrong}");

    let (etcd, http) = (format!("https://{}", agent.door("etcd")), format!("https://{}", agent.door("http")));
    let (bearer, basic) = (format!("authorization: Bearer {ci}"), format!("x:{ci}"));
    let key = |name: &str| format!("{etcd}/v2/keys/{name}");
    assert_eq!(agent.curl(&["-H", &bearer], &key("app/a")).0, "200");
    assert_eq!(agent.curl(&["-u", &basic], &key("app/a")).0, "200");
    assert_eq!(agent.curl(&["-u", &basic, "-X", "PUT", "-d", "value=2"], &key("web/a")).0, "401");
    assert_eq!(agent.curl(&[], &key("app/a")).0, "401");
    let (status, body) = agent.curl(&["-H", &bearer], &format!("{http}/api/status"));
    assert_eq!(status, "403");
    assert!(
        body.contains("token/ci (operator of keys under /app/) may not read what is of the kind cluster"),
        "{body}"
    );
    assert_eq!(agent.curl(&[], &format!("{http}/api/status")).0, "401");
    assert_eq!(agent.curl(&[], &format!("{http}/api/health")).0, "200");

    let mut watch = agent.etcdctl(&ci, &["watch", "/app/", "--prefix"]);
    let mut watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("etcdctl runs");
    let told = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let (sender, seen) = std::sync::mpsc::channel();
    // To the end: a pipe that nobody reads would end it too.
    let reader = std::thread::spawn(move || told.map_while(Result::ok).for_each(|line| drop(sender.send(line))));
    // The watch is there when it tells of a put; until then there are more.
    until("the watch tells", || {
        run(&ci, &["put", "/app/w", "1"]);
        seen.try_recv().ok()
    });
    assert!(watch.try_wait().expect("it is a child").is_none(), "the watch goes on");
    agent.cluster.ok(&["token", "revoke", "ci"]);
    until("the watch has ended", || watch.try_wait().expect("it is a child"));
    reader.join().expect("it reads to the end");
    let over = run(&ci, &["get", "/app/a"]);
    assert!(over.contains("authentication failed"), "{over}");
    assert_eq!(agent.curl(&["-H", &bearer], &key("app/a")).0, "401");

    let told = until("the audit log tells", || {
        let told = agent.audit("token/ci");
        told.iter().any(|line| line["outcome"] == "refused").then_some(told)
    });
    let has = |did: &str, to: &str, outcome: &str| {
        told.iter().any(|line| line["did"] == did && line["to"][0] == to && line["outcome"] == outcome)
    };
    assert!(has("put", "/app/a", "done") && has("put", "/web/a", "refused"), "{told:#?}");
    assert!(told.iter().all(|line| line["from"].as_str().is_some_and(|from| from.starts_with("127.0.0.1:"))));
}

/// Python's packages show a token as they show a user's password. It opens what it was made for; when it is revoked their
/// watches end and they are refused.
#[test]
fn tokens_with_python() {
    let agent = Keyed::start();
    for (name, packages, script) in
        [("three", python::ETCD3, "etcd3_token.py"), ("two", python::ETCD2, "etcd2_token.py")]
    {
        let Some(mut command) = python::script(packages, script) else { continue };
        let token = agent.token(name, &["--role", "operator", "--prefix", "app/", "--prefix", "/app/"]);
        let (etcd, ca) = (agent.door("etcd"), agent.ca());
        let (host, port) = etcd.rsplit_once(':').expect("an address");
        let mut client = command
            .args([host, port, &ca])
            .env("TOKEN", token)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut said = BufReader::new(client.stdout.take().expect("piped")).lines().map_while(Result::ok);
        let first = said.next();
        if first.as_deref() == Some("open") {
            agent.cluster.ok(&["token", "revoke", name]);
        }
        let last = said.last();
        let output = client.wait_with_output().expect("python ends");
        assert!(
            output.status.success() && last.as_deref() == Some("done"),
            "{script}: {first:?} {last:?} {}",
            all(&output)
        );
    }
}

/// A change by the API has the same cause in the audit log as its events.
#[test]
fn causes_are_those_of_the_events() {
    let agent = Keyed::start();
    agent.cluster.ok(&["pause", "a test"]);
    let told = until("the audit log tells", || {
        let told = agent.audit("owner");
        told.iter().find(|line| line["to"][0] == "/api/pause").cloned()
    });
    let cause = told["cause"].as_str().expect("a cause");
    let events = agent.cluster.ok(&["events", "--json", "--cause", cause]);
    assert!(events.contains("\"paused\""), "{told} {events}");
}

/// Credentials that were used in every way are found nowhere but in the files that were made for them: not in the log at its
/// loudest, the audit log, events, records, the data folder, or what the system shows of the agent.
#[test]
fn no_credential_is_seen() {
    if !is_installed("etcdctl") || !is_installed("curl") {
        return;
    }
    let agent = Keyed::start();
    let admin = agent.cluster.read("data/keys/admin.token").trim().to_owned();
    let (ci, gone) = (agent.token("ci", &["--role", "operator"]), agent.token("gone", &["--role", "reader"]));
    agent.cluster.ok(&["token", "revoke", "gone"]);
    let unknown = format!("rgw_{}", "Unknown".repeat(7).split_at(43).0);
    let (etcd, http) = (format!("https://{}", agent.door("etcd")), format!("https://{}", agent.door("http")));
    for token in [&admin, &ci, &gone, &unknown] {
        let bearer = format!("authorization: Bearer {token}");
        agent.etcdctl(token, &["put", "/app/a", "1"]).output().expect("etcdctl runs");
        agent.curl(&["-H", &bearer], &format!("{etcd}/v2/keys/app/a"));
        agent.curl(&["-u", &format!("{token}:{token}")], &format!("{etcd}/v2/keys/app/a"));
        agent.curl(&["-H", &bearer], &format!("{http}/api/status"));
        agent.curl(&["-H", &bearer], &format!("{http}/api/nowhere"));
    }
    let everything = agent.etcdctl(&admin, &["get", "", "--prefix"]).output().expect("etcdctl runs");
    assert!(all(&everything).contains("/regrow/access/token/ci"), "an administrator sees the records");
    let pid = agent.cluster.agent_pid();
    let mut shown = vec![
        ("the store".to_owned(), everything.stdout),
        ("the log".to_owned(), agent.cluster.log().into_bytes()),
        ("the events".to_owned(), agent.cluster.ok(&["events", "--json"]).into_bytes()),
        ("the audit log".to_owned(), agent.cluster.ok(&["audit", "--json", "--last", "10000"]).into_bytes()),
        ("the tokens".to_owned(), agent.cluster.ok(&["token", "ls", "--json"]).into_bytes()),
        ("the process list".to_owned(), std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs")),
        ("the environment".to_owned(), std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default()),
    ];
    files(&agent.cluster.path("data"), &mut shown);
    assert!(shown.iter().any(|(name, _)| name.ends_with("audit.jsonl")), "the audit log is among the files");
    for token in [&admin, &ci, &gone, &unknown] {
        let secret = token.trim_start_matches("rgw_").as_bytes();
        for (name, bytes) in &shown {
            let found = bytes.windows(secret.len()).any(|window| window == secret);
            assert!(!found || name.ends_with("keys/admin.token"), "{name} has a token");
        }
    }
}

fn files(folder: &Path, all: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, kind) = (entry.path(), entry.file_type().expect("a kind"));
        if kind.is_dir() {
            files(&path, all);
        } else if kind.is_file() {
            all.push((path.display().to_string(), std::fs::read(&path).expect("a file")));
        }
    }
}

/// The page of the guide shows what happens.
#[test]
fn the_guide_is_true() {
    let agent = Keyed::start();
    guide::run("access.md", |shell| {
        shell.current_dir(agent.cluster.folder.path()).env("REGROW_DATA", agent.cluster.path("data"));
        shell.env_remove("REGROW_AGENT").env("NO_COLOR", "1");
    });
}
