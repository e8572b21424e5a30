//! `regrow exec` against real `sshd`s. Skipped, and said, where there is no `sshd` or this is not root.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::process::Output;
use support::sshd::Hosts;
use support::{Cluster, until};

/// Hosts on addresses that no other test has, and a folder to run from.
struct Fleet {
    cluster: Cluster,
    hosts: Hosts,
}

impl Fleet {
    /// `net` is the third number of the addresses `127.0.NET.1` and up.
    fn start(net: u8, count: usize) -> Option<Fleet> {
        let mut cluster = Cluster::empty();
        let addresses: Vec<String> = (1..=count).map(|host| format!("127.0.{net}.{host}")).collect();
        let port = cluster.ports.one();
        Some(Fleet { hosts: Hosts::start(&addresses, port)?, cluster })
    }

    fn exec(&self, words: &[&str]) -> Output {
        let mut command = self.cluster.command(&["exec", "--ssh-config"]);
        command.arg(self.hosts.path("ssh_config")).args(words);
        command.env("XDG_RUNTIME_DIR", self.hosts.path("run")).output().expect("the binary runs")
    }

    /// Standard output of one that ends with `code`, and standard error.
    fn ends(&self, code: i32, words: &[&str]) -> (String, String) {
        let output = self.exec(words);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "regrow exec {words:?}:\n{out}{err}{}", self.hosts.log());
        (out, err)
    }

    /// The result of each host, by name.
    fn results(&self, code: i32, words: &[&str]) -> Vec<Value> {
        let (out, _) = self.ends(code, &[&["--json"], words].concat());
        let mut results: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        results.sort_by_key(|result| result["host"].as_str().map(str::to_owned));
        results
    }

    /// Logins so far.
    fn logins(&self) -> usize {
        self.hosts.log().matches("Accepted publickey").count()
    }
}

/// Shows that the command's words arrive as they are, whatever is in them, and that equal results are one block.
#[test]
fn words_arrive_as_they_are_and_equal_results_are_together() {
    let Some(fleet) = Fleet::start(41, 8) else { return };
    let words = ["printf", "<%s>", "a  b", "$HOME", "it's", ";reboot", "`id`", "$(id)", "-n", "", "*", "\\"];
    let (out, err) = fleet.ends(0, &[&["127.0.41.[1-8]", "--"], &words[..]].concat());
    assert_eq!(
        out, "── 127.0.41.[1-8] (8 hosts): ok\n<a  b><$HOME><it's><;reboot><`id`><$(id)><-n><><*><\\>\n",
        "{err}"
    );
    assert!(err.starts_with("8 ok in "), "{err}");
    let script = r#"echo "$SSH_CONNECTION" | awk '{ exit $3 == "127.0.41.3" }'"#;
    let (out, err) = fleet.ends(1, &["127.0.41.[1-8]", "--shell", "--", script]);
    assert_eq!(out, "── 127.0.41.[1-2,4-8] (7 hosts): ok\n── 127.0.41.3: failed with exit code 1\n");
    assert_eq!(err, "regrow: 7 ok, 1 failed\n");
}

/// Shows how each way to end is told: by exit code, as unreachable with the reason, as timed out; and that a host that
/// hangs holds up no other.
#[test]
fn each_ending_is_told() {
    let Some(fleet) = Fleet::start(42, 2) else { return };
    let script = "echo out; echo err >&2; exit 7";
    let results = fleet.results(1, &["127.0.42.1", "--", "sh", "-c", script]);
    let result = &results[0];
    assert_eq!((&result["status"], &result["exit"]), (&"exited".into(), &7.into()));
    assert_eq!((&result["stdout"], &result["stderr"]), (&"out\n".into(), &"err\n".into()));
    // The code that ssh itself fails with is the command's when the command ended with it.
    let results = fleet.results(1, &["127.0.42.1", "--", "sh", "-c", "exit 255"]);
    assert_eq!((&results[0]["status"], &results[0]["exit"]), (&"exited".into(), &255.into()));
    // Nobody listens at .8 and .9, and their reasons are equal.
    let (out, err) = fleet.ends(5, &["127.0.42.[1,8-9]", "--", "true"]);
    assert!(out.contains("── 127.0.42.1: ok\n── 127.0.42.[8-9] (2 hosts): unreachable: "), "{out}");
    assert!(out.contains("Connection refused") && err == "regrow: 1 ok, 2 unreachable\n", "{out}{err}");
    let script = r#"case "$SSH_CONNECTION" in *127.0.42.1\ *) exec sleep 1000;; esac"#;
    let results = fleet.results(6, &["127.0.42.[1-2]", "--timeout", "2s", "--fanout", "1", "--shell", "--", script]);
    assert_eq!((&results[0]["status"], &results[1]["exit"]), (&"timed-out".into(), &0.into()));
}

