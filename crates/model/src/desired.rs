//! The half of the store that users, git and the cluster planners write.

use crate::process::Process;
use crate::spec;
use crate::{CauseId, Digest, Name, Time};
use serde::{Deserialize, Serialize};

/// The cluster's own record: `/regrow/desired/cluster`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// The cluster's name.
    pub name: Name,
    /// The folder that relative paths of the spec start from, absolute.
    pub root: String,
    /// The governor's settings.
    pub governor: spec::Governor,
    /// The change that wrote it.
    pub cause: CauseId,
    /// When.
    pub at: Time,
}

/// A service as wanted: `/regrow/desired/service/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// What the spec says.
    pub spec: spec::Service,
    /// The change that wrote it.
    pub cause: CauseId,
}

/// A group as wanted: `/regrow/desired/group/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What the spec says, with later `group scale` in it.
    pub spec: spec::Group,
    /// The folder that relative paths start from, absolute.
    pub root: String,
    /// Grows by one with each `group replace`, and makes a new version of an unchanged spec.
    #[serde(default)]
    pub replace: u64,
    /// The change that wrote it.
    pub cause: CauseId,
}

impl Group {
    /// The version that instances are of: all that needs a new process when it changes.
    ///
    /// Size, order and the rules of change are not in it: scaling replaces nothing.
    pub fn version(&self) -> Digest {
        let spec = &self.spec;
        Digest::of_json(&(
            (&spec.provider, &spec.command, &spec.directory, &spec.environment, &spec.user),
            (&spec.limits, &spec.port, &spec.service, &spec.logs, &self.root, self.replace),
        ))
    }
}

/// A template as wanted: `/regrow/desired/template/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Template {
    /// What the spec says.
    pub spec: spec::Template,
    /// The folder that relative paths start from, absolute.
    pub root: String,
    /// The sources' texts in the order of the spec's files, read when the spec was applied: a source edited on disk
    /// changes nothing until it is applied.
    pub sources: Vec<Source>,
    /// The change that wrote it.
    pub cause: CauseId,
}

/// A job as wanted: `/regrow/desired/job/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What the spec says.
    pub spec: spec::Job,
    /// The folder that relative paths start from, absolute.
    pub root: String,
    /// The change that wrote it.
    pub cause: CauseId,
}

/// A schedule as wanted: `/regrow/desired/schedule/<name>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    /// What the spec says.
    pub spec: spec::Schedule,
    /// The change that wrote it.
    pub cause: CauseId,
    /// When it was last changed: times before that are not its own.
    pub at: Time,
}

/// One source of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its path as the spec names it: chooses the language, and is what errors point into.
    pub name: String,
    /// Its text. At most [`crate::limits::TEMPLATE_SOURCE_BYTES_MAX`] bytes.
    pub text: String,
}

/// What a cluster planner wants of one instance: `/regrow/desired/instance/<id>`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// The node that runs it.
    pub node: Name,
    /// Which life of the slot: 1 for the first, one more with each replacement. An outcome of another incarnation is
    /// stale.
    pub incarnation: u64,
    /// What it should be doing.
    pub goal: Goal,
    /// The group's version that it is of.
    pub version: Digest,
    /// What to run.
    pub process: Process,
    /// Address that it serves on.
    pub address: String,
    /// Port that it serves on.
    pub port: u16,
    /// Not to be started before: the crash loop's backoff.
    pub not_before: Time,
    /// Starts in a row that ended before the instance was healthy for `backoff.reset`.
    pub crashes: u32,
    /// The chain that it belongs to.
    pub cause: CauseId,
    /// When it was last changed.
    pub at: Time,
}

/// What an instance should be doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Run, and be in the pool when healthy.
    Run,
    /// Leave every pool, then run until it is told to stop.
    Drain,
    /// Be stopped. The record goes when it is.
    Stop,
}

/// The governor's pause: `/regrow/desired/pause`. While it is there no planned change starts; what dies is still
/// replaced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Why, for whoever finds it at night.
    pub why: String,
    /// When it ends by itself; `None` is never.
    pub until: Option<Time>,
    /// The change that wrote it.
    pub cause: CauseId,
    /// Since when.
    pub at: Time,
}

/// Everything is to be stopped, in order: `/regrow/desired/halt`. Start-up of the agent removes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Halt {
    /// The change that wrote it.
    pub cause: CauseId,
    /// Since when.
    pub at: Time,
}
