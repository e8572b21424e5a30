//! The fence, and the one decisive write.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep};

use super::{
    MOVED, MoveError, PLACE, Place,
    follow::Follow,
    record::{Cut, Moved, Standing, json},
    target::{OPS_MAX, Target},
};
use crate::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, KeyValue, LeaseId, Op, OpResponse, PutRequest,
    RangeRequest, Remote, Revision, Store, TxnRequest,
};

/// How long a fence stands at most before it is taken down again: writes wait behind it.
const FENCE_MAX: Duration = Duration::from_secs(3);

/// How long the answer to the decisive write is waited for: until then nobody knows whether it is done.
const DOUBT_MAX: Duration = Duration::from_secs(120);

/// The pause before it is asked for again.
const PAUSE: Duration = Duration::from_millis(100);

/// What the move needs for its end.
pub(super) struct Cutting<'a> {
    pub(super) source: &'a Remote,
    pub(super) target: &'a Target,
    pub(super) id: &'a str,
    pub(super) to: &'a Place,
    /// The lease that the fence stands under.
    pub(super) lease: LeaseId,
    /// The target's revisions of the copy begin above this one; the decision must be below.
    pub(super) above: Revision,
}

/// How an attempt ended.
pub(super) enum Attempt {
    /// The store is in its new place.
    Decided { cut: Cut, held: Duration },
    /// It took too long, and everything goes on as before.
    NotYet(&'static str),
}

impl Cutting<'_> {
    /// Fences the source, brings the rest over, verifies it and decides; or takes the fence down again.
    pub(super) async fn attempt(&self, follow: &mut Follow) -> Result<Attempt, MoveError> {
        let (_, shortest) = self.target.sync_leases().await?;
        // None may end in the source while the fence stands.
        self.target.refresh_source().await?;
        let most = shortest.map_or(FENCE_MAX, |ttl| {
            FENCE_MAX.min(Duration::from_millis(u64::try_from(ttl).unwrap_or(0).saturating_mul(700)))
        });
        let began = Instant::now();
        let fence = self.fence().await?;
        let decided = self.behind(fence, follow, began + most).await;
        match decided {
            Ok(Some(cut)) => Ok(Attempt::Decided { cut, held: began.elapsed() }),
            Ok(None) => {
                self.unfence(fence).await?;
                Ok(Attempt::NotYet("what was left took longer than writes may wait"))
            }
            Err(error @ MoveError::InDoubt(_)) => Err(error),
            Err(error) => {
                // With its lease it falls in any case.
                let _ = self.unfence(fence).await;
                Err(error)
            }
        }
    }

    async fn fence(&self) -> Result<Revision, MoveError> {
        let record = Moved { id: self.id.to_owned(), to: self.to.clone(), copied: None };
        let put = PutRequest { lease: self.lease, ..PutRequest::new(MOVED, json(&record)) };
        let answer = self.write(absent(), Op::Put(put)).await.map_err(MoveError::Source)?;
        answer.ok_or_else(|| {
            MoveError::Refused("somebody else's fence stands, or the store was moved already".to_owned())
        })
    }

    /// A write to the record, if a comparison holds: where it was done.
    async fn write(&self, compare: Compare, op: Op) -> Result<Option<Revision>, Error> {
        let request = TxnRequest { compare: vec![compare], success: vec![op], failure: Vec::new() };
        let answer = self.source.txn(request).await?;
        Ok(answer.succeeded.then_some(answer.revision))
    }

    async fn unfence(&self, fence: Revision) -> Result<(), MoveError> {
        let op = Op::DeleteRange(DeleteRangeRequest::key(MOVED));
        self.write(created(fence), op).await.map_err(MoveError::Source).map(drop)
    }

