//! One verb on the world.

use crate::observed::Inputs;
use crate::process::Process;
use crate::spec::Probe;
use crate::{Digest, InstanceId, Name, Ref, key::Change};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// One verb on the world, complete: it leaves no choice to the doer. Every action is idempotent, because an outcome
/// can be lost and the action is then done again.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Action {
    /// Writes records, all or none.
    Record {
        /// The writes.
        changes: Vec<Change>,
    },
    /// Starts an instance's process, or finds the one that is there already for this incarnation.
    Start {
        /// The slot.
        instance: InstanceId,
        /// The life.
        incarnation: u64,
        /// What to run.
        process: Box<Process>,
        /// Where it will serve; refused as [`crate::observed::WorldErrorKind::PortInUse`] when taken. `None`: it
        /// serves on no port that Regrow gave.
        listen: Option<(String, u16)>,
    },
    /// Stops an instance's whole process group, or finds it gone.
    Stop {
        /// The slot.
        instance: InstanceId,
        /// The life.
        incarnation: u64,
        /// First signal, by name without `SIG`.
        signal: String,
        /// Time until SIGKILL.
        grace: Duration,
    },
    /// Stages a set, has it checked, keeps a copy under its digest, and swaps it in as a whole.
    Install {
        /// The template.
        template: Name,
        /// The set's digest.
        digest: Digest,
        /// The files.
        files: Vec<File>,
        /// What they were rendered from: goes into the record when they are in place, because the view has moved on
        /// by then.
        #[serde(skip)]
        inputs: Inputs,
        /// The last good set by the record: it stays kept on the node, whatever the node remembers of loads.
        last_good: Option<Digest>,
        /// Command that judges the staged files, with `{staged}`, `{staged:N}` and `{folder}` in it; empty for none.
        check: Vec<String>,
        /// Working directory of the check.
        directory: String,
    },
    /// Tells the reading program, and proves that it took the set.
    Load {
        /// The template.
        template: Name,
        /// The set that is in place.
        digest: Digest,
        /// How to tell.
        tell: Tell,
        /// The proof; `None` trusts the telling.
        probe: Option<Probe>,
        /// Working directory of commands.
        directory: String,
    },
    /// Puts a kept set back in place as a whole and tells the reading program.
    Restore {
        /// The template.
        template: Name,
        /// The set to return to.
        digest: Digest,
        /// How to tell.
        tell: Tell,
        /// Working directory of commands.
        directory: String,
    },
}

/// A file to be in place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct File {
    /// Absolute path.
    pub destination: String,
    /// Its content.
    #[serde(skip)]
    pub content: Arc<str>,
    /// Permission bits.
    pub mode: u32,
    /// `user` or `user:group`; `None` is Regrow's own.
    pub owner: Option<String>,
}

/// How a reading program is told that its files have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "lowercase")]
pub enum Tell {
    /// Nobody needs telling: it reads them when it starts, or by itself.
    Nobody,
    /// A signal to each of these instances.
    Signal {
        /// Instances and their lives.
        instances: Vec<(InstanceId, u64)>,
        /// The signal, by name without `SIG`.
        signal: String,
        /// HAProxy's runtime socket: the reload is done when another worker answers there.
        haproxy_socket: Option<String>,
    },
    /// A command.
    Command {
        /// Program and arguments.
        command: Vec<String>,
        /// Longest that it may take.
        timeout: Duration,
    },
    /// Lines for HAProxy's runtime socket, each of which must be accepted.
    Haproxy {
        /// The socket's absolute path.
        socket: String,
        /// Commands of HAProxy's management guide, section 9.3.
        commands: Vec<String>,
    },
}

impl Action {
    /// Its verb, as in the plan that people read.
    pub fn verb(&self) -> &'static str {
        match self {
            Action::Record { .. } => "record",
            Action::Start { .. } => "start",
            Action::Stop { .. } => "stop",
            Action::Install { .. } => "install",
            Action::Load { .. } => "load",
            Action::Restore { .. } => "restore",
        }
    }

    /// What it is done to in the world. `None` for [`Action::Record`], whose object its plan names.
    pub fn target(&self) -> Option<Ref> {
        match self {
            Action::Record { .. } => None,
            Action::Start { instance, .. } | Action::Stop { instance, .. } => Some(Ref::instance(instance)),
            Action::Install { template, .. } | Action::Load { template, .. } | Action::Restore { template, .. } => {
                Some(Ref::new(crate::Kind::Template, template))
            }
        }
    }
}
