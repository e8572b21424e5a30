//! What came of an action, and what was seen without one.

use crate::observed::{Moment, Stage, WorldError};
use crate::process::{Exit, ProcessId};
use crate::{InstanceId, Name};
use serde::Serialize;

/// What came of one action.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Start: the process is there.
    Started {
        /// Which one.
        process: ProcessId,
        /// It was there already.
        adopted: bool,
    },
    /// Stop: the process is gone.
    Stopped {
        /// How it ended.
        exit: Exit,
    },
    /// Install: the set is in place.
    Installed,
    /// Load or Restore: the program was told, and where there is a probe it passed.
    Loaded {
        /// How, for people: `signal USR2 to proxy-0 (pid 4711)`.
        how: String,
    },
    /// The action failed and has left everything as it was (Start, Install), or as far as it came (Stop, Load,
    /// Restore: do it again).
    Failed {
        /// Where, for templates.
        stage: Option<Stage>,
        /// What and why.
        error: WorldError,
    },
}

/// Something seen in the world that no action asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "seen", rename_all = "lowercase")]
pub enum Observation {
    /// An instance's process ended by itself, or by a hand that is not ours.
    Exited {
        /// The slot.
        instance: InstanceId,
        /// The life.
        incarnation: u64,
        /// Which process of that life, where it is known: one that was started twice, because the outcome of its first
        /// start was lost, has had two.
        process: Option<ProcessId>,
        /// How.
        exit: Exit,
    },
    /// A job that accompanies an instance's life has ended.
    Hooked {
        /// The slot.
        instance: InstanceId,
        /// The life.
        incarnation: u64,
        /// When it was to run.
        moment: Moment,
        /// Whether it succeeded.
        succeeded: bool,
        /// Which run, and why it failed; for people.
        why: String,
    },
    /// One check ran.
    Checked {
        /// The service.
        service: Name,
        /// The slot.
        instance: InstanceId,
        /// The life.
        incarnation: u64,
        /// The check's label ([`crate::spec::Check::label`]).
        check: String,
        /// Whether it passed.
        passing: bool,
        /// What it said, at most [`crate::limits::OUTPUT_BYTES_MAX`] bytes.
        output: String,
    },
}

/// An instance that an earlier life of the agent has started, as it was found at start-up.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The slot.
    pub instance: InstanceId,
    /// The life.
    pub incarnation: u64,
    /// Its process, when it is alive; it is watched from now on.
    pub process: Option<ProcessId>,
    /// How it ended, when it is not. Without code and signal when nobody saw it: the machine went down.
    pub exit: Option<Exit>,
}
