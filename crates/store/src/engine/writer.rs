//! The one writer: takes requests in order, evaluates them, writes all that wait as one frame, syncs once, then shows
//! and answers them.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::{
    eval::{Change, Evaluation},
    frame::{self, HEAD},
    index::Key,
    leases::Lease,
    log::{Log, random},
    options::AutoCompaction,
    record::{Put, Record, encode},
    shared::Shared,
    signal::{lock, write},
};
use crate::{
    Error, Event, EventKind, LeaseGrantRequest, LeaseId, Op, OpResponse, Result, Revision, check,
    limits::{
        BATCH_BYTES_MAX, BATCH_EXPIRIES_MAX, BATCH_REQUESTS_MAX, FRAME_BYTES_MAX, LEASE_TTL_SECONDS_MAX,
        LEASE_TTL_SECONDS_MIN, NO_SPACE_RETRY, PROGRESS_INTERVAL, VERSION_OVERHEAD_BYTES,
    },
};

/// How long the log is idle before it is sealed.
const SEAL_AFTER: Duration = Duration::from_millis(100);
/// How long a lease whose end could not be written waits.
const EXPIRE_RETRY: Duration = Duration::from_secs(1);

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<Result<T>>;

/// What the writer can be asked.
pub(crate) enum Command {
    Op(Op, Reply<OpResponse>),
    Grant(LeaseGrantRequest, Reply<(LeaseId, i64, Revision)>),
    Revoke(LeaseId, Reply<Revision>),
    Compact(Revision, Reply<Revision>),
    /// The leases in force at one revision, each with its seconds.
    Leases(Reply<(Revision, Vec<(LeaseId, i64)>)>),
    /// The clock has moved.
    Wake,
    Stop,
}

/// A command and its place in the queue.
pub(crate) struct Envelope {
    pub(crate) command: Command,
    pub(crate) _room: Option<OwnedSemaphorePermit>,
}

/// What of a batch is to be shown when it is durable, or undone when it is not.
enum Staged {
    Changes { changes: Vec<Change>, values: Vec<usize> },
    Granted(i64),
    Revoked(i64, Lease),
}

type Answer = Box<dyn FnOnce(Option<&Error>) + Send>;

/// Ends all watches when the writer does, also when it panics.
struct End(Arc<Shared>);

