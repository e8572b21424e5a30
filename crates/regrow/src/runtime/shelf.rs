//! The store as the reconciler uses it: load, watch, commit.

use regrow_control::reconcile::{CommitError, Input, StoreChange, Transaction};
use regrow_model::key::{Change, ROOT};
use regrow_model::{Key, Revision};
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, EventKind, Op, PutRequest, RangeRequest, Store,
    TxnRequest, Watch, WatchItem, WatchRequest,
};
use std::sync::Arc;

/// A store, and nothing else of the world.
#[derive(Clone)]
pub(super) struct Shelf {
    store: Arc<dyn Store>,
}

impl Shelf {
    pub(super) fn new(store: Arc<dyn Store>) -> Shelf {
        Shelf { store }
    }

    /// Everything of Regrow's own, and a watch that goes on from there.
    pub(super) async fn load(&self) -> Result<(Input, Watch), Error> {
        let (changes, revision) = self.read(ROOT).await?;
        let next = regrow_store::Revision(revision.0 + 1);
        // Every key is watched: the view's revision must keep up with commits to any of them.
        let watch = self.store.watch(WatchRequest::prefix("").from(next)).await?;
        Ok((Input::Changed { changes, revision }, watch))
    }

    /// Takes back an order to stop everything, whether it was carried out or cut short.
    pub(super) async fn end_halt(&self) -> Result<(), Error> {
        self.store.delete_range(DeleteRangeRequest::key(Key::Halt.to_string())).await.map(drop)
    }

    /// The keys under a prefix.
    pub(super) async fn read(&self, prefix: &str) -> Result<(Vec<StoreChange>, Revision), Error> {
        let answer = self.store.range(RangeRequest::prefix(prefix.to_owned())).await?;
        let changes = answer.kvs.into_iter().filter_map(|kv| {
            Some(StoreChange {
                key: String::from_utf8(kv.key.to_vec()).ok()?,
                value: Some(kv.value.as_ref().into()),
                revision: Revision(kv.mod_revision.0),
            })
        });
        Ok((changes.collect(), Revision(answer.revision.0)))
    }

    /// A watch of one prefix from now on.
    pub(super) async fn watch(&self, prefix: &'static str) -> Result<Watch, Error> {
        self.store.watch(WatchRequest::prefix(prefix)).await
    }

    /// Commits a transaction whole, or not at all.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        let compare = transaction.expect.iter().map(|(key, revision)| {
            let target = CompareTarget::ModRevision(regrow_store::Revision(revision.0));
            Compare::new(key.to_string(), CompareOp::Equal, target)
        });
        let success = transaction.changes.iter().map(|change| match change {
            Change::Put(record) => Op::Put(PutRequest::new(record.key().to_string(), record.to_json())),
            Change::Delete(key) => Op::DeleteRange(DeleteRangeRequest::key(key.to_string())),
        });
        let request = TxnRequest { compare: compare.collect(), success: success.collect(), failure: Vec::new() };
        match self.store.txn(request).await {
            Ok(answer) if answer.succeeded => Ok(Revision(answer.revision.0)),
            Ok(_) => Err(CommitError::Conflict),
            Err(error) => Err(CommitError::Unavailable(error.to_string())),
        }
    }
}

/// What a watch said, for the reconciler. Keys that are neither Regrow's own nor under one of `prefixes` only move the
/// revision.
pub(super) fn changes(item: WatchItem, prefixes: &[String]) -> Input {
    match item {
        WatchItem::Progress { revision } => Input::Changed { changes: Vec::new(), revision: Revision(revision.0) },
        WatchItem::Events { revision, events } => {
            let changes = events.into_iter().filter_map(|event| {
                let key = String::from_utf8(event.kv.key.to_vec()).ok()?;
                let wanted = key.starts_with(ROOT) || prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
                wanted.then(|| StoreChange {
                    key,
                    value: (event.kind == EventKind::Put).then(|| event.kv.value.as_ref().into()),
                    revision: Revision(event.kv.mod_revision.0),
                })
            });
            Input::Changed { changes: changes.collect(), revision: Revision(revision.0) }
        }
    }
}
