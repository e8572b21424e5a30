//! The queue of runs, and the worker that takes from it.
//!
//! **Flow.** [`Queue::submit`] makes a run durable and answers. A [`worker`] is woken, claims it with its fence, has a
//! [`Runner`] carry it out, beats meanwhile, and settles it. [`tend`] does what nobody asks for: it takes runs from
//! workers that are lost, ends those that are too late, lets parked ones go on, begins what schedules say, forgets what
//! is old. Every decision is made by `regrow_control::features::job`; here are the protocols that make one of them win.
//!
//! **Guarantees.** What was accepted is on disk and ends exactly once in a final state. At most one worker runs a run:
//! it is claimed by comparing its fence, a number that changes with each change of the run, and settled by comparing it
//! again. A worker that cannot beat for [`limits::GIVE_UP`] kills what it runs before its lease ends
//! ([`limits::LEASE`]), so that nobody else begins it too early. A run is taken from a dead worker within
//! [`limits::LEASE`] and a second.
//!
//! **Assumptions.** Clocks of workers run at the same speed, not at the same time; due times and deadlines are as right
//! as the clock of whoever reads them. Redis is set to sync what it acknowledges (`appendfsync always`); one that is
//! not may lose what it accepted.
//!
//! **Caveats.** Runs of one priority begin in the order of their ids where there is one worker; several deal them out.
//!
//! **Errors.** One enum, [`Error`], with [`Error::is_retryable`].
//!
//! How it is built, and why: `docs/design/0040-job-queue.md`.

mod error;
pub mod limits;
mod queue;
mod redis;
mod runner;
mod store;
#[cfg(feature = "suite")]
pub mod suite;
pub mod tend;
pub mod worker;

pub use error::Error;
pub use queue::{BoxFuture, Chunk, Claim, Clock, Post, Queue, Submission};
pub use redis::RedisQueue;
pub use runner::{Output, Runner, Stop};
pub use store::StoreQueue;