impl Drop for End {
    fn drop(&mut self) {
        let watchers = lock(&self.0.watchers);
        self.0.closed.store(true, Ordering::Release);
        // Whoever waits for housekeeping sees that it is over.
        self.0.pruned.send_modify(|_| {});
        watchers.tell_all(true);
    }
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    commands: Receiver<Envelope>,
    /// Where the store is with what is being written.
    revision: i64,
    /// The same for compaction.
    compacted: i64,
    frame: Vec<u8>,
    /// The fence's key exists, with what is being written.
    fenced: bool,
    staged: Vec<Staged>,
    answers: Vec<Answer>,
    /// The log has been written to since it was sealed.
    unsealed: bool,
    /// Bytes of the largest write that there was no space for, while there is none.
    refused: usize,
    next_progress: Duration,
    /// Where the store was at which time, for compaction by time; oldest first.
    samples: VecDeque<(Duration, i64)>,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log, commands: Receiver<Envelope>) -> Self {
        Self {
            revision: shared.revision(),
            compacted: shared.compacted(),
            next_progress: shared.options.clock.now() + PROGRESS_INTERVAL,
            fenced: shared.fenced.load(Ordering::Relaxed),
            shared,
            log,
            commands,
            frame: frame::empty(),
            staged: Vec::new(),
            answers: Vec::new(),
            unsealed: true,
            refused: 0,
            samples: VecDeque::new(),
        }
    }

    /// Works until it is told to stop.
    pub(crate) fn run(mut self) {
        let _end = End(self.shared.clone());
        loop {
            let first = match self.wait() {
                None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(timeout) => self.commands.recv_timeout(timeout),
            };
            let shared = self.shared.clone();
            let batch = lock(&shared.batch);
            let going_on = match first {
                Ok(envelope) => self.fill(envelope.command),
                Err(RecvTimeoutError::Timeout) => {
                    self.idle();
                    true
                }
                Err(RecvTimeoutError::Disconnected) => false,
            };
            self.expire();
            self.compact_by_itself();
            self.commit();
            drop(batch);
            self.tell_progress();
            if !going_on {
                break;
            }
        }
        if let Err(error) = self.log.seal() {
            tracing::warn!(%error, "log not sealed");
        }
    }

    /// How long to sleep; `None`: until there is a command.
    fn wait(&self) -> Option<Duration> {
        let clock = &self.shared.options.clock;
        let lease = lock(&self.shared.leases).next_due();
        let progress = (lock(&self.shared.watchers).told > 0).then_some(self.next_progress);
        let sample = self.next_sample();
        let deadline = [lease, progress, sample].into_iter().flatten().min();
        let timed = deadline.and_then(|deadline| clock.sleep_until(deadline));
        let seal = self.unsealed.then_some(SEAL_AFTER);
        let full = self.shared.full.load(Ordering::Relaxed).then_some(NO_SPACE_RETRY);
        [timed, seal, full].into_iter().flatten().min()
    }

    /// Takes what is waiting, up to what one sync should carry; `false` when told to stop.
    fn fill(&mut self, first: Command) -> bool {
        let mut next = Some(first);
        while let Some(command) = next {
            if matches!(command, Command::Stop) {
                return false;
            }
            self.take(command);
            let full = self.answers.len() >= BATCH_REQUESTS_MAX || self.frame.len() >= BATCH_BYTES_MAX;
            next = if full { None } else { self.commands.try_recv().ok().map(|envelope| envelope.command) };
        }
        true
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Op(op, reply) => {
                let result = self.op(&op);
                self.answer(reply, result);
            }
            Command::Grant(request, reply) => {
                let result = self.grant(request);
                self.answer(reply, result);
            }
            Command::Revoke(id, reply) => {
                let result = if self.holds(id.0) { Err(Error::Fenced) } else { self.revoke(id.0) };
                self.answer(reply, result.map(|()| Revision(self.revision)));
            }
            Command::Compact(revision, reply) => {
                let result = self.compact(revision.0);
                self.answer(reply, result.map(|()| Revision(self.revision)));
            }
            Command::Leases(reply) => {
                let leases = lock(&self.shared.leases);
                let all = leases.all.iter().map(|(id, lease)| (LeaseId(*id), lease.ttl)).collect();
                drop(leases);
                self.answer(reply, Ok((Revision(self.revision), all)));
            }
            Command::Wake | Command::Stop => {}
        }
    }

    /// Keeps an answer until the batch is durable. Errors wait too: they may come from changes that are not.
    fn answer<T: Send + 'static>(&mut self, reply: Reply<T>, result: Result<T>) {
        self.answers.push(Box::new(move |failed| {
            // Nobody waits for the answer any more; that is their choice.
            let _ = reply.send(match failed {
                Some(error) => Err(error.clone()),
                None => result,
            });
        }));
    }

    fn op(&mut self, op: &Op) -> Result<OpResponse> {
        let shrinks = !puts(op);
        if !shrinks {
            self.quota(check::op_bytes(op) as u64)?;
        }
        let shared = self.shared.clone();
        let mut evaluation = Evaluation::new(&shared, self.revision);
        match evaluation.run(op) {
            Ok(_) if self.fenced && !evaluation.changes.iter().all(|change| self.is_beside(&change.key)) => {
                Evaluation::undo(&shared, evaluation.changes);
                Err(Error::Fenced)
            }
            Ok(response) => {
                self.stage(evaluation.changes, None, shrinks)?;
                Ok(response)
            }
            Err(error) => {
                Evaluation::undo(&shared, evaluation.changes);
                Err(error)
            }
        }
    }

    /// Whether a key may change while there is a fence.
    fn is_beside(&self, key: &[u8]) -> bool {
        let fence = self.shared.options.fence.unwrap_or_default();
        let beside = &fence[..fence.rfind('/').map_or(0, |slash| slash + 1)];
        !beside.is_empty() && key.starts_with(beside.as_bytes())
    }

    fn quota(&self, bytes: u64) -> Result<()> {
        if self.shared.bytes_in_use() + bytes > self.shared.options.quota_bytes {
            return Err(Error::NoSpace);
        }
        Ok(())
    }

    /// Adds records and changes to the frame; takes the changes back if there is no room for them.
    fn stage(&mut self, changes: Vec<Change>, record: Option<Record<'_>>, shrinks: bool) -> Result<()> {
        let start = self.frame.len();
        if let Some(record) = record {
            encode(record, &mut self.frame);
        }
        let values = changes.iter().map(|change| encode(change_record(change), &mut self.frame)).collect();
        if self.frame.len() == start {
            return Ok(());
        }
        let room = if self.frame.len() as u64 > FRAME_BYTES_MAX {
            Err(Error::RequestTooLarge { bytes: self.frame.len() - start, max: FRAME_BYTES_MAX as usize })
        } else {
            self.log.make_room(self.frame.len(), shrinks)
        };
        if let Err(error) = room {
            if matches!(error, Error::NoSpace) {
                self.refused = self.refused.max(self.frame.len() - start);
                self.shared.full.store(true, Ordering::Relaxed);
            }
            self.frame.truncate(start);
            Evaluation::undo(&self.shared, changes);
            return Err(error);
        }
        if let Some(fence) = self.shared.options.fence {
            let change = changes.iter().rfind(|change| *change.key == *fence.as_bytes());
            self.fenced = change.map_or(self.fenced, |change| change.event.kind == EventKind::Put);
        }
        if !changes.is_empty() {
            self.revision += 1;
            self.staged.push(Staged::Changes { changes, values });
        }
        Ok(())
    }

    fn grant(&mut self, request: LeaseGrantRequest) -> Result<(LeaseId, i64, Revision)> {
        if self.fenced {
            return Err(Error::Fenced);
        }
        if request.ttl > LEASE_TTL_SECONDS_MAX {
            return Err(Error::LeaseTtlTooLarge { ttl: request.ttl, max: LEASE_TTL_SECONDS_MAX });
        }
        self.quota(VERSION_OVERHEAD_BYTES)?;
        let ttl = request.ttl.max(LEASE_TTL_SECONDS_MIN);
        let taken = |id: i64| lock(&self.shared.leases).all.contains_key(&id);
        let id = match request.id {
            LeaseId::NONE => loop {
                let id = (random() >> 1) as i64;
                if id != 0 && !taken(id) {
                    break id;
                }
            },
            id if taken(id.0) => return Err(Error::LeaseExists(id)),
            id => id.0,
        };
        self.stage(Vec::new(), Some(Record::Grant { id, ttl }), false)?;
        lock(&self.shared.leases).grant(id, ttl, self.shared.options.clock.now(), false);
        self.staged.push(Staged::Granted(id));
        Ok((LeaseId(id), ttl, Revision(self.revision)))
    }

    fn revoke(&mut self, id: i64) -> Result<()> {
        let Some(lease) = lock(&self.shared.leases).remove(id) else {
            return Err(Error::LeaseNotFound(LeaseId(id)));
        };
        let shared = self.shared.clone();
        let mut evaluation = Evaluation::new(&shared, self.revision);
        evaluation.delete_keys(lease.keys.iter().cloned());
        let staged = self.stage(evaluation.changes, Some(Record::Revoke { id }), true);
        match staged {
            // Undone in reverse: first the keys come back, then the lease with them.
            Ok(()) => {
                let at = self.staged.len() - usize::from(!lease.keys.is_empty());
                self.staged.insert(at, Staged::Revoked(id, lease));
                Ok(())
            }
            Err(error) => {
                lock(&self.shared.leases).restore(id, lease);
                Err(error)
            }
        }
    }

    /// Whether a fence keeps a lease from being revoked: one that has nothing to do with the fence.
    fn holds(&self, id: i64) -> bool {
        let leases = lock(&self.shared.leases);
        let own = |key: &Key| self.is_beside(key);
        self.fenced && leases.all.get(&id).is_some_and(|lease| lease.keys.is_empty() || !lease.keys.iter().all(own))
    }

    fn compact(&mut self, rev: i64) -> Result<()> {
        if rev <= self.compacted {
            return Err(Error::Compacted { requested: Revision(rev), compacted: Revision(self.compacted) });
        }
        if rev > self.revision {
            return Err(Error::FutureRevision { requested: Revision(rev), current: Revision(self.revision) });
        }
        self.stage(Vec::new(), Some(Record::Compact { rev }), true)?;
        self.compacted = rev;
        Ok(())
    }

    fn expire(&mut self) {
        let now = self.shared.options.clock.now();
        for _ in 0..BATCH_EXPIRIES_MAX {
            let Some(id) = lock(&self.shared.leases).pop_due(now) else {
                return;
            };
            if let Err(error) = self.revoke(id) {
                tracing::warn!(lease = %LeaseId(id), %error, "lease not ended");
                lock(&self.shared.leases).retry(id, now + EXPIRE_RETRY);
                return;
            }
        }
    }

    fn next_sample(&self) -> Option<Duration> {
        let AutoCompaction::Period(period) = self.shared.options.compaction else {
            return None;
        };
        Some(self.samples.back().map_or(Duration::ZERO, |(at, _)| *at + period / 10))
    }

    fn compact_by_itself(&mut self) {
        let upto = match self.shared.options.compaction {
            AutoCompaction::Off => return,
            AutoCompaction::Revisions(keep) => {
                let keep = keep.max(1);
                if self.revision - self.compacted.max(1) <= keep + keep / 100 {
                    return;
                }
                self.revision - keep
            }
            AutoCompaction::Period(period) => {
                let now = self.shared.options.clock.now();
                if self.next_sample().is_some_and(|due| now < due) {
                    return;
                }
                self.samples.push_back((now, self.revision));
                let mut upto = 0;
                while let Some((_, rev)) = self.samples.pop_front_if(|(at, _)| *at + period <= now) {
                    upto = rev;
                }
                upto
            }
        };
        if upto > self.compacted
            && let Err(error) = self.compact(upto)
        {
            tracing::warn!(%error, revision = upto, "not compacted");
        }
    }

    /// Makes the batch durable, shows it and answers; or undoes it.
    fn commit(&mut self) {
        let mut failed = None;
        if self.frame.len() > HEAD {
            match self.log.append(&mut self.frame, self.revision) {
                Ok((at, begun)) => {
                    self.unsealed = true;
                    if let Some(segment) = begun {
                        write(&self.shared.index).files.insert(segment.file_id(), segment.data.clone());
                        lock(&self.shared.segments).push(segment);
                    }
                    self.show(at);
                }
                Err(error) => {
                    tracing::error!(%error, "writes not done");
                    self.undo();
                    failed = Some(error);
                }
            }
            self.frame.clear();
            self.frame.resize(HEAD, 0);
            self.look_for_space();
            self.frame.shrink_to(BATCH_BYTES_MAX);
        }
        for answer in self.answers.drain(..) {
            answer(failed.as_ref());
        }
    }

    fn show(&mut self, at: u64) {
        let file = self.log.active.file_id();
        let now = self.shared.options.clock.now();
        let inline = self.shared.options.inline_bytes_max;
        let mut events: Vec<Event> = Vec::new();
        for staged in self.staged.drain(..) {
            match staged {
                Staged::Changes { changes, values } => {
                    let mut index = write(&self.shared.index);
                    for (change, value) in changes.iter().zip(values) {
                        let rev = change.event.kv.mod_revision.0;
                        index.settle(change.place, rev, change.sub, (file, at + value as u64), inline);
                    }
                    drop(index);
                    events.extend(changes.into_iter().map(|change| change.event));
                }
                Staged::Granted(id) => lock(&self.shared.leases).start(id, now),
                Staged::Revoked(..) => {}
            }
        }
        let lease_bytes = lock(&self.shared.leases).bytes();
        self.shared.lease_bytes.store(lease_bytes, Ordering::Relaxed);
        if self.compacted > self.shared.compacted() {
            self.shared.compacted.store(self.compacted, Ordering::Release);
            self.shared.housekeeping.wake();
        }
        // Before the revision: who sees a decision finds the fence.
        self.shared.fenced.store(self.fenced, Ordering::Release);
        let watchers = lock(&self.shared.watchers);
        self.shared.revision.store(self.revision, Ordering::Release);
        watchers.publish(&events);
    }

    fn undo(&mut self) {
        for staged in self.staged.drain(..).rev() {
            match staged {
                Staged::Changes { changes, .. } => Evaluation::undo(&self.shared, changes),
                Staged::Granted(id) => drop(lock(&self.shared.leases).remove(id)),
                Staged::Revoked(id, lease) => lock(&self.shared.leases).restore(id, lease),
            }
        }
        self.revision = self.shared.revision();
        self.compacted = self.shared.compacted();
        self.fenced = self.shared.fenced.load(Ordering::Relaxed);
    }

    /// Nothing came for a while.
    fn idle(&mut self) {
        if self.unsealed {
            self.unsealed = false;
            if let Err(error) = self.log.seal() {
                tracing::warn!(%error, "log not sealed");
            }
        }
        self.look_for_space();
    }

    /// There is space again when what was refused would find some: a smaller write may have found it before.
    fn look_for_space(&mut self) {
        if self.shared.full.load(Ordering::Relaxed) && self.log.make_room(HEAD + self.refused, false).is_ok() {
            self.refused = 0;
            self.shared.full.store(false, Ordering::Relaxed);
        }
    }

    fn tell_progress(&mut self) {
        let now = self.shared.options.clock.now();
        if now >= self.next_progress {
            self.next_progress = now + PROGRESS_INTERVAL;
            lock(&self.shared.watchers).tell_all(false);
        }
    }
}

/// Whether an operation may put something; if not it is allowed when there is no space.
fn puts(op: &Op) -> bool {
    match op {
        Op::Put(_) => true,
        Op::Range(_) | Op::DeleteRange(_) => false,
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).any(puts),
    }
}

fn change_record(change: &Change) -> Record<'_> {
    let kv = &change.event.kv;
    match change.event.kind {
        EventKind::Put => Record::Put(Put {
            key: &kv.key,
            value: &kv.value,
            sub: change.sub,
            rev: kv.mod_revision.0,
            create: kv.create_revision.0,
            version: kv.version,
            lease: kv.lease.0,
        }),
        EventKind::Delete => Record::Delete { key: &kv.key, sub: change.sub, rev: kv.mod_revision.0 },
    }
}
