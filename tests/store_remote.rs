//! Agents on a store elsewhere: another agent's etcd door, one real etcd, three of them. Those with a real etcd are
//! skipped where it is not installed (`etcd-server` on Debian).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod support;

use regrow_store::{CompactRequest, EventKind, PutRequest, Store, WatchItem, WatchRequest};
use serde_json::Value;
use std::collections::BTreeSet;
use support::etcd::Etcd;
use support::{Cluster, get, healthy, pause, signal, until};

/// A group that needs nothing but a shell.
const SLEEPERS: &str = "cluster: shop\ngroups:\n  idle:\n    size: 4\n    provider: process\n    command: [sleep, \"600\"]\n    port: PORTS\n";

/// Where the web example runs with `--store`.
fn web_on(store: &str) -> (Cluster, u16) {
    let (mut cluster, front) = Cluster::web();
    cluster.start(&["up", "--store", store]);
    cluster.until_healthy();
    (cluster, front)
}

/// kill -9 of an instance: it grows back in its slot, and the front goes on answering from all three.
fn heals(cluster: &Cluster, front: u16) {
    let before = cluster.pids("web");
    signal(u32::try_from(before[1].1).expect("a pid"), "KILL");
    cluster.until_status("it has grown back", |status| {
        let now = cluster.pids("web");
        status["health"] == "healthy" && now.len() == 3 && now[1] != before[1]
    });
    let after = cluster.pids("web");
    assert!(after[0] == before[0] && after[2] == before[2], "the others were left alone: {before:?} {after:?}");
    let answers: BTreeSet<String> = (0..6).map(|_| get(front, "/").expect("an answer").1).collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
}

fn restarted(status: &Value) -> bool {
    status["health"] == "healthy"
}

/// The web example on the store of another agent. That one is killed: what runs goes on serving, and when it is back
/// the agent heals again, with nothing restarted in between.
#[test]
fn on_another_agents_etcd_door() {
    let mut server = Cluster::empty();
    let door = format!("127.0.0.1:{}", server.ports.one());
    server.start(&["agent", "--node", "server", "--etcd", &door]);
    let (cluster, front) = web_on(&format!("http://{door}"));
    heals(&cluster, front);
    let nodes = server.until_status("both nodes are there", |status| {
        status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2)
    });
    assert_eq!(healthy(&nodes, "web"), 3, "both agents see the same: {nodes:#}");
    let before = (cluster.pids("web"), cluster.pids("proxy"));
    server.kill_agent();
    for _ in 0..20 {
        assert_eq!(get(front, "/").expect("an answer").0, 200, "it serves without its store");
        pause();
    }
    server.start(&["agent", "--node", "server", "--etcd", &door]);
    until("the server answers", || server.try_status());
    heals(&cluster, front);
    assert_eq!(cluster.pids("proxy"), before.1, "nothing was restarted for the store's sake");
}

/// The web example on one real etcd, which is killed and started again.
#[test]
fn on_one_etcd() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let (cluster, front) = web_on(&etcd.urls());
    heals(&cluster, front);
    let before = cluster.pids("web");
    etcd.kill(0);
    assert_eq!(get(front, "/").expect("an answer").0, 200, "it serves without its store");
    signal(u32::try_from(before[2].1).expect("a pid"), "KILL");
    etcd.restart(0);
    cluster.until_status("what died meanwhile has grown back", |status| {
        let now = cluster.pids("web");
        restarted(status) && now.len() == 3 && now[2] != before[2]
    });
    heals(&cluster, front);
}

/// The web example on three etcd members, of which the leading one is killed while it runs.
#[test]
fn on_three_etcd_members_with_one_killed() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    let (cluster, front) = web_on(&etcd.urls());
    heals(&cluster, front);
    let leader = etcd.leader();
    etcd.kill(leader);
    heals(&cluster, front);
}

