//! A worker's place at a queue on a store.

use super::change::{Change, Only};
use super::{Inner, state};
use crate::Error;
use crate::limits::CLAIMS_MAX;
use crate::queue::{BoxFuture, Claim, Post};
use bytes::Bytes;
use regrow_control::features::job::policy;
use regrow_control::features::job::queue::Share;
use regrow_model::run::{Run, State, Worker};
use regrow_model::{RunId, Time};
use regrow_store::{LeaseId, PutRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub(super) struct StorePost {
    inner: Arc<Inner>,
    worker: Worker,
    lease: LeaseId,
    draining: AtomicBool,
    /// Tries whose end was told to the worker.
    told: Mutex<BTreeSet<Try>>,
    /// Tries that were claimed, and not yet settled.
    mine: Mutex<BTreeSet<Try>>,
    /// Tries that were settled, and at which revision at the latest: what is known of the queue may be older.
    settled: Mutex<BTreeMap<Try, i64>>,
    /// Since when there has been something in the line that is left to others.
    left_since: Mutex<Option<Instant>>,
}

/// A run and which try of it: a run that is tried again by the same worker is another.
type Try = (RunId, u32);

fn the_try(run: &Run) -> Try {
    (run.id.clone(), run.attempt)
}

/// How long runs are left to the worker whose part of the line they are in: when all go for each, all but one do so in vain. By our own
/// clock, which nobody sets.
const HEAD_START: Duration = Duration::from_millis(20);

/// Shortest sleep before runs of others are tried for again: what became of the last try is on its way to us.
const AGAIN_AFTER: Duration = Duration::from_millis(5);

/// Longest sleep: the clock may be set while we sleep.
const SLEEP_MAX: Duration = Duration::from_secs(10);

impl StorePost {
    pub(super) fn new(inner: Arc<Inner>, worker: Worker, lease: LeaseId) -> StorePost {
        let (told, mine, settled) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (draining, left_since) = (AtomicBool::new(false), Mutex::default());
        StorePost { inner, worker, lease, draining, told, mine, settled, left_since }
    }

    fn only(&self) -> Only {
        Only::Enlisted(self.record(), self.lease)
    }

    /// What the worker tells of itself now.
    fn record(&self) -> Worker {
        Worker { draining: self.draining.load(Ordering::Acquire), ..self.worker.clone() }
    }

    /// Whether a run is the worker's, as far as anybody here knows.
    fn is_at_work(&self) -> bool {
        let runs = || self.inner.known().queue.running().any(|(worker, _)| *worker == self.worker.id);
        !self.mine().is_empty() || runs()
    }

    async fn wait_and_claim(&self, room: usize) -> Result<Vec<Claim>, Error> {
        let mut news = self.inner.news.subscribe();
        loop {
            news.mark_unchanged();
            let claims = self.claim_now(room.min(CLAIMS_MAX)).await?;
            if !claims.is_empty() {
                return Ok(claims);
            }
            let now = (self.inner.clock)();
            let wake = self.inner.known().queue.wake_at();
            let sleep = wake.map_or(SLEEP_MAX, |at: Time| at.since(now).clamp(Duration::from_millis(1), SLEEP_MAX));
            let sleep = sleep.min(self.head_start_left().map_or(SLEEP_MAX, |left| left.max(AGAIN_AFTER)));
            let _ = tokio::time::timeout(sleep, news.changed()).await;
        }
    }

    /// How much longer what is there is left to others; `None`: nothing is.
    fn head_start_left(&self) -> Option<Duration> {
        let since = *self.left_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map(|since| HEAD_START.saturating_sub(since.elapsed()))
    }

    fn may_take_of_others(&self) -> bool {
        self.head_start_left() == Some(Duration::ZERO)
    }

    /// Notes whether there is something in the line that is, or was until now, left to others.
    fn saw_left(&self, left: bool) {
        let mut since = self.left_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if left { since.or_else(|| Some(Instant::now())) } else { None };
    }

    async fn claim_now(&self, room: usize) -> Result<Vec<Claim>, Error> {
        if self.draining.load(Ordering::Acquire) {
            return Ok(Vec::new());
        }
        let now = (self.inner.clock)();
        let mut taking = Taking { post: self, ids: Vec::new() };
        let changes: Vec<Change> = {
            let mut known = self.inner.known();
            let found = self.found_mine(&known);
            if !found.is_empty() {
                return Ok(found);
            }
            let at_work: BTreeMap<_, _> = known.queue.running().map(|(worker, runs)| (worker, runs.len())).collect();
            let has_room = |worker: &Worker| {
                worker.id == self.worker.id || at_work.get(&worker.id).is_none_or(|runs| *runs < worker.room as usize)
            };
            let takes = |worker: &Worker| !worker.draining && has_room(worker);
            let workers: Vec<_> = known.workers.values().filter(|here| takes(&here.worker)).collect();
            let index = workers.iter().position(|here| here.worker.id == self.worker.id).unwrap_or(0);
            let share = Share { index, of: workers.len().max(1), others: self.may_take_of_others() };
            let taken = known.taken.clone();
            let picks = known.queue.next(&self.worker, share, room, now, &taken);
            self.saw_left(known.queue.left() || (share.others && !picks.is_empty()));
            let change = |pick: regrow_control::features::job::queue::Pick| {
                let fence = known.fence(&pick.run.id)?;
                let run = policy::begun(&pick.run, &self.worker.id, now);
                Some(Change { id: pick.run.id.clone(), fence, run, take: pick.places, free: Vec::new() })
            };
            let changes: Vec<Change> = picks.into_iter().filter_map(change).collect();
            taking.ids.extend(changes.iter().map(|change| change.id.clone()));
            known.taken.extend(taking.ids.iter().cloned());
            changes
        };
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let fences = self.inner.commit(Some(self.only()), changes.clone()).await?;
        let claims: Vec<Claim> = changes
            .into_iter()
            .zip(fences)
            .filter_map(|(change, fence)| Some(Claim { run: Arc::new(change.run), fence: fence?, places: change.take }))
            .collect();
        self.mine().extend(claims.iter().map(|claim| the_try(&claim.run)));
        Ok(claims)
    }

    /// Runs that a claim whose answer was lost has made ours. One that was settled is none, as long as what is known is
    /// from before.
    fn found_mine(&self, known: &state::Known) -> Vec<Claim> {
        let mut mine = self.mine();
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.retain(|_, revision| *revision > known.revision());
        let ours = known.queue.running().filter(|(worker, _)| **worker == self.worker.id);
        let running = ours.flat_map(|(_, runs)| runs.iter()).filter_map(|id| known.queue.get(id));
        let is_lost = |run: &Run| {
            let one = the_try(run);
            !mine.contains(&one) && !known.taken.contains(&run.id) && !settled.contains_key(&one)
        };
        let claims = running.filter(|run| is_lost(run)).filter_map(|run| {
            let (fence, places) = (known.fence(&run.id)?, known.queue.held_by(run));
            Some(Claim { run: run.clone(), fence, places })
        });
        let claims: Vec<Claim> = claims.collect();
        mine.extend(claims.iter().map(|claim| the_try(&claim.run)));
        claims
    }

    fn mine(&self) -> std::sync::MutexGuard<'_, BTreeSet<Try>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn settle_all(&self, settled: Vec<(Claim, Run)>) -> Result<Vec<bool>, Error> {
        let tries: Vec<Try> = settled.iter().map(|(claim, _)| the_try(&claim.run)).collect();
        let change = |(claim, run): &(Claim, Run)| Change {
            id: claim.run.id.clone(),
            fence: claim.fence,
            run: run.clone(),
            take: Vec::new(),
            free: claim.places.clone(),
        };
        let mut fences = self.inner.commit(None, settled.iter().map(change).collect()).await?;
        let mut revisions: Vec<i64> = fences.iter().map(|fence| fence.unwrap_or(0)).collect();
        for ((fence, revision), (claim, run)) in fences.iter_mut().zip(&mut revisions).zip(&settled) {
            if fence.is_none() {
                (*fence, *revision) = self.settle_moved(claim, change(&(claim.clone(), run.clone()))).await?;
            }
        }
        let mut done = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        done.extend(tries.iter().cloned().zip(revisions));
        drop(done);
        let mut mine = self.mine();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for one in &tries {
            mine.remove(one);
            told.remove(one);
        }
        Ok(fences.into_iter().map(|fence| fence.is_some()).collect())
    }

    /// Settles a run whose record has another revision because its store has gone to another place: the same try of the
    /// same worker is still under way there. `None`: it is not. And the revision at which that is so.
    async fn settle_moved(&self, claim: &Claim, change: Change) -> Result<(Option<i64>, i64), Error> {
        let (found, at) = self.inner.read_live_at(&claim.run.id).await?;
        let Some((run, fence)) = found else { return Ok((None, at)) };
        let is_ours = run.state == State::Running
            && run.worker.as_ref() == Some(&self.worker.id)
            && run.attempt == claim.run.attempt;
        if !is_ours || fence == claim.fence {
            return Ok((None, at));
        }
        let done = self.inner.commit(None, vec![Change { fence, ..change }]).await?;
        let fence = done.into_iter().next().flatten();
        Ok((fence, fence.unwrap_or(at)))
    }

    async fn wait_for_cancels(&self) -> Result<Vec<(RunId, String)>, Error> {
        let mut news = self.inner.news.subscribe();
        loop {
            news.mark_unchanged();
            let found: Vec<(RunId, String)> = {
                let known = self.inner.known();
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let asked = known.cancels.iter().filter_map(|(id, by)| Some((known.queue.get(id)?, by)));
                let ours = asked
                    .filter(|(run, _)| run.state == State::Running && run.worker.as_ref() == Some(&self.worker.id));
                let found = ours.filter(|(run, _)| told.insert(the_try(run)));
                found.map(|(run, by)| (run.id.clone(), by.clone())).collect()
            };
            if !found.is_empty() {
                return Ok(found);
            }
            if news.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

/// Runs that are being claimed; let go of when the claim is over, or given up.
struct Taking<'a> {
    post: &'a StorePost,
    ids: Vec<RunId>,
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        let mut known = self.post.inner.known();
        self.ids.iter().for_each(|id| {
            known.taken.remove(id);
        });
    }
}

impl Post for StorePost {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn claim(&self, room: usize) -> BoxFuture<'_, Result<Vec<Claim>, Error>> {
        Box::pin(self.wait_and_claim(room))
    }

    fn beat(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            let kept = self.inner.store.lease_keep_alive(self.lease);
            // Who runs nothing has nothing to lose, and an agent at rest makes no revisions.
            let told =
                async { if self.is_at_work() { self.inner.put_beat(self.record(), self.lease).await } else { Ok(()) } };
            let (kept, told) = tokio::join!(kept, told);
            match kept {
                Ok(_) => told,
                Err(regrow_store::Error::LeaseNotFound(_)) => Err(Error::Lost),
                Err(error) => Err(error.into()),
            }
        })
    }

    fn settle(&self, settled: Vec<(Claim, Run)>) -> BoxFuture<'_, Result<Vec<bool>, Error>> {
        Box::pin(self.settle_all(settled))
    }

    fn tell(&self, claim: &Claim, number: u32, lines: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        let key = format!("{}{:04x}-{number:08x}", state::log(&claim.run.id), claim.run.attempt);
        Box::pin(async move {
            self.inner.store.put(PutRequest::new(key, lines)).await?;
            Ok(())
        })
    }

    fn cancelled(&self) -> BoxFuture<'_, Result<Vec<(RunId, String)>, Error>> {
        Box::pin(self.wait_for_cancels())
    }

    fn drain(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.draining.store(true, Ordering::Release);
        let worker = Worker { draining: true, ..self.worker.clone() };
        Box::pin(async move { self.inner.put_worker(&worker, self.lease).await })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            match self.inner.store.lease_revoke(self.lease).await {
                Ok(_) | Err(regrow_store::Error::LeaseNotFound(_)) => Ok(()),
                Err(error) => Err(error.into()),
            }
        })
    }
}
