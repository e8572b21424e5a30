//! The planners, one folder a noun.
//!
//! Each gets the whole view and no hint of what changed, has no memory, and leaves no choice to whoever carries its
//! plan out. What must be remembered is a record.

pub mod group;
pub mod instance;
pub mod job;
pub mod member;
mod roster;
pub mod service;
pub mod template;

pub(crate) use roster::{Member, Roster};

use regrow_model::duration::Span;
use regrow_model::key::Change;
use regrow_model::process::Exit;
use regrow_model::{Action, CauseId, Planned, Ref};
use std::time::Duration;

/// A plan's line that writes records: nothing is disturbed and nothing is told until the caller adds it.
fn record(object: Ref, changes: Vec<Change>, why: impl Into<String>, cause: &CauseId) -> Planned {
    Planned {
        object,
        action: Action::Record { changes },
        why: why.into(),
        cause: cause.clone(),
        disrupts: None,
        given: Vec::new(),
        intent: Vec::new(),
        events: Vec::new(),
    }
}

/// A span of time as people say it: milliseconds only below ten seconds.
pub(crate) fn span(length: Duration) -> Span {
    if length < Duration::from_secs(10) {
        Span(Duration::from_millis(u64::try_from(length.as_millis()).unwrap_or(u64::MAX)))
    } else {
        Span(Duration::from_secs(length.as_secs()))
    }
}

/// How a process ended, as what is said of it: `was killed by SIGKILL`, `exited with code 1`.
pub(crate) fn ending(exit: &Exit) -> String {
    match (exit.signal, exit.code) {
        (Some(_), _) => format!("was {exit}"),
        (None, Some(_)) => exit.to_string(),
        (None, None) => format!("is {exit}"),
    }
}
