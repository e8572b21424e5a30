//! `etcdctl` as it comes, with API 3, against the etcd door of a running agent. Skipped where it is not installed
//! (`etcd-client` on Debian).

mod support;

use std::io::{Read, Write};
use std::process::Stdio;
use support::etcd3::Agent;
use support::{Cluster, until};

/// put, get with its options, del; binary and large values, and what is too large.
#[test]
fn keys() {
    let Some(agent) = Agent::start() else { return };
    for (key, value) in [("k/a", "3"), ("k/b", "1"), ("k/c", "2")] {
        assert_eq!(agent.ok(&["put", key, value]), "OK\n");
    }
    let first = agent.revision();
    assert_eq!(agent.ok(&["put", "k/b", "4", "--prev-kv"]), "OK\nk/b\n1\n");
    assert_eq!(agent.ok(&["get", "k/", "--prefix"]), "k/a\n3\nk/b\n4\nk/c\n2\n");
    assert_eq!(agent.ok(&["get", "k/", "--prefix", "--rev", &first.to_string(), "--print-value-only"]), "3\n1\n2\n");
    let sorted = ["get", "k/", "--prefix", "--sort-by=value", "--order=descend", "--limit=2", "--print-value-only"];
    assert_eq!(agent.ok(&sorted), "4\n3\n");
    assert_eq!(agent.ok(&["get", "k/b", "k/c"]), "k/b\n4\n");
    assert_eq!(agent.ok(&["get", "k/b", "--from-key", "--keys-only"]), "k/b\n\nk/c\n\n");
    assert_eq!(agent.json(&["get", "k/", "--prefix", "--limit=1"])["count"], 3);
    assert_eq!(agent.ok(&["put", "k/b", "--ignore-value", "--prev-kv"]), "OK\nk/b\n4\n");
    assert_eq!(agent.ok(&["get", "k/b", "--consistency=s", "--print-value-only"]), "4\n");
    assert_eq!(agent.ok(&["del", "k/", "--prefix", "--prev-kv"]), "3\nk/a\n3\nk/b\n4\nk/c\n2\n");
    assert_eq!(agent.ok(&["del", "k/a"]), "0\n");
    let put = |bytes: usize| {
        let mut child = agent.command(&["put", "large"]);
        let mut child =
            child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("piped").write_all(&vec![0xfe; bytes]).expect("it reads");
        let output = child.wait_with_output().expect("it ends");
        String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8")
    };
    assert_eq!(put(1_500_000), "OK\n");
    assert!(put(1_600_000).ends_with("Error: etcdserver: request is too large\n"));
    let kv = agent.json(&["get", "large"]);
    assert_eq!(kv["kvs"][0]["value"].as_str().map(str::len), Some(2_000_000), "all bytes, in base64");
}

