//! Runs: one execution of a job each, as the queue keeps them.

use crate::duration::Span;
use crate::spec::survey::Answers;
use crate::spec::{Down, OnLoss, Retry, Secret, When};
use crate::{Name, Time};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The id of a run: 16 lower-case letters and digits, time first, so ids sort by birth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(Arc<str>);

/// Letters of ids: Crockford's base 32.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

impl RunId {
    /// Makes an id from when the run was submitted and a random number.
    pub fn new(born: Time, salt: u64) -> RunId {
        let mut bits = ((u128::from(born.0) & ((1 << 42) - 1)) << 38) | (u128::from(salt) & ((1 << 38) - 1));
        let mut text = [0_u8; 16];
        for slot in text.iter_mut().rev() {
            *slot = DIGITS[(bits & 31) as usize];
            bits >>= 5;
        }
        RunId(std::str::from_utf8(&text).expect("ASCII digits").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is no id of a run. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a run: an id has 16 letters and digits")]
pub struct RunIdError;

impl FromStr for RunId {
    type Err = RunIdError;
    fn from_str(text: &str) -> Result<RunId, RunIdError> {
        let fits = text.len() == 16 && text.bytes().all(|b| DIGITS.contains(&b));
        if fits { Ok(RunId(text.into())) } else { Err(RunIdError) }
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for RunId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<RunId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for RunId {
    fn schema_name() -> Cow<'static, str> {
        "RunId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "The id of a run: 16 letters and digits of Crockford's base 32, time first.",
            "pattern": "^[0-9a-hjkmnp-tv-z]{16}$"
        })
    }
}

/// A worker, in one life of its process: `<node>-<16 letters and digits>`. Text, so that it is a part of a key.
pub type WorkerId = Arc<str>;

/// What was accepted, and does not change: all that a worker needs, so that it never reads the spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Order {
    /// Its job.
    pub job: Name,
    /// Who asked: the caller's name (`token/ci`, `owner`), `http` where no keys are asked for, `webhook`, `schedule/NAME`, or
    /// `hook/INSTANCE`.
    pub by: String,
    /// What it was given, defaults included.
    #[serde(default, skip_serializing_if = "Answers::is_empty")]
    pub answers: Answers,
    /// What to do, with the answers in it.
    pub task: Task,
    /// The folder that relative paths start from, absolute.
    pub root: String,
    /// Secrets that the worker reads when it starts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// 0 to 9, the higher first.
    pub priority: u8,
    /// What may not be shared with other runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<Slot>,
    /// Labels that a worker must have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name>,
    /// Longest that one try may take.
    pub timeout: Span,
    /// Time between the stop signal and SIGKILL.
    pub grace: Span,
    /// How long it is kept when it has ended.
    pub retention: Span,
    /// Latest time to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Time>,
    /// What happens after a failure.
    pub retry: Retry,
    /// What happens when its worker is lost.
    pub on_loss: OnLoss,
    /// What happens to hosts that are dead.
    #[serde(default)]
    pub down: Down,
    /// The hosts that it names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// Most output kept, MiB.
    pub output_mib: u32,
    /// Most memory of each of its processes, MiB.
    pub memory_mib: u32,
}

/// A place of which there are only so many: a concurrency key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Slot {
    /// Its name, any text.
    pub name: String,
    /// How many runs may hold it at a time, 1 and up.
    pub limit: u32,
}

/// One execution of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Which.
    pub id: RunId,
    /// What was accepted.
    pub order: Arc<Order>,
    /// Where it stands.
    pub state: State,
    /// Not to be started before.
    pub due: Time,
    /// Tries begun; 1 for the first.
    #[serde(default)]
    pub attempt: u32,
    /// Tries that failed, which `retry` counts; one that was lost is none.
    #[serde(default)]
    pub failures: u32,
    /// Whether the next try goes on where the last one was.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resume: bool,
    /// When it was accepted.
    pub submitted: Time,
    /// When its last try began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Time>,
    /// Who runs it, or ran it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<WorkerId>,
    /// Why it waits, or how it ended, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How its last try ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<RunResult>,
    /// When it ended for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Time>,
    /// Whether it failed with every retry used.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead: bool,
}