/// What happened while an agent was cut off, and is compacted when it is back, it sees all the same: keys that are new
/// and keys that are gone.
#[test]
fn a_compacted_absence_is_read_anew() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut cluster = Cluster::with_spec(
        "cluster: shop\ntemplates:\n  list:\n    source: list.tmpl\n    destination: ROOT/list\n    keys: [/app/]\n",
    );
    cluster.write("list.tmpl", "{{range gets \"/app/*\"}}{{.Key}}={{.Value}}\n{{end}}");
    let put = |key: &'static str, value: &'static str| {
        etcd.with(|store| async move { store.put(PutRequest::new(key, value)).await.expect("etcd takes it") })
    };
    put("/app/a", "1");
    put("/app/b", "2");
    cluster.start(&["up", "--store", &etcd.urls()]);
    cluster.until_healthy();
    let listed = |cluster: &Cluster| std::fs::read_to_string(cluster.path("list")).unwrap_or_default();
    until("both keys are listed", || (listed(&cluster) == "/app/a=1\n/app/b=2\n").then_some(()));
    // Its connection breaks while it is stopped, so that nothing waits for it in a buffer.
    cluster.signal_agent("STOP");
    etcd.kill(0);
    etcd.restart(0);
    etcd.with(|store| async move {
        store.delete_range(regrow_store::DeleteRangeRequest::key("/app/a")).await.expect("etcd takes it");
        let put = store.put(PutRequest::new("/app/c", "3")).await.expect("etcd takes it");
        store.compact(CompactRequest { revision: put.revision, physical: true }).await.expect("etcd compacts");
    });
    cluster.signal_agent("CONT");
    until("what is there now is listed", || (listed(&cluster) == "/app/b=2\n/app/c=3\n").then_some(()));
    assert!(cluster.log().contains("everything is read anew"), "{}", cluster.log());
}

/// Two agents on one etcd: one leads, both run instances. The leader is killed with kill -9: the other takes over and
/// plans for the cluster, and the dead agent's node is gone from the store.
#[test]
fn another_agent_takes_over_from_a_dead_leader() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = Cluster::with_spec(SLEEPERS);
    let mut two = Cluster::empty();
    one.start(&["agent", "--node", "one", "--store", &etcd.urls()]);
    until("the first agent answers", || one.try_status());
    two.start(&["agent", "--node", "two", "--store", &etcd.urls()]);
    two.until_status("both nodes are there", |status| status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 2));
    one.ok(&["apply"]);
    let status = two.until_status("all four run", |status| healthy(status, "idle") == 4);
    let on =
        |node: &str| support::instances(&status, "idle").iter().filter(|instance| instance["node"] == node).count();
    assert_eq!((on("one"), on("two")), (2, 2), "both nodes run some: {status:#}");
    let leader = |etcd: &Etcd| {
        let kv = etcd.keys("/regrow/leader").pop()?;
        Some(serde_json::from_slice::<Value>(&kv.value).ok()?["node"].as_str()?.to_owned())
    };
    assert_eq!(leader(&etcd).as_deref(), Some("one"));
    one.kill_agent();
    until("the other leads", || (leader(&etcd).as_deref() == Some("two")).then_some(()));
    two.until_status("the dead agent's node is gone", |status| {
        status["nodes"].as_array().is_some_and(|nodes| nodes.len() == 1)
    });
    two.ok(&["group", "scale", "idle", "6"]);
    let status = two.until_status("it plans for the cluster", |status| support::instances(status, "idle").len() == 6);
    assert!(status["groups"][0]["instances"].is_array());
}

/// A second agent of a name that is alive is refused, and told what to do.
#[test]
fn a_name_has_one_agent() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = Cluster::empty();
    one.start(&["agent", "--node", "same", "--store", &etcd.urls()]);
    until("the first agent answers", || one.try_status());
    let two = Cluster::empty();
    let said = two.fails(3, &["agent", "--node", "same", "--store", &etcd.urls()]);
    assert!(said.contains("another agent is alive as node `same`") && said.contains("--node"), "{said}");
    // A restart of the first is no second agent.
    one.kill_agent();
    one.start(&["agent", "--node", "same", "--store", &etcd.urls()]);
    until("it is back at once", || one.try_status());
}

