//! Transactions.

use bytes::Bytes;

use crate::{
    DeleteRangeRequest, DeleteRangeResponse, KeyRange, LeaseId, PutRequest, PutResponse, RangeRequest, RangeResponse,
    Revision,
};

/// Does `success` if all compares hold, else `failure`, as one revision. Operations see what earlier ones of the same
/// transaction did.
///
/// Errors: those of its operations, `DuplicateKey`, `TooManyOps`; then nothing at all was done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnRequest {
    /// All must hold.
    pub compare: Vec<Compare>,
    /// Done if they do.
    pub success: Vec<Op>,
    /// Done if not.
    pub failure: Vec<Op>,
}

/// One operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Read keys.
    Range(RangeRequest),
    /// Put a key.
    Put(PutRequest),
    /// Delete keys.
    DeleteRange(DeleteRangeRequest),
    /// A transaction within.
    Txn(TxnRequest),
}

/// What an operation answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpResponse {
    /// To a range.
    Range(RangeResponse),
    /// To a put.
    Put(PutResponse),
    /// To a deletion.
    DeleteRange(DeleteRangeResponse),
    /// To a transaction.
    Txn(TxnResponse),
}

/// What a transaction answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Where the store is.
    pub revision: Revision,
    /// Whether the compares held.
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub responses: Vec<OpResponse>,
}

/// A condition on a key, or on every key of a range.
///
/// A key that does not exist has version, revisions and lease 0, and no comparison with its value holds. A range
/// without keys counts as one such key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    /// The first key.
    pub key: Bytes,
    /// See [`KeyRange`].
    pub range_end: Bytes,
    /// How the key's side stands to the given one.
    pub op: CompareOp,
    /// What is compared, and with what.
    pub target: CompareTarget,
}

impl Compare {
    /// A condition on one key.
    pub fn new(key: impl Into<Bytes>, op: CompareOp, target: CompareTarget) -> Self {
        Self { key: key.into(), range_end: Bytes::new(), op, target }
    }

    /// The keys it is about.
    pub fn range(&self) -> KeyRange {
        KeyRange::new(self.key.clone(), self.range_end.clone())
    }
}

/// How two sides stand to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompareOp {
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `<`
    Less,
    /// `!=`
    NotEqual,
}

impl CompareOp {
    /// Whether an ordering of the key's side to the given one satisfies the comparison.
    pub fn holds(self, ordering: std::cmp::Ordering) -> bool {
        match self {
            CompareOp::Equal => ordering.is_eq(),
            CompareOp::Greater => ordering.is_gt(),
            CompareOp::Less => ordering.is_lt(),
            CompareOp::NotEqual => ordering.is_ne(),
        }
    }
}

/// What is compared, and with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompareTarget {
    /// How often it was put.
    Version(i64),
    /// When it was created.
    CreateRevision(Revision),
    /// When it was last put.
    ModRevision(Revision),
    /// Its value.
    Value(Bytes),
    /// Its lease.
    Lease(LeaseId),
}
