//! Membership and dissemination as a pure state machine, and its wire format.

pub mod limits;
mod rng;
mod time;
pub mod wire;

pub use rng::Rng;
pub use time::Time;
