//! `regrow store status|snapshot|restore|compact` on an agent's own store and on a real etcd (`etcd-server`, `etcd-client`
//! on Debian; what needs them is skipped where they are not installed).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::process::Command;
use support::etcd::Etcd;
use support::etcd3::Agent;
use support::{Cluster, until};

fn json(cluster: &Cluster, words: &[&str]) -> Value {
    serde_json::from_str(&cluster.ok(&[&["store"], words, &["--json"]].concat())).expect("JSON")
}

fn agent() -> Cluster {
    let mut cluster = Cluster::empty();
    cluster.start(&["agent", "--etcd", "127.0.0.1:0"]);
    until("the agent answers", || cluster.try_status());
    cluster
}

/// Keys, versions, leases and history of an agent's store are the same in one restored from its snapshot, by `etcdctl`'s
/// own eyes; and so are those of a real etcd's snapshot, compacted in the middle of its history.
#[test]
fn a_restored_store_is_the_same() {
    let Some(agent) = Agent::start() else { return };
    let Some(etcd) = support::etcd3::Etcd::start() else { return };
    for (number, store) in [&*agent, &*etcd].into_iter().enumerate() {
        for key in 0..60 {
            store.ok(&["put", &format!("k/{key:02}"), "first"]);
        }
        store.ok(&["del", "k/1", "--prefix"]);
        store.ok(&["put", "k/05", "second"]);
        let compacted = store.revision();
        store.ok(&["put", "k/05", "third"]);
        store.ok(&["del", "k/2", "--prefix"]);
        let said = store.ok(&["lease", "grant", "600"]);
        let lease = said.split(' ').nth(1).expect("an id");
        store.ok(&["put", "leased", "1", "--lease", lease]);
        store.ok(&["put", "k/11", &"long ".repeat(20_000)]);
        store.txn("\nput t/a 1\nput t/b 2\ndel k/30\n\n\n");
        if number == 1 {
            store.ok(&["compact", &compacted.to_string()]);
        }
        store.ok(&["snapshot", "save", "theirs.db"]);
        let url = format!("http://{}", store.endpoint);
        let ours = agent.cluster.ok(&["store", "snapshot", "ours.db", "--store", &url, "--json"]);
        let ours: Value = serde_json::from_str(&ours).expect("JSON");
        assert_eq!(ours["revision"], store.revision(), "{ours}");

        let theirs = store.folder.join("theirs.db").display().to_string();
        for (file, data) in [("ours.db", format!("from-ours-{number}")), (&theirs, format!("from-theirs-{number}"))] {
            let told: Value =
                serde_json::from_str(&agent.cluster.ok(&["store", "restore", file, "--data", &data, "--json"]))
                    .expect("JSON");
            assert_eq!(told["revision"], store.revision(), "{told}");
            let refused = agent.cluster.fails(3, &["store", "restore", file, "--data", &data]);
            assert!(refused.contains("has a store already"), "{refused}");
            let restored = Restored::start(&agent, &data, number == 0 && file == "ours.db");
            // The agent that runs on it has written since: what was there is compared as of then.
            let at = |words: &[&str], revision: i64| {
                let revision = revision.to_string();
                let words = [words, &["--rev", &revision]].concat();
                let [one, other] = [store, &restored.ctl].map(|ctl| {
                    let mut answer = ctl.json(&words);
                    answer.as_object_mut().expect("an object").remove("header");
                    answer
                });
                assert_eq!(one, other, "{file} {words:?}");
            };
            at(&["get", "", "--from-key"], store.revision());
            at(&["get", "", "--from-key"], compacted);
            at(&["get", "k/05"], compacted + 1);
            let keys = ["lease", "timetolive", lease, "--keys"];
            let attached = restored.ctl.ok(&keys);
            assert!(attached.contains("granted with TTL(600s)") && attached.contains("keys([leased])"), "{attached}");
            let from = (compacted + 1).to_string();
            let history = |ctl: &support::etcd3::Ctl| ctl.follow(&["watch", "k/", "--prefix", "--rev", &from]).lines(9);
            assert_eq!(history(store), history(&restored.ctl), "{file}");
        }
    }
}

/// A second agent on a restored folder.
struct Restored {
    _cluster: Cluster,
    ctl: support::etcd3::Ctl,
}

