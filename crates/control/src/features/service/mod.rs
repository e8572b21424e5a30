//! Checks: which to run, and what their results make of endpoints.
//!
//! Flow: [`targets`] says what a node must check; each result goes to [`Health::checked`], which counts and gives
//! back a transaction when something has changed.
//!
//! Guarantees: an endpoint is written on transitions only, and each write comes with its service's index. The
//! results of a life that is no longer assigned, of an endpoint that leaves, or of a check that nobody asked for
//! change nothing.
//!
//! Caveat: the counters of rise and fall are in memory; a restart of the agent begins them afresh, which delays a
//! transition by at most `rise` or `fall` checks.

pub(crate) mod endpoint;
mod health;
mod target;

pub use health::{Checked, Health};
pub(crate) use target::is_process;
pub use target::targets;

#[cfg(test)]
mod tests;
