//! The main job: three web servers behind a real HAProxy, under load, through every planned change and every death.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use support::{Cluster, Load, get, healthy, signal, until};

/// All three answer in turn, and the table says so.
#[test]
fn all_instances_answer_in_turn() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let answers: BTreeSet<String> = (0..6).map(|_| get(front, "/").expect("an answer").1).collect();
    let expected = ["hello from web-0\n", "hello from web-1\n", "hello from web-2\n"].map(str::to_owned);
    assert_eq!(answers, BTreeSet::from(expected));
    let table = cluster.ok(&["status"]);
    assert!(table.contains("shop  healthy"), "{table}");
    assert!(table.contains("group/web  3 of 3 healthy"), "{table}");
}

/// Longer than anything here takes, on a machine that has other things to do.
const LONG_SECONDS: u32 = 200;

/// Scaling up and down, a rolling replacement and three changes of the template lose no request.
#[test]
fn planned_changes_under_load_lose_nothing() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let mut load = Load::start(front, LONG_SECONDS);
    cluster.ok(&["group", "scale", "web", "6"]);
    cluster.until_status("six serve", |status| healthy(status, "web") == 6 && status["health"] == "healthy");
    let before = cluster.pids("web");
    cluster.ok(&["group", "replace", "web"]);
    cluster.until_status("all six are replaced", |status| {
        let pids = cluster.pids("web");
        status["health"] == "healthy" && pids.len() == 6 && pids.iter().all(|new| !before.contains(new))
    });
    cluster.edit("regrow.yaml", "size: 3", "size: 6");
    for retries in 4..7 {
        let digest = cluster.status()["templates"][0]["digest"].clone();
        cluster.edit("haproxy.cfg.j2", &format!("retries {}", retries - 1), &format!("retries {retries}"));
        cluster.ok(&["apply"]);
        cluster.until_status("the new template is loaded", |status| {
            status["templates"][0]["digest"] != digest && status["health"] == "healthy"
        });
    }
    cluster.ok(&["group", "scale", "web", "2"]);
    cluster.until_status("two serve", |status| healthy(status, "web") == 2 && status["health"] == "healthy");
    assert!(!load.is_over(), "all changes were made while the load ran");
    let report = load.end();
    assert!(report.requests > 0 && report.refused == 0 && report.broken == 0, "{}", report.text);
}

/// An instance is killed every five seconds: with redispatch no request fails, and each grows back in its slot.
#[test]
fn deaths_under_load_lose_nothing() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let mut load = Load::start(front, 60);
    let mut next = Instant::now();
    let mut victim = 0;
    while !load.is_over() {
        if Instant::now() >= next {
            next += Duration::from_secs(5);
            let all = cluster.pids("web");
            let Some((_, pid, _)) = all.get(victim % all.len().max(1)) else { continue };
            signal(u32::try_from(*pid).expect("a pid"), "KILL");
            victim += 1;
        }
        support::pause();
    }
    let report = load.report();
    assert!(report.requests > 0 && report.refused == 0 && report.broken == 0, "{}", report.text);
    assert!(victim >= 10, "{victim} were killed");
    cluster.until_healthy();
}

/// Without redispatch a death costs what was in flight on the killed instance, and nothing that comes after.
#[test]
fn deaths_without_redispatch_cost_what_was_in_flight() {
    let (mut cluster, front) = Cluster::web();
    cluster.edit("haproxy.cfg.j2", "option redispatch 1", "no option redispatch");
    cluster.edit("haproxy.cfg.j2", "retry-on conn-failure empty-response 503", "retry-on conn-failure");
    cluster.up_healthy();
    let mut load = Load::start(front, 30);
    let mut kills = 0;
    let mut next = Instant::now();
    while !load.is_over() {
        if Instant::now() >= next {
            next += Duration::from_secs(5);
            let Some((_, pid, _)) = cluster.pids("web").first().cloned() else { continue };
            signal(u32::try_from(pid).expect("a pid"), "KILL");
            kills += 1;
        }
        support::pause();
    }
    let report = load.report();
    let lost = report.refused + report.broken;
    assert!(kills >= 5 && lost <= kills * support::CONNECTIONS, "{lost} lost by {kills} kills: {}", report.text);
}

/// Regrow itself is killed ten times under load: nothing is lost, no instance is restarted, the status is right at once.
#[test]
fn regrow_killed_under_load_loses_nothing() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let (web, proxy) = (cluster.pids("web"), cluster.pids("proxy"));
    let load = Load::start(front, 30);
    for _ in 0..10 {
        cluster.kill_agent();
        cluster.up();
        let status = until("the agent answers", || cluster.try_status());
        assert_eq!(healthy(&status, "web"), 3, "the status is right at once: {status:#}");
        cluster.until_healthy();
        assert_eq!(cluster.pids("web"), web, "no instance was restarted");
        assert_eq!(cluster.pids("proxy"), proxy, "the proxy was not restarted");
    }
    let report = load.report();
    assert!(report.requests > 0 && report.refused == 0 && report.broken == 0, "{}", report.text);
}

