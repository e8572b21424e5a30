//! What breaks is named, alone and repaired: crash loops, refused starts, full disks, bad versions, and Regrow's own
//! death at any moment.

mod support;

use serde_json::Value;
use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use support::small::Small;
use support::{Cluster, instances, until};

/// A group of programs that stay; `MORE` is put before its end.
fn group(name: &str, size: u32, command: &str, more: &str) -> String {
    let one = format!("    size: {size}\n    provider: process\n    command: {command}\n    drain: 0s\n");
    format!("  {name}:\n{one}    stop: {{grace: 1s}}\n{more}")
}

fn spec(groups: &[String]) -> String {
    format!("cluster: shop\ngroups:\n{}", groups.concat())
}

const STAY: &str = "[sleep, '600']";
/// A service that needs no more than a process.
const SERVICE: &str = "services: {app: {}}\n";
const PORTS: &str = "    port: PORTS\n";

/// The events of an object, newest last.
fn events(cluster: &Cluster, object: &str) -> Vec<Value> {
    let text = cluster.ok(&["events", "--json", "--last", "1000", "--object", object]);
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn kinds(cluster: &Cluster, object: &str, kind: &str) -> usize {
    events(cluster, object).iter().filter(|event| event["kind"] == kind).count()
}

/// Every program that works in the test's folder and was started by these words.
fn running(cluster: &Cluster, words: &str) -> BTreeSet<u32> {
    let ours = |pid: &u32| {
        let here = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == cluster.folder.path());
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        here && String::from_utf8_lossy(&line).replace('\0', " ").trim_end() == words
    };
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok()).filter(ours).collect()
}

fn pids(cluster: &Cluster, group: &str) -> BTreeSet<u32> {
    cluster.pids(group).iter().map(|(_, pid, _)| u32::try_from(*pid).expect("a pid")).collect()
}

/// An instance that ends again and again waits longer each time and is reported; its siblings never notice.
#[test]
fn a_crash_loop_backs_off_alone() {
    let loops = "[sh, -c, 'test $INSTANCE = app-1 && echo no-database >&2 && exit 3; exec sleep 600']";
    let backoff = format!("{PORTS}    backoff: {{first: 10m, max: 10m}}\n");
    let mut cluster = Cluster::with_spec(&spec(&[group("app", 3, loops, &backoff), group("other", 1, STAY, PORTS)]));
    cluster.up();
    let is = |status: &Value, id: &str, state: &str| {
        let all = [instances(status, "app"), instances(status, "other")].concat();
        all.iter().any(|one| one["id"] == id && one["state"] == state)
    };
    let status = cluster.until_status("it waits, the others serve", |status| {
        is(status, "app-1", "backing off") && ["app-0", "app-2", "other-0"].iter().all(|id| is(status, id, "healthy"))
    });
    assert_eq!(status["health"], "degraded");
    let looping = &instances(&status, "app")[1];
    assert_eq!((&looping["crashes"], &looping["reason"]), (&2.into(), &"exited with code 3".into()), "{looping}");
    let lives: Vec<Value> = ["app-0", "app-2"].iter().map(|id| lives(&status, id)).collect();
    assert!(lives.iter().all(|life| *life == 1), "the siblings are in their first lives");
    let told = events(&cluster, "instance/app-1");
    let waits = told.iter().find(|event| event["kind"] == "backing-off").expect("an event tells it");
    assert!(waits["message"].as_str().is_some_and(|text| text.contains("2 times in a row")), "{waits}");
    let exit = told.iter().find(|event| event["kind"] == "exited").expect("an event tells it");
    assert!(exit["detail"].as_str().is_some_and(|text| text.contains("no-database")), "what it said last: {exit}");
    let table = cluster.ok(&["status"]);
    assert!(table.contains("backing off") && table.contains("exited with code 3"), "{table}");
    let text = cluster.ok(&["explain", "instance/app-1"]);
    assert!(text.contains("backing off") || text.contains("backoff"), "{text}");
    assert!(text.contains("no-database"), "{text}");
}

fn lives(status: &Value, id: &str) -> Value {
    let all = instances(status, "app");
    all.iter().find(|one| one["id"] == id).map(|one| one["incarnation"].clone()).unwrap_or_default()
}

