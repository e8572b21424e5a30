//! The store, wherever it is.

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    COPY, PLACE, RESERVED,
    record::{Copying, Moved, Standing, json},
    side::{Gone, Origin, Side, Ways, dispatch, is_reserved},
    watch::carried,
};
use crate::{
    BoxFuture, CompactRequest, CompactResponse, Compare, CompareOp, CompareTarget, DeleteRangeRequest,
    DeleteRangeResponse, Error, EventKind, HashRequest, HashResponse, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
    LeaseId, LeaseKeepAliveResponse, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    LeasesResponse, Op, OpResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, Result, Revision, Snapshot,
    Status, Store, TxnRequest, TxnResponse, Watch, WatchItem, WatchRequest, check, limits::TXN_OPS_MAX,
};

/// How long a request waits for a fence to fall; a mover keeps one for 3 s at most, or its lease ends it.
const HOLD_MAX: Duration = Duration::from_secs(15);

/// How often a request that waits looks for itself.
const LOOK: Duration = Duration::from_millis(100);

/// The pause before the store is asked again where it is.
const PAUSE: Duration = Duration::from_millis(500);

/// How often the last record of a move is tried; somebody else may write it too.
const FINISH_MAX: usize = 20;

/// A store that may move. A handle is cheap to clone.
///
/// **Guarantees.** Those of [`Store`], across a move too: see the module. A watch goes on, without a gap or a repeat, with
/// the new store's revisions, which are above the old one's. What asks for an old revision of the new store, or compares
/// with one so that the answer could be wrong, is told `Compacted`.
#[derive(Clone)]
pub struct Switch(Arc<Inner>);

pub(super) struct Inner {
    side: Mutex<Arc<Side>>,
    changed: watch::Sender<u64>,
    /// Held while the store goes over.
    going: tokio::sync::Mutex<()>,
    ways: Arc<dyn Ways>,
}

impl Switch {
    /// The store at `origin`, by the settings or, if `standing` says so, because it was moved there. Must be called within
    /// a tokio runtime; a task of it follows the store until the last handle is gone.
    pub fn new(origin: Origin, standing: Option<Standing>, ways: impl Ways + 'static) -> Switch {
        let ways: Arc<dyn Ways> = Arc::new(ways);
        let side = Side::new(origin, standing, None);
        let inner = Arc::new(Inner {
            side: Mutex::new(side.clone()),
            changed: watch::Sender::new(0),
            going: tokio::sync::Mutex::default(),
            ways: ways.clone(),
        });
        tokio::spawn(finish_at(side.clone(), ways));
        tokio::spawn(follow(Arc::downgrade(&inner), side));
        Switch(inner)
    }

    /// Told each time the store has gone to another place: revisions that were read before mean nothing any more.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Operations that the store takes in one transaction; `hosted` in the one of this process.
    pub fn txn_ops_max(&self, hosted: usize) -> usize {
        match self.0.side().origin {
            Origin::Hosted(_) => hosted,
            // One is taken by the comparison around it.
            Origin::Elsewhere(_) => TXN_OPS_MAX - 1,
        }
    }

    /// Where the store is, if it was moved.
    pub fn standing(&self) -> Option<Standing> {
        self.0.side().standing.clone()
    }

    async fn op(&self, op: Op) -> Result<OpResponse> {
        let deadline = Instant::now() + HOLD_MAX;
        loop {
            let side = self.0.side();
            outdated(&side, &op)?;
            let answer = side.attempt(op.clone()).await?;
            match answer {
                // A record of a move is done where it was done: its author must hear of that, and not of the new place.
                Some(answer) if is_reserved(&op) && !is_read(&op) => return Ok(answer),
                Some(answer) if !self.0.is_left(&side).await? => return Ok(answer),
                Some(_) => {}
                // Reads go on as long as nothing is decided, which is looked at behind them.
                None if is_read(&op) => {
                    let answer = dispatch(side.store(), op.clone()).await?;
                    match side.moved().await? {
                        Some(kv) if self.0.obey(&side, &kv).await? => {}
                        _ => return Ok(answer),
                    }
                }
                None => self.0.wait(&side, deadline).await?,
            }
        }
    }

