//! `groups:` — instances kept at a size.

use crate::duration::Span;
use crate::{Name, Ref, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// Instances kept at a size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The service that the instances are endpoints of. Without it they have no checks and are in no pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// How many. 0 to 10,000.
    #[schemars(range(min = 0, max = limits::GROUP_SIZE_MAX))]
    pub size: u32,
    /// Where they run.
    pub provider: Provider,
    /// Program and arguments; no shell. `${NAME}` is replaced from `environment`, and `${PORT}`, `${ADDRESS}`,
    /// `${INSTANCE}`, `${GROUP}`, `${SLOT}` by Regrow; `$$` is a dollar sign. Paths are relative to `directory`.
    pub command: Vec<String>,
    /// Working directory, relative to the spec's folder, which is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Environment variables in addition to `PATH`, `HOME`, `LANG` and those that Regrow sets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// User to run as, by name; Regrow itself must run as root for it. Default: Regrow's own user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Resource limits of each process.
    #[serde(default)]
    pub limits: Limits,
    /// A fixed port (`8080`; then one instance a node) or a range to draw from (`21000-21999`). Default 20000-29999.
    #[serde(default)]
    pub port: Ports,
    /// Objects that must be ready before the first instance starts: a template that is written, a group at its size.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Ref>,
    /// How it is changed.
    #[serde(default)]
    pub update: Update,
    /// Planned changes never leave fewer healthy ones than this. Default: `size` less `update.max_unavailable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = limits::GROUP_SIZE_MAX))]
    pub min_healthy: Option<u32>,
    /// Time between leaving every load balancer and the stop signal, for requests in flight. Default 1 s.
    #[serde(default = "default_drain")]
    pub drain: Span,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// How a crash loop is slowed.
    #[serde(default)]
    pub backoff: Backoff,
    /// After a start, failing checks count only once this has passed. Default 10 s.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// An instance whose process lives but whose checks fail for so long is replaced. Default 30 s.
    #[serde(default = "default_replace_failing")]
    pub replace_failing: Span,
    /// Jobs that accompany each instance's life.
    #[serde(default)]
    pub hooks: Hooks,
    /// What is kept of its output.
    #[serde(default)]
    pub logs: Logs,
}

fn default_drain() -> Span {
    Span::secs(1)
}

fn default_grace() -> Span {
    Span::secs(10)
}

fn default_replace_failing() -> Span {
    Span::secs(30)
}

impl Group {
    /// The floor under planned changes: `min_healthy`, or `size` less `update.max_unavailable`.
    pub fn floor(&self) -> u32 {
        self.min_healthy.unwrap_or_else(|| self.size.saturating_sub(self.update.max_unavailable)).min(self.size)
    }
}

/// Jobs that accompany each instance's life.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// When its process runs: it enters no pool before the run has succeeded. A run that fails, or has not ended in
    /// time, fails the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_boot: Option<Hook>,
    /// When it has drained: it is told to stop when the run has ended, well or not, or its time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before_stop: Option<Hook>,
}

/// A job at a moment of an instance's life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The job.
    pub job: Name,
    /// What its run is given. `${INSTANCE}`, `${GROUP}`, `${SLOT}`, `${NODE}`, `${ADDRESS}` and `${PORT}` in texts are the
    /// instance's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Longest that it may take, waiting for a worker included. Default 10 min.
    #[serde(default = "default_within")]
    pub within: Span,
}

fn default_within() -> Span {
    Span::secs(600)
}

/// Where instances run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// Processes of the node, each in a process group of its own.
    Process,
}

/// Resource limits of a process (setrlimit). What is not named is inherited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Open files (RLIMIT_NOFILE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i64::MAX))]
    pub open_files: Option<u64>,
    /// Processes of its user (RLIMIT_NPROC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i64::MAX))]
    pub processes: Option<u64>,
    /// Address space in MiB (RLIMIT_AS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i64::MAX >> 20))]
    pub memory_mib: Option<u64>,
    /// Largest file it may write, in MiB (RLIMIT_FSIZE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = i64::MAX >> 20))]
    pub file_size_mib: Option<u64>,
}

