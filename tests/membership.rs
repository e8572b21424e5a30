//! Story A1: members become keys in the store, a death is one removal, whoever is given only the store finds the others,
//! and what a dead node ran is made whole elsewhere without twins. With real etcd and with a store that an agent hosts.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use regrow_store::{EventKind, PutRequest, Remote, Revision, Store, WatchItem, WatchRequest};
use serde_json::Value;
use support::etcd::Etcd;
use support::{Cluster, guide, until};

/// A store that is looked into by another client than the agents'.
struct Look {
    remote: Remote,
    runtime: tokio::runtime::Runtime,
}

impl Look {
    fn into(urls: &str) -> Look {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let remote = runtime.block_on(async { Remote::new(urls.split(',')).expect("endpoints") });
        Look { remote, runtime }
    }

    /// Every change of the keys that list members, from the first, as `put NAME` and `delete NAME`.
    fn changes(&self) -> Vec<String> {
        self.runtime.block_on(async {
            let mark = self.remote.put(PutRequest::new("/members/~", "")).await.expect("it takes a key").revision;
            let request = WatchRequest::prefix("/members/").from(Revision(1));
            let mut watch = self.remote.watch(request).await.expect("it watches");
            let mut changes = Vec::new();
            loop {
                let item = watch.next().await.expect("it goes on").expect("no error");
                let WatchItem::Events { events, .. } = item else { continue };
                for event in events {
                    let key = String::from_utf8_lossy(&event.kv.key).into_owned();
                    let name = key.trim_start_matches("/members/");
                    if name == "~" && event.kv.mod_revision == mark {
                        return changes;
                    }
                    let verb = if event.kind == EventKind::Put { "put" } else { "delete" };
                    if name != "~" {
                        changes.push(format!("{verb} {name}"));
                    }
                }
            }
        })
    }

    fn listed(&self, name: &str) -> Option<Value> {
        let key = format!("/members/{name}");
        let found = self.runtime.block_on(async { self.remote.range(regrow_store::RangeRequest::key(key)).await });
        let found = found.expect("it answers").kvs.into_iter().next()?;
        Some(serde_json::from_slice(&found.value).expect("JSON"))
    }
}

/// An agent on a store elsewhere, with gossip on a free port.
fn agent(node: &str, store: &str, more: &[&str]) -> Cluster {
    let mut cluster = Cluster::empty();
    start(&mut cluster, node, store, more);
    cluster
}

fn start(cluster: &mut Cluster, node: &str, store: &str, more: &[&str]) {
    let words = ["agent", "--node", node, "--store", store, "--gossip", "127.0.0.1:0"];
    cluster.start(&[&words, more].concat());
}

fn members(cluster: &Cluster) -> Vec<(String, String)> {
    let output = cluster.run(&["members", "--json"]);
    let all: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let text = |member: &Value, field: &str| member[field].as_str().unwrap_or_default().to_owned();
    all.iter().map(|member| (text(member, "name"), text(member, "status"))).collect()
}

fn all_alive(clusters: &[&Cluster], names: &[&str]) {
    for cluster in clusters {
        until("all see all alive", || {
            let wanted: Vec<_> = names.iter().map(|name| ((*name).to_owned(), "alive".to_owned())).collect();
            (members(cluster) == wanted).then_some(())
        });
    }
}