/// How many services a large spec has: with the cluster four times what etcd takes in one transaction.
const SERVICES: usize = 500;

fn large(tag: &str) -> String {
    let services: String = (0..SERVICES).map(|n| format!("  s{n}: {{tags: [{tag}]}}\n")).collect();
    format!("cluster: shop\nservices:\n{services}")
}

/// The tags of the services that are there, as the store has them and as an agent reads them.
fn in_force(cluster: &Cluster) -> BTreeSet<String> {
    let plan: Value = serde_json::from_str(&cluster.ok(&["plan", "regrow.yaml", "--json"])).expect("JSON");
    let differences = plan["differences"].as_array().expect("a list");
    differences.iter().map(|difference| difference["verb"].as_str().expect("a verb").to_owned()).collect()
}

/// A spec of 500 objects on etcd is in force all at once or not at all, wherever its agent is killed: while it stages,
/// the old one stays; after the decision, the new one is there, whole.
#[test]
fn a_large_spec_is_in_force_whole_or_not_at_all() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut cluster = Cluster::empty();
    cluster.write("regrow.yaml", &large("old"));
    let start = ["agent", "--store", &etcd.urls()].map(str::to_owned);
    let start: Vec<&str> = start.iter().map(String::as_str).collect();
    cluster.start(&start);
    until("the agent answers", || cluster.try_status());
    cluster.ok(&["apply"]);
    assert_eq!(cluster.status()["services"].as_array().map(Vec::len), Some(SERVICES));
    assert!(etcd.keys("/regrow/staged/").is_empty() && etcd.keys("/regrow/decided").is_empty(), "it is tidied up");
    // The key whose first change has the agent killed, and whether the new spec is then in force.
    for (key, tag, wanted) in [("/regrow/staged/", "new", false), ("/regrow/decided", "newer", true)] {
        cluster.write("regrow.yaml", &large(tag));
        let mut apply = None;
        let (agent, started) = (&mut cluster, &mut apply);
        etcd.with(|store| async move {
            let mut watch = store.watch(WatchRequest::prefix(key)).await.expect("etcd watches");
            *started = Some(agent.command(&["apply"]).stderr(std::process::Stdio::null()).spawn().expect("it starts"));
            loop {
                let item = watch.next().await.expect("goes on").expect("no error");
                let WatchItem::Events { events, .. } = item else { continue };
                if events.iter().any(|event| event.kind == EventKind::Put) {
                    agent.kill_agent();
                    return;
                }
            }
        });
        apply.expect("it was started").wait().expect("it ends");
        cluster.start(&start);
        until("the agent answers", || cluster.try_status());
        let differs = in_force(&cluster);
        let expected: BTreeSet<String> = if wanted { BTreeSet::new() } else { ["update".to_owned()].into() };
        // Killed so late that all was done already, it may be in force in the first case too, but then whole.
        assert!(differs == expected || differs.is_empty(), "killed at {key}: {differs:?}");
        let count = |tag: &str| {
            let needle = format!("\"{tag}\"");
            let services = etcd.keys("/regrow/desired/service/");
            services.iter().filter(|kv| String::from_utf8_lossy(&kv.value).contains(&needle)).count()
        };
        until("it is tidied up", || (etcd.keys("/regrow/decided").is_empty()).then_some(()));
        assert!(matches!(count(tag), 0 | SERVICES), "killed at {key}: {} of {SERVICES}", count(tag));
        cluster.ok(&["apply"]);
        assert_eq!(count(tag), SERVICES);
        assert!(etcd.keys("/regrow/staged/").is_empty(), "it is tidied up");
    }
}