impl Restored {
    /// `same`: under the name of the agent that was copied, whose claim is in the copy.
    fn start(agent: &Agent, data: &str, same: bool) -> Restored {
        let mut cluster = Cluster::empty();
        let from = agent.cluster.path(data);
        Command::new("mv").arg(&from).arg(cluster.path("data")).status().expect("mv runs");
        let words = ["agent", "--etcd", "127.0.0.1:0", "--node", "restored"];
        cluster.start(if same { &words[..3] } else { &words });
        until("the agent answers", || cluster.try_status());
        let doors: Value = serde_json::from_str(&cluster.read("data/doors.json")).expect("JSON");
        let endpoint = doors["etcd"].as_str().expect("a door").to_owned();
        let ctl = support::etcd3::Ctl { endpoint, folder: cluster.folder.path().to_owned() };
        Restored { _cluster: cluster, ctl }
    }
}

/// A copy that was cut off, changed, or is something else is refused with a sentence and leaves nothing behind; a copy that
/// cannot be written leaves no file.
#[test]
fn damaged_copies_are_refused() {
    let cluster = agent();
    cluster.ok(&["kv", "put", "a", "1"]);
    cluster.ok(&["store", "snapshot", "copy.db"]);
    let whole = std::fs::read(cluster.path("copy.db")).expect("the copy");
    let mut flipped = whole.clone();
    flipped[9_000] ^= 1;
    let cut = &whole[..whole.len() - 512];
    for (bytes, expect) in [
        (&flipped[..], "checksum is wrong"),
        (cut, "checksum"),
        (&whole[..whole.len() - 1], "cut off"),
        (b"no", "cut off"),
    ] {
        std::fs::write(cluster.path("bad.db"), bytes).expect("written");
        let said = cluster.fails(1, &["store", "restore", "bad.db", "--data", "new"]);
        assert!(said.contains(expect) && said.contains("nothing was restored"), "{said}");
        assert!(!cluster.path("new").join("store").exists() && !cluster.path("new").join("store.part").exists());
    }
    assert!(cluster.fails(1, &["store", "restore", "none.db", "--data", "new"]).contains("none.db"));
    assert!(cluster.fails(1, &["store", "snapshot", "no/such/folder/copy.db"]).contains("nothing was written"));
    let left: Vec<String> = std::fs::read_dir(cluster.folder.path())
        .expect("a folder")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.contains(".part"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Three real members: the leader, a follower, and one that was killed are told apart, and the codes tell them too.
/// Compaction keeps what was asked for.
#[test]
fn status_and_compaction_of_three_members() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let cluster = Cluster::empty();
    let urls = etcd.urls();
    let first = urls.split(',').next().expect("a URL").to_owned();
    for value in 0..20 {
        cluster.ok(&["kv", "put", "k", &value.to_string(), "--store", &urls]);
    }
    // One endpoint is enough: it knows the others.
    let status = json(&cluster, &["status", "--store", &first]);
    let members = status["members"].as_array().expect("members");
    assert_eq!(members.len(), 3, "{status:#}");
    assert_eq!(members.iter().filter(|member| member["leader"] == true).count(), 1, "{status:#}");
    assert_eq!((&status["keys"], &status["compacted_revision"]), (&1.into(), &1.into()), "{status:#}");

    let now = status["revision"].as_i64().expect("a number");
    let rehearsed = json(&cluster, &["compact", "--keep", "5", "--dry-run", "--store", &urls]);
    assert_eq!(rehearsed["compacted_revision"], now - 4, "{rehearsed}");
    assert_eq!(json(&cluster, &["status", "--store", &first])["compacted_revision"], 1, "a rehearsal changes nothing");
    cluster.ok(&["store", "compact", "--keep", "5", "--store", &urls]);
    assert_eq!(json(&cluster, &["status", "--store", &first])["compacted_revision"], now - 4);
    assert_eq!(json(&cluster, &["compact", "2", "--store", &urls])["given_up"], 0, "it is given up already");
    cluster.fails(4, &["store", "compact", "1000000", "--store", &urls]);
    cluster.fails(2, &["store", "compact", "3", "--keep", "3"]);

    let follower = (etcd.leader() + 1) % 3;
    etcd.kill(follower);
    let output = cluster.run(&["store", "status", "--store", &urls]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("no answer") && text.contains("leader") && text.contains("behind"), "{text}");
    cluster.fails(5, &["store", "status"]);
}
