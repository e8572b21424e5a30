//! Leases.

use std::time::Duration;

use super::{Entry, Trial, collect, refused};
use crate::{
    Error, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, Revision,
    WatchRequest, limits::LEASE_TTL_SECONDS_MAX,
};

async fn grant(t: &Trial<'_>, ttl: i64) -> LeaseId {
    let granted = t.store.lease_grant(LeaseGrantRequest { id: LeaseId::NONE, ttl }).await.expect("grant");
    assert!(granted.ttl >= ttl);
    granted.id
}

async fn put(t: &Trial<'_>, key: &str, lease: LeaseId) -> Revision {
    t.store.put(PutRequest { lease, ..PutRequest::new(t.key(key), "v") }).await.expect("put").revision
}

async fn left(t: &Trial<'_>, id: LeaseId) -> Result<LeaseTimeToLiveResponse, Error> {
    t.store.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true }).await
}

async fn keys(t: &Trial<'_>, id: LeaseId) -> Vec<String> {
    left(t, id).await.expect("in force").keys.iter().map(|key| t.short(key)).collect()
}

pub(super) const CASES: &[Entry] = &[
    ("a lease is granted with a chosen or a new id", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let chosen = LeaseGrantRequest { id: LeaseId(0x1234_5678), ttl: 60 };
            let granted = t.store.lease_grant(chosen).await.expect("grant");
            assert_eq!((granted.id, granted.ttl), (chosen.id, 60));
            refused(t.store.lease_grant(chosen).await, |error| matches!(error, Error::LeaseExists(_)));
            let (one, two) = (grant(&t, 60).await, grant(&t, 60).await);
            assert!(one != two && one != LeaseId::NONE && two != LeaseId::NONE);
            let long = LeaseGrantRequest { id: LeaseId::NONE, ttl: LEASE_TTL_SECONDS_MAX + 1 };
            refused(t.store.lease_grant(long).await, |error| matches!(error, Error::LeaseTtlTooLarge { .. }));
            let listed = t.store.leases().await.expect("leases").leases;
            assert!([chosen.id, one, two].iter().all(|id| listed.contains(id)));
            for id in [chosen.id, one, two] {
                t.store.lease_revoke(id).await.expect("revoke");
            }
            let listed = t.store.leases().await.expect("leases").leases;
            assert!(![chosen.id, one, two].iter().any(|id| listed.contains(id)));
            assert_eq!(t.revision().await, start, "no key, no revision");
        })
    }),
    ("a lease knows its keys", |t| {
        Box::pin(async move {
            let (one, two) = (grant(&t, 60).await, grant(&t, 60).await);
            for key in ["b", "a", "c", "d"] {
                put(&t, key, one).await;
            }
            assert_eq!(keys(&t, one).await, ["a", "b", "c", "d"]);
            assert_eq!(t.get("a").await.expect("there").lease, one);
            // Moved, detached, deleted, put again with its lease.
            put(&t, "a", two).await;
            put(&t, "b", LeaseId::NONE).await;
            t.delete("c").await;
            let keep = PutRequest { ignore_lease: true, ..PutRequest::new(t.key("d"), "w") };
            t.store.put(keep.clone()).await.expect("put");
            assert_eq!((keys(&t, one).await, keys(&t, two).await), (vec!["d".to_owned()], vec!["a".to_owned()]));
            assert_eq!(t.get("d").await.map(|kv| (kv.lease, kv.value)), Some((one, "w".into())));
            let both = PutRequest { lease: two, ..keep.clone() };
            refused(t.store.put(both).await, |error| matches!(error, Error::LeaseProvided));
            let missing = PutRequest { key: t.key("no"), ..keep };
            refused(t.store.put(missing).await, |error| matches!(error, Error::KeyNotFound));
        })
    }),
    ("revocation deletes the keys in one revision", |t| {
        Box::pin(async move {
            let id = grant(&t, 60).await;
            for key in ["b", "c", "a"] {
                put(&t, key, id).await;
            }
            let start = put(&t, "stays", LeaseId::NONE).await;
            let mut watch = t
                .store
                .watch(WatchRequest { range_end: t.end(), ..WatchRequest::key(t.key("")) })
                .await
                .expect("watch");
            let revoked = t.store.lease_revoke(id).await.expect("revoke");
            assert_eq!(revoked.revision, start.next());
            assert_eq!(t.text(&t.range(t.all()).await), "stays=v");
            let events = collect(&mut watch, 3).await;
            assert_eq!(t.events(&events, start), "-a@1 -b@1 -c@1");
            refused(t.store.lease_revoke(id).await, |error| matches!(error, Error::LeaseNotFound(_)));
            refused(t.store.lease_keep_alive(id).await, |error| matches!(error, Error::LeaseNotFound(_)));
            refused(left(&t, id).await, |error| matches!(error, Error::LeaseNotFound(_)));
        })
    }),
    ("a lease that is not kept alive ends, and its keys with it", |t| {
        Box::pin(async move {
            let (short, kept) = (grant(&t, 3).await, grant(&t, 3).await);
            put(&t, "short", short).await;
            put(&t, "short2", short).await;
            let start = put(&t, "kept", kept).await;
            let mut watch = t
                .store
                .watch(WatchRequest { range_end: t.end(), ..WatchRequest::key(t.key("")) })
                .await
                .expect("watch");
            t.harness.pass(Duration::from_millis(1500)).await;
            let alive = t.store.lease_keep_alive(kept).await.expect("keep alive");
            assert_eq!((alive.id, alive.ttl), (kept, 3));
            assert!(left(&t, short).await.expect("in force").ttl < 3);
            t.harness.pass(Duration::from_millis(1600)).await;
            let events = collect(&mut watch, 2).await;
            assert_eq!(t.events(&events, start), "-short@1 -short2@1");
            assert_eq!(t.text(&t.range(t.all()).await), "kept=v");
            refused(left(&t, short).await, |error| matches!(error, Error::LeaseNotFound(_)));
            t.store.lease_revoke(kept).await.expect("revoke");
        })
    }),
    ("time to live counts down and starts over", |t| {
        Box::pin(async move {
            let id = grant(&t, 100).await;
            t.harness.pass(Duration::from_millis(1100)).await;
            let before = left(&t, id).await.expect("in force");
            assert_eq!(before.granted_ttl, 100);
            assert!((90..99).contains(&before.ttl), "{before:?}");
            t.store.lease_keep_alive(id).await.expect("keep alive");
            assert!(left(&t, id).await.expect("in force").ttl >= 99);
            t.store.lease_revoke(id).await.expect("revoke");
        })
    }),
];
