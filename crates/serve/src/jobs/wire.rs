//! What travels about jobs and runs.

use bytes::Bytes;
use regrow_control::features::job::order::Wish;
use regrow_model::run::{Run, State};
use regrow_model::spec::Schedule;
use regrow_model::{Name, RunId, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// A run to be accepted: `POST /api/runs`. Fields that nobody knows are refused.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(extend("additionalProperties" = false))]
pub struct Submit {
    /// The job.
    pub job: Name,
    /// What it is given, and when it may start.
    #[serde(flatten)]
    pub wish: Wish,
}

// By hand: a derived one that flattens lets unknown fields pass.
impl<'de> Deserialize<'de> for Submit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Submit, D::Error> {
        let mut fields = serde_json::Map::deserialize(deserializer)?;
        let job = fields.remove("job").ok_or_else(|| de::Error::missing_field("job"))?;
        let job = serde_json::from_value(job).map_err(de::Error::custom)?;
        let wish = serde_json::from_value(fields.into()).map_err(de::Error::custom)?;
        Ok(Submit { job, wish })
    }
}

/// A run that was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Accepted {
    /// Which.
    pub id: RunId,
}

/// How a run is to be repeated: `POST /api/runs/{id}/retry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Again {
    /// Only on the hosts on which something failed.
    pub failed_hosts: bool,
}

/// Most runs that are told at a time.
pub const RUNS_TOLD_MAX: usize = 10_000;

/// Which runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RunsQuery {
    /// Only of this job.
    pub job: Option<Name>,
    /// Only in this state.
    pub state: Option<State>,
    /// Those that have ended too. Default true.
    pub ended: bool,
    /// At most so many, 1 to 10,000. Default 100.
    #[schemars(range(min = 1, max = RUNS_TOLD_MAX))]
    pub limit: usize,
}

impl Default for RunsQuery {
    fn default() -> RunsQuery {
        RunsQuery { job: None, state: None, ended: true, limit: 100 }
    }
}

/// A run with what is known around it: `GET /api/runs/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// Why it waits, a line each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
}

/// Whether a run was ended by this request: `POST /api/runs/{id}/cancel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Cancelled {
    /// `false`: it had ended before.
    pub cancelled: bool,
}

/// A schedule and its next time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ScheduleLine {
    /// Its name.
    pub name: Name,
    /// What the spec says.
    pub schedule: Schedule,
    /// When it is due next; `None`: never again, or it is at rest.
    pub next: Option<Time>,
    /// Times up to here are dealt with.
    pub last: Option<Time>,
    /// Runs that it began and that have not ended.
    pub runs: Vec<RunId>,
}

/// Which lines of a run's log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogQuery {
    /// Go on until the run has ended.
    pub follow: bool,
    /// Only what is behind this cursor.
    pub after: Option<String>,
}

/// A file that a run has left: `GET /api/runs/{id}/artefacts`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ArtefactLine {
    /// Its path in the folder that the run had for it.
    pub name: String,
    /// Bytes.
    pub size: u64,
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtefactQuery {
    /// Its path, as it is listed.
    pub name: String,
}

/// Where a run stands, while it is followed: the data of `event: state`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Stand {
    /// Its state.
    pub state: State,
    /// Tries begun.
    pub attempt: u32,
    /// Why it waits, or how it ended, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
}

/// A piece of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPiece {
    /// Where it is; give it to get what is behind it.
    pub cursor: String,
    /// Whole lines of JSON, a [`regrow_model::run::Line`] each.
    pub lines: Bytes,
}
