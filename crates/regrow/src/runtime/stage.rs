//! Changes that are too many for one transaction, made so that they are in force all at once.
//!
//! Flow: the author writes each change under [`STAGED`], then one transaction writes [`DECIDED`], naming them; from
//! that revision on every agent reads the staged changes as done ([`Overlay`]). Whoever is there ([`finish`]: the
//! author, the leader, the next agent that starts) then moves each to its place and takes the decision away.
//!
//! Guarantees: before the decision nothing is in force, after it everything is; a staged change is moved once, since the
//! transaction that moves it also removes it from the stage.
//!
//! Why so: `docs/design/0033-agents-on-one-store.md`.

use regrow_control::reconcile::StoreChange;
use regrow_model::Revision;
use regrow_model::key::{DECIDED, ROOT, STAGED};
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, KeyValue, Op, PutRequest, RangeRequest, Store,
    TxnRequest,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Operations of a transaction that moves or stages: each change takes two, and etcd allows 128.
pub(super) const MOVED_MAX: usize = 60;

/// Bytes of a transaction, keys and values: below etcd's 1.5 MiB by what the message needs around them.
pub(super) const BYTES_MAX: usize = 1_400_000;

/// Bytes that an operation counts for besides key and value; generous.
pub(super) const OP_BYTES: usize = 64;

/// The staged changes that this agent knows of, and how they are to be read.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// By their staged keys.
    staged: BTreeMap<String, Arc<[u8]>>,
}

impl Overlay {
    /// Turns what the store says into what is in force. Takes the changes of whole revisions, in order; the first time
    /// and after [`Overlay::clear`] the whole content.
    pub(super) fn read(&mut self, changes: Vec<StoreChange>) -> Vec<StoreChange> {
        let mut out = Vec::with_capacity(changes.len());
        let mut decided = Vec::new();
        for change in changes {
            if change.key.starts_with(STAGED) {
                match change.value {
                    Some(value) => drop(self.staged.insert(change.key, value)),
                    None => drop(self.staged.remove(&change.key)),
                }
            } else if change.key == DECIDED {
                decided.extend(change.value.map(|id| (id, change.revision)));
            } else {
                out.push(change);
            }
        }
        for (id, revision) in decided {
            let Ok(id) = std::str::from_utf8(&id) else { continue };
            let prefix = format!("{STAGED}{id}/");
            let staged = self.staged.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
            out.extend(staged.map(|(key, value)| StoreChange {
                key: format!("{ROOT}{}", &key[prefix.len()..]),
                value: (!value.is_empty()).then(|| value.clone()),
                revision,
            }));
        }
        out
    }

    /// Forgets everything: the whole content comes next.
    pub(super) fn clear(&mut self) {
        self.staged.clear();
    }
}

/// What a staged commit comes to.
pub(super) enum Staged {
    /// It is in force since this revision.
    Decided(Revision),
    /// A comparison did not hold.
    Conflict,
}

/// Stages changes (key and value; no value is a removal) under `id`, decides for them if `compare` holds, and moves
/// them to their places. An error before the decision leaves nothing in force.
pub(super) async fn commit(
    store: &dyn Store,
    id: &str,
    changes: Vec<(String, Option<Vec<u8>>)>,
    mut compare: Vec<Compare>,
) -> Result<Staged, Error> {
    let prefix = format!("{STAGED}{id}/");
    let count = changes.len();
    let mut pending: Vec<Op> = Vec::new();
    let mut bytes = 0;
    for (key, value) in changes {
        let key = format!("{prefix}{}", key.strip_prefix(ROOT).unwrap_or(&key));
        let value = value.unwrap_or_default();
        let size = key.len() + value.len() + OP_BYTES;
        if !pending.is_empty() && (pending.len() >= 2 * MOVED_MAX || bytes + size > BYTES_MAX) {
            write(store, std::mem::take(&mut pending)).await?;
            bytes = 0;
        }
        bytes += size;
        pending.push(Op::Put(PutRequest::new(key, value)));
    }
    write(store, pending).await?;
    let request = RangeRequest { limit: 1, keys_only: true, ..RangeRequest::prefix(prefix.clone()) };
    let found = store.range(request).await?;
    let whole = usize::try_from(found.count).is_ok_and(|found| found == count);
    let Some(first) = found.kvs.first().filter(|_| whole) else {
        abandon(store, &prefix).await?;
        return Ok(Staged::Conflict);
    };
    // A stage is removed whole or not at all, so one of its keys stands for all.
    compare.push(Compare::new(
        first.key.clone(),
        CompareOp::Equal,
        CompareTarget::CreateRevision(first.create_revision),
    ));
    compare.push(absent(DECIDED));
    let success = vec![Op::Put(PutRequest::new(DECIDED, id.to_owned()))];
    let decided = match store.txn(TxnRequest { compare, success, failure: Vec::new() }).await {
        Ok(answer) => answer.succeeded.then_some(answer.revision),
        // It may have come through: what stands there says so.
        Err(error) => match store.range(RangeRequest::key(DECIDED)).await?.kvs.first() {
            Some(found) if found.value == id => Some(found.mod_revision),
            _ => {
                abandon(store, &prefix).await?;
                return Err(error);
            }
        },
    };
    let Some(decided) = decided else {
        abandon(store, &prefix).await?;
        return Ok(Staged::Conflict);
    };
    if let Err(error) = finish(store).await {
        tracing::info!("staged changes are in force and will be moved to their places later: {error}");
    }
    Ok(Staged::Decided(Revision(decided.0)))
}

