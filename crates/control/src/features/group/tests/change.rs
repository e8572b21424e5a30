//! Shows how a group is changed: a step at a time, back to the last good version when the new one fails, and all of
//! it stopped in order.

use crate::world::{Fate, World, id, lines, name};
use regrow_model::desired::Goal;
use regrow_model::event::EventKind;
use regrow_model::{Name, Plan};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Most that were away, and most that were there, at any moment of a change.
fn change(world: &mut World, group: &Name, size: usize) -> (usize, usize) {
    let (mut away, mut most) = (0, 0);
    for _ in 0..200 {
        let (_, moved) = world.round(|_| Fate::Done);
        let lived = world.live();
        let serving = world.view.assignments_of(group).filter(|(id, _)| world.serves(id)).count();
        away = away.max(size.saturating_sub(serving));
        most = most.max(world.processes.len());
        if !moved && !lived {
            break;
        }
    }
    (away, most)
}

fn held(plan: &Plan) -> String {
    lines(plan)
}

#[test]
fn a_change_goes_one_at_a_time() {
    let mut world = World::web(json!({"size": 4}));
    world.settle();
    world.group("web", json!({"size": 4, "command": ["v2"]}));
    assert_eq!(change(&mut world, &name("web"), 4), (1, 4));
    assert_eq!(world.serving(), ["web-0 2 v2 :20000", "web-1 2 v2 :20001", "web-2 2 v2 :20002", "web-3 2 v2 :20003"]);
    assert_eq!(world.told(EventKind::RolloutStarted).len(), 1);
    assert_eq!(world.told(EventKind::RolloutDone).len(), 2, "the first version and the second");
}

#[test]
fn a_surge_takes_nothing_away_and_leaves_nothing_behind() {
    let mut world = World::web(json!({"size": 3}));
    world.settle();
    world.group("web", json!({"command": ["v2"], "update": {"max_unavailable": 0, "max_surge": 2}}));
    assert_eq!(change(&mut world, &name("web"), 3), (0, 5));
    assert_eq!(world.serving(), ["web-0 2 v2 :20000", "web-1 2 v2 :20001", "web-2 2 v2 :20002"]);
}

#[test]
fn many_at_a_time_when_many_may_be_away() {
    let mut world = World::web(json!({"size": 6}));
    world.settle();
    world.group("web", json!({"size": 6, "command": ["v2"], "update": {"max_unavailable": 3}}));
    assert_eq!(change(&mut world, &name("web"), 6), (3, 6));
}

#[test]
fn a_version_that_does_not_become_healthy_is_taken_back_and_remembered() {
    let mut world = World::web(json!({}));
    world.settle();
    world.broken.insert("v2".into());
    world.group("web", json!({"command": ["v2"], "size": 4}));
    let plan = world.pass(120 * SECOND);
    let told = world.told(EventKind::RolledBack);
    let reason = "web-3 is not healthy after 30s: http /: 500 oh no";
    assert!(told.len() == 1 && told[0].contains(reason), "{told:?}");
    let serving = world.serving();
    assert!(serving.len() == 4 && serving.iter().all(|line| line.contains(" v1 ")), "the size is kept: {serving:?}");
    assert!(held(&plan).contains("[known-bad]") && held(&plan).contains(reason), "{}", held(&plan));
    assert_eq!(world.view.group_status[&name("web")].bad.len(), 1);
    // The same again is not tried again; another is.
    world.group("web", json!({"command": ["v2"]}));
    world.pass(60 * SECOND);
    assert!(world.serving().iter().all(|line| line.contains(" v1 ")));
    world.group("web", json!({"command": ["v3"]}));
    world.pass(60 * SECOND);
    assert!(world.serving().iter().all(|line| line.contains(" v3 ")));
}

#[test]
fn a_version_that_crashes_is_taken_back() {
    let mut world = World::web(json!({}));
    world.settle();
    world.crashing.insert("v2".into());
    world.group("web", json!({"command": ["v2"], "update": {"health_within": "10m"}}));
    world.pass(60 * SECOND);
    let told = world.told(EventKind::RolledBack);
    assert!(told.len() == 1 && told[0].contains("web-0 ended 3 times in a row: killed by SIGKILL"), "{told:?}");
    assert_eq!(world.serving().len(), 3);
    assert_eq!(world.view.assignments[&id("web-1")].incarnation, 1, "the others were never touched");
}

