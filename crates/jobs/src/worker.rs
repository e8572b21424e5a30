//! The worker: claims, has runs carried out, beats, settles.

use crate::Error;
use crate::limits::{AGAIN, BEAT, CHUNK_BYTES_MAX, CHUNK_WAIT, GIVE_UP, LINE_BYTES_MAX, ROOM_MAX};
use crate::queue::{BoxFuture, Claim, Clock, Post, Queue};
use crate::runner::{Runner, Stop, output};
use regrow_control::features::job::policy::{self, End, Halt};
use regrow_model::run::{Line, Run, RunEvent, RunResult, State, Stream, Task, Worker};
use regrow_model::{Name, RunId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

/// What a worker is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The node, or machine.
    pub node: Name,
    /// What it has, for jobs that ask for it.
    pub labels: Vec<Name>,
    /// Runs at a time, 1 to [`ROOM_MAX`].
    pub room: u32,
    /// Longest that runs may go on when the worker is told to end; then they are given to others by their policy.
    pub drain: Duration,
}

/// What a worker is told to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// To take runs.
    #[default]
    Work,
    /// To take no more, and end when what runs has ended, or the drain is over.
    Drain,
    /// To end what runs, and itself.
    Stop,
}

/// A run waiting to be settled.
type Settling = (Claim, Run);

/// Runs settled in one go.
const SETTLED_AT_ONCE: usize = 256;

/// As good as never.
const FOR_EVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A claim that was under way when the drain began is waited for so long: what it brings must not be lost.
const LAST_CLAIM: Duration = Duration::from_millis(500);

/// The answer to a claim; for ever without one.
async fn answer(claiming: &mut Option<BoxFuture<'_, Result<Vec<Claim>, Error>>>) -> Result<Vec<Claim>, Error> {
    match claiming {
        Some(claiming) => claiming.await,
        None => std::future::pending().await,
    }
}

/// Waits until a channel says so, or is closed; holds nothing of it afterwards.
pub(crate) async fn until<T>(receiver: &mut watch::Receiver<T>, holds: impl FnMut(&T) -> bool) {
    drop(receiver.wait_for(holds).await);
}

/// Works until `call` says otherwise. A lease that ends is taken anew.
pub async fn work(
    queue: Arc<dyn Queue>,
    runner: Arc<dyn Runner>,
    settings: Settings,
    clock: Clock,
    mut call: watch::Receiver<Call>,
) {
    while *call.borrow_and_update() == Call::Work {
        let worker = Worker {
            id: id(&settings.node),
            node: settings.node.clone(),
            labels: settings.labels.clone(),
            room: settings.room.clamp(1, ROOM_MAX),
            since: clock(),
            draining: false,
        };
        let began = Instant::now();
        match queue.enlist(worker).await {
            Ok(post) => {
                let shift = Shift::new(queue.clone(), post, runner.clone(), clock.clone(), began);
                shift.work(&settings, call.clone()).await;
            }
            Err(error) => tracing::debug!(%error, "no lease for the worker"),
        }
        let _ = tokio::time::timeout(AGAIN, until(&mut call, |call| *call != Call::Work)).await;
    }
}

fn id(node: &Name) -> Arc<str> {
    format!("{node}-{}", fresh_id()).into()
}

/// An id that nobody else makes: the time, and a number from the system's randomness.
pub fn fresh_id() -> RunId {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    RunId::new(regrow_model::Time(u64::try_from(now.as_millis()).unwrap_or(0)), salt())
}

/// The standard library seeds its hash maps from the system's randomness; each state differs from the last.
fn salt() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    RandomState::new().build_hasher().finish()
}

/// One lease of a worker.
struct Shift {
    queue: Arc<dyn Queue>,
    post: Arc<dyn Post>,
    runner: Arc<dyn Runner>,
    clock: Clock,
    beat: watch::Sender<Instant>,
    lost: watch::Sender<bool>,
}

impl Shift {
    fn new(
        queue: Arc<dyn Queue>,
        post: Arc<dyn Post>,
        runner: Arc<dyn Runner>,
        clock: Clock,
        began: Instant,
    ) -> Arc<Shift> {
        let (beat, lost) = (watch::channel(began).0, watch::channel(false).0);
        Arc::new(Shift { queue, post, runner, clock, beat, lost })
    }