/// Shows that batches wait for each other and that too many failures stop the rest, which are listed.
#[test]
fn a_rolling_run_stops_after_failures() {
    let Some(fleet) = Fleet::start(43, 6) else { return };
    let script = r#"case "$SSH_CONNECTION" in *127.0.43.3\ *) exit 1;; esac"#;
    let results = fleet.results(1, &["127.0.43.[1-6]", "--batch", "2", "--shell", "--", script]);
    let told: Vec<&str> = results.iter().filter_map(|result| result["status"].as_str()).collect();
    assert_eq!(told, ["exited", "exited", "exited", "exited", "not-begun", "not-begun"]);
    let (out, _) = fleet.ends(
        1,
        &[
            "127.0.43.[1-6]",
            "--batch",
            "50%",
            "--max-failures",
            "1",
            "--stream",
            "--shell",
            "--",
            &format!("echo here; {script}"),
        ],
    );
    assert_eq!(out.matches("| here").count(), 6, "one failure is allowed: {out}");
    assert!(out.contains("127.0.43.3 = failed with exit code 1"), "{out}");
}

/// Shows that the second command needs no login, and that without --keep each does.
#[test]
fn connections_are_kept_for_the_next_command() {
    let Some(fleet) = Fleet::start(44, 4) else { return };
    fleet.ends(0, &["127.0.44.[1-4]", "--keep", "20s", "--", "true"]);
    assert_eq!(fleet.logins(), 4);
    fleet.ends(0, &["127.0.44.[1-4]", "--keep", "20s", "--", "true"]);
    assert_eq!(fleet.logins(), 4, "the connections were there");
    fleet.ends(0, &["127.0.44.[1-4]", "--keep", "0s", "--", "true"]);
    assert_eq!(fleet.logins(), 8);
}

