//! What goes wrong in a run, and how often.

use crate::rng::Rng;

/// The weather of a run: chances in a thousand for each time that something is done, and mean numbers of seconds
/// between things that happen by themselves (0 is never).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// An action fails and has done nothing.
    pub action_fails: u32,
    /// An action is done, and its outcome never comes.
    pub outcome_lost: u32,
    /// An action is done, and its outcome comes up to two minutes later.
    pub outcome_late: u32,
    /// An action takes seconds to begin.
    pub action_slow: u32,
    /// A commit takes up to seconds.
    pub commit_slow: u32,
    /// Changes reach the agent seconds later.
    pub watch_slow: u32,
    /// A check fails although nothing is wrong.
    pub check_flakes: u32,
    /// A tool of templates (check, reload, probe) fails although nothing is wrong with the files.
    pub tool_flakes: u32,
    /// Seconds between deaths of instances by a hand that is not ours.
    pub kill_every: u64,
    /// Seconds between deaths of the agent.
    pub crash_every: u64,
    /// Seconds between times when the store takes no writes.
    pub full_every: u64,
    /// Seconds between times when every check fails.
    pub partition_every: u64,
    /// Seconds between times when strangers take ports.
    pub thief_every: u64,
    /// Seconds between writes of records by another client, which change nothing but their revision.
    pub touch_every: u64,
}

/// The sorts of weather.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing goes wrong but what users ask for.
    Calm,
    /// Instances die, checks flake, actions fail and lose their outcomes.
    World,
    /// The store is slow, full, late, and written by others.
    Store,
    /// The agent dies and comes back, again and again.
    Restarts,
    /// Everything at once.
    Storm,
}

impl Weather {
    /// Each of them.
    pub const ALL: [Weather; 5] = [Weather::Calm, Weather::World, Weather::Store, Weather::Restarts, Weather::Storm];

    /// Its faults; which of them, and how many, is drawn.
    pub(crate) fn faults(self, rng: &mut Rng) -> Faults {
        let mut faults = Faults::default();
        if matches!(self, Weather::World | Weather::Storm) {
            faults.action_fails = pick(rng, &[0, 20, 100, 300]);
            faults.outcome_lost = pick(rng, &[0, 20, 100]);
            faults.outcome_late = pick(rng, &[0, 20, 100]);
            faults.action_slow = pick(rng, &[0, 50, 200]);
            faults.check_flakes = pick(rng, &[0, 10, 50]);
            faults.tool_flakes = pick(rng, &[0, 50, 300]);
            faults.kill_every = pick(rng, &[0, 5, 20]);
            faults.partition_every = pick(rng, &[0, 0, 60]);
            faults.thief_every = pick(rng, &[0, 0, 40]);
        }
        if matches!(self, Weather::Store | Weather::Storm) {
            faults.commit_slow = pick(rng, &[0, 50, 300]);
            faults.watch_slow = pick(rng, &[0, 50, 300]);
            faults.full_every = pick(rng, &[0, 30, 60]);
            faults.touch_every = pick(rng, &[0, 1, 5]);
        }
        if matches!(self, Weather::Restarts | Weather::Storm) {
            faults.crash_every = pick(rng, &[3, 10, 30]);
            faults.kill_every = faults.kill_every.max(pick(rng, &[0, 10]));
            faults.action_slow = faults.action_slow.max(pick(rng, &[0, 200]));
        }
        faults
    }
}

fn pick<T: Copy + Default>(rng: &mut Rng, all: &[T]) -> T {
    rng.pick(all).copied().unwrap_or_default()
}
