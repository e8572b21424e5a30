//! What can be asked of a reconciler.

use crate::apply::{self, Difference, OrderError, Resolved};
use regrow_model::{CauseId, InstanceId, Name, Recorded, Revision, Time, View};
use serde::Serialize;
use std::time::Duration;

/// A wish of a user, a door or a script.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Make the desired half say what a spec says.
    Apply(Resolved),
    /// Set a group's size.
    Scale(Name, u32),
    /// Replace all of a group, as a new version.
    Replace(Name),
    /// Replace these, or all of a group, as the same version.
    Restart(Restart),
    /// Hold planned changes back.
    Pause {
        /// Why.
        why: String,
        /// For how long; `None` until resumed.
        length: Option<Duration>,
    },
    /// Let them go on.
    Resume,
    /// Stop everything, in order. The next start of an agent ends it.
    Halt,
}

/// What is to be restarted.
#[derive(Clone, Debug, PartialEq)]
pub enum Restart {
    /// One instance.
    Instance(InstanceId),
    /// Every instance of a group.
    Group(Name),
}

/// The answer to a command that went through.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// What changed, for [`Command::Apply`].
    pub differences: Vec<Difference>,
    /// The revision that has it; `None` when everything was so already.
    pub revision: Option<Revision>,
    /// The chain that it began.
    pub cause: CauseId,
}

/// Why a command did not go through. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// It cannot be done; the caller's fault.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// The store cannot take it. Retryable.
    #[error("{0}")]
    Store(String),
    /// The records changed in between too many times. Retryable.
    #[error("the cluster changed while this was worked out, {0} times in a row: try again")]
    Contention(u32),
}

impl Command {
    /// Works it out against a view.
    pub(super) fn work_out(
        &self,
        view: &View,
        cause: &CauseId,
        now: Time,
    ) -> Result<(Vec<Difference>, Recorded), OrderError> {
        let plain = |recorded| Ok((Vec::new(), recorded));
        match self {
            Command::Apply(resolved) => {
                let applied = apply::apply(view, resolved, cause, now);
                Ok((applied.differences, applied.recorded))
            }
            Command::Scale(group, size) => plain(apply::scale(view, group, *size, cause)?),
            Command::Replace(group) => plain(apply::replace(view, group, cause)?),
            Command::Restart(Restart::Instance(id)) => plain(apply::restart(view, std::slice::from_ref(id), cause)?),
            Command::Restart(Restart::Group(group)) => {
                let instances: Vec<InstanceId> = view.assignments_of(group).map(|(id, _)| id.clone()).collect();
                if instances.is_empty() {
                    // Refuses a group that is not there; an empty one has nothing to restart.
                    apply::scale(view, group, view.groups.get(group).map_or(0, |group| group.spec.size), cause)?;
                }
                plain(apply::restart(view, &instances, cause)?)
            }
            Command::Pause { why, length } => plain(apply::pause(view, why, *length, cause, now)),
            Command::Resume => plain(apply::resume(view, cause)?),
            Command::Halt => plain(apply::halt(view, cause, now)),
        }
    }
}
