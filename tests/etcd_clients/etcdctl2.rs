//! `etcdctl` with API 2 as it comes: every command on keys, watches, and what it asks about members.

use crate::support::etcd3::{Agent, Follower};
use std::process::{Command, Output};

/// `etcdctl` with API 2 at an agent.
struct Ctl<'a>(&'a Agent);

impl Ctl<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "2").args(["--endpoints", &format!("http://{}", self.0.endpoint)]);
        command.args(["--total-timeout", "60s", "--timeout", "60s"]).args(words);
        command.current_dir(&self.0.folder);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().expect("etcdctl runs")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "etcdctl {words:?}: {out}{err}");
        out.into_owned()
    }

    /// A command that the server refuses, with exit code 4; what it says.
    fn refused(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        assert_eq!(output.status.code(), Some(4), "etcdctl {words:?}: {said}");
        // Ends with where the store was.
        said.rsplit_once(" [").map_or(said.clone(), |(said, _)| said.to_owned())
    }

    fn follow(&self, words: &[&str]) -> Follower {
        Follower::of(self.command(words))
    }
}

/// set, get, mk, mkdir, setdir, updatedir, ls, update, rm, rmdir, with their flags and their refusals.
#[test]
fn keys_and_directories() {
    let Some(agent) = Agent::start() else { return };
    let ctl = Ctl(&agent);
    assert_eq!(ctl.ok(&["set", "k/a", "1"]), "1\n");
    assert_eq!(ctl.ok(&["set", "k/a", "2", "--swap-with-value", "1"]), "2\n");
    let said = ctl.refused(&["set", "k/a", "3", "--swap-with-value", "9"]);
    assert_eq!(said, "Error:  101: Compare failed ([9 != 2])");
    ctl.ok(&["set", "k/t", "x", "--ttl", "600"]);
    assert_eq!(ctl.ok(&["get", "k/a", "--quorum"]), "2\n");
    let said = ctl.ok(&["-o", "extended", "get", "k/t"]);
    assert!(said.contains("Key: /k/t") && (said.contains("TTL: 600") || said.contains("TTL: 599")), "{said}");
    assert_eq!(ctl.refused(&["get", "none"]), "Error:  100: Key not found (/none)");
    assert_eq!(ctl.refused(&["mk", "k/a", "1"]), "Error:  105: Key already exists (/k/a)");
    assert_eq!(ctl.ok(&["mk", "k/b", "1"]), "1\n");
    ctl.ok(&["mk", "--in-order", "q", "v1"]);
    ctl.ok(&["mk", "--in-order", "q", "v2"]);
    let listed = ctl.ok(&["ls", "--sort", "q"]);
    let values: Vec<String> = listed.lines().map(|key| ctl.ok(&["get", key])).collect();
    assert_eq!(values, ["v1\n", "v2\n"], "{listed}");
    ctl.ok(&["mkdir", "d"]);
    assert_eq!(ctl.refused(&["mkdir", "d"]), "Error:  105: Key already exists (/d)");
    ctl.ok(&["mkdir", "d2", "--ttl", "600"]);
    ctl.ok(&["setdir", "d3"]);
    ctl.ok(&["updatedir", "d3", "--ttl", "600"]);
    ctl.ok(&["set", "d/x/y", "z"]);
    assert_eq!(ctl.ok(&["ls", "-r", "d"]), "/d/x\n/d/x/y\n");
    let all = ctl.ok(&["ls", "-p", "--sort", "-r", "--quorum"]);
    assert!(all.contains("/d/\n/d/x/\n/d/x/y\n/d2/\n/d3/\n/k/\n/k/a\n/k/b\n/k/t\n/q/\n/q/0"), "{all}");
    assert_eq!(ctl.ok(&["update", "k/a", "4"]), "4\n");
    assert_eq!(ctl.refused(&["update", "none", "4"]), "Error:  100: Key not found (/none)");
    assert_eq!(ctl.ok(&["rm", "k/a"]), "PrevNode.Value: 4\n");
    assert_eq!(ctl.refused(&["rm", "k/a"]), "Error:  100: Key not found (/k/a)");
    assert_eq!(ctl.refused(&["rm", "d"]), "Error:  102: Not a file (/d)");
    assert_eq!(ctl.refused(&["rmdir", "d"]), "Error:  108: Directory not empty (/d)");
    ctl.ok(&["rm", "-r", "d"]);
    ctl.ok(&["rmdir", "d3"]);
    assert_eq!(ctl.refused(&["rmdir", "d3"]), "Error:  100: Key not found (/d3)");
    ctl.ok(&["rm", "--with-value", "1", "k/b"]);
    let said = ctl.ok(&["cluster-health"]);
    assert!(said.ends_with("cluster is healthy\n"), "{said}");
    let said = ctl.ok(&["member", "list"]);
    assert!(said.contains(&format!("clientURLs=http://{} isLeader=true", agent.endpoint)), "{said}");
    let output = ctl.run(&["member", "add", "x", "http://127.0.0.1:1"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{said}");
    // And the other interface sees what is left.
    let said = agent.ok(&["get", "--prefix", "/k"]);
    assert!(said.contains("/k/t\nx\n"), "{said}");
}

/// watch from the past, following, and exec-watch, which runs a command for each change.
#[test]
fn watches() {
    let Some(agent) = Agent::start() else { return };
    let ctl = Ctl(&agent);
    ctl.ok(&["set", "w/a", "1"]);
    let start = agent.revision().to_string();
    ctl.ok(&["set", "w/a", "2"]);
    assert_eq!(ctl.ok(&["watch", "--after-index", &start, "w/a"]), "2\n");
    let mut past = ctl.follow(&["watch", "-f", "-r", "--after-index", &start, "w"]);
    assert_eq!(past.lines(2), ["[set] /w/a", "2"]);
    ctl.ok(&["set", "w/b/c", "3"]);
    ctl.ok(&["rm", "w/a"]);
    assert_eq!(past.lines(4), ["[set] /w/b/c", "3", "[delete] /w/a", "PrevNode.Value: 2"]);
    let told = "echo $ETCD_WATCH_ACTION $ETCD_WATCH_KEY $ETCD_WATCH_VALUE";
    let mut runs = ctl.follow(&["exec-watch", "--after-index", &start, "-r", "w", "--", "sh", "-c", told]);
    // Each change starts a command of its own, and nobody waits for the one before.
    let mut said = runs.lines(3);
    said.sort();
    assert_eq!(said, ["delete /w/a", "set /w/a 2", "set /w/b/c 3"]);
    ctl.ok(&["update", "w/b/c", "4"]);
    assert_eq!(runs.line(), "update /w/b/c 4");
}
