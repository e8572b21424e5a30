//! What goes wrong in a fleet, and for how long.

use super::{Fleet, Step};
use regrow_control::reconcile::Input;
use regrow_model::process::Exit;
use regrow_model::{Observation, Standing};
use std::time::Duration;

/// Trouble that lasts; its end undoes it.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// A link carries nothing in one direction.
    Link { from: usize, to: usize },
    /// Everything that a node sends to members, or everything that it is sent, is lost.
    HalfOpen { host: usize, sends: bool },
    /// A node reaches no member.
    NoMembers { host: usize },
    /// A node does not reach the store.
    NoStore { host: usize },
    /// A node reaches nobody.
    Alone { host: usize },
    /// Two sides that do not reach each other; the store is with one of them.
    Split { side: Vec<bool> },
    /// Everything of a node is stopped.
    Paused { host: usize },
    /// A machine has no power.
    Off { host: usize },
    /// An agent is dead.
    AgentDead { host: usize },
}

impl Fleet<'_> {
    pub(super) fn begin_trouble(&mut self) {
        if !self.troubled {
            return;
        }
        let next = self.rng.millis(500, 25_000);
        self.timeline.plan(next, Step::Begin);
        let count = self.hosts.len();
        let host = usize::try_from(self.rng.between(0, count as u64 - 1)).unwrap_or(0);
        let other = usize::try_from(self.rng.between(0, count as u64 - 1)).unwrap_or(0);
        let mut length = self.rng.millis(500, 45_000);
        let trouble = match self.rng.between(0, 12) {
            0 => Trouble::Link { from: host, to: other },
            1 => Trouble::HalfOpen { host, sends: true },
            2 => Trouble::HalfOpen { host, sends: false },
            3 => Trouble::NoMembers { host },
            4 => Trouble::NoStore { host },
            5 => Trouble::Alone { host },
            6 | 7 => Trouble::Split { side: (0..count).map(|_| self.rng.chance(500)).collect() },
            8 => {
                length = self.rng.millis(1_000, 25_000);
                Trouble::Paused { host }
            }
            9 => Trouble::Off { host },
            10 => Trouble::AgentDead { host },
            11 => return self.kill_process(host),
            _ => return self.misjudge(host, other),
        };
        self.note(|| format!("--- {trouble:?} for {length:?}"));
        self.apply(&trouble, false);
        self.timeline.plan(length, Step::End(trouble));
    }

    pub(super) fn end_trouble(&mut self, trouble: Trouble) {
        self.note(|| format!("--- over: {trouble:?}"));
        self.apply(&trouble, true);
    }

    /// From now on nothing goes wrong.
    pub(super) fn clear_up(&mut self) {
        self.note(|| "--- nothing goes wrong from here on".to_owned());
        self.troubled = false;
        for host in 0..self.hosts.len() {
            for trouble in [Trouble::Alone { host }, Trouble::Paused { host }, Trouble::Off { host }] {
                self.apply(&trouble, true);
            }
        }
    }

    /// Brings trouble, or takes it away (`well`). The end of one may cut another short.
    fn apply(&mut self, trouble: &Trouble, well: bool) {
        let count = self.hosts.len();
        match trouble {
            Trouble::Link { from, to } => self.network.links[*from][*to] = well,
            Trouble::HalfOpen { host, sends } => {
                for other in 0..count {
                    let (from, to) = if *sends { (*host, other) } else { (other, *host) };
                    self.network.links[from][to] = well;
                }
            }
            Trouble::NoMembers { host } => self.isolate(*host, well),
            Trouble::NoStore { host } => self.network.store[*host] = well,
            Trouble::Alone { host } => {
                self.isolate(*host, well);
                self.network.store[*host] = well;
            }
            Trouble::Split { side } => {
                for from in 0..count {
                    for to in 0..count {
                        if side[from] != side[to] {
                            self.network.links[from][to] = well;
                        }
                    }
                    if side[from] {
                        self.network.store[from] = well;
                    }
                }
            }
            Trouble::Paused { host } => {
                self.hosts[*host].paused = !well;
                for opinion in self.hosts[*host].opinions.values_mut() {
                    // Who was paused blames nobody for the time.
                    opinion.silent_since = None;
                }
            }
            Trouble::Off { host } if well => {
                self.hosts[*host].up = true;
                self.timeline.plan(Duration::from_secs(1), Step::Start { host: *host });
            }
            Trouble::Off { host } => {
                self.hosts[*host].up = false;
                self.kill_agent(*host);
                for slot in self.hosts[*host].slots.values_mut() {
                    slot.alive = false;
                }
            }
            Trouble::AgentDead { host } if well => self.timeline.plan(Duration::ZERO, Step::Start { host: *host }),
            Trouble::AgentDead { host } => self.kill_agent(*host),
        }
    }

    fn isolate(&mut self, host: usize, well: bool) {
        for other in 0..self.hosts.len() {
            self.network.links[host][other] = well;
            self.network.links[other][host] = well;
        }
    }

    /// Somebody kills an instance.
    fn kill_process(&mut self, host: usize) {
        let (now, life) = (self.timeline.now(), self.hosts[host].life);
        let alive: Vec<_> =
            self.hosts[host].slots.iter().filter(|(_, slot)| slot.alive).map(|(id, _)| id.clone()).collect();
        let Some(instance) = self.rng.pick(&alive).cloned() else { return };
        let Some(slot) = self.hosts[host].slots.get_mut(&instance) else { return };
        let exit = Exit { code: None, signal: Some(9), at: now, tail: String::new() };
        (slot.alive, slot.exit) = (false, Some(exit.clone()));
        let (incarnation, process) = (slot.incarnation, Some(slot.process));
        let seen = Observation::Exited { instance, incarnation, process, exit };
        self.timeline.plan(Duration::from_millis(1), Step::Tell { host, life, input: Box::new(Input::Seen(seen)) });
    }

    /// One calls another dead for no reason.
    fn misjudge(&mut self, host: usize, other: usize) {
        let now = self.timeline.now();
        if !self.hosts[host].gossips() {
            return;
        }
        let Some(opinion) = self.hosts[host].opinions.get_mut(&other) else { return };
        (opinion.standing, opinion.since) = (Standing::Failed, now);
        self.note(|| format!("--- n{} misjudges n{}", host + 1, other + 1));
        self.tell_members(host);
    }
}