#[test]
fn without_rollback_or_a_good_version_it_stays_and_is_said() {
    let mut world = World::web(json!({"size": 2, "replace_failing": "10m"}));
    world.broken.insert("v1".into());
    let plan = world.pass(60 * SECOND);
    assert!(held(&plan).contains("[known-bad] web-0 is not healthy after 30s"), "{}", held(&plan));
    assert_eq!(world.told(EventKind::Held).len(), 1);
    world.broken.clear();
    let plan = world.settle();
    assert_eq!((held(&plan).as_str(), world.serving().len()), ("", 2));
    assert!(world.view.group_status[&name("web")].bad.is_empty(), "what is healthy is not bad");
    world.broken.insert("v2".into());
    let update = json!({"rollback": false});
    world.group("web", json!({"size": 2, "command": ["v2"], "update": update, "replace_failing": "10m"}));
    world.pass(60 * SECOND);
    assert_eq!(world.serving(), ["web-1 1 v1 :20001"], "it stays, and goes no further");
    assert!(world.told(EventKind::RolledBack).is_empty());
}

#[test]
fn a_group_of_one_can_change_although_a_guard_keeps_its_pool() {
    let mut world = World::web(json!({"size": 1}));
    world.template("proxy", &["web"]);
    world.settle();
    world.loading = false;
    world.group("web", json!({"size": 1, "command": ["v2"]}));
    world.settle();
    assert_eq!(world.view.assignments[&id("web-0")].goal, Goal::Drain);
    world.refuse("proxy", "web");
    world.settle();
    assert_eq!(world.serving(), ["web-0 2 v2 :20000"]);
}

#[test]
fn a_guard_is_waited_for_where_the_floor_needs_it() {
    let mut world = World::web(json!({"size": 2}));
    world.template("proxy", &["web"]);
    world.settle();
    world.loading = false;
    world.group("web", json!({"size": 2, "command": ["v2"]}));
    world.settle();
    world.sick.insert(id("web-1"));
    world.live();
    world.refuse("proxy", "web");
    let plan = world.settle();
    assert!(held(&plan).contains("web-0 [drain] a guard of template proxy keeps it in the pool"), "{}", held(&plan));
}

#[test]
fn everything_stops_in_order() {
    let mut world = World::web(json!({}));
    world.template("haproxy", &["web"]);
    world.group("proxy", json!({"service": null, "size": 1, "command": ["p"], "after": ["template/haproxy"]}));
    world.settle();
    world.halt();
    assert_eq!(
        lines(&world.plan()),
        "record instance/proxy-0: stop proxy-0: everything is to stop (disrupts)\n\
         held group/web: stop group web [after] group proxy stops before it\n"
    );
    let mut left = Vec::new();
    for _ in 0..8 {
        world.round(|_| Fate::Done);
        left.push(world.processes.len());
    }
    assert_eq!(left, [4, 3, 3, 0, 0, 0, 0, 0]);
    assert_eq!(lines(&world.settle()), "");
    assert_eq!(world.view.assignments.len(), 4, "the slots and their ports are kept");
    world.now = world.now.after(SECOND);
    world.restart();
    world.settle();
    assert_eq!(world.serving(), ["proxy-0 2 p :20000", "web-0 2 v1 :20001", "web-1 2 v1 :20002", "web-2 2 v1 :20003"]);
    assert!(world.view.assignments.values().all(|assignment| assignment.crashes == 0));
}

#[test]
fn the_start_after_a_halt_keeps_its_order_and_a_change_of_one_does_not_wait() {
    let mut world = World::web(json!({}));
    let proxy = |program| json!({"service": null, "size": 1, "command": [program], "after": ["group/web"]});
    world.group("proxy", proxy("p"));
    world.settle();
    world.pass(SECOND);
    assert!(world.serves(&id("proxy-0")));
    world.sick.insert(id("web-0"));
    world.settle();
    world.group("proxy", proxy("q"));
    world.settle();
    assert!(world.serving().contains(&"proxy-0 2 q :20000".to_owned()), "{:?}", world.serving());
    world.halt();
    world.settle();
    world.now = world.now.after(SECOND);
    world.restart();
    let plan = world.settle();
    assert_eq!(lines(&plan), "held group/proxy: start proxy-0 [after] 2 of 3 of group/web are healthy\n");
    world.sick.clear();
    world.settle();
    assert!(world.serves(&id("proxy-0")));
}

