//! The governor: the bounds on everything that changes the world.
//!
//! Flow: every plan goes through [`admit`] before anything of it is done. Actions that take something out of service on
//! purpose (those with [`regrow_model::Planned::disrupts`]) are let through or moved to what is held, in this order of rules:
//!
//! 1. **Pause.** An operator's pause holds every one.
//! 2. **Freeze.** While more than `freeze.share` of at least `freeze.at_least` live endpoints fail their checks, nothing
//!    alive is destroyed for failing its own. While more than `freeze.share` of the nodes look dead to gossip, nothing is
//!    taken away for any reason, and nothing that ran on them is replaced (`features::member`).
//! 3. **Floor.** None may leave fewer healthy instances in its group than `min_healthy`. Taking away one that is not
//!    healthy costs nothing.
//! 4. **Budget.** No more than `budget.changes` in any window of `budget.per`.
//!
//! Guarantees: what is let through pays in the same transaction, so that a crash forgets no payment. Replacing the dead
//! disturbs nothing and is never held. While everything is to stop, nothing is held.
//!
//! Two sources: nothing alive is destroyed on the word of one. On one machine the first is the instance's own check,
//! which has failed for `replace_failing`; the second is the fleet, asked by the freeze: when most others fail as well
//! the fault is in what they share (the checker, the network, a database), and killing them would heal nothing. A
//! process must also be seen to run by the kernel to be counted as alive at all; its end needs no second source,
//! because the kernel does not guess. Of a whole node the first source is gossip, the second its lease in the store
//! (`features::member`).

mod admit;
mod freeze;

pub use admit::{DISRUPTIONS_PER_PLAN_MAX, admit};

#[cfg(test)]
mod tests;
