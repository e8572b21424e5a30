//! A store with a bug.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use regrow_store::{
    BoxFuture, CompactRequest, CompactResponse, DeleteRangeRequest, DeleteRangeResponse, Error, HashRequest,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse,
    LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, LeasesResponse, Op, OpResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Result, Revision, Snapshot, Status, Store, TxnRequest, TxnResponse, Watch, WatchItem,
    WatchRequest, WatchSource,
};

/// What is wrong with it, now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    None,
    /// A read tells what was a few revisions ago, as if it were now.
    StaleRead,
    /// The same, at the revision that it really is of.
    OldRead,
    /// A put is acknowledged and not done.
    LostWrite,
    /// A swap that succeeded is done once more.
    DoubledSwap,
    /// A swap succeeds although its comparison does not hold.
    BlindSwap,
    /// A transaction is done operation by operation.
    SplitTransaction,
    /// A key outlives its lease.
    SurvivingKey,
    /// A deletion says that it deleted and has not.
    LostDeletion,
    LostEvent,
    DoubledEvent,
    /// Two items of a watch change places.
    SwappedItems,
    /// A revision of several events comes in two pieces.
    SplitRevision,
    /// Progress is told before the events.
    EarlyProgress,
    /// Events of the revision at which a watch resumes come again.
    OverlappingResume,
    /// Events of the revision at which a watch resumes are left out.
    GapAtResume,
}

/// A store in front of another, with a bug.
pub struct Planted {
    pub inner: Arc<dyn Store>,
    pub bug: Bug,
    pub count: AtomicU64,
}

impl Planted {
    pub fn new(inner: Arc<dyn Store>, bug: Bug) -> Planted {
        Planted { inner, bug, count: AtomicU64::new(0) }
    }

