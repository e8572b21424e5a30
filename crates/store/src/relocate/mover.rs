//! Moving a store, from the first look to the last record.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    COPY, MOVED, MOVER, PLACE, Place, RESERVED,
    cut::{Attempt, Cutting},
    follow::Follow,
    pass::pass,
    record::{Copying, Cut, Moved, Standing, json},
    switch::finish,
    target::Target,
};
use crate::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, LeaseGrantRequest, LeaseId, Op, PutRequest,
    RangeRequest, Remote, Revision, Store, TxnRequest,
};

/// Seconds of the lease that the mover holds in the source: so long a fence outlives one that was killed.
const LEASE_SECONDS: i64 = 6;

/// How often leases are looked after.
const BEAT: Duration = Duration::from_millis(500);

/// How far above the source's revision the copy begins at least: what may be written while it is made.
const ROOM_MIN: i64 = 2_000;

/// How long is measured what is written, and for how many such times there is to be room.
const MEASURED: Duration = Duration::from_millis(500);
/// See [`MEASURED`].
const ROOM_TIMES: i64 = 20;

/// Revisions that the target may be behind when the fence is asked for.
const LAG_MAX: i64 = 500;

/// Attempts at the fence, and at a whole copy, before the move is given up.
const CUTS_MAX: usize = 20;
/// See [`CUTS_MAX`].
const COPIES_MAX: usize = 8;

/// Why a store was not moved. Unless it says otherwise, the old place is the truth, and the move can be begun again.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The old place.
    #[error("the store that is to be moved: {0}")]
    Source(#[source] Error),
    /// The new place.
    #[error("the place that it is to be moved to: {0}")]
    Target(#[source] Error),
    /// It is not done, and was not begun.
    #[error("{0}")]
    Refused(String),
    /// A key was not the same behind the fence: somebody else writes to the new place.
    #[error("key {0} in the new place is not what it was made: does somebody write to it?")]
    Differs(String),
    /// It does not come to an end.
    #[error("{0}")]
    GaveUp(String),
    /// The decisive write was sent, and no answer can be had: it may be done.
    #[error("whether the move is decided cannot be said, since the old place does not answer: {0}")]
    InDoubt(#[source] Error),
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done, in a word.
    pub phase: &'static str,
    /// How much of it.
    pub done: u64,
    /// Of how much; 0: nobody knows.
    pub of: u64,
    /// Revisions that the target is behind.
    pub lag: i64,
}

/// What a look at both places found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Where the source is.
    pub revision: Revision,
    /// Keys of the source.
    pub keys: u64,
    /// Its bytes in use.
    pub bytes: u64,
    /// Its leases.
    pub leases: u64,
    /// Where the target is.
    pub target_revision: Revision,
    /// Writes that raise the target's revision above the source's, at least.
    pub raise: i64,
    /// An earlier attempt left its copy, which is gone on with.
    pub resumed: bool,
}

/// A store that was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Where the old numbers end and the new ones begin.
    pub cut: Cut,
    /// Keys in the new place.
    pub keys: u64,
    /// Leases there.
    pub leases: u64,
    /// How long writes were held.
    pub held: Duration,
}

/// A move.
pub struct Mover {
    source: Remote,
    target: Remote,
    to: Place,
    id: String,
    who: String,
}

impl Mover {
    /// From a store to a place, which `target` speaks to. `id`: another one for each attempt; `who`: what others are told.
    pub fn new(source: Remote, target: Remote, to: Place, id: String, who: String) -> Mover {
        Mover { source, target, to, id, who }
    }

