//! What `etcdctl` with API 3 does at length. The rest of its commands are in `etcd3.rs` and `etcd3_snapshot.rs`.

use crate::support::{self, etcd3::Agent};

/// `check perf` does its work through the door and cleans up behind it. It takes a minute, whatever the server does, so it
/// runs at full size only; whether it finds the machine fast enough is not asked.
#[test]
fn check_perf() {
    if !support::full() {
        return eprintln!("skipped: check_perf: it takes a minute; REGROW_FULL=1 runs it");
    }
    let Some(agent) = Agent::start() else { return };
    let output = agent.run(&["check", "perf", "--load=s"]);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("Throughput") && said.contains("Slowest request"), "{said}");
    eprintln!("{}", said.rsplit('\r').next().unwrap_or(&said));
    assert_eq!(agent.ok(&["get", "--prefix", "/etcdctl-check-perf/", "--keys-only"]), "");
}
