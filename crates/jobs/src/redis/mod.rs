//! The queue on Redis Streams, for many workers.
//!
//! | key, behind `regrow:{jobs}:` | what |
//! |---|---|
//! | `line:<labels>:<priority>` | stream, read by the consumer group `workers`: runs that wait |
//! | `run:<id>` | hash: `json`, `state`, `fence`, `line`, `at` (its stream and entry), `held` (its places) |
//! | `slot:<key>`, `aside:<key>` | hash of who holds which place; sorted set of who waits for one |
//! | `delayed`, `deadlines`, `live`, `parked`, `done` | sorted sets of runs |
//! | `lease:<worker>`, `workers` | a key that expires with the lease; hash of what workers tell of themselves |
//! | `cancel:<id>`, `log:<id>`, `fired:<schedule>`, `word:<digest>` | as in a store |
//! | `bell` | stream that rings for each run that may begin |
//! | `ended` | stream of ends, the newest 100,000 |
//!
//! An entry stays pending with its worker for as long as the run is under way, and each beat claims it anew; what is
//! idle for longer than a lease (XPENDING) is taken from its worker and decided by policy. Every change is made by one script
//! that compares the run's fence, so a worker that comes back from a pause changes nothing.
//!
//! All keys have one hash tag, so that the scripts may touch them together in a cluster as well; a queue lives on one
//! server.

mod pipe;
mod post;

use crate::Error;
use crate::limits::{AGAIN, CHUNKS_MAX, KEY_KEPT, LEASE, LISTED_MAX, SWEEP_PAGE};
use crate::queue::{BoxFuture, Chunk, Clock, Post, Queue, Submission};
use bytes::Bytes;
use pipe::Pipe;
use regrow_control::features::job::policy::{self, forgotten_at};
use regrow_control::features::job::queue::slot_key;
use regrow_control::features::job::schedule::Fired;
use regrow_model::limits::{PRIORITY_MAX, RUNS_KEPT};
use regrow_model::run::{Run, State, Worker, WorkerId};
use regrow_model::{Digest, Name, RunId};
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use regrow_redis::url::{Place, Url};
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What every key begins with.
const PREFIX: &str = "regrow:{jobs}:";

const READ: &str = include_str!("read.lua");
const CHANGE: &str = include_str!("change.lua");

/// Changes sent with one script: Redis does nothing else meanwhile.
const CHANGES_AT_ONCE: usize = 100;
/// Entries of a line that are taken from lost workers in one look.
const TAKEN_AT_ONCE: u32 = 1_000;
/// Tries of what is harmless to repeat, while Redis does not answer.
const TRIES: usize = 20;

/// A queue on a Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisQueue {
    inner: Arc<Inner>,
}

struct Inner {
    dialer: Dialer,
    address: regrow_redis::address::Address,
    db: u32,
    pipe: Pipe,
    clock: Clock,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    /// It was done; the run's new fence.
    Fence(i64),
    /// It was not: the run has another fence, or its slot has no place.
    Not,
    /// The word stands for this run.
    Known(RunId),
}

/// A change, as `change.lua` reads it.
#[derive(Serialize)]
struct Change<'a> {
    id: &'a RunId,
    fence: String,
    json: String,
    state: State,
    #[serde(rename = "final")]
    is_final: bool,
    line: String,
    due: u64,
    born: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<u64>,
    slots: Vec<(String, u32)>,
    kept: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    word: Option<String>,
    word_kept: u64,
}

