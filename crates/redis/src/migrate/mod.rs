//! Moves a data set to another server or cluster while it is written to.
//!
//! Flow: each master of the source is a feed ([`flow`]): its snapshot is taken to disk ([`snapshot`]) and brought to the target
//! ([`load`]), its live writes wait on disk ([`spool`]) and are then applied ([`live`]), in order for each [`lane`]. What a write
//! means on a target with slots is decided in [`deed`], what an expiry means meanwhile in [`hold`]. A [`carrier`] brings
//! commands to the target and outlasts what goes wrong there. [`journal`] is what is remembered. After the [`cut_over`] the same can go
//! on in the other direction ([`way_back`]). Where the source refuses replication, a feed is of another kind ([`by_scan`]).
//!
//! Guarantees: every write of the source is on the target exactly once, in order for each key, whatever is killed and however
//! often; expiries are the source's to the millisecond when it is done; nothing is written to the source. Assumes that nobody
//! else writes to the target meanwhile, and that slots of a source that is a cluster stay where they are.
//!
//! Caveat: while it runs, expiries on the target are held (see [`hold`]), so the target is not for use before the end.

pub mod audit;
mod big;
pub mod board;
mod by_scan;
pub(crate) mod carrier;
pub(crate) mod content;
pub mod cut_over;
mod deed;
mod error;
mod flow;
mod hold;
pub mod journal;
pub(crate) mod lane;
mod live;
pub(crate) mod load;
pub mod options;
pub mod place;
pub mod run;
mod scan;
mod sign;
pub(crate) mod snapshot;
mod spool;
mod sweep;
mod telling;
pub mod verify;
pub mod way_back;

pub use error::MigrateError;
