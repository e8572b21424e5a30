//! Shows explanations as people read them: of a small shop in several states.

use super::{CHAINS_MAX, STEPS_MAX, explain};
use crate::world::{World, id};
use regrow_model::{Plan, Ref};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn shop() -> World {
    let mut world = World::web(json!({"size": 2}));
    world.governor(json!({}));
    world.template("haproxy", &["web"]);
    world.settle();
    world
}

/// The explanation, with versions and chains blotted out: they are hashes.
fn told(world: &World, plan: &Plan, object: &str) -> String {
    let object: Ref = object.parse().expect("an object");
    let text = explain(&world.view, &world.events, &plan.held, &object, world.now).to_string();
    let blot = |word: &str| {
        let core = word.trim_end_matches([',', ':', ';']);
        let hash = core.len() == 8 && core.bytes().all(|b| b.is_ascii_hexdigit());
        if hash { word.replace(core, "········") } else { word.to_owned() }
    };
    let lines = text.lines().map(|line| line.split(' ').map(blot).collect::<Vec<_>>().join(" ").trim_end().to_owned());
    lines.collect::<Vec<_>>().join("\n")
}

fn check(told: &str, expected: &str) {
    let expected: Vec<&str> =
        expected.trim().lines().map(|line| line.strip_prefix("        ").unwrap_or(line)).collect();
    assert_eq!(told, expected.join("\n"), "got:\n{told}\n");
}

#[test]
fn a_healthy_instance() {
    let mut world = shop();
    let plan = world.pass(90 * SECOND);
    check(
        &told(&world, &plan, "instance/web-1"),
        r"
        instance/web-1: healthy for 1m 30s

        Now
          is to run on n1, life 1, for 1m 30s
          address 127.0.0.1:20001, version ········
          life 1 runs as pid 106 for 1m 30s
          in service web: in the pool for 1m 30s
          check http / passes for 1m 30s: 200 OK

        How it came to that
          00:16:40.000Z  instance/web-1  assigned         to n1 port 20001
          00:16:40.000Z  instance/web-1  started          started as pid 106
          00:16:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:16:40.000Z  group/web       rollout-done     version ········ is healthy on all 2
        ",
    );
}

#[test]
fn a_death_and_a_crash_loop() {
    let mut world = shop();
    world.pass(60 * SECOND);
    world.kill(&id("web-1"));
    world.settle();
    world.kill(&id("web-1"));
    let plan = world.settle();
    check(
        &told(&world, &plan, "instance/web-1"),
        r"
        instance/web-1: waits another 803ms in a crash loop

        Now
          is to run on n1, life 3, for 0s
          address 127.0.0.1:20001, version ········
          ended 2 times in a row
          not started for another 803ms
          life 2 was killed by SIGKILL 0s ago
          in service web: down for 0s
          check http / passes for 0s: 200 OK

        How it came to that
          00:16:40.000Z  instance/web-1  assigned         to n1 port 20001
          00:16:40.000Z  instance/web-1  started          started as pid 106
          00:16:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:16:40.000Z  group/web       rollout-done     version ········ is healthy on all 2
          00:17:40.000Z  instance/web-1  exited           killed by SIGKILL after 1m
          00:17:40.000Z  instance/web-1  assigned         to n1 port 20001, life 2
          00:17:40.000Z  instance/web-1  started          started as pid 121
          00:17:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:17:40.000Z  instance/web-1  exited           killed by SIGKILL after 0s
          00:17:40.000Z  instance/web-1  backing-off      ended 2 times in a row, the next start waits 803ms
          00:17:40.000Z  instance/web-1  assigned         to n1 port 20001, life 3

        Waiting
          start web-1: the backoff of a crash loop (it ended 2 times in a row), for another 803ms
        ",
    );
}

#[test]
fn a_group_whose_new_version_failed() {
    let mut world = shop();
    world.broken.insert("v2".into());
    world.group("web", json!({"size": 2, "command": ["v2"]}));
    let plan = world.pass(60 * SECOND);
    check(
        &told(&world, &plan, "group/web"),
        r"
        group/web: 2 of 2 are healthy, but the newest version failed

        Now
          wanted version ········
          last good version ········, for 1m
          version ········ failed 30s ago: web-0 is not healthy after 30s: http /: 500 oh no
          web-0: healthy for 30s
          web-1: healthy for 1m

        How it came to that
          00:16:40.000Z  instance/web-0  assigned         to n1 port 20000
          00:16:40.000Z  instance/web-1  assigned         to n1 port 20001
          00:16:40.000Z  instance/web-0  started          started as pid 105
          00:16:40.000Z  instance/web-1  started          started as pid 106
          00:16:40.000Z  instance/web-0  passing          healthy 0s after the start
          00:16:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:16:40.000Z  group/web       rollout-done     version ········ is healthy on all 2
          00:16:40.000Z  group/web       rollout-started  to version ········
          00:16:40.000Z  instance/web-0  draining         leaves web before its stop
          00:16:40.000Z  instance/web-0  stopping         told to stop by SIGTERM
          00:16:40.000Z  instance/web-0  stopped          ended by SIGTERM
          00:16:40.000Z  instance/web-0  assigned         to n1 port 20000, life 2
          00:16:40.000Z  instance/web-0  started          started as pid 126
          00:17:10.000Z  group/web       rolled-back      version ········ failed: web-0 is not healthy after 30s: http /: 500 oh no; back to ········
          00:17:10.000Z  instance/web-0  stopping         told to stop by SIGTERM
          00:17:10.000Z  instance/web-0  stopped          ended by SIGTERM
          00:17:10.000Z  instance/web-0  assigned         to n1 port 20000, life 3
          00:17:10.000Z  instance/web-0  started          started as pid 139
          00:17:10.000Z  instance/web-0  passing          healthy 0s after the start
          00:17:10.000Z  group/web       rollout-done     version ········ is healthy on all 2

        Waiting
          go on to version ········: a version that failed before (web-0 is not healthy after 30s: http /: 500 oh no)
        ",
    );
}

