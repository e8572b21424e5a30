//! A check: what proves health.

use crate::duration::Span;
use crate::{Digest, limits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One check of a service's endpoints. Exactly one of `http`, `tcp`, `script` and `process` says how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// A path (`/healthz`, asked of the endpoint's address and port) or a whole `http://` URL. Passes on a 2xx answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// `true`: the endpoint's port accepts a connection.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tcp: bool,
    /// A command; exit code 0 passes. It gets `ADDRESS`, `PORT` and `INSTANCE` in its environment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub script: Vec<String>,
    /// `true`: the process is there. Its end is noticed at once, whatever the interval.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub process: bool,
    /// Time between the starts of two checks. 100 ms to 7 days; default 1 s.
    #[serde(default = "default_interval")]
    pub interval: Span,
    /// Longest that one check may take; then it has failed. At most the interval counts; default 1 s.
    #[serde(default = "default_timeout")]
    pub timeout: Span,
    /// Passes in a row before a failing endpoint is healthy. 1 to 1,000; default 1.
    #[serde(default = "default_rise")]
    #[schemars(range(min = 1, max = limits::CHECK_STREAK_MAX))]
    pub rise: u32,
    /// Failures in a row before a healthy endpoint is failing. 1 to 1,000; default 2: one lost packet is no death.
    #[serde(default = "default_fall")]
    #[schemars(range(min = 1, max = limits::CHECK_STREAK_MAX))]
    pub fall: u32,
}

fn default_interval() -> Span {
    Span::secs(1)
}

fn default_timeout() -> Span {
    Span::secs(1)
}

fn default_rise() -> u32 {
    1
}

fn default_fall() -> u32 {
    2
}

impl Check {
    /// How it looks, for people and as its key in records: `http /healthz`, `tcp`, `script check-it --fast`, `process`.
    /// A script of more than [`limits::CHECK_LABEL_LENGTH_MAX`] characters is cut and told apart by its digest.
    pub fn label(&self) -> String {
        if let Some(target) = &self.http {
            format!("http {target}")
        } else if !self.script.is_empty() {
            let words = self.script.join(" ");
            if words.chars().count() <= limits::CHECK_LABEL_LENGTH_MAX {
                return format!("script {words}");
            }
            let digest = Digest::of(self.script.iter().map(|word| word.as_bytes()));
            let head: String = words.chars().take(limits::CHECK_LABEL_LENGTH_MAX).collect();
            format!("script {head}… {}", digest.short())
        } else if self.tcp {
            "tcp".to_owned()
        } else {
            "process".to_owned()
        }
    }
}