/// A command that does not exist and one that may not be run are named as such; the others run.
#[test]
fn commands_that_cannot_run_are_named() {
    let backoff = format!("{PORTS}    backoff: {{first: 10m, max: 10m}}\n");
    let groups = [
        group("none", 1, "[no-such-program]", &backoff),
        group("path", 1, "[ROOT/nowhere]", &backoff),
        group("plain", 1, "[ROOT/plain]", &backoff),
        group("app", 1, STAY, PORTS),
    ];
    let mut cluster = Cluster::with_spec(&spec(&groups));
    cluster.write("plain", "#!/bin/sh\n");
    std::fs::set_permissions(cluster.path("plain"), std::fs::Permissions::from_mode(0o644)).expect("it is ours");
    cluster.up();
    let root = cluster.folder.path().display();
    let cases = [
        ("none", "there is no program `no-such-program` in PATH".to_owned()),
        ("path", format!("there is no program {root}/nowhere: install it or correct `command`")),
        ("plain", format!("not allowed to run {root}/plain: it must be a file with the x permission")),
    ];
    for (name, said) in cases {
        let status = cluster.until_status("it backs off", |status| {
            instances(status, name).iter().any(|one| one["state"] == "backing off")
        });
        let reason = instances(&status, name)[0]["reason"].to_string();
        assert!(reason.contains(&said), "{reason} is not {said}");
        assert!(cluster.ok(&["status"]).contains(&said));
        assert!(cluster.ok(&["explain", &format!("instance/{name}-0")]).contains(&said));
        assert!(kinds(&cluster, &format!("instance/{name}-0"), "start-failed") >= 1);
    }
    assert_eq!(cluster.pids("app").len(), 1);
}

/// A fixed port that another program has is named with the program, and taken as soon as it is free.
#[test]
fn a_fixed_port_in_use_is_named() {
    let mut cluster = Cluster::empty();
    let port = cluster.ports.one();
    let held = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
    let more = format!("    service: app\n    port: {port}\n    backoff: {{first: 100ms, max: 200ms}}\n");
    cluster.write_spec(&(spec(&[group("app", 1, STAY, &more)]) + SERVICE));
    cluster.up();
    cluster.until_shown(&["explain", "instance/app-0"], &format!("port {port} of 127.0.0.1 is taken by pid"));
    let told = events(&cluster, "instance/app-0");
    let refused = told.iter().find(|event| event["kind"] == "start-failed").expect("an event tells it");
    let message = refused["message"].as_str().expect("a text");
    assert!(message.contains(&port.to_string()) && message.contains(&std::process::id().to_string()), "{message}");
    drop(held);
    cluster.until_healthy();
}

/// A drawn port that another program has is passed over: the next one is taken.
#[test]
fn a_drawn_port_in_use_is_passed_over() {
    let mut cluster = Cluster::empty();
    let range = cluster.ports.range(4);
    let first: u16 = range.split('-').next().and_then(|first| first.parse().ok()).expect("a range");
    let _held = TcpListener::bind(("127.0.0.1", first)).expect("it is free");
    cluster.write_spec(&(spec(&[group("app", 2, STAY, &format!("    service: app\n    port: {range}\n"))]) + SERVICE));
    cluster.up_healthy();
    let ports: BTreeSet<u64> = cluster.instances("app").iter().filter_map(|one| one["port"].as_u64()).collect();
    assert!(ports.len() == 2 && !ports.contains(&u64::from(first)), "{ports:?} without {first}");
}

