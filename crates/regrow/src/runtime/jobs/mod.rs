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
mod secrets;
mod settings;

pub(crate) use alone::{Alone, tell_drain, work_alone};
pub(super) use carrier::Carrier;
pub(super) use crew::Crew;
pub(super) use desk::Desk;
pub(super) use secrets::Secrets;
pub(crate) use settings::{JobSettings, Place};

use regrow_jobs::{Clock, Error, Queue, RedisQueue, StoreQueue};
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
