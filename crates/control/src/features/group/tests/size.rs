//! Shows that a group gets its size, keeps its slots and ports, and waits for what it comes after.

use crate::world::{Fate, World, id, lines, name};
use regrow_model::Action;
use regrow_model::observed::WorldErrorKind;
use serde_json::json;
use std::time::Duration;

#[test]
fn a_new_group_is_filled_from_the_lowest_slot_and_port() {
    let mut world = World::web(json!({}));
    assert_eq!(
        lines(&world.plan()),
        "record instance/web-0: group web is to have 3\n\
         record instance/web-1: group web is to have 3\n\
         record instance/web-2: group web is to have 3\n"
    );
    let plan = world.settle();
    assert_eq!(lines(&plan), "");
    assert_eq!(world.serving(), ["web-0 1 v1 :20000", "web-1 1 v1 :20001", "web-2 1 v1 :20002"]);
    assert!(world.view.group_status[&name("web")].good.is_some());
}

#[test]
fn a_process_gets_its_place_in_command_and_environment() {
    let mut world = World::web(json!({
        "size": 1, "directory": "app", "environment": {"URL": "http://${ADDRESS}:${PORT}/", "PRICE": "5$$"},
        "command": ["run", "${URL}", "--slot=${SLOT}", "${GROUP}/${INSTANCE}", "$$HOME", "${", "$x", "${NOBODY}"],
    }));
    world.settle();
    let process = &world.view.assignments[&id("web-0")].process;
    assert_eq!(
        process.command,
        ["run", "http://127.0.0.1:20000/", "--slot=0", "web/web-0", "$HOME", "${", "$x", "${NOBODY}"]
    );
    assert_eq!(process.directory, "/srv/app");
    let environment: Vec<String> = process.environment.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(
        environment,
        [
            "ADDRESS=127.0.0.1",
            "GROUP=web",
            "INSTANCE=web-0",
            "PORT=20000",
            "PRICE=5$",
            "REGROW_NODE=n1",
            "SLOT=0",
            "URL=http://127.0.0.1:20000/"
        ]
    );
}

#[test]
fn scaling_down_takes_the_highest_and_up_the_lowest_free() {
    let mut world = World::web(json!({"size": 5}));
    world.settle();
    world.group("web", json!({"size": 2}));
    assert_eq!(
        lines(&world.plan()),
        "record group/web: the state of group web has changed\n\
         record instance/web-2: drain web-2: its group has size 2 (disrupts)\n\
         record instance/web-3: drain web-3: its group has size 2 (disrupts)\n\
         record instance/web-4: drain web-4: its group has size 2 (disrupts)\n"
    );
    world.settle();
    assert_eq!(world.serving(), ["web-0 1 v1 :20000", "web-1 1 v1 :20001"]);
    assert_eq!((world.view.instances.len(), world.view.endpoints[&name("web")].len()), (2, 2));
    world.group("web", json!({"size": 3}));
    world.settle();
    assert_eq!(world.serving(), ["web-0 1 v1 :20000", "web-1 1 v1 :20001", "web-2 1 v1 :20002"]);
}

#[test]
fn all_records_of_an_instance_go_in_one_transaction() {
    let mut world = World::web(json!({"size": 1}));
    world.settle();
    world.group("web", json!({"size": 0}));
    while !world.processes.is_empty() {
        world.round(|_| Fate::Done);
    }
    let plan = world.plan();
    let Action::Record { changes } = &plan.actions[0].action else { panic!("a record") };
    let keys: Vec<String> = changes.iter().map(|change| change.key().to_string()).collect();
    assert_eq!(
        keys,
        [
            "/regrow/desired/instance/web-0",
            "/regrow/observed/instance/web-0",
            "/regrow/observed/endpoint/web/web-0",
            "/regrow/observed/service/web"
        ]
    );
}

#[test]
fn a_removed_group_leaves_nothing() {
    let mut world = World::web(json!({}));
    world.template("proxy", &["web"]);
    world.settle();
    world.view.groups.clear();
    world.settle();
    assert!(world.processes.is_empty() && world.view.assignments.is_empty() && world.view.instances.is_empty());
    assert!(world.view.endpoints.is_empty() && world.view.group_status.is_empty());
}

