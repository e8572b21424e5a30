//! A worker's place at a queue on Redis.

use super::pipe::Pipe;
use super::{Change, Done, Inner, PREFIX, READ, key, millis, piece, text};
use crate::Error;
use crate::limits::{BEAT, CLAIMS_MAX, LEASE};
use crate::queue::{BoxFuture, Claim, Post};
use bytes::Bytes;
use regrow_control::features::job::policy;
use regrow_model::run::{Run, Worker};
use regrow_model::{Name, RunId, Time};
use regrow_redis::resp::{Command, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

pub(super) struct RedisPost {
    inner: Arc<Inner>,
    worker: Worker,
    /// For claims, which wait: they would hold everything else up.
    waiting: Pipe,
    draining: AtomicBool,
    /// Tries of runs that were claimed and not settled, with stream and entry.
    mine: Mutex<BTreeMap<(RunId, u32), (String, String)>>,
    told: Mutex<BTreeSet<RunId>>,
}

/// Longest wait for the bell: sets of labels may be new.
const WAIT_MAX: Duration = Duration::from_secs(1);

impl RedisPost {
    pub(super) fn new(inner: Arc<Inner>, worker: Worker) -> RedisPost {
        let waiting = inner.another_pipe();
        RedisPost {
            inner,
            worker,
            waiting,
            draining: AtomicBool::new(false),
            mine: Mutex::default(),
            told: Mutex::default(),
        }
    }

    fn lease(&self) -> String {
        key(format_args!("lease:{}", self.worker.id))
    }

    pub(super) async fn enlist(&self) -> Result<(), Error> {
        let lease = Command::new("SET").arg(self.lease()).arg("1").arg("PX").number(millis(LEASE));
        self.inner.pipe.call(&lease).await?;
        self.tell_of(&self.worker).await
    }

    async fn tell_of(&self, worker: &Worker) -> Result<(), Error> {
        let json = serde_json::to_vec(worker).expect("model types always serialise");
        let told = Command::new("HSET").arg(key("workers")).arg(worker.id.as_bytes()).arg(json);
        self.inner.pipe.call(&told).await?;
        Ok(())
    }

    async fn wait_and_claim(&self, room: usize) -> Result<Vec<Claim>, Error> {
        loop {
            if self.draining.load(Ordering::Acquire) {
                return std::future::pending().await;
            }
            let now = (self.inner.clock)();
            let (bell, next, read) = self.read(room.min(CLAIMS_MAX), now).await?;
            let empty = read.is_empty();
            let claims = self.claim_read(read, now).await?;
            if !claims.is_empty() {
                return Ok(claims);
            }
            if !empty {
                continue;
            }
            let wait = next.map_or(WAIT_MAX, |due| due.since(now).clamp(Duration::from_millis(1), WAIT_MAX));
            let block = Command::new("XREAD BLOCK").number(millis(wait)).arg("COUNT").number(1).arg("STREAMS");
            self.waiting.call(&block.arg(key("bell")).arg(bell)).await?;
        }
    }

    /// Takes runs off the lines: the bell's last entry, when the next delayed one is due, and what was taken.
    async fn read(&self, room: usize, now: Time) -> Result<(String, Option<Time>, Vec<Read>), Error> {
        let labels = self.inner.ids(Command::new("SMEMBERS").arg(key("labels"))).await?;
        let mine: BTreeSet<&str> = self.worker.labels.iter().map(Name::as_str).collect();
        let fits = |set: &String| set.is_empty() || set.split(',').all(|label| mine.contains(label));
        let command = Command::new("EVAL").arg(READ).number(0).arg(PREFIX).number(now.0);
        let command = command.arg(self.worker.id.as_bytes()).number(i128::try_from(room).unwrap_or(1));
        let answer = self.waiting.call(&command.args(labels.iter().filter(|set| fits(set)))).await?;
        let Some([bell, next, runs @ ..]) = answer.array() else {
            return Err(Error::Answer("a read is answered by a list"));
        };
        let mut read = Vec::new();
        for run in runs.chunks_exact(5) {
            let [stream, entry, id, fence, json] = run else { continue };
            let Some(run) = super::read(&text(id, "an id is text")?, json)? else { continue };
            let fence = fence.int().ok_or(Error::Answer("a fence is a number"))?;
            let at = (text(stream, "a stream has a name")?, text(entry, "an entry has an id")?);
            read.push(Read { at, run, fence });
        }
        let next = next.text().and_then(|due| due.parse::<f64>().ok()).map(|due| Time(due as u64));
        Ok((text(bell, "an entry has an id")?, next, read))
    }

    /// `now`: when they were asked for, which is when they begin.
    async fn claim_read(&self, read: Vec<Read>, now: Time) -> Result<Vec<Claim>, Error> {
        if read.is_empty() {
            return Ok(Vec::new());
        }
        let late = |run: &Run| run.order.deadline.is_some_and(|deadline| deadline < now);
        // One that is too late stays pending: tending ends it, and with it the entry.
        let begun: Vec<(Run, i64, (String, String))> = read
            .into_iter()
            .filter(|read| !late(&read.run))
            .map(|read| (policy::begun(&read.run, &self.worker.id, now.max(read.run.submitted)), read.fence, read.at))
            .collect();
        self.mine().extend(begun.iter().map(|(run, _, at)| ((run.id.clone(), run.attempt), at.clone())));
        let changes: Vec<Change<'_>> =
            begun.iter().map(|(run, fence, _)| Change::of(run, Some(*fence), None)).collect();
        let done = self.inner.change_by(&self.waiting, Some(&self.worker.id), None, &changes).await;
        let done = match done {
            Ok(done) => done,
            Err(error) => {
                // Whether they were claimed is not known: nobody beats for them any more, so they are taken over.
                let mut mine = self.mine();
                begun.iter().for_each(|(run, ..)| drop(mine.remove(&(run.id.clone(), run.attempt))));
                return Err(error);
            }
        };
        let mut claims = Vec::new();
        for ((run, ..), done) in begun.into_iter().zip(done) {
            match done {
                Done::Fence(fence) => claims.push(Claim { run: Arc::new(run), fence, places: Vec::new() }),
                _ => drop(self.mine().remove(&(run.id, run.attempt))),
            }
        }
        Ok(claims)
    }

    fn mine(&self) -> std::sync::MutexGuard<'_, BTreeMap<(RunId, u32), (String, String)>> {
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn beat_all(&self) -> Result<(), Error> {
        let lease = Command::new("PEXPIRE").arg(self.lease()).number(millis(LEASE));
        if self.inner.pipe.call(&lease).await?.int() != Some(1) {
            return Err(Error::Lost);
        }
        let mut by_stream: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (stream, entry) in self.mine().values().cloned() {
            by_stream.entry(stream).or_default().push(entry);
        }
        let claims = by_stream.into_iter().map(|(stream, entries)| {
            let claim = Command::new("XCLAIM").arg(stream).arg("workers").arg(self.worker.id.as_bytes()).number(0);
            claim.args(entries).arg("JUSTID")
        });
        self.inner.pipe.all(&claims.collect::<Vec<_>>()).await?;
        Ok(())
    }

    async fn settle_all(&self, settled: Vec<(Claim, Run)>) -> Result<Vec<bool>, Error> {
        let changes: Vec<Change<'_>> =
            settled.iter().map(|(claim, run)| Change::of(run, Some(claim.fence), None)).collect();
        let done = self.inner.change(None, None, &changes).await?;
        let mut mine = self.mine();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (claim, _) in &settled {
            mine.remove(&(claim.run.id.clone(), claim.run.attempt));
            told.remove(&claim.run.id);
        }
        Ok(done.into_iter().map(|done| matches!(done, Done::Fence(_))).collect())
    }

    async fn wait_for_cancels(&self) -> Result<Vec<(RunId, String)>, Error> {
        loop {
            let ids: Vec<RunId> = self.mine().keys().map(|(id, _)| id.clone()).collect();
            if !ids.is_empty() {
                let get = Command::new("MGET").args(ids.iter().map(|id| key(format_args!("cancel:{id}"))));
                let answer = self.inner.pipe.call(&get).await.unwrap_or(Value::Null);
                let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
                let asked = ids.into_iter().zip(answer.array().unwrap_or_default());
                let asked = asked.filter_map(|(id, by)| Some((id, by.text()?.to_owned())));
                let found: Vec<(RunId, String)> = asked.filter(|(id, _)| told.insert(id.clone())).collect();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
            tokio::time::sleep(BEAT).await;
        }
    }
}

/// A run off its line.
struct Read {
    at: (String, String),
    run: Run,
    fence: i64,
}

impl Post for RedisPost {
    fn worker(&self) -> &Worker {
        &self.worker
    }

    fn claim(&self, room: usize) -> BoxFuture<'_, Result<Vec<Claim>, Error>> {
        Box::pin(self.wait_and_claim(room))
    }

    fn beat(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.beat_all())
    }

    fn settle(&self, settled: Vec<(Claim, Run)>) -> BoxFuture<'_, Result<Vec<bool>, Error>> {
        Box::pin(self.settle_all(settled))
    }

    fn tell(&self, claim: &Claim, _number: u32, lines: Bytes) -> BoxFuture<'_, Result<(), Error>> {
        let add = piece(&claim.run.id, &lines);
        Box::pin(async move {
            self.inner.pipe.call(&add).await?;
            Ok(())
        })
    }

    fn cancelled(&self) -> BoxFuture<'_, Result<Vec<(RunId, String)>, Error>> {
        Box::pin(self.wait_for_cancels())
    }

    fn drain(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.draining.store(true, Ordering::Release);
        let worker = Worker { draining: true, ..self.worker.clone() };
        Box::pin(async move { self.tell_of(&worker).await })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move {
            self.inner.pipe.call(&Command::new("DEL").arg(self.lease())).await?;
            self.inner.pipe.call(&Command::new("HDEL").arg(key("workers")).arg(self.worker.id.as_bytes())).await?;
            Ok(())
        })
    }
}
