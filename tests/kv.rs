//! `regrow kv`, on an agent's own store and on a real etcd, and the examples of the guide.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::io::Write;
use std::process::{Output, Stdio};
use support::etcd::Etcd;
use support::{Cluster, guide, until};

/// A folder whose `kv` commands are about some store.
struct Keys {
    cluster: Cluster,
    store: Option<String>,
    /// Lives as long as the test.
    _etcd: Option<Etcd>,
}

impl Keys {
    /// The store of an agent, found through its data folder.
    fn of_agent() -> Keys {
        let mut cluster = Cluster::empty();
        cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
        until("the agent answers", || cluster.try_status());
        Keys { cluster, store: None, _etcd: None }
    }

    /// A real etcd, named with `--store`; `None` where it is not installed.
    fn of_etcd() -> Option<Keys> {
        let etcd = Etcd::start(1)?;
        Some(Keys { cluster: Cluster::empty(), store: Some(etcd.urls()), _etcd: Some(etcd) })
    }

    fn run(&self, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.cluster.command(&["kv"]);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.args(self.store.iter().flat_map(|store| ["--store", store]));
        let mut child = command.spawn().expect("the binary runs");
        // Not every command reads; one that does not may be gone already.
        let _ = child.stdin.take().expect("piped").write_all(input);
        child.wait_with_output().expect("it ends")
    }

    fn bytes(&self, words: &[&str]) -> Vec<u8> {
        let output = self.run(words, b"");
        assert!(output.status.success(), "kv {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    fn ok(&self, words: &[&str]) -> String {
        String::from_utf8(self.bytes(words)).expect("UTF-8")
    }

    fn fails(&self, code: i32, words: &[&str], input: &str) -> String {
        let output = self.run(words, input.as_bytes());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "kv {words:?}: {said}");
        said
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[words, &["--json"]].concat())).expect("JSON")
    }

    fn put(&self, key: &str, value: &str) -> i64 {
        self.json(&["put", key, value])["revision"].as_i64().expect("a revision")
    }
}

