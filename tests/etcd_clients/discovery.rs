//! Real etcd members find each other through Regrow, as they do through etcd's own discovery.

use crate::support::etcd3::{Agent, Ctl};
use crate::support::http::ask;
use crate::support::{LONG, Ports, until};
use std::path::Path;
use std::process::{Child, Command};
use tempfile::TempDir;

/// A real member that knows nothing of the others but the URL.
struct Member {
    child: Child,
    log: std::path::PathBuf,
    ctl: Ctl,
}

impl Member {
    fn start(name: &str, folder: &Path, ports: &mut Ports, discovery: &str) -> Member {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(ports.one()), url(ports.one()));
        let log = folder.join(format!("{name}.log"));
        let out = std::fs::File::create(&log).expect("a log");
        let mut command = Command::new("etcd");
        command.args(["--name", name, "--discovery", discovery, "--discovery-fallback", "exit", "--data-dir"]);
        command.arg(folder.join(name)).args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        let child = command.stdout(out.try_clone().expect("a copy")).stderr(out).spawn().expect("etcd starts");
        let ctl = Ctl { endpoint: client.trim_start_matches("http://").to_owned(), folder: folder.to_owned() };
        Member { child, log, ctl }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Three members come to be one cluster by the discovery URL, and take a put; the fourth is told that it is full.
#[test]
fn three_members_find_each_other_and_a_fourth_is_one_too_many() {
    let Some(agent) = Agent::start() else { return };
    if Command::new("etcd").arg("--version").output().is_err() {
        return eprintln!("skipped: etcd is not installed");
    }
    let (folder, mut ports): (TempDir, Ports) = (tempfile::tempdir().expect("a folder"), Ports::take());
    let token = "/v2/keys/discovery/6c007a14875d53d9bf0ef5a6fc0257c8";
    assert_eq!(ask(&agent.endpoint, "PUT", &format!("{token}/_config/size"), "value=3").status, 201);
    let url = format!("http://{}{token}", agent.endpoint);
    let mut start = |name: &str| Member::start(name, folder.path(), &mut ports, &url);
    let members = ["one", "two", "three"].map(&mut start);
    let put = || members[0].ctl.run(&["put", "found", "each other"]).status.success().then_some(());
    let end = std::time::Instant::now() + LONG;
    while put().is_none() {
        let said: String = members.iter().map(Member::said).collect();
        assert!(std::time::Instant::now() < end, "no cluster after {LONG:?}: {said}");
    }
    assert_eq!(members[2].ctl.ok(&["get", "found"]), "found\neach other\n");
    let listed = members[1].ctl.ok(&["member", "list"]);
    assert!(["one", "two", "three"].iter().all(|name| listed.contains(name)), "{listed}");
    let mut fourth = start("four");
    let ended = until("the fourth ends", || fourth.child.try_wait().expect("a child"));
    let said = fourth.said();
    assert!(!ended.success() && said.contains("discovery: cluster is full"), "{said}");
    // The registry lists them as etcd's own would, and stays three.
    let registry = ask(&agent.endpoint, "GET", token, "").json();
    assert_eq!(registry["node"]["nodes"].as_array().map(Vec::len), Some(3), "{registry}");
}