/// A full disk: orders are refused with the reason, what runs goes on, and with space it goes on by itself.
#[test]
#[expect(clippy::print_stdout, reason = "the count of skipped tests is read there")]
fn a_full_disk_is_named_and_survived() {
    let template = "templates:\n  big: {source: big.j2, destination: big.txt}\n";
    let mut cluster = Cluster::with_spec(&(spec(&[group("app", 2, STAY, PORTS)]) + template));
    cluster.write("big.j2", "small\n");
    let data = cluster.path("data");
    let Some(small) = Small::mount(&data) else {
        println!("SKIPPED: a_full_disk_is_named_and_survived: needs root, to mount a small file system");
        return;
    };
    cluster.up_healthy();
    let before = cluster.pids("app");
    small.fill();
    // The store writes into space that it took before; it ends after some large orders.
    let refused = (0..100).find_map(|turn| {
        cluster.write("big.j2", &format!("{turn} {}\n", "x".repeat(900_000)));
        let output = cluster.run(&["apply"]);
        (!output.status.success()).then_some(output)
    });
    let refused = refused.expect("space ends");
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(5) && error.contains("no space left on the disk of the store"), "{error}");
    assert_eq!(cluster.pids("app"), before, "what runs goes on");
    let log = cluster.log();
    assert!(log.contains("big") && log.contains("no space left on device; free some space"), "{log}");
    assert_eq!(cluster.read("big.txt"), "small\n", "the good file stays");
    small.free();
    until("orders are taken again", || cluster.run(&["group", "scale", "app", "3"]).status.success().then_some(()));
    cluster.until_healthy();
    let after = cluster.pids("app");
    assert!(after.len() == 3 && before.iter().all(|one| after.contains(one)), "{before:?} then {after:?}");
    cluster.kill_agent();
    cluster.start(&["agent"]);
    until("the agent answers", || cluster.try_status());
    assert_eq!(cluster.pids("app"), after, "and what was acknowledged is there after a restart");
}

/// kill -9 while instances are started: those that run are adopted, those that do not are started, and none twice.
#[test]
fn regrow_killed_while_it_starts_instances() {
    for lines in [1, 3, 5, 7, 9, 10] {
        let mut cluster = Cluster::with_spec(&spec(&[group("app", 4, STAY, PORTS)]));
        cluster.up();
        until("so much was logged", || (cluster.log().lines().count() >= lines).then_some(()));
        cluster.kill_agent();
        let survivors = running(&cluster, "sleep 600");
        cluster.up_healthy();
        let now = running(&cluster, "sleep 600");
        assert_eq!(now.len(), 4, "killed at line {lines}: no twin, none missing\n{}", cluster.log());
        assert_eq!(now, pids(&cluster, "app"));
        assert!(
            survivors.is_subset(&now),
            "killed at line {lines}: {survivors:?} were adopted, not restarted: {now:?}"
        );
    }
}

/// kill -9 in the middle of a rolling replacement, again and again: it goes on to its end, and nothing runs twice.
#[test]
fn regrow_killed_while_it_replaces() {
    let mut cluster = Cluster::with_spec(&spec(&[group("app", 4, STAY, PORTS)]));
    cluster.up_healthy();
    let before = pids(&cluster, "app");
    cluster.ok(&["group", "replace", "app"]);
    for more in [1, 2, 4, 6] {
        let lines = cluster.log().lines().count() + more;
        until("it goes on", || {
            let gone_on = cluster.log().lines().count() >= lines;
            (gone_on || pids(&cluster, "app").is_disjoint(&before)).then_some(())
        });
        cluster.kill_agent();
        let alive = running(&cluster, "sleep 600");
        assert!(alive.len() >= 3, "never below the floor: {alive:?}");
        cluster.up();
        until("the agent answers", || cluster.try_status());
    }
    cluster.until_healthy();
    let after = running(&cluster, "sleep 600");
    assert_eq!(after, pids(&cluster, "app"));
    assert!(after.len() == 4 && after.is_disjoint(&before), "all four are new: {before:?} then {after:?}");
    assert_eq!(kinds(&cluster, "group/app", "rolled-back"), 0);
}

/// kill -9 right after an answer: what was acknowledged is there.
#[test]
fn nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::with_spec(&spec(&[group("app", 1, STAY, PORTS)]));
    cluster.up_healthy();
    let first = pids(&cluster, "app");
    for size in [2, 4, 3] {
        cluster.ok(&["group", "scale", "app", &size.to_string()]);
        cluster.kill_agent();
        cluster.start(&["agent"]);
        let status = until("the agent answers", || cluster.try_status());
        assert_eq!(status["groups"][0]["size"], size);
        cluster.until_healthy();
        let now = pids(&cluster, "app");
        assert_eq!((now.len(), running(&cluster, "sleep 600")), (size, now.clone()));
        assert!(first.is_subset(&now));
    }
    cluster.edit("regrow.yaml", "size: 1", "size: 5");
    cluster.ok(&["apply"]);
    cluster.kill_agent();
    cluster.start(&["agent"]);
    let status = until("the agent answers", || cluster.try_status());
    assert_eq!(status["groups"][0]["size"], 5);
    cluster.until_healthy();
}