    /// `None` when it took too long.
    async fn behind(&self, fence: Revision, follow: &mut Follow, end: Instant) -> Result<Option<Cut>, MoveError> {
        while follow.applied < fence {
            if Instant::now() >= end {
                return Ok(None);
            }
            follow.step(self.target, PAUSE).await?;
        }
        let (_, _) = self.target.sync_leases().await?;
        self.target.keep_alive(true).await?;
        let Some(touched) = follow.touched() else { return Ok(None) };
        let touched: Vec<Bytes> = touched.iter().cloned().collect();
        for some in touched.chunks(OPS_MAX) {
            if Instant::now() >= end {
                return Ok(None);
            }
            let (ours, theirs) = tokio::join!(read(self.source, some), read(&self.target.store, some));
            let (ours, theirs) = (ours.map_err(MoveError::Source)?, theirs.map_err(MoveError::Target)?);
            for ((key, one), other) in some.iter().zip(&ours).zip(&theirs) {
                let same = match (one, other) {
                    (None, None) => true,
                    (Some(one), Some(other)) => {
                        (&one.value, one.lease) == (&other.value, other.lease) && other.mod_revision > self.above
                    }
                    _ => false,
                };
                if !same {
                    return Err(MoveError::Differs(key.escape_ascii().to_string()));
                }
            }
        }
        // Nothing but an ended lease could have changed anything since; that would have to be copied too.
        let now = self.source.status().await.map_err(MoveError::Source)?.revision;
        while follow.applied < now {
            if Instant::now() >= end {
                return Ok(None);
            }
            follow.step(self.target, PAUSE).await?;
        }
        let copied = self.target.revision().await?;
        self.target.compact(copied).await?;
        if now.next() >= self.above || Instant::now() >= end {
            return Ok(None);
        }
        self.decide(fence, copied).await
    }

    async fn decide(&self, fence: Revision, copied: Revision) -> Result<Option<Cut>, MoveError> {
        let record = Moved { id: self.id.to_owned(), to: self.to.clone(), copied: Some(copied.0) };
        let value = json(&record);
        let put = Op::Put(PutRequest::new(MOVED, value.clone()));
        let cut = |decided: Revision| Cut { decided: decided.0, copied: copied.0 };
        let error = match self.write(created(fence), put).await {
            Ok(decided) => return Ok(decided.map(cut)),
            Err(error) => error,
        };
        // It may have been done: what stands there says so, and only that.
        let end = Instant::now() + DOUBT_MAX;
        loop {
            match self.look(fence, &value, copied).await {
                Ok(Some(decided)) => return Ok(decided),
                Ok(None) | Err(_) if Instant::now() < end => sleep(PAUSE).await,
                Ok(None) | Err(_) => return Err(MoveError::InDoubt(error)),
            }
        }
    }

    /// Whether it is decided; the outer `None`: that cannot be said yet.
    async fn look(&self, fence: Revision, value: &[u8], copied: Revision) -> Result<Option<Option<Cut>>, Error> {
        let found = self.source.range(RangeRequest::key(MOVED)).await?;
        match found.kvs.first() {
            Some(kv) if kv.value == value => {
                return Ok(Some(Some(Cut { decided: kv.mod_revision.0, copied: copied.0 })));
            }
            Some(kv) if kv.create_revision == fence => return Ok(Some(None)),
            _ => {}
        }
        // An old store's revisions are below the copy's: then the fence has fallen. Else the door asked has gone over.
        if found.revision < self.above {
            return Ok(Some(None));
        }
        let place = self.target.store.range(RangeRequest::key(PLACE)).await?.kvs.into_iter().next();
        let standing = place.and_then(|kv| serde_json::from_slice::<Standing>(&kv.value).ok());
        Ok(standing.and_then(|standing| standing.cut).filter(|cut| cut.copied == copied.0).map(Some))
    }
}

/// Some keys at once, in their order.
async fn read(store: &Remote, keys: &[Bytes]) -> Result<Vec<Option<KeyValue>>, Error> {
    let success = keys.iter().map(|key| Op::Range(RangeRequest::key(key.clone()))).collect();
    let answer = store.txn(TxnRequest { compare: Vec::new(), success, failure: Vec::new() }).await?;
    let found = answer.responses.into_iter().map(|response| match response {
        OpResponse::Range(found) => found.kvs.into_iter().next(),
        OpResponse::Put(_) | OpResponse::DeleteRange(_) | OpResponse::Txn(_) => None,
    });
    Ok(found.collect())
}

fn absent() -> Compare {
    created(Revision(0))
}

fn created(revision: Revision) -> Compare {
    Compare::new(MOVED, CompareOp::Equal, CompareTarget::CreateRevision(revision))
}