async fn write(store: &dyn Store, success: Vec<Op>) -> Result<(), Error> {
    store.txn(TxnRequest { compare: Vec::new(), success, failure: Vec::new() }).await.map(drop)
}

/// Moves the staged changes that are decided for to their places. May run anywhere, any number of times at once.
pub(super) async fn finish(store: &dyn Store) -> Result<(), Error> {
    loop {
        let Some(decided) = store.range(RangeRequest::key(DECIDED)).await?.kvs.into_iter().next() else {
            return Ok(());
        };
        let prefix = format!("{STAGED}{}/", String::from_utf8_lossy(&decided.value));
        let request = RangeRequest { limit: MOVED_MAX as i64, ..RangeRequest::prefix(prefix.clone()) };
        let staged = store.range(request).await?.kvs;
        let still = CompareTarget::ModRevision(decided.mod_revision);
        let mut compare = vec![Compare::new(DECIDED, CompareOp::Equal, still)];
        let mut success = Vec::new();
        if staged.is_empty() {
            success.push(Op::DeleteRange(DeleteRangeRequest::key(DECIDED)));
            store.txn(TxnRequest { compare, success, failure: Vec::new() }).await?;
            return Ok(());
        }
        let mut bytes = 0;
        for kv in staged {
            bytes += 2 * kv.key.len() + kv.value.len() + 2 * OP_BYTES;
            if !success.is_empty() && bytes > BYTES_MAX {
                break;
            }
            compare.push(Compare::new(
                kv.key.clone(),
                CompareOp::Equal,
                CompareTarget::CreateRevision(kv.create_revision),
            ));
            success.extend(moved(&prefix, kv));
        }
        // Where a comparison does not hold, somebody else has moved them: the next look tells what is left.
        store.txn(TxnRequest { compare, success, failure: Vec::new() }).await?;
    }
}

fn moved(prefix: &str, kv: KeyValue) -> [Op; 2] {
    let place = [ROOT.as_bytes(), &kv.key[prefix.len()..]].concat();
    let change = match kv.value.is_empty() {
        true => Op::DeleteRange(DeleteRangeRequest::key(place)),
        false => Op::Put(PutRequest::new(place, kv.value)),
    };
    [change, Op::DeleteRange(DeleteRangeRequest::key(kv.key))]
}

/// Removes a stage that nobody will decide for.
async fn abandon(store: &dyn Store, prefix: &str) -> Result<(), Error> {
    let success = vec![Op::DeleteRange(DeleteRangeRequest::prefix(prefix.to_owned()))];
    store.txn(TxnRequest { compare: vec![absent(DECIDED)], success, failure: Vec::new() }).await.map(drop)
}

/// For an agent that starts: finishes what is decided, and removes what it had staged itself when it died. `author` is
/// what its ids begin with.
pub(super) async fn recover(store: &dyn Store, author: &str) -> Result<(), Error> {
    finish(store).await?;
    abandon(store, &format!("{STAGED}{author}")).await
}

fn absent(key: &'static str) -> Compare {
    Compare::new(key, CompareOp::Equal, CompareTarget::CreateRevision(regrow_store::Revision(0)))
}
