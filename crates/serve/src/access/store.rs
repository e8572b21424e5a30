//! A store as one caller may use it.
//!
//! **Guarantees.** Nothing is asked of the store behind before the caller may. A transaction is looked at whole, both
//! branches and what is nested in them, before anything of it is done. A lease to which keys are attached that the caller
//! may not change can be neither revoked nor kept alive. Watches end with the caller's credentials.
//!
//! **Caveats.** Between the look at a lease's keys and what is done to it somebody may attach another key, as in etcd.

use std::sync::Arc;

use bytes::Bytes;
use regrow_control::access::{Access, Asked, Sight, Span};
use regrow_store::{
    BoxFuture, CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, Error, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, Op, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Snapshot, Status, Store, TxnRequest, TxnResponse, Watch, WatchRequest,
};

use super::{
    Visit,
    audit::{Outcome, What},
    screen,
};

/// See the module.
pub(crate) struct Guarded {
    inner: Arc<dyn Store>,
    visit: Visit,
    /// What is asked was looked at before, as a whole; only what is done is written down.
    is_checked: bool,
}

impl Guarded {
    pub(crate) fn new(inner: Arc<dyn Store>, visit: Visit) -> Guarded {
        Guarded { inner, visit, is_checked: false }
    }

    /// For a door that has looked at what is asked, and asks the store for more than that in order to do it.
    pub(crate) fn checked(inner: Arc<dyn Store>, visit: Visit) -> Guarded {
        Guarded { inner, visit, is_checked: true }
    }

    fn may(&self, asked: &Asked<'_>, did: &'static str, what: impl FnOnce() -> What) -> Result<Sight> {
        if self.is_checked {
            return Ok(self.visit.caller().lasts().map(|()| Sight::Whole)?);
        }
        Ok(self.visit.may(asked, did, what)?)
    }

    /// Whether a change is written down: agents' own are not, they are many and their events tell of them.
    fn is_told(&self) -> bool {
        !matches!(self.visit.caller().identity(), Some(regrow_control::access::Identity::Node { .. }))
    }

    /// Writes down what came of a change.
    fn done<T>(&self, did: &'static str, what: What, result: Result<T>, revision: impl FnOnce(&T) -> i64) -> Result<T> {
        let outcome = match &result {
            Ok(answer) => Outcome::Done(Some(revision(answer))),
            Err(error) => Outcome::Failed(error.to_string()),
        };
        self.visit.tell(did, what, outcome);
        result
    }

    /// Looks at every key that is attached to a lease.
    async fn may_change(&self, id: LeaseId, did: &'static str) -> Result<()> {
        let what = || What::Named(format!("lease/{id}"));
        self.may(&Asked::Leases(Access::Write), did, what)?;
        if self.is_checked || self.visit.caller().is_above_all() {
            return Ok(());
        }
        let lease = self.inner.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true }).await?;
        for key in &lease.keys {
            self.may(&Asked::Keys(Access::Write, Span::key(key)), did, what)?;
        }
        Ok(())
    }

    /// Looks at a transaction whole. `spans`: what it may change, and whether that is all of them.
    fn may_txn(&self, request: &TxnRequest, spans: &mut Vec<(Bytes, Bytes)>) -> Result<()> {
        let mut one = |access, key: &Bytes, end: &Bytes| {
            let did = if access == Access::Write { "txn" } else { "read" };
            let what = || What::Keys(vec![(key.clone(), end.clone())]);
            match self.may(&Asked::Keys(access, Span::new(key, end)), did, what)? {
                Sight::Whole => {}
                // Its answer would have to be put together from pieces; who needs that asks without a transaction.
                Sight::WithoutCredentials => {
                    let who = self.visit.caller().name();
                    let reason =
                        format!("{who} may not read credentials: leave /regrow/access/ out of a transaction's ranges");
                    self.visit.tell(did, what(), Outcome::Refused(reason.clone()));
                    return Err(Error::Denied { reason });
                }
            }
            if access == Access::Write {
                spans.push((key.clone(), end.clone()));
            }
            Ok(())
        };
        let mut inner = Vec::new();
        for compare in &request.compare {
            one(Access::Read, &compare.key, &compare.range_end)?;
        }
        for op in request.success.iter().chain(&request.failure) {
            match op {
                Op::Range(range) => one(Access::Read, &range.key, &range.range_end)?,
                Op::Put(put) => one(Access::Write, &put.key, &Bytes::new())?,
                Op::DeleteRange(delete) => one(Access::Write, &delete.key, &delete.range_end)?,
                Op::Txn(txn) => inner.push(txn),
            }
        }
        // Messages nest about 50 deep, which is where the decoder stops.
        inner.into_iter().try_for_each(|txn| self.may_txn(txn, spans))
    }
}

fn refuse<T: Send + 'static>(error: Error) -> BoxFuture<'static, Result<T>> {
    Box::pin(std::future::ready(Err(error)))
}

