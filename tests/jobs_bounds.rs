//! What a run may not do to the rest: fill memory or disk with its output, or hold up others by a host that hangs.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::{Value, json};
use std::path::Path;
use support::jobs::Api;
use support::sshd::Hosts;
use support::{Cluster, until};

/// Lines of 1,000 bytes that the loud job prints: 200 MB.
const LINES: u64 = 200_000;

/// What a process has had at most, in MiB.
fn peak_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the agent runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).expect("a number") / 1_024
}

fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Shows that of 200 MB of output as much is kept as the job says, that the run goes on to its end, and that neither the
/// agent's memory nor its disk takes the rest.
#[test]
fn output_is_bounded() {
    let line = "x".repeat(999);
    let spec = format!(
        "cluster: test\njobs:\n  loud:\n    exec: {{command: [sh, -c, \"yes {line} | head -n {LINES}; echo the end >&2; touch ended\"]}}\n    output_mib: 1\n  quiet: {{exec: {{command: [\"true\"]}}}}\n"
    );
    let mut cluster = Cluster::with_spec(&spec);
    cluster.start(&["up", "--http", "127.0.0.1:0"]);
    let api = Api::of(&cluster);
    let quiet = api.submit("quiet", json!({}));
    api.becomes(&quiet, "succeeded");
    let (memory, disk) = (peak_mib(cluster.agent_pid()), bytes_of(&cluster.path("data")));
    let loud = api.submit("loud", json!({}));
    api.becomes(&loud, "succeeded");
    assert!(cluster.path("ended").exists());
    let log = api.get(&format!("/api/runs/{loud}/log")).expect("an answer").body;
    assert!(log.len() > 900 << 10 && log.len() <= (1 << 20) + (64 << 10), "{} bytes of log", log.len());
    assert!(log.contains("the output has more than 1 MiB: the rest is left out"));
    let grown = peak_mib(cluster.agent_pid()).saturating_sub(memory);
    assert!(grown < 64, "the agent's memory grew by {grown} MiB");
    let grown = bytes_of(&cluster.path("data")).saturating_sub(disk);
    assert!(grown < 40 << 20, "the agent's folder grew by {grown} bytes");
}

fn hosts_told(log: &[Value]) -> Vec<String> {
    let told = log.iter().filter(|line| line["event"]["what"] == "host");
    told.filter_map(|line| line["host"].as_str().map(str::to_owned)).collect()
}

/// Shows that a host that hangs holds up no other, by SSH: what became of them is told while it hangs.
#[test]
fn a_host_that_hangs_holds_up_no_other() {
    let mut cluster = Cluster::empty();
    let addresses: Vec<String> = (1..=3).map(|host| format!("127.0.48.{host}")).collect();
    let port = cluster.ports.one();
    let Some(hosts) = Hosts::start(&addresses, port) else { return };
    let script = r#"case "$SSH_CONNECTION" in *127.0.48.2\ *) exec sleep 86491;; esac; echo here"#;
    let spec = json!({
        "cluster": "test",
        "jobs": {
            "all": {
                "ssh": {"hosts": addresses, "command": ["sh", "-c", script.replace('$', "$$")], "parallel": 3,
                        "config": hosts.path("ssh_config")},
                "grace": "200ms",
            },
        },
    });
    cluster.write_spec(&spec.to_string());
    cluster.start_with(
        &["up", "--http", "127.0.0.1:0"],
        &[("XDG_RUNTIME_DIR", hosts.path("run").to_str().expect("UTF-8"))],
    );
    let api = Api::of(&cluster);
    let id = api.submit("all", json!({}));
    let told = until("the others have ended", || Some(hosts_told(&api.log(&id))).filter(|told| told.len() == 2));
    assert!(!told.contains(&"127.0.48.2".to_owned()), "{told:?}");
    let said: Vec<Value> = api.log(&id).into_iter().filter(|line| line["line"] == "here").collect();
    assert!(said.len() == 2 && said.iter().all(|line| line["host"].is_string()), "{said:?}");
    assert_eq!(api.run(&id)["state"], "running");
    assert!(api.cancel(&id));
    let run = api.becomes(&id, "cancelled");
    assert_eq!(run["result"]["recap"]["127.0.48.1"]["ok"], 1, "{run:#}");
}
