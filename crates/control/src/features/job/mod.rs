//! Jobs and their runs: every decision about them, and no way to carry one out.
//!
//! **Flow.** [`order`] turns a job and what a run is given into an [`Order`](regrow_model::run::Order): parameters
//! checked, every `${…}` in place as data. A queue (the crate `regrow-jobs`) keeps runs durably and asks here what is
//! next: [`queue::next`] who runs what, [`policy`] what follows an end, a loss or a deadline, [`schedule::due`] which
//! times of a schedule have come, [`why::waits`] what a run waits for.
//!
//! **Guarantees.** Functions of what they are given, times included: the same on every node, so that any of them may
//! decide, and the store's transactions let one decision win.
//!
//! **Errors.** [`OrderError`]: nothing was accepted.

mod expand;
pub mod inventory;
pub mod order;
pub mod policy;
pub mod queue;
pub mod schedule;
#[cfg(test)]
mod tests;
pub mod why;

pub use order::{OrderError, Wish};