    /// Looks at both places, and changes nothing.
    ///
    /// # Errors
    /// `Refused` where the move would be; `Source`, `Target`.
    pub async fn check(&self) -> Result<Check, MoveError> {
        let status = self.source.status().await.map_err(MoveError::Source)?;
        let leases = self.source.leases().await.map_err(MoveError::Source)?.leases.len() as u64;
        let there = self.target.status().await.map_err(MoveError::Target)?;
        let (source, target) = self.clusters().await?;
        if source == target {
            return Err(MoveError::Refused("both are the same store".to_owned()));
        }
        if let Some(moved) = self.record(&self.source, MOVED, MoveError::Source).await? {
            return Err(MoveError::Refused(match serde_json::from_slice::<Moved>(&moved) {
                Ok(Moved { to, copied: Some(_), .. }) => {
                    format!("this store was moved to {} already: reach it there", to.urls.join(","))
                }
                _ => "a fence of another move stands; it falls by itself within seconds".to_owned(),
            }));
        }
        if let Some(who) = self.record(&self.source, MOVER, MoveError::Source).await? {
            let who = String::from_utf8_lossy(&who).into_owned();
            return Err(MoveError::Refused(format!(
                "{who} moves this store already; one that was killed is forgotten in {LEASE_SECONDS} s"
            )));
        }
        let place = self.record(&self.source, PLACE, MoveError::Source).await?;
        if place.is_some() && place == self.record(&self.target, PLACE, MoveError::Target).await? {
            return Err(MoveError::Refused("both are the same store".to_owned()));
        }
        let copying = self.copying().await?;
        if copying.as_ref().is_some_and(|copying| copying.source != source) {
            return Err(MoveError::Refused(
                "the target is an unfinished copy of another store: empty it, or finish that move".to_owned(),
            ));
        }
        let left = self.record(&self.target, MOVED, MoveError::Target).await?.is_some();
        if copying.is_none() && !left {
            let own = RangeRequest { limit: 1, keys_only: true, ..RangeRequest::prefix("") };
            let own = self.target.range(own).await.map_err(MoveError::Target)?;
            if let Some(key) = own.kvs.first() {
                return Err(MoveError::Refused(format!(
                    "the target has {} keys of its own, the first is `{}`: it must be empty",
                    own.count,
                    key.key.escape_ascii()
                )));
            }
        }
        let above = self.above(status.revision, copying.as_ref(), ROOM_MIN);
        Ok(Check {
            revision: status.revision,
            keys: status.keys,
            bytes: status.db_size_in_use,
            leases,
            target_revision: there.revision,
            raise: (above - there.revision.0).max(0),
            resumed: copying.is_some(),
        })
    }

