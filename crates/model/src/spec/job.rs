//! `jobs:` — things to execute: a playbook, a command here or on hosts, a request, or steps of these.

use crate::Name;
use crate::duration::Span;
use crate::limits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A thing to execute. Exactly one of `exec`, `ansible`, `adhoc`, `ssh`, `http` and `steps` says what.
///
/// `${NAME}` in its texts is replaced by the parameter of that name, `$$` is a dollar sign. A value is always data: it
/// stays one word of a command, is quoted for a remote shell, escaped in a URL, and never templated by Ansible.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// For people: what it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What a run may be given, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, Parameter>,
    /// Secrets that its runs get, by the name of the variable that holds it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// A command on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// An Ansible playbook, or roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ansible: Option<Ansible>,
    /// One Ansible module on hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adhoc: Option<Adhoc>,
    /// A command on hosts, by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Several of these, one after the other. An empty list does nothing, and is done at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<Step>>,
    /// Who goes first when not all can run: 0 to 9, the higher first. Default 5.
    #[serde(default = "default_priority")]
    #[schemars(range(min = 0, max = limits::PRIORITY_MAX))]
    pub priority: u8,
    /// What may run at the same time.
    #[serde(default)]
    pub concurrency: Concurrency,
    /// Labels that a worker must have to run it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Name>,
    /// Longest that one try may take; then it is stopped. Default 2000 s.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Time between the signal that stops a run and SIGKILL. Default 10 s.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// How long the result and the output are kept. Default 5000 s.
    #[serde(default = "default_retention")]
    pub retention: Span,
    /// A run that has not started so long after it was due never does. Default: it waits for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_within: Option<Span>,
    /// What happens after a failure.
    #[serde(default)]
    pub retry: Retry,
    /// What happens when the worker is lost in mid-run. Default `fail`: nobody knows how far it came.
    #[serde(default)]
    pub on_loss: OnLoss,
    /// What happens to hosts that gossip says are dead. Default `run`.
    #[serde(default)]
    pub down: Down,
    /// Most output kept of a run, MiB: 1 to 64. What is beyond is left out, with a notice. Artefacts, the files that a run
    /// leaves in the folder `REGROW_ARTEFACTS`, may have half as much. Default 4.
    #[serde(default = "default_output")]
    #[schemars(range(min = 1, max = limits::RUN_OUTPUT_MIB_MAX))]
    pub output_mib: u32,
    /// Most memory of each process of a run, MiB: 16 to 1,048,576. Default 4096.
    #[serde(default = "default_memory")]
    #[schemars(range(min = 16, max = limits::RUN_MEMORY_MIB_MAX))]
    pub memory_mib: u32,
    /// Whether `POST /api/hooks/NAME` may start it: the request is signed with this secret (HMAC-SHA256 of the body, in
    /// `X-Hub-Signature-256`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<Secret>,
}

fn default_priority() -> u8 {
    5
}

fn default_timeout() -> Span {
    Span::secs(2_000)
}

fn default_grace() -> Span {
    Span::secs(10)
}

fn default_retention() -> Span {
    Span::secs(5_000)
}

fn default_output() -> u32 {
    4
}

fn default_memory() -> u32 {
    4096
}

/// One question of a job's survey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// What sort of value. Default `text`.
    #[serde(default, rename = "type")]
    pub sort: ParameterType,
    /// For people: what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its value when none is given. Without it the parameter must be given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<serde_json::Value>,
    /// The values that it may have; for a list each of its items.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// A regular expression that the whole text must match; for a list each of its items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Smallest number, or fewest characters or items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<i64>,
    /// Largest number, or most characters or items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<i64>,
}

/// Sorts of parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ParameterType {
    /// One line of text.
    #[default]
    Text,
    /// Text of several lines.
    Lines,
    /// A host's name or address: letters, digits, `.`, `-`, `_` and `:`, the first a letter or digit.
    Host,
    /// A name: 1 to 63 of `A-Z a-z 0-9 - _ .`, the first a letter or digit.
    Name,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// Names, as a list or with commas between them.
    List,
}

/// Where a secret is. Exactly one of `file`, `env` and `key` says so; it is read by the worker when the run starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// A file on the worker; a line's end at its end is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A variable of the worker's environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// A key of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// A command on the worker.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    /// Program and arguments; no shell. A list parameter that is a whole word becomes as many words.
    pub command: Vec<String>,
    /// Working directory, relative to the spec's folder, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Environment in addition to `PATH`, `HOME`, `LANG`; parameters are in it as `PARAM_NAME`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
}

