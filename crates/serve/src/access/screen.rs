//! What is shown of ranges that have credentials among their keys, and of watches whose reader may be sent away.

use std::sync::Arc;

use bytes::Bytes;
use regrow_control::access::Sight;
use regrow_model::key::ACCESS;
use regrow_store::{
    BoxFuture, Error, Op, OpResponse, RangeRequest, RangeResponse, Result, Snapshot, SnapshotPart, SnapshotSource,
    SortOrder, SortTarget, Store, TxnRequest, Watch, WatchItem, WatchSource, prefix_end,
};

use super::Caller;

/// A range without the credentials in it: what is before them and what is behind, at one revision, as one answer.
pub(super) async fn range(store: &dyn Store, request: RangeRequest) -> Result<RangeResponse> {
    let before = RangeRequest { range_end: Bytes::from_static(ACCESS.as_bytes()), ..request.clone() };
    let behind = RangeRequest { key: prefix_end(ACCESS.as_bytes()), ..request.clone() };
    let mut ops = Vec::new();
    if before.key < before.range_end {
        ops.push(Op::Range(before));
    }
    if behind.range_end == "\0" || behind.key < behind.range_end {
        ops.push(Op::Range(behind));
    }
    let answer = store.txn(TxnRequest { success: ops, ..TxnRequest::default() }).await?;
    let mut whole = RangeResponse { revision: answer.revision, ..RangeResponse::default() };
    for response in answer.responses {
        if let OpResponse::Range(part) = response {
            whole.kvs.extend(part.kvs);
            whole.count += part.count;
            whole.more |= part.more;
        }
    }
    sort(&mut whole, &request);
    if let Ok(limit) = usize::try_from(request.limit)
        && limit > 0
        && whole.kvs.len() > limit
    {
        whole.kvs.truncate(limit);
        whole.more = true;
    }
    Ok(whole)
}

/// Each part is in order; all of it has to be.
fn sort(whole: &mut RangeResponse, request: &RangeRequest) {
    let kvs = &mut whole.kvs;
    match request.sort_target {
        SortTarget::Key => kvs.sort_by(|a, b| a.key.cmp(&b.key)),
        SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
        SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
        SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
        SortTarget::Value => kvs.sort_by(|a, b| a.value.cmp(&b.value)),
    }
    if request.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
}

/// A watch that ends when its reader's credentials do, and tells nothing of credentials to who may not see them.
pub(super) fn watch(watch: Watch, reader: Arc<Caller>, sight: Sight) -> Watch {
    let revision = watch.revision();
    Watch::new(revision, Box::new(Screened { watch, reader, sight }))
}

/// A copy of the store that ends when its reader's credentials do.
pub(super) fn snapshot(snapshot: Snapshot, reader: Arc<Caller>) -> Snapshot {
    Snapshot::new(snapshot.revision(), Box::new(Copied { snapshot, reader }))
}

struct Copied {
    snapshot: Snapshot,
    reader: Arc<Caller>,
}

impl SnapshotSource for Copied {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<SnapshotPart>>> {
        Box::pin(async move {
            self.reader.lasts()?;
            self.snapshot.next().await.transpose()
        })
    }
}

struct Screened {
    watch: Watch,
    reader: Arc<Caller>,
    sight: Sight,
}

impl WatchSource for Screened {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem>> {
        Box::pin(async move {
            loop {
                let item = tokio::select! {
                    biased;
                    why = self.reader.ended() => return Err(why.into()),
                    item = self.watch.next() => item.unwrap_or(Err(Error::Closed))?,
                };
                match (item, self.sight) {
                    (WatchItem::Events { revision, mut events }, Sight::WithoutCredentials) => {
                        events.retain(|event| !event.kv.key.starts_with(ACCESS.as_bytes()));
                        if !events.is_empty() {
                            return Ok(WatchItem::Events { revision, events });
                        }
                    }
                    (item, _) => return Ok(item),
                }
            }
        })
    }

    fn request_progress(&mut self) {
        self.watch.request_progress();
    }
}
