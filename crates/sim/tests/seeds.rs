//! Whatever goes wrong, every property holds: one test for each sort of weather, many seeds each.
//!
//! `SEEDS=5000 cargo nextest run -p regrow-sim` runs more; a failure prints the command that runs its seed again.

use regrow_sim::{Faithful, Weather, run};

/// Seeds of all weathers together.
const SEEDS: u64 = 1_000;

fn seeds() -> u64 {
    std::env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS)
}

fn weather(weather: Weather) {
    let count = seeds() / Weather::ALL.len() as u64;
    let mut steps = 0;
    for seed in 0..count {
        match run(seed, weather, || Faithful) {
            Ok(summary) => steps += summary.steps,
            Err(failure) => panic!("{failure}"),
        }
    }
    assert!(steps > count * 100, "runs in which next to nothing happens show nothing");
}

#[test]
fn calm() {
    weather(Weather::Calm);
}

#[test]
fn world() {
    weather(Weather::World);
}

#[test]
fn store() {
    weather(Weather::Store);
}

#[test]
fn restarts() {
    weather(Weather::Restarts);
}

#[test]
fn storm() {
    weather(Weather::Storm);
}

/// Seeds that failed once, beyond the number that always runs.
#[test]
fn seeds_that_failed_once() {
    for (seed, weather) in [
        (708, Weather::Calm),
        (708, Weather::Store),
        (708, Weather::Restarts),
        (761, Weather::World),
        (1195, Weather::Storm),
    ] {
        if let Err(failure) = run(seed, weather, || Faithful) {
            panic!("{failure}");
        }
    }
}

/// The seed that `SEED` and `WEATHER` name, or the first one: what a failure tells to run.
#[test]
fn one_seed() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    let named = std::env::var("WEATHER").unwrap_or_default();
    let weather = Weather::ALL.into_iter().find(|weather| format!("{weather:?}") == named).unwrap_or(Weather::Storm);
    match run(seed, weather, || Faithful) {
        Ok(summary) => assert!(summary.steps > 0),
        Err(failure) => panic!("{failure}"),
    }
}
