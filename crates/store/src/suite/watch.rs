//! Watches.

use super::{Entry, Trial, collect, next_events, next_item, refused};
use crate::{DeleteRangeRequest, Error, EventKind, Op, Revision, Watch, WatchItem, WatchRequest};

fn all(t: &Trial<'_>) -> WatchRequest {
    WatchRequest { range_end: t.end(), ..WatchRequest::key(t.key("")) }
}

async fn watch(t: &Trial<'_>, request: WatchRequest) -> Watch {
    t.store.watch(request).await.expect("watch")
}

pub(super) const CASES: &[Entry] = &[
    ("a watch tells what happens from now on", |t| {
        Box::pin(async move {
            let start = t.put("a", "before").await;
            let mut watch = watch(&t, all(&t)).await;
            assert_eq!(watch.revision(), start);
            t.put("a", "1").await;
            t.put("b", "2").await;
            t.delete("a").await;
            let events = collect(&mut watch, 3).await;
            assert_eq!(t.events(&events, start), "+a=1@1 +b=2@2 -a@3");
            let delete = &events[2].kv;
            assert_eq!((delete.version, delete.create_revision.0, delete.value.len()), (0, 0, 0));
            assert_eq!((events[0].kv.version, events[0].kv.create_revision), (2, start));
        })
    }),
    ("a watch of one key or a range tells of nothing else", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let mut one = watch(&t, WatchRequest::key(t.key("b"))).await;
            let range = WatchRequest { range_end: t.key("c"), ..WatchRequest::key(t.key("b")) };
            let mut some = watch(&t, range).await;
            for key in ["a", "b", "b1", "c", "b"] {
                t.put(key, "v").await;
            }
            assert_eq!(t.events(&collect(&mut one, 2).await, start), "+b=v@2 +b=v@5");
            assert_eq!(t.events(&collect(&mut some, 3).await, start), "+b=v@2 +b1=v@3 +b=v@5");
        })
    }),
    ("a watch from the past replays, then goes on", |t| {
        Box::pin(async move {
            let start = t.put("a", "0").await;
            t.put("a", "1").await;
            t.put("x", "1").await;
            t.delete("a").await;
            let mut watch = watch(&t, WatchRequest::key(t.key("a")).from(start)).await;
            t.put("a", "2").await;
            let events = collect(&mut watch, 4).await;
            assert_eq!(t.events(&events, start), "+a=0@0 +a=1@1 -a@3 +a=2@4");
            t.put("a", "3").await;
            assert_eq!(t.events(&collect(&mut watch, 1).await, start), "+a=3@5");
        })
    }),
    ("a watch from the future waits for it", |t| {
        Box::pin(async move {
            let start = t.put("a", "0").await;
            let mut watch = watch(&t, all(&t).from(Revision(start.0 + 3))).await;
            for value in ["1", "2", "3", "4"] {
                t.put("a", value).await;
            }
            assert_eq!(t.events(&collect(&mut watch, 2).await, start), "+a=3@3 +a=4@4");
        })
    }),
    ("the events of one revision come together and in order", |t| {
        Box::pin(async move {
            let start = t.put("c", "0").await;
            let mut live = watch(&t, all(&t)).await;
            let delete = DeleteRangeRequest::key(t.key("c"));
            let ops = vec![t.put_op("b", "1"), Op::DeleteRange(delete), t.put_op("a", "1")];
            t.txn(vec![], ops, vec![]).await;
            t.put("d", "2").await;
            let first = next_events(&mut live).await;
            assert!(first.len() >= 3, "{first:?}");
            let mut past = watch(&t, all(&t).from(start.next())).await;
            let events = collect(&mut past, 4).await;
            assert_eq!(t.events(&events, start), "+b=1@1 -c@1 +a=1@1 +d=2@2");
            assert_eq!(first[..], events[..first.len()]);
        })
    }),
    ("a watch can leave puts or deletions out", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let mut puts = watch(&t, WatchRequest { no_delete: true, ..all(&t) }).await;
            let mut deletes = watch(&t, WatchRequest { no_put: true, ..all(&t) }).await;
            t.put("a", "1").await;
            t.delete("a").await;
            t.put("a", "2").await;
            t.delete("a").await;
            assert_eq!(t.events(&collect(&mut puts, 2).await, start), "+a=1@1 +a=2@3");
            assert_eq!(t.events(&collect(&mut deletes, 2).await, start), "-a@2 -a@4");
            let mut past = watch(&t, WatchRequest { no_put: true, ..all(&t) }.from(start.next())).await;
            assert_eq!(t.events(&collect(&mut past, 2).await, start), "-a@2 -a@4");
        })
    }),
    ("a watch can tell keys as they were", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let with = WatchRequest { prev_kv: true, ..all(&t) };
            let mut live = watch(&t, with.clone()).await;
            t.put("a", "1").await;
            t.put("a", "2").await;
            t.delete("a").await;
            t.put("a", "3").await;
            let mut past = watch(&t, with.from(start.next())).await;
            for watch in [&mut live, &mut past] {
                let events = collect(watch, 4).await;
                let prev: Vec<Option<String>> =
                    events.iter().map(|event| event.prev_kv.as_ref().map(|kv| super::text(&kv.value))).collect();
                assert_eq!(prev, [None, Some("1".into()), Some("2".into()), None]);
                let before = events[2].prev_kv.as_ref().expect("it was there");
                assert_eq!((before.version, before.mod_revision.0), (2, start.0 + 2));
            }
        })
    }),
    ("a watch tells how far it is when asked", |t| {
        Box::pin(async move {
            let mut watch = watch(&t, WatchRequest::key(t.key("a"))).await;
            t.put("a", "1").await;
            let now = t.put("other", "1").await;
            watch.request_progress();
            let mut seen = 0;
            loop {
                match next_item(&mut watch).await {
                    WatchItem::Events { events, .. } => seen += events.len(),
                    WatchItem::Progress { revision } if revision >= now => break,
                    // Progress may be told before the puts were seen; then it is asked for again.
                    WatchItem::Progress { .. } => watch.request_progress(),
                }
            }
            assert_eq!(seen, 1, "everything before is delivered first");
        })
    }),
    ("a watch resumed from the last revision seen misses and repeats nothing", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let mut next = start.next();
            let mut seen = Vec::new();
            for round in 0..20 {
                for key in 0..10 {
                    t.put(&format!("{round}-{key}"), "v").await;
                }
                let mut watch = watch(&t, all(&t).from(next)).await;
                // Takes one item, which may be any part of what is there, then is dropped.
                let events = next_events(&mut watch).await;
                next = events.last().expect("at least one").kv.mod_revision.next();
                seen.extend(events);
            }
            let mut watch = watch(&t, all(&t).from(next)).await;
            let rest = 200 - seen.len();
            if rest > 0 {
                seen.extend(collect(&mut watch, rest).await);
            }
            let revisions: Vec<i64> = seen.iter().map(|event| event.kv.mod_revision.0 - start.0).collect();
            assert_eq!(revisions, (1..=200).collect::<Vec<i64>>());
            assert!(seen.iter().all(|event| event.kind == EventKind::Put));
        })
    }),
    ("a reader that is slow gets everything in the end", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let mut slow = watch(&t, all(&t)).await;
            // More than any implementation keeps for it.
            for _ in 0..2000 {
                t.put("a", "v").await;
            }
            let events = collect(&mut slow, 2000).await;
            assert!(events.iter().map(|event| event.kv.mod_revision.0).eq(start.0 + 1..=start.0 + 2000));
            t.put("a", "last").await;
            assert_eq!(collect(&mut slow, 1).await[0].kv.value, "last");
        })
    }),
    ("dropping the future of a watch loses nothing", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let mut watch = watch(&t, all(&t)).await;
            let mut seen = Vec::new();
            for _ in 0..50 {
                t.put("a", "v").await;
                tokio::select! {
                    biased;
                    item = watch.next() => {
                        if let WatchItem::Events { events, .. } = item.expect("goes on").expect("no error") {
                            seen.extend(events);
                        }
                    }
                    () = tokio::task::yield_now() => {}
                }
            }
            let rest = 50 - seen.len();
            if rest > 0 {
                seen.extend(collect(&mut watch, rest).await);
            }
            assert!(seen.iter().map(|event| event.kv.mod_revision.0).eq(start.0 + 1..=start.0 + 50));
        })
    }),
    ("a watch from what is compacted is told so", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await;
            t.put("a", "2").await;
            let at = t.put("a", "3").await;
            t.store.compact(crate::CompactRequest { revision: at, physical: false }).await.expect("compact");
            let mut below = watch(&t, all(&t).from(start)).await;
            let first = below.next().await.expect("an answer");
            refused(first, |error| matches!(error, Error::Compacted { compacted, .. } if *compacted == at));
            assert!(below.next().await.is_none(), "it has ended");
            let mut from = watch(&t, all(&t).from(at)).await;
            assert_eq!(t.events(&collect(&mut from, 1).await, at), "+a=3@0");
        })
    }),
];
