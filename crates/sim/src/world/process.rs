//! Processes of the virtual node.

use super::proxy::Loaded;
use crate::program::Program;
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{InstanceId, Time};

/// A process that is alive.
#[derive(Clone, Debug)]
pub struct Process {
    /// Which one.
    pub id: ProcessId,
    /// The slot that it was started for.
    pub instance: InstanceId,
    /// The life that it was started for.
    pub incarnation: u64,
    /// When.
    pub since: Time,
    /// The port that it holds.
    pub port: Option<u16>,
    /// What it does.
    pub program: Program,
    /// What it has read, if it reads.
    pub loaded: Option<Loaded>,
    /// It was sent its stop signal, by whomever.
    pub told_to_stop: bool,
    /// A stop of it is under way, of this agent: its end is the stop's outcome and is not seen by itself.
    pub(crate) stopping: bool,
}

impl Process {
    /// Whether its checks pass, when nothing disturbs them.
    pub fn is_healthy(&self, now: Time) -> bool {
        self.program.healthy_after.is_some_and(|after| now >= self.since.after(after))
    }
}

/// The last life of a slot: what the node remembers of it when the process is gone.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    pub(crate) incarnation: u64,
    pub(crate) process: ProcessId,
    pub(crate) exit: Option<Exit>,
}
