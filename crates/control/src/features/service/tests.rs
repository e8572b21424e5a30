//! Shows which checks run, how results are counted, and that only transitions are written.

use super::{Checked, Health, targets};
use crate::world::{Fate, World, id, name};
use regrow_model::event::EventKind;
use regrow_model::observed::EndpointState;
use regrow_model::{CauseId, InstanceId, Recorded, Time};
use serde_json::json;

/// One running instance of a service with one check, and its results.
struct Bench {
    world: World,
    health: Health,
    instance: InstanceId,
}

impl Bench {
    fn new(checks: serde_json::Value) -> Bench {
        let mut world = World::new();
        world.service("web", json!({"checks": checks}));
        world.group("web", json!({"size": 1}));
        while world.round(|_| Fate::Done).1 {}
        Bench { world, health: Health::default(), instance: id("web-0") }
    }

    fn result(&mut self, check: &str, passing: bool) -> Recorded {
        self.result_of(1, check, passing)
    }

    fn result_of(&mut self, incarnation: u64, check: &str, passing: bool) -> Recorded {
        let service = name("web");
        let result = Checked {
            service: &service,
            instance: &self.instance,
            incarnation,
            check,
            passing,
            output: if passing { "fine" } else { "refused\nreally" },
        };
        let cause = CauseId::new(Time(7), 7);
        let world = &self.world;
        let recorded = self.health.checked(&world.view, &name("n1"), &result, world.now, &cause);
        if recorded != Recorded::default() {
            self.world.commit(recorded.clone());
        }
        recorded
    }

    /// The states after each of a check's results, written as `+` and `-`; a small letter where nothing was written.
    fn script(&mut self, check: &str, results: &str) -> String {
        let states = results.chars().map(|result| {
            let wrote = self.result(check, result == '+') != Recorded::default();
            let state = match self.state() {
                EndpointState::Starting => 'S',
                EndpointState::Passing => 'P',
                EndpointState::Failing => 'F',
                EndpointState::Draining => 'R',
                EndpointState::Down => 'D',
            };
            if wrote { state } else { state.to_ascii_lowercase() }
        });
        states.collect()
    }

    fn state(&self) -> EndpointState {
        self.world.view.endpoints[&name("web")][&self.instance].state
    }
}

#[test]
fn rise_and_fall_count_results_in_a_row() {
    let mut bench = Bench::new(json!([{"tcp": true, "rise": 2, "fall": 3}]));
    assert_eq!(bench.script("tcp", "+-++-+--"), "sssPpppp");
    assert_eq!(bench.script("tcp", "---+-++"), "FfffffP");
}

#[test]
fn failing_before_the_first_pass_is_seen_and_changes_no_state() {
    let mut bench = Bench::new(json!([{"tcp": true}]));
    assert_eq!(bench.script("tcp", "---+"), "sSsP");
}

#[test]
fn all_checks_must_pass_and_one_is_enough_to_fail() {
    let mut bench = Bench::new(json!([{"tcp": true, "fall": 1}, {"http": "/"}, {"process": true}]));
    assert_eq!(bench.script("tcp", "++"), "Ss");
    assert_eq!(bench.script("http /", "+"), "P");
    assert_eq!(bench.script("tcp", "-"), "F");
    assert_eq!(bench.script("http /", "+"), "f");
    assert_eq!(bench.script("tcp", "+"), "P");
}

#[test]
fn a_failure_begins_a_chain_and_recovery_stays_in_it() {
    let mut bench = Bench::new(json!([{"tcp": true, "fall": 1}]));
    let life = bench.world.view.assignments[&id("web-0")].cause.clone();
    let passed = bench.result("tcp", true);
    assert_eq!((passed.events[0].kind, &passed.events[0].cause), (EventKind::Passing, &life));
    let failed = bench.result("tcp", false);
    assert_eq!((failed.events[0].kind, failed.events[0].cause.clone()), (EventKind::Failing, CauseId::new(Time(7), 7)));
    assert_eq!(failed.events[0].message, "tcp failed: refused");
    assert_eq!(failed.events[0].detail.as_deref(), Some("refused\nreally"));
    let passed = bench.result("tcp", true);
    assert_eq!(passed.events[0].cause, CauseId::new(Time(7), 7));
    assert_eq!(passed.events[0].message, "healthy again after 0s");
}

#[test]
fn what_is_not_asked_for_changes_nothing() {
    let mut bench = Bench::new(json!([{"tcp": true, "fall": 1}]));
    assert_eq!(bench.result("http /", true), Recorded::default(), "no such check");
    assert_eq!(bench.result_of(2, "tcp", true), Recorded::default(), "another life");
    assert_eq!(bench.script("tcp", "+"), "P");
    bench.world.group("web", json!({"size": 0, "drain": "1m"}));
    while bench.world.round(|_| Fate::Done).1 {}
    assert_eq!(bench.script("tcp", "--"), "rr", "it leaves, whatever its checks say");
    assert!(targets(&bench.world.view, &name("n1")).is_empty());
}

#[test]
fn a_check_that_is_added_throws_nobody_out_and_one_that_goes_frees() {
    let mut bench = Bench::new(json!([{"tcp": true, "fall": 1}]));
    assert_eq!(bench.script("tcp", "+"), "P");
    bench.world.service("web", json!({"checks": [{"tcp": true, "fall": 1}, {"http": "/", "fall": 1}]}));
    assert_eq!(bench.script("tcp", "+"), "p");
    assert_eq!(bench.script("http /", "-"), "F");
    bench.world.service("web", json!({"checks": [{"tcp": true, "fall": 1}]}));
    assert_eq!(bench.script("tcp", "+"), "P", "a check that is gone holds nobody back");
}

#[test]
fn only_what_runs_here_is_checked() {
    let mut world = World::new();
    world.service("web", json!({"checks": [{"process": true}, {"http": "/", "interval": "2s"}]}));
    world.service("raw", json!({"checks": [{"process": true}]}));
    world.group("web", json!({"size": 2}));
    world.group("raw", json!({"size": 1}));
    world.settle();
    let found = targets(&world.view, &name("n1"));
    let seen: Vec<_> = found.iter().map(|target| (target.instance.to_string(), target.port, target.starting)).collect();
    assert_eq!(seen, [("web-0".to_owned(), 20_001, false), ("web-1".to_owned(), 20_002, false)]);
    assert_eq!(found[0].checks.len(), 1, "`process` is answered by its end");
    assert!(targets(&world.view, &name("n2")).is_empty());
    world.kill(&id("web-0"));
    assert_eq!(targets(&world.view, &name("n1")).len(), 1);
}

#[test]
fn the_next_life_is_counted_afresh() {
    let mut bench = Bench::new(json!([{"tcp": true, "fall": 2}]));
    assert_eq!(bench.script("tcp", "+-"), "Pp");
    bench.world.kill(&id("web-0"));
    while bench.world.round(|_| Fate::Done).1 {}
    assert_eq!(bench.result_of(2, "tcp", false), Recorded::default(), "the first failure of this life");
    assert_ne!(bench.result_of(2, "tcp", false), Recorded::default());
}
