//! Shows what becomes of the dead, of crash loops, and of processes that live and fail their checks.

use crate::world::name;
use crate::world::{Fate, World, id, lines};
use regrow_model::desired::Assignment;
use regrow_model::event::EventKind;
use regrow_model::key::{Key, Record};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_death_is_followed_by_the_next_life_on_the_same_port() {
    let mut world = World::web(json!({}));
    world.settle();
    world.pass(60 * SECOND);
    world.kill(&id("web-1"));
    assert_eq!(lines(&world.plan()), "record instance/web-1: web-1 was killed by SIGKILL\n");
    let death = world.view.instances[&id("web-1")].cause.clone();
    world.settle();
    assert_eq!(world.serving(), ["web-0 1 v1 :20000", "web-1 2 v1 :20001", "web-2 1 v1 :20002"]);
    let chain: Vec<String> = world
        .events
        .iter()
        .filter(|(_, event)| event.cause == death)
        .map(|(_, event)| event.kind.to_string())
        .collect();
    assert_eq!(chain, ["exited", "assigned", "started", "passing"]);
    assert_eq!(world.told(EventKind::Exited), ["instance/web-1: killed by SIGKILL after 1m"]);
}

#[test]
fn a_crash_loop_slows_down_and_its_siblings_do_not_notice() {
    let mut world = World::web(json!({"size": 2}));
    world.settle();
    let mut waits = Vec::new();
    for _ in 0..9 {
        world.kill(&id("web-0"));
        let died = world.now;
        let plan = world.settle();
        let until = world.view.assignments[&id("web-0")].not_before;
        let wait = until.since(died).as_millis();
        if wait > 0 {
            assert_eq!(plan.recheck_at, Some(until));
            assert!(
                lines(&plan).starts_with("held instance/web-0: start web-0 [backoff] it ended "),
                "{}",
                lines(&plan)
            );
        }
        waits.push(wait);
        world.now = world.now.max(until);
        world.settle();
    }
    for (index, wait) in waits.iter().enumerate() {
        let whole = if index == 0 { 0 } else { 60_000.min(1_000 << (index - 1)) };
        assert!((whole * 3 / 4..=whole).contains(wait), "wait {index} of {waits:?}");
    }
    assert_eq!(world.told(EventKind::BackingOff).len(), 1);
    assert_eq!(world.view.assignments[&id("web-1")].incarnation, 1);
    world.pass(10 * SECOND);
    assert_eq!(world.view.assignments[&id("web-0")].crashes, 0, "healthy for long enough, it starts afresh");
}

#[test]
fn one_that_fails_its_checks_for_too_long_is_replaced() {
    let mut world = World::web(json!({"grace": "10s", "replace_failing": "30s"}));
    world.settle();
    world.sick.insert(id("web-0"));
    let plan = world.settle();
    assert_eq!(plan.recheck_at, Some(world.now.after(40 * SECOND).min(world.now.after(30 * SECOND))));
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.view.assignments[&id("web-0")].incarnation, 1);
    world.sick.clear();
    world.sick.insert(id("web-0"));
    world.now = world.now.after(Duration::from_millis(1));
    assert_eq!(lines(&world.plan()), "record instance/web-0: stop web-0: its checks have failed for 30s (disrupts)\n");
    world.sick.clear();
    world.round(|_| Fate::Done);
    world.settle();
    assert_eq!(world.view.assignments[&id("web-0")].incarnation, 2);
    assert_eq!(world.serving().len(), 3);
}

#[test]
fn failing_ones_are_replaced_one_at_a_time_and_in_turn() {
    let mut world = World::web(json!({"size": 3, "backoff": {"reset": "1s"}}));
    world.settle();
    world.sick.extend(["web-0", "web-1", "web-2"].map(id));
    let mut lives = Vec::new();
    for _ in 0..6 {
        world.pass(45 * SECOND);
        lives.push(["web-0", "web-1", "web-2"].map(|slot| world.view.assignments[&id(slot)].incarnation));
    }
    // A database that is away makes all fail: each is tried in turn, and never are all away at once.
    let last = lives.last().expect("six");
    assert!(last.iter().all(|life| *life >= 2) && last.iter().sum::<u64>() <= 10, "{lives:?}");
}

#[test]
fn a_dead_one_of_a_pause_comes_back_as_it_was() {
    let mut world = World::web(json!({}));
    world.settle();
    world.pause(None);
    world.group("web", json!({"command": ["v2"]}));
    world.kill(&id("web-2"));
    let plan = world.settle();
    assert_eq!(world.serving(), ["web-0 1 v1 :20000", "web-1 1 v1 :20001", "web-2 2 v1 :20002"]);
    let held = lines(&plan);
    assert!(
        held.starts_with("held group/web: begin the change to version ") && held.ends_with("[pause] paused: night\n"),
        "{held}"
    );
    world.view.pause = None;
    world.settle();
    assert_eq!(world.serving(), ["web-0 2 v2 :20000", "web-1 2 v2 :20001", "web-2 3 v2 :20002"]);
}

#[test]
fn failing_checks_count_only_after_the_grace() {
    let mut world = World::web(json!({"size": 1, "grace": "60s", "replace_failing": "5s"}));
    world.settle();
    let started = world.now;
    world.sick.insert(id("web-0"));
    let plan = world.pass(30 * SECOND);
    assert_eq!(world.view.assignments[&id("web-0")].incarnation, 1);
    assert_eq!(plan.recheck_at, Some(started.after(60 * SECOND)));
    world.pass(31 * SECOND);
    assert_eq!(world.view.assignments[&id("web-0")].incarnation, 2);
}

#[test]
fn a_crash_loop_keeps_nobody_else_failing() {
    let mut world = World::web(json!({"size": 2}));
    world.settle();
    for _ in 0..12 {
        world.kill(&id("web-0"));
        world.settle();
        world.now = world.now.max(world.view.assignments[&id("web-0")].not_before);
        world.settle();
    }
    world.kill(&id("web-0"));
    world.sick.insert(id("web-1"));
    world.pass(31 * SECOND);
    assert!(world.view.assignments[&id("web-0")].not_before > world.now, "it still waits");
    assert_eq!(world.view.assignments[&id("web-1")].incarnation, 2);
}

#[test]
fn what_never_started_on_a_node_that_is_gone_goes_to_another() {
    let mut world = World::web(json!({"size": 1}));
    world.settle();
    let mut waiting = Assignment::clone(&world.view.assignments[&id("web-0")]);
    waiting.incarnation = 2;
    world.kill(&id("web-0"));
    world.put(Record::Assignment(id("web-0"), Box::new(waiting)));
    let node = regrow_model::observed::Node::clone(&world.view.nodes[&name("n1")]);
    world.view.delete(&Key::Node(name("n1")));
    world.put(Record::Node(name("n2"), node));
    world.round(|_| Fate::Done);
    let next = &world.view.assignments[&id("web-0")];
    assert_eq!((next.node.as_str(), next.incarnation), ("n2", 3));
}
