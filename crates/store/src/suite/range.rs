//! Ranges.

use super::{Entry, Trial, refused};
use crate::{Error, RangeRequest, Revision, SortOrder, SortTarget};

/// Keys whose order differs by each target: by key abc, by version bca, by creation cab, by change cba, by value bac.
async fn five(t: &Trial<'_>) -> Revision {
    let first = t.put("c", "3").await;
    t.put("a", "x").await;
    t.put("b", "x").await;
    t.put("c", "9").await;
    t.put("a", "x").await;
    t.put("a", "2").await;
    t.put("b", "1").await;
    first
}

pub(super) const CASES: &[Entry] = &[
    ("ranges follow the conventions of range_end", |t| {
        Box::pin(async move {
            for key in ["a", "a1", "b", "c"] {
                t.put(key, "v").await;
            }
            let range = async |key: &str, end: bytes::Bytes| {
                let request = RangeRequest { key: t.key(key), range_end: end, ..RangeRequest::default() };
                let response = t.range(request).await;
                assert_eq!(response.count, response.kvs.len() as i64);
                t.text(&response)
            };
            assert_eq!(range("a", "".into()).await, "a=v");
            assert_eq!(range("0", "".into()).await, "");
            assert_eq!(range("a", t.key("b")).await, "a=v a1=v");
            assert_eq!(range("a", t.key("a")).await, "");
            assert_eq!(range("c", t.key("a")).await, "");
            assert_eq!(range("", t.end()).await, "a=v a1=v b=v c=v");
            let from = RangeRequest { key: t.key("b"), range_end: "\0".into(), ..RangeRequest::default() };
            let keys: Vec<_> = t.range(from).await.kvs.into_iter().take(2).map(|kv| t.short(&kv.key)).collect();
            assert_eq!(keys, ["b", "c"]);
        })
    }),
    ("a limit cuts and says so, the count does not change", |t| {
        Box::pin(async move {
            five(&t).await;
            for (limit, expect, more) in
                [(0, "a=2 b=1 c=9", false), (1, "a=2", true), (2, "a=2 b=1", true), (3, "a=2 b=1 c=9", false)]
            {
                let response = t.range(RangeRequest { limit, ..t.all() }).await;
                assert_eq!((t.text(&response).as_str(), response.more, response.count), (expect, more, 3));
            }
        })
    }),
    ("keys and counts can be asked for alone", |t| {
        Box::pin(async move {
            five(&t).await;
            let keys = t.range(RangeRequest { keys_only: true, ..t.all() }).await;
            assert_eq!((t.text(&keys).as_str(), keys.count), ("a= b= c=", 3));
            assert_eq!(keys.kvs[0].version, 3);
            let count = t.range(RangeRequest { count_only: true, ..t.all() }).await;
            assert_eq!((count.kvs.len(), count.count, count.more), (0, 3, false));
        })
    }),
    ("ranges are sorted by each target", |t| {
        Box::pin(async move {
            five(&t).await;
            for (target, expect) in [
                (SortTarget::Key, "a=2 b=1 c=9"),
                (SortTarget::Create, "c=9 a=2 b=1"),
                (SortTarget::Mod, "c=9 a=2 b=1"),
                (SortTarget::Value, "b=1 a=2 c=9"),
            ] {
                let sorted = async |sort_order, limit| {
                    let request = RangeRequest { sort_order, sort_target: target, limit, ..t.all() };
                    t.text(&t.range(request).await)
                };
                let reverse = expect.split(' ').rev().collect::<Vec<_>>().join(" ");
                assert_eq!(sorted(SortOrder::Ascend, 0).await, expect, "{target:?}");
                assert_eq!(sorted(SortOrder::None, 0).await, expect, "{target:?}");
                assert_eq!(sorted(SortOrder::Descend, 0).await, reverse, "{target:?}");
                assert_eq!(sorted(SortOrder::Descend, 1).await, reverse[..3], "{target:?}");
            }
            let by_version = RangeRequest {
                sort_order: SortOrder::Descend,
                sort_target: SortTarget::Version,
                limit: 1,
                keys_only: true,
                ..t.all()
            };
            assert_eq!(t.text(&t.range(by_version).await), "a=");
        })
    }),
    ("bounds on revisions leave keys out but not of the count", |t| {
        Box::pin(async move {
            let first = five(&t).await.0;
            let by = |min_mod: i64, max_mod: i64, min_create: i64, max_create: i64| {
                let at = |offset: i64| Revision(if offset < 0 { 0 } else { first + offset });
                RangeRequest {
                    min_mod_revision: at(min_mod),
                    max_mod_revision: at(max_mod),
                    min_create_revision: at(min_create),
                    max_create_revision: at(max_create),
                    ..t.all()
                }
            };
            for (request, expect) in [
                (by(5, -1, -1, -1), "a=2 b=1"),
                (by(-1, 5, -1, -1), "a=2 c=9"),
                (by(-1, -1, 1, -1), "a=2 b=1"),
                (by(-1, -1, -1, 1), "a=2 c=9"),
                (by(4, 5, 1, 1), "a=2"),
            ] {
                let response = t.range(request).await;
                assert_eq!((t.text(&response).as_str(), response.count), (expect, 3));
            }
            let limited = t.range(RangeRequest { limit: 1, ..by(5, -1, -1, -1) }).await;
            assert_eq!((t.text(&limited).as_str(), limited.more), ("a=2", true));
        })
    }),
    ("old revisions are read as they were", |t| {
        Box::pin(async move {
            let first = five(&t).await.0;
            t.delete("b").await;
            for (at, expect) in
                [(-1, ""), (0, "c=3"), (2, "a=x b=x c=3"), (3, "a=x b=x c=9"), (6, "a=2 b=1 c=9"), (7, "a=2 c=9")]
            {
                let response = t.range(RangeRequest { revision: Revision(first + at), ..t.all() }).await;
                assert_eq!(t.text(&response), expect, "{at}");
                assert_eq!(response.revision, Revision(first + 7), "the header says now");
            }
            let kv = t.range(RangeRequest { revision: Revision(first + 5), ..RangeRequest::key(t.key("a")) }).await;
            assert_eq!((kv.kvs[0].version, kv.kvs[0].create_revision.0), (3, first + 1));
        })
    }),
    ("a future revision is refused", |t| {
        Box::pin(async move {
            let now = t.put("a", "1").await;
            let request = RangeRequest { revision: now.next(), ..t.all() };
            refused(t.store.range(request).await, |error| matches!(error, Error::FutureRevision { .. }));
        })
    }),
    ("a range over many keys is whole, in order, and of one revision", |t| {
        Box::pin(async move {
            for key in 0..1500 {
                t.put(&format!("{key:05}"), "v").await;
            }
            let all = t.range(t.all()).await;
            assert_eq!((all.count, all.kvs.len()), (1500, 1500));
            assert!(all.kvs.is_sorted_by(|a, b| a.key < b.key));
            let some = t.range(RangeRequest { limit: 700, ..t.all() }).await;
            assert_eq!((some.count, some.kvs.len(), some.more), (1500, 700, true));
        })
    }),
];
