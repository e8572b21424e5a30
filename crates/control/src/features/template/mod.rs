//! The template planner: from services and keys to files that a program has loaded.

mod haproxy;
mod inputs;
mod outcome;
mod plan;
mod render;

pub use outcome::{outcome, remember};
pub use render::keys::watched;
pub use render::{Place, RenderError, RenderedSet, render, validate};

use regrow_model::{Name, Plan, Time, View};

/// What every template of this node needs next: see the top of this module.
pub fn plan(view: &View, node: &Name, now: Time) -> Plan {
    plan::plan(view, node, now)
}

#[cfg(test)]
mod tests;