/// kill -9 right after a file was put in place: it is loaded by the next agent.
#[test]
fn a_written_file_is_loaded_after_a_death() {
    // The command waits for the test the first time that it is run with a new file.
    let load = "'test -e go || { touch here; exec sleep 600; }; cp list.txt loaded'";
    let template = format!(
        "templates:\n  list:\n    source: list.j2\n    destination: list.txt\n    reload: {{command: [sh, -c, {load}]}}\n"
    );
    let mut cluster = Cluster::with_spec(&(spec(&[group("app", 1, STAY, PORTS)]) + &template));
    cluster.write("list.j2", "one\n");
    cluster.write("go", "");
    cluster.up_healthy();
    assert_eq!(cluster.read("loaded"), "one\n");
    std::fs::remove_file(cluster.path("go")).expect("it was written");
    cluster.write("list.j2", "two\n");
    cluster.ok(&["apply"]);
    until("the command runs", || cluster.path("here").exists().then_some(()));
    assert_eq!((cluster.read("list.txt"), cluster.read("loaded")), ("two\n".to_owned(), "one\n".to_owned()));
    let app = cluster.pids("app");
    cluster.kill_agent();
    cluster.write("go", "");
    cluster.start(&["agent"]);
    until("it is loaded", || (cluster.read("loaded") == "two\n").then_some(()));
    cluster.until_healthy();
    assert_eq!(cluster.pids("app"), app);
}

/// A version that never gets healthy is rolled back, with the reason, and not tried again.
#[test]
fn a_version_that_fails_is_rolled_back() {
    const SERVE: &str = "[python3, -m, http.server, '${PORT}', --bind, '${ADDRESS}']";
    let more = format!("{PORTS}    service: app\n    update: {{health_within: 8s}}\n");
    let checks = "services:\n  app:\n    checks: [{tcp: true, interval: 100ms, rise: 1}]\n";
    let good = group("app", 3, SERVE, &more);
    let mut cluster = Cluster::with_spec(&(spec(&[good]) + checks));
    cluster.up_healthy();
    let before = cluster.pids("app");
    cluster.edit("regrow.yaml", SERVE, "[sh, -c, 'echo no-database >&2; exit 7']");
    cluster.ok(&["apply"]);
    let status = cluster.until_status("it is rolled back", |status| {
        status["groups"][0]["rollout"].to_string().contains("was rolled back") && status["groups"][0]["healthy"] == 3
    });
    assert_eq!(status["health"], "degraded", "it is not as wanted, and nothing is under way");
    let why = status["groups"][0]["rollout"].to_string();
    assert!(why.contains("code 7"), "{why}");
    let text = cluster.ok(&["explain", "group/app"]);
    assert!(
        text.contains("the newest version failed") && text.contains("rolled-back") && text.contains("code 7"),
        "{text}"
    );
    assert_eq!(kinds(&cluster, "group/app", "rolled-back"), 1);
    let after = cluster.pids("app");
    assert_eq!(before.iter().filter(|one| after.contains(one)).count(), 2, "only one of three was tried");
    cluster.ok(&["apply"]);
    cluster.kill_agent();
    cluster.start(&["agent"]);
    until("the agent answers", || cluster.try_status());
    let plan = cluster.until_shown(&["plan"], "app-0 ended 3 times in a row: exited with code 7");
    assert!(plan.starts_with("Held back:\n"), "{plan}");
    assert_eq!(cluster.pids("app"), after, "it is not tried again");
    // One that lives and never serves fails too; a good one goes through.
    cluster.edit("regrow.yaml", "exit 7", "exec sleep 600");
    cluster.edit("regrow.yaml", "health_within: 8s", "health_within: 500ms");
    cluster.ok(&["apply"]);
    cluster.until_shown(&["status"], "was rolled back: app-0 is not healthy after 500ms");
    cluster.edit("regrow.yaml", "[sh, -c, 'echo no-database >&2; exec sleep 600']", SERVE);
    cluster.edit("regrow.yaml", "health_within: 500ms", "health_within: 8s");
    cluster.edit("regrow.yaml", "drain: 0s", "environment: {NEW: now}\n    drain: 0s");
    cluster.ok(&["apply", "--wait", "60s"]);
    assert!(cluster.pids("app").iter().all(|one| !after.contains(one)), "a good version goes through");
}
