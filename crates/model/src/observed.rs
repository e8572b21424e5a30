//! The half of the store that outcomes write.

use crate::process::{Exit, ProcessId};
use crate::{CauseId, Digest, InstanceId, Name, Revision, Standing, Time, desired};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node: `/regrow/observed/node/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// The address that its instances serve on.
    pub address: String,
    /// Regrow's version there.
    pub version: String,
    /// When its agent last started.
    pub since: Time,
    /// Its agent has ended in order and its instances go on: it is to be back before its lease ends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub away: bool,
}

/// What the cluster takes a member of gossip for: `/regrow/observed/member/<name>`.
///
/// One transaction writes a verdict, and with it removes the member's key and takes its node's endpoints out of the
/// catalog; whoever comes to the same verdict later finds it done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Member {
    /// How it stands.
    pub standing: Standing,
    /// Its life in gossip that this is about.
    pub incarnation: u32,
    /// Where gossip reaches it, as `IP:PORT`.
    pub address: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// It runs an agent of ours: an end of its node's lease can say something.
    pub agent: bool,
    /// The key that lists it while it is alive.
    pub listing: Option<String>,
    /// The node that has recorded this.
    pub by: Name,
    /// Why it stands so, for people.
    pub why: String,
    /// Since when.
    pub since: Time,
    /// Since when a second source agrees that it is gone: its node's lease has ended. From then on what it ran is
    /// replaced.
    pub confirmed: Option<Time>,
    /// A verdict on this life was wrong: the next one on it needs its lease's end too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overruled: bool,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// A living member as programs of users read it: JSON at the configured prefix and its name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listing {
    /// Its name.
    pub name: String,
    /// Where it is, an IP address.
    pub address: String,
    /// The port of gossip there.
    pub port: u16,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// `alive`: others have no key.
    pub status: Standing,
}

/// What is known of an instance: `/regrow/observed/instance/<id>`, written by the node that runs it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instance {
    /// The node.
    pub node: Name,
    /// Which life of the slot this is about.
    pub incarnation: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// The group's version that it is of.
    pub version: Digest,
    /// The process, from `Running` on.
    pub process: Option<ProcessId>,
    /// How it ended, from `Exited` on.
    pub exit: Option<Exit>,
    /// Why it could not be started, with [`Phase::Exited`] and no exit.
    pub error: Option<WorldError>,
    /// What is known of the jobs that accompany this life.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hooks: BTreeMap<Moment, HookState>,
    /// Since when it is in this phase; one that runs, since it has booted.
    pub since: Time,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

impl Instance {
    /// Whether it waits for the job of its boot, and so is in no pool yet.
    pub fn is_booting(&self) -> bool {
        self.hooks.get(&Moment::OnBoot) == Some(&HookState::Waits)
    }
}

/// When a job accompanies an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// Its process runs.
    OnBoot,
    /// It has drained.
    BeforeStop,
}

impl Moment {
    /// The word for people, as in the spec.
    pub fn as_str(self) -> &'static str {
        match self {
            Moment::OnBoot => "on_boot",
            Moment::BeforeStop => "before_stop",
        }
    }
}

/// What is known of a job that accompanies an instance's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookState {
    /// It has not ended.
    Waits,
    /// It has succeeded.
    Succeeded,
    /// It has failed, or had not ended in time.
    Failed,
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Intent is written; it may or may not be there yet.
    Starting,
    /// The process is there.
    Running,
    /// It has been told to stop.
    Stopping,
    /// There is no process any more, or there never was one.
    Exited,
}

/// One address that serves: `/regrow/observed/endpoint/<service>/<id>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The node that it is on.
    pub node: Name,
    /// The instance behind it.
    pub instance: InstanceId,
    /// The instance's life that this is about.
    pub incarnation: u64,
    /// Where it serves.
    pub address: String,
    /// Where it serves.
    pub port: u16,
    /// Whether it may be sent traffic.
    pub state: EndpointState,
    /// Last change of each check, by its label.
    pub checks: BTreeMap<String, CheckStatus>,
    /// Since when it is in this state.
    pub since: Time,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// Whether an endpoint may be sent traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EndpointState {
    /// Not yet healthy for the first time in this life.
    Starting,
    /// All checks pass: it is in the pool. The only such state.
    Passing,
    /// It was healthy; now a check fails.
    Failing,
    /// Taken out on purpose, before a stop.
    Draining,
    /// There is nothing there.
    Down,
}

/// The last change of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Whether it passes.
    pub passing: bool,
    /// What it said, at most [`crate::limits::OUTPUT_BYTES_MAX`] bytes.
    pub output: String,
    /// Since when.
    pub since: Time,
}