/// Shows that a host whose key is not known is not spoken to, that one is taken when that is asked for, and that a
/// changed one never is.
#[test]
fn host_keys_are_checked() {
    let Some(fleet) = Fleet::start(45, 1) else { return };
    let known = fleet.cluster.read(fleet.hosts.path("known_hosts").to_str().expect("UTF-8"));
    fleet.hosts.write("known_hosts", "");
    let host = ["127.0.45.1", "--keep", "0s"];
    let with = |more: &[&'static str]| [&host, more, &["--", "true"]].concat();
    let (out, _) = fleet.ends(5, &with(&[]));
    assert!(out.contains("unreachable: Host key verification failed"), "{out}");
    fleet.hosts.write("members", &known);
    let members = fleet.hosts.path("members").display().to_string();
    fleet.ends(0, &[&host[..], &["--known-hosts", &members, "--", "true"]].concat());
    fleet.ends(0, &with(&["--accept-new"]));
    let other = fleet.cluster.read(fleet.hosts.path("user.pub").to_str().expect("UTF-8"));
    let place = known.split_whitespace().next().expect("a host");
    let other = other.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    fleet.hosts.write("known_hosts", &format!("{place} {other}\n"));
    let (out, _) = fleet.ends(5, &with(&["--accept-new"]));
    assert!(out.contains("unreachable: "), "{out}");
}

/// Shows that output beyond the bound is left out in its middle, and that input is handed to every host.
#[test]
fn output_is_bounded_and_input_is_shared() {
    let Some(fleet) = Fleet::start(46, 2) else { return };
    let script = "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last";
    let results = fleet.results(0, &["127.0.46.[1-2]", "--output-limit", "1000", "--shell", "--", script]);
    for result in &results {
        let stdout = result["stdout"].as_str().expect("text");
        assert!(stdout.len() <= 1000 && stdout.starts_with("first\n") && stdout.ends_with("\nlast\n"), "{stdout}");
    }
    fleet.hosts.write("input", "hello\n");
    let input = fleet.hosts.path("input").display().to_string();
    let results = fleet.results(0, &["127.0.46.[1-2]", "--input", &input, "--", "cat"]);
    assert!(results.iter().all(|result| result["stdout"] == "hello\n"));
}

/// Shows that hosts come from an Ansible inventory, from a file and from the agent, and who is left out.
#[test]
fn hosts_come_from_where_they_are_known() {
    let Some(mut fleet) = Fleet::start(47, 3) else { return };
    let inventory = "[web]\na ansible_host=127.0.47.1\nb ansible_host=127.0.47.2\n[db]\nc ansible_host=127.0.47.3\n";
    fleet.hosts.write("hosts.ini", inventory);
    let ini = fleet.hosts.path("hosts.ini").display().to_string();
    let (out, _) = fleet.ends(0, &["-i", &ini, "all:!b", "--", "echo", "x"]);
    assert_eq!(out, "── a,c (2 hosts): ok\nx\n");
    let (_, err) = fleet.ends(4, &["-i", &ini, "wbe", "--", "true"]);
    assert!(err.contains("`wbe` is neither a host nor a group of the inventory"), "{err}");
    fleet.hosts.write("list", "127.0.47.1 # the first\n\n127.0.47.[2-3]\n");
    let list = format!("@{}", fleet.hosts.path("list").display());
    let (out, _) = fleet.ends(0, &[&list, "!127.0.47.2", "--dry-run", "--", "echo", "a b"]);
    assert_eq!(out, "would run on 2 hosts: 127.0.47.[1,3]\n  echo 'a b'\n");
    for hostile in ["-oProxyCommand=id", "a;id", "a b", "$(id)"] {
        fleet.hosts.write("hostile", hostile);
        let hostile_list = format!("@{}", fleet.hosts.path("hostile").display());
        let (_, err) = fleet.ends(2, &[&hostile_list, "--", "true"]);
        assert!(err.contains("is not a host"), "{err}");
    }
    // The agent's own node is at 127.0.47.1 here.
    fleet.cluster.write_spec(
        "cluster: t\nservices: {web: {}}\ngroups:\n  web: {service: web, size: 1, provider: process, port: PORTS, command: [sleep, '1000']}\n",
    );
    fleet.cluster.start(&["up", "--address", "127.0.47.1", "--node", "one"]);
    fleet.cluster.until_healthy();
    for term in ["service/web", "group/web", "node/all", "node/one"] {
        let (out, _) = fleet.ends(0, &[term, "--", "echo", "x"]);
        assert_eq!(out, "── one: ok\nx\n", "{term}");
    }
    let (_, err) = fleet.ends(4, &["service/nothing", "--", "true"]);
    assert!(err.contains("service/nothing runs on no node"), "{err}");
}

/// Shows that an interrupt begins with no further host, and a second one ends the connections of those that run.
#[test]
fn an_interrupt_stops_it() {
    let Some(fleet) = Fleet::start(48, 3) else { return };
    let mut command = fleet.cluster.command(&["exec", "--json", "--fanout", "1", "--ssh-config"]);
    command.arg(fleet.hosts.path("ssh_config")).args(["127.0.48.[1-3]", "--", "sleep", "1000"]);
    command.env("XDG_RUNTIME_DIR", fleet.hosts.path("run")).stdout(std::process::Stdio::piped());
    let running = command.stderr(std::process::Stdio::piped()).spawn().expect("the binary runs");
    until("the first host runs it", || (fleet.logins() > 0).then_some(()));
    support::signal(running.id(), "INT");
    let pid = running.id();
    let waits = std::thread::spawn(move || running.wait_with_output());
    // The second one may come at any time after the first was taken.
    until("it ends", || {
        support::signal(pid, "INT");
        waits.is_finished().then_some(())
    });
    let output = waits.join().expect("no panic").expect("it ends");
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(out.matches("not-begun").count(), 3, "{out}");
    assert_eq!(output.status.code(), Some(5), "{out}");
}
