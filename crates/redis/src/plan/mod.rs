//! From a picture of a cluster and a wish to a list of things to do. Pure: a plan is data, it can be shown before it is
//! carried out, and it leaves no choice to the doer.

mod create;
mod fix;
mod moves;
mod placement;
mod upgrade;

pub use create::{CreateError, CreatePlan, MasterPlan, create};
pub use fix::{FixPlan, KeyCounts, Left, Repair, fix, slots_to_count};
pub use moves::{Move, MovesError, drain, rebalance, reshard};
pub use placement::master_for_replica;
pub use upgrade::{NoReplica, UpgradeStep, UpgradeWish, upgrade};
