//! What is on disk of an instance: `DATA/instances/<id>/`.
//!
//! | file | written by | what |
//! |---|---|---|
//! | `lock` | shim | locked (flock) for the shim's life, so that there are never two for one slot |
//! | `state.json` | shim | [`State`]: which life and which processes, since the process is there |
//! | `exit.json` | shim | [`Ended`]: how that life ended |
//! | `stop.json` | agent | [`Stopping`]: a stop is under way, and until when it is polite |
//! | `shim.log` | shim | nothing, unless the shim itself fails |
//! | `logs/` | shim | the instance's output: [`crate::logs`] |

use crate::durable;
use regrow_model::process::{Exit, Process, ProcessId};
use regrow_model::{InstanceId, Time};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The folder of one instance.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// The folder of `instance` in an agent's data folder.
    pub(crate) fn of(data: &Path, instance: &InstanceId) -> Folder {
        Folder(data.join("instances").join(instance.to_string()))
    }

    /// The folder at `path`.
    pub(crate) fn at(path: PathBuf) -> Folder {
        Folder(path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The shim's lock.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.join("lock")
    }

    /// Where the instance's output goes.
    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// Where the shim's own last words go.
    pub(crate) fn shim_log(&self) -> PathBuf {
        self.0.join("shim.log")
    }

    /// [`State`].
    pub(crate) fn state_file(&self) -> PathBuf {
        self.0.join("state.json")
    }

    /// [`Ended`].
    pub(crate) fn exit_file(&self) -> PathBuf {
        self.0.join("exit.json")
    }

    /// [`Stopping`].
    pub(crate) fn stop_file(&self) -> PathBuf {
        self.0.join("stop.json")
    }

    /// The state, when there is one of this boot: what was noted before is gone with its boot.
    pub(crate) fn state(&self) -> Option<State> {
        durable::read_json(&self.state_file())
    }

    /// How `incarnation` ended, when its shim noted it.
    pub(crate) fn exit_of(&self, incarnation: u64) -> Option<Exit> {
        let ended: Ended = durable::read_json(&self.exit_file())?;
        (ended.incarnation == incarnation).then_some(ended.exit)
    }

    /// Until when the stop of `incarnation` is polite, when one is under way.
    pub(crate) fn polite_until(&self, incarnation: u64) -> Option<Time> {
        let stopping: Stopping = durable::read_json(&self.stop_file())?;
        (stopping.incarnation == incarnation).then_some(stopping.polite_until)
    }
}

/// The life that a slot is in, or was in last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The life.
    pub(crate) incarnation: u64,
    /// The instance's process, which leads its group.
    pub(crate) process: ProcessId,
    /// The shim, which leads the session that all of this runs in.
    pub(crate) shim: ProcessId,
    /// `/proc/sys/kernel/random/boot_id`: process ids say nothing about another boot.
    pub(crate) boot: String,
}

impl State {
    /// The process, when it is alive.
    pub(crate) fn alive(&self) -> Option<ProcessId> {
        (self.is_of_this_boot() && crate::proc::is_alive(self.process)).then_some(self.process)
    }

    /// Whether its ids mean anything.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        self.boot == crate::proc::boot()
    }
}

/// How a life ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The life.
    pub(crate) incarnation: u64,
    /// How.
    pub(crate) exit: Exit,
}

/// A stop under way. Members of the group that outlive its first process are left in peace until it is not polite
/// any more; without a stop they are killed at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stopping {
    /// The life.
    pub(crate) incarnation: u64,
    /// When SIGKILL is due.
    pub(crate) polite_until: Time,
}

/// What the agent tells a shim, on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The slot.
    pub(crate) instance: InstanceId,
    /// The life.
    pub(crate) incarnation: u64,
    /// [`Folder::path`].
    pub(crate) folder: PathBuf,
    /// Arguments that lead to the shim's own subcommand.
    pub(crate) leading: Vec<String>,
    /// What to run.
    pub(crate) process: Process,
}

/// What a shim answers, as one line of JSON. No answer means that the shim itself failed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The program runs.
    Started(ProcessId),
    /// It does not, and nothing is left.
    Failed(regrow_model::observed::WorldError),
}

/// What a shim tells its launcher, on its standard input. An answer comes only when the program could not be run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// The slot.
    pub(crate) instance: InstanceId,
    /// The shim's pid: when the launcher's parent is another, the shim is dead.
    pub(crate) shim: u32,
    /// What to run.
    pub(crate) process: Process,
}

/// The clock.
pub(crate) fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
