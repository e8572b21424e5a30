//! What must hold, one checker each. Each looks at the truth of the store and of the world, never at what the planners
//! believe.

mod cause;
mod floor;
mod loaded;
mod size;
mod slot;
mod traffic;

pub(crate) use floor::{Leaving, leaving};
pub(crate) use traffic::guarded;

use crate::store::Store;
use crate::world::World;
use regrow_model::{InstanceId, Time};
use std::collections::BTreeSet;
use std::fmt;

/// The properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// Groups come to the size, version and health that are wanted.
    Size,
    /// Planned changes never take a group below its floor.
    Floor,
    /// No two processes live in one slot.
    Slot,
    /// What is written is in the end loaded or rolled back.
    Loaded,
    /// Nothing is done without an event of its cause.
    Cause,
    /// What drains is in no loaded set when it is stopped.
    Traffic,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::Size => "size",
            Property::Floor => "floor",
            Property::Slot => "slot",
            Property::Loaded => "loaded",
            Property::Cause => "cause",
            Property::Traffic => "traffic",
        })
    }
}

/// A property that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub property: Property,
    /// When, in virtual time.
    pub at: Time,
    /// What was seen.
    pub what: String,
}

/// What the checkers look at.
#[derive(Clone, Copy)]
pub(crate) struct Truth<'a> {
    pub(crate) store: &'a Store,
    pub(crate) world: &'a World,
    pub(crate) now: Time,
    /// Nothing goes wrong in this run by itself.
    pub(crate) calm: bool,
}

impl Truth<'_> {
    /// A violation, if something is wrong.
    pub(crate) fn violation(&self, property: Property, wrong: Result<(), String>) -> Option<Violation> {
        wrong.err().map(|what| Violation { property, at: self.now, what })
    }
}

/// The checkers, with what they remember of the run.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    /// Lives that were in a pool when they were told to go.
    drained: BTreeSet<(InstanceId, u64)>,
}
