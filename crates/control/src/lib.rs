//! What decides. Pure: functions from the [`regrow_model::View`] and the time to a [`regrow_model::Plan`].
//!
//! - [`access`]: who may do what, on any door.
//! - [`features`]: the planners, one folder a noun.
//! - [`governor`]: which of what they want may happen now.
//! - [`exec`]: a command on many hosts.
//! - [`explain`]: why something is as it is, for people.
//! - [`apply`]: what users ask for, turned into records.
//! - [`reconcile`]: the rules of the runtime, as a state machine.
//! - [`status`]: the cluster at a glance.

pub mod access;
pub mod apply;
pub mod exec;
pub mod explain;
pub mod features;
pub mod governor;
pub mod reconcile;
pub mod status;

#[cfg(test)]
mod world;
