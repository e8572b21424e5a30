//! Who is next: a window of hosts at a time, batches one after the other, and an end when too many have failed.

use std::collections::{BTreeSet, VecDeque};
use std::str::FromStr;

/// A number of hosts, or a share of all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// So many.
    Count(usize),
    /// So many in a hundred, 1 to 100.
    Percent(u8),
}

impl Share {
    /// Of `all` hosts; at least `least`.
    fn of(self, all: usize, least: usize) -> usize {
        match self {
            Share::Count(count) => count.max(least),
            Share::Percent(percent) => (all * usize::from(percent) / 100).max(least),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let wrong = || format!("`{text}` is neither a number of hosts, as 5, nor a share of them, as 10%");
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Share::Percent).ok_or_else(wrong)
            }
            None => text.parse().map(Share::Count).map_err(|_| wrong()),
        }
    }
}

/// How fast, and when to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Most hosts at a time.
    pub fanout: usize,
    /// Hosts of a batch; the next one begins when all of the last have ended. `None`: all are one batch.
    pub batch: Option<Share>,
    /// Failures beyond which no further host is begun. `None`: all are.
    pub max_failures: Option<Share>,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Begin with this host, by its number.
    Start(usize),
    /// A batch has ended: begin the next one with [`Rollout::begin_batch`], after whatever pause there is.
    BatchEnded,
    /// Hosts are under way: wait for one to end.
    Wait,
    /// Nothing is under way and nothing is to come.
    Done,
}

/// A command on its way over many hosts.
#[derive(Clone, Debug)]
pub struct Rollout {
    waiting: VecDeque<usize>,
    running: BTreeSet<usize>,
    fanout: usize,
    batch: usize,
    /// Hosts of this batch that have not begun.
    left: usize,
    failures: usize,
    failures_max: usize,
}

impl Rollout {
    /// Over `hosts` hosts, numbered from 0.
    pub fn new(hosts: usize, pace: Pace) -> Rollout {
        let batch = pace.batch.map_or(hosts, |batch| batch.of(hosts, 1));
        Rollout {
            waiting: (0..hosts).collect(),
            running: BTreeSet::new(),
            fanout: pace.fanout.max(1),
            batch,
            left: batch,
            failures: 0,
            failures_max: pace.max_failures.map_or(usize::MAX, |most| most.of(hosts, 0)),
        }
    }

    /// What to do now; call again after each [`Next::Start`].
    pub fn step(&mut self) -> Next {
        if self.waiting.is_empty() || self.is_stopped() {
            return if self.running.is_empty() { Next::Done } else { Next::Wait };
        }
        if self.left == 0 {
            return if self.running.is_empty() { Next::BatchEnded } else { Next::Wait };
        }
        if self.running.len() >= self.fanout {
            return Next::Wait;
        }
        match self.waiting.pop_front() {
            Some(host) => {
                self.left -= 1;
                self.running.insert(host);
                Next::Start(host)
            }
            None => Next::Wait,
        }
    }

    /// Lets the next batch begin.
    pub fn begin_batch(&mut self) {
        self.left = self.batch;
    }

    /// A host has ended.
    pub fn ended(&mut self, host: usize, failed: bool) {
        self.running.remove(&host);
        self.failures += usize::from(failed);
    }

    /// Begins with no further host.
    pub fn stop(&mut self) {
        self.failures_max = 0;
        self.failures = self.failures.max(1);
    }

    /// Whether more have failed than may.
    pub fn is_stopped(&self) -> bool {
        self.failures > self.failures_max
    }

    /// Hosts that were never begun.
    pub fn not_begun(&self) -> impl Iterator<Item = usize> + '_ {
        self.waiting.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pace(fanout: usize, batch: &str, max_failures: &str) -> Pace {
        Pace { fanout, batch: batch.parse().ok(), max_failures: max_failures.parse().ok() }
    }

    /// Starts all that may start now.
    fn started(rollout: &mut Rollout) -> (Vec<usize>, Next) {
        let mut started = Vec::new();
        loop {
            match rollout.step() {
                Next::Start(host) => started.push(host),
                other => return (started, other),
            }
        }
    }

