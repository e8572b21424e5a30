//! The nouns of Regrow. Pure: no clock, no I/O, no randomness, ordered maps only.
//!
//! - What the user wants: [`spec`], stored as [`desired`] records.
//! - What came of it: [`observed`] records.
//! - Both at one revision: [`View`]. Planners read nothing else.
//! - What should happen next: [`Plan`], a list of [`Action`]s; what came of one: [`Outcome`].
//! - What happened, and why: [`Event`], tied into chains by [`CauseId`].

pub mod access;
pub mod action;
pub mod cause;
pub mod cron;
pub mod desired;
pub mod digest;
pub mod duration;
pub mod event;
pub mod key;
pub mod limits;
pub mod name;
pub mod object;
pub mod observed;
pub mod outcome;
pub mod peer;
pub mod plan;
pub mod process;
pub mod revision;
pub mod run;
pub mod spec;
pub mod time;
pub mod view;

pub use action::Action;
pub use cause::CauseId;
pub use digest::Digest;
pub use event::{Event, EventId};
pub use key::Key;
pub use name::{InstanceId, Name, NameError};
pub use object::{Kind, Ref};
pub use outcome::{Found, Observation, Outcome};
pub use peer::{Peer, Peers, Standing};
pub use plan::{Held, Plan, Planned, Recorded};
pub use revision::Revision;
pub use run::{Run, RunId};
pub use time::Time;
pub use view::{Entry, View};
