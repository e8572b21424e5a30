//! Carries plans out on real clusters.
//!
//! Flow: [`Cluster::open`] finds all nodes from any of them; [`Cluster::refresh`] takes a new picture; each verb sends its
//! commands in the order of the plan and then waits until all nodes agree ([`Cluster::settle`]).
//!
//! Guarantees: a slot's keys are in the care of one master at every step of a move, and clients that follow redirections
//! lose nothing. Caveat: a verb that broke off midway may leave a slot open; [`Cluster::mend`] carries it to its end.
//! Decides nothing: choices are made in [`crate::plan`].

mod cluster;
mod create;
mod error;
mod membership;
mod mend;
mod promote;
mod slots;
mod status;

pub use cluster::Cluster;
pub use create::{create, examine};
pub(crate) use error::chain;
pub use error::{AdminError, Unfit};
pub use membership::Role;
pub use promote::Force;
pub use slots::{Carried, MoveLimits, Progress};
pub use status::{MasterStatus, NodeStatus, Status};
