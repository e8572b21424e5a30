//! What is wrong with a request before the store is even looked at.
//!
//! Source: etcd's `server/etcdserver/api/v3rpc/key.go` has the same rules, in the same order.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::{
    DeleteRangeRequest, Error, KeyRange, LeaseId, Op, PutRequest, RangeRequest, Result, TxnRequest,
    limits::{REQUEST_BYTES_MAX, TXN_OPS_MAX},
};

/// Bytes that an operation counts for besides its keys and values.
const OP_BYTES: usize = 16;

pub(crate) fn range(request: &RangeRequest) -> Result<()> {
    non_empty(&request.key)
}

pub(crate) fn put(request: &PutRequest) -> Result<()> {
    put_op(request)?;
    size(put_bytes(request))
}

pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<()> {
    non_empty(&request.key)?;
    size(request.key.len() + request.range_end.len() + OP_BYTES)
}

pub(crate) fn txn(request: &TxnRequest, ops_max: usize) -> Result<()> {
    txn_ops(request, ops_max)?;
    changes(&request.success)?;
    changes(&request.failure)?;
    size(txn_bytes(request))
}

/// Checks a transaction against etcd's own limits.
///
/// # Errors
/// `TooManyOps`, `EmptyKey`, `DuplicateKey`, `RequestTooLarge` and the others of a malformed request.
pub fn check_txn(request: &TxnRequest) -> Result<()> {
    txn(request, TXN_OPS_MAX)
}

/// Bytes a request counts for, against the limit and in the queue.
pub(crate) fn op_bytes(op: &Op) -> usize {
    match op {
        Op::Range(r) => r.key.len() + r.range_end.len() + OP_BYTES,
        Op::Put(r) => put_bytes(r),
        Op::DeleteRange(r) => r.key.len() + r.range_end.len() + OP_BYTES,
        Op::Txn(r) => txn_bytes(r),
    }
}

/// Whether no operation in either branch changes anything.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| match op {
        Op::Range(_) => true,
        Op::Put(_) | Op::DeleteRange(_) => false,
        Op::Txn(inner) => is_read_only(inner),
    })
}

fn put_bytes(request: &PutRequest) -> usize {
    request.key.len() + request.value.len() + OP_BYTES
}

fn txn_bytes(request: &TxnRequest) -> usize {
    let compares = request.compare.iter().map(|c| {
        let value = if let crate::CompareTarget::Value(value) = &c.target { value.len() } else { 0 };
        c.key.len() + c.range_end.len() + value + OP_BYTES
    });
    let ops = request.success.iter().chain(&request.failure).map(op_bytes);
    compares.chain(ops).sum::<usize>() + OP_BYTES
}

fn size(bytes: usize) -> Result<()> {
    if bytes > REQUEST_BYTES_MAX {
        return Err(Error::RequestTooLarge { bytes, max: REQUEST_BYTES_MAX });
    }
    Ok(())
}

fn non_empty(key: &Bytes) -> Result<()> {
    if key.is_empty() { Err(Error::EmptyKey) } else { Ok(()) }
}

fn put_op(request: &PutRequest) -> Result<()> {
    non_empty(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Error::ValueProvided);
    }
    if request.ignore_lease && request.lease != LeaseId::NONE {
        return Err(Error::LeaseProvided);
    }
    Ok(())
}

/// The recursion ends: each level has at least one operation, which is taken off what the next level may have.
fn txn_ops(request: &TxnRequest, max: usize) -> Result<()> {
    let ops = request.compare.len().max(request.success.len()).max(request.failure.len());
    if ops > max {
        return Err(Error::TooManyOps { ops, max });
    }
    request.compare.iter().try_for_each(|c| non_empty(&c.key))?;
    request.success.iter().chain(&request.failure).try_for_each(|op| match op {
        Op::Range(r) => range(r),
        Op::Put(r) => put_op(r),
        Op::DeleteRange(r) => non_empty(&r.key),
        Op::Txn(inner) => txn_ops(inner, max - ops),
    })
}