/// Ctrl-C stops everything, the proxy before what it stands in front of.
#[test]
fn an_interrupt_stops_all_in_order() {
    let (mut cluster, front) = Cluster::web();
    cluster.up_healthy();
    let pids: Vec<u64> = cluster.pids("web").iter().chain(&cluster.pids("proxy")).map(|(_, pid, _)| *pid).collect();
    cluster.signal_agent("INT");
    assert_eq!(cluster.agent_ends(), 0);
    for pid in pids {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} is gone");
    }
    assert!(get(front, "/").is_err(), "nothing listens");
    let log = cluster.log();
    let place = |text: &str| log.find(text).unwrap_or_else(|| panic!("the log has no {text}:\n{log}"));
    let stopped = |object: &str| {
        log.lines().position(|line| line.contains(object) && line.contains("\"kind\":\"stopped\"")).expect("in the log")
    };
    assert!(place("everything is to stop") > 0);
    for web in ["instance/web-0", "instance/web-1", "instance/web-2"] {
        assert!(stopped("instance/proxy-0") < stopped(web), "the proxy stops first:\n{log}");
    }
}

/// `agent` leaves its instances running; the next one takes them over; `down` stops all.
#[test]
fn instances_outlive_the_daemon() {
    let (mut cluster, front) = Cluster::web();
    cluster.start(&["agent"]);
    until("the agent answers", || cluster.try_status());
    cluster.ok(&["apply", "--wait", "60s"]);
    let web = cluster.pids("web");
    cluster.signal_agent("TERM");
    assert_eq!(cluster.agent_ends(), 0);
    assert_eq!(get(front, "/").expect("an answer").0, 200, "instances serve without an agent");
    cluster.start(&["agent"]);
    until("the agent answers", || cluster.try_status());
    cluster.until_healthy();
    assert_eq!(cluster.pids("web"), web);
    cluster.ok(&["down"]);
    assert_eq!(cluster.agent_ends(), 0);
    assert!(get(front, "/").is_err(), "nothing listens");
}

/// `explain` tells a death from its beginning to the replacement, with times.
#[test]
fn explain_tells_a_death_and_its_repair() {
    let (mut cluster, _) = Cluster::web();
    cluster.up_healthy();
    let (id, pid, _) = cluster.pids("web").remove(1);
    signal(u32::try_from(pid).expect("a pid"), "KILL");
    cluster.until_status("it has grown back", |status| {
        status["health"] == "healthy" && cluster.pids("web").iter().any(|(same, new, _)| *same == id && *new != pid)
    });
    let text = cluster.ok(&["explain", &format!("instance/{id}")]);
    let death = text.find("killed by SIGKILL").unwrap_or_else(|| panic!("explain does not say it:\n{text}"));
    let after = &text[death..];
    let at = |what: &str| after.find(what).unwrap_or_else(|| panic!("no {what:?} after the death:\n{text}"));
    assert!(at("life 2") < at("started as pid") && at("started as pid") < at("healthy"), "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&cluster.ok(&["explain", &format!("instance/{id}"), "--json"])).expect("JSON");
    assert!(json["chain"].as_array().is_some_and(|chain| chain.len() >= 4), "{json:#}");
}

/// A spec of more objects than one list of an etcd transaction holds is applied whole, changed whole and removed whole.
#[test]
fn a_large_spec_is_applied_whole() {
    let spec = |size: usize, objects: usize| {
        let group = |n| format!("  g{n}: {{service: s{n}, size: 0, provider: process, command: [serve, {size}]}}\n");
        let groups: String = (0..objects).map(group).collect();
        let services: String = (0..objects).map(|n| format!("  s{n}: {{checks: [{{tcp: true}}]}}\n")).collect();
        format!("cluster: large\nservices:\n{services}groups:\n{groups}")
    };
    let mut cluster = Cluster::with_spec(&spec(1, 300));
    cluster.up_healthy();
    let groups = |cluster: &Cluster| cluster.status()["groups"].as_array().map_or(0, Vec::len);
    assert_eq!(groups(&cluster), 300);
    cluster.write_spec(&spec(2, 300));
    assert_eq!(cluster.ok(&["apply"]).matches("~ group/").count(), 300);
    cluster.write_spec(&spec(2, 1));
    cluster.ok(&["apply"]);
    cluster.until_status("one is left", |_| groups(&cluster) == 1);
}
