//! `schedules:` — jobs at times.

use crate::Name;
use crate::duration::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Runs of a job at times. Exactly one of `cron` and `every` says when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// The job.
    pub job: Name,
    /// Minute, hour, day of the month, month, day of the week, as cron(5) has them: `30 2 * * 1-5`; or `@hourly`,
    /// `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// A fixed span between two runs, counted from the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
    /// The time zone of `cron`, by its IANA name: `Europe/Berlin`. Default `UTC`. A time that a change to summer time
    /// leaves out runs at that change; one that comes twice runs the first time.
    #[serde(default = "default_zone")]
    pub zone: String,
    /// What its runs are given.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// What happens when it is due and its last run has not ended. Default `skip`.
    #[serde(default)]
    pub overlap: Overlap,
    /// What happens to times that passed while nothing could start. Default `last`.
    #[serde(default)]
    pub misfire: Misfire,
    /// A time that is missed by more than this is left out. Default 1 h.
    #[serde(default = "default_late")]
    pub late: Span,
    /// Whether it is at rest.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

fn default_zone() -> String {
    "UTC".to_owned()
}

fn default_late() -> Span {
    Span::secs(3_600)
}

/// What happens when a schedule is due and its last run has not ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Overlap {
    /// This time is left out.
    #[default]
    Skip,
    /// One run waits until the last has ended; further times are left out meanwhile.
    Queue,
    /// Both run.
    Allow,
    /// The last run is cancelled, and this one runs.
    Replace,
}

/// What happens to times that passed while nothing could start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Misfire {
    /// The last of them runs.
    #[default]
    Last,
    /// None runs.
    Skip,
    /// Each of them runs, at most 100.
    All,
}
