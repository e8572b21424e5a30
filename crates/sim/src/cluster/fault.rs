//! What goes wrong by itself: deaths, spells of trouble, strangers.

use super::{Cluster, Step};
use crate::world::World;
use regrow_model::process::{Exit, ProcessId};
use std::time::Duration;

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Somebody kills an instance.
    Death,
    /// The agent dies.
    Crash,
    /// The store takes no writes for a while.
    Full,
    /// Every check fails for a while.
    Partition,
    /// Strangers take ports for a while.
    Thief,
    /// Another client writes a record again.
    Touch,
    /// Not a fault: the SIGKILL at the end of a stop's grace, if the agent that began it still lives.
    Kill { agent: u64, process: ProcessId },
}

/// Trouble that lasts.
#[derive(Debug, Default)]
pub(super) struct Spells {
    full: bool,
    partition: bool,
}

impl Spells {
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    pub(super) fn is_partition(&self) -> bool {
        self.partition
    }

    pub(super) fn end(&mut self, fault: Fault, world: &mut World) {
        match fault {
            Fault::Full => self.full = false,
            Fault::Partition => self.partition = false,
            Fault::Thief => world.steal(None),
            Fault::Death | Fault::Crash | Fault::Touch | Fault::Kill { .. } => {}
        }
    }
}

impl Cluster<'_> {
    /// Plans the first of each fault.
    pub(super) fn plan_faults(&mut self) {
        let all = [Fault::Death, Fault::Crash, Fault::Full, Fault::Partition, Fault::Thief, Fault::Touch];
        for fault in all {
            self.plan_fault(fault);
        }
    }

    fn plan_fault(&mut self, fault: Fault) {
        let seconds = match fault {
            Fault::Death => self.faults.kill_every,
            Fault::Crash => self.faults.crash_every,
            Fault::Full => self.faults.full_every,
            Fault::Partition => self.faults.partition_every,
            Fault::Thief => self.faults.thief_every,
            Fault::Touch => self.faults.touch_every,
            Fault::Kill { .. } => 0,
        };
        if seconds > 0 {
            let wait = self.rng.millis(0, seconds * 2_000);
            self.timeline.plan(wait, Step::Strike(fault));
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        if let Fault::Kill { agent, process } = fault {
            if self.agent.as_ref().is_some_and(|known| known.number == agent) {
                self.kill(process);
            }
            return;
        }
        let seconds = |cluster: &mut Self, low: u64, high: u64| cluster.rng.millis(low * 1_000, high * 1_000);
        match fault {
            // The weather may have cleared since this was planned.
            _ if self.is_over(fault) => return,
            Fault::Death => {
                let alive: Vec<ProcessId> = self.world.processes().iter().map(|process| process.id).collect();
                if let Some(process) = self.rng.pick(&alive).copied() {
                    self.kill(process);
                }
            }
            Fault::Crash => {
                if self.agent.is_some() {
                    self.kill_agent();
                    let away = self.rng.millis(1, 4_000);
                    self.timeline.plan(away, Step::Start);
                }
            }
            Fault::Full => {
                self.note(|| "the disk is full".to_owned());
                self.spells.full = true;
                let length = seconds(self, 1, 15);
                self.timeline.plan(length, Step::Over(fault));
            }
            Fault::Partition => {
                self.note(|| "no check passes".to_owned());
                self.spells.partition = true;
                let length = seconds(self, 1, 25);
                self.timeline.plan(length, Step::Over(fault));
            }
            Fault::Thief => {
                let port = self.rng.between(20_000, 20_006);
                self.world.steal(u16::try_from(port).ok());
                let length = seconds(self, 1, 30);
                self.timeline.plan(length, Step::Over(fault));
            }
            Fault::Touch => {
                let number = self.rng.draw();
                self.store.touch(number);
                self.plan_delivery();
            }
            Fault::Kill { .. } => {}
        }
        self.plan_fault(fault);
    }

    fn is_over(&self, fault: Fault) -> bool {
        let faults = &self.faults;
        0 == match fault {
            Fault::Death => faults.kill_every,
            Fault::Crash => faults.crash_every,
            Fault::Full => faults.full_every,
            Fault::Partition => faults.partition_every,
            Fault::Thief => faults.thief_every,
            Fault::Touch => faults.touch_every,
            Fault::Kill { .. } => 0,
        }
    }

    fn kill(&mut self, process: ProcessId) {
        let exit = Exit { code: None, signal: Some(9), at: self.timeline.now(), tail: String::new() };
        self.timeline.plan(Duration::ZERO, Step::End { process, exit });
    }
}
