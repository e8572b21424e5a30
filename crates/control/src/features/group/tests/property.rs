//! Whatever is done to a group, and whichever part of its plans comes about when:
//!
//! - no slot has two processes ([`World`] refuses the second), no port of a node two instances;
//! - what is taken away on purpose never leaves fewer healthy ones than the floor ([`World`] looks at each);
//! - an endpoint is never written without its service's index ([`World`] looks at each transaction);
//! - when the world is well again and is left alone, the group has its size and version, all of it healthy, and
//!   nothing is left of anything else.

use crate::world::{Fate, World, id, lines, name};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that happens to the world.
#[derive(Clone, Debug)]
enum Step {
    Kill(u32),
    Sicken(u32),
    Heal,
    /// Size, version, `max_unavailable`, `max_surge`, `min_healthy`.
    Apply(u32, u32, u32, u32, Option<u32>),
    /// A version whose checks fail, or that ends at once.
    Break(u32, bool),
    Pause(bool),
    Load(bool),
    Pass(u64),
    Remove,
    Halt,
    Restart,
    /// Rounds in which only some actions come about, and some of them without a word of it: two bits each.
    Rounds(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0..6u32).prop_map(Step::Kill),
        2 => (0..6u32).prop_map(Step::Sicken),
        1 => Just(Step::Heal),
        3 => (0..6u32, 0..4u32, 0..3u32, 0..3u32, proptest::option::of(0..4u32))
            .prop_map(|(size, version, unavailable, surge, healthy)| {
                Step::Apply(size, version, unavailable, surge.max(u32::from(unavailable == 0)), healthy)
            }),
        1 => (0..4u32, any::<bool>()).prop_map(|(version, crashes)| Step::Break(version, crashes)),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => any::<bool>().prop_map(Step::Load),
        4 => (1..50_000u64).prop_map(Step::Pass),
        1 => Just(Step::Remove),
        1 => Just(Step::Halt),
        1 => Just(Step::Restart),
        8 => any::<u64>().prop_map(Step::Rounds),
    ];
    proptest::collection::vec(step, 1..40)
}

fn spec(size: u32, version: u32, unavailable: u32, surge: u32, healthy: Option<u32>) -> serde_json::Value {
    let mut spec = json!({
        "size": size, "command": [format!("v{version}"), "${PORT}"], "drain": "100ms",
        "update": {"max_unavailable": unavailable, "max_surge": surge},
    });
    if let Some(healthy) = healthy {
        spec["min_healthy"] = json!(healthy);
    }
    spec
}

fn take(world: &mut World, step: &Step) {
    match *step {
        Step::Kill(slot) => world.kill(&id(&format!("web-{slot}"))),
        Step::Sicken(slot) => drop(world.sick.insert(id(&format!("web-{slot}")))),
        Step::Heal => world.sick.clear(),
        Step::Apply(size, version, unavailable, surge, healthy) => {
            world.group("web", spec(size, version, unavailable, surge, healthy));
        }
        Step::Break(version, true) => drop(world.crashing.insert(format!("v{version}"))),
        Step::Break(version, false) => drop(world.broken.insert(format!("v{version}"))),
        Step::Pause(true) => world.pause(None),
        Step::Pause(false) => world.view.pause = None,
        Step::Load(loading) => world.loading = loading,
        Step::Pass(ms) => world.now = world.now.after(Duration::from_millis(ms)),
        Step::Remove => world.view.groups.clear(),
        Step::Halt => world.halt(),
        Step::Restart => world.restart(),
        Step::Rounds(bits) => {
            for round in 0..8 {
                let mut at = round * 8;
                world.round(|_| {
                    at += 2;
                    match bits >> (at % 64) & 3 {
                        0 => Fate::Left,
                        1 => Fate::Lost,
                        _ => Fate::Done,
                    }
                });
                world.live();
                check_ports(world);
            }
        }
    }
}

fn check_ports(world: &World) {
    let live = world.processes.keys().filter_map(|id| world.view.assignments.get(id));
    let ports: Vec<u16> = live.map(|assignment| assignment.port).collect();
    assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "a port is given twice: {ports:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_group_comes_to_what_is_wanted(steps in steps()) {
        let mut world = World::web(spec(3, 0, 1, 0, None));
        world.template("proxy", &["web"]);
        for step in &steps {
            take(&mut world, step);
        }
        // The world is well again, and a version that never failed is asked for.
        (world.loading, world.view.pause) = (true, None);
        world.sick.clear();
        world.broken.clear();
        world.crashing.clear();
        world.restart();
        world.group("web", spec(4, 9, 1, 0, None));
        let plan = world.pass(Duration::from_secs(1_200));
        prop_assert_eq!(lines(&plan), "");
        let serving: Vec<String> = world.serving();
        prop_assert_eq!(serving.len(), 4, "{:?}", serving);
        prop_assert!(serving.iter().all(|line| line.contains(" v9 ")), "{:?}", serving);
        prop_assert_eq!(world.processes.len(), 4);
        prop_assert_eq!((world.view.assignments.len(), world.view.instances.len()), (4, 4));
        prop_assert_eq!(world.view.endpoints[&name("web")].len(), 4);
        let status = &world.view.group_status[&name("web")];
        prop_assert!(status.rollout.is_none() && status.good.is_some());
    }
}