    /// Whether it is to go wrong this time.
    fn wrong(&self, bug: Bug) -> bool {
        self.bug == bug && self.count.fetch_add(1, Ordering::Relaxed) % 20 == 19
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse> {
        if self.wrong(Bug::StaleRead) || self.wrong(Bug::OldRead) {
            let now = self.inner.range(request.clone()).await?.revision;
            let revision = Revision((now.0 - 40).max(1));
            let old = self.inner.range(RangeRequest { revision, ..request }).await?;
            return Ok(RangeResponse { revision: if self.bug == Bug::StaleRead { now } else { revision }, ..old });
        }
        self.inner.range(request).await
    }

    async fn do_put(&self, request: PutRequest) -> Result<PutResponse> {
        if self.wrong(Bug::LostWrite) {
            let read = self.inner.range(RangeRequest::key(request.key)).await?;
            return Ok(PutResponse { revision: read.revision.next(), prev_kv: read.kvs.first().cloned() });
        }
        self.inner.put(request).await
    }

    async fn delete(&self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        if self.bug == Bug::LostDeletion {
            let read = self.inner.range(RangeRequest::key(request.key.clone())).await?;
            if read.count == 1 && self.wrong(Bug::LostDeletion) {
                return Ok(DeleteRangeResponse { revision: read.revision.next(), deleted: 1, prev_kvs: read.kvs });
            }
        }
        self.inner.delete_range(request).await
    }

    async fn do_txn(&self, request: TxnRequest) -> Result<TxnResponse> {
        if self.wrong(Bug::BlindSwap) {
            return self.inner.txn(TxnRequest { compare: Vec::new(), ..request }).await;
        }
        if self.bug == Bug::SplitTransaction {
            let compare = TxnRequest { compare: request.compare.clone(), ..TxnRequest::default() };
            if self.inner.txn(compare).await?.succeeded && self.wrong(Bug::SplitTransaction) {
                let mut revision = Revision(0);
                for op in request.success {
                    let one = TxnRequest { success: vec![op], ..TxnRequest::default() };
                    revision = self.inner.txn(one).await?.revision;
                    tokio::task::yield_now().await;
                }
                return Ok(TxnResponse { revision, succeeded: true, responses: Vec::new() });
            }
        }
        let done = self.inner.txn(request.clone()).await?;
        if done.succeeded && self.wrong(Bug::DoubledSwap) {
            self.inner.txn(TxnRequest { compare: Vec::new(), ..request }).await?;
        }
        Ok(done)
    }

    async fn revoke(&self, id: LeaseId) -> Result<LeaseRevokeResponse> {
        if self.bug == Bug::SurvivingKey {
            let request = LeaseTimeToLiveRequest { id, keys: true };
            let keys = self.inner.lease_time_to_live(request).await.map_or(Vec::new(), |lease| lease.keys);
            let keep: Vec<Op> = keys.into_iter().take(1).map(|key| Op::Range(RangeRequest::key(key))).collect();
            let kept = self.inner.txn(TxnRequest { success: keep, ..TxnRequest::default() }).await?;
            let done = self.inner.lease_revoke(id).await?;
            for response in kept.responses {
                let OpResponse::Range(found) = response else { continue };
                for kv in found.kvs {
                    self.inner.put(PutRequest { lease: LeaseId::NONE, ..PutRequest::new(kv.key, kv.value) }).await?;
                }
            }
            return Ok(done);
        }
        self.inner.lease_revoke(id).await
    }

    async fn open(&self, request: WatchRequest) -> Result<Watch> {
        let resumed = request.start_revision.0;
        let shift = match self.bug {
            Bug::OverlappingResume if resumed > 2 => -1,
            Bug::GapAtResume if resumed > 2 => 1,
            _ => 0,
        };
        let watch = self.inner.watch(request.from(Revision(resumed + shift))).await?;
        let revision = watch.revision();
        let source = PlantedWatch { inner: watch, bug: self.bug, count: 0, kept: Vec::new() };
        Ok(Watch::new(revision, Box::new(source)))
    }
}

/// A watch with a bug.
struct PlantedWatch {
    inner: Watch,
    bug: Bug,
    count: u64,
    kept: Vec<WatchItem>,
}

impl PlantedWatch {
    async fn item(&mut self) -> Result<WatchItem> {
        if let Some(item) = self.kept.pop() {
            return Ok(item);
        }
        loop {
            let item = self.inner.next().await.unwrap_or(Err(Error::Closed))?;
            let WatchItem::Events { revision, mut events } = item else { return Ok(item) };
            self.count += 1;
            let several = events.len() > 1 && events[0].kv.mod_revision == events[1].kv.mod_revision;
            match self.bug {
                Bug::LostEvent if self.count % 20 == 19 => {
                    events.pop();
                    if events.is_empty() {
                        continue;
                    }
                }
                Bug::DoubledEvent if self.count % 20 == 19 => {
                    self.kept = vec![WatchItem::Events { revision, events: events.clone() }]
                }
                Bug::SwappedItems if self.count % 20 == 19 => {
                    if let Some(Ok(WatchItem::Events { revision, events: next })) = self.inner.next().await {
                        self.kept = vec![WatchItem::Events { revision, events }];
                        events = next;
                    }
                }
                Bug::SplitRevision if several => {
                    let rest = events.split_off(1);
                    self.kept = vec![WatchItem::Events { revision, events: rest }];
                }
                Bug::EarlyProgress if self.count % 20 == 19 => {
                    self.kept = vec![WatchItem::Events { revision, events }];
                    return Ok(WatchItem::Progress { revision });
                }
                _ => {}
            }
            return Ok(WatchItem::Events { revision, events });
        }
    }
}

impl WatchSource for PlantedWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem>> {
        Box::pin(self.item())
    }

    fn request_progress(&mut self) {
        self.inner.request_progress();
    }
}

impl Store for Planted {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(self.read(request))
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.do_put(request))
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        Box::pin(self.delete(request))
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(self.do_txn(request))
    }

    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>> {
        self.inner.compact(request)
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        self.inner.lease_grant(request)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        self.inner.lease_keep_alive(id)
    }

    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        self.inner.lease_time_to_live(request)
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>> {
        self.inner.leases()
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(self.open(request))
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        self.inner.status()
    }

    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>> {
        self.inner.hash(request)
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>> {
        self.inner.snapshot()
    }
}
