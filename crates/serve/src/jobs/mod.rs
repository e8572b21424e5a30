//! Jobs and their runs: what doors can ask of the queue behind them.

mod ansible;
mod artefacts;
mod follow;
pub mod http;
mod openapi;
mod route;
mod webhooks;
pub mod wire;

use crate::{AgentError, BoxFuture};
use regrow_control::features::job::order::Wish;
use regrow_model::run::{Run, Worker};
use regrow_model::spec::Job;
use regrow_model::{Name, RunId};
use std::collections::BTreeMap;
use std::time::Duration;
use wire::{Again, LogPiece, RunsQuery, ScheduleLine};

/// How long [`Jobs::stirred`] waits where nobody tells more exactly: what is told of a run is late by no more than this.
pub const STIR: Duration = Duration::from_millis(200);

/// The jobs of the spec, and the queue of their runs.
pub trait Jobs: Send + Sync + 'static {
    /// The jobs, with what their runs may be given.
    fn jobs(&self) -> BoxFuture<'_, Result<BTreeMap<Name, Job>, AgentError>>;

    /// The schedules, and when each is due next.
    fn schedules(&self) -> BoxFuture<'_, Result<Vec<ScheduleLine>, AgentError>>;

    /// Accepts a run: it is durable when this answers. `by`: who asks, for people.
    fn submit(&self, job: Name, wish: Wish, by: String) -> BoxFuture<'_, Result<RunId, AgentError>>;

    /// Accepts a new run of what an ended one was given.
    fn again(&self, id: RunId, again: Again, by: String) -> BoxFuture<'_, Result<RunId, AgentError>>;

    /// A run, ended or not; `None` when it is not known, or forgotten.
    fn run(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, AgentError>>;

    /// Runs, the newest first.
    fn runs(&self, query: RunsQuery) -> BoxFuture<'_, Result<Vec<Run>, AgentError>>;

    /// Why a run waits, for people, a line each; empty when it does not.
    fn waits(&self, id: RunId) -> BoxFuture<'_, Result<Vec<String>, AgentError>>;

    /// Ends a run; `false`: it had ended.
    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, AgentError>>;

    /// The pieces of a run's log behind a cursor; none: there is nothing more now.
    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<LogPiece>, AgentError>>;

    /// Waits until there may be more to tell of a run: its log has grown, or its state has changed. It may come back
    /// early; default: after [`STIR`].
    fn stirred(&self, id: RunId) -> BoxFuture<'_, ()> {
        let _ = id;
        Box::pin(tokio::time::sleep(STIR))
    }

    /// Workers that have a lease.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, AgentError>>;

    /// The secret that requests of a job's webhook are signed with; `None` where there is no such job, or it has none.
    fn webhook(&self, job: Name) -> BoxFuture<'_, Result<Option<Vec<u8>>, AgentError>>;
}