    /// Something that is not behind the fence, at the side where the store is when it is done.
    async fn at_side<T, F: Future<Output = Result<T>>>(&self, what: impl Fn(Arc<Side>) -> F) -> Result<T> {
        let deadline = Instant::now() + HOLD_MAX;
        loop {
            let side = self.0.side();
            match what(side.clone()).await {
                Err(Error::Fenced) => self.0.wait(&side, deadline).await?,
                answer => {
                    if !self.0.is_left(&side).await? {
                        return answer;
                    }
                }
            }
        }
    }

    /// The same for what etcd does behind no comparison: where a fence stands afterwards, its end is waited for, and where
    /// the store has gone by then it is done there too. `what` is told the answer of the place before.
    async fn unfenced<T: Clone, F: Future<Output = Result<T>>>(
        &self,
        what: impl Fn(Arc<Side>, Option<T>) -> F,
    ) -> Result<T> {
        let deadline = Instant::now() + HOLD_MAX;
        let mut before = None;
        loop {
            let side = self.0.side();
            let answer = match what(side.clone(), before.clone()).await {
                Err(Error::Fenced) => {
                    self.0.wait(&side, deadline).await?;
                    continue;
                }
                answer => answer?,
            };
            if matches!(side.origin, Origin::Elsewhere(_)) {
                self.0.wait(&side, deadline).await?;
            }
            if !self.0.is_left(&side).await? {
                return Ok(answer);
            }
            before = Some(answer);
        }
    }
}

impl Inner {
    pub(super) fn side(&self) -> Arc<Side> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the store has gone from a side, so that its answer does not count.
    pub(super) async fn is_left(&self, side: &Arc<Side>) -> Result<bool> {
        if side.gone().is_some() {
            return Ok(true);
        }
        if !side.is_suspect() {
            return Ok(false);
        }
        match side.moved().await? {
            Some(kv) => self.obey(side, &kv).await,
            None => Ok(false),
        }
    }

    /// Waits until a fence has fallen, or the store is elsewhere.
    async fn wait(&self, side: &Arc<Side>, deadline: Instant) -> Result<()> {
        loop {
            if side.gone().is_some() {
                return Ok(());
            }
            match side.moved().await? {
                None => return Ok(()),
                Some(kv) if self.obey(side, &kv).await? => return Ok(()),
                Some(_) => {}
            }
            if Instant::now() >= deadline {
                return Err(Error::Fenced);
            }
            // Over when the store goes; a fence that falls is seen at the next look.
            let _ = timeout(LOOK, side.left()).await;
        }
    }

    /// Goes over to the new place if a record says that it is decided.
    async fn obey(&self, side: &Arc<Side>, kv: &KeyValue) -> Result<bool> {
        let Some(moved) = Moved::read(kv) else { return Ok(false) };
        let Some(standing) = moved.standing(kv.mod_revision) else { return Ok(false) };
        self.go(side, standing).await?;
        Ok(true)
    }

    async fn go(&self, side: &Arc<Side>, standing: Standing) -> Result<()> {
        let _one = self.going.lock().await;
        if side.gone().is_some() {
            return Ok(());
        }
        let origin = self.ways.open(&standing)?;
        remember(&*self.ways, &standing);
        tracing::info!(to = ?standing.place.urls, cut = ?standing.cut, "the store is in another place");
        let next = Side::new(origin, Some(standing.clone()), Some(side.clone()));
        *self.side.lock().unwrap_or_else(PoisonError::into_inner) = next.clone();
        side.leave(Gone { next: next.clone(), cut: standing.cut });
        self.changed.send_modify(|changes| *changes += 1);
        tokio::spawn(finish_at(next, self.ways.clone()));
        Ok(())
    }
}

fn remember(ways: &dyn Ways, standing: &Standing) {
    if let Err(error) = ways.remember(standing) {
        tracing::error!(%error, "cannot keep where the store is now; the old store tells it again");
    }
}

