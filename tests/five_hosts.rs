//! Five hosts (network namespaces), three etcd members on three of them, web servers on all five and HAProxy on the first: a host cut off,
//! killed, paused, half open, and a split into 2 and 3. Traffic flows from the healthy side throughout, nothing is
//! doubled, and all is whole afterwards without a hand. `REGROW_FULL=1` runs all of it, else a host is cut off and one is
//! killed.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use support::hosts::Hosts;
use support::{Cluster, LONG, full, instances, pause, signal, until};

const HOSTS: u8 = 5;

const SPEC: &str = r#"cluster: shop
services:
  web:
    checks: [{http: /, interval: 500ms, timeout: 500ms}]
groups:
  web:
    service: web
    size: 5
    provider: process
    command: [python3, server.py]
  proxy:
    size: 1
    provider: process
    command: [haproxy, -W, -db, -f, run/haproxy.cfg]
    port: 8080
    after: [template/haproxy]
templates:
  haproxy:
    source: haproxy.cfg.j2
    destination: run/haproxy.cfg
    check: [haproxy, -c, -f, "{staged}"]
    reload: {group: proxy, signal: USR2, haproxy_socket: run/haproxy.sock}
    guard: {min: {web: 1}}
"#;

const HAPROXY: &str = "global
    stats socket unix@run/haproxy.sock mode 600 level admin expose-fd listeners
    hard-stop-after 5s
defaults
    mode http
    timeout connect 300ms
    timeout client 10s
    timeout server 1s
    option redispatch 1
    retries 4
    retry-on conn-failure empty-response response-timeout 503
frontend front
    bind *:8080
    default_backend web
backend web
    balance roundrobin
{% for endpoint in services.web %}
    server {{ endpoint.id }} {{ endpoint.address }}:{{ endpoint.port }}
{% endfor %}
";

struct Fleet {
    hosts: Hosts,
    /// The folder that the spec is applied from: on each host another one is in its place.
    site: PathBuf,
    store: String,
    etcd: Vec<Child>,
    agents: Vec<Cluster>,
    folder: tempfile::TempDir,
}

/// `None`, said on standard error, where it cannot be.
fn fleet() -> Option<Fleet> {
    for (program, word) in [("etcd", "--version"), ("haproxy", "-v"), ("python3", "--version")] {
        if Command::new(program).arg(word).stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            eprintln!("skipped: {program} is not installed");
            return None;
        }
    }
    let hosts = match Hosts::make(HOSTS) {
        Ok(hosts) => hosts,
        Err(why) => {
            eprintln!("skipped: five_hosts: no network namespaces: {why}");
            return None;
        }
    };
    let folder = tempfile::tempdir().expect("a folder");
    let site = folder.path().join("site");
    std::fs::create_dir(&site).expect("a folder");
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/web/server.py");
    let agents: Vec<Cluster> = (1..=HOSTS).map(|_| Cluster::empty()).collect();
    for agent in &agents {
        std::fs::create_dir(agent.path("site")).expect("a folder");
        std::fs::copy(&server, agent.path("site").join("server.py")).expect("the example's server");
    }
    std::fs::write(site.join("regrow.yaml"), SPEC).expect("written");
    std::fs::write(site.join("haproxy.cfg.j2"), HAPROXY).expect("written");
    let store = (1..=3).map(|host| format!("http://{}:2379", Hosts::address(host))).collect::<Vec<_>>().join(",");
    let mut fleet = Fleet { hosts, site, store, etcd: Vec::new(), agents, folder };
    for host in 1..=3 {
        fleet.start_etcd(host);
    }
    for host in 1..=HOSTS {
        fleet.start(host);
    }
    Some(fleet)
}

impl Fleet {
    fn start_etcd(&mut self, host: u8) {
        let at = |host: u8, port: u16| format!("http://{}:{port}", Hosts::address(host));
        let all: Vec<String> = (1..=3).map(|host| format!("m{host}={}", at(host, 2380))).collect();
        let mut command = self.hosts.command(host, "etcd");
        command.args(["--name", &format!("m{host}"), "--log-level", "error", "--unsafe-no-fsync"]);
        command.arg("--data-dir").arg(self.folder.path().join(format!("etcd{host}")));
        command.args(["--listen-client-urls", &at(host, 2379), "--advertise-client-urls", &at(host, 2379)]);
        command.args(["--listen-peer-urls", &at(host, 2380), "--initial-advertise-peer-urls", &at(host, 2380)]);
        command.args(["--initial-cluster", &all.join(",")]).stdout(Stdio::null()).stderr(Stdio::null());
        self.etcd.push(command.spawn().expect("etcd starts"));
    }

    fn start(&mut self, host: u8) {
        let at = Hosts::address(host);
        let (node, gossip) = (format!("n{host}"), format!("{at}:7946"));
        let words = ["agent", "--node", &node, "--store", &self.store, "--gossip", &gossip, "--address", &at];
        let agent = &mut self.agents[usize::from(host) - 1];
        agent.start_with_site(&self.hosts, host, &self.site, &[&words[..], &["--insecure"]].concat());
    }

    fn agent(&self, host: u8) -> &Cluster {
        &self.agents[usize::from(host) - 1]
    }

