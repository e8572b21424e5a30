//! A bug of each kind, planted between the rules of the runtime and the world, is found within a few seeds.
//!
//! Without these nobody would know whether the properties of `seeds.rs` hold, or are asleep.

use regrow_control::reconcile::{Input, Transaction};
use regrow_model::desired::Goal;
use regrow_model::key::{Change, Record};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, CauseId, Observation, Outcome, Time, View};
use regrow_sim::{Deed, Property, Seam, Weather, judge};

/// A planted bug must be found in this many seeds.
const SEEDS: u64 = 40;

/// Runs seeds until one fails, and shows that it fails for the right reason.
fn finds<S: Seam>(property: Property, weather: Weather, bug: impl Fn() -> S) {
    let violation = (0..SEEDS).find_map(|seed| judge(seed, weather, &mut bug()).err());
    let Some(violation) = violation else { panic!("{SEEDS} seeds have not found it") };
    assert_eq!(violation.property, property, "{}", violation.what);
}

/// Deaths are not told of.
struct DeafToDeaths;

impl Seam for DeafToDeaths {
    fn tell(&mut self, input: Input) -> Option<Input> {
        (!matches!(input, Input::Seen(Observation::Exited { .. }))).then_some(input)
    }
}

#[test]
fn size_finds_deaths_that_nobody_is_told_of() {
    finds(Property::Size, Weather::World, || DeafToDeaths);
}

/// Starts are claimed, and nothing is started.
struct StartsNothing(u32);

impl Seam for StartsNothing {
    fn act(&mut self, action: Action) -> Deed {
        if !matches!(action, Action::Start { .. }) {
            return Deed::Do(vec![action]);
        }
        self.0 += 1;
        let process = ProcessId { pid: 7_000 + self.0, start_ticks: 1 };
        Deed::Claim(Outcome::Started { process, adopted: false })
    }
}

#[test]
fn size_finds_processes_that_are_only_claimed() {
    finds(Property::Size, Weather::Calm, || StartsNothing(0));
}

/// The governor's hold and the planner's turn are passed over: when one instance is taken away, so are all of its group.
struct AllAtOnce;

impl Seam for AllAtOnce {
    fn commit(&mut self, truth: &View, mut transaction: Transaction) -> Transaction {
        if truth.halt.is_some() {
            return transaction;
        }
        let leaves = |change: &Change| match change {
            Change::Put(Record::Assignment(id, next)) if next.goal != Goal::Run => Some((id.clone(), next.goal)),
            _ => None,
        };
        let first = transaction.changes.iter().find_map(leaves);
        let Some((first, goal)) = first else { return transaction };
        for (id, assignment) in truth.assignments_of(&first.group).filter(|(id, _)| **id != first) {
            if assignment.goal == Goal::Run {
                let next = regrow_model::desired::Assignment { goal, ..(**assignment).clone() };
                transaction.changes.push(Change::Put(Record::Assignment(id.clone(), Box::new(next))));
            }
        }
        transaction
    }
}

#[test]
fn floor_finds_a_group_that_is_taken_away_at_once() {
    finds(Property::Floor, Weather::Calm, || AllAtOnce);
}

/// Checks always pass, so what was never healthy is counted on.
struct RoseColoured;

impl Seam for RoseColoured {
    fn tell(&mut self, mut input: Input) -> Option<Input> {
        if let Input::Seen(Observation::Checked { passing, .. }) = &mut input {
            *passing = true;
        }
        Some(input)
    }
}

#[test]
fn floor_finds_instances_that_are_counted_on_and_never_were_healthy() {
    // Such a version never converges either; which of the two is seen first is the seed's choice.
    let floor = |seed: &u64| {
        let verdict = judge(*seed, Weather::Calm, &mut RoseColoured);
        verdict.is_err_and(|violation| violation.property == Property::Floor)
    };
    assert!((0..SEEDS).any(|seed| floor(&seed)), "{SEEDS} seeds have not found it");
}

/// Each start is done twice, the second time as another life.
struct StartsTwice;

