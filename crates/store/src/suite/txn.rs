//! Transactions.

use bytes::Bytes;

use super::{Entry, refused};
use crate::{
    Compare, CompareOp::*, CompareTarget as Target, DeleteRangeRequest, Error, LeaseId, Op, OpResponse, PutRequest,
    RangeRequest, Revision, TxnRequest, limits::TXN_OPS_MAX,
};

/// Whether a refusal is the one expected.
type Refusal = fn(&Error) -> bool;

pub(super) const CASES: &[Entry] = &[
    ("compares hold as in etcd", |t| {
        Box::pin(async move {
            let first = t.put("a", "m").await;
            let second = t.put("a", "n").await;
            let table = [
                ("a", Target::Version(2), [true, false, false, false]),
                ("a", Target::Version(1), [false, true, false, true]),
                ("a", Target::Version(3), [false, false, true, true]),
                ("a", Target::CreateRevision(first), [true, false, false, false]),
                ("a", Target::ModRevision(first), [false, true, false, true]),
                ("a", Target::ModRevision(second), [true, false, false, false]),
                ("a", Target::Value("n".into()), [true, false, false, false]),
                ("a", Target::Value("m".into()), [false, true, false, true]),
                ("a", Target::Value("z".into()), [false, false, true, true]),
                ("a", Target::Lease(LeaseId(0)), [true, false, false, false]),
                ("a", Target::Lease(LeaseId(1)), [false, false, true, true]),
                ("no", Target::Version(0), [true, false, false, false]),
                ("no", Target::CreateRevision(Revision(0)), [true, false, false, false]),
                ("no", Target::ModRevision(first), [false, false, true, true]),
                ("no", Target::Value(Bytes::new()), [false; 4]),
                ("no", Target::Value("x".into()), [false; 4]),
            ];
            for (key, target, expect) in table {
                for (op, expect) in [Equal, Greater, Less, NotEqual].into_iter().zip(expect) {
                    let response = t.txn(vec![t.when(key, op, target.clone())], vec![], vec![]).await;
                    assert_eq!(response.succeeded, expect, "{key} {op:?} {target:?}");
                }
            }
        })
    }),
    ("a compare on a range must hold for every key", |t| {
        Box::pin(async move {
            t.put("a", "1").await;
            t.put("b", "1").await;
            t.put("b", "1").await;
            let on = |op, target, end: Bytes| Compare { key: t.key("a"), range_end: end, op, target };
            for (compare, expect) in [
                (on(Equal, Target::Value("1".into()), t.end()), true),
                (on(Equal, Target::Version(1), t.end()), false),
                (on(Greater, Target::Version(0), t.end()), true),
                (on(NotEqual, Target::Value("2".into()), t.end()), true),
                (Compare { key: t.key("x"), ..on(Equal, Target::Version(0), t.end()) }, true),
                (Compare { key: t.key("x"), ..on(Equal, Target::Value("".into()), t.end()) }, false),
            ] {
                assert_eq!(t.txn(vec![compare.clone()], vec![], vec![]).await.succeeded, expect, "{compare:?}");
            }
        })
    }),
    ("one branch is done, as one revision", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await;
            let compare = || vec![t.when("a", Equal, Target::Value("1".into()))];
            let branches =
                || (vec![t.put_op("a", "2"), t.put_op("b", "2"), t.delete_op("c")], vec![t.put_op("no", "x")]);
            let (success, failure) = branches();
            let response = t.txn(compare(), success, failure).await;
            assert_eq!((response.succeeded, response.revision.0), (true, start.0 + 1));
            assert_eq!(t.text(&t.range(t.all()).await), "a=2 b=2");
            for key in ["a", "b"] {
                assert_eq!(t.get(key).await.expect("there").mod_revision.0, start.0 + 1);
            }
            let (failure, success) = branches();
            let response = t.txn(compare(), success, failure).await;
            assert!(!response.succeeded);
            assert_eq!(response.responses.len(), 3);
            assert_eq!(t.get("no").await, None);
        })
    }),
    ("a transaction that changes nothing does not raise the revision", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await;
            let reads = vec![t.get_op("a"), t.delete_op("no")];
            let response = t.txn(vec![], reads, vec![]).await;
            assert_eq!((response.succeeded, response.revision), (true, start));
            assert_eq!(t.txn(vec![], vec![t.get_op("a")], vec![]).await.revision, start);
        })
    }),
    ("operations see what earlier ones did", |t| {
        Box::pin(async move {
            let start = t.put("a", "old").await;
            let ops = vec![t.get_op("a"), t.put_op("a", "new"), t.get_op("a"), t.delete_op("b")];
            let response = t.txn(vec![], ops, vec![]).await;
            let [OpResponse::Range(before), OpResponse::Put(put), OpResponse::Range(after), OpResponse::DeleteRange(_)] =
                &response.responses[..]
            else {
                panic!("{response:?}")
            };
            assert_eq!((t.text(before).as_str(), before.revision), ("a=old", start));
            assert_eq!(put.revision, start.next());
            assert_eq!((t.text(after).as_str(), after.revision), ("a=new", start.next()));
        })
    }),
    ("transactions within decide by what was before", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await;
            let inner = |value: &'static str, then: &'static str, otherwise: &'static str| {
                Op::Txn(TxnRequest {
                    compare: vec![t.when("a", Equal, Target::Value(value.into()))],
                    success: vec![t.put_op(then, "yes")],
                    failure: vec![t.put_op(otherwise, "yes")],
                })
            };
            // The outer put comes first, yet the inner compare sees the value from before.
            let ops = vec![t.put_op("a", "2"), inner("1", "b", "c"), inner("2", "d", "e")];
            let response = t.txn(vec![], ops, vec![]).await;
            assert_eq!(t.text(&t.range(t.all()).await), "a=2 b=yes e=yes");
            assert_eq!(response.revision, start.next());
            let succeeded: Vec<bool> = response
                .responses
                .iter()
                .filter_map(|response| match response {
                    OpResponse::Txn(inner) => Some(inner.succeeded),
                    _ => None,
                })
                .collect();
            assert_eq!(succeeded, [true, false]);
        })
    }),
    ("a key may be changed only once", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let delete_all =
                || Op::DeleteRange(DeleteRangeRequest { key: t.key(""), range_end: t.end(), prev_kv: false });
            let within = |success, failure| Op::Txn(TxnRequest { compare: vec![], success, failure });
            for ops in [
                vec![t.put_op("a", "1"), t.put_op("a", "2")],
                vec![t.put_op("a", "1"), t.delete_op("a")],
                vec![t.delete_op("a"), t.put_op("a", "1")],
                vec![delete_all(), t.put_op("a", "1")],
                vec![t.put_op("a", "1"), within(vec![], vec![t.put_op("a", "2")])],
                vec![within(vec![delete_all()], vec![]), t.put_op("a", "1")],
                vec![within(vec![t.put_op("a", "1")], vec![]), within(vec![], vec![t.put_op("a", "1")])],
            ] {
                for (success, failure) in [(ops.clone(), vec![]), (vec![], ops.clone())] {
                    let result = t.store.txn(TxnRequest { compare: vec![], success, failure }).await;
                    refused(result, |error| matches!(error, Error::DuplicateKey { .. }));
                }
            }
            assert_eq!((t.get("a").await, t.revision().await), (None, start));
            // The branches of one transaction exclude each other; deletions may overlap.
            let both = within(vec![t.put_op("a", "1")], vec![t.put_op("a", "2")]);
            t.txn(vec![], vec![both], vec![]).await;
            t.txn(vec![], vec![t.delete_op("a"), delete_all()], vec![]).await;
            assert_eq!(t.get("a").await, None);
        })
    }),
    ("too many operations are refused", |t| {
        Box::pin(async move {
            let ops = |count: usize| (0..count).map(|key| t.put_op(&key.to_string(), "v")).collect::<Vec<_>>();
            let compares = vec![t.when("a", Equal, Target::Version(0)); TXN_OPS_MAX + 1];
            for request in [
                TxnRequest { success: ops(TXN_OPS_MAX + 1), ..TxnRequest::default() },
                TxnRequest { failure: ops(TXN_OPS_MAX + 1), ..TxnRequest::default() },
                TxnRequest { compare: compares, ..TxnRequest::default() },
            ] {
                refused(t.store.txn(request).await, |error| matches!(error, Error::TooManyOps { .. }));
            }
            assert_eq!(t.txn(vec![], ops(TXN_OPS_MAX), vec![]).await.responses.len(), TXN_OPS_MAX);
            assert_eq!(t.range(t.all()).await.count, TXN_OPS_MAX as i64);
        })
    }),
    ("one operation that fails undoes all", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await;
            let keep = PutRequest { ignore_value: true, ..PutRequest::new(t.key("no"), "") };
            let lease = PutRequest { lease: LeaseId(0x5bad), ..PutRequest::new(t.key("x"), "v") };
            let future = RangeRequest { revision: Revision(start.0 + 1), ..t.all() };
            let cases: [(Op, Refusal); 3] = [
                (Op::Put(keep), |error| matches!(error, Error::KeyNotFound)),
                (Op::Put(lease), |error| matches!(error, Error::LeaseNotFound(_))),
                (Op::Range(future), |error| matches!(error, Error::FutureRevision { .. })),
            ];
            for (last, expect) in cases {
                let success = vec![t.put_op("a", "2"), t.put_op("b", "2"), last];
                let result = t.store.txn(TxnRequest { compare: vec![], success, failure: vec![] }).await;
                refused(result, expect);
                assert_eq!(t.text(&t.range(t.all()).await), "a=1");
                assert_eq!(t.revision().await, start);
            }
        })
    }),
    ("an empty key in a transaction is refused", |t| {
        Box::pin(async move {
            let empty = || RangeRequest::key("");
            for request in [
                TxnRequest { success: vec![Op::Range(empty())], ..TxnRequest::default() },
                TxnRequest { failure: vec![Op::Put(PutRequest::new("", "v"))], ..TxnRequest::default() },
                TxnRequest { compare: vec![Compare::new("", Equal, Target::Version(0))], ..TxnRequest::default() },
            ] {
                refused(t.store.txn(request).await, |error| matches!(error, Error::EmptyKey));
            }
        })
    }),
];