    #[test]
    fn a_window_moves_over_the_hosts() {
        let mut rollout = Rollout::new(4, pace(2, "", ""));
        assert_eq!(started(&mut rollout), (vec![0, 1], Next::Wait));
        rollout.ended(1, true);
        assert_eq!(started(&mut rollout), (vec![2], Next::Wait));
        rollout.ended(0, false);
        rollout.ended(2, true);
        assert_eq!(started(&mut rollout), (vec![3], Next::Wait), "failures alone stop nothing");
        rollout.ended(3, false);
        assert_eq!(rollout.step(), Next::Done);
    }

    #[test]
    fn batches_wait_for_each_other() {
        let mut rollout = Rollout::new(5, pace(9, "40%", ""));
        assert_eq!(started(&mut rollout), (vec![0, 1], Next::Wait));
        rollout.ended(0, false);
        assert_eq!(rollout.step(), Next::Wait);
        rollout.ended(1, false);
        assert_eq!(rollout.step(), Next::BatchEnded);
        rollout.begin_batch();
        assert_eq!(started(&mut rollout), (vec![2, 3], Next::Wait));
        rollout.ended(2, false);
        rollout.ended(3, false);
        rollout.begin_batch();
        assert_eq!(started(&mut rollout), (vec![4], Next::Wait));
    }

    #[test]
    fn too_many_failures_stop_it() {
        let mut rollout = Rollout::new(9, pace(2, "", "1"));
        started(&mut rollout);
        rollout.ended(0, true);
        assert_eq!(started(&mut rollout), (vec![2], Next::Wait), "one may fail");
        rollout.ended(1, true);
        assert_eq!(started(&mut rollout), (vec![], Next::Wait), "what runs is waited for");
        rollout.ended(2, false);
        assert_eq!(rollout.step(), Next::Done);
        assert_eq!(rollout.not_begun().collect::<Vec<_>>(), [3, 4, 5, 6, 7, 8]);
        let mut first = Rollout::new(2, pace(1, "", "0"));
        started(&mut first);
        first.ended(0, true);
        assert_eq!((first.step(), first.is_stopped()), (Next::Done, true));
    }

    #[test]
    fn shares_are_read() {
        assert_eq!("5".parse(), Ok(Share::Count(5)));
        assert_eq!("10%".parse(), Ok(Share::Percent(10)));
        for wrong in ["", "0%", "101%", "-1", "1.5", "%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
        assert_eq!(Rollout::new(3, pace(9, "1%", "")).batch, 1, "a batch has a host at least");
    }

    proptest! {
        /// Property: each host is begun at most once, never more at a time than the fan-out and the batch allow, and in
        /// the end each has run or is listed as not begun.
        #[test]
        fn each_host_once(hosts in 0usize..60, fanout in 1usize..9, batch in 1usize..20, most in 0usize..9,
                          coins in proptest::collection::vec(any::<(bool, u8)>(), 60)) {
            let pace = Pace { fanout, batch: Some(Share::Count(batch)), max_failures: Some(Share::Count(most)) };
            let mut rollout = Rollout::new(hosts, pace);
            let (mut begun, mut running, mut failures) = (BTreeSet::new(), Vec::new(), 0);
            loop {
                match rollout.step() {
                    Next::Start(host) => {
                        prop_assert!(begun.insert(host));
                        running.push(host);
                        prop_assert!(running.len() <= fanout.min(batch));
                        prop_assert!(failures <= most);
                    }
                    Next::BatchEnded => rollout.begin_batch(),
                    Next::Wait => {
                        let (failed, which) = coins[begun.len() % coins.len()];
                        let host = running.remove(usize::from(which) % running.len());
                        failures += usize::from(failed);
                        rollout.ended(host, failed);
                    }
                    Next::Done => break,
                }
            }
            prop_assert!(running.is_empty());
            prop_assert_eq!(begun.len() + rollout.not_begun().count(), hosts);
            prop_assert!(failures > most || begun.len() == hosts);
        }
    }
}