/// The keys that one list of operations may put, and those it may delete.
#[derive(Default)]
struct Changes {
    puts: BTreeSet<Bytes>,
    deletes: Intervals,
}

/// Collects what a list may change, and refuses a key put twice, or put and deleted. The two branches of a
/// transaction within exclude each other, so both may put the same key.
fn changes(ops: &[Op]) -> Result<Changes> {
    let mut all = Changes::default();
    for op in ops {
        if let Op::DeleteRange(r) = op {
            all.deletes.insert(&r.range());
        }
    }
    for op in ops {
        if let Op::Txn(inner) = op {
            let then = changes(&inner.success)?;
            let otherwise = changes(&inner.failure)?;
            for key in then.puts.union(&otherwise.puts) {
                if all.puts.contains(key) || all.deletes.contain(key) {
                    return Err(Error::DuplicateKey { key: key.clone() });
                }
            }
            all.puts.extend(then.puts.into_iter().chain(otherwise.puts));
            all.deletes.extend(then.deletes);
            all.deletes.extend(otherwise.deletes);
        }
    }
    for op in ops {
        if let Op::Put(r) = op
            && (all.deletes.contain(&r.key) || !all.puts.insert(r.key.clone()))
        {
            return Err(Error::DuplicateKey { key: r.key.clone() });
        }
    }
    Ok(all)
}

/// A set of keys as disjoint intervals, start to end (exclusive), so that many deletions cost no more than few.
#[derive(Default)]
struct Intervals(BTreeMap<Bytes, Bytes>);

impl Intervals {
    /// Deletions to the end of all keys are left out: etcd allows a put beside them, and clients rely on it to
    /// replace everything in one transaction.
    fn insert(&mut self, range: &KeyRange) {
        if range.is_point() {
            let mut end = range.start().to_vec();
            end.push(0);
            self.add(range.start().clone(), end.into());
        } else if let Some(end) = range.end()
            && end > &range.start()[..]
        {
            self.add(range.start().clone(), Bytes::copy_from_slice(end));
        }
    }

    fn extend(&mut self, other: Intervals) {
        for (start, end) in other.0 {
            self.add(start, end);
        }
    }

    fn add(&mut self, mut start: Bytes, mut end: Bytes) {
        while let Some((s, e)) = self.0.range(..=end.clone()).next_back().filter(|(_, e)| **e >= start) {
            let (s, e) = (s.clone(), e.clone());
            self.0.remove(&s);
            start = start.min(s);
            end = end.max(e);
        }
        self.0.insert(start, end);
    }

    fn contain(&self, key: &Bytes) -> bool {
        self.0.range(..=key.clone()).next_back().is_some_and(|(_, end)| key < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Overlapping and touching intervals become one, and membership does not change by it.
    #[test]
    fn intervals_merge() {
        let mut set = Intervals::default();
        for (start, end) in [("a", "c"), ("x", "z"), ("b", "e"), ("e", "f"), ("m", ""), ("q", "p")] {
            set.insert(&KeyRange::new(start, end));
        }
        for (key, expect) in [("a", true), ("e", true), ("f", false), ("m", true), ("m0", false), ("q", false)] {
            assert_eq!(set.contain(&Bytes::from(key)), expect, "{key}");
        }
        assert_eq!(set.0.len(), 3);
    }

    /// The deepest nesting that the count of operations allows is accepted, one more is refused; neither overflows
    /// the stack.
    #[test]
    fn nesting_is_bounded() {
        let nest = |depth: usize| {
            (1..depth).fold(TxnRequest::default(), |inner, _| TxnRequest {
                success: vec![Op::Txn(inner)],
                ..TxnRequest::default()
            })
        };
        assert!(check_txn(&nest(TXN_OPS_MAX + 1)).is_ok());
        assert!(matches!(check_txn(&nest(TXN_OPS_MAX + 2)), Err(Error::TooManyOps { ops: 1, max: 0 })));
    }
}
