//! What lies beneath a directory, all together.

use regrow_store::{
    CompareTarget, Error, KeyValue, LeaseId, Op, PutRequest, RangeRequest, Revision, Store, TxnRequest,
    limits::TXN_OPS_MAX,
};

use super::{
    ledger::{Entry, Ticket},
    path::Path,
    refused::{Code, Failed, Refused},
    state::equal,
};
use crate::etcd::limits::V2_NODES_MAX;

/// Keys read at once.
const PIECE_KEYS: i64 = 4096;

/// Keys moved in one transaction: each is a transaction within, and as many operations are left for those.
pub(super) const MOVED_AT_ONCE: usize = TXN_OPS_MAX / 2 - 1;

/// Whether anything lies beneath, hidden or not.
pub(super) async fn has_any(store: &dyn Store, path: &Path, revision: Revision) -> Result<bool, Error> {
    let range = path.inside();
    let request = RangeRequest {
        key: range.start().clone(),
        range_end: path.after(),
        limit: 1,
        keys_only: true,
        revision,
        ..RangeRequest::default()
    };
    Ok(!store.range(request).await?.kvs.is_empty())
}

/// What hangs on a lease beneath a directory.
pub(super) async fn hanging(store: &dyn Store, path: &Path, lease: LeaseId) -> Result<Vec<KeyValue>, Failed> {
    let mut request = RangeRequest {
        key: path.inside().start().clone(),
        range_end: path.after(),
        limit: PIECE_KEYS,
        keys_only: true,
        ..RangeRequest::default()
    };
    let (mut hanging, mut seen) = (Vec::new(), 0);
    loop {
        let piece = store.range(request.clone()).await?;
        seen += piece.kvs.len();
        if seen > V2_NODES_MAX {
            let cause = format!("{path} has more than {V2_NODES_MAX} nodes beneath: it cannot be given another ttl");
            return Err(Refused { code: Code::InvalidField, cause, index: piece.revision }.into());
        }
        let last = piece.kvs.last().filter(|_| piece.more).map(|kv| [&kv.key[..], b"\0"].concat());
        hanging.extend(piece.kvs.into_iter().filter(|kv| kv.lease == lease));
        match last {
            Some(next) => request.key = next.into(),
            None => return Ok(hanging),
        }
    }
}

/// Moves keys to another lease, each unless it is put meanwhile.
pub(super) fn moves(keys: &[KeyValue], lease: LeaseId) -> Vec<Op> {
    let one = |kv: &KeyValue| {
        let put = PutRequest { ignore_value: true, lease, ..PutRequest::new(kv.key.clone(), "") };
        let compare = vec![equal(kv.key.clone(), CompareTarget::ModRevision(kv.mod_revision))];
        Op::Txn(TxnRequest { compare, success: vec![Op::Put(put)], failure: Vec::new() })
    };
    keys.iter().map(one).collect()
}

/// Moves keys to another lease, some at a time; watchers of etcd 2's interface are not told.
pub(super) async fn move_all(
    store: &dyn Store,
    keys: &[KeyValue],
    lease: LeaseId,
    ticket: &Ticket<'_>,
) -> Result<(), Error> {
    for some in keys.chunks(MOVED_AT_ONCE) {
        let answer = store.txn(TxnRequest { success: moves(some, lease), ..TxnRequest::default() }).await?;
        ticket.done(answer.revision, Entry::Quiet);
    }
    Ok(())
}
