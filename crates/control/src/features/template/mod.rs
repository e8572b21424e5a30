//! The template planner: from services and keys to files that a program has loaded.
//!
//! **Flow.** Inputs changed → settled (`wait`) → `guard.min` → rendered → `guard.refuse_empty` → `Install` → `Load`, and
//! after a failed load `Restore`. One step a call: each outcome is a record, and the next call goes on from there.
//!
//! **Guarantees.** Nothing is rendered unless an input has changed since the last attempt. Files that failed their check
//! are not installed again; files that failed to load are taken back at once and tried again later, with growing waits.
//! A crash between any two steps converges, because *written* and *loaded* are two records. Each refusal is one event.
//! Recorded inputs are those that were rendered, never newer: a drain may trust them.
//!
//! **Assumptions.** Whoever fills [`regrow_model::View::keys`] watches the prefixes of [`watched`]. A service's index
//! moves with every change of its endpoints.
//!
//! **Caveats.** The files of a template that has left the spec stay. An emptied service is refused unless
//! `guard.refuse_empty` is off, so the drain of a service's last endpoint waits.
//!
//! **Errors.** [`RenderError`]: the user's, with their place. What the world refuses is in the record
//! ([`regrow_model::observed::Problem`]), with the input that broke it.
//!
//! Why it is so: `docs/design/0005-templates.md`.

mod haproxy;
mod inputs;
mod outcome;
mod plan;
mod render;

pub use outcome::{forget, outcome, remember};
pub use render::keys::watched;
pub use render::{Place, RenderError, RenderedSet, render, validate};

use regrow_model::{Name, Plan, Time, View};

/// What every template of this node needs next: at most one action for each, and nothing while the cluster is halted.
pub fn plan(view: &View, node: &Name, now: Time) -> Plan {
    plan::plan(view, node, now)
}

#[cfg(test)]
mod tests;