#[test]
fn what_was_broken_before_is_changed_one_at_a_time_too() {
    let mut world = World::web(json!({"size": 4}));
    world.broken.extend(["v1".to_owned(), "v2".to_owned()]);
    world.settle();
    world.group("web", json!({"size": 4, "command": ["v2"]}));
    world.settle();
    let new = world.view.assignments.values().filter(|assignment| assignment.process.command[0] == "v2").count();
    assert_eq!(new, 1);
    world.broken.clear();
    world.settle();
    assert_eq!(world.serving().len(), 4);
}

#[test]
fn one_that_is_sick_already_counts_as_away() {
    let mut world = World::web(json!({}));
    world.settle();
    world.sick.insert(id("web-2"));
    world.broken.insert("v2".into());
    world.settle();
    let update = json!({"max_unavailable": 1, "max_surge": 1});
    world.group("web", json!({"command": ["v2"], "update": update, "min_healthy": 0}));
    assert_eq!(change(&mut world, &name("web"), 3).0, 1);
}

#[test]
fn a_version_without_checks_that_ends_at_once_is_taken_back() {
    let mut world = World::web(json!({"service": null, "size": 1}));
    world.pass(SECOND);
    let good = world.view.group_status[&name("web")].good.as_ref().expect("a good version").version;
    world.group("web", json!({"service": null, "size": 1, "command": ["v2"]}));
    for _ in 0..4 {
        // It is seen to run, and ends a little later.
        world.settle();
        world.now = world.now.after(Duration::from_millis(500));
        world.settle();
        world.kill(&id("web-0"));
        world.now = world.now.after(10 * SECOND);
    }
    world.pass(SECOND);
    assert_eq!(world.told(EventKind::RolledBack).len(), 1);
    assert_eq!(world.view.group_status[&name("web")].good.as_ref().expect("a good version").version, good);
    assert_eq!(world.view.assignments[&id("web-0")].process.command[0], "v1");
}

#[test]
fn a_change_asked_for_doubts_nobody_and_a_return_does() {
    let mut world = World::web(json!({"size": 2}));
    world.settle();
    world.sick.insert(id("web-0"));
    world.settle();
    world.group("web", json!({"size": 2, "command": ["v2"]}));
    world.round(|_| Fate::Done);
    let doubts = |world: &World| {
        let plan = world.plan();
        let found = plan.actions.iter().find_map(|planned| planned.disrupts.clone());
        found.map(|disruption| disruption.destroys_alive)
    };
    assert_eq!(doubts(&world), Some(false));
    world.settle();
    world.now = world.now.after(30 * SECOND);
    world.round(|_| Fate::Done);
    assert_eq!(world.told(EventKind::RolledBack).len(), 1);
    assert_eq!(doubts(&world), Some(true));
}

#[test]
fn a_pause_lets_no_surge_begin() {
    let mut world = World::web(json!({}));
    world.settle();
    world.group("web", json!({"command": ["v2"], "update": {"max_unavailable": 0, "max_surge": 2}}));
    world.round(|_| Fate::Done);
    world.pause(None);
    world.settle();
    assert_eq!(world.processes.len(), 3);
}

#[test]
fn a_group_that_moves_to_another_service_leaves_nothing_in_the_first() {
    let mut world = World::web(json!({}));
    world.service("api", json!({"checks": [{"http": "/"}]}));
    world.settle();
    world.group("web", json!({"service": "api"}));
    assert_eq!(change(&mut world, &name("web"), 3).0, 1);
    assert_eq!(world.view.endpoints.keys().map(|service| service.as_str()).collect::<Vec<_>>(), ["api"]);
    assert_eq!(world.serving().len(), 3);
}

#[test]
fn groups_on_a_circle_stop_all_the_same() {
    let mut world = World::new();
    for (group, after) in [("a", "group/c"), ("b", "group/a"), ("c", "group/b"), ("d", "group/a")] {
        world.group(group, json!({"service": null, "size": 1}));
        world.settle();
        // Applying a spec refuses a circle; a record written by another hand does not.
        world.group(group, json!({"service": null, "size": 1, "after": [after]}));
    }
    world.settle();
    assert_eq!(world.processes.len(), 4);
    world.halt();
    world.settle();
    assert!(world.processes.is_empty());
}
