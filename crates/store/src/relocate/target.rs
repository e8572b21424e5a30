//! The store that is being filled: changes and leases, each of which may be done again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{COPY, MoveError, RESERVED};
use crate::{
    CompactRequest, DeleteRangeRequest, Error, KeyValue, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, Op,
    PutRequest, Remote, Revision, Store, TxnRequest,
};

/// Operations of one transaction: below etcd's 128.
pub(super) const OPS_MAX: usize = 120;

/// Bytes of one transaction, but for one larger value: below etcd's 1.5 MiB.
pub(super) const BYTES_MAX: usize = 1_000_000;

/// How long the target may be away before the move is given up.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// Puts in flight while revisions are raised.
const RAISERS: usize = 64;

/// Revisions of raising that are kept before they are given up.
const RAISE_KEPT: i64 = 50_000;

/// One key as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    Put(KeyValue),
    Delete(Bytes),
}

impl Change {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Change::Put(kv) => kv.key.len() + kv.value.len() + 64,
            Change::Delete(key) => key.len() + 64,
        }
    }
}

/// The store that is being filled, and the one that is copied, for its leases.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) store: Remote,
    source: Remote,
    leases: Arc<Mutex<Leases>>,
}

#[derive(Default)]
struct Leases {
    /// Those that stay behind: the mover's own.
    left_out: BTreeSet<i64>,
    /// Those in the target, with their seconds, and when they are to be kept alive.
    held: BTreeMap<i64, (i64, Instant)>,
}

impl Target {
    pub(super) fn new(store: Remote, source: Remote, own: LeaseId) -> Target {
        let leases = Leases { left_out: BTreeSet::from([own.0]), held: BTreeMap::new() };
        Target { store, source, leases: Arc::new(Mutex::new(leases)) }
    }