/// An Ansible playbook, or roles. All parameters are its extra variables.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ansible {
    /// The playbook's file, relative to the spec's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
    /// Roles instead of a playbook: one is made that applies them in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// Where hosts and connections come from.
    #[serde(default)]
    pub target: Target,
    /// Only tasks with one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// No tasks with one of these tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_tags: Vec<String>,
    /// Extra variables beside the parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// The one of `secrets` that opens vaulted files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<String>,
    /// Say what would change and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
    /// Show what changes in files.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub diff: bool,
}

/// One Ansible module on hosts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adhoc {
    /// The module: `ping`, `ansible.builtin.command`.
    pub module: String,
    /// Its arguments as `key=value …`, or the command of one that takes a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<String>,
    /// Where hosts and connections come from.
    #[serde(default)]
    pub target: Target,
    /// Say what would change and change nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub check: bool,
}

/// Which hosts Ansible works on, and how it reaches them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// An inventory's file or folder, relative to the spec's folder, or `catalog`: nodes, and a group for each service,
    /// as the cluster is when the run is accepted. Default `catalog`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inventory: Option<String>,
    /// Only these of its hosts and groups. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limit: Vec<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Become root there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub r#become: bool,
    /// Hosts worked on at a time. Default: Ansible's own, 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub forks: Option<u32>,
}

/// A command on hosts, by the system's `ssh`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ssh {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Program and arguments, each quoted for the shell of the host.
    pub command: Vec<String>,
    /// The user to log in as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The hosts' port. Default: as ssh's configuration says, else 22.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// A configuration for ssh (`ssh -F`), relative to the spec's folder: keys, known hosts, jump hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// Hosts at a time. Default 20.
    #[serde(default = "default_parallel")]
    #[schemars(range(min = 1, max = 1_000))]
    pub parallel: u32,
}

fn default_parallel() -> u32 {
    20
}

/// An HTTP request. It succeeds on an answer of 2xx.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    /// Whole `http://` or `https://` URL; values of parameters are percent-escaped in it.
    pub url: String,
    /// The method. Default `GET`.
    #[serde(default = "default_method")]
    pub method: String,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Headers that nobody may see: a `${NAME}` in these is one of `secrets`, never a parameter. They are sent by
    /// `https://` only, and to this machine.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secret_headers: BTreeMap<String, String>,
    /// PEM file of the certificate authorities that an `https://` server's certificate must come from, relative to the
    /// spec's folder; a server that signed its own needs one with `CA:FALSE`. Default: those that the worker's system
    /// believes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// The body; without it a `POST` or `PUT` sends the parameters as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

fn default_method() -> String {
    "GET".to_owned()
}

/// One step of a job. Exactly one of `exec`, `ansible`, `adhoc`, `ssh` and `http` says what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Its name, which differs from those of the other steps.
    pub name: Name,
    /// A command on the worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Exec>,
    /// An Ansible playbook, or roles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ansible: Option<Ansible>,
    /// One Ansible module on hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adhoc: Option<Adhoc>,
    /// A command on hosts, by SSH.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<Ssh>,
    /// An HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// After what it runs. Default `success`: all before it succeeded.
    #[serde(default)]
    pub when: When,
    /// Parameters and the text that they must have for it to run.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub only: BTreeMap<String, String>,
}

/// After what a step runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum When {
    /// No step before it failed.
    #[default]
    Success,
    /// A step before it failed.
    Failure,
    /// In any case.
    Always,
}

/// What may run at the same time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Concurrency {
    /// Runs of this job at a time. Default: any number.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = limits::CONCURRENCY_RUNS_MAX))]
    pub runs: Option<u32>,
    /// Keys that only one run of any job has at a time: `host-${host}`, `env-${env}`. One with a list parameter in it
    /// becomes as many.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
}

/// What happens after a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Tries again at most so often: 0 to 100. Default 0. A run that used them all is a dead letter.
    #[schemars(range(min = 0, max = limits::RETRIES_MAX))]
    pub times: u32,
    /// Wait before the first one; it doubles with each. Default 10 s.
    pub delay: Span,
    /// Longest wait. Default 10 min.
    pub max_delay: Span,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { times: 0, delay: Span::secs(10), max_delay: Span::secs(600) }
    }
}

/// What happens when the worker is lost in mid-run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnLoss {
    /// The run has failed.
    #[default]
    Fail,
    /// It is run again from its beginning; it must be harmless to do so.
    Retry,
    /// It is run again from the step that was under way.
    Resume,
}

/// What happens to hosts that gossip says are dead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Down {
    /// They are tried like all others.
    #[default]
    Run,
    /// They are left out.
    Skip,
    /// The run waits until all of its hosts are back.
    Park,
}