#[test]
fn a_stop_waits_for_the_pools_and_then_for_the_drain() {
    let mut world = World::web(json!({"size": 2, "drain": "3s"}));
    world.template("proxy", &["web"]);
    world.settle();
    world.loading = false;
    world.group("web", json!({"size": 1, "drain": "3s"}));
    let plan = world.pass(Duration::from_secs(60));
    assert_eq!(
        lines(&plan),
        "held instance/web-1: stop web-1 [drain] template proxy has not loaded a set without it\n"
    );
    world.loading = true;
    let let_go = world.now;
    let plan = world.settle();
    assert_eq!(lines(&plan), "held instance/web-1: stop web-1 [drain] requests in flight may take 3s\n");
    assert_eq!(plan.recheck_at, Some(let_go.after(Duration::from_secs(3))));
    world.pass(Duration::from_millis(2_999));
    assert!(world.processes.contains_key(&id("web-1")));
    world.pass(Duration::from_millis(1));
    assert!(!world.processes.contains_key(&id("web-1")));
}

#[test]
fn a_group_waits_for_what_it_comes_after_but_not_for_its_next_life() {
    let mut world = World::web(json!({}));
    world.broken.insert("v1".into());
    world.group("proxy", json!({"service": null, "size": 1, "command": ["p"], "after": ["group/web", "template/t"]}));
    let plan = world.settle();
    assert_eq!(lines(&plan), "held group/proxy: start proxy-0 [after] 0 of 3 of group/web are healthy\n");
    world.broken.clear();
    let plan = world.settle();
    assert_eq!(lines(&plan), "held group/proxy: start proxy-0 [after] template/t is not written on n1\n");
    world.template("t", &["web"]);
    world.settle();
    assert!(world.serves(&id("proxy-0")));
    world.sick.insert(id("web-0"));
    world.live();
    world.kill(&id("proxy-0"));
    world.settle();
    assert!(world.serves(&id("proxy-0")), "a dead proxy does not wait for the health of its backends");
}

#[test]
fn a_port_that_somebody_has_is_passed_over() {
    let mut world = World::web(json!({"size": 2, "port": "21000-21003"}));
    world.foreign_ports.extend([21_000, 21_001]);
    world.settle();
    assert_eq!(world.serving(), ["web-0 2 v1 :21002", "web-1 2 v1 :21003"]);
    let crashes = |slot| world.view.assignments[&id(slot)].crashes;
    assert_eq!((crashes("web-0"), crashes("web-1")), (0, 0));
}

#[test]
fn a_range_without_a_free_port_waits_between_its_rounds() {
    let mut world = World::web(json!({"size": 1, "port": "21000-21001"}));
    world.foreign_ports.extend([21_000, 21_001]);
    let began = world.now;
    world.pass(Duration::from_secs(600));
    let lives = world.view.assignments[&id("web-0")].incarnation;
    assert!(world.now.since(began) >= Duration::from_secs(600) && lives < 60, "{lives} lives in ten minutes");
}

#[test]
fn one_fixed_port_serves_one_instance_of_a_node() {
    let mut world = World::web(json!({"size": 2, "port": 8080}));
    let plan = world.settle();
    assert_eq!(lines(&plan), "held group/web: start web-1 [placement] port 8080 is taken on every node\n");
    assert_eq!(world.serving(), ["web-0 1 v1 :8080"]);
    world.view.nodes.clear();
    world.view.assignments.clear();
    assert_eq!(lines(&world.plan()).lines().next(), Some("stop instance/web-0: nobody wants life 1 of web-0 on n1"));
}

#[test]
fn a_program_that_is_not_there_is_said_so() {
    let mut world = World::web(json!({"size": 1}));
    world.refused.insert("v1".into(), WorldErrorKind::NotFound);
    world.settle();
    let told = world.told(regrow_model::event::EventKind::StartFailed);
    assert_eq!(told, ["instance/web-0: v1: NotFound"; 2]);
}
