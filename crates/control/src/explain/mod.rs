//! Why something is as it is: `regrow explain`.
//!
//! Flow: what the records say of the object now, the chains of causes that it was last part of with every event of
//! them, and what the rules hold back that has to do with it. Nothing is guessed: each line is a record, an event or a
//! line of a plan.
//!
//! Caveat: events are kept up to a number; a chain whose events are gone is shown as far as it is left.

mod state;
mod text;

use regrow_model::event::{Event, EventKind};
use regrow_model::plan::Held;
use regrow_model::{CauseId, EventId, Kind, Ref, Time, View};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Newest chains of causes that are shown.
pub const CHAINS_MAX: usize = 3;
/// Newest events that are shown.
pub const STEPS_MAX: usize = 50;

/// Why an object is as it is. [`std::fmt::Display`] writes it for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What it is about.
    pub object: Ref,
    /// The answer in one sentence without a full stop.
    pub summary: String,
    /// What is known of it now, a fact a line.
    pub now: Vec<String>,
    /// How it came to that, oldest first.
    pub chain: Vec<Step>,
    /// What would happen next were it not for a rule, and which.
    pub waiting: Vec<String>,
}

impl Explanation {
    /// Whether there is no such object, and nothing is known of one that was there.
    pub fn is_unknown(&self) -> bool {
        self.now.is_empty() && self.chain.is_empty() && self.waiting.is_empty()
    }
}

/// One event of a chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// When.
    pub at: Time,
    /// What it happened to.
    pub object: Ref,
    /// What sort.
    pub kind: EventKind,
    /// What.
    pub message: String,
    /// Output or text that shows more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

/// Explains an object, whether it is there or not.
///
/// `events`: those kept, in the order of their ids. `held`: what the last plans hold back.
pub fn explain(view: &View, events: &[(EventId, Event)], held: &[Held], object: &Ref, now: Time) -> Explanation {
    let state = state::of(view, object, now);
    let concerned: BTreeSet<Ref> = state.parts.iter().cloned().chain([object.clone()]).collect();
    let whole = object.kind == Kind::Cluster;
    let waiting = held.iter().filter(|held| whole || concerned.contains(&held.object));
    let about = events.iter().map(|(_, event)| event).filter(|event| whole || concerned.contains(&event.object));
    let mut causes: Vec<&CauseId> = state.cause.iter().collect();
    for event in about.rev() {
        if !causes.contains(&&event.cause) {
            causes.push(&event.cause);
        }
        if causes.len() >= CHAINS_MAX {
            break;
        }
    }
    // One change of a group moves all its instances; what became of the others explains nothing of this one.
    let is_sibling = |other: &Ref| object.kind == Kind::Instance && other.kind == Kind::Instance && other != object;
    let mut chain: Vec<Step> = events
        .iter()
        .rev()
        .filter(|(_, event)| causes.contains(&&event.cause) && !is_sibling(&event.object))
        .take(STEPS_MAX)
        .map(|(_, event)| Step {
            at: event.at,
            object: event.object.clone(),
            kind: event.kind,
            message: event.message.clone(),
            detail: event.detail.clone(),
            cause: event.cause.clone(),
        })
        .collect();
    chain.reverse();
    let waiting = waiting.map(|held| text::held(held, now)).collect();
    Explanation { object: object.clone(), summary: state.summary, now: state.lines, chain, waiting }
}

#[cfg(test)]
mod tests;