/// Every command, on one store.
fn every_command(keys: &Keys) {
    let first = keys.put("k/a", "1");
    assert_eq!(keys.ok(&["get", "k/a"]), "1", "a value is printed as it is");
    let second = keys.put("k/a", "2");
    keys.put("k/b", "with\nline and \\ and \u{fc}");
    assert_eq!(keys.ok(&["get", "k/", "--prefix"]), "k/a\t2\nk/b\twith\\nline and \\\\ and \u{fc}\n");
    assert_eq!(keys.ok(&["get", "k/", "--prefix", "--limit", "1"]), "k/a\t2\n");
    assert_eq!(keys.ok(&["get", "k/a", "--revision", &first.to_string()]), "1");
    let kv = keys.json(&["get", "k/a"]);
    assert_eq!((&kv["value"], &kv["version"], kv["mod_revision"].as_i64()), (&"2".into(), &2.into(), Some(second)));
    keys.fails(4, &["get", "k/none"], "");

    // Any bytes come back as they went in.
    let binary: Vec<u8> = (0..=255).collect();
    assert!(keys.run(&["put", "k/bin", "-"], &binary).status.success());
    assert_eq!(keys.bytes(&["get", "k/bin"]), binary);
    assert!(keys.json(&["get", "k/bin"])["value_base64"].as_str().is_some_and(|text| text.starts_with("AAEC")));
    assert_eq!(keys.ok(&["ls", "k/"]), "k/a\nk/b\nk/bin\n");
    let large = keys.run(&["put", "k/large"], &vec![b'x'; 1_600_000]);
    assert_eq!(large.status.code(), Some(2), "{}", String::from_utf8_lossy(&large.stderr));

    assert!(keys.fails(3, &["put", "k/a", "3", "--if-revision", &first.to_string()], "").contains("has changed"));
    assert!(keys.ok(&["put", "k/a", "3", "--if-revision", &second.to_string()]).is_empty());

    // A transaction: both branches, the refusal, the rehearsal.
    let swap = |from: &str, to: &str, otherwise: &str| {
        format!(
            r#"{{"if": [{{"key": "k/a", "value": "{from}"}}], "then": [{{"put": "k/a", "value": "{to}"}}]{otherwise}}}"#
        )
    };
    let txn = |text: String, words: &[&str]| {
        let output = keys.run(&[&["txn"], words].concat(), text.as_bytes());
        (output.status.code(), String::from_utf8(output.stdout).expect("UTF-8"))
    };
    assert_eq!(txn(swap("3", "4", ""), &["--dry-run"]), (Some(0), "then\n".to_owned()));
    assert_eq!(txn(swap("3", "4", ""), &[]), (Some(0), "then\n".to_owned()));
    assert_eq!(txn(swap("3", "5", ""), &[]), (Some(3), "else\n".to_owned()));
    assert_eq!(txn(swap("3", "5", r#", "else": [{"get": "k/a"}]"#), &[]), (Some(0), "else\nk/a\t4\n".to_owned()));
    assert!(keys.fails(2, &["txn"], "{}").contains("missing field `then`"));

    // History: all four values, the deletion, the life after it.
    keys.ok(&["del", "k/a"]);
    let again = keys.put("k/a", "again");
    let history = keys.ok(&["history", "k/a"]);
    let values: Vec<&str> = history.lines().map(|line| line.split('\t').next_back().expect("a field")).collect();
    assert_eq!(values, ["1", "2", "3", "4", "delete", "again"], "{history}");
    assert_eq!(keys.ok(&["history", "k/a", "--limit", "1"]), format!("{again}\t-\tput\tagain\n"));
    keys.fails(4, &["history", "k/none"], "");
    keys.ok(&["del", "k/b"]);
    assert!(keys.ok(&["history", "k/b"]).ends_with("\tdelete\n"), "of a key that is gone too");

    // What changed, and taking it back, one key and several.
    let diff = keys.ok(&["diff", "--from", &second.to_string(), "k/"]);
    assert!(diff.starts_with("~ k/a\n  - 2\n  + again\n+ k/bin\t"), "{diff}");
    let restore = ["restore", "k/", "--prefix", "--revision", &second.to_string()];
    let rehearsed = keys.ok(&[&restore[..], &["--dry-run"]].concat());
    assert_eq!(rehearsed, "put\tk/a\t2\ndelete\tk/bin\n");
    assert_eq!(keys.ok(&["get", "k/a"]), "again", "a rehearsal changes nothing");
    assert_eq!(keys.ok(&restore), rehearsed);
    assert_eq!(keys.ok(&["diff", "--from", &second.to_string(), "k/"]), "", "all is as it was");
    assert_eq!(keys.ok(&["restore", "k/a", "--revision", &first.to_string()]), "put\tk/a\t1\n");
    keys.fails(4, &["restore", "k/a", "--revision", "1000000"], "");

    // A watch from the past gives everything since, in order.
    let watched = keys.ok(&["watch", "k/a", "--revision", &first.to_string(), "--limit", "7"]);
    let seen: Vec<&str> = watched.lines().map(|line| line.split('\t').next_back().expect("a field")).collect();
    assert_eq!(seen, ["1", "2", "3", "4", "k/a", "again", "2"], "{watched}");

    assert_eq!(keys.ok(&["del", "k/", "--prefix", "--dry-run"]), "k/a\n");
    assert_eq!(keys.ok(&["del", "k/", "--prefix"]), "1\n");
    assert_eq!(keys.ok(&["ls", "k/"]), "");
    assert!(keys.fails(2, &["del", "", "--prefix"], "").contains("every key of the store"));
}

#[test]
fn every_command_on_an_agents_store() {
    every_command(&Keys::of_agent());
}

#[test]
fn every_command_on_a_real_etcd() {
    let Some(keys) = Keys::of_etcd() else { return };
    every_command(&keys);
}

/// What is compacted is told as such, and a history then begins with the value of that time.
#[test]
fn a_history_begins_where_the_store_was_compacted() {
    let Some(keys) = Keys::of_etcd() else { return };
    let first = keys.put("k", "1");
    keys.put("k", "2");
    let kept = keys.put("other", "x");
    keys.put("k", "3");
    let etcd = keys._etcd.as_ref().expect("a real one");
    etcd.with(|store| async move {
        let request = regrow_store::CompactRequest { revision: regrow_store::Revision(kept), physical: true };
        regrow_store::Store::compact(&store, request).await.expect("etcd compacts");
    });
    let history = keys.ok(&["history", "k"]);
    let values: Vec<&str> = history.lines().map(|line| line.split('\t').next_back().expect("a field")).collect();
    assert_eq!(values, ["2", "3"], "{history}");
    assert!(keys.fails(4, &["get", "k", "--revision", &first.to_string()], "").contains("compacted"));
}

/// Regrow's own records have times, and nobody has to know where the store is.
#[test]
fn a_record_has_a_history_with_times() {
    let keys = Keys::of_agent();
    keys.cluster.write("regrow.yaml", "cluster: shop\n");
    keys.cluster.ok(&["apply"]);
    let history = keys.json(&["history", "/regrow/desired/cluster"]);
    assert!(history["at"].as_u64().is_some_and(|at| at > 1_700_000_000_000), "{history}");
    let empty = Cluster::empty();
    assert!(empty.fails(5, &["kv", "ls"]).contains("name the store with --store"));
}

/// The page of the guide shows what happens.
#[test]
fn the_guide_is_true() {
    let mut cluster = Cluster::empty();
    cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
    until("the agent answers", || cluster.try_status());
    guide::run("store.md", |shell| {
        shell.current_dir(cluster.folder.path()).env("REGROW_DATA", cluster.path("data"));
        shell.env_remove("REGROW_STORE").env("NO_COLOR", "1");
    });
}
