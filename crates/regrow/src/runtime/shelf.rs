//! The store as the reconciler uses it: load, watch, commit.

use super::stage::{self, Staged};
use super::{TXN_OPS_MAX, now};
use bytes::Bytes;
use regrow_control::reconcile::{CommitError, StoreChange, Transaction};
use regrow_model::key::{Change, JOBS, LEADER, REMOVED, ROOT};
use regrow_model::{Key, Name, Revision};
use regrow_store::relocate::Switch;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, EventKind, KeyValue, LeaseId, Op, PutRequest,
    RangeRequest, Store, TxnRequest, Watch, WatchItem, WatchRequest, prefix_end,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// What the keys of desired records begin with.
const DESIRED: &str = "/regrow/desired/";

/// What the keys of nodes' records begin with.
const NODES: &str = "/regrow/observed/node/";

/// Times that the records are read again because their revision was compacted in between.
const OWN_TRIES: u32 = 10;

/// Comparisons of a transaction besides those of the keys that it expects.
const COMPARES_MAX: usize = 2;

/// The lease that the agent's own records are put under.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease(Arc<AtomicI64>);

impl Lease {
    pub(super) fn set(&self, id: LeaseId) {
        self.0.store(id.0, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> LeaseId {
        LeaseId(self.0.load(Ordering::Relaxed))
    }
}

/// A store, and nothing else of the world.
#[derive(Clone)]
pub(super) struct Shelf {
    store: Arc<dyn Store>,
    lease: Lease,
    /// What the ids of this agent's staged changes begin with.
    author: String,
    /// Knows how many operations a transaction of ours may have where the store is now.
    switch: Switch,
    staged: Arc<AtomicI64>,
}

impl Shelf {
    /// `switch`: the store itself, wherever it is.
    pub(super) fn new(store: Arc<dyn Store>, lease: Lease, node: &Name, switch: Switch) -> Shelf {
        let staged = i64::try_from(now().0).unwrap_or(0);
        Shelf { store, lease, author: format!("{node}/"), switch, staged: Arc::new(AtomicI64::new(staged)) }
    }

    /// Finishes what was decided and not done when an agent died.
    pub(super) async fn recover(&self) -> Result<(), Error> {
        stage::recover(&*self.store, &self.author).await
    }

    /// Every change from a revision on.
    pub(super) async fn resume(&self, from: Revision) -> Result<Watch, Error> {
        self.store.watch(WatchRequest::prefix("").from(regrow_store::Revision(from.0))).await
    }

    /// Everything of Regrow's own, and a watch that goes on from there.
    pub(super) async fn load(&self) -> Result<(Vec<StoreChange>, Revision, Watch), Error> {
        let (changes, revision) = self.read_own().await?;
        // Every key is watched: the view's revision must keep up with commits to any of them.
        let watch = self.resume(Revision(revision.0 + 1)).await?;
        Ok((changes, revision, watch))
    }

    /// The records that the reconciler knows, all at one revision: those of the queue, which may be many times as many,
    /// are left out.
    async fn read_own(&self) -> Result<(Vec<StoreChange>, Revision), Error> {
        let mut tries = 0;
        loop {
            let before = RangeRequest { range_end: Bytes::from(JOBS), ..RangeRequest::prefix(ROOT) };
            let before = self.store.range(before).await?;
            let behind = RangeRequest {
                key: prefix_end(JOBS.as_bytes()),
                revision: before.revision,
                ..RangeRequest::prefix(ROOT)
            };
            match self.store.range(behind).await {
                Ok(behind) => {
                    let all = before.kvs.into_iter().chain(behind.kvs).filter_map(change);
                    return Ok((all.collect(), Revision(before.revision.0)));
                }
                Err(Error::Compacted { .. }) if tries < OWN_TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes back an order to stop everything, whether it was carried out or cut short.
    pub(super) async fn end_halt(&self) -> Result<(), Error> {
        self.store.delete_range(DeleteRangeRequest::key(Key::Halt.to_string())).await.map(drop)
    }

    /// The keys under a prefix.
    pub(super) async fn read(&self, prefix: &str) -> Result<(Vec<StoreChange>, Revision), Error> {
        let answer = self.store.range(RangeRequest::prefix(prefix.to_owned())).await?;
        Ok((answer.kvs.into_iter().filter_map(change).collect(), Revision(answer.revision.0)))
    }

    /// A watch of one prefix from now on.
    pub(super) async fn watch(&self, prefix: &'static str) -> Result<Watch, Error> {
        self.store.watch(WatchRequest::prefix(prefix)).await
    }

    /// Commits a transaction whole, or not at all.
    pub(super) async fn commit(&self, transaction: Transaction) -> Result<Revision, CommitError> {
        let removes = |change: &Change| matches!(change, Change::Delete(key) if key.to_string().starts_with(DESIRED));
        let marked = transaction.changes.iter().any(removes).then(|| (REMOVED.to_owned(), Some(b"{}".to_vec())));
        let written = transaction.changes.iter().map(|change| match change {
            Change::Put(record) => (record.key().to_string(), Some(record.to_json())),
            Change::Delete(key) => (key.to_string(), None),
        });
        let changes: Vec<(String, Option<Vec<u8>>)> = written.chain(marked).collect();
        let size =
            |(key, value): &(String, Option<Vec<u8>>)| key.len() + value.as_ref().map_or(0, Vec::len) + stage::OP_BYTES;
        let bytes: usize = changes.iter().map(size).sum();
        let most = self.switch.txn_ops_max(TXN_OPS_MAX).saturating_sub(COMPARES_MAX);
        if changes.len() > most || transaction.expect.len() > most || bytes > stage::BYTES_MAX {
            return self.commit_staged(&transaction, changes).await;
        }
        let expect = transaction.expect.iter().map(|(key, revision)| {
            let target = CompareTarget::ModRevision(regrow_store::Revision(revision.0));
            Compare::new(key.to_string(), CompareOp::Equal, target)
        });
        let success = changes.into_iter().map(|(key, value)| match value {
            Some(value) if key.starts_with(NODES) => {
                Op::Put(PutRequest { lease: self.lease.get(), ..PutRequest::new(key, value) })
            }
            Some(value) => Op::Put(PutRequest::new(key, value)),
            None => Op::DeleteRange(DeleteRangeRequest::key(key)),
        });
        let compare = expect.chain(transaction.fence.map(fence)).collect();
        let request = TxnRequest { compare, success: success.collect(), failure: Vec::new() };
        match self.store.txn(request).await {
            Ok(answer) if answer.succeeded => Ok(Revision(answer.revision.0)),
            Ok(_) => Err(CommitError::Conflict),
            Err(error) => Err(CommitError::Unavailable(error.to_string())),
        }
    }

    /// The same for what is too much for one transaction. In place of each key's revision those of whole families are
    /// compared: nothing of them may be newer than the view that the changes were computed from.
    async fn commit_staged(
        &self,
        transaction: &Transaction,
        changes: Vec<(String, Option<Vec<u8>>)>,
    ) -> Result<Revision, CommitError> {
        let newer = regrow_store::Revision(transaction.base.0 + 1);
        let families: BTreeSet<String> = transaction.expect.iter().map(|(key, _)| family(&key.to_string())).collect();
        let unchanged = families.into_iter().map(|family| {
            let range_end = if family.ends_with('/') { prefix_end(family.as_bytes()) } else { Bytes::new() };
            let target = CompareTarget::ModRevision(newer);
            Compare { range_end, ..Compare::new(family, CompareOp::Less, target) }
        });
        let removed = Compare::new(REMOVED, CompareOp::Less, CompareTarget::ModRevision(newer));
        let compare = unchanged.chain([removed]).chain(transaction.fence.map(fence)).collect();
        let number = self.staged.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{number}", self.author);
        match stage::commit(&*self.store, &id, changes, compare).await {
            Ok(Staged::Decided(revision)) => Ok(revision),
            Ok(Staged::Conflict) => Err(CommitError::Conflict),
            Err(error) => Err(CommitError::Unavailable(error.to_string())),
        }
    }
}

fn change(kv: KeyValue) -> Option<StoreChange> {
    Some(StoreChange {
        key: String::from_utf8(kv.key.to_vec()).ok()?,
        value: Some(kv.value.as_ref().into()),
        revision: Revision(kv.mod_revision.0),
    })
}

/// This agent still leads.
fn fence(created: Revision) -> Compare {
    let created = CompareTarget::CreateRevision(regrow_store::Revision(created.0));
    Compare::new(LEADER, CompareOp::Equal, created)
}

/// The keys that a key is of: those beside it, or itself where it has no siblings.
fn family(key: &str) -> String {
    let up_to = key.rfind('/').map_or(0, |slash| slash + 1);
    let parent = &key[..up_to];
    if matches!(parent, "/regrow/desired/" | "/regrow/observed/") { key.to_owned() } else { parent.to_owned() }
}

/// What a watch said, for the reconciler. Keys that are neither Regrow's own nor under one of `prefixes`, and those of the
/// queue of runs, only move the revision.
pub(super) fn changes(item: WatchItem, prefixes: &[String]) -> (Vec<StoreChange>, Revision) {
    match item {
        WatchItem::Progress { revision } => (Vec::new(), Revision(revision.0)),
        WatchItem::Events { revision, events } => {
            // A member of etcd that catches up says where the store is, not how far these events go; every revision
            // has an event.
            let revision = events.last().map_or(revision, |event| event.kv.mod_revision);
            let changes = events.into_iter().filter_map(|event| {
                let key = String::from_utf8(event.kv.key.to_vec()).ok()?;
                let own = key.starts_with(ROOT) && !key.starts_with(JOBS);
                let wanted = own || prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()));
                wanted.then(|| StoreChange {
                    key,
                    value: (event.kind == EventKind::Put).then(|| event.kv.value.as_ref().into()),
                    revision: Revision(event.kv.mod_revision.0),
                })
            });
            (changes.collect(), Revision(revision.0))
        }
    }
}