impl Run {
    /// A run of an order that waits, and that nobody has looked at yet.
    pub fn waiting(id: RunId, order: Order, due: Time, submitted: Time) -> Run {
        Run {
            id,
            order: Arc::new(order),
            state: State::Queued,
            due,
            attempt: 0,
            failures: 0,
            resume: false,
            submitted,
            started: None,
            worker: None,
            why: String::new(),
            result: None,
            ended: None,
            dead: false,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It waits for its time, a worker or a slot.
    Queued,
    /// It waits for hosts to come back.
    Parked,
    /// A worker runs it.
    Running,
    /// It has done what it was to do.
    Succeeded,
    /// It has failed.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It took too long.
    TimedOut,
    /// Its worker was lost in mid-run.
    Lost,
    /// It had not started by its deadline.
    Expired,
    /// All of its hosts are dead.
    Skipped,
}

impl State {
    /// Whether nothing comes after it.
    pub fn is_final(self) -> bool {
        !matches!(self, State::Queued | State::Parked | State::Running)
    }

    /// The word for people and machines.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Parked => "parked",
            State::Running => "running",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::TimedOut => "timed-out",
            State::Lost => "lost",
            State::Expired => "expired",
            State::Skipped => "skipped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// How a try ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunResult {
    /// Exit code, where there was a process that exited; the answer's status for `http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// Host by host, where there are hosts.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub recap: BTreeMap<String, Recap>,
}

impl RunResult {
    /// The hosts on which something failed.
    pub fn failed_hosts(&self) -> impl Iterator<Item = &str> {
        self.recap
            .iter()
            .filter(|(_, recap)| recap.failures > 0 || recap.unreachable > 0)
            .map(|(host, _)| host.as_str())
    }
}

/// What was done on one host: counts of tasks, as Ansible's recap has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Recap {
    /// Succeeded.
    pub ok: u32,
    /// Of these, changed something.
    pub changed: u32,
    /// Could not reach it.
    pub unreachable: u32,
    /// Failed.
    pub failures: u32,
    /// Left out by a condition.
    pub skipped: u32,
}

/// What to do, with all answers in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A command on the worker.
    Exec(ExecTask),
    /// A playbook.
    Ansible(Box<AnsibleTask>),
    /// A command on hosts.
    Ssh(SshTask),
    /// A request.
    Http(HttpTask),
    /// One after the other; none does nothing.
    Steps(Vec<StepTask>),
}

/// A command on the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExecTask {
    /// Program and arguments.
    pub command: Vec<String>,
    /// Working directory, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Environment beside the answers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// What `ansible-playbook` is to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct AnsibleTask {
    /// What is played.
    pub play: Play,
    /// Where hosts come from.
    pub inventory: Inventory,
    /// Only these of its hosts and groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limit: Vec<String>,
    /// Only tasks with one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// No tasks with one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_tags: Vec<String>,
    /// Variables of the spec's author, which Ansible may template; the answers are beside them and are data.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// The secret that opens vaulted files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Become root there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub r#become: bool,
    /// Hosts worked on at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forks: Option<u32>,
    /// Change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
    /// Show what changes in files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diff: bool,
}

/// What Ansible plays.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Play {
    /// A file, relative to the root.
    Playbook(String),
    /// Roles in this order.
    Roles(Vec<String>),
    /// One module.
    Module {
        /// Its name.
        name: String,
        /// Its arguments: a command's text, or by name.
        args: ModuleArgs,
    },
}

/// Arguments of a module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModuleArgs {
    /// Of one that takes a command.
    Command(String),
    /// Of any other.
    Named(BTreeMap<String, String>),
}

/// Where Ansible's hosts come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Inventory {
    /// A file or folder, relative to the root.
    File(String),
    /// The catalog when the run was accepted: hosts and addresses, and groups of them.
    Catalog {
        /// Address by name.
        hosts: BTreeMap<String, String>,
        /// Names by group.
        groups: BTreeMap<String, Vec<String>>,
    },
}

