//! `services:`.

use super::Check;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name with healthy endpoints.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// What proves an endpoint's health: all must pass. Without any, a running process is healthy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<Check>,
    /// Labels that templates and DNS can select by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}