/// A service's index: `/regrow/observed/service/<name>`, written in the transaction of every change to one of its
/// endpoints. Its `mod_revision` is what readers of the service compare: nothing about the service has changed
/// since that revision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// The last change.
    pub cause: CauseId,
    /// When.
    pub at: Time,
}

/// What is known of a group: `/regrow/observed/group/<name>`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// The last version of which every instance was healthy.
    pub good: Option<GoodGroup>,
    /// The change under way.
    pub rollout: Option<Rollout>,
    /// Versions that failed and are not tried again, newest last, at most [`crate::limits::BAD_VERSIONS_KEPT`].
    pub bad: Vec<Bad>,
}

/// A group's last good version, whole, so that it can be returned to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoodGroup {
    /// Which.
    pub version: Digest,
    /// The group as it was wanted.
    pub group: desired::Group,
    /// Since when it is good.
    pub at: Time,
}

/// A rolling replacement under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The version that is coming.
    pub version: Digest,
    /// When it began.
    pub since: Time,
    /// The change that asked for it.
    pub cause: CauseId,
}

/// A version that failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bad {
    /// Which version, or which rendered set or inputs.
    pub version: Digest,
    /// Where it failed.
    pub stage: Stage,
    /// Why, for people.
    pub reason: String,
    /// Since when it is known to be bad.
    pub since: Time,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// Where a version failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The template did not render.
    Render,
    /// A guard refused it.
    Guard,
    /// The check command refused the staged files.
    Check,
    /// The files could not be written.
    Write,
    /// The reload failed.
    Reload,
    /// The reload went through, the probe did not.
    Probe,
    /// The instances of a group's version did not become healthy in time.
    Health,
}

/// What is known of a template on one node: `/regrow/observed/template/<name>/<node>`.
///
/// *Written* and *loaded* are two observations: a tool that keeps one loses a failed reload for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// The set that is in place on disk.
    pub written: Option<Rendered>,
    /// The set that the reading program was proved to have taken: the last good one.
    pub loaded: Option<Rendered>,
    /// Why the newest inputs are not in place.
    pub problem: Option<Problem>,
    /// Sets that failed and are not tried again, newest last, at most [`crate::limits::BAD_VERSIONS_KEPT`].
    pub bad: Vec<Bad>,
    /// When a change of the inputs was first seen that is still waited for to settle.
    pub pending_since: Option<Time>,
}

/// A rendered set and what it was rendered from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rendered {
    /// Digest of all files of the set: destinations, modes, owners and contents.
    pub digest: Digest,
    /// What it was rendered from.
    pub inputs: Inputs,
    /// When the observation was made.
    pub at: Time,
    /// The change that led to it.
    pub cause: CauseId,
}

/// What a set was rendered from: equal inputs render equally.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs {
    /// `mod_revision` of the template's own desired record.
    pub template: Revision,
    /// Index of each service that was read ([`Service`]); zero for one that has no record yet.
    pub services: BTreeMap<Name, Revision>,
    /// Healthy endpoints of each service that was read.
    pub healthy: BTreeMap<Name, u32>,
    /// Greatest `mod_revision` and number of the keys under each declared prefix. Other records that were read are
    /// here by their own keys (`/regrow/observed/node/n1`), and variables of the agent's environment as `env:NAME`
    /// with a hash in place of the revision.
    pub keys: BTreeMap<String, (Revision, u64)>,
}

/// Why the newest inputs are not in place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// Where it failed.
    pub stage: Stage,
    /// Why, for people; at most [`crate::limits::OUTPUT_BYTES_MAX`] bytes.
    pub reason: String,
    /// Which input broke it, as an object or key: `service/web`, `template/haproxy`.
    pub input: String,
    /// Since when.
    pub since: Time,
    /// Failures in a row, for the backoff.
    pub failures: u32,
    /// Not tried again before, unless the inputs change.
    pub retry_at: Time,
    /// The inputs that failed.
    pub inputs: Inputs,
    /// The set that failed, where it got as far as being rendered.
    pub digest: Option<Digest>,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// The governor's memory: `/regrow/observed/governor`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Governor {
    /// When each disruptive change of the current window was let through, oldest first.
    pub spent: Vec<Time>,
}

/// Something that the world refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct WorldError {
    /// What sort of refusal.
    pub kind: WorldErrorKind,
    /// What, to what, why; for people.
    pub text: String,
}

/// Sorts of refusals, so that nobody has to match on texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorldErrorKind {
    /// The program, file, folder or user does not exist.
    NotFound,
    /// The port is taken.
    PortInUse,
    /// Not allowed.
    Permission,
    /// No space, no quota, no inodes.
    DiskFull,
    /// It took too long.
    Timeout,
    /// It answered, and the answer was no.
    Refused,
    /// Anything else.
    Other,
}
