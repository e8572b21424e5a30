//! Changes of runs as transactions: each compares its fence, several share a sync.

use super::{Inner, state};
use crate::Error;
use crate::limits::{AGAIN, TXN_BYTES, TXN_OPS};
use crate::queue::Submission;
use regrow_control::features::job::queue::SlotKey;
use regrow_control::features::job::schedule::Fired;
use regrow_model::run::{Run, Worker, WorkerId};
use regrow_model::{Name, RunId};
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, LeaseId, Op, OpResponse, PutRequest, RangeRequest, Revision,
    TxnRequest, TxnResponse,
};
use std::sync::Arc;

/// A change of one run.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) id: RunId,
    /// Done only while the run has this fence.
    pub(super) fence: i64,
    /// The run afterwards.
    pub(super) run: Run,
    /// Places that it takes; done only while they are free.
    pub(super) take: Vec<(SlotKey, u32)>,
    /// Places that it gives back.
    pub(super) free: Vec<(SlotKey, u32)>,
}

/// Under what else changes are done.
pub(super) enum Only {
    /// The worker has its lease; what it tells of itself is told with it, as a sign of life.
    Enlisted(Worker, LeaseId),
    /// There is no such worker.
    Absent(WorkerId),
}

impl Only {
    fn compare(&self) -> Compare {
        match self {
            Only::Enlisted(worker, lease) => {
                Compare::new(state::worker(&worker.id), CompareOp::Equal, CompareTarget::Lease(*lease))
            }
            Only::Absent(worker) => absent(state::worker(worker)),
        }
    }

    fn sign(&self) -> Option<Op> {
        let Only::Enlisted(worker, lease) = self else { return None };
        let record = serde_json::to_vec(worker).expect("model types always serialise");
        Some(Op::Put(PutRequest { lease: *lease, ..PutRequest::new(state::worker(&worker.id), record) }))
    }
}

fn absent(key: String) -> Compare {
    Compare::new(key, CompareOp::Equal, CompareTarget::Version(0))
}

fn put(key: String, value: impl Into<bytes::Bytes>) -> Op {
    Op::Put(PutRequest::new(key, value))
}

fn delete(key: String) -> Op {
    Op::DeleteRange(DeleteRangeRequest::key(key))
}

fn json(run: &Run) -> Vec<u8> {
    serde_json::to_vec(run).expect("model types always serialise")
}

impl Change {
    fn txn(&self) -> (TxnRequest, usize) {
        let fence = CompareTarget::ModRevision(Revision(self.fence));
        let mut compare = vec![Compare::new(state::live(&self.id), CompareOp::Equal, fence)];
        let record = json(&self.run);
        let bytes = record.len();
        let mut success = Vec::with_capacity(3 + self.take.len() + self.free.len());
        if self.run.state.is_final() {
            success.push(delete(state::live(&self.id)));
            success.push(put(state::done(&self.id), record));
        } else {
            success.push(put(state::live(&self.id), record));
        }
        if self.run.state != regrow_model::run::State::Running {
            success.push(delete(state::cancel(&self.id)));
        }
        for (slot, place) in &self.take {
            compare.push(absent(state::slot(slot, *place)));
            success.push(put(state::slot(slot, *place), self.id.as_str().to_owned()));
        }
        success.extend(self.free.iter().map(|(slot, place)| delete(state::slot(slot, *place))));
        (TxnRequest { compare, success, failure: Vec::new() }, bytes)
    }
}