/// A command on hosts, by SSH.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SshTask {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The hosts' port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A configuration for ssh, relative to the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Hosts at a time.
    pub parallel: u32,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HttpTask {
    /// Whole URL.
    pub url: String,
    /// The method.
    pub method: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers in which a `${NAME}` is a secret of the order.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, String>,
    /// PEM file of the authorities to believe, relative to the order's root. Default: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// One of a job's steps.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepTask {
    /// Its name.
    pub name: Name,
    /// After what it runs.
    pub when: When,
    /// What it does; never steps again.
    pub task: Task,
}

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Line {
    /// When it came.
    pub at: Time,
    /// Where from.
    pub stream: Stream,
    /// The host that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The text, without its line's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What happened, where `stream` is `event`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<RunEvent>,
}

impl Line {
    /// A text of a stream.
    pub fn text(at: Time, stream: Stream, line: impl Into<String>) -> Line {
        Line { at, stream, host: None, line: Some(line.into()), event: None }
    }

    /// Something that happened.
    pub fn event(at: Time, event: RunEvent) -> Line {
        let host = match &event {
            RunEvent::Host { host, .. } => Some(host.clone()),
            _ => None,
        };
        Line { at, stream: Stream::Event, host, line: None, event: Some(event) }
    }
}

/// Where a line of a run's log comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// The program's standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// Something that happened, in a form for machines.
    Event,
    /// Regrow itself.
    Regrow,
}

/// What happens in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "what")]
pub enum RunEvent {
    /// A try begins.
    Try {
        /// Which, 1 for the first.
        attempt: u32,
        /// Who runs it.
        worker: WorkerId,
    },
    /// A step of a job of several.
    Step {
        /// Its name.
        step: Name,
        /// What becomes of it.
        state: StepState,
    },
    /// A play of a playbook begins.
    Play {
        /// Its name.
        play: String,
    },
    /// A task of a playbook begins.
    Task {
        /// Its name.
        task: String,
    },
    /// A task has ended on a host; for `ssh` the command has.
    Host {
        /// Which.
        host: String,
        /// The task's name; empty for `ssh`.
        task: String,
        /// How.
        outcome: HostOutcome,
        /// What it said, for people; cut when long.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        message: String,
        /// What changed in a file, as a unified diff; cut when long.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        diff: String,
    },
    /// A piece of a file that the run has left in `REGROW_ARTEFACTS`. Pieces of a file come in order.
    Artefact {
        /// Its path in that folder.
        name: String,
        /// Bytes of the whole file.
        size: u64,
        /// Where the piece begins, bytes.
        at: u64,
        /// The piece, in base64 (RFC 4648 §4).
        data: String,
    },
}

/// What becomes of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    /// It is under way.
    Begun,
    /// It has done what it was to do.
    Succeeded,
    /// It has failed.
    Failed,
    /// Its condition does not hold.
    Skipped,
}

/// How something ended on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum HostOutcome {
    /// It was so already, or nothing had to change.
    Ok,
    /// It changed something.
    Changed,
    /// It failed.
    Failed,
    /// It failed, and the playbook goes on all the same.
    Ignored,
    /// The host cannot be reached.
    Unreachable,
    /// A condition left it out.
    Skipped,
}

/// A worker as it tells of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Worker {
    /// Which.
    pub id: WorkerId,
    /// The node or machine.
    pub node: Name,
    /// What it has.
    #[serde(default)]
    pub labels: Vec<Name>,
    /// Runs at a time, 1 and up.
    pub room: u32,
    /// Since when.
    pub since: Time,
    /// Whether it takes no more runs.
    #[serde(default)]
    pub draining: bool,
}

impl Worker {
    /// Whether it may run an order.
    pub fn has_labels(&self, wanted: &[Name]) -> bool {
        wanted.iter().all(|label| self.labels.contains(label))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that ids sort by time, are read back, and that nothing else is read.
    #[test]
    fn ids() {
        let (first, second) = (RunId::new(Time(1_700_000_000_000), u64::MAX), RunId::new(Time(1_700_000_000_001), 0));
        assert!(first < second);
        assert_eq!(first.as_str().parse(), Ok(first.clone()));
        for wrong in ["", "../../../etc/pas", "0123456789ABCDEF", "0123456789abcde", "0123456789abcdeu"] {
            assert_eq!(wrong.parse::<RunId>(), Err(RunIdError), "{wrong}");
        }
    }
}
