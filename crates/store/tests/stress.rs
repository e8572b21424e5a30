//! Everything at once on one engine: transfers between accounts, readers of now and of the past, watchers that copy the
//! store, compaction without pause and segments so small that bases follow each other. The sum of all accounts never
//! changes, at any revision anybody sees.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use regrow_store::{
    AutoCompaction, CompactRequest, Compare, CompareOp, CompareTarget, Engine, Error, EventKind, HashRequest, KeyValue,
    Op, OpResponse, Options, PutRequest, RangeRequest, Revision, Store, TxnRequest, WatchItem, WatchRequest,
    disk::sim::{Random, SimDisk},
};

const ACCOUNTS: u64 = 10;
const EACH: i64 = 100;
const TRANSFERS: u64 = 1500;

fn key(account: u64) -> Bytes {
    format!("account/{account}").into()
}

/// An amount as a value, some of them long enough to live on disk only.
fn value(amount: i64) -> Bytes {
    let pad = if amount % 2 == 0 { 0 } else { 100 };
    format!("{amount} {}", "x".repeat(pad)).into()
}

fn amount(value: &[u8]) -> i64 {
    let text = std::str::from_utf8(value).expect("text");
    text.split(' ').next().expect("a field").parse().expect("a number")
}

fn sum<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> i64 {
    kvs.into_iter().map(|kv| amount(&kv.value)).sum()
}

/// Moves money if neither account has changed since it was read; now and then closes an account or opens one.
async fn transfer(engine: Engine, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut done = 0;
    for _ in 0..TRANSFERS {
        let (from, to) = (random.below(ACCOUNTS), random.below(ACCOUNTS));
        if from == to {
            continue;
        }
        let read = async |account| {
            let kv = engine.range(RangeRequest::key(key(account))).await.expect("range").kvs.pop();
            kv.map_or((Revision(0), 0), |kv| (kv.mod_revision, amount(&kv.value)))
        };
        let ((from_rev, from_has), (to_rev, to_has)) = (read(from).await, read(to).await);
        let moved = if random.below(10) == 0 { from_has } else { random.below(from_has as u64 + 1) as i64 };
        let unchanged = |account, rev| Compare::new(key(account), CompareOp::Equal, CompareTarget::ModRevision(rev));
        let put = |account, has: i64| match has {
            0 => Op::DeleteRange(regrow_store::DeleteRangeRequest::key(key(account))),
            has => Op::Put(PutRequest::new(key(account), value(has))),
        };
        let request = TxnRequest {
            compare: vec![unchanged(from, from_rev), unchanged(to, to_rev)],
            success: vec![put(from, from_has - moved), put(to, to_has + moved)],
            failure: vec![],
        };
        done += u64::from(engine.txn(request).await.expect("txn").succeeded);
    }
    done
}

