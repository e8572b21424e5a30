//! Reading nodes: everything as it was at one revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};
use regrow_store::{
    Error, KeyValue, LeaseId, LeaseTimeToLiveRequest, Op, OpResponse, RangeRequest, Revision, Store, TxnRequest,
};
use tokio::sync::Semaphore;

use super::{
    node::{Life, Node},
    path::Path,
    refused::{Code, Failed, Refused},
    request::Read,
    tree::Tree,
};
use crate::etcd::limits::{V2_ANSWER_BYTES_MAX, V2_NODES_MAX};

/// Keys of the first piece of a directory; each further piece is twice as large, as long as it stays small in bytes.
const FIRST_PIECE_KEYS: i64 = 64;

/// Keys of a piece at most.
const PIECE_KEYS_MAX: i64 = 8192;

/// Bytes of a piece, as far as the one before lets them be foreseen.
const PIECE_BYTES: usize = 4 * 1024 * 1024;

/// How often a directory is read again when the revision it is read at is compacted under it.
const TRIES_MAX: usize = 4;

/// Leases asked about at once.
const LEASES_AT_ONCE: usize = 16;

/// Reads a node. `listings` is the room for directories that are being read.
pub(super) async fn read(store: &dyn Store, read: &Read, listings: &Semaphore) -> Result<(Node, Revision), Refused> {
    let mut tries = 0;
    loop {
        tries += 1;
        match try_read(store, read, listings).await {
            Err(Failed::Store(Error::Compacted { .. })) if tries < TRIES_MAX => {}
            done => return Ok(done?),
        }
    }
}

async fn try_read(store: &dyn Store, read: &Read, listings: &Semaphore) -> Result<(Node, Revision), Failed> {
    let path = &read.path;
    let (revision, mut found) = keys(store, Revision(0), [path.marker(), path.key()]).await?;
    if let Some(kv) = found.pop().flatten() {
        let life = own_life(store, path, kv.lease, revision).await?;
        return Ok((Node::file(path, &kv).living(life), revision));
    }
    let _room = listings.acquire().await.map_err(|_| Error::Closed)?;
    let mut tree = Tree::new(path.clone(), read.recursive);
    let mut request = RangeRequest {
        key: path.marker(),
        range_end: path.after(),
        limit: FIRST_PIECE_KEYS,
        revision,
        ..RangeRequest::default()
    };
    loop {
        let piece = store.range(request.clone()).await?;
        let bytes: usize = piece.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        let count = piece.kvs.len();
        let mut next = None;
        for kv in piece.kvs {
            let after = [&kv.key[..], b"\0"].concat();
            next = Some(tree.add(kv).unwrap_or_else(|| after.into()));
        }
        if tree.nodes > V2_NODES_MAX || tree.bytes > V2_ANSWER_BYTES_MAX {
            let cause = format!(
                "{path} has more than {V2_NODES_MAX} nodes or {V2_ANSWER_BYTES_MAX} bytes beneath: read it in parts"
            );
            return Err(Refused { code: Code::InvalidField, cause, index: revision }.into());
        }
        let Some(next) = next.filter(|_| piece.more) else { break };
        request.key = next;
        let fitting = i64::try_from(PIECE_BYTES / (bytes / count).max(1)).unwrap_or(i64::MAX);
        request.limit = (request.limit * 2).min(fitting).clamp(1, PIECE_KEYS_MAX);
    }
    if !tree.is_there() && !path.is_root() {
        return Err(missing(store, path, revision).await?.into());
    }
    let leases = tree.leases();
    let above = if leases.is_empty() { Vec::new() } else { leases_above(store, path, revision).await? };
    let lives = stream::iter(leases.into_iter().filter(|lease| !above.contains(lease)))
        .map(async |lease| Ok::<_, Error>((lease, life(store, lease).await?)))
        .buffer_unordered(LEASES_AT_ONCE)
        .try_filter_map(async |(lease, life)| Ok(life.map(|life| (lease, life))))
        .try_collect::<BTreeMap<_, _>>()
        .await?;
    Ok((tree.into_node(&lives, above), revision))
}

