//! Breaks a cluster on purpose, under load, and measures what its clients felt.
//!
//! Flow of one drill: clients write numbered keys and keep a [`Ledger`] of what was acknowledged; a node is stopped, killed
//! or paused; another node is watched for when it suspects, gives up and replaces the broken one; the node is brought back;
//! when everything is redundant again, each acknowledged write is looked for. What is not there is lost.
//!
//! Guarantees: starts only on a whole cluster; its keys begin with `regrow:drill:` and are removed at the end. Assumes that
//! the hands it is given ([`Hands`]) can break and mend the node. Caveat: times are as exact as the watching (a look every
//! 10 ms) and the load (one write of a client after the other).

mod hands;
mod ledger;
mod load;
mod report;
mod run;
mod watch;

pub use hands::{Fault, Hands, HandsError};
pub use ledger::{Ledger, Outage, Write};
pub use load::LoadPlan;
pub use report::{DrillReport, Limits, html};
pub use run::{Drill, DrillError};
