//! The queue on any store: embedded, or elsewhere by etcd's v3 interface.
//!
//! | key | what |
//! |---|---|
//! | `/regrow/job/queue/live/<run>` | a run that has not ended |
//! | `/regrow/job/queue/slot/<digest>/<place>` | the run that holds a place of a slot |
//! | `/regrow/job/queue/worker/<worker>` | a worker, attached to its lease |
//! | `/regrow/job/queue/cancel/<run>` | who asks for the end of a run under way |
//! | `/regrow/job/done/<run>` | a run that has ended |
//! | `/regrow/job/log/<run>/<try>-<piece>` | lines of its log |
//! | `/regrow/job/fired/<schedule>` | what is remembered of a schedule |
//! | `/regrow/job/key/<digest>` | the run that a word of a caller's own stands for |
//!
//! Every process watches `queue/` and so knows all that has not ended; nothing is polled. The fence of a run is the
//! revision of its key. A worker's beat keeps its lease and writes its key, so that a store which has started anew, and
//! with it every lease, hides no death: who has not seen a worker's key change for as long as a lease lives removes it,
//! if it still is what was seen. A change of a run is a transaction that compares it; several are nested in one, so that they
//! share a sync and one that fails spoils no other.

mod change;
mod follow;
mod post;
mod read;
mod state;

use crate::queue::{BoxFuture, Chunk, Clock, Post, Queue, Submission};
use crate::{Error, limits};
use regrow_control::features::job::policy;
use regrow_control::features::job::schedule::Fired;
use regrow_model::run::{Run, State, Worker, WorkerId};
use regrow_model::{Name, RunId};
use regrow_store::{LeaseGrantRequest, LeaseId, Store};
use state::Known;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// A queue on a store. Cheap to clone; follows the store until the last clone is dropped.
#[derive(Clone)]
pub struct StoreQueue {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    known: Mutex<Known>,
    /// Counts what is new in `known`.
    news: watch::Sender<u64>,
}

impl StoreQueue {
    /// Opens the queue of a store: reads what has not ended, and follows it from then on. Errors: `Store`.
    pub async fn open(store: Arc<dyn Store>, clock: Clock) -> Result<StoreQueue, Error> {
        StoreQueue::open_moving(store, clock, watch::channel(0).1).await
    }

    /// The same on a store that may go to another place: `moved` tells each time, and then everything is read anew, as
    /// the revisions that fences are have become others.
    pub async fn open_moving(
        store: Arc<dyn Store>,
        clock: Clock,
        moved: watch::Receiver<u64>,
    ) -> Result<StoreQueue, Error> {
        let (news, _) = watch::channel(0);
        let inner = Arc::new(Inner { store, clock, known: Mutex::new(Known::default()), news });
        let watch = follow::load(&inner).await?;
        tokio::spawn(follow::follow(Arc::downgrade(&inner), watch, moved));
        Ok(StoreQueue { inner })
    }

    async fn enlist_worker(&self, worker: Worker) -> Result<Arc<dyn Post>, Error> {
        let ttl = i64::try_from(limits::LEASE.as_secs()).unwrap_or(i64::MAX);
        let lease = self.inner.store.lease_grant(LeaseGrantRequest { id: LeaseId(0), ttl }).await?.id;
        self.inner.put_worker(&worker, lease).await?;
        Ok(Arc::new(post::StorePost::new(self.inner.clone(), worker, lease)))
    }

    async fn cancel_run(&self, id: RunId, by: String) -> Result<bool, Error> {
        loop {
            let Some((run, fence)) = self.inner.read_live(&id).await? else {
                return if self.inner.read_done(&id).await?.is_some() { Ok(false) } else { Err(Error::NoRun(id)) };
            };
            let done = if run.state == State::Running {
                self.inner.ask_for_end(&id, fence, &by).await?
            } else {
                let ended = policy::cancelled(&run, &by, (self.inner.clock)());
                let change = change::Change { id: id.clone(), fence, run: ended, take: vec![], free: vec![] };
                self.inner.commit(None, vec![change]).await?.first().copied().flatten().is_some()
            };
            if done {
                return Ok(true);
            }
            // It has changed meanwhile: it began, or it ended.
        }
    }

    async fn tend_all(&self, dead: Option<BTreeSet<String>>) -> Result<(), Error> {
        let now = (self.inner.clock)();
        let silent: Vec<(WorkerId, i64)> = {
            let known = self.inner.known();
            // A lease begins anew with each restart of the store: who runs something is judged by its signs too.
            let at_work: BTreeSet<&WorkerId> = known.queue.running().map(|(worker, _)| worker).collect();
            let silent =
                known.workers.iter().filter(|(id, here)| at_work.contains(id) && here.since.elapsed() >= limits::LEASE);
            silent.map(|(id, here)| (id.clone(), here.revision)).collect()
        };
        for (worker, revision) in silent {
            self.inner.remove_worker(&worker, revision).await?;
        }
        let (mut changes, mut absent) = (Vec::new(), Vec::new());
        {
            let known = self.inner.known();
            for run in known.queue.late(now) {
                changes.push(known.change(&run, policy::expired(&run, now)));
            }
            if let Some(dead) = &dead {
                for run in known.queue.parked() {
                    if let Some(next) = policy::unparked(&run, dead) {
                        changes.push(known.change(&run, next));
                    }
                }
            }
            for (worker, runs) in known.queue.running().filter(|(worker, _)| !known.workers.contains_key(*worker)) {
                let lost = runs
                    .iter()
                    .filter_map(|id| known.queue.get(id))
                    .map(|run| known.change(run, policy::lost(run, known.cancels.contains_key(&run.id), now)));
                absent.push((worker.clone(), lost.flatten().collect::<Vec<_>>()));
            }
        }
        let changes: Vec<_> = changes.into_iter().flatten().collect();
        self.inner.commit(None, changes).await?;
        for (worker, lost) in absent {
            self.inner.commit(Some(change::Only::Absent(worker)), lost).await?;
        }
        Ok(())
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_news(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Queue for StoreQueue {
    fn submit(&self, submissions: Vec<Submission>) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(self.inner.submit(submissions))
    }

    fn enlist(&self, worker: Worker) -> BoxFuture<'_, Result<Arc<dyn Post>, Error>> {
        Box::pin(self.enlist_worker(worker))
    }

    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, Error>> {
        Box::pin(async move {
            // Live before done: a run that ends in between is found by the second look.
            match self.inner.read_live(&id).await? {
                Some((run, _)) => Ok(Some(run)),
                None => self.inner.read_done(&id).await,
            }
        })
    }

    fn list(&self, ended: bool, limit: usize) -> BoxFuture<'_, Result<Vec<Run>, Error>> {
        Box::pin(self.inner.list(ended, limit))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, Error>> {
        Box::pin(async move { Ok(self.inner.known().workers.values().map(|here| here.worker.clone()).collect()) })
    }

    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.cancel_run(id, by))
    }

    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<Chunk>, Error>> {
        Box::pin(self.inner.log(id, after))
    }

    fn fired(&self, schedule: Name) -> BoxFuture<'_, Result<Option<Fired>, Error>> {
        Box::pin(async move { Ok(self.inner.read_fired(&schedule).await?.map(|(fired, _)| fired)) })
    }

    fn fire(
        &self,
        schedule: Name,
        was: Option<Fired>,
        is: Fired,
        runs: Vec<Run>,
    ) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(self.inner.fire(schedule, was, is, runs))
    }

    fn tend(&self, dead: Option<BTreeSet<String>>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.tend_all(dead))
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.inner.sweep())
    }
}
