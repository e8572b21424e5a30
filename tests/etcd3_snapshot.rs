//! `etcdctl snapshot` on an agent: what is saved is a database that the real tool reads, and restores into a folder that
//! a real etcd starts on. Skipped where etcd is not installed (`etcd-server`, `etcd-client` on Debian).

mod support;

use std::io::Write;
use std::process::{Command, Stdio};
use support::etcd3::{Agent, Ctl, Etcd, MEMBER};

/// Saves a snapshot of the agent and starts a real etcd on what `etcdctl` restores from it.
fn restore(agent: &Agent) -> Option<Etcd> {
    agent.ok(&["snapshot", "save", "copy.db"]);
    let file = agent.folder.join("copy.db");
    Etcd::start_on(|folder| {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["snapshot", "restore"]).arg(&file);
        // The peer's address is of no use here: it is asked for, and has to be that of the member in its cluster.
        command.args(["--name", MEMBER, "--initial-cluster", "real=http://127.0.0.1:1"]);
        command.args(["--initial-advertise-peer-urls", "http://127.0.0.1:1", "--data-dir"]);
        let output = command.arg(folder.join("data")).output().expect("etcdctl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    })
}

fn put(ctl: &Ctl, key: &str, value: &[u8]) {
    let mut child = ctl.command(&["put", key]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(value).expect("it reads");
    assert!(child.wait().expect("it ends").success(), "put {key}");
}

/// Keys with their revisions, versions and leases, their history from the compacted revision on, and the leases are the
/// same in a real etcd as in the agent; and etcd goes on from there: it puts, deletes, and ends a lease with its keys.
#[test]
fn a_real_etcd_starts_from_a_snapshot() {
    let Some(agent) = Agent::start() else { return };
    for key in 0..40 {
        agent.ok(&["put", &format!("k/{key:02}"), "first"]);
    }
    agent.ok(&["del", "k/1", "--prefix"]);
    let compacted = agent.revision();
    agent.ok(&["put", "k/05", "second"]);
    let past = agent.revision();
    agent.ok(&["compact", &compacted.to_string()]);
    let mut granted: Vec<(u32, String)> = Vec::new();
    for seconds in [600, 300, 900, 100] {
        let said = agent.ok(&["lease", "grant", &seconds.to_string()]);
        granted.push((seconds, said.split(' ').nth(1).expect("an id").to_owned()));
    }
    let lease = granted[0].1.clone();
    let lease = lease.as_str();
    agent.ok(&["put", "leased/a", "1", "--lease", lease]);
    granted.sort();
    let by_time: Vec<String> = granted.iter().map(|(_, id)| id.clone()).collect();
    put(&agent, "large", &vec![0xfe; 1_400_000]);
    put(&agent, "page", &[b'p'; 4000]);
    agent.ok(&["put", "empty", ""]);
    agent.ok(&["del", "k/2", "--prefix"]);
    agent.ok(&["put", "k/20", "again"]);
    agent.txn("\nput t/a 1\nput t/b 2\ndel k/30\n\n\n");
    let revision = agent.revision();

    let Some(etcd) = restore(&agent) else { return };
    assert_eq!(etcd.revision(), revision);
    let same = |words: &[&str]| {
        let [ours, real] = [agent.json(words), etcd.json(words)].map(|mut answer| {
            answer.as_object_mut().expect("an object").remove("header");
            answer
        });
        assert_eq!(ours, real, "{words:?}");
    };
    same(&["get", "", "--from-key"]);
    same(&["get", "", "--from-key", "--rev", &past.to_string()]);
    same(&["get", "", "--from-key", "--rev", &compacted.to_string()]);
    // By what is left of their time, of which a restored lease has all again; only those of equal times may change places.
    let leases = |ctl: &Ctl, known: &dyn Fn(&&str) -> bool| -> Vec<String> {
        ctl.ok(&["lease", "list"]).lines().filter(known).map(str::to_owned).collect()
    };
    let granted = |id: &&str| granted.iter().any(|(_, ours)| ours == id);
    assert_eq!(leases(&agent, &granted), by_time);
    assert_eq!(leases(&etcd, &granted), by_time);
    let all = |ctl: &Ctl| {
        let mut all = leases(ctl, &|_| true);
        all.sort();
        all
    };
    assert_eq!(all(&agent), all(&etcd));
    let early = (compacted - 1).to_string();
    assert!(etcd.fails(&["get", "k/05", "--rev", &early]).contains("required revision has been compacted"));
    let history = |ctl: &Ctl| ctl.follow(&["watch", "k/", "--prefix", "--rev", &past.to_string()]).lines(3);
    assert_eq!(history(&agent), history(&etcd));
    assert_eq!(agent.json(&["endpoint", "hashkv"])[0]["HashKV"]["compact_revision"], compacted);

    let attached = etcd.ok(&["lease", "timetolive", lease, "--keys"]);
    assert!(
        attached.contains("granted with TTL(600s)") && attached.contains("attached keys([leased/a])"),
        "{attached}"
    );
    etcd.ok(&["lease", "revoke", lease]);
    assert_eq!(etcd.ok(&["get", "leased/a"]), "");
    etcd.ok(&["put", "k/20", "new"]);
    assert_eq!(etcd.ok(&["del", "k/", "--prefix"]), "20\n");
    assert_eq!(etcd.revision(), revision + 3);
    etcd.ok(&["compact", &etcd.revision().to_string()]);
    etcd.ok(&["defrag"]);
    assert_eq!(etcd.ok(&["get", "t/", "--prefix"]), "t/a\n1\nt/b\n2\n");
}

/// An agent whose store has next to nothing in it can be copied too; and a copy that lost a byte is refused.
#[test]
fn a_fresh_store_is_copied_and_a_damaged_copy_refused() {
    let Some(agent) = Agent::start() else { return };
    let Some(etcd) = restore(&agent) else { return };
    assert_eq!(etcd.revision(), agent.revision());
    etcd.ok(&["put", "a", "1"]);
    let status = |file: &str| {
        let output = agent.run(&["snapshot", "status", file, "-w", "json"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()
    };
    assert_eq!(status("copy.db").expect("a status")["revision"], agent.revision());
    let mut bytes = std::fs::read(agent.folder.join("copy.db")).expect("the copy");
    assert_eq!(bytes.len() % 512, 32, "a database and its SHA-256");
    bytes[9000] ^= 1;
    std::fs::write(agent.folder.join("bad.db"), bytes).expect("written");
    let said = agent.fails(&["snapshot", "restore", "bad.db", "--data-dir", "bad"]);
    assert!(said.contains("expected sha256"), "{said}");
}