/// A fixed port, or the range that ports are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// First of the range.
    pub first: u16,
    /// Last of the range; the same as `first` for a fixed port.
    pub last: u16,
}

impl Ports {
    /// The one port, when it is fixed.
    pub fn fixed(self) -> Option<u16> {
        (self.first == self.last).then_some(self.first)
    }
}

impl Default for Ports {
    fn default() -> Ports {
        let (first, last) = limits::PORTS_DEFAULT;
        Ports { first, last }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fixed() {
            Some(port) => port.fmt(f),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.fixed() {
            Some(port) => serializer.serialize_u16(port),
            None => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Ports, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Ports;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port from 1 to 65535, or a range as 21000-21999")
            }
            fn visit_u64<E: de::Error>(self, port: u64) -> Result<Ports, E> {
                match u16::try_from(port) {
                    Ok(port) if port > 0 => Ok(Ports { first: port, last: port }),
                    _ => Err(E::invalid_value(de::Unexpected::Unsigned(port), &self)),
                }
            }
            fn visit_i64<E: de::Error>(self, port: i64) -> Result<Ports, E> {
                match u64::try_from(port) {
                    Ok(port) => self.visit_u64(port),
                    Err(_) => Err(E::invalid_value(de::Unexpected::Signed(port), &self)),
                }
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Ports, E> {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
                    (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(Ports { first, last }),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A fixed port, or a range to draw from as first-last.",
            "oneOf": [
                {"type": "integer", "minimum": 1, "maximum": 65535},
                {"type": "string", "pattern": "^[0-9]+-[0-9]+$"}
            ]
        })
    }
}

/// How a group is changed: the rolling replacement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Update {
    /// How many may be out of service at a time during a planned change. Default 1; 0 needs `max_surge`.
    #[schemars(range(min = 0, max = limits::GROUP_SIZE_MAX))]
    pub max_unavailable: u32,
    /// How many more than `size` may run during a change. Default 0.
    #[schemars(range(min = 0, max = limits::GROUP_SIZE_MAX))]
    pub max_surge: u32,
    /// A new version that is not healthy within this has failed. Default 30 s.
    pub health_within: Span,
    /// Whether a version that has failed is replaced by the last good one and remembered as bad. Default true.
    pub rollback: bool,
}

impl Default for Update {
    fn default() -> Update {
        Update { max_unavailable: 1, max_surge: 0, health_within: Span::secs(30), rollback: true }
    }
}

/// How an instance is stopped: a signal, then SIGKILL to its whole process group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Stop {
    /// The polite signal, by name without `SIG`. Default `TERM`.
    pub signal: String,
    /// Time until SIGKILL. Default 10 s.
    pub grace: Span,
}

impl Default for Stop {
    fn default() -> Stop {
        Stop { signal: "TERM".to_owned(), grace: Span::secs(10) }
    }
}

/// How a crash loop is slowed: the first restart is at once, then `first`, doubled each time up to `max`, each less
/// up to a quarter of jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// Wait before the second restart in a row. Default 1 s.
    pub first: Span,
    /// Longest wait. Default 1 m.
    pub max: Span,
    /// An instance that was healthy for so long starts afresh. Default 10 s.
    pub reset: Span,
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff { first: Span::secs(1), max: Span::secs(60), reset: Span::secs(10) }
    }
}

/// What is kept of an instance's output: JSON lines in its folder, rotated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Logs {
    /// Size at which a file is closed and the next begun, in MiB. 1 to 65,536; default 10.
    #[schemars(range(min = 1, max = limits::LOG_SIZE_MIB_MAX))]
    pub size_mib: u64,
    /// Closed files kept. 0 to 1,000; default 3.
    #[schemars(range(min = 0, max = limits::LOG_FILES_MAX))]
    pub keep: u32,
}

impl Default for Logs {
    fn default() -> Logs {
        Logs { size_mib: 10, keep: 3 }
    }
}
