//! Compaction, hashes and status.

use super::{Entry, Trial, refused};
use crate::{CompactRequest, Error, HashRequest, RangeRequest, Revision};

async fn compact(t: &Trial<'_>, revision: Revision) -> Result<crate::CompactResponse, Error> {
    t.store.compact(CompactRequest { revision, physical: true }).await
}

pub(super) const CASES: &[Entry] = &[
    ("compaction gives up what is below and keeps the rest", |t| {
        Box::pin(async move {
            let start = t.put("a", "1").await.0;
            t.put("b", "1").await;
            t.put("a", "2").await;
            t.delete("b").await;
            t.put("a", "3").await;
            compact(&t, Revision(start + 3)).await.expect("compact");
            for below in 0..3 {
                let request = RangeRequest { revision: Revision(start + below), ..t.all() };
                refused(t.store.range(request).await, |error| matches!(error, Error::Compacted { .. }));
            }
            for (at, expect) in [(3, "a=2"), (4, "a=3")] {
                let response = t.range(RangeRequest { revision: Revision(start + at), ..t.all() }).await;
                assert_eq!(t.text(&response), expect);
            }
            let kv = t.get("a").await.expect("there");
            assert_eq!((kv.create_revision.0, kv.version), (start, 3));
        })
    }),
    ("compaction goes forward only, and not into the future", |t| {
        Box::pin(async move {
            t.put("a", "1").await;
            let now = t.put("a", "2").await;
            refused(compact(&t, now.next()).await, |error| matches!(error, Error::FutureRevision { .. }));
            compact(&t, now).await.expect("compact");
            refused(compact(&t, now).await, |error| matches!(error, Error::Compacted { .. }));
            refused(compact(&t, Revision(now.0 - 1)).await, |error| matches!(error, Error::Compacted { .. }));
            assert_eq!(t.revision().await, now, "compaction is no revision");
            assert_eq!(t.text(&t.range(t.all()).await), "a=2");
        })
    }),
    ("equal histories have equal hashes, others do not", |t| {
        Box::pin(async move {
            let hash = async |revision| t.store.hash(HashRequest { revision }).await.expect("hash");
            let first = t.put("a", "1").await;
            let one = hash(Revision(0)).await;
            assert_eq!((one.hash_revision, one.revision), (first, first));
            let second = t.put("a", "2").await;
            let two = hash(Revision(0)).await;
            assert_ne!(one.hash, two.hash);
            let again = hash(first).await;
            assert_eq!((again.hash, again.hash_revision, again.revision), (one.hash, first, second));
            let future = t.store.hash(HashRequest { revision: second.next() }).await;
            refused(future, |error| matches!(error, Error::FutureRevision { .. }));
        })
    }),
];
