//! One place where the store is, or was.

use std::{io, sync::Arc};

use tokio::sync::watch;

use super::{
    MOVED, RESERVED,
    record::{Cut, Standing},
};
use crate::{
    Compare, CompareOp, CompareTarget, Engine, Error, KeyRange, Op, OpResponse, RangeRequest, Remote, Result, Revision,
    Store, TxnRequest, prefix_end,
};

/// A store at a place.
#[derive(Debug, Clone)]
pub enum Origin {
    /// In this process. It was opened with [`MOVED`] as its fence.
    Hosted(Engine),
    /// By etcd's interface.
    Elsewhere(Remote),
}

/// What a [`Switch`](super::Switch) needs of the program around it.
pub trait Ways: Send + Sync {
    /// Opens the store at a place.
    ///
    /// # Errors
    /// Those of opening; it is tried again later.
    fn open(&self, standing: &Standing) -> Result<Origin>;

    /// Keeps for the next start where the store is; durable when it returns.
    ///
    /// # Errors
    /// Those of the disk. The move is in force nevertheless: the old store says so too.
    fn remember(&self, standing: &Standing) -> io::Result<()>;
}

/// Where the store went from a side.
#[derive(Debug, Clone)]
pub(super) struct Gone {
    pub(super) next: Arc<Side>,
    /// None where numbers go on as they are.
    pub(super) cut: Option<Cut>,
}

/// A place, and where the store went from it.
#[derive(Debug)]
pub(super) struct Side {
    pub(super) origin: Origin,
    /// None for the one that the settings name.
    pub(super) standing: Option<Standing>,
    /// The side before, as long as this process has known it.
    pub(super) before: Option<Arc<Side>>,
    gone: watch::Sender<Option<Gone>>,
}

impl Side {
    pub(super) fn new(origin: Origin, standing: Option<Standing>, before: Option<Arc<Side>>) -> Arc<Side> {
        Arc::new(Side { origin, standing, before, gone: watch::Sender::new(None) })
    }

    pub(super) fn store(&self) -> &dyn Store {
        match &self.origin {
            Origin::Hosted(engine) => engine,
            Origin::Elsewhere(remote) => remote,
        }
    }

    pub(super) fn cut(&self) -> Option<Cut> {
        self.standing.as_ref().and_then(|standing| standing.cut)
    }

    pub(super) fn gone(&self) -> Option<Gone> {
        self.gone.borrow().clone()
    }

    /// Waits until the store is no longer here.
    pub(super) async fn left(&self) {
        // The sender is this side's own.
        let _ = self.gone.subscribe().wait_for(Option::is_some).await;
    }

    pub(super) fn leave(&self, gone: Gone) {
        self.gone.send_replace(Some(gone));
    }

    /// The record of a fence or of a move, and its revision.
    pub(super) async fn moved(&self) -> Result<Option<crate::KeyValue>> {
        Ok(self.store().range(RangeRequest::key(MOVED)).await?.kvs.into_iter().next())
    }

    /// Whether this side may no longer be the truth: the hosted store knows of its fence.
    pub(super) fn is_suspect(&self) -> bool {
        match &self.origin {
            Origin::Hosted(engine) => engine.is_fenced(),
            Origin::Elsewhere(_) => false,
        }
    }

    /// Does something as long as no fence stands; `None` where one does, and nothing was done.
    pub(super) async fn attempt(&self, op: Op) -> Result<Option<OpResponse>> {
        if is_reserved(&op) {
            return dispatch(self.store(), op).await.map(Some);
        }
        match &self.origin {
            Origin::Hosted(engine) => match dispatch(engine, op).await {
                Err(Error::Fenced) => Ok(None),
                answer => answer.map(Some),
            },
            Origin::Elsewhere(remote) => {
                let compare = vec![Compare::new(MOVED, CompareOp::Equal, CompareTarget::CreateRevision(Revision(0)))];
                let request = TxnRequest { compare, success: vec![op], failure: Vec::new() };
                let answer = remote.txn(request).await?;
                if !answer.succeeded {
                    return Ok(None);
                }
                let mut response = answer.responses.into_iter().next().ok_or_else(|| Error::Unavailable {
                    reason: "an answer without a response to a transaction".to_owned(),
                })?;
                stamp(&mut response, answer.revision);
                Ok(Some(response))
            }
        }
    }
}

/// The store's answer to one operation.
pub(super) async fn dispatch(store: &dyn Store, op: Op) -> Result<OpResponse> {
    Ok(match op {
        Op::Range(request) => OpResponse::Range(store.range(request).await?),
        Op::Put(request) => OpResponse::Put(store.put(request).await?),
        Op::DeleteRange(request) => OpResponse::DeleteRange(store.delete_range(request).await?),
        Op::Txn(request) => OpResponse::Txn(store.txn(request).await?),
    })
}

/// A response within a transaction is to look as if it came alone.
fn stamp(response: &mut OpResponse, revision: Revision) {
    match response {
        OpResponse::Range(response) => response.revision = revision,
        OpResponse::Put(response) => response.revision = revision,
        OpResponse::DeleteRange(response) => response.revision = revision,
        OpResponse::Txn(response) => response.revision = revision,
    }
}

/// Whether an operation is about the keys of moves alone: those are not behind the fence.
pub(super) fn is_reserved(op: &Op) -> bool {
    match op {
        Op::Range(request) => within(&request.range()),
        Op::Put(request) => request.key.starts_with(RESERVED.as_bytes()),
        Op::DeleteRange(request) => within(&request.range()),
        Op::Txn(request) => {
            let mut ops = request.success.iter().chain(&request.failure).peekable();
            (ops.peek().is_some() || !request.compare.is_empty())
                && ops.all(is_reserved)
                && request.compare.iter().all(|compare| within(&compare.range()))
        }
    }
}

fn within(range: &KeyRange) -> bool {
    let inside = range.start().starts_with(RESERVED.as_bytes());
    inside && (range.is_point() || range.end().is_some_and(|end| end <= &prefix_end(RESERVED.as_bytes())[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PutRequest;

    /// Only what is about the keys of moves and nothing else gets past a fence.
    #[test]
    fn what_is_reserved() {
        let put = |key: &'static str| Op::Put(PutRequest::new(key, "v"));
        let txn = |success| Op::Txn(TxnRequest { compare: Vec::new(), success, failure: Vec::new() });
        assert!(is_reserved(&put(MOVED)));
        assert!(is_reserved(&Op::Range(RangeRequest::prefix(RESERVED))));
        assert!(is_reserved(&txn(vec![put(MOVED), txn(vec![put(super::super::PLACE)])])));
        assert!(!is_reserved(&txn(vec![])), "an empty one is told what is so now");
        assert!(!is_reserved(&put("/regrow/storex")));
        assert!(!is_reserved(&txn(vec![put(MOVED), put("a")])));
        assert!(!is_reserved(&Op::Range(RangeRequest { range_end: "\0".into(), ..RangeRequest::key(MOVED) })));
    }
}