/// The story, on a store that outlives it: a, b find one another, c is given nothing but the store; c is killed and comes
/// back; b leaves and comes back.
fn story(store: &str) {
    let look = Look::into(store);
    let mut a = Cluster::empty();
    let script = a.path("handler.sh");
    let text = "#!/bin/sh\nline=$(cut -f1 | tr '\\n' ';')\necho \"$SERF_EVENT $SERF_SELF_NAME $line\" >> \"$(dirname \"$0\")/told\"\n";
    std::fs::write(&script, text).expect("written");
    let handler = format!("member-join,member-failed=/bin/sh {}", script.display());
    start(&mut a, "a", store, &["--tag", "role=web", "--event-handler", &handler]);
    let b = agent("b", store, &[]);
    all_alive(&[&a, &b], &["a", "b"]);
    let mut c = agent("c", store, &["--tag", "role=db"]);
    all_alive(&[&a, &b, &c], &["a", "b", "c"]);
    let listed = until("c is listed", || look.listed("c"));
    let address = format!("{}:{}", listed["address"].as_str().expect("a text"), listed["port"]);
    let gossip: Value = serde_json::from_str(&c.read("data/doors.json")).expect("JSON");
    assert_eq!(gossip["gossip"], address.as_str());
    assert_eq!((&listed["name"], &listed["status"]), (&"c".into(), &"alive".into()));
    assert_eq!(listed["tags"]["role"], "db");

    c.kill_agent();
    for cluster in [&a, &b] {
        cluster.until_shown(&["members", "--status", "failed"], "c  ");
        cluster.until_status("the verdict is recorded", |status| {
            let members = status["members"].as_array().cloned().unwrap_or_default();
            members.iter().any(|member| member["name"] == "c" && member["state"] == "failed")
        });
    }
    assert_eq!(look.listed("c"), None);
    start(&mut c, "c", store, &["--tag", "role=db"]);
    until("it is listed again", || look.listed("c"));
    all_alive(&[&a, &b, &c], &["a", "b", "c"]);
    b.ok(&["leave"]);
    until("b is not listed", || look.listed("b").is_none().then_some(()));
    let at: Value = serde_json::from_str(&a.read("data/doors.json")).expect("JSON");
    b.ok(&["join", at["gossip"].as_str().expect("an address")]);
    until("b is listed again", || look.listed("b"));
    all_alive(&[&a, &b, &c], &["a", "b", "c"]);

    let changes = look.changes();
    let of =
        |name: &str| changes.iter().filter(|change| change.ends_with(name)).cloned().collect::<Vec<_>>().join(", ");
    assert_eq!(of("c"), "put c, delete c, put c", "exactly one removal: {changes:?}");
    assert_eq!(of("b"), "put b, delete b, put b", "exactly one removal: {changes:?}");
    assert_eq!(of("a"), "put a", "{changes:?}");
    let told = a.read("told");
    for line in ["member-join a c;", "member-failed a c;"] {
        assert!(told.contains(line), "{line}: {told}");
    }
    for cluster in [&a, &b] {
        let log = cluster.log();
        let wrong = log.lines().find(|line| line.contains("WARN") || line.contains("ERROR"));
        assert_eq!(wrong, None, "what is done already is no error");
    }
}

#[test]
fn story_a1_on_real_etcd() {
    let Some(etcd) = Etcd::start(1) else { return };
    story(&etcd.urls());
}

#[test]
fn story_a1_on_a_store_that_an_agent_hosts() {
    let mut server = Cluster::empty();
    let door = format!("127.0.0.1:{}", server.ports.one());
    server.start(&["agent", "--node", "server", "--etcd", &door]);
    until("it answers", || server.try_status());
    story(&format!("http://{door}"));
}

/// Three agents that know nothing of each other, not even a store: two joins, and all three list all three; each lists
/// them in its own store, under the prefix of its choice.
#[test]
fn two_joins_make_three() {
    let begin = |node: &str, prefix: &str| {
        let mut cluster = Cluster::empty();
        let words = ["agent", "--node", node, "--gossip", "127.0.0.1:0", "--etcd", "127.0.0.1:0"];
        cluster.start(&[&words[..], &["--member-prefix", prefix]].concat());
        until("it answers", || cluster.try_status());
        cluster
    };
    let (a, b, c) = (begin("a", "/fleet/"), begin("b", "/members/"), begin("c", "off"));
    let doors: Value = serde_json::from_str(&a.read("data/doors.json")).expect("JSON");
    let address = doors["gossip"].as_str().expect("an address");
    b.ok(&["join", address]);
    c.ok(&["join", address]);
    all_alive(&[&a, &b, &c], &["a", "b", "c"]);
    let keys = |cluster: &Cluster, prefix: &str| cluster.ok(&["kv", "ls", prefix]);
    until("a lists all", || (keys(&a, "/fleet/").lines().eq(["/fleet/a", "/fleet/b", "/fleet/c"])).then_some(()));
    until("b lists all", || {
        (keys(&b, "/members/").lines().eq(["/members/a", "/members/b", "/members/c"])).then_some(())
    });
    assert_eq!(keys(&c, "/members/"), "");
    assert!(Cluster::empty().fails(2, &["agent", "--member-prefix", "/regrow/x/"]).contains("Regrow's own records"));
}

