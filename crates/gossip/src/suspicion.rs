//! A suspicion: how long it lasts, and what shortens it. Lifeguard's dynamic suspicion timeout.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::config::Config;
use crate::time::Time;

/// Refusals that are enough.
const REFUSALS_NEEDED: usize = 2;

/// A member that is suspected.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    /// Tells this suspicion's timers from those of an earlier one.
    pub(crate) serial: u64,
    /// Whether a probe of our own had no answer.
    pub(crate) seen: bool,
    start: Time,
    min: Duration,
    max: Duration,
    /// Confirmations that are waited for; 0 in a cluster too small to give them.
    needed: u32,
    /// Who suspected, the first included. At most `needed` + 1.
    from: BTreeSet<String>,
    /// Whose connection was refused. At most [`REFUSALS_NEEDED`].
    refused: BTreeSet<String>,
    refused_deadline: Option<Time>,
}

/// `suspicion_mult × max(1, log10(n)) × probe_interval`. Source: memberlist `suspicionTimeout`.
fn shortest(config: &Config, members: usize) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    config.probe_interval.mul_f64(f64::from(config.suspicion_mult) * scale)
}

impl Suspicion {
    /// `members`: those alive or suspect, ourselves included.
    pub(crate) fn new(serial: u64, from: &str, members: usize, config: &Config, now: Time) -> Self {
        let min = shortest(config, members);
        // Two cannot confirm: the suspect and the first that suspects.
        let possible = members.saturating_sub(2);
        let needed = if possible < config.confirmations as usize { 0 } else { config.confirmations };
        Self {
            serial,
            seen: false,
            start: now,
            min,
            max: min * config.suspicion_max_mult.max(1),
            needed,
            from: BTreeSet::from([from.to_owned()]),
            refused: BTreeSet::new(),
            refused_deadline: None,
        }
    }

    /// Counts another suspicion. Says whether it was news.
    pub(crate) fn confirm(&mut self, from: &str) -> bool {
        self.confirmations() < self.needed && self.from.insert(from.to_owned())
    }

    fn confirmations(&self) -> u32 {
        u32::try_from(self.from.len() - 1).unwrap_or(u32::MAX)
    }

    /// Counts a refused connection. Says whether it was news.
    pub(crate) fn refuse(&mut self, from: &str, now: Time, grace: Duration) -> bool {
        let news = self.refused.len() < REFUSALS_NEEDED && self.refused.insert(from.to_owned());
        if news && self.is_refused() {
            self.refused_deadline = Some(now + grace);
        }
        news
    }

    /// Whether enough members had their connection refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.len() >= REFUSALS_NEEDED
    }

    /// When the suspect is dead unless it refutes.
    pub(crate) fn deadline(&self) -> Time {
        let lasts = if self.needed == 0 {
            self.min
        } else {
            let share = f64::from(self.confirmations() + 1).ln() / f64::from(self.needed + 1).ln();
            self.max.saturating_sub((self.max - self.min).mul_f64(share.min(1.0))).max(self.min)
        };
        let deadline = self.start + lasts;
        self.refused_deadline.map_or(deadline, |refused| refused.min(deadline))
    }

    /// Starts again, with no confirmation.
    pub(crate) fn renew(&mut self, now: Time) {
        self.start = now;
        self.seen = false;
        while self.from.len() > 1 {
            self.from.pop_last();
        }
        self.refused.clear();
        self.refused_deadline = None;
    }

    /// Moves it, as if that time had not passed.
    pub(crate) fn shift(&mut self, by: Duration) {
        self.start = self.start + by;
        self.refused_deadline = self.refused_deadline.map(|at| at + by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspicion(members: usize) -> Suspicion {
        let config = Config {
            suspicion_mult: 4,
            probe_interval: Duration::from_secs(1),
            ..Config::lan("me", std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
        };
        Suspicion::new(1, "a", members, &config, Time::ZERO)
    }

    /// Shows the formula: six times the shortest at first, then down to the shortest with confirmations.
    #[test]
    fn confirmations_shorten() {
        let mut found = suspicion(10);
        assert_eq!(found.deadline(), Time::from_millis(24_000));
        assert!(!found.confirm("a"), "the first does not confirm itself");
        assert!(found.confirm("b"));
        let halfway = found.deadline();
        assert!(halfway > Time::from_millis(4_000) && halfway < Time::from_millis(24_000));
        assert!(found.confirm("c"));
        assert!(!found.confirm("d"), "enough is enough");
        assert_eq!(found.deadline(), Time::from_millis(4_000));
        assert!(suspicion(100).confirm("b"));
        assert_eq!(suspicion(3).deadline(), Time::from_millis(4_000), "nobody is there to confirm");
    }

    /// Shows that one refused connection changes nothing and a second one ends the wait.
    #[test]
    fn two_refusals_end_it() {
        let mut found = suspicion(10);
        let now = Time::from_millis(500);
        assert!(found.refuse("a", now, Duration::from_millis(100)));
        assert!(!found.refuse("a", now, Duration::from_millis(100)), "the same member twice is one");
        assert_eq!(found.deadline(), Time::from_millis(24_000));
        assert!(found.refuse("b", now, Duration::from_millis(100)));
        assert_eq!(found.deadline(), Time::from_millis(600));
    }
}