impl Inner {
    /// Does changes, each whole or not at all. For each the run's new fence, or `None` when it was not done.
    ///
    /// Errors: `Lost` when `only` does not hold, and then nothing more is done.
    pub(super) async fn commit(&self, only: Option<Only>, changes: Vec<Change>) -> Result<Vec<Option<i64>>, Error> {
        let mut fences = Vec::with_capacity(changes.len());
        let mut rest = changes.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut ops, mut bytes) = (Vec::new(), Vec::new(), 0);
            while let Some(change) = rest.peek() {
                let (txn, size) = change.txn();
                if !ops.is_empty() && (ops.len() >= TXN_OPS || bytes + size > TXN_BYTES) {
                    break;
                }
                bytes += size;
                ops.push(Op::Txn(txn));
                part.extend(rest.next());
            }
            let compare = only.iter().map(Only::compare).collect();
            // Behind the changes, whose answers come in their order.
            ops.extend(only.iter().filter_map(Only::sign));
            let answer = self.store.txn(TxnRequest { compare, success: ops, failure: Vec::new() }).await?;
            if !answer.succeeded {
                return Err(Error::Lost);
            }
            let mut known = self.known();
            for (change, response) in part.into_iter().zip(answer.responses) {
                let done = matches!(response, OpResponse::Txn(TxnResponse { succeeded: true, .. }));
                fences.push(done.then_some(answer.revision.0));
                if done {
                    change.free.iter().for_each(|(slot, place)| known.queue.hold(slot, *place, None));
                    for (slot, place) in &change.take {
                        known.queue.hold(slot, *place, Some(change.id.clone()));
                    }
                    known.put(&change.id, Some(Arc::new(change.run)), answer.revision.0);
                }
            }
            drop(known);
            self.tell_news();
        }
        Ok(fences)
    }

    /// See `Queue::submit`.
    pub(super) async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<RunId>, Error> {
        let mut ids = Vec::with_capacity(submissions.len());
        let mut rest = submissions.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut part, mut ops, mut bytes) = (Vec::new(), Vec::new(), 0);
            let mut words = std::collections::BTreeSet::new();
            while let Some(next) = rest.peek() {
                let record = json(&next.run);
                // The same word twice in one transaction would be the same key twice.
                let again = next.key.as_ref().is_some_and(|word| words.contains(word));
                if !ops.is_empty() && (ops.len() >= TXN_OPS || bytes + record.len() > TXN_BYTES || again) {
                    break;
                }
                bytes += record.len();
                words.extend(next.key.clone());
                ops.push(Op::Txn(accept(next, record)));
                part.extend(rest.next());
            }
            let answer = self.patiently(TxnRequest { compare: vec![], success: ops, failure: vec![] }).await?;
            let mut known = self.known();
            for (submission, response) in part.into_iter().zip(answer.responses) {
                let OpResponse::Txn(TxnResponse { succeeded, responses, .. }) = response else { continue };
                let id = submission.run.id.clone();
                if succeeded {
                    known.put(&id, Some(Arc::new(submission.run)), answer.revision.0);
                    ids.push(id);
                } else {
                    ids.push(first(&responses).unwrap_or(id));
                }
            }
            drop(known);
            self.tell_news();
        }
        Ok(ids)
    }

    /// A transaction that is harmless to repeat, repeated for a while when the store does not answer.
    async fn patiently(&self, txn: TxnRequest) -> Result<TxnResponse, Error> {
        for _ in 0..SUBMIT_TRIES {
            match self.store.txn(txn.clone()).await {
                Err(error) if error.is_retryable() => tokio::time::sleep(AGAIN).await,
                answer => return Ok(answer?),
            }
        }
        Ok(self.store.txn(txn).await?)
    }

    pub(super) async fn put_worker(&self, worker: &Worker, lease: LeaseId) -> Result<(), Error> {
        let record = serde_json::to_vec(worker).expect("model types always serialise");
        let put = PutRequest { lease, ..PutRequest::new(state::worker(&worker.id), record) };
        self.store.put(put).await?;
        Ok(())
    }

    /// A sign of life of a worker that has its place. Errors: `Lost`: it has none any more.
    pub(super) async fn put_beat(&self, worker: Worker, lease: LeaseId) -> Result<(), Error> {
        let only = Only::Enlisted(worker, lease);
        let (compare, success) = (vec![only.compare()], only.sign().into_iter().collect());
        let answer = self.store.txn(TxnRequest { compare, success, failure: vec![] }).await?;
        if answer.succeeded { Ok(()) } else { Err(Error::Lost) }
    }

    /// Takes the place of a worker that has not been heard of since a revision.
    pub(super) async fn remove_worker(&self, worker: &WorkerId, revision: i64) -> Result<(), Error> {
        let since = CompareTarget::ModRevision(Revision(revision));
        let compare = vec![Compare::new(state::worker(worker), CompareOp::Equal, since)];
        let success = vec![delete(state::worker(worker))];
        self.store.txn(TxnRequest { compare, success, failure: vec![] }).await?;
        Ok(())
    }

    /// Asks the worker of a run for its end; `false` when the run has changed.
    pub(super) async fn ask_for_end(&self, id: &RunId, fence: i64, by: &str) -> Result<bool, Error> {
        let fence = CompareTarget::ModRevision(Revision(fence));
        let compare = vec![Compare::new(state::live(id), CompareOp::Equal, fence)];
        let success = vec![put(state::cancel(id), by.to_owned())];
        Ok(self.store.txn(TxnRequest { compare, success, failure: vec![] }).await?.succeeded)
    }

    /// See `Queue::fire`.
    pub(super) async fn fire(
        &self,
        schedule: Name,
        was: Option<Fired>,
        is: Fired,
        runs: Vec<Run>,
    ) -> Result<bool, Error> {
        let found = self.read_fired(&schedule).await?;
        let (found, revision) = found.map_or((None, 0), |(fired, revision)| (Some(fired), revision));
        if found != was {
            return Ok(false);
        }
        let key = state::fired(schedule.as_str());
        let target = CompareTarget::ModRevision(Revision(revision));
        let record = serde_json::to_vec(&is).expect("model types always serialise");
        let mut success = vec![put(key.clone(), record)];
        for run in &runs {
            success
                .push(put(if run.state.is_final() { state::done(&run.id) } else { state::live(&run.id) }, json(run)));
        }
        let compare = vec![Compare::new(key, CompareOp::Equal, target)];
        Ok(self.store.txn(TxnRequest { compare, success, failure: vec![] }).await?.succeeded)
    }
}

/// Tries of a submission while the store does not answer: some seconds, then the caller is told.
const SUBMIT_TRIES: usize = 20;

/// Accepts a run, unless it was accepted already or its caller's word is known: then the id that is known is read.
fn accept(submission: &Submission, record: Vec<u8>) -> TxnRequest {
    let run = &submission.run;
    let mut compare = vec![absent(state::live(&run.id)), absent(state::done(&run.id))];
    let place = if run.state.is_final() { state::done(&run.id) } else { state::live(&run.id) };
    let mut success = vec![put(place, record)];
    let mut failure = Vec::new();
    if let Some(word) = &submission.key {
        compare.push(absent(state::word(word)));
        success.push(put(state::word(word), run.id.as_str().to_owned()));
        failure.push(Op::Range(RangeRequest::key(state::word(word))));
    }
    TxnRequest { compare, success, failure }
}

fn first(responses: &[OpResponse]) -> Option<RunId> {
    match responses.first() {
        Some(OpResponse::Range(range)) => std::str::from_utf8(&range.kvs.first()?.value).ok()?.parse().ok(),
        _ => None,
    }
}