    fn leases(&self) -> MutexGuard<'_, Leases> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something again and again while the target is away.
    pub(super) async fn patient<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: impl Fn(Remote) -> F,
    ) -> Result<T, MoveError> {
        let end = Instant::now() + AWAY_MAX;
        loop {
            match what(self.store.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(Error::Unavailable { .. } | Error::Fenced | Error::Closed) if Instant::now() < end => {
                    sleep(PAUSE).await;
                }
                Err(error) => return Err(MoveError::Target(error)),
            }
        }
    }

    /// Makes keys as they are to be, in one transaction: at most [`OPS_MAX`] of them, each once.
    pub(super) async fn apply(&self, mut changes: Vec<Change>) -> Result<(), MoveError> {
        if changes.is_empty() {
            return Ok(());
        }
        // The first refusal may be for a lease that is not there yet; the second is not.
        for last in [false, true] {
            let ops: Vec<Op> = changes.iter().map(op).collect();
            let request = TxnRequest { compare: Vec::new(), success: ops, failure: Vec::new() };
            let done = self.patient(|store| {
                let request = request.clone();
                async move { store.txn(request).await }
            });
            match done.await {
                Err(MoveError::Target(Error::LeaseNotFound(_))) if !last => self.find_leases(&mut changes).await?,
                done => return done.map(drop),
            }
        }
        Ok(())
    }

    /// Grants the leases that keys are under, and leaves out those that have ended in the source meanwhile: that their keys
    /// are gone follows.
    async fn find_leases(&self, changes: &mut [Change]) -> Result<(), MoveError> {
        let mut ended = BTreeSet::new();
        let wanted: BTreeSet<i64> = changes.iter().filter_map(lease_of).collect();
        for id in wanted {
            self.leases().held.remove(&id);
            if !self.hold(LeaseId(id)).await? {
                ended.insert(id);
            }
        }
        for change in changes {
            if let Change::Put(kv) = change
                && ended.contains(&kv.lease.0)
            {
                kv.lease = LeaseId::NONE;
            }
        }
        Ok(())
    }

    /// Sees to it that a lease of the source is in the target; `false` if the source has it no more.
    async fn hold(&self, id: LeaseId) -> Result<bool, MoveError> {
        if self.leases().held.contains_key(&id.0) {
            return Ok(true);
        }
        let asked = self.source.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: false }).await;
        let ttl = match asked {
            Ok(lease) => lease.granted_ttl.max(1),
            Err(Error::LeaseNotFound(_)) => return Ok(false),
            Err(error) => return Err(MoveError::Source(error)),
        };
        let request = LeaseGrantRequest { id, ttl };
        match self.patient(|store| async move { store.lease_grant(request).await }).await {
            Ok(_) | Err(MoveError::Target(Error::LeaseExists(_))) => {}
            Err(error) => return Err(error),
        }
        self.leases().held.insert(id.0, (ttl, Instant::now()));
        Ok(true)
    }

    /// Makes the target's leases those of the source; how many there are, and the shortest time one has.
    pub(super) async fn sync_leases(&self) -> Result<(usize, Option<i64>), MoveError> {
        let wanted = self.source.leases().await.map_err(MoveError::Source)?;
        let left_out = self.leases().left_out.clone();
        let wanted: BTreeSet<i64> =
            wanted.leases.into_iter().map(|id| id.0).filter(|id| !left_out.contains(id)).collect();
        let there = self.patient(|store| async move { store.leases().await }).await?;
        let there: BTreeSet<i64> = there.leases.into_iter().map(|id| id.0).collect();
        self.leases().held.retain(|id, _| there.contains(id) && wanted.contains(id));
        for id in there.difference(&wanted) {
            match self.patient(|store| async move { store.lease_revoke(LeaseId(*id)).await }).await {
                Ok(_) | Err(MoveError::Target(Error::LeaseNotFound(_))) => {}
                Err(error) => return Err(error),
            }
        }
        for id in &wanted {
            self.hold(LeaseId(*id)).await?;
        }
        let shortest = self.leases().held.values().map(|(ttl, _)| *ttl).min();
        Ok((wanted.len(), shortest))
    }

    /// Keeps those of the target's leases alive whose time it is; `all`: every one, now.
    pub(super) async fn keep_alive(&self, all: bool) -> Result<(), MoveError> {
        let now = Instant::now();
        let due: Vec<i64> =
            self.leases().held.iter().filter(|(_, (_, at))| all || *at <= now).map(|(id, _)| *id).collect();
        for id in due {
            match self.store.lease_keep_alive(LeaseId(id)).await {
                Ok(alive) => {
                    let next = Instant::now() + Duration::from_millis(u64::try_from(alive.ttl).unwrap_or(1) * 333);
                    self.leases().held.insert(id, (alive.ttl, next));
                }
                // It is granted again when it is missed.
                Err(Error::LeaseNotFound(_)) => drop(self.leases().held.remove(&id)),
                Err(error) => return Err(MoveError::Target(error)),
            }
        }
        Ok(())
    }

    /// Lets the source's leases live for their full time from now, so that none ends behind a short fence.
    pub(super) async fn refresh_source(&self) -> Result<(), MoveError> {
        let ids: Vec<i64> = self.leases().held.keys().copied().collect();
        for id in ids {
            match self.source.lease_keep_alive(LeaseId(id)).await {
                Ok(_) | Err(Error::LeaseNotFound(_)) => {}
                Err(error) => return Err(MoveError::Source(error)),
            }
        }
        Ok(())
    }

    /// Where the target is.
    pub(super) async fn revision(&self) -> Result<Revision, MoveError> {
        Ok(self.patient(|store| async move { store.status().await }).await?.revision)
    }

    /// Raises the target's revision to `to`, a write for each; `report` is told how many are left.
    pub(super) async fn raise(
        &self,
        to: i64,
        mark: Vec<u8>,
        report: &mut (dyn FnMut(i64) + Send),
    ) -> Result<(), MoveError> {
        let mut compacted = 0;
        loop {
            let now = self.revision().await?.0;
            let missing = to - now;
            report(missing.max(0));
            if now - compacted > RAISE_KEPT {
                self.compact(Revision(now)).await?;
                compacted = now;
            }
            if missing <= 0 {
                return Ok(());
            }
            // In parts, so that it is told how far it is.
            let left = Arc::new(AtomicI64::new(missing.min(2_000)));
            let mut raisers = JoinSet::new();
            for _ in 0..RAISERS {
                let (target, left, mark) = (self.clone(), left.clone(), mark.clone());
                raisers.spawn(async move {
                    while left.fetch_sub(1, Ordering::Relaxed) > 0 {
                        let put = PutRequest::new(COPY, mark.clone());
                        target
                            .patient(|store| {
                                let put = put.clone();
                                async move { store.put(put).await }
                            })
                            .await?;
                    }
                    Ok::<(), MoveError>(())
                });
            }
            while let Some(raised) = raisers.join_next().await {
                raised.map_err(|error| MoveError::GaveUp(format!("a task of the move ended badly: {error}")))??;
            }
        }
    }

    /// Gives up the target's history below a revision.
    pub(super) async fn compact(&self, revision: Revision) -> Result<(), MoveError> {
        let request = CompactRequest { revision, physical: false };
        match self.patient(|store| async move { store.compact(request).await }).await {
            Ok(_) | Err(MoveError::Target(Error::Compacted { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn op(change: &Change) -> Op {
    match change {
        Change::Put(kv) => Op::Put(PutRequest { lease: kv.lease, ..PutRequest::new(kv.key.clone(), kv.value.clone()) }),
        Change::Delete(key) => Op::DeleteRange(DeleteRangeRequest::key(key.clone())),
    }
}

fn lease_of(change: &Change) -> Option<i64> {
    match change {
        Change::Put(kv) if kv.lease != LeaseId::NONE => Some(kv.lease.0),
        Change::Put(_) | Change::Delete(_) => None,
    }
}

/// Whether a key stays where it is.
pub(super) fn is_reserved(key: &[u8]) -> bool {
    key.starts_with(RESERVED.as_bytes())
}