    /// Moves the store. Ended anywhere before its last step, it leaves the old place as the truth, and can be begun again.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn run(&self, report: &mut (dyn FnMut(Progress) + Send)) -> Result<Done, MoveError> {
        self.check().await?;
        let lease = self.hold().await?;
        let target = Target::new(self.target.clone(), self.source.clone(), lease);
        let mut beat = JoinSet::new();
        beat.spawn(keep(self.source.clone(), lease, target.clone()));
        let done = self.steps(lease, &target, report).await;
        beat.shutdown().await;
        // Where the store has gone, the lease has not; else it takes the fence and the mover's mark with it.
        let _ = self.source.lease_revoke(lease).await;
        done
    }

    async fn steps(
        &self,
        lease: LeaseId,
        target: &Target,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Done, MoveError> {
        let before = self.source.status().await.map_err(MoveError::Source)?.revision;
        sleep(MEASURED).await;
        let after = self.source.status().await.map_err(MoveError::Source)?.revision;
        let mut room = ROOM_MIN.max((after.0 - before.0).saturating_mul(ROOM_TIMES));
        let (source, _) = self.clusters().await?;
        let mut away = None;
        for _ in 0..COPIES_MAX {
            let status = self.source.status().await.map_err(MoveError::Source)?;
            let above = self.above(status.revision, self.copying().await?.as_ref(), room);
            let mark = json(&Copying { id: self.id.clone(), source: source.clone(), above });
            self.mark(target, mark.clone()).await?;
            let missing = (above - target.revision().await?.0).max(0);
            target
                .raise(above, mark, &mut |left| {
                    let done = u64::try_from(missing - left).unwrap_or(0);
                    report(Progress { phase: "raising", done, of: missing.unsigned_abs(), lag: 0 });
                })
                .await?;
            match self.copy(Revision(above), lease, target, report).await {
                Ok(Some(done)) => return Ok(done),
                // More was written than there was room for, or history was given up meanwhile.
                Ok(None) => room = room.saturating_mul(4),
                // Nothing is decided, and what is copied stays copied.
                Err(
                    MoveError::Source(error @ Error::Unavailable { .. })
                    | MoveError::Target(error @ Error::Unavailable { .. }),
                ) => {
                    tracing::info!(%error, "the copy is begun again");
                    away = Some(error);
                    sleep(BEAT).await;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = away {
            return Err(MoveError::GaveUp(format!("one of the two places is away too often: {error}")));
        }
        Err(MoveError::GaveUp("more is written to the store than can be copied".to_owned()))
    }

    /// One copy from its beginning to the decision; `None` where it must be begun again.
    async fn copy(
        &self,
        above: Revision,
        lease: LeaseId,
        target: &Target,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<Done>, MoveError> {
        target.sync_leases().await?;
        let status = self.source.status().await.map_err(MoveError::Source)?;
        let of = status.keys;
        let tell = |phase| move |done| Progress { phase, done, of, lag: 0 };
        let copying = tell("copying");
        let copied = pass(&self.source, status.revision, target, above, &mut |done| report(copying(done))).await;
        let Some(_) = restart(copied)? else { return Ok(None) };
        let mut follow = Follow::behind(&self.source, status.revision).await?;
        for _ in 0..CUTS_MAX {
            let Some(()) = self.catch_up(&mut follow, target, report).await? else { return Ok(None) };
            // Whatever is not the same is made so, and then looked at again.
            let verifying = tell("verifying");
            let verified = pass(&self.source, follow.applied, target, above, &mut |done| report(verifying(done))).await;
            let Some(verified) = restart(verified)? else { return Ok(None) };
            if verified.changed > 0 {
                continue;
            }
            follow.verified();
            let Some(()) = self.catch_up(&mut follow, target, report).await? else { return Ok(None) };
            if follow.applied.0 + 2 * LAG_MAX >= above.0 {
                return Ok(None);
            }
            report(Progress { phase: "deciding", done: 0, of: 0, lag: 0 });
            let cutting = Cutting { source: &self.source, target, id: &self.id, to: &self.to, lease, above };
            match cutting.attempt(&mut follow).await? {
                Attempt::Decided { cut, held } => {
                    let standing =
                        Standing { place: self.to.clone(), cut: Some(cut), unfinished: Some(self.id.clone()) };
                    // It is done: what is left, whoever comes to the new place does too.
                    let standing = &standing;
                    if let Err(error) = target.patient(|store| async move { finish(&store, standing).await }).await {
                        tracing::info!(%error, "the mark of the copy is left to the agents");
                    }
                    let keys = self.target.status().await.map_or(of, |status| status.keys.saturating_sub(1));
                    let leases = self.target.leases().await.map_or(0, |leases| leases.leases.len() as u64);
                    return Ok(Some(Done { cut, keys, leases, held }));
                }
                Attempt::NotYet(why) => tracing::info!(why, "the store is not moved yet"),
            }
        }
        Err(MoveError::GaveUp("writes would have to wait for longer than 3 s, however often it is tried".to_owned()))
    }

    /// Follows until little is left; `None` where history was given up before it was read.
    async fn catch_up(
        &self,
        follow: &mut Follow,
        target: &Target,
        report: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Option<()>, MoveError> {
        let began = follow.applied;
        loop {
            let now = self.source.status().await.map_err(MoveError::Source)?.revision;
            let lag = now.0 - follow.applied.0;
            let done = u64::try_from(follow.applied.0 - began.0).unwrap_or(0);
            report(Progress { phase: "following", done, of: u64::try_from(now.0 - began.0).unwrap_or(0), lag });
            if lag <= LAG_MAX {
                return Ok(Some(()));
            }
            let until = Instant::now() + BEAT;
            while Instant::now() < until && follow.applied < now {
                if restart(follow.step(target, BEAT).await)?.is_none() {
                    return Ok(None);
                }
            }
        }
    }

    /// Takes the source for this mover.
    async fn hold(&self) -> Result<LeaseId, MoveError> {
        let request = LeaseGrantRequest { id: LeaseId::NONE, ttl: LEASE_SECONDS };
        let lease = self.source.lease_grant(request).await.map_err(MoveError::Source)?.id;
        let put = PutRequest { lease, ..PutRequest::new(MOVER, self.who.clone()) };
        let absent = CompareTarget::CreateRevision(Revision(0));
        let request = TxnRequest {
            compare: vec![
                Compare::new(MOVER, CompareOp::Equal, absent.clone()),
                Compare::new(MOVED, CompareOp::Equal, absent),
            ],
            success: vec![Op::Put(put)],
            failure: Vec::new(),
        };
        if self.source.txn(request).await.map_err(MoveError::Source)?.succeeded {
            return Ok(lease);
        }
        let _ = self.source.lease_revoke(lease).await;
        Err(MoveError::Refused("somebody else began to move this store just now".to_owned()))
    }

    /// Makes the target a copy that is not finished.
    async fn mark(&self, target: &Target, mark: Vec<u8>) -> Result<(), MoveError> {
        let put = PutRequest::new(COPY, mark);
        target
            .patient(|store| {
                let put = put.clone();
                async move { store.put(put).await }
            })
            .await?;
        // By whatever way the target is reached, it must not be the source again.
        if self.record(&self.source, COPY, MoveError::Source).await?.is_some() {
            let _ = self.target.delete_range(DeleteRangeRequest::key(COPY)).await;
            return Err(MoveError::Refused("both are the same store".to_owned()));
        }
        let success = [MOVED, PLACE].map(|key| Op::DeleteRange(DeleteRangeRequest::key(key))).to_vec();
        let request = TxnRequest { compare: Vec::new(), success, failure: Vec::new() };
        target
            .patient(|store| {
                let request = request.clone();
                async move { store.txn(request).await }
            })
            .await
            .map(drop)
    }

    /// Above which revision the copy is put: that of an earlier attempt as long as it leaves room enough.
    fn above(&self, revision: Revision, copying: Option<&Copying>, room: i64) -> i64 {
        let earlier = copying.map(|copying| copying.above).filter(|above| *above >= revision.0 + room / 2);
        earlier.unwrap_or(revision.0 + room)
    }

    async fn clusters(&self) -> Result<(String, String), MoveError> {
        let source = self.source.cluster().await.map_err(MoveError::Source)?;
        let target = self.target.cluster().await.map_err(MoveError::Target)?;
        Ok((format!("{source:x}"), format!("{target:x}")))
    }

    async fn copying(&self) -> Result<Option<Copying>, MoveError> {
        let found = self.record(&self.target, COPY, MoveError::Target).await?;
        Ok(found.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    async fn record(
        &self,
        store: &Remote,
        key: &'static str,
        side: fn(Error) -> MoveError,
    ) -> Result<Option<bytes::Bytes>, MoveError> {
        debug_assert!(key.starts_with(RESERVED));
        let found = store.range(RangeRequest::key(key)).await.map_err(side)?;
        Ok(found.kvs.into_iter().next().map(|kv| kv.value))
    }
}

/// Keeps the mover's lease in the source and all of them in the target alive.
async fn keep(source: Remote, lease: LeaseId, target: Target) {
    loop {
        for kept in
            [source.lease_keep_alive(lease).await.map(drop).map_err(MoveError::Source), target.keep_alive(false).await]
        {
            if let Err(error) = kept {
                tracing::debug!(%error, "a lease was not kept alive");
            }
        }
        sleep(BEAT).await;
    }
}

/// `None` where the history that was needed is gone.
fn restart<T>(result: Result<T, MoveError>) -> Result<Option<T>, MoveError> {
    match result {
        Err(MoveError::Source(Error::Compacted { .. })) => Ok(None),
        result => result.map(Some),
    }
}