/// Reads keys at one revision (0: now) that it returns. An empty key is not there.
pub(super) async fn keys(
    store: &dyn Store,
    revision: Revision,
    keys: impl IntoIterator<Item = Bytes>,
) -> Result<(Revision, Vec<Option<KeyValue>>), Error> {
    let (mut ops, mut asked) = (Vec::new(), Vec::new());
    for key in keys {
        asked.push(!key.is_empty());
        if !key.is_empty() {
            ops.push(Op::Range(RangeRequest { revision, ..RangeRequest::key(key) }));
        }
    }
    if ops.is_empty() {
        return Ok((revision, asked.iter().map(|_| None).collect()));
    }
    let answer = store.txn(TxnRequest { success: ops, ..TxnRequest::default() }).await?;
    let mut answers = answer.responses.into_iter();
    let mut one = || match answers.next() {
        Some(OpResponse::Range(mut range)) => range.kvs.pop(),
        _ => None,
    };
    let found = asked.into_iter().map(|asked| if asked { one() } else { None }).collect();
    Ok((answer.revision, found))
}

/// Why a node is not there: the first name on the way that is not, or that is a file.
pub(super) async fn missing(store: &dyn Store, path: &Path, revision: Revision) -> Result<Refused, Error> {
    let ancestors: Vec<Path> = path.ancestors().collect();
    let both = ancestors.iter().flat_map(|ancestor| [ancestor.key(), ancestor.marker()]);
    let (_, found) = keys(store, revision, both).await?;
    let pairs = || found.chunks_exact(2).zip(&ancestors);
    if let Some((_, ancestor)) = pairs().find(|(pair, _)| pair[0].is_some()) {
        return Ok(Refused::node(Code::NotDir, ancestor, revision));
    }
    // Where a directory is marked, those above are there too.
    let marked = found.chunks_exact(2).rposition(|pair| pair[1].is_some()).map_or(0, |last| last + 1);
    for ancestor in &ancestors[marked..] {
        if !is_implied(store, ancestor, revision).await? {
            return Ok(Refused::node(Code::KeyNotFound, ancestor, revision));
        }
    }
    Ok(Refused::node(Code::KeyNotFound, path, revision))
}

/// Whether any key lies beneath a node.
pub(super) async fn is_implied(store: &dyn Store, path: &Path, revision: Revision) -> Result<bool, Error> {
    let request = RangeRequest {
        key: path.marker(),
        range_end: path.after(),
        limit: 1,
        keys_only: true,
        revision,
        ..RangeRequest::default()
    };
    Ok(!store.range(request).await?.kvs.is_empty())
}

/// The leases of the directories above, at a revision.
pub(super) async fn leases_above(store: &dyn Store, path: &Path, revision: Revision) -> Result<Vec<LeaseId>, Error> {
    let (_, markers) = keys(store, revision, path.ancestors().map(|ancestor| ancestor.marker())).await?;
    Ok(markers.into_iter().flatten().map(|kv| kv.lease).filter(|lease| *lease != LeaseId::NONE).collect())
}

/// How long a node has by itself: nothing if it hangs on the lease of a directory above.
pub(super) async fn own_life(
    store: &dyn Store,
    path: &Path,
    lease: LeaseId,
    revision: Revision,
) -> Result<Option<Life>, Error> {
    if lease == LeaseId::NONE || leases_above(store, path, revision).await?.contains(&lease) {
        return Ok(None);
    }
    life(store, lease).await
}

/// How long a lease has; nothing if it has ended.
async fn life(store: &dyn Store, lease: LeaseId) -> Result<Option<Life>, Error> {
    match store.lease_time_to_live(LeaseTimeToLiveRequest { id: lease, keys: false }).await {
        // Whole seconds are told, rounded down; etcd 2 rounds up.
        Ok(lease) => Ok(Some(Life::new((lease.ttl + 1).clamp(1, lease.granted_ttl.max(1))))),
        Err(Error::LeaseNotFound(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
