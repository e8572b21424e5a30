//! Restarts the nodes of a cluster one after the other, so that each comes back with another version or setting, while
//! clients read and write.
//!
//! Flow: [`crate::plan::upgrade`] says what is still to be done from what is now; the first step is done to its end; then it
//! is planned anew. A restart is a command of the operator's ([`Hand`]), a master's role is handed to a replica before. What
//! cannot be seen from the cluster is in a small [`Journal`]: who was master, what is done, which node is in hand.
//!
//! Guarantees: a step begins only when the cluster is whole and every other replica has all that its master has; a node whose
//! role was not handed over is not restarted (unless that is allowed for masters without replica); hand-overs lose no
//! acknowledged write. What goes wrong stops the upgrade where it is, and the same command goes on. Assumes that the command
//! restarts the node that it is told and no other: it is noticed afterwards if others were restarted, too.

mod error;
mod hand;
mod journal;
mod probe;
mod run;

pub use error::{StepError, UpgradeError};
pub use hand::{Hand, HandError, Node};
pub use journal::{Current, Journal, State};
pub use run::{StepReport, Told, Upgrade, UpgradePlan, title, version};
