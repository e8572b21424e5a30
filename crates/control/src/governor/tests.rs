//! Shows each rule of the governor alone, and that what is let through pays.

use crate::world::{Fate, World, id, lines, name};
use regrow_model::desired::Goal;
use regrow_model::key::{Change, Record};
use regrow_model::{Action, Plan};
use serde_json::json;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A group of four that is to shrink to one.
fn shrinking(governor: serde_json::Value) -> World {
    let mut world = World::web(json!({"size": 4}));
    world.governor(governor);
    world.settle();
    world.group("web", json!({"size": 1, "min_healthy": 1}));
    world
}

fn disruptions(plan: &Plan) -> usize {
    plan.actions.iter().filter(|planned| planned.disrupts.is_some()).count()
}

#[test]
fn a_pause_holds_what_is_planned_until_it_ends() {
    let mut world = shrinking(json!({}));
    let until = world.now.after(60 * SECOND);
    world.pause(Some(until));
    let plan = world.settle();
    assert_eq!(disruptions(&plan), 0);
    assert_eq!(plan.recheck_at, Some(until));
    assert!(lines(&plan).contains("held instance/web-1: drain web-1: its group has size 1 [pause] paused: night\n"));
    world.now = until;
    assert_eq!(disruptions(&world.plan()), 3);
}

#[test]
fn the_floor_counts_what_is_let_through_and_what_is_on_its_way() {
    let mut world = World::web(json!({"size": 4, "min_healthy": 3}));
    world.settle();
    world.group("web", json!({"size": 4, "min_healthy": 3, "command": ["v2"], "update": {"max_unavailable": 4}}));
    world.round(|_| Fate::Done);
    let plan = world.plan();
    assert_eq!(disruptions(&plan), 1);
    assert!(lines(&plan).contains("[min-healthy] 3 of group web are healthy and 3 must stay so"), "{}", lines(&plan));
    world.round(|_| Fate::Done);
    assert_eq!(disruptions(&world.plan()), 0, "the first is still on its way");
    world.settle();
    assert!(world.serving().iter().all(|line| line.contains(" v2 ")), "{:?}", world.serving());
}

#[test]
fn the_unhealthy_cost_the_floor_nothing() {
    let mut world = World::web(json!({"size": 3, "min_healthy": 2}));
    world.settle();
    world.sick.extend([id("web-1"), id("web-2")]);
    world.settle();
    world.group("web", json!({"size": 1, "min_healthy": 1}));
    let stopped: Vec<String> = world.plan().actions.iter().map(|planned| planned.why.clone()).collect();
    assert_eq!(stopped[1..], ["stop web-1: its group has size 1", "stop web-2: its group has size 1"]);
}

#[test]
fn a_spent_budget_holds_until_its_window_moves_on() {
    let mut world = shrinking(json!({"budget": {"changes": 2, "per": "1m"}}));
    let spent = world.now;
    let plan = world.settle();
    assert!(lines(&plan).contains("[budget] 2 changes in 1m are spent"), "{}", lines(&plan));
    assert_eq!((world.processes.len(), plan.recheck_at), (2, Some(spent.after(60 * SECOND))));
    world.pass(60 * SECOND);
    assert_eq!(world.processes.len(), 1);
    let record = world.view.governor.as_ref().expect("its record");
    assert_eq!(record.spent, [world.now], "what fell out of the window is forgotten");
}

#[test]
fn what_is_let_through_pays_in_its_own_transaction() {
    let world = shrinking(json!({}));
    let plan = world.plan();
    let paid = plan.actions.iter().filter(|planned| planned.disrupts.is_some()).map(|planned| {
        let Action::Record { changes } = &planned.action else { panic!("a record") };
        let payment = changes.iter().find_map(|change| match change {
            Change::Put(Record::Governor(record)) => Some(record.spent.len()),
            _ => None,
        });
        payment.expect("a payment")
    });
    assert_eq!(paid.collect::<Vec<_>>(), [1, 2, 3]);
}

#[test]
fn a_partition_kills_nobody() {
    let mut world = World::web(json!({"size": 5}));
    world.settle();
    world.sick.extend(["web-0", "web-1", "web-2"].map(id));
    let plan = world.pass(300 * SECOND);
    assert!(lines(&plan).contains("[freeze] 3 of 5 live endpoints fail their checks"), "{}", lines(&plan));
    assert_eq!(world.processes.len(), 5);
    assert!(world.view.assignments.values().all(|assignment| assignment.incarnation == 1));
    // A real death is still replaced.
    world.kill(&id("web-0"));
    world.settle();
    assert_eq!(world.view.assignments[&id("web-0")].incarnation, 2);
    // Half of them is no partition.
    world.sick.clear();
    world.sick.insert(id("web-1"));
    world.settle();
    world.pass(60 * SECOND);
    assert!(world.view.assignments[&id("web-1")].incarnation > 1);
}

#[test]
fn too_few_to_tell_are_no_partition() {
    let mut world = World::web(json!({"size": 3}));
    world.settle();
    world.sick.extend(["web-0", "web-1", "web-2"].map(id));
    world.pass(31 * SECOND);
    assert!(world.view.assignments.values().any(|assignment| assignment.incarnation == 2));
}

#[test]
fn a_halt_is_never_held() {
    let mut world = shrinking(json!({"budget": {"changes": 1, "per": "1m"}}));
    world.pause(None);
    world.halt();
    world.settle();
    assert!(world.processes.is_empty());
    assert!(world.view.assignments.values().all(|assignment| assignment.goal == Goal::Stop));
}

#[test]
fn a_large_change_goes_in_parts() {
    let mut world = World::web(json!({"size": 300}));
    world.governor(json!({"budget": {"changes": 10_000, "per": "1m"}}));
    world.settle();
    world.group("web", json!({"size": 0}));
    assert_eq!(disruptions(&world.plan()), super::DISRUPTIONS_PER_PLAN_MAX);
    world.settle();
    assert!(world.processes.is_empty());
    assert_eq!(world.view.group_status[&name("web")].rollout, None);
}
