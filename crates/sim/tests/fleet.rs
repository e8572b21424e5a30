//! Several nodes on one store: whatever dies, is cut off (from members, from the store, from both, in one direction),
//! paused or misjudged, every rule of `regrow_sim::fleet` holds and the fleet is whole afterwards. And bugs that are
//! planted are found.

use regrow_control::reconcile::Transaction;
use regrow_model::key::{Change, Key, Record};
use regrow_model::process::Exit;
use regrow_model::{Action, Outcome, Standing, Time, View};
use regrow_sim::fleet::{Rule, Tally, judge, run};
use regrow_sim::{Deed, Faithful, Seam};

/// Seeds that always run.
const SEEDS: u64 = 40;
/// A planted bug must be found in this many seeds.
const PLANTED: u64 = 40;

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

#[test]
fn every_rule_holds() {
    let mut all = Tally::default();
    for seed in 0..seeds() {
        match run(seed, || Faithful) {
            Ok(tally) => {
                all.verdicts += tally.verdicts;
                all.deaths += tally.deaths;
                all.relocations += tally.relocations;
                all.returns += tally.returns;
                all.superseded += tally.superseded;
                all.frozen += tally.frozen;
            }
            Err(broken) => panic!("{broken}"),
        }
    }
    let each = [all.verdicts, all.deaths, all.relocations, all.returns, all.superseded, all.frozen];
    assert!(each.iter().all(|count| u64::from(*count) > seeds() / 10), "what never happens shows nothing: {all:?}");
}

/// The seed that `SEED` names, or the first one: what a failure tells to run.
#[test]
fn one_seed() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    if let Err(broken) = run(seed, || Faithful) {
        panic!("{broken}");
    }
}

/// Runs seeds until one fails, and shows that it fails for the right reason.
fn finds<S: Seam>(rule: Rule, bug: impl Fn() -> S) {
    let found = (0..PLANTED).find_map(|seed| judge(seed, &mut bug()).err());
    assert_eq!(found, Some(rule), "{PLANTED} seeds");
}

/// Verdicts compare nothing.
struct Careless;

impl Seam for Careless {
    fn commit(&mut self, _: &View, mut transaction: Transaction) -> Transaction {
        transaction.expect.retain(|(key, _)| !matches!(key, Key::Member(_)));
        transaction
    }
}

#[test]
fn two_removals_of_one_key_are_found() {
    finds(Rule::OneRemoval, || Careless);
}

/// Gossip alone is believed.
struct Hasty;

impl Seam for Hasty {
    fn commit(&mut self, _: &View, mut transaction: Transaction) -> Transaction {
        for change in &mut transaction.changes {
            if let Change::Put(Record::Member(_, next)) = change
                && next.standing == Standing::Failed
            {
                next.confirmed = Some(next.since);
            }
        }
        transaction
    }
}

#[test]
fn a_death_on_one_source_is_found() {
    finds(Rule::TwoSources, || Hasty);
}

/// What is to be stopped goes on.
struct Unstopped;

impl Seam for Unstopped {
    fn act(&mut self, action: Action) -> Deed {
        if !matches!(action, Action::Stop { .. }) {
            return Deed::Do(vec![action]);
        }
        let exit = Exit { code: None, signal: Some(15), at: Time(0), tail: String::new() };
        Deed::Claim(Outcome::Stopped { exit })
    }
}

#[test]
fn twins_that_nobody_stops_are_found() {
    finds(Rule::Whole, || Unstopped);
}
