//! Shows what a node does with what is assigned to it, and what comes of it as transactions.

use super::{Hooked, Wanted, exited, hooked, outcome, plan, wanted};
use crate::world::{World, id, name};
use regrow_model::desired::{Assignment, Goal};
use regrow_model::event::EventKind;
use regrow_model::key::{Change, Record};
use regrow_model::observed::{EndpointState, Moment, Phase, WorldError, WorldErrorKind};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, CauseId, Outcome, Planned, Recorded, Time};
use serde_json::json;
use std::time::Duration;

/// A group of one that is assigned and nothing more.
fn assigned(group: serde_json::Value) -> World {
    let mut world = World::web(group);
    let records = crate::features::group::plan(&world.view, world.now);
    for planned in records.actions {
        let Action::Record { changes } = planned.action else { panic!("records only") };
        world.commit(Recorded { changes, events: planned.events });
    }
    world
}

fn the_plan(world: &World) -> Vec<Planned> {
    plan(&world.view, &name("n1"), world.now).actions
}

fn keys(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.key().to_string()).collect()
}

fn edit(world: &mut World, change: impl Fn(&mut Assignment)) {
    let mut assignment = Assignment::clone(&world.view.assignments[&id("web-0")]);
    change(&mut assignment);
    world.put(Record::Assignment(id("web-0"), Box::new(assignment)));
}

const STARTED: Outcome = Outcome::Started { process: ProcessId { pid: 7, start_ticks: 1 }, adopted: false };

#[test]
fn a_start_is_preceded_by_its_intent_and_done_again_without_an_outcome() {
    let mut world = assigned(json!({"size": 1}));
    let planned = the_plan(&world).remove(0);
    assert_eq!(
        keys(&planned.intent),
        ["/regrow/observed/instance/web-0", "/regrow/observed/endpoint/web/web-0", "/regrow/observed/service/web"]
    );
    world.commit(Recorded { changes: planned.intent.clone(), events: Vec::new() });
    let again = the_plan(&world).remove(0);
    assert_eq!((&again.action, again.intent.len()), (&planned.action, 0));
    world.commit(outcome(&world.view, &name("n1"), &planned, &STARTED, world.now));
    assert_eq!(world.view.instances[&id("web-0")].phase, Phase::Running);
    assert!(the_plan(&world).is_empty());
    assert_eq!(outcome(&world.view, &name("n1"), &again, &STARTED, world.now), Recorded::default(), "twice is once");
}

#[test]
fn a_port_is_listened_on_when_somebody_asks_for_it() {
    let listens = |group| {
        let world = assigned(group);
        let Action::Start { listen, .. } = the_plan(&world).remove(0).action else { panic!("a start") };
        listen
    };
    let some = Some(("127.0.0.1".to_owned(), 20_000));
    assert_eq!(listens(json!({"size": 1, "command": ["x"]})), some);
    assert_eq!(listens(json!({"size": 1, "service": null, "command": ["x"]})), None);
    assert_eq!(listens(json!({"size": 1, "service": null, "command": ["x", "-p${PORT}"]})), some);
    assert_eq!(listens(json!({"size": 1, "service": null, "command": ["x"], "environment": {"P": "${PORT}"}})), some);
    assert_eq!(listens(json!({"size": 1, "service": null, "command": ["x", "$${PORT}"]})), None);
}

#[test]
fn nothing_starts_before_its_time_or_while_everything_stops() {
    let mut world = assigned(json!({"size": 1}));
    let later = world.now.after(Duration::from_secs(5));
    edit(&mut world, |assignment| assignment.not_before = later);
    let waits = plan(&world.view, &name("n1"), world.now);
    assert_eq!((waits.actions.len(), waits.recheck_at), (0, Some(later)));
    world.now = later;
    assert_eq!(the_plan(&world).len(), 1);
    world.halt();
    assert!(the_plan(&world).is_empty());
    assert!(plan(&world.view, &name("n2"), world.now).actions.is_empty(), "another node's");
}

#[test]
fn without_checks_a_process_is_health_enough() {
    for checks in [json!([]), json!([{"process": true}])] {
        let mut world = assigned(json!({"size": 1}));
        world.service("web", json!({"checks": checks}));
        let planned = the_plan(&world).remove(0);
        world.commit(Recorded { changes: planned.intent.clone(), events: Vec::new() });
        let recorded = outcome(&world.view, &name("n1"), &planned, &STARTED, world.now);
        let told: Vec<_> = recorded.events.iter().map(|event| event.kind).collect();
        assert_eq!(told, [EventKind::Started, EventKind::Passing]);
        world.commit(recorded);
        assert!(world.serves(&id("web-0")));
    }
}

#[test]
fn a_service_that_loses_its_checks_is_healthy() {
    let mut world = World::web(json!({"size": 1}));
    world.broken.insert("v1".into());
    world.settle();
    assert!(!world.serves(&id("web-0")));
    world.service("web", json!({}));
    world.settle();
    assert!(world.serves(&id("web-0")));
}