/// Reads now, then the same revision again, then something older.
async fn read(engine: Engine, over: Arc<AtomicBool>, seed: u64) {
    let mut random = Random::new(seed);
    let all = || RangeRequest::prefix("account/");
    while !over.load(Ordering::Relaxed) {
        let now = engine.range(all()).await.expect("range");
        assert_eq!(sum(&now.kvs), ACCOUNTS as i64 * EACH, "{now:?}");
        for back in [0, random.below(30) as i64] {
            let revision = Revision((now.revision.0 - back).max(1));
            match engine.range(RangeRequest { revision, ..all() }).await {
                Ok(past) if back == 0 => assert_eq!(past.kvs, now.kvs),
                Ok(past) => assert!([0, ACCOUNTS as i64 * EACH].contains(&sum(&past.kvs)), "{past:?}"),
                Err(Error::Compacted { compacted, .. }) => assert!(compacted > revision),
                Err(error) => panic!("{error}"),
            }
        }
        // The same twice in one transaction that only reads.
        let past = Op::Range(RangeRequest { revision: Revision((now.revision.0 - 3).max(1)), ..all() });
        let request = TxnRequest { success: vec![past.clone(), past], ..TxnRequest::default() };
        match engine.txn(request).await.map(|response| response.responses) {
            Ok(responses) => {
                let [OpResponse::Range(one), OpResponse::Range(two)] = &responses[..] else { panic!("{responses:?}") };
                assert!([0, ACCOUNTS as i64 * EACH].contains(&sum(&one.kvs)), "{one:?}");
                assert_eq!(one, two);
            }
            Err(Error::Compacted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        match engine.hash(HashRequest { revision: now.revision }).await {
            Ok(_) | Err(Error::Compacted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Copies the store by watching it, starting over when it was too slow; returns the copy at the last revision.
async fn copy(engine: Engine, over: Arc<AtomicBool>, seed: u64) -> u64 {
    let mut random = Random::new(seed);
    let mut checked = 0;
    'anew: loop {
        let start = engine.range(RangeRequest::prefix("account/")).await.expect("range");
        let mut copy: BTreeMap<Bytes, KeyValue> = start.kvs.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
        let mut seen = start.revision;
        loop {
            // A new watch each time, or the same for a while.
            let request = WatchRequest { prev_kv: true, ..WatchRequest::prefix("account/") }.from(seen.next());
            let mut watch = engine.watch(request).await.expect("watch");
            for _ in 0..=random.below(50) {
                if over.load(Ordering::Relaxed) {
                    return checked;
                }
                watch.request_progress();
                let events = match watch.next().await.expect("goes on") {
                    Ok(WatchItem::Events { events, .. }) => events,
                    Ok(WatchItem::Progress { revision }) => {
                        assert!(revision >= seen);
                        // A revision that is told as delivered is never delivered afterwards.
                        seen = revision;
                        tokio::task::yield_now().await;
                        continue;
                    }
                    Err(Error::Compacted { .. }) => continue 'anew,
                    Err(error) => panic!("{error}"),
                };
                let mut at = seen;
                for event in events {
                    let revision = event.kv.mod_revision;
                    assert!(revision == at || revision > seen, "{revision} after {at}");
                    if revision != at && at != seen {
                        assert_eq!(sum(copy.values()), ACCOUNTS as i64 * EACH, "whole revisions");
                    }
                    at = revision;
                    let before = match event.kind {
                        EventKind::Put => copy.insert(event.kv.key.clone(), event.kv),
                        EventKind::Delete => copy.remove(&event.kv.key),
                    };
                    if let Some(prev) = event.prev_kv {
                        assert_eq!(Some(prev), before);
                    }
                }
                seen = at;
                checked += 1;
                assert_eq!(sum(copy.values()), ACCOUNTS as i64 * EACH, "whole revisions");
            }
        }
    }
}

/// Compacts to just below now, again and again.
async fn compact(engine: Engine, over: Arc<AtomicBool>) {
    let mut random = Random::new(1);
    while !over.load(Ordering::Relaxed) {
        let now = engine.status().await.expect("status").revision;
        let revision = Revision(now.0 - random.below(60) as i64);
        let physical = random.below(2) == 0;
        match engine.compact(CompactRequest { revision, physical }).await {
            Ok(_) | Err(Error::Compacted { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::task::yield_now().await;
    }
}

/// See the top of the file.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_sum_never_changes() {
    let disk = SimDisk::default();
    let options = Options {
        segment_bytes: 16 * 1024,
        inline_bytes_max: 16,
        compaction: AutoCompaction::Off,
        ..Options::default()
    };
    let engine = Engine::open_on(Arc::new(disk.clone()), options.clone()).expect("opens");
    let open = (0..ACCOUNTS).map(|account| Op::Put(PutRequest::new(key(account), value(EACH)))).collect();
    engine.txn(TxnRequest { success: open, ..TxnRequest::default() }).await.expect("txn");
    let over = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2).map(|seed| tokio::spawn(read(engine.clone(), over.clone(), seed))).collect();
    let copiers: Vec<_> = (0..3).map(|seed| tokio::spawn(copy(engine.clone(), over.clone(), seed))).collect();
    let compactor = tokio::spawn(compact(engine.clone(), over.clone()));
    let writers: Vec<_> = (0..4).map(|seed| tokio::spawn(transfer(engine.clone(), seed))).collect();
    let mut done = 0;
    for writer in writers {
        done += writer.await.expect("no panic");
    }
    over.store(true, Ordering::Relaxed);
    for reader in readers {
        reader.await.expect("no panic");
    }
    let mut copied = 0;
    for copier in copiers {
        copied += copier.await.expect("no panic");
    }
    compactor.await.expect("no panic");
    assert!(done > TRANSFERS && copied > 0, "{done} transfers, {copied} items watched");
    let hash = engine.hash(HashRequest::default()).await.expect("hash");
    drop(engine);
    let engine = Engine::open_on(Arc::new(disk), options).expect("opens");
    assert_eq!(engine.hash(HashRequest::default()).await.expect("hash"), hash);
}
