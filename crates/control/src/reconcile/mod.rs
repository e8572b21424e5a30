//! The rules of the runtime, as a state machine.
//!
//! ```text
//!   Input ──► Reconciler::input ──► (view, busy, pending)      Reconciler::poll ──► Output
//! ```
//!
//! **Flow.** [`Reconciler::input`] takes in what happened; [`Reconciler::poll`] plans when there is a reason to and says
//! what is to be done. The driver is dull: it feeds all that has arrived, polls once, does what it is told.
//!
//! **Guarantees.**
//! - One action in flight for each object, from its intent until the view contains what its outcome changed.
//! - Intent and events are committed before an action begins.
//! - An outcome or observation becomes one transaction, compared against the revisions it was computed from; on conflict
//!   it is computed again from the newer view, when the store is unreachable it is tried again until it is in.
//! - An action whose outcome does not come back in [`limits::ACTION_TIME_MAX`] beyond its own bounds is planned again:
//!   actions are idempotent.
//! - A failure that changes no record is slowed by a backoff of its object.
//! - A process whose slot has got its next life on another node while this one could not know is stopped as soon as it does.
//! - What the cluster planners decide is committed only while this node leads, and only if the store agrees that it does
//!   ([`Transaction::fence`]): a leader that was deposed and does not know it yet changes nothing.
//!
//! **Assumptions.** Store changes arrive in order. The driver answers every [`Output::Commit`].
//!
//! **Purity.** No clock, no I/O, no randomness: one reconciler runs in the binary, the same in the simulator.

mod boot;
mod busy;
mod command;
pub mod limits;
mod machine;
mod recorder;

pub use command::{Answer, Command, CommandError, Restart};
pub use machine::Reconciler;

use regrow_model::key::Change;
use regrow_model::plan::CheckTarget;
use regrow_model::view::SetContents;
use regrow_model::{Action, CauseId, Found, Key, Name, Observation, Outcome, Peers, Revision, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Numbers what is asked of the driver, so that its answers find their way back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// All that can happen to a reconciler.
#[derive(Clone, Debug)]
pub enum Input {
    /// The store's changes, oldest first. The first one is the whole content at start-up.
    Changed {
        /// The changes.
        changes: Vec<StoreChange>,
        /// Everything up to this revision is in it.
        revision: Revision,
    },
    /// What was found alive at start-up. Nothing is planned before it.
    Adopted {
        /// Instances with a process, or with an exit nobody has seen yet.
        found: Vec<Found>,
        /// Contents of the sets that templates have loaded, from disk.
        loaded: BTreeMap<Name, SetContents>,
        /// Contents of the sets that are in place, from disk.
        written: BTreeMap<Name, SetContents>,
    },
    /// An action has ended.
    Ended {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something was seen.
    Seen(Observation),
    /// A commit was answered.
    Committed {
        /// Which.
        ticket: Ticket,
        /// The revision, or why not.
        result: Result<Revision, CommitError>,
    },
    /// The members as gossip here sees them now: all of them, each time that anything about one has changed.
    Members(Peers),
    /// Whether this node leads now: the revision at which the leader's record was created for it. Only the leader plans
    /// groups; a reconciler leads nobody until it is told so.
    Led(Option<Revision>),
    /// Somebody wants something changed.
    Asked {
        /// For the answer.
        ticket: Ticket,
        /// What.
        command: Box<Command>,
    },
}

/// One change of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChange {
    /// The key.
    pub key: String,
    /// The new value; `None` for a removal.
    pub value: Option<Arc<[u8]>>,
    /// Its revision.
    pub revision: Revision,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Commit a transaction; answer with [`Input::Committed`].
    Commit {
        /// For the answer.
        ticket: Ticket,
        /// What.
        transaction: Transaction,
    },
    /// Do an action; answer with [`Input::Ended`].
    Act {
        /// For the answer.
        ticket: Ticket,
        /// What.
        action: Action,
        /// The chain that it belongs to.
        cause: CauseId,
    },
    /// Run these checks from now on, and no others.
    Check(Vec<CheckTarget>),
    /// The answer to [`Input::Asked`].
    Answer {
        /// Whose.
        ticket: Ticket,
        /// What came of it.
        result: Result<Answer, CommandError>,
    },
    /// For the log: a record in the store that cannot be read. It is passed over.
    BadRecord(String),
}

/// Writes that happen together, if nothing has changed since they were computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Transaction {
    /// The view that it was computed from.
    pub base: Revision,
    /// For what a cluster planner decided: the leader's record must still be the one created at this revision.
    pub fence: Option<Revision>,
    /// Keys and the revisions of their last change; zero for a key that must not exist.
    pub expect: Vec<(Key, Revision)>,
    /// The writes.
    pub changes: Vec<Change>,
}

/// Why a commit did not happen. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Something that it was computed from has changed; the newer state is on its way.
    #[error("the store has changed in between")]
    Conflict,
    /// The store cannot take it now. Retryable.
    #[error("the store cannot take writes: {0}")]
    Unavailable(String),
}

/// When the driver should poll again even if nothing arrives.
pub type WakeAt = Option<Time>;