impl Seam for StartsTwice {
    fn act(&mut self, action: Action) -> Deed {
        let mut again = action.clone();
        match &mut again {
            Action::Start { incarnation, listen, .. } => {
                *incarnation += 1_000;
                *listen = None;
                Deed::Do(vec![action, again])
            }
            _ => Deed::Do(vec![action]),
        }
    }
}

#[test]
fn slot_finds_a_start_that_is_done_twice() {
    finds(Property::Slot, Weather::Calm, || StartsTwice);
}

/// A stop is told to be over before it has begun.
struct StopsLater;

impl Seam for StopsLater {
    fn act(&mut self, action: Action) -> Deed {
        if !matches!(action, Action::Stop { .. }) {
            return Deed::Do(vec![action]);
        }
        Deed::Claim(Outcome::Stopped { exit: Exit { code: Some(0), signal: None, at: Time(0), tail: String::new() } })
    }
}

#[test]
fn slot_or_size_finds_a_stop_that_is_only_claimed() {
    // The next life cannot have the port of the one that is still there, unless it is given another one.
    let violation = (0..SEEDS).find_map(|seed| judge(seed, Weather::Calm, &mut StopsLater).err());
    let property = violation.map(|violation| violation.property);
    assert!(matches!(property, Some(Property::Slot | Property::Size)), "{property:?}");
}

/// A load is told to have gone well, and nobody was told.
struct LoadsNothing;

impl Seam for LoadsNothing {
    fn act(&mut self, action: Action) -> Deed {
        match action {
            Action::Load { .. } => Deed::Claim(Outcome::Loaded { how: "not at all".to_owned() }),
            other => Deed::Do(vec![other]),
        }
    }
}

#[test]
fn loaded_finds_a_load_that_is_only_claimed() {
    finds(Property::Loaded, Weather::Calm, || LoadsNothing);
}

/// A roll-back is told to have gone well, and the bad files stay.
struct RestoresNothing;

impl Seam for RestoresNothing {
    fn act(&mut self, action: Action) -> Deed {
        match action {
            Action::Restore { .. } => Deed::Claim(Outcome::Loaded { how: "not at all".to_owned() }),
            other => Deed::Do(vec![other]),
        }
    }
}

#[test]
fn loaded_finds_a_roll_back_that_is_only_claimed() {
    finds(Property::Loaded, Weather::Calm, || RestoresNothing);
}

/// No event is recorded.
struct Eventless;

impl Seam for Eventless {
    fn commit(&mut self, _: &View, mut transaction: Transaction) -> Transaction {
        transaction.changes.retain(|change| !matches!(change, Change::Put(Record::Event(..))));
        transaction
    }
}

#[test]
fn cause_finds_actions_without_events() {
    finds(Property::Cause, Weather::Calm, || Eventless);
}

/// Every event begins a chain of its own.
struct Unchained(u64);

impl Seam for Unchained {
    fn commit(&mut self, _: &View, mut transaction: Transaction) -> Transaction {
        for change in &mut transaction.changes {
            if let Change::Put(Record::Event(_, event)) = change {
                self.0 += 1;
                event.cause = CauseId::new(Time(0), self.0);
            }
        }
        transaction
    }
}

#[test]
fn cause_finds_chains_without_a_beginning() {
    finds(Property::Cause, Weather::Calm, || Unchained(0));
}

/// Nobody drains: what is to leave its pools is stopped at once.
struct StopsWithoutDrain;

impl Seam for StopsWithoutDrain {
    fn commit(&mut self, _: &View, mut transaction: Transaction) -> Transaction {
        for change in &mut transaction.changes {
            if let Change::Put(Record::Assignment(_, next)) = change
                && next.goal == Goal::Drain
            {
                next.goal = Goal::Stop;
            }
        }
        transaction
    }
}

#[test]
fn traffic_finds_a_stop_without_a_drain() {
    finds(Property::Traffic, Weather::Calm, || StopsWithoutDrain);
}