    async fn work(self: Arc<Shift>, settings: &Settings, mut call: watch::Receiver<Call>) {
        let room = usize::try_from(settings.room.clamp(1, ROOM_MAX)).unwrap_or(1);
        let (settling, settled) = mpsc::channel::<Settling>(room.max(SETTLED_AT_ONCE));
        let beating = tokio::spawn(self.clone().keep_beating());
        let settler = tokio::spawn(self.clone().settle(settled));
        let mut halts: BTreeMap<RunId, watch::Sender<Halt>> = BTreeMap::new();
        let mut runs: JoinSet<RunId> = JoinSet::new();
        let mut lost = self.lost.subscribe();
        let mut draining = *call.borrow_and_update() != Call::Work;
        let mut stopped = call.clone();
        let mut patience = std::pin::pin!(tokio::time::sleep(FOR_EVER));
        let post = self.post.clone();
        // Kept from turn to turn: a claim that is given up half way would be found again only later.
        let mut claiming: Option<BoxFuture<'_, Result<Vec<Claim>, Error>>> = None;
        let mut cancelled = post.cancelled();
        loop {
            let free = room.saturating_sub(runs.len());
            if claiming.is_none() && !draining && free > 0 {
                claiming = Some(post.claim(free));
            }
            if draining && runs.is_empty() {
                let last = tokio::time::timeout(LAST_CLAIM, answer(&mut claiming)).await;
                let Ok(Ok(claims)) = last else { break };
                claiming = None;
                self.begin(claims, &mut halts, &mut runs, &settling);
                continue;
            }
            tokio::select! {
                biased;
                () = until(&mut lost, |lost| *lost) => break,
                () = until(&mut stopped, |call| *call == Call::Stop) => break,
                () = until(&mut call, |call| *call != Call::Work), if !draining => {
                    draining = true;
                    patience.as_mut().reset(tokio::time::Instant::now() + settings.drain);
                    if let Err(error) = self.post.drain().await {
                        tracing::debug!(%error, "the queue is not told that the worker drains");
                    }
                }
                () = &mut patience, if draining => break,
                Some(ended) = runs.join_next() => {
                    // Those that end with it make room for the same claim.
                    tokio::task::yield_now().await;
                    for id in std::iter::once(ended).chain(std::iter::from_fn(|| runs.try_join_next())).flatten() {
                        halts.remove(&id);
                    }
                }
                cancels = &mut cancelled => {
                    for (id, by) in cancels.unwrap_or_default() {
                        if let Some(halt) = halts.get(&id) {
                            halt.send_replace(Halt::Cancelled(by));
                        }
                    }
                    cancelled = post.cancelled();
                }
                claims = answer(&mut claiming), if claiming.is_some() => {
                    claiming = None;
                    match claims {
                        Ok(claims) => self.begin(claims, &mut halts, &mut runs, &settling),
                        Err(Error::Lost) => break,
                        Err(error) => {
                            tracing::debug!(%error, "the queue cannot be asked for runs");
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                }
            }
        }
        // Whatever is left is killed before the lease is given back, so that nobody begins it while it runs.
        for halt in halts.values() {
            halt.send_replace(Halt::Lost);
        }
        while runs.join_next().await.is_some() {}
        drop(settling);
        let _ = settler.await;
        beating.abort();
        if let Err(error) = self.post.leave().await {
            tracing::debug!(%error, "the worker's lease is not given back; it will end");
        }
    }

    fn begin(
        self: &Arc<Shift>,
        claims: Vec<Claim>,
        halts: &mut BTreeMap<RunId, watch::Sender<Halt>>,
        runs: &mut JoinSet<RunId>,
        settling: &mpsc::Sender<Settling>,
    ) {
        for claim in claims {
            let (halt, halted) = watch::channel(Halt::No);
            halts.insert(claim.run.id.clone(), halt);
            runs.spawn(self.clone().carry_out(claim, halted, settling.clone()));
        }
    }

    /// Beats until it is too late.
    async fn keep_beating(self: Arc<Shift>) {
        loop {
            tokio::time::sleep(BEAT).await;
            let began = Instant::now();
            let left = GIVE_UP.saturating_sub(self.beat.borrow().elapsed());
            match tokio::time::timeout(left, self.post.beat()).await {
                Ok(Ok(())) => drop(self.beat.send_replace(began)),
                Ok(Err(Error::Lost)) => break,
                Ok(Err(error)) => tracing::debug!(%error, "the worker's beat is not taken"),
                Err(_) => {}
            }
            if self.beat.borrow().elapsed() >= GIVE_UP {
                break;
            }
        }
        tracing::warn!(worker = %self.post.worker().id, "the worker has lost its lease; what it runs is ended");
        self.lost.send_replace(true);
    }

    /// Settles what has ended, as many at once as there are.
    async fn settle(self: Arc<Shift>, mut settled: mpsc::Receiver<Settling>) {
        let mut waiting: Vec<Settling> = Vec::new();
        while settled.recv_many(&mut waiting, SETTLED_AT_ONCE).await > 0 {
            loop {
                match self.post.settle(waiting.clone()).await {
                    Ok(done) => {
                        for ((claim, _), _) in waiting.iter().zip(done).filter(|(_, done)| !done) {
                            tracing::warn!(run = %claim.run.id, "what became of the run is of no account: it is not ours");
                        }
                        break;
                    }
                    Err(error) if *self.lost.borrow() => {
                        tracing::warn!(%error, "what became of runs cannot be told, and the lease has ended");
                        break;
                    }
                    Err(error) => tracing::debug!(%error, "what became of runs cannot be told yet"),
                }
                tokio::time::sleep(AGAIN).await;
            }
            waiting.clear();
        }
    }

    async fn carry_out(
        self: Arc<Shift>,
        claim: Claim,
        halt: watch::Receiver<Halt>,
        settling: mpsc::Sender<Settling>,
    ) -> RunId {
        let id = claim.run.id.clone();
        let end = if matches!(&claim.run.order.task, Task::Steps(steps) if steps.is_empty()) {
            End { state: State::Succeeded, why: String::new(), result: RunResult::default() }
        } else {
            self.carry_out_task(&claim, halt.clone()).await
        };
        if *halt.borrow() == Halt::Lost {
            return id;
        }
        let next = policy::ended(&claim.run, end, (self.clock)());
        // The next one may begin while this is told.
        let _ = settling.send((claim, next)).await;
        id
    }

    async fn carry_out_task(&self, claim: &Claim, halt: watch::Receiver<Halt>) -> End {
        let history = if claim.run.resume { self.history(&claim.run).await } else { Vec::new() };
        let (output, lines) = output();
        let begun = RunEvent::Try { attempt: claim.run.attempt, worker: self.post.worker().id.clone() };
        let _ = output.send(Line::event((self.clock)(), begun)).await;
        let stop = Stop { halt, beat: self.beat.subscribe() };
        let run = self.runner.run(claim.run.clone(), history, output, stop);
        let (end, ()) = tokio::join!(run, self.write(claim, lines));
        end
    }

    /// What earlier tries told of their steps.
    async fn history(&self, run: &Run) -> Vec<Line> {
        let (mut lines, mut after) = (Vec::new(), None);
        while let Ok(chunks) = self.queue.log(run.id.clone(), after.clone()).await {
            let Some(last) = chunks.last() else { break };
            after = Some(last.cursor.clone());
            let text = chunks.iter().flat_map(|chunk| chunk.lines.split(|byte| *byte == b'\n'));
            let read = text.filter_map(|line| serde_json::from_slice::<Line>(line).ok());
            lines.extend(read.filter(|line| matches!(line.event, Some(RunEvent::Step { .. }))));
        }
        lines
    }

    /// Writes lines as they come, within the bound of the job; what is beyond is taken and left out, so that the run
    /// goes on.
    async fn write(&self, claim: &Claim, mut lines: mpsc::Receiver<Line>) {
        let bound = usize::try_from(claim.run.order.output_mib).unwrap_or(1) << 20;
        let (mut number, mut written, mut is_full) = (0, 0, false);
        let mut chunk = Vec::new();
        while let Some(line) = lines.recv().await {
            let due = tokio::time::Instant::now() + CHUNK_WAIT;
            let mut next = Some(line);
            while let Some(line) = next.take() {
                // Events are few, bounded each, and what people look for at the end.
                let is_event = line.stream == Stream::Event;
                if is_full && !is_event {
                    next = if tokio::time::Instant::now() < due { lines.try_recv().ok() } else { None };
                    continue;
                }
                let line = record(line);
                if written + chunk.len() + line.len() < bound || (is_event && written + chunk.len() < 2 * bound) {
                    chunk.extend_from_slice(line.as_bytes());
                    chunk.push(b'\n');
                } else if !is_full {
                    is_full = true;
                    let text = format!("[the output has more than {} MiB: the rest is left out]", bound >> 20);
                    chunk.extend_from_slice(record(Line::text((self.clock)(), Stream::Regrow, text)).as_bytes());
                    chunk.push(b'\n');
                }
                if chunk.len() < CHUNK_BYTES_MAX {
                    next = tokio::time::timeout_at(due, lines.recv()).await.ok().flatten();
                }
            }
            if chunk.is_empty() {
                continue;
            }
            written += chunk.len();
            let bytes = bytes::Bytes::from(std::mem::take(&mut chunk));
            while let Err(error) = self.post.tell(claim, number, bytes.clone()).await {
                if *self.lost.borrow() || !error.is_retryable() {
                    tracing::warn!(run = %claim.run.id, %error, "output is lost");
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
            number += 1;
        }
    }
}

/// A line as it is kept: cut when it is too long.
fn record(mut line: Line) -> String {
    if let Some(text) = &mut line.line
        && text.len() > LINE_BYTES_MAX
    {
        text.truncate(text.floor_char_boundary(LINE_BYTES_MAX));
        text.push_str(" […]");
    }
    serde_json::to_string(&line).expect("model types always serialise")
}
