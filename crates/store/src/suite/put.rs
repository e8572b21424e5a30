//! Puts and deletions.

use super::{Entry, refused};
use crate::{DeleteRangeRequest, Error, LeaseId, PutRequest, Revision, limits::REQUEST_BYTES_MAX};

pub(super) const CASES: &[Entry] = &[
    ("put raises the revision by one and counts versions", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let first = t.put("a", "1").await;
            let second = t.put("a", "2").await;
            assert_eq!((first.0, second.0), (start.0 + 1, start.0 + 2));
            let kv = t.get("a").await.expect("there");
            assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (first, second, 2));
            assert_eq!(kv.value, "2");
            assert_eq!(t.revision().await, second);
        })
    }),
    ("a key put again after its deletion starts over", |t| {
        Box::pin(async move {
            t.put("a", "1").await;
            t.put("a", "2").await;
            t.delete("a").await;
            assert_eq!(t.get("a").await, None);
            let again = t.put("a", "3").await;
            let kv = t.get("a").await.expect("there");
            assert_eq!((kv.create_revision, kv.mod_revision, kv.version), (again, again, 1));
        })
    }),
    ("put returns the key as it was", |t| {
        Box::pin(async move {
            let put = |value: &'static str| PutRequest { prev_kv: true, ..PutRequest::new(t.key("a"), value) };
            assert_eq!(t.store.put(put("1")).await.expect("put").prev_kv, None);
            let prev = t.store.put(put("2")).await.expect("put").prev_kv.expect("it was there");
            assert_eq!((&prev.value[..], prev.version), (&b"1"[..], 1));
            t.delete("a").await;
            assert_eq!(t.store.put(put("3")).await.expect("put").prev_kv, None);
        })
    }),
    ("put can keep the value", |t| {
        Box::pin(async move {
            let keep = PutRequest { ignore_value: true, ..PutRequest::new(t.key("a"), "") };
            refused(t.store.put(keep.clone()).await, |error| matches!(error, Error::KeyNotFound));
            t.put("a", "1").await;
            let revision = t.store.put(keep.clone()).await.expect("put").revision;
            let kv = t.get("a").await.expect("there");
            assert_eq!((&kv.value[..], kv.version, kv.mod_revision), (&b"1"[..], 2, revision));
            let both = PutRequest { value: "x".into(), ..keep };
            refused(t.store.put(both).await, |error| matches!(error, Error::ValueProvided));
        })
    }),
    ("an empty key is refused and changes nothing", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            refused(t.store.put(PutRequest::new("", "v")).await, |error| matches!(error, Error::EmptyKey));
            let delete = t.store.delete_range(DeleteRangeRequest::key("")).await;
            refused(delete, |error| matches!(error, Error::EmptyKey));
            let range = t.store.range(crate::RangeRequest::key("")).await;
            refused(range, |error| matches!(error, Error::EmptyKey));
            assert_eq!(t.revision().await, start);
        })
    }),
    ("values of all sizes up to the limit come back whole", |t| {
        Box::pin(async move {
            let sizes = [0, 1, 511, 512, 513, 4095, 4096, 4097, 65_536, REQUEST_BYTES_MAX - 1024];
            for size in sizes {
                let value: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
                let key = t.key(&size.to_string());
                t.store.put(PutRequest::new(key, value.clone())).await.expect("put");
                assert!(t.get(&size.to_string()).await.expect("there").value == value, "{size}");
            }
            let large = PutRequest::new(t.key("large"), vec![0; REQUEST_BYTES_MAX + 1]);
            refused(t.store.put(large).await, |error| matches!(error, Error::RequestTooLarge { .. }));
            assert_eq!(t.get("large").await, None);
        })
    }),
    ("a deletion without keys does not raise the revision", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let response = t.store.delete_range(DeleteRangeRequest::key(t.key("no"))).await.expect("delete");
            assert_eq!((response.deleted, response.revision), (0, start));
            assert_eq!(t.revision().await, start);
        })
    }),
    ("a deletion of a range is one revision", |t| {
        Box::pin(async move {
            for key in ["a", "b", "c", "d"] {
                t.put(key, "v").await;
            }
            let start = t.revision().await;
            let request = DeleteRangeRequest { key: t.key("b"), range_end: t.key("d"), prev_kv: true };
            let response = t.store.delete_range(request).await.expect("delete");
            assert_eq!((response.deleted, response.revision), (2, Revision(start.0 + 1)));
            let prev: Vec<String> = response.prev_kvs.iter().map(|kv| t.short(&kv.key)).collect();
            assert_eq!(prev, ["b", "c"]);
            let left = t.range(t.all()).await;
            assert_eq!(t.text(&left), "a=v d=v");
        })
    }),
    ("a lease that does not exist is refused", |t| {
        Box::pin(async move {
            let start = t.revision().await;
            let put = PutRequest { lease: LeaseId(0x5bad), ..PutRequest::new(t.key("a"), "v") };
            refused(t.store.put(put).await, |error| matches!(error, Error::LeaseNotFound(_)));
            assert_eq!((t.get("a").await, t.revision().await), (None, start));
        })
    }),
];