impl<'a> Change<'a> {
    fn of(run: &'a Run, fence: Option<i64>, word: Option<&str>) -> Change<'a> {
        let mut labels: Vec<&str> = run.order.labels.iter().map(Name::as_str).collect();
        labels.sort_unstable();
        labels.dedup();
        let kept = forgotten_at(run).since(run.ended.unwrap_or(run.submitted));
        Change {
            id: &run.id,
            fence: fence.map(|fence| fence.to_string()).unwrap_or_default(),
            json: serde_json::to_string(run).expect("model types always serialise"),
            state: run.state,
            is_final: run.state.is_final(),
            line: format!("{}:{}", labels.join(","), run.order.priority.min(PRIORITY_MAX)),
            due: run.due.0,
            born: run.submitted.0,
            deadline: run.order.deadline.map(|deadline| deadline.0),
            slots: run.order.slots.iter().map(|slot| (slot_key(slot), slot.limit)).collect(),
            kept: millis(kept.max(Duration::from_millis(1))),
            word: word.map(|word| Digest::of([word.as_bytes()]).to_string()),
            word_kept: millis(KEY_KEPT),
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn key(rest: impl std::fmt::Display) -> String {
    format!("{PREFIX}{rest}")
}

fn text(value: &Value, what: &'static str) -> Result<String, Error> {
    value.text().map(str::to_owned).ok_or(Error::Answer(what))
}

fn read(id: &str, json: &Value) -> Result<Option<Run>, Error> {
    let Some(bytes) = json.bytes() else { return Ok(None) };
    serde_json::from_slice(bytes).map(Some).map_err(|source| Error::Record { run: id.to_owned(), source })
}

impl RedisQueue {
    /// A queue on the Redis at `redis://[user[:password]@]host[:port][/db]`. Nothing is connected yet. Errors: `Place`.
    pub fn new(url: &str, clock: Clock) -> Result<RedisQueue, Error> {
        let wrong = |why: String| Error::Place { url: url.split('@').next_back().unwrap_or_default().to_owned(), why };
        let read: Url = url.parse().map_err(|error: regrow_redis::url::BadUrl| wrong(error.to_string()))?;
        if read.tls {
            return Err(wrong("TLS to Redis is not spoken yet".to_owned()));
        }
        let Place::Server { address, db } = read.place else {
            return Err(wrong("a queue lives on one server: write redis://HOST:PORT".to_owned()));
        };
        let dialer = Dialer { credentials: read.credentials, ..Dialer::default() };
        let pipe = Pipe::new(dialer.clone(), address.clone(), db);
        Ok(RedisQueue { inner: Arc::new(Inner { dialer, address, db, pipe, clock }) })
    }
}

impl Inner {
    fn another_pipe(&self) -> Pipe {
        Pipe::new(self.dialer.clone(), self.address.clone(), self.db)
    }

    /// Does changes, under the condition that one worker has its lease, or that another has none.
    async fn change(
        &self,
        enlisted: Option<&WorkerId>,
        absent: Option<&WorkerId>,
        changes: &[Change<'_>],
    ) -> Result<Vec<Done>, Error> {
        self.change_by(&self.pipe, enlisted, absent, changes).await
    }

    /// The same by a connection of the caller's own.
    async fn change_by(
        &self,
        pipe: &Pipe,
        enlisted: Option<&WorkerId>,
        absent: Option<&WorkerId>,
        changes: &[Change<'_>],
    ) -> Result<Vec<Done>, Error> {
        let mut done = Vec::with_capacity(changes.len());
        for part in changes.chunks(CHANGES_AT_ONCE) {
            let mut command = Command::new("EVAL").arg(CHANGE).number(0).arg(PREFIX).number((self.clock)().0);
            command = command.arg(enlisted.map_or("", |id| id)).arg(absent.map_or("", |id| id));
            for change in part {
                command = command.arg(serde_json::to_vec(change).expect("a change always serialises"));
            }
            let answer = pipe.call(&command).await?;
            let Some(answers) = answer.array() else { return Err(Error::Lost) };
            for answer in answers {
                let answer = text(answer, "a change is answered by text")?;
                done.push(match answer.split_at_checked(1) {
                    Some(("f", fence)) => Done::Fence(fence.parse().map_err(|_| Error::Answer("a fence is a number"))?),
                    Some(("k", id)) => Done::Known(id.parse().map_err(|_| Error::Answer("a word stands for a run"))?),
                    _ => Done::Not,
                });
            }
        }
        Ok(done)
    }

    /// Does what is harmless to repeat, for a while.
    async fn patiently<T, F: Future<Output = Result<T, Error>>>(&self, again: impl Fn() -> F) -> Result<T, Error> {
        for _ in 0..TRIES {
            match again().await {
                Err(error) if error.is_retryable() => tokio::time::sleep(AGAIN).await,
                answer => return answer,
            }
        }
        again().await
    }

    async fn submit(&self, submissions: &[Submission]) -> Result<Vec<RunId>, Error> {
        let changes: Vec<Change<'_>> =
            submissions.iter().map(|one| Change::of(&one.run, None, one.key.as_deref())).collect();
        let done = self.patiently(|| self.change(None, None, &changes)).await?;
        let ids = submissions.iter().zip(done).map(|(one, done)| match done {
            Done::Known(id) => id,
            // A run with this id is there already: the submission was repeated.
            Done::Fence(_) | Done::Not => one.run.id.clone(),
        });
        Ok(ids.collect())
    }

    /// Runs with their fences; those that are not known are left out.
    async fn runs(&self, ids: &[String]) -> Result<Vec<(Run, i64)>, Error> {
        let mut out = Vec::with_capacity(ids.len());
        for part in ids.chunks(SWEEP_PAGE) {
            let commands: Vec<Command> = part
                .iter()
                .map(|id| Command::new("HMGET").arg(key(format_args!("run:{id}"))).arg("json").arg("fence"))
                .collect();
            for (id, answer) in part.iter().zip(self.pipe.all(&commands).await?) {
                let [json, fence] = answer.array().unwrap_or_default() else { continue };
                if let (Some(run), Some(fence)) = (read(id, json)?, fence.int()) {
                    out.push((run, fence));
                }
            }
        }
        Ok(out)
    }

    async fn ids(&self, command: Command) -> Result<Vec<String>, Error> {
        let answer = self.pipe.call(&command).await?;
        answer.array().unwrap_or_default().iter().map(|id| text(id, "ids are text")).collect()
    }

    async fn cancel(&self, id: &RunId, by: &str) -> Result<bool, Error> {
        loop {
            let found = self.runs(&[id.to_string()]).await?.pop();
            let Some((run, fence)) = found else { return Err(Error::NoRun(id.clone())) };
            if run.state.is_final() {
                return Ok(false);
            }
            if run.state == State::Running {
                let kept = millis(run.order.timeout.0.max(LEASE)).saturating_mul(2);
                let set = Command::new("SET").arg(key(format_args!("cancel:{id}"))).arg(by).arg("PX");
                self.pipe.call(&set.number(kept)).await?;
                // It may have ended, or begun another try, in between.
                let still = self.runs(&[id.to_string()]).await?.pop();
                match still {
                    Some((run, now)) if now == fence || run.state == State::Running => return Ok(true),
                    _ => continue,
                }
            }
            let ended = policy::cancelled(&run, by, (self.clock)());
            let done = self.change(None, None, &[Change::of(&ended, Some(fence), None)]).await?;
            if matches!(done.first(), Some(Done::Fence(_))) {
                return Ok(true);
            }
        }
    }

    async fn tend(&self, dead: Option<&BTreeSet<String>>) -> Result<(), Error> {
        let now = (self.clock)();
        let late = Command::new("ZRANGEBYSCORE").arg(key("deadlines")).arg("-inf");
        let late = self.ids(late.arg(format!("({}", now.0)).arg("LIMIT").number(0).number(1_000)).await?;
        let mut changed: Vec<(Run, i64)> = Vec::new();
        for (run, fence) in self.runs(&late).await? {
            if matches!(run.state, State::Queued | State::Parked) {
                changed.push((policy::expired(&run, now), fence));
            }
        }
        if let Some(dead) = dead {
            let parked = self.ids(Command::new("ZRANGE").arg(key("parked")).number(0).number(-1)).await?;
            for (run, fence) in self.runs(&parked).await? {
                changed.extend(policy::unparked(&run, dead).map(|run| (run, fence)));
            }
        }
        let changes: Vec<Change<'_>> = changed.iter().map(|(run, fence)| Change::of(run, Some(*fence), None)).collect();
        self.change(None, None, &changes).await?;
        self.take_over(now).await
    }

    /// Takes what nobody has claimed anew for as long as a lease lives.
    async fn take_over(&self, now: regrow_model::Time) -> Result<(), Error> {
        let labels = self.ids(Command::new("SMEMBERS").arg(key("labels"))).await?;
        let lines = labels.iter().flat_map(|set| (0..=PRIORITY_MAX).map(move |p| key(format_args!("line:{set}:{p}"))));
        let lines: Vec<String> = lines.collect();
        // Only looked at: to claim them would begin their time anew, and hide them when the tender dies right then.
        let idle = millis(LEASE);
        let commands: Vec<Command> = lines
            .iter()
            .map(|line| {
                let pending = Command::new("XPENDING").arg(line).arg("workers").arg("IDLE").number(idle);
                pending.arg("-").arg("+").number(TAKEN_AT_ONCE)
            })
            .collect();
        let mut entries = Vec::new();
        for (line, answer) in lines.iter().zip(self.pipe.all(&commands).await?) {
            // A line that was never read has no group.
            for entry in answer.array().unwrap_or_default() {
                let Some(entry) = entry.array().and_then(|entry| entry.first()?.text()) else { continue };
                entries.push(Command::new("XRANGE").arg(line).arg(entry).arg(entry));
            }
        }
        for entries in entries.chunks(SWEEP_PAGE) {
            let answers = self.pipe.all(entries).await?;
            let ids = answers.iter().filter_map(|answer| {
                let fields = answer.array()?.first()?.array()?.get(1)?.array()?;
                fields.get(1)?.text().map(str::to_owned)
            });
            for (run, fence) in self.runs(&ids.collect::<Vec<_>>()).await? {
                match (run.state, &run.worker) {
                    (State::Running, Some(worker)) => {
                        let asked = Command::new("EXISTS").arg(key(format_args!("cancel:{}", run.id)));
                        let cancelled = self.pipe.call(&asked).await?.int() == Some(1);
                        let next = policy::lost(&run, cancelled, now);
                        match self.change(None, Some(worker), &[Change::of(&next, Some(fence), None)]).await {
                            Ok(_) | Err(Error::Lost) => {}
                            Err(error) => return Err(error),
                        }
                    }
                    // Its worker was lost between reading and claiming.
                    (State::Queued, _) => {
                        self.change(None, None, &[Change::of(&run, Some(fence), None)]).await?;
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn workers(&self) -> Result<Vec<Worker>, Error> {
        let answer = self.pipe.call(&Command::new("HVALS").arg(key("workers"))).await?;
        let told = answer.array().unwrap_or_default().iter().filter_map(Value::bytes);
        let told: Vec<Worker> = told.filter_map(|json| serde_json::from_slice(json).ok()).collect();
        let leases: Vec<Command> =
            told.iter().map(|worker| Command::new("EXISTS").arg(key(format_args!("lease:{}", worker.id)))).collect();
        let alive = self.pipe.all(&leases).await?;
        let mut here = Vec::new();
        for (worker, lease) in told.into_iter().zip(alive) {
            if lease.int() == Some(1) {
                here.push(worker);
            } else {
                self.pipe.call(&Command::new("HDEL").arg(key("workers")).arg(worker.id.as_bytes())).await?;
            }
        }
        Ok(here)
    }

    async fn list(&self, ended: bool, limit: usize) -> Result<Vec<Run>, Error> {
        let last = i128::try_from(limit.clamp(1, LISTED_MAX)).unwrap_or(1) - 1;
        let newest = |set: &str| Command::new("ZREVRANGE").arg(key(set)).number(0).number(last);
        let mut ids = self.ids(newest("live")).await?;
        if ended {
            ids.extend(self.ids(newest("done")).await?);
        }
        Ok(self.runs(&ids).await?.into_iter().map(|(run, _)| run).collect())
    }

    async fn log(&self, id: &RunId, after: Option<String>) -> Result<Vec<Chunk>, Error> {
        let after = after.map_or_else(|| "-".to_owned(), |after| format!("({after}"));
        let range = Command::new("XRANGE").arg(key(format_args!("log:{id}"))).arg(after).arg("+").arg("COUNT");
        let answer = self.pipe.call(&range.number(i128::try_from(CHUNKS_MAX).unwrap_or(1))).await?;
        let chunks = answer.array().unwrap_or_default().iter().filter_map(|entry| {
            let [cursor, fields] = entry.array()? else { return None };
            Some(Chunk { cursor: cursor.text()?.to_owned(), lines: fields.array()?.get(1)?.bytes()?.clone() })
        });
        Ok(chunks.collect())
    }

    async fn fired(&self, schedule: &Name) -> Result<Option<Fired>, Error> {
        let get = Command::new("GET").arg(key(format_args!("fired:{schedule}")));
        let answer = self.pipe.call(&get).await?;
        let Some(json) = answer.bytes() else { return Ok(None) };
        serde_json::from_slice(json).map(Some).map_err(|source| Error::Record { run: schedule.to_string(), source })
    }

    async fn fire(&self, schedule: &Name, was: Option<&Fired>, is: &Fired, runs: &[Run]) -> Result<bool, Error> {
        // The times first: a crash in between leaves out the runs rather than doubling them, as the runs themselves are
        // submitted under words made from the times.
        const SWAP: &str = "local is = redis.call('GET', KEYS[1]) or '' \
             if is ~= ARGV[1] then return 0 end redis.call('SET', KEYS[1], ARGV[2]) return 1";
        let json = |fired: &Fired| serde_json::to_string(fired).expect("model types always serialise");
        let words = runs
            .iter()
            .map(|run| Submission { run: run.clone(), key: Some(format!("schedule/{schedule}/{}", run.due.0)) });
        let was = was.map(json).unwrap_or_default();
        let submissions: Vec<Submission> = words.collect();
        let found = self.fired(schedule).await?.map(|fired| json(&fired)).unwrap_or_default();
        if found != was {
            return Ok(false);
        }
        self.submit(&submissions).await?;
        let swap = Command::new("EVAL").arg(SWAP).number(1).arg(key(format_args!("fired:{schedule}")));
        Ok(self.pipe.call(&swap.arg(was).arg(json(is))).await?.int() == Some(1))
    }

    async fn sweep(&self) -> Result<(), Error> {
        let count = self.pipe.call(&Command::new("ZCARD").arg(key("done"))).await?.int().unwrap_or(0);
        let excess = usize::try_from(count).unwrap_or(0).saturating_sub(RUNS_KEPT);
        // Runs expire by themselves; the list of them is cleared behind them.
        let mut from = 0_i128;
        let mut kept = 0_usize;
        loop {
            let last = from + i128::try_from(SWEEP_PAGE).unwrap_or(1) - 1;
            let ids = self.ids(Command::new("ZRANGE").arg(key("done")).number(from).number(last)).await?;
            let asked: Vec<Command> =
                ids.iter().map(|id| Command::new("EXISTS").arg(key(format_args!("run:{id}")))).collect();
            let mut gone = Vec::new();
            for (index, (id, there)) in ids.iter().zip(self.pipe.all(&asked).await?).enumerate() {
                let excessive = kept == 0 && from == 0 && index < excess;
                if there.int() != Some(1) || excessive {
                    gone.push(Command::new("ZREM").arg(key("done")).arg(id));
                    gone.push(
                        Command::new("DEL").arg(key(format_args!("run:{id}"))).arg(key(format_args!("log:{id}"))),
                    );
                } else {
                    kept += 1;
                }
            }
            let removed = gone.len() / 2;
            self.pipe.all(&gone).await?;
            if ids.len() < SWEEP_PAGE {
                return Ok(());
            }
            from += i128::try_from(ids.len() - removed).unwrap_or(0);
        }
    }
}

impl Queue for RedisQueue {
    fn submit(&self, submissions: Vec<Submission>) -> BoxFuture<'_, Result<Vec<RunId>, Error>> {
        Box::pin(async move { self.inner.submit(&submissions).await })
    }

    fn enlist(&self, worker: Worker) -> BoxFuture<'_, Result<Arc<dyn Post>, Error>> {
        Box::pin(async move {
            let post = post::RedisPost::new(self.inner.clone(), worker);
            post.enlist().await?;
            Ok(Arc::new(post) as Arc<dyn Post>)
        })
    }

    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, Error>> {
        Box::pin(async move { Ok(self.inner.runs(&[id.to_string()]).await?.pop().map(|(run, _)| run)) })
    }

    fn list(&self, ended: bool, limit: usize) -> BoxFuture<'_, Result<Vec<Run>, Error>> {
        Box::pin(self.inner.list(ended, limit))
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, Error>> {
        Box::pin(self.inner.workers())
    }

    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move { self.inner.cancel(&id, &by).await })
    }

    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<Chunk>, Error>> {
        Box::pin(async move { self.inner.log(&id, after).await })
    }

    fn fired(&self, schedule: Name) -> BoxFuture<'_, Result<Option<Fired>, Error>> {
        Box::pin(async move { self.inner.fired(&schedule).await })
    }

    fn fire(
        &self,
        schedule: Name,
        was: Option<Fired>,
        is: Fired,
        runs: Vec<Run>,
    ) -> BoxFuture<'_, Result<bool, Error>> {
        Box::pin(async move { self.inner.fire(&schedule, was.as_ref(), &is, &runs).await })
    }

    fn tend(&self, dead: Option<BTreeSet<String>>) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async move { self.inner.tend(dead.as_ref()).await })
    }

    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.inner.sweep())
    }
}

/// A log's piece as the arguments of XADD.
fn piece(id: &RunId, lines: &Bytes) -> Command {
    Command::new("XADD").arg(key(format_args!("log:{id}"))).arg("*").arg("lines").arg(lines)
}