/// An agent dies alone and what it ran lives on: its endpoint leaves the catalog at once, and is in a template of the
/// others no more; when its lease has ended too, its slot is filled elsewhere. It comes back: what it ran is stopped, and
/// nothing is doubled. The chain says who suspected it, the verdict, the second source, and what followed.
#[test]
fn what_was_replaced_meanwhile_is_stopped_by_the_node_that_returns() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut a = Cluster::with_spec(
        "cluster: shop\nservices:\n  idle: {}\ngroups:\n  idle:\n    service: idle\n    size: 3\n    provider: process\n    \
         command: [sleep, \"86399\"]\n    port: PORTS\ntemplates:\n  list:\n    source: list.j2\n    destination: ROOT/list\n",
    );
    a.write("list.j2", "{% for e in services.idle %}{{ e.id }}@{{ e.node }} {% endfor %}");
    start(&mut a, "a", &etcd.urls(), &[]);
    until("it answers", || a.try_status());
    let b = agent("b", &etcd.urls(), &[]);
    let mut c = agent("c", &etcd.urls(), &[]);
    all_alive(&[&a, &b, &c], &["a", "b", "c"]);
    a.until_status("all are nodes", |status| status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3));
    a.ok(&["apply"]);
    let before = a.until_status("all serve", |status| support::healthy(status, "idle") == 3);
    let of_c: Vec<Value> =
        support::instances(&before, "idle").into_iter().filter(|instance| instance["node"] == "c").collect();
    let (id, pid) = (of_c[0]["id"].as_str().expect("an id").to_owned(), of_c[0]["pid"].as_u64().expect("a pid"));
    let list = |cluster: &Cluster| std::fs::read_to_string(cluster.path("list")).unwrap_or_default();
    until("all are rendered", || (list(&a).split_whitespace().count() == 3).then_some(()));

    c.kill_agent();
    until("it is rendered no more", || (!list(&a).contains("@c") && list(&a).contains("@b")).then_some(()));
    assert!(alive(pid), "what it ran lives on");
    let now = b.status();
    let instance = support::instances(&now, "idle").into_iter().find(|one| one["id"] == id.as_str()).expect("there");
    if instance["node"] == "c" {
        assert_eq!(instance["state"], "unreachable", "one source replaces nothing: {now:#}");
    }
    let after = b.until_status("it is whole without c", |status| {
        support::healthy(status, "idle") == 3
            && support::instances(status, "idle").iter().all(|instance| instance["node"] != "c")
    });
    let replaced = support::instances(&after, "idle").into_iter().find(|one| one["id"] == id.as_str()).expect("there");
    assert_eq!(replaced["incarnation"], 2);
    until("the new one is rendered", || (list(&a).split_whitespace().count() == 3).then_some(()));

    start(&mut c, "c", &etcd.urls(), &[]);
    until("what was replaced is stopped", || (!alive(pid)).then_some(()));
    let back = c.until_status("all is whole", |status| {
        support::healthy(status, "idle") == 3 && status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 3)
    });
    assert_eq!(support::instances(&back, "idle").len(), 3);
    let mut pids: Vec<u64> =
        support::instances(&back, "idle").iter().filter_map(|instance| instance["pid"].as_u64()).collect();
    pids.dedup();
    assert!(pids.len() == 3 && pids.iter().all(|pid| alive(*pid)), "{pids:?}");
    let explained = b.until_shown(&["explain", "node/c"], "member-returned");
    for text in ["suspected by", "member-failed", "leave the catalog", "node-dead", "dead by two sources", &id] {
        assert!(explained.contains(text), "{text}: {explained}");
    }
    let explained = b.ok(&["explain", &format!("instance/{id}")]);
    for text in ["member-failed", "node-dead", "assigned"] {
        assert!(explained.contains(text), "{text}: {explained}");
    }
}

fn alive(pid: u64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// An agent that ends in order and starts again costs nothing: its instances stay in the catalog all the while.
#[test]
fn a_restart_of_an_agent_costs_no_endpoint() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut a = Cluster::with_spec(
        "cluster: shop\nservices:\n  idle: {}\ngroups:\n  idle:\n    service: idle\n    size: 2\n    provider: process\n    \
         command: [sleep, \"86398\"]\n    port: PORTS\n",
    );
    start(&mut a, "a", &etcd.urls(), &[]);
    until("it answers", || a.try_status());
    let mut b = agent("b", &etcd.urls(), &[]);
    all_alive(&[&a, &b], &["a", "b"]);
    a.until_status("both are nodes", |status| status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2));
    a.ok(&["apply"]);
    a.until_status("all serve", |status| support::healthy(status, "idle") == 2);
    let before = a.pids("idle");
    b.signal_agent("TERM");
    b.agent_ends();
    a.until_shown(&["members", "--status", "failed"], "b  ");
    let status = a.until_status("the verdict is recorded", |status| status["members"][1]["state"] == "failed");
    assert_eq!(support::healthy(&status, "idle"), 2, "it serves on: {status:#}");
    start(&mut b, "b", &etcd.urls(), &[]);
    let status = a.until_status("b is back", |status| status["members"][1]["state"] == "alive");
    assert_eq!(support::healthy(&status, "idle"), 2, "{status:#}");
    assert_eq!(a.pids("idle"), before, "nothing was started anew");
}

/// The page of the guide shows what happens.
#[test]
fn the_guide_is_true() {
    let mut cluster = Cluster::empty();
    let door = cluster.ports.one().to_string();
    guide::run("cluster.md", |shell| {
        shell.current_dir(cluster.folder.path()).env("DOOR", &door).env("NO_COLOR", "1");
        for (name, value) in [("REGROW_HTTP", "off"), ("REGROW_ETCD", "off"), ("REGROW_RPC", "off")] {
            shell.env(name, value);
        }
        shell.env_remove("REGROW_STORE").env_remove("REGROW_AGENT").env_remove("REGROW_DATA");
    });
}
