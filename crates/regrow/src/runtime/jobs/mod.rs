//! The job server of an agent: the queue of runs, who tends it, who works on it, and what doors see of it.
//!
//! **Flow.** [`open`] opens the queue where the settings say. [`Crew`] tends it and, where runs are wanted here, works:
//! a [`Carrier`] reads a run's secrets and has it carried out. [`Desk`] turns what doors ask for into orders on the
//! cluster as the loop sees it. [`alone`] is a worker without an agent.
//!
//! **Guarantees.** Those of `regrow_jobs`; what a run is given as a secret is read when it starts and is in no message.
//!
//! **Assumptions.** A run needs no agent: where the agent's lease is lost the queue goes on by itself.
//!
//! **Errors.** A queue that cannot be reached holds nothing else up; who asks for it is told so.

mod alone;
mod carrier;
mod cluster;
mod crew;
mod desk;
mod hooks;
mod secrets;
mod settings;

pub(crate) use alone::{Alone, tell_drain, work_alone};
pub(super) use carrier::Carrier;
pub(super) use crew::Crew;
pub(super) use desk::Desk;
pub(super) use hooks::follow as follow_hooks;
pub(super) use secrets::Secrets;
pub(crate) use settings::{JobSettings, Place};

use regrow_jobs::{Clock, Error, Queue, RedisQueue, StoreQueue};
use regrow_model::duration::Span;
use regrow_model::run::Run;
use regrow_model::{Name, Time};
use regrow_store::Store;
use std::sync::Arc;
use tokio::sync::watch;

/// The clock of queues and workers.
fn clock() -> Clock {
    Arc::new(super::now)
}

/// Opens a queue. `store`: where it is if it is in a store; `moved`: told when that has gone to another place.
pub(super) async fn open(
    place: &Place,
    store: Arc<dyn Store>,
    moved: watch::Receiver<u64>,
) -> Result<Arc<dyn Queue>, Error> {
    Ok(match place {
        Place::Store => Arc::new(StoreQueue::open_moving(store, clock(), moved).await?),
        Place::Redis(url) => Arc::new(RedisQueue::new(&url.0, clock())?),
    })
}

/// Runs looked at, the newest, for those of one job.
const LOOKED_AT: usize = 1_000;
/// Runs of a job told of in an explanation.
const TOLD_MAX: usize = 5;

/// The newest runs of a job, a line each, for people.
pub(super) async fn last_runs(queue: &dyn Queue, job: &Name, now: Time) -> Vec<String> {
    let mut runs = match queue.list(true, LOOKED_AT).await {
        Ok(runs) => runs,
        Err(error) => return vec![format!("its runs are not known: {}", told(&error))],
    };
    runs.retain(|run| run.order.job == *job);
    runs.sort_by(|one, other| other.id.cmp(&one.id));
    let line = |run: &Run| {
        let since = now.since(run.ended.or(run.started).unwrap_or(run.submitted)).as_secs();
        let why = if run.why.is_empty() { String::new() } else { format!(": {}", run.why) };
        format!("run {}  {} for {}{why}", run.id, run.state, Span::secs(since))
    };
    runs.iter().take(TOLD_MAX).map(line).collect()
}

/// An error with all of its causes, in one line.
fn told(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
