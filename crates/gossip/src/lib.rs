//! Membership and dissemination as a pure state machine, and its wire format: memberlist's and Serf's.
//!
//! - [`Gossip`] takes an [`Input`] and the [`Time`] and gives [`Output`]s; a driver owns sockets and clock.
//! - [`wire`] is the bytes, [`limits`] every bound, [`Config`] the settings with their formulas.
//!
//! ```
//! use regrow_gossip::{Config, Gossip, Input, Output, Rng, Time};
//!
//! let config = Config::lan("web-1", "10.0.0.1:7946".parse().unwrap());
//! let (mut gossip, mut outputs) = Gossip::new(config, None, Rng::new([7; 32]), Time::ZERO).unwrap();
//! let join = Input::Join { addresses: vec!["10.0.0.2:7946".parse().unwrap()], ignore_old_events: false };
//! outputs.extend(gossip.handle(join, Time::from_millis(5)));
//! // The driver connects, sends the bytes, and hands in what comes back; it wakes the machine in time.
//! assert!(outputs.iter().any(|output| matches!(output, Output::Open { .. })));
//! assert!(outputs.iter().any(|output| matches!(output, Output::WakeAt(_))));
//! ```
//!
//! One verb a module: `probe` finds the silent, `verdict` decides on life and death, `spread` tells the
//! news, `exchange` compares whole states and finds the lost again, `intent`, `fire`, `query`, `keys`,
//! `conflict`, `leave` are Serf's part, `reap` forgets. See `docs/design/0010-gossip.md`.

mod broadcast;
mod choice;
mod config;
mod conflict;
mod coordinate;
mod directory;
mod event;
mod exchange;
mod fire;
mod gossip;
mod index;
mod intent;
mod io;
mod keys;
mod leave;
pub mod limits;
mod member;
mod news;
mod packet;
mod probe;
mod query;
mod reap;
mod recent;
mod record;
mod rng;
mod seeds;
mod snapshot;
mod spread;
mod suspicion;
mod time;
mod timers;
mod verdict;
pub mod wire;

pub use choice::{Choice, ChoiceError};
pub use config::{Config, ConfigError};
pub use coordinate::Coordinate;
pub use directory::Directory;
pub use event::{Change, Event, Evidence, KeyReport, Member, Status};
pub use gossip::{Gossip, Stats};
pub use io::{CommandError, Input, KeyOp, Output, QueryRequest, StreamEnd, StreamId};
pub use rng::Rng;
pub use snapshot::Snapshot;
pub use time::Time;