/// Transactions with each kind of comparison, and the two branches.
#[test]
fn transactions() {
    let Some(agent) = Agent::start() else { return };
    agent.ok(&["put", "a", "1"]);
    let revision = agent.revision();
    let both = "\n\nput a yes\nget a\n\nput a no\n\n";
    for (compare, expect) in [
        (r#"val("a") = "1""#, "SUCCESS"),
        (r#"val("a") = "1""#, "FAILURE"),
        (r#"ver("a") > "2""#, "SUCCESS"),
        (r#"create("none") = "0""#, "SUCCESS"),
        (&format!(r#"create("a") < "{revision}""#), "FAILURE"),
        (&format!(r#"mod("a") != "{revision}""#), "SUCCESS"),
    ] {
        let said = agent.txn(&format!("{compare}{both}"));
        assert!(said.starts_with(expect), "{compare}: {said}");
    }
    let many: String = (0..129).map(|key| format!("put k{key} v\n")).collect();
    let mut child = agent.command(&["txn"]);
    let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    child.stdin.take().expect("piped").write_all(format!("\n{many}\n\n").as_bytes()).expect("it reads");
    let said = child.wait_with_output().expect("it ends").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("Error: etcdserver: too many operations in txn request"), "{said}");
}

/// Watches: now, from the past, a prefix, with the values before, and from what is compacted.
#[test]
fn watches() {
    let Some(agent) = Agent::start() else { return };
    agent.ok(&["put", "w/a", "1"]);
    let start = agent.revision();
    let mut past = agent.follow(&["watch", "w/", "--prefix", "--rev", &start.to_string(), "--prev-kv"]);
    assert_eq!(past.lines(3), ["PUT", "w/a", "1"]);
    agent.ok(&["put", "w/a", "2"]);
    agent.ok(&["put", "x", "2"]);
    agent.ok(&["del", "w/a"]);
    assert_eq!(past.lines(5), ["PUT", "w/a", "1", "w/a", "2"]);
    assert_eq!(past.lines(4), ["DELETE", "w/a", "2", "w/a"]);
    let now = agent.revision();
    assert_eq!(agent.ok(&["compact", &now.to_string()]), format!("compacted revision {now}\n"));
    assert!(agent.fails(&["compact", &now.to_string()]).contains("required revision has been compacted"));
    assert!(agent.fails(&["get", "w/a", "--rev", &start.to_string()]).contains("required revision has been compacted"));
    assert!(agent.fails(&["get", "w/a", "--rev", "99999"]).contains("required revision is a future revision"));
    let said = agent.fails(&["watch", "w/a", "--rev", "1"]);
    assert!(said.contains("watch was canceled (etcdserver: mvcc: required revision has been compacted)"), "{said}");
}

/// Leases: granted, listed, kept alive, with their keys, revoked; and a key that goes with its lease.
#[test]
fn leases() {
    let Some(agent) = Agent::start() else { return };
    let grant = |seconds: &str| {
        let said = agent.ok(&["lease", "grant", seconds]);
        said.split(' ').nth(1).expect("an id").to_owned()
    };
    let (long, short) = (grant("600"), grant("2"));
    agent.ok(&["put", "kept", "1", "--lease", &long]);
    agent.ok(&["put", "gone", "1", "--lease", &short]);
    assert!(agent.ok(&["lease", "list"]).contains(&long));
    let said = agent.ok(&["lease", "timetolive", &long, "--keys"]);
    assert!(said.contains("granted with TTL(600s)") && said.contains("attached keys([kept])"), "{said}");
    let said = agent.ok(&["lease", "keep-alive", &long, "--once"]);
    assert!(said.contains("keepalived with TTL(600)"), "{said}");
    let mut watch = agent.follow(&["watch", "gone", "--rev", "1"]);
    assert_eq!(watch.lines(5), ["PUT", "gone", "1", "DELETE", "gone"], "its lease ends by itself");
    assert!(agent.ok(&["lease", "timetolive", &short]).contains("already expired"));
    assert!(agent.ok(&["lease", "keep-alive", &short]).contains("expired or revoked"));
    agent.ok(&["lease", "revoke", &long]);
    assert_eq!(agent.ok(&["get", "kept"]), "");
    assert!(agent.fails(&["lease", "revoke", &long]).contains("etcdserver: requested lease not found"));
    assert!(agent.fails(&["put", "k", "v", "--lease", &long]).contains("etcdserver: requested lease not found"));
}

/// A lock passes from its holder to the next, and an election from leader to leader, when the first is gone.
#[test]
fn locks_and_elections() {
    let Some(agent) = Agent::start() else { return };
    assert_eq!(agent.ok(&["lock", "l", "echo", "held"]), "held\n");
    let mut first = agent.follow(&["lock", "l", "--ttl=2"]);
    let key = first.line();
    assert!(key.starts_with("l/"), "{key}");
    let mut second = agent.follow(&["lock", "l", "--ttl=2"]);
    // Killed without a word: its lease ends, and with it the lock.
    drop(first);
    let next = second.line();
    assert!(next.starts_with("l/") && next != key, "{next}");

    let mut leader = agent.follow(&["elect", "e", "one"]);
    assert_eq!(leader.lines(2)[1], "one");
    let mut observer = agent.follow(&["elect", "-l", "e"]);
    assert_eq!(observer.lines(2)[1], "one");
    let mut other = agent.follow(&["elect", "e", "two"]);
    support::signal(leader.child.id(), "TERM");
    assert_eq!(other.lines(2)[1], "two");
    assert_eq!(observer.lines(2)[1], "two");
}

/// Members, status, health, checksums, defragmentation, alarms; and a sentence for what is not offered.
#[test]
fn upkeep() {
    let Some(agent) = Agent::start() else { return };
    agent.ok(&["put", "a", "1"]);
    let members = agent.json(&["member", "list"]);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(members["members"][0]["clientURLs"][0], format!("http://{}", agent.endpoint));
    // With `--cluster`, and with a URL for an endpoint, this `etcdctl` writes the URL where HTTP/2 wants a host.
    let url = format!("http://{}", agent.endpoint);
    assert!(agent.ok(&["--endpoints", &url, "defrag"]).starts_with("Finished defragmenting"));
    let status = agent.json(&["endpoint", "status", "--cluster"]);
    let status = &status[0]["Status"];
    assert_eq!((&status["leader"], &status["header"]["member_id"]), (&members["members"][0]["ID"], &status["leader"]));
    assert_eq!(agent.json(&["endpoint", "health"])[0]["health"], true);
    let hash = || agent.json(&["endpoint", "hashkv"])[0]["HashKV"]["hash"].clone();
    let before = hash();
    assert_eq!(hash(), before);
    agent.ok(&["put", "a", "2"]);
    assert_ne!(hash(), before);
    assert!(agent.ok(&["defrag"]).starts_with("Finished defragmenting"));
    assert_eq!((agent.ok(&["alarm", "list"]), agent.ok(&["alarm", "disarm"])), (String::new(), String::new()));
    for words in [
        &["auth", "enable"][..],
        &["user", "list"],
        &["member", "add", "x", "--peer-urls=http://127.0.0.1:1"],
        &["member", "remove", "1"],
    ] {
        let said = agent.fails(words);
        assert!(said.contains("code = Unimplemented desc = regrow: "), "{words:?}: {said}");
    }
}

/// A mirror has what was there and what comes, and is there again after the agent was killed.
#[test]
fn mirrors() {
    let (Some(from), Some(mut to)) = (Agent::start(), Agent::start()) else { return };
    from.ok(&["put", "m/a", "1"]);
    let mirror = from.follow(&["make-mirror", "--prefix=m/", &to.endpoint]);
    let arrives = |to: &Agent, expect: &str| {
        until("the mirror has it", || (to.ok(&["get", "m/", "--prefix"]) == expect).then_some(()));
    };
    arrives(&to, "m/a\n1\n");
    from.ok(&["put", "m/b", "2"]);
    from.ok(&["del", "m/a"]);
    arrives(&to, "m/b\n2\n");
    drop(mirror);
    to.restart();
    assert_eq!(to.ok(&["get", "m/", "--prefix"]), "m/b\n2\n");
}

/// The door is not opened to other machines by accident, and can be shut.
#[test]
fn the_door_is_shut_unless_it_is_safe() {
    let cluster = Cluster::empty();
    let said = cluster.fails(2, &["agent", "--etcd", "0.0.0.0:0"]);
    assert!(said.contains("etcd door") && said.contains("--insecure"), "{said}");
    let said = cluster.fails(2, &["agent", "--etcd", "somewhere"]);
    assert!(said.contains("not IP:PORT or `off`"), "{said}");
}

/// What is not gRPC ends its own connection and nothing else.
#[test]
fn garbage_is_refused() {
    let Some(agent) = Agent::start() else { return };
    for garbage in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4096], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff"]
    {
        let mut stream = std::net::TcpStream::connect(&agent.endpoint).expect("it listens");
        stream.set_read_timeout(Some(support::LONG)).expect("a timeout");
        // The other side may hang up before everything is written.
        let _ = stream.write_all(garbage);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // An end or a reset, either is an answer.
        let _ = stream.read_to_end(&mut answer);
    }
    assert_eq!(agent.ok(&["put", "a", "1"]), "OK\n");
}
