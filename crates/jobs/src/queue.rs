//! What every queue does.

use crate::Error;
use bytes::Bytes;
use regrow_control::features::job::queue::SlotKey;
use regrow_control::features::job::schedule::Fired;
use regrow_model::run::{Run, Worker};
use regrow_model::{Name, RunId, Time};
use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> Time + Send + Sync>;

/// A run to be accepted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The run: queued, parked, or ended at once.
    pub run: Run,
    /// A word of the caller's own: while one with it is known, a second submission is the first.
    pub key: Option<String>,
}

/// A run that a worker has the right to carry out.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The run, as running.
    pub run: Arc<Run>,
    /// Its fence: a number that changes with each change of the run.
    pub fence: i64,
    /// The places that it holds.
    pub places: Vec<(SlotKey, u32)>,
}

/// A piece of a run's log: lines of JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Where it is; text that sorts as the pieces do.
    pub cursor: String,
    /// Whole lines.
    pub lines: Bytes,
}

/// A queue of runs. Used as `Arc<dyn Queue>`.
pub trait Queue: Send + Sync + 'static {
    /// Accepts runs: durable when answered. The ids come in the order of the submissions; one with a known key is that
    /// of the first. An error may leave some of them accepted; submitting the very same again is harmless.
    fn submit(&self, submissions: Vec<Submission>) -> BoxFuture<'_, Result<Vec<RunId>, Error>>;

    /// Gives a worker its lease.
    fn enlist(&self, worker: Worker) -> BoxFuture<'_, Result<Arc<dyn Post>, Error>>;

    /// A run, ended or not; `None` when it is not known, or forgotten.
    fn get(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, Error>>;

    /// Runs, the newest first: those that have not ended, then, with `ended`, those that have; `limit` of each at most.
    fn list(&self, ended: bool, limit: usize) -> BoxFuture<'_, Result<Vec<Run>, Error>>;

    /// Workers that have a lease.
    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, Error>>;

    /// Ends a run: at once when nobody runs it, else its worker is told. `false`: it had ended. Errors: `NoRun`.
    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, Error>>;

    /// Pieces of a run's log behind a cursor.
    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<Chunk>, Error>>;

    /// What is remembered of a schedule.
    fn fired(&self, schedule: Name) -> BoxFuture<'_, Result<Option<Fired>, Error>>;

    /// Remembers something else of a schedule and accepts its runs, if it still is what it was. `false`: it is not.
    fn fire(&self, schedule: Name, was: Option<Fired>, is: Fired, runs: Vec<Run>)
    -> BoxFuture<'_, Result<bool, Error>>;

    /// Does what nobody asks for: losses, deadlines, hosts that are back. `dead`: hosts that gossip says are dead;
    /// `None`: not known, and parked runs stay so.
    fn tend(&self, dead: Option<BTreeSet<String>>) -> BoxFuture<'_, Result<(), Error>>;

    /// Forgets what is old.
    fn sweep(&self) -> BoxFuture<'_, Result<(), Error>>;
}

/// A worker's place at a queue, as long as its lease lives.
pub trait Post: Send + Sync + 'static {
    /// The worker.
    fn worker(&self) -> &Worker;

    /// Waits until there is something that the worker may run, and claims it; at most `room`. Dropping the future loses
    /// nothing: what was claimed meanwhile comes with the next call.
    fn claim(&self, room: usize) -> BoxFuture<'_, Result<Vec<Claim>, Error>>;

    /// Lets the lease live on. Errors: `Lost`, and then for ever.
    fn beat(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Writes what became of claimed runs. `false` for one that belongs to others now: what was done is of no account.
    fn settle(&self, settled: Vec<(Claim, Run)>) -> BoxFuture<'_, Result<Vec<bool>, Error>>;

    /// Adds a piece to a run's log. `number`: counts the pieces of this try from 0.
    fn tell(&self, claim: &Claim, number: u32, lines: Bytes) -> BoxFuture<'_, Result<(), Error>>;

    /// Waits until somebody asks for the end of a run that this worker runs; all such runs, and who asks.
    fn cancelled(&self) -> BoxFuture<'_, Result<Vec<(RunId, String)>, Error>>;

    /// Takes no more; told to others.
    fn drain(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Gives the lease back.
    fn leave(&self) -> BoxFuture<'_, Result<(), Error>>;
}
