//! What the user wants: the types of `regrow.yaml`.
//!
//! Top-level sections are the kinds, the key is the name. Unknown keys are errors. Each type documents its unit, range
//! and default; the JSON Schema (`regrow schema`) is generated from these types and their docs.
//!
//! [`load`] reads files: `yaml` makes a tree with places, `load` merges the files, `shape` holds the tree against the
//! schema, `validate` applies the rules that a schema cannot say. Each tells all that it finds as [`Diagnostic`]s.

mod check;
pub mod command;
mod diagnostic;
mod governor;
mod group;
mod job;
mod load;
mod near;
mod schedule;
mod schema;
mod service;
mod shape;
pub mod survey;
mod template;
mod tree;
mod validate;
mod yaml;

pub use check::Check;
pub use diagnostic::Diagnostic;
pub use governor::{Budget, Freeze, Governor};
pub use group::{Backoff, Group, Hook, Hooks, Limits, Logs, Ports, Provider, Stop, Update};
pub use job::{
    Adhoc, Ansible, Concurrency, Down, Exec, Http, Job, OnLoss, Parameter, ParameterType, Retry, Secret, Ssh, Step,
    Target, When,
};
pub use load::{SourceFile, load};
pub use schedule::{Misfire, Overlap, Schedule};
pub use schema::schema;
pub use service::Service;
pub use template::{Guard, Probe, Reload, Template, TemplateFile, Wait};

use crate::Name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A whole spec: `regrow.yaml`, or the sum of the files of a folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The cluster's name.
    pub cluster: Name,
    /// Names with healthy endpoints.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<Name, Service>,
    /// Instances kept at a size.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<Name, Group>,
    /// Files rendered from the view.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<Name, Template>,
    /// Things to execute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub jobs: BTreeMap<Name, Job>,
    /// Jobs at times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub schedules: BTreeMap<Name, Schedule>,
    /// The bounds on everything that changes the world.
    #[serde(default)]
    pub governor: Governor,
}