#[test]
fn a_service_with_a_failing_endpoint() {
    let mut world = shop();
    world.sick.insert(id("web-0"));
    let plan = world.pass(5 * SECOND);
    check(
        &told(&world, &plan, "service/web"),
        r"
        service/web: 1 of 2 endpoints are healthy

        Now
          web-0 at 127.0.0.1:20000: failing for 5s
          web-1 at 127.0.0.1:20001: in the pool for 5s

        How it came to that
          00:16:40.000Z  instance/web-0  assigned         to n1 port 20000
          00:16:40.000Z  instance/web-1  assigned         to n1 port 20001
          00:16:40.000Z  instance/web-0  started          started as pid 105
          00:16:40.000Z  instance/web-1  started          started as pid 106
          00:16:40.000Z  instance/web-0  passing          healthy 0s after the start
          00:16:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:16:40.000Z  group/web       rollout-done     version ········ is healthy on all 2
          00:16:40.000Z  instance/web-0  failing          http / failed: 500 oh no
        ",
    );
}

#[test]
fn a_template_behind_its_guard() {
    let mut world = shop();
    world.loading = false;
    world.kill(&id("web-0"));
    world.refuse("haproxy", "web");
    world.now = world.now.after(2 * SECOND);
    check(
        &told(&world, &Plan::default(), "template/haproxy"),
        r"
        template/haproxy: is held by a guard on n1 for 2s, because of service/web: would be empty

        Now
          written on n1: set ········ for 2s
          loaded on n1: set ········ for 2s
          tried again on n1 when an input changes
        ",
    );
}

#[test]
fn a_pause() {
    let mut world = shop();
    world.pause(None);
    world.group("web", json!({"size": 1}));
    let plan = world.settle();
    check(
        &told(&world, &plan, "cluster/shop"),
        r"
        cluster/shop: paused for 0s: night

        Now
          shop, applied 0s ago

        How it came to that
          00:16:40.000Z  instance/web-0  assigned         to n1 port 20000
          00:16:40.000Z  instance/web-1  assigned         to n1 port 20001
          00:16:40.000Z  instance/web-0  started          started as pid 105
          00:16:40.000Z  instance/web-1  started          started as pid 106
          00:16:40.000Z  instance/web-0  passing          healthy 0s after the start
          00:16:40.000Z  instance/web-1  passing          healthy 0s after the start
          00:16:40.000Z  group/web       rollout-done     version ········ is healthy on all 2

        Waiting
          drain web-1: its group has size 1: the pause (paused: night)
        ",
    );
}

#[test]
fn a_halt() {
    let mut world = shop();
    world.halt();
    let told = told(&world, &Plan::default(), "cluster/shop");
    assert!(told.starts_with("cluster/shop: everything is to stop, asked 0s ago\n"), "{told}");
}

#[test]
fn what_is_not_there_is_said_so() {
    let world = shop();
    for object in ["instance/web-9", "group/db", "service/db", "template/db", "node/n9", "instance/db"] {
        assert_eq!(told(&world, &Plan::default(), object), format!("{object}: is not there"));
    }
    assert!(told(&world, &Plan::default(), "node/n1").starts_with("node/n1: runs regrow 0.1.0 at 127.0.0.1"));
}

#[test]
fn an_explanation_has_an_end_and_a_form_for_machines() {
    let mut world = shop();
    for _ in 0..40 {
        world.kill(&id("web-1"));
        world.pass(120 * SECOND);
    }
    let object = Ref::instance(&id("web-1"));
    let explanation = explain(&world.view, &world.events, &[], &object, world.now);
    let chains: std::collections::BTreeSet<_> = explanation.chain.iter().map(|step| &step.cause).collect();
    assert!(explanation.chain.len() <= STEPS_MAX && chains.len() <= CHAINS_MAX);
    let json = serde_json::to_value(&explanation).expect("it serialises");
    assert_eq!((json["object"].as_str(), json["chain"][0]["kind"].as_str()), (Some("instance/web-1"), Some("exited")));
}
