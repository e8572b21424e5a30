//! What the engine does as time passes, on a clock moved by hand.

use std::{sync::Arc, time::Duration};

use regrow_store::{
    AutoCompaction, Engine, Options, PutRequest, Revision, Store, WatchItem, WatchRequest, clock::ManualClock,
    disk::sim::SimDisk, limits::PROGRESS_INTERVAL,
};

fn open(clock: &ManualClock, compaction: AutoCompaction) -> Engine {
    let options =
        Options { clock: Arc::new(clock.clone()), compaction, segment_bytes: 64 * 1024, ..Options::default() };
    Engine::open_on(Arc::new(SimDisk::default()), options).expect("opens")
}

/// A watch that asked for it is told how far it is although nothing happens; others are not.
#[tokio::test]
async fn progress_is_told_from_time_to_time() {
    let clock = ManualClock::default();
    let engine = open(&clock, AutoCompaction::Off);
    let told = WatchRequest { progress_notify: true, ..WatchRequest::key("a") };
    let mut told = engine.watch(told).await.expect("watch");
    let mut silent = engine.watch(WatchRequest::key("a")).await.expect("watch");
    engine.put(PutRequest::new("b", "v")).await.expect("put");
    for _ in 0..3 {
        clock.advance(PROGRESS_INTERVAL);
        let item = told.next().await.expect("goes on").expect("no error");
        assert_eq!(item, WatchItem::Progress { revision: Revision(2) });
    }
    engine.put(PutRequest::new("a", "v")).await.expect("put");
    let item = silent.next().await.expect("goes on").expect("no error");
    assert!(matches!(item, WatchItem::Events { .. }), "{item:?}");
}

/// History older than the period is given up, younger history is not.
#[tokio::test]
async fn history_is_kept_for_a_period() {
    let clock = ManualClock::default();
    let hour = Duration::from_secs(3600);
    let engine = open(&clock, AutoCompaction::Period(hour));
    for _ in 0..40 {
        engine.put(PutRequest::new("a", "v")).await.expect("put");
        clock.advance(hour / 20);
    }
    // A put makes sure that the engine has seen the time.
    let now = engine.put(PutRequest::new("a", "v")).await.expect("put").revision;
    let compacted = engine.status().await.expect("status").compact_revision;
    // 20 puts an hour; what happened is noted ten times an hour, so up to two more are kept.
    assert!((20..=23).contains(&(now.0 - compacted.0)), "{compacted} of {now}");
}

/// The last so many revisions are kept, and not many more.
#[tokio::test]
async fn a_number_of_revisions_is_kept() {
    let engine = open(&ManualClock::default(), AutoCompaction::Revisions(100));
    for _ in 0..500 {
        let now = engine.put(PutRequest::new("a", "v")).await.expect("put").revision;
        let kept = now.0 - engine.status().await.expect("status").compact_revision.0;
        assert!(kept <= 111 && (now.0 < 113 || kept >= 100), "{kept} at {now}");
    }
}

/// A closed engine ends its watches and refuses what comes after.
#[tokio::test]
async fn closing_ends_watches() {
    let engine = open(&ManualClock::default(), AutoCompaction::Off);
    let mut watch = engine.watch(WatchRequest::key("a")).await.expect("watch");
    engine.close();
    assert!(matches!(watch.next().await, Some(Err(regrow_store::Error::Closed))));
    assert!(watch.next().await.is_none());
    assert!(matches!(engine.watch(WatchRequest::key("a")).await, Err(regrow_store::Error::Closed)));
}
