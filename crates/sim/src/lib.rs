//! A whole cluster in one thread with virtual time, store and world: the rules of the runtime
//! ([`regrow_control::reconcile`]), and with them the planners and the governor, run here as they are.
//!
//! ```text
//!   users ──► Reconciler ──► seam ──► virtual store, virtual world
//!                 ▲                        │  faults: fail, lose, delay, kill, fill, restart
//!                 └──── virtual time ◄─────┘
//! ```
//!
//! **A run** ([`run`]) is its seed: an hour of a cluster in milliseconds, the same each time. For some minutes users ask
//! for changes, good and bad, while things go wrong; then nothing goes wrong any more, and the cluster must come to what
//! was wanted last within a bounded time ([`CONVERGE_MAX`]).
//!
//! **What must hold** is in [`properties`], one checker each. Most are looked at with every step of a run.
//!
//! **A test can plant a bug** at the [`Seam`] between the rules and everything else, to show that the properties find it.
//!
//! **Assumptions.** One node with one agent, as the runtime has it now. The store answers every commit, and a commit that
//! is refused has changed nothing. The clock never goes back.

mod cluster;
mod faults;
pub mod fleet;
mod program;
pub mod properties;
mod rng;
mod run;
mod seam;
mod store;
mod timeline;
mod wish;
mod workload;
pub mod world;

pub use faults::{Faults, Weather};
pub use program::Program;
pub use properties::{Property, Violation};
pub use rng::Rng;
pub use run::{CONVERGE_MAX, Failure, Summary, judge, run};
pub use seam::{Deed, Faithful, Seam};
pub use store::Store;
pub use wish::Wish;
