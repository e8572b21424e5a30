//! A suspicion: how long it lasts, and what shortens it. Lifeguard's dynamic suspicion timeout.

use std::time::Duration;

use crate::config::Config;
use crate::directory::Name;
use crate::time::Time;
use crate::timers::TimerKey;

/// Refusals that are enough.
const REFUSALS_NEEDED: usize = 2;

/// A member that is suspected.
#[derive(Debug, Clone)]
pub(crate) struct Suspicion {
    /// Tells this suspicion's timers from those of an earlier one.
    pub(crate) serial: u64,
    /// Whether a probe of our own had no answer.
    pub(crate) seen: bool,
    /// The timer of its end, which moves when the end does.
    pub(crate) timer: Option<TimerKey>,
    start: Time,
    min: Duration,
    max_mult: u32,
    /// Confirmations that are waited for; 0 in a cluster too small to give them.
    needed: u32,
    /// Who suspected, the first included. At most `needed` + 1.
    from: Vec<Name>,
    /// Whose connection was refused.
    refused: [Option<Name>; REFUSALS_NEEDED],
    refused_deadline: Option<Time>,
}

/// `suspicion_mult × max(1, log10(n)) × probe_interval`. Source: memberlist `suspicionTimeout`.
fn shortest(config: &Config, members: usize) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    config.probe_interval.mul_f64(f64::from(config.suspicion_mult) * scale)
}

impl Suspicion {
    /// `members`: those alive or suspect, ourselves included.
    pub(crate) fn new(serial: u64, from: Name, members: usize, config: &Config, now: Time) -> Self {
        let min = shortest(config, members);
        // Two cannot confirm: the suspect and the first that suspects.
        let possible = members.saturating_sub(2);
        let needed = if possible < config.confirmations as usize { 0 } else { config.confirmations };
        Self {
            serial,
            seen: false,
            start: now,
            timer: None,
            min,
            max_mult: config.suspicion_max_mult.max(1),
            needed,
            from: vec![from],
            refused: [None, None],
            refused_deadline: None,
        }
    }

    /// Counts another suspicion. Says whether it was news.
    pub(crate) fn confirm(&mut self, from: &Name) -> bool {
        let news = self.confirmations() < self.needed && !self.from.contains(from);
        if news {
            self.from.push(from.clone());
        }
        news
    }

    fn confirmations(&self) -> u32 {
        u32::try_from(self.from.len() - 1).unwrap_or(u32::MAX)
    }

    /// Counts a refused connection. Says whether it was news.
    pub(crate) fn refuse(&mut self, from: &Name, now: Time, grace: Duration) -> bool {
        if self.refused.iter().flatten().any(|known| known == from) {
            return false;
        }
        let Some(place) = self.refused.iter_mut().find(|place| place.is_none()) else { return false };
        *place = Some(from.clone());
        if self.is_refused() {
            self.refused_deadline = Some(now + grace);
        }
        true
    }

    /// Whether enough members had their connection refused.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.iter().all(Option::is_some)
    }

    /// When the suspect is dead unless it refutes.
    pub(crate) fn deadline(&self) -> Time {
        let lasts = if self.needed == 0 {
            self.min
        } else {
            let share = f64::from(self.confirmations() + 1).ln() / f64::from(self.needed + 1).ln();
            let max = self.min * self.max_mult;
            max.saturating_sub((max - self.min).mul_f64(share.min(1.0))).max(self.min)
        };
        let deadline = self.start + lasts;
        self.refused_deadline.map_or(deadline, |refused| refused.min(deadline))
    }

    /// Starts again, with no confirmation.
    pub(crate) fn renew(&mut self, now: Time) {
        self.start = now;
        self.seen = false;
        self.from.truncate(1);
        self.refused = [None, None];
        self.refused_deadline = None;
    }

    /// Moves it, as if that time had not passed.
    pub(crate) fn shift(&mut self, by: Duration) {
        self.start = self.start + by;
        self.refused_deadline = self.refused_deadline.map(|at| at + by);
        self.timer = self.timer.map(|timer| timer.shifted(by));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Directory;

    fn names() -> [Name; 4] {
        let directory = Directory::new();
        ["a", "b", "c", "d"].map(|name| directory.name(name))
    }

    fn suspicion(from: &Name, members: usize) -> Suspicion {
        let config = Config {
            suspicion_mult: 4,
            probe_interval: Duration::from_secs(1),
            ..Config::lan("me", std::net::SocketAddr::from(([127, 0, 0, 1], 1)))
        };
        Suspicion::new(1, from.clone(), members, &config, Time::ZERO)
    }

    /// Shows the formula: six times the shortest at first, then down to the shortest with confirmations.
    #[test]
    fn confirmations_shorten() {
        let [a, b, c, d] = names();
        let mut found = suspicion(&a, 10);
        assert_eq!(found.deadline(), Time::from_millis(24_000));
        assert!(!found.confirm(&a), "the first does not confirm itself");
        assert!(found.confirm(&b));
        let halfway = found.deadline();
        assert!(halfway > Time::from_millis(4_000) && halfway < Time::from_millis(24_000));
        assert!(found.confirm(&c));
        assert!(!found.confirm(&d), "enough is enough");
        assert_eq!(found.deadline(), Time::from_millis(4_000));
        assert!(suspicion(&a, 100).confirm(&b));
        assert_eq!(suspicion(&a, 3).deadline(), Time::from_millis(4_000), "nobody is there to confirm");
    }

    /// Shows that one refused connection changes nothing and a second one ends the wait.
    #[test]
    fn two_refusals_end_it() {
        let [a, b, ..] = names();
        let mut found = suspicion(&a, 10);
        let now = Time::from_millis(500);
        assert!(found.refuse(&a, now, Duration::from_millis(100)));
        assert!(!found.refuse(&a, now, Duration::from_millis(100)), "the same member twice is one");
        assert_eq!(found.deadline(), Time::from_millis(24_000));
        assert!(found.refuse(&b, now, Duration::from_millis(100)));
        assert_eq!(found.deadline(), Time::from_millis(600));
    }
}