impl Store for Guarded {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        let asked = Asked::Keys(Access::Read, Span::new(&request.key, &request.range_end));
        match self.may(&asked, "read", || What::Keys(vec![(request.key.clone(), request.range_end.clone())])) {
            Ok(Sight::Whole) => self.inner.range(request),
            Ok(Sight::WithoutCredentials) => Box::pin(screen::range(&*self.inner, request)),
            Err(error) => refuse(error),
        }
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        let asked = Asked::Keys(Access::Write, Span::key(&request.key));
        if let Err(error) = self.may(&asked, "put", || What::Key(request.key.clone())) {
            return refuse(error);
        }
        if !self.is_told() {
            return self.inner.put(request);
        }
        let key = request.key.clone();
        Box::pin(
            async move { self.done("put", What::Key(key), self.inner.put(request).await, |answer| answer.revision.0) },
        )
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        let asked = Asked::Keys(Access::Write, Span::new(&request.key, &request.range_end));
        let what = || What::Keys(vec![(request.key.clone(), request.range_end.clone())]);
        if let Err(error) = self.may(&asked, "delete", what) {
            return refuse(error);
        }
        if !self.is_told() {
            return self.inner.delete_range(request);
        }
        let what = what();
        Box::pin(async move {
            self.done("delete", what, self.inner.delete_range(request).await, |answer| answer.revision.0)
        })
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        let mut spans = Vec::new();
        if let Err(error) = self.may_txn(&request, &mut spans) {
            return refuse(error);
        }
        if spans.is_empty() || !self.is_told() {
            return self.inner.txn(request);
        }
        Box::pin(async move {
            self.done("txn", What::Keys(spans), self.inner.txn(request).await, |answer| answer.revision.0)
        })
    }

    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>> {
        let what = move || What::Named(format!("revision/{}", request.revision.0));
        if let Err(error) = self.may(&Asked::Care("compact the store"), "compact", what) {
            return refuse(error);
        }
        Box::pin(
            async move { self.done("compact", what(), self.inner.compact(request).await, |answer| answer.revision.0) },
        )
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        let what = |id: LeaseId| What::Named(format!("lease/{id}"));
        if let Err(error) = self.may(&Asked::Leases(Access::Write), "lease-grant", || what(request.id)) {
            return refuse(error);
        }
        if !self.is_told() {
            return self.inner.lease_grant(request);
        }
        Box::pin(async move {
            let granted = self.inner.lease_grant(request).await;
            let id = granted.as_ref().map_or(request.id, |granted| granted.id);
            self.done("lease-grant", what(id), granted, |answer| answer.revision.0)
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(async move {
            self.may_change(id, "lease-revoke").await?;
            let revoked = self.inner.lease_revoke(id).await;
            if !self.is_told() {
                return revoked;
            }
            self.done("lease-revoke", What::Named(format!("lease/{id}")), revoked, |answer| answer.revision.0)
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(async move {
            self.may_change(id, "lease-keep-alive").await?;
            self.inner.lease_keep_alive(id).await
        })
    }

    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        let what = move || What::Named(format!("lease/{}", request.id));
        if let Err(error) = self.may(&Asked::Leases(Access::Read), "read", what) {
            return refuse(error);
        }
        Box::pin(async move {
            let lease = self.inner.lease_time_to_live(request).await?;
            for key in &lease.keys {
                self.may(&Asked::Keys(Access::Read, Span::key(key)), "read", what)?;
            }
            Ok(lease)
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>> {
        match self.may(&Asked::Leases(Access::Read), "read", || What::Named("leases".to_owned())) {
            Ok(_) => self.inner.leases(),
            Err(error) => refuse(error),
        }
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        let first: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let asked = Asked::Keys(Access::Read, Span::new(first, &request.range_end));
        let sight = self.may(&asked, "watch", || What::Keys(vec![(request.key.clone(), request.range_end.clone())]));
        match sight {
            Err(error) => refuse(error),
            Ok(sight) => Box::pin(async move {
                let watch = self.inner.watch(request).await?;
                Ok(screen::watch(watch, self.visit.caller().clone(), sight))
            }),
        }
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        match self.may(&Asked::Store, "read", || What::Named("status".to_owned())) {
            Ok(_) => self.inner.status(),
            Err(error) => refuse(error),
        }
    }

    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>> {
        match self.may(&Asked::Care("take a checksum of the store"), "hash", || What::Named("store".to_owned())) {
            Ok(_) => self.inner.hash(request),
            Err(error) => refuse(error),
        }
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>> {
        match self.may(&Asked::Care("copy the whole store"), "snapshot", || What::Named("store".to_owned())) {
            Err(error) => refuse(error),
            Ok(_) => Box::pin(async move {
                let reader = self.visit.caller().clone();
                let snapshot = self.inner.snapshot().await.map(|snapshot| screen::snapshot(snapshot, reader));
                self.done("snapshot", What::Named("store".to_owned()), snapshot, |snapshot| snapshot.revision().0)
            }),
        }
    }
}