#[test]
fn a_start_that_fails_ends_the_life_with_its_reason() {
    let mut world = assigned(json!({"size": 1}));
    let planned = the_plan(&world).remove(0);
    world.commit(Recorded { changes: planned.intent.clone(), events: Vec::new() });
    let error = WorldError { kind: WorldErrorKind::DiskFull, text: "no space left on /srv".into() };
    let failed = Outcome::Failed { stage: None, error: error.clone() };
    let recorded = outcome(&world.view, &name("n1"), &planned, &failed, world.now);
    assert_eq!(recorded.events[0].kind, EventKind::StartFailed);
    assert_eq!(recorded.events[0].message, "no space left on /srv");
    world.commit(recorded);
    let instance = &world.view.instances[&id("web-0")];
    assert_eq!((instance.phase, instance.error.as_ref()), (Phase::Exited, Some(&error)));
    assert_eq!(world.view.endpoints[&name("web")][&id("web-0")].state, EndpointState::Down);
}

#[test]
fn a_stop_takes_the_endpoint_down_first_and_is_done_again_when_it_fails() {
    let mut world = World::web(json!({"size": 1, "stop": {"signal": "QUIT", "grace": "3s"}}));
    world.settle();
    edit(&mut world, |assignment| assignment.goal = Goal::Stop);
    let planned = the_plan(&world).remove(0);
    let Action::Stop { signal, grace, incarnation, .. } = &planned.action else { panic!("a stop") };
    assert_eq!((signal.as_str(), *grace, *incarnation), ("QUIT", Duration::from_secs(3), 1));
    world.commit(Recorded { changes: planned.intent.clone(), events: planned.events.clone() });
    assert_eq!(world.view.endpoints[&name("web")][&id("web-0")].state, EndpointState::Down);
    let error = WorldError { kind: WorldErrorKind::Permission, text: "kill: not permitted".into() };
    let failed = Outcome::Failed { stage: None, error };
    assert_eq!(outcome(&world.view, &name("n1"), &planned, &failed, world.now), Recorded::default());
    let again = the_plan(&world).remove(0);
    assert_eq!((&again.action, again.intent.len()), (&planned.action, 0));
    let exit = Exit { code: Some(0), signal: None, at: world.now, tail: "bye".into() };
    let recorded = outcome(&world.view, &name("n1"), &again, &Outcome::Stopped { exit }, world.now);
    assert_eq!(
        (recorded.events[0].kind, recorded.events[0].message.as_str()),
        (EventKind::Stopped, "exited with code 0")
    );
    world.commit(recorded);
    assert_eq!(world.view.instances[&id("web-0")].phase, Phase::Exited);
}

#[test]
fn an_end_that_was_asked_for_begins_no_chain() {
    let exit = |world: &World| Exit { code: Some(1), signal: None, at: world.now, tail: "out of luck".into() };
    let own = CauseId::new(Time(9), 9);
    let mut world = World::web(json!({"size": 1}));
    world.settle();
    let dies = exited(&world.view, &name("n1"), &id("web-0"), 1, &exit(&world), world.now, &own);
    assert_eq!((dies.events[0].kind, &dies.events[0].cause), (EventKind::Exited, &own));
    assert_eq!(dies.events[0].detail.as_deref(), Some("out of luck"));
    let stale = exited(&world.view, &name("n1"), &id("web-0"), 2, &exit(&world), world.now, &own);
    assert_eq!(stale, Recorded::default());
    edit(&mut world, |assignment| assignment.goal = Goal::Stop);
    let planned = the_plan(&world).remove(0);
    world.commit(Recorded { changes: planned.intent, events: Vec::new() });
    let stops = exited(&world.view, &name("n1"), &id("web-0"), 1, &exit(&world), world.now, &own);
    assert_eq!((stops.events[0].kind, &stops.events[0].cause), (EventKind::Stopped, &planned.cause));
    world.commit(stops);
    let twice = exited(&world.view, &name("n1"), &id("web-0"), 1, &exit(&world), world.now, &own);
    assert_eq!(twice, Recorded::default());
}

#[test]
fn what_nobody_wants_here_is_stopped() {
    let mut world = World::web(json!({"size": 1}));
    world.settle();
    edit(&mut world, |assignment| assignment.node = name("n2"));
    assert_eq!(the_plan(&world)[0].why, "nobody wants life 1 of web-0 on n1");
    edit(&mut world, |assignment| (assignment.node, assignment.incarnation) = (name("n1"), 2));
    assert_eq!(the_plan(&world)[0].why, "nobody wants life 1 of web-0 on n1", "the life before goes first");
    world.view.assignments.clear();
    let planned = the_plan(&world).remove(0);
    assert!(matches!(planned.action, Action::Stop { incarnation: 1, .. }));
}

/// A group of one with a service without checks, whose process runs.
fn hooked_group(hooks: serde_json::Value) -> World {
    let mut world = assigned(json!({"size": 1, "hooks": hooks}));
    world.service("web", json!({}));
    let planned = the_plan(&world).remove(0);
    world.commit(Recorded { changes: planned.intent.clone(), events: Vec::new() });
    world.commit(outcome(&world.view, &name("n1"), &planned, &STARTED, world.now));
    world
}