/// Finishes the move by which a store came to its place, if that may not have been done: whoever was to do it may have been
/// killed, and so may we. It is forgotten when it is done, and tried again by the next who starts when it cannot be.
async fn finish_at(side: Arc<Side>, ways: Arc<dyn Ways>) {
    let Some(standing) = side.standing.as_ref().filter(|standing| standing.unfinished.is_some()) else { return };
    for _ in 0..FINISH_MAX {
        match finish(side.store(), standing).await {
            // It may be somewhere else already.
            Ok(()) if side.gone().is_some() => return,
            Ok(()) => return remember(&*ways, &Standing { unfinished: None, ..standing.clone() }),
            Err(error) => tracing::debug!(%error, "the mark of the copy is still there"),
        }
        sleep(PAUSE).await;
    }
}

/// Takes the mark of a copy away and says where the store is. May run anywhere, any number of times at once.
pub(super) async fn finish(store: &dyn Store, standing: &Standing) -> Result<()> {
    let Some(kv) = store.range(RangeRequest::key(COPY)).await?.kvs.into_iter().next() else { return Ok(()) };
    if serde_json::from_slice::<Copying>(&kv.value).is_ok_and(|copying| Some(copying.id) != standing.unfinished) {
        return Ok(());
    }
    let same = CompareTarget::ModRevision(kv.mod_revision);
    let finished = Standing { unfinished: None, ..standing.clone() };
    let success =
        vec![Op::DeleteRange(DeleteRangeRequest::key(COPY)), Op::Put(PutRequest::new(PLACE, json(&finished)))];
    let compare = vec![Compare::new(COPY, CompareOp::Equal, same)];
    store.txn(TxnRequest { compare, success, failure: Vec::new() }).await.map(drop)
}

/// Watches a side for its records until the store is gone from it, or nobody uses it any more.
async fn follow(inner: Weak<Inner>, side: Arc<Side>) {
    let mut side = side;
    loop {
        if let Some(gone) = side.gone() {
            side = gone.next;
        }
        match look(&inner, &side).await {
            Ok(()) => {}
            Err(Error::Closed) => return,
            Err(error) => tracing::debug!(%error, "cannot see whether the store moves"),
        }
        if inner.strong_count() == 0 {
            return;
        }
        if side.gone().is_none() {
            let _ = timeout(PAUSE, side.left()).await;
        }
    }
}

async fn look(inner: &Weak<Inner>, side: &Arc<Side>) -> Result<()> {
    let found = side.store().range(RangeRequest::prefix(RESERVED)).await?;
    for kv in &found.kvs {
        read(inner, side, kv).await?;
    }
    let mut watch = side.store().watch(WatchRequest::prefix(RESERVED).from(found.revision.next())).await?;
    loop {
        let item = tokio::select! {
            item = watch.next() => item,
            () = side.left() => return Ok(()),
            () = sleep(10 * PAUSE) => match inner.strong_count() {
                0 => return Ok(()),
                _ => continue,
            },
        };
        match item {
            Some(Ok(WatchItem::Events { events, .. })) => {
                for event in events.iter().filter(|event| event.kind == EventKind::Put) {
                    read(inner, side, &event.kv).await?;
                }
            }
            Some(Ok(WatchItem::Progress { .. })) => {}
            Some(Err(error)) => return Err(error),
            None => return Ok(()),
        }
    }
}

async fn read(inner: &Weak<Inner>, side: &Arc<Side>, kv: &KeyValue) -> Result<()> {
    let Some(inner) = inner.upgrade() else { return Ok(()) };
    match &kv.key[..] {
        key if key == super::MOVED.as_bytes() => inner.obey(side, kv).await.map(drop),
        key if key == PLACE.as_bytes() => {
            // Of use to who came by a door that passes on to the store's place; a store of this process knows better.
            let Ok(standing) = serde_json::from_slice::<Standing>(&kv.value) else { return Ok(()) };
            let known = side.standing.as_ref().is_some_and(|known| known.place == standing.place);
            if known || matches!(side.origin, Origin::Hosted(_)) {
                return Ok(());
            }
            inner.go(side, Standing { cut: None, ..standing }).await
        }
        _ => Ok(()),
    }
}