    /// Every process of a host.
    fn pids(&self, host: u8) -> Vec<u32> {
        let output = Command::new("ip").args(["netns", "pids", &self.hosts.name(host)]).output().expect("ip runs");
        String::from_utf8_lossy(&output.stdout).split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    fn signal_all(&self, host: u8, name: &str) {
        self.pids(host).into_iter().for_each(|pid| signal(pid, name));
    }

    /// Web servers that run, wherever.
    fn servers(&self) -> usize {
        let is_server = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let mut words = words.split(|byte| *byte == 0);
            words.next().is_some_and(|program| program.ends_with(b"python3")) && words.next() == Some(b"server.py")
        };
        (1..=HOSTS).map(|host| self.pids(host).iter().filter(|pid| is_server(pid)).count()).sum()
    }

    /// Waits until all five serve and nothing is doubled; what host 1 sees.
    fn is_whole(&self, after: &str) {
        let status = self.agent(1).until_status(&format!("{after}: all is whole"), |status| {
            let nodes = status["nodes"].as_array().map_or(0, Vec::len);
            let alive = |member: &Value| member["state"] == "alive";
            nodes == 5
                && status["health"] == "healthy"
                && status["members"].as_array().is_some_and(|all| all.len() == 5 && all.iter().all(alive))
        });
        assert_eq!(instances(&status, "web").len(), 5);
        let end = Instant::now() + LONG;
        while self.servers() != 5 {
            assert!(Instant::now() < end, "{after}: {} web servers run", self.servers());
            pause();
        }
    }

    /// Waits until host 1 has seen that a host is gone, in its members and in what its HAProxy reads.
    fn sees_gone(&self, host: u8) {
        let config = self.agent(1).path("site").join("run/haproxy.cfg");
        let needle = format!("{}:", Hosts::address(host));
        until(&format!("n1's HAProxy does not read of n{host}"), || {
            (!std::fs::read_to_string(&config).ok()?.contains(&needle)).then_some(())
        });
    }

    /// Waits until none of the web servers is assigned to a host.
    fn is_replaced(&self, host: u8) {
        let node = format!("n{host}");
        self.agent(1).until_status(&format!("what n{host} ran is replaced"), |status| {
            let web = instances(status, "web");
            web.iter().all(|one| one["node"] != node.as_str() && one["healthy"] == true)
        });
    }
}

/// Requests on host 1, all the time.
struct Steady {
    process: Child,
    stop: PathBuf,
}

impl Steady {
    fn start(fleet: &Fleet) -> Steady {
        let stop = fleet.folder.path().join("stop");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/python/steady.py");
        let mut command = fleet.hosts.command(1, "python3");
        command.arg(script).arg("http://127.0.0.1:8080/").arg(&stop).stdout(Stdio::piped());
        Steady { process: command.spawn().expect("python runs"), stop }
    }

    /// Ends. There were requests, and none has failed; how many there were is the machine's business.
    fn end(self, during: &str) {
        std::fs::write(&self.stop, "").expect("written");
        let output = self.process.wait_with_output().expect("it ends");
        std::fs::remove_file(&self.stop).expect("removed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let good: u64 = text.lines().next().and_then(|line| line.parse().ok()).expect("a count");
        assert!(good > 0 && text.lines().count() == 1, "{during}: requests failed: {text}");
    }
}

#[test]
fn traffic_flows_and_all_is_whole_afterwards() {
    let Some(mut fleet) = fleet() else { return };
    for host in 1..=HOSTS {
        until("its agent answers", || fleet.agent(host).try_status());
    }
    let output = fleet.agent(1).command(&["apply"]).current_dir(&fleet.site).output().expect("it runs");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stderr), fleet.agent(1).log());
    fleet.is_whole("the start");

    let steady = Steady::start(&fleet);
    fleet.hosts.cut(5);
    fleet.sees_gone(5);
    fleet.is_replaced(5);
    fleet.hosts.mend(5);
    fleet.is_whole("a host that was cut off");
    steady.end("a host is cut off");

    let steady = Steady::start(&fleet);
    fleet.signal_all(4, "KILL");
    fleet.sees_gone(4);
    fleet.is_replaced(4);
    fleet.agents[3].agent_is_gone();
    fleet.start(4);
    fleet.is_whole("a host that was killed");
    steady.end("a host is killed");
    let explained = fleet.agent(2).until_shown(&["explain", "node/n4"], "member-returned");
    for text in ["member-failed", "node-dead", "assigned"] {
        assert!(explained.contains(text), "{text}: {explained}");
    }
    if !full() {
        return;
    }

    let steady = Steady::start(&fleet);
    fleet.signal_all(5, "STOP");
    wait(20);
    fleet.signal_all(5, "CONT");
    fleet.is_whole("a host that was paused");
    steady.end("a host is paused");

    let steady = Steady::start(&fleet);
    fleet.hosts.mute(4);
    fleet.sees_gone(4);
    fleet.is_replaced(4);
    fleet.hosts.unmute(4);
    fleet.is_whole("a host that was half open");
    steady.end("a host is half open");

    // The side with three has the majority of etcd, whichever of its members led.
    let steady = Steady::start(&fleet);
    for host in [2, 5] {
        fleet.hosts.side(host, 1);
    }
    wait(60);
    for host in [2, 5] {
        fleet.hosts.side(host, 0);
    }
    fleet.is_whole("a split");
    steady.end("a split into 2 and 3");
}

/// How long trouble lasts is a part of what is shown.
fn wait(seconds: u64) {
    std::thread::sleep(Duration::from_secs(seconds));
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for etcd in &mut self.etcd {
            let _ = etcd.kill();
            let _ = etcd.wait();
        }
    }
}