fn hook_ends(world: &mut World, moment: Moment, succeeded: bool) {
    let ended = Hooked { moment, succeeded, why: "run 1" };
    let recorded = hooked(&world.view, &name("n1"), &id("web-0"), 1, ended, world.now);
    assert!(recorded.events.iter().all(|event| event.kind == EventKind::Hooked));
    world.commit(recorded);
}

fn record_all(world: &mut World) {
    for planned in the_plan(world) {
        let Action::Record { changes } = planned.action else { continue };
        world.commit(Recorded { changes, events: planned.events });
    }
}

/// Shows that an instance enters no pool before the job of its boot has succeeded, what that job is given, and that it is
/// asked for once.
#[test]
fn a_boot_comes_before_the_pool() {
    let hook = json!({"on_boot": {"job": "boot", "parameters": {"who": "${INSTANCE}@${NODE}:${PORT}", "n": 3}, "within": "5m"}});
    let mut world = hooked_group(hook);
    record_all(&mut world);
    assert!(!world.serves(&id("web-0")));
    let wanted = instance_hooks(&world);
    assert_eq!((wanted.len(), wanted[0].job.as_str()), (1, "boot"));
    assert!(wanted[0].key().starts_with("hook/web-0/1/on_boot/"));
    assert_eq!(json!(wanted[0].parameters), json!({"who": "web-0@n1:20000", "n": 3}));
    assert_eq!(wanted[0].until, world.now.after(Duration::from_secs(300)));
    hook_ends(&mut world, Moment::OnBoot, true);
    assert!(instance_hooks(&world).is_empty());
    record_all(&mut world);
    assert!(world.serves(&id("web-0")));
    let before = world.view.clone();
    hook_ends(&mut world, Moment::OnBoot, false);
    assert_eq!(before.instances, world.view.instances, "twice is once");
}

fn instance_hooks(world: &World) -> Vec<Wanted> {
    wanted(&world.view, &name("n1"))
}

/// Shows that a boot that fails fails the start: the process is stopped and the slot has its next life after a wait.
#[test]
fn a_boot_that_fails_fails_the_start() {
    let mut world = hooked_group(json!({"on_boot": {"job": "boot"}}));
    hook_ends(&mut world, Moment::OnBoot, false);
    let planned = the_plan(&world).remove(0);
    assert!(matches!(planned.action, Action::Stop { .. }) && !world.serves(&id("web-0")));
    let exit = Exit { code: Some(0), signal: None, at: world.now, tail: String::new() };
    world.commit(outcome(&world.view, &name("n1"), &planned, &Outcome::Stopped { exit }, world.now));
    let seen = &world.view.instances[&id("web-0")];
    assert_eq!(
        (seen.phase, seen.error.as_ref().map(|error| error.text.as_str())),
        (Phase::Exited, Some("on_boot failed: run 1"))
    );
    for planned in crate::features::group::plan(&world.view, world.now).actions {
        let Action::Record { changes } = planned.action else { panic!("records only") };
        world.commit(Recorded { changes, events: planned.events });
    }
    let next = &world.view.assignments[&id("web-0")];
    assert_eq!((next.incarnation, next.crashes), (2, 1));
}

/// Shows that a boot that the spec no longer asks for holds nothing up, and that one that is added later boots nothing that
/// runs already.
#[test]
fn a_boot_belongs_to_the_life_that_began_with_it() {
    let mut world = hooked_group(json!({"on_boot": {"job": "boot"}}));
    world.group("web", json!({"size": 1}));
    record_all(&mut world);
    record_all(&mut world);
    assert!(world.serves(&id("web-0")));
    world.group("web", json!({"size": 1, "hooks": {"on_boot": {"job": "boot"}}}));
    assert!(instance_hooks(&world).is_empty() && world.serves(&id("web-0")));
}

/// Shows that the stop waits for its job, well ended or not, and no longer than the spec says.
#[test]
fn a_stop_waits_for_its_job() {
    for succeeded in [true, false] {
        let mut world = hooked_group(json!({"before_stop": {"job": "leave", "within": "1m"}}));
        let now = world.now;
        edit(&mut world, |assignment| (assignment.goal, assignment.at) = (Goal::Stop, now));
        let until = now.after(Duration::from_secs(60));
        let waits = plan(&world.view, &name("n1"), world.now);
        assert_eq!((waits.actions.len(), waits.recheck_at), (0, Some(until)));
        assert_eq!(instance_hooks(&world)[0].moment, Moment::BeforeStop);
        let mut late = world.view.clone();
        std::mem::swap(&mut late, &mut world.view);
        let stops = |view: &regrow_model::View, now| {
            plan(view, &name("n1"), now).actions.iter().any(|planned| matches!(planned.action, Action::Stop { .. }))
        };
        assert!(stops(&late, until), "its time is over");
        world.view = late;
        hook_ends(&mut world, Moment::BeforeStop, succeeded);
        assert!(stops(&world.view, world.now) && instance_hooks(&world).is_empty());
    }
}