/// Refuses what could be answered wrongly because it has a number of before the move: see `docs/design/0052-store-move.md`.
fn outdated(side: &Side, op: &Op) -> Result<()> {
    let Some(cut) = side.cut() else { return Ok(()) };
    let old = |revision: Revision| (1..=cut.decided).contains(&revision.0);
    let refuse = |requested| Err(Error::Compacted { requested, compacted: Revision(cut.copied) });
    match op {
        Op::Range(request) => {
            let bounds = [
                request.min_mod_revision,
                request.max_mod_revision,
                request.min_create_revision,
                request.max_create_revision,
                request.revision,
            ];
            bounds.into_iter().find(|revision| old(*revision)).map_or(Ok(()), refuse)
        }
        Op::Put(_) | Op::DeleteRange(_) => Ok(()),
        Op::Txn(request) => {
            let wrong = request.compare.iter().find_map(|compare| match (&compare.target, compare.op) {
                (
                    CompareTarget::CreateRevision(revision) | CompareTarget::ModRevision(revision),
                    CompareOp::Greater | CompareOp::NotEqual,
                ) if old(*revision) => Some(*revision),
                _ => None,
            });
            wrong.map_or(Ok(()), refuse)?;
            request.success.iter().chain(&request.failure).try_for_each(|op| outdated(side, op))
        }
    }
}

fn is_read(op: &Op) -> bool {
    match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::DeleteRange(_) => false,
        Op::Txn(request) => check::is_read_only(request),
    }
}

impl Store for Switch {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            let side = self.0.side();
            if let (Some(cut), Some(before)) = (side.cut(), &side.before)
                && (1..=cut.decided).contains(&request.revision.0)
            {
                // What was before the move, the old place may still tell.
                let found = before.store().range(request).await;
                return found
                    .map(|found| RangeResponse { revision: found.revision.max(Revision(cut.copied)), ..found });
            }
            match self.op(Op::Range(request)).await? {
                OpResponse::Range(response) => Ok(response),
                _ => unreachable!("a range is answered as a range"),
            }
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(async move {
            match self.op(Op::Put(request)).await? {
                OpResponse::Put(response) => Ok(response),
                _ => unreachable!("a put is answered as a put"),
            }
        })
    }

    fn delete_range(&self, request: DeleteRangeRequest) -> BoxFuture<'_, Result<DeleteRangeResponse>> {
        Box::pin(async move {
            match self.op(Op::DeleteRange(request)).await? {
                OpResponse::DeleteRange(response) => Ok(response),
                _ => unreachable!("a deletion is answered as a deletion"),
            }
        })
    }

    fn txn(&self, request: TxnRequest) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            match self.op(Op::Txn(request)).await? {
                OpResponse::Txn(response) => Ok(response),
                _ => unreachable!("a transaction is answered as a transaction"),
            }
        })
    }

    fn compact(&self, request: CompactRequest) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(self.at_side(move |side| async move { side.store().compact(request).await }))
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.unfenced(move |side, before: Option<LeaseGrantResponse>| async move {
            let id = before.map_or(request.id, |before| before.id);
            match (side.store().lease_grant(LeaseGrantRequest { id, ..request }).await, before) {
                // It was copied.
                (Err(Error::LeaseExists(_)), Some(before)) => Ok(before),
                (answer, _) => answer,
            }
        }))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.unfenced(move |side, before: Option<LeaseRevokeResponse>| async move {
            match (side.store().lease_revoke(id).await, before) {
                // Its end was copied.
                (Err(Error::LeaseNotFound(_)), Some(before)) => Ok(before),
                (answer, _) => answer,
            }
        }))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(self.at_side(move |side| async move { side.store().lease_keep_alive(id).await }))
    }

    fn lease_time_to_live(&self, request: LeaseTimeToLiveRequest) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(self.at_side(move |side| async move { side.store().lease_time_to_live(request).await }))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeasesResponse>> {
        Box::pin(self.at_side(|side| async move { side.store().leases().await }))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(carried(self.0.clone(), request))
    }

    fn status(&self) -> BoxFuture<'_, Result<Status>> {
        Box::pin(self.at_side(|side| async move { side.store().status().await }))
    }

    fn hash(&self, request: HashRequest) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(self.at_side(move |side| async move { side.store().hash(request).await }))
    }

    fn snapshot(&self) -> BoxFuture<'_, Result<Snapshot>> {
        Box::pin(self.at_side(|side| async move { side.store().snapshot().await }))
    }
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Switch").field("standing", &self.standing()).finish_non_exhaustive()
    }
}
