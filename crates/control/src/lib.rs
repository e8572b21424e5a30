//! What decides. Pure: functions from the [`regrow_model::View`] and the time to a [`regrow_model::Plan`].
//!
//! - [`features`]: the planners, one folder a noun.
//! - [`governor`]: which of what they want may happen now.
//! - [`explain`]: why something is as it is, for people.

pub mod explain;
pub mod features;
pub mod governor;

#[cfg(test)]
mod world;
