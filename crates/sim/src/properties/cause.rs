//! *No action without an event and a cause.*

use super::Truth;
use regrow_control::reconcile::Transaction;
use regrow_model::event::EventKind;
use regrow_model::key::{Change, Record};
use regrow_model::{Action, CauseId};
use std::collections::BTreeSet;

/// Events that may begin a chain: a wish of somebody, something that happened by itself, or the agent's start.
const ROOTS: [EventKind; 10] = [
    EventKind::AgentStarted,
    EventKind::Applied,
    EventKind::Scaled,
    EventKind::ReplaceAsked,
    EventKind::Paused,
    EventKind::Resumed,
    EventKind::Halted,
    EventKind::Exited,
    EventKind::Failing,
    EventKind::Removed,
];

impl Truth<'_> {
    /// When an action begins, the store has an event of its cause. Records written without an action on the world are
    /// not actions here: their own transaction is what tells of them.
    pub(crate) fn caused(&self, action: &Action, cause: &CauseId) -> Result<(), String> {
        match self.store.root_of(cause) {
            Some(_) => Ok(()),
            None => Err(format!("{} of {:?} without any event of its cause {cause}", action.verb(), action.target())),
        }
    }

    /// The first event of every chain is of a kind that begins one. Checked for each transaction before it is
    /// committed.
    pub(crate) fn rooted(&self, transaction: &Transaction) -> Result<(), String> {
        let mut begun: BTreeSet<&CauseId> = BTreeSet::new();
        for change in &transaction.changes {
            let Change::Put(Record::Event(_, event)) = change else { continue };
            let known = begun.contains(&event.cause) || self.store.root_of(&event.cause).is_some();
            if !known && !ROOTS.contains(&event.kind) {
                return Err(format!(
                    "the chain {} begins with `{}` of {}: {}",
                    event.cause, event.kind, event.object, event.message
                ));
            }
            begun.insert(&event.cause);
        }
        Ok(())
    }
}
