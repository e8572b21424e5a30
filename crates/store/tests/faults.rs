//! The engine on a disk that fails: what was acknowledged is never lost, what is damaged is never served.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use regrow_store::{
    AutoCompaction, CompactRequest, DeleteRangeRequest, Engine, Error, Event, EventKind, HashRequest,
    LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, Options, PutRequest, RangeRequest, Revision, Store, WatchItem,
    WatchRequest,
    disk::sim::{Fault, Random, SimDisk},
};

fn options() -> Options {
    Options { segment_bytes: 8 * 1024, inline_bytes_max: 16, compaction: AutoCompaction::Off, ..Options::default() }
}

fn open(disk: &SimDisk) -> Engine {
    open_with(disk, options()).expect("opens")
}

fn open_with(disk: &SimDisk, options: Options) -> Result<Engine, Error> {
    Engine::open_on(Arc::new(disk.clone()), options)
}

/// One write: of which key, when, and the value (none: deleted).
type Acknowledged = (Revision, Bytes, Option<Bytes>);

/// Seeds to try, from that in the environment on: so a failure can be repeated, and other seeds be tried.
fn seeds(count: u64) -> std::ops::Range<u64> {
    let first = std::env::var("REGROW_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    first..first + count
}

/// Checks that keys and leases know each other, and that there are so many leases.
async fn verify_leases(engine: &Engine, what: &str) {
    let mut of_keys: std::collections::BTreeMap<LeaseId, Vec<Bytes>> = Default::default();
    for kv in engine.range(RangeRequest::prefix("")).await.expect("range").kvs {
        if kv.lease != LeaseId::NONE {
            of_keys.entry(kv.lease).or_default().push(kv.key);
        }
    }
    for id in engine.leases().await.expect("leases").leases {
        let lease = engine.lease_time_to_live(LeaseTimeToLiveRequest { id, keys: true }).await.expect("in force");
        assert_eq!(lease.keys, of_keys.remove(&id).unwrap_or_default(), "{what}: {id}");
    }
    assert!(of_keys.is_empty(), "{what}: leases that are lost: {of_keys:?}");
}

/// Writes until an error comes, compacting now and then; returns what was acknowledged.
async fn write(engine: Engine, seed: u64, most: usize) -> (Vec<Acknowledged>, Option<Error>) {
    let mut random = Random::new(seed);
    let mut done = Vec::new();
    let mut lease = LeaseId::NONE;
    while done.len() < most {
        // Each writer has keys of its own, so that it knows what a key is.
        let key = Bytes::from(format!("{seed}/{}", random.below(8)));
        let result = match random.below(20) {
            0 => {
                let range = engine.range(RangeRequest::key("x")).await;
                let to = range.map_or(0, |response| response.revision.0) - random.below(10) as i64;
                let request = CompactRequest { revision: Revision(to), physical: false };
                match engine.compact(request).await {
                    Ok(_) | Err(Error::Compacted { .. }) => continue,
                    Err(error) => Err(error),
                }
            }
            1 => match engine.lease_grant(LeaseGrantRequest { ttl: 1000, id: LeaseId::NONE }).await {
                Ok(granted) => {
                    lease = granted.id;
                    continue;
                }
                Err(error) => Err(error),
            },
            2..5 => match engine.delete_range(DeleteRangeRequest::key(key.clone())).await {
                Ok(response) if response.deleted == 0 => continue,
                Ok(response) => Ok((response.revision, key, None)),
                Err(error) => Err(error),
            },
            _ => {
                let value = Bytes::from(vec![random.below(256) as u8; random.below(600) as usize]);
                let lease = if random.below(3) == 0 { lease } else { LeaseId::NONE };
                let put = engine.put(PutRequest { lease, ..PutRequest::new(key.clone(), value.clone()) }).await;
                put.map(|response| (response.revision, key, Some(value)))
            }
        };
        match result {
            Ok(acknowledged) => done.push(acknowledged),
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

/// Four writers at once.
async fn write_all(engine: &Engine, seed: u64, most: usize) -> (Vec<Acknowledged>, Vec<Error>) {
    let writers: Vec<_> = (0..4).map(|at| tokio::spawn(write(engine.clone(), seed * 4 + at, most))).collect();
    let (mut all, mut errors) = (Vec::new(), Vec::new());
    for writer in writers {
        let (done, error) = writer.await.expect("no panic");
        all.extend(done);
        errors.extend(error);
    }
    (all, errors)
}

/// All events from the oldest revision that can be watched.
async fn history(engine: &Engine) -> (Revision, Vec<Event>) {
    let status = engine.status().await.expect("status");
    let from = status.compact_revision.max(Revision(2));
    let mut events = Vec::new();
    if status.revision >= from {
        let mut watch = engine.watch(WatchRequest::prefix("").from(from)).await.expect("watch");
        while events.last().is_none_or(|event: &Event| event.kv.mod_revision < status.revision) {
            match watch.next().await.expect("goes on").expect("no error") {
                WatchItem::Events { events: more, .. } => events.extend(more),
                WatchItem::Progress { .. } => {}
            }
        }
    }
    (from, events)
}

/// Checks that a store has everything acknowledged, that its revisions have no gaps, and that its keys are what its
/// history says. Returns what else it has: writes that happened without being acknowledged.
async fn verify(engine: &Engine, acknowledged: &[Acknowledged], what: &str) -> Vec<Acknowledged> {
    let now = engine.status().await.expect("status").revision;
    let (from, events) = history(engine).await;
    let revisions: Vec<i64> = events.iter().map(|event| event.kv.mod_revision.0).collect();
    assert_eq!(revisions, (from.0..=now.0).collect::<Vec<_>>(), "{what}: revisions without gaps");
    let mut latest = std::collections::BTreeMap::new();
    for (revision, key, value) in acknowledged {
        assert!(*revision <= now, "{what}: acknowledged revision {revision} is lost, the store is at {now}");
        if *revision >= from {
            let event = &events[(revision.0 - from.0) as usize];
            let expect = (EventKind::Put, value.clone().unwrap_or_default());
            let expect = if value.is_some() { expect } else { (EventKind::Delete, Bytes::new()) };
            assert_eq!((&event.kv.key, (event.kind, event.kv.value.clone())), (key, expect), "{what}: {revision}");
        }
        let entry = latest.entry(key.clone()).or_insert((*revision, value.clone()));
        if entry.0 < *revision {
            *entry = (*revision, value.clone());
        }
    }
    for (key, (revision, value)) in latest {
        let kv = engine.range(RangeRequest::key(key.clone())).await.expect("range").kvs.pop();
        // An unacknowledged write may have come after; then history has it.
        let later = events.iter().any(|event| event.kv.key == key && event.kv.mod_revision > revision);
        if !later {
            assert_eq!(kv.map(|kv| kv.value), value, "{what}: key {key:?} of {revision}");
        }
    }
    let known: std::collections::BTreeSet<Revision> = acknowledged.iter().map(|(revision, ..)| *revision).collect();
    let unknown = events.into_iter().filter(|event| !known.contains(&event.kv.mod_revision));
    unknown
        .map(|Event { kind, kv, .. }| (kv.mod_revision, kv.key, (kind == EventKind::Put).then_some(kv.value)))
        .collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

/// Power is lost at a random moment, five times in a row on the same disk; nothing acknowledged is ever missing, and
/// what is left opens.
#[test]
fn power_loss_loses_nothing_acknowledged() {
    for seed in seeds(150) {
        runtime().block_on(async {
            let mut random = Random::new(seed);
            let mut disk = SimDisk::default();
            let mut acknowledged = Vec::new();
            for round in 0..5 {
                let what = format!("seed {seed}, round {round}");
                disk.fail_after(random.below(400), Fault::PowerLoss);
                // It may go while the store opens, too.
                if let Ok(engine) = open_with(&disk, options()) {
                    let (done, _) = write_all(&engine, seed * 10 + round, 60).await;
                    acknowledged.extend(done);
                }
                disk = disk.after_crash(&mut random);
                let engine = open_with(&disk, options()).unwrap_or_else(|error| panic!("{what}: {error}"));
                verify_leases(&engine, &what).await;
                // What was found once is durable, acknowledged or not.
                acknowledged.extend(verify(&engine, &acknowledged, &what).await);
            }
        });
    }
}

/// Every operation in turn finds no space, for a while: the writes it refuses have not happened, those before and
/// after it have, and the store goes on by itself.
#[test]
fn no_space_refuses_writes_and_nothing_else() {
    let mut refused = 0;
    for at in 0..120 {
        runtime().block_on(async {
            let disk = SimDisk::default();
            let engine = open(&disk);
            let (mut acknowledged, _) = write_all(&engine, 1, 10).await;
            disk.fail_after(at, Fault::NoSpace(at % 4));
            for round in 0..4 {
                let (done, errors) = write_all(&engine, 100 + at * 10 + round, 15).await;
                acknowledged.extend(done);
                refused += errors.len();
                let full = |error: &Error| match error {
                    Error::NoSpace => true,
                    // It could not be wiped at once, so it was not known whether it happened.
                    Error::Disk { source, .. } => at % 4 > 0 && source.kind() == std::io::ErrorKind::StorageFull,
                    _ => false,
                };
                assert!(errors.iter().all(full), "{at}: {errors:?}");
                engine.range(RangeRequest::prefix("")).await.expect("reads go on");
            }
            // The engine asks the disk again by itself; until then puts are refused.
            while let Err(error) = engine.put(PutRequest::new("after", "v")).await {
                assert!(matches!(error, Error::NoSpace | Error::Disk { .. }), "{at}: {error}");
                tokio::task::yield_now().await;
            }
            acknowledged.push((engine.status().await.expect("status").revision, "after".into(), Some("v".into())));
            verify(&engine, &acknowledged, &format!("operation {at}")).await;
            exact(&engine, &acknowledged, at).await;
            drop(engine);
            let engine = open(&disk);
            verify(&engine, &acknowledged, &format!("operation {at}, opened again")).await;
            exact(&engine, &acknowledged, at).await;
        });
    }
    assert!(refused > 0, "the fault was never met");
}

/// Checks that there is not one write more than those acknowledged.
async fn exact(engine: &Engine, acknowledged: &[Acknowledged], at: u64) {
    let last = acknowledged.iter().map(|(revision, ..)| revision.0).max().unwrap_or(1);
    assert_eq!(last, acknowledged.len() as i64 + 1, "{at}: each acknowledged write is one revision");
    assert_eq!(engine.status().await.expect("status").revision.0, last, "{at}");
}

/// A disk that is full: reads, deletes and compaction go on; when there is space again, puts do, without a restart.
#[test]
fn a_full_disk_recovers_by_itself() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let engine = open(&disk);
        disk.set_capacity(Some(64 * 1024));
        let value = Bytes::from(vec![7; 500]);
        let mut last = 0;
        let error = loop {
            match engine.put(PutRequest::new(format!("{last:05}"), value.clone())).await {
                Ok(_) => last += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, Error::NoSpace) && error.is_retryable());
        assert!(last > 50 && engine.status().await.expect("status").no_space);
        let all = engine.range(RangeRequest::prefix("")).await.expect("reads go on");
        assert_eq!(all.count, last);
        engine.delete_range(DeleteRangeRequest::key("00000")).await.expect("deletes go on");
        let now = engine.status().await.expect("status").revision;
        engine.compact(CompactRequest { revision: now, physical: true }).await.expect("compaction goes on");
        disk.set_capacity(None);
        while let Err(error) = engine.put(PutRequest::new("again", "v")).await {
            assert!(matches!(error, Error::NoSpace), "{error}");
            tokio::task::yield_now().await;
        }
        assert!(!engine.status().await.expect("status").no_space);
        drop(engine);
        assert_eq!(open(&disk).range(RangeRequest::prefix("")).await.expect("range").count, last);
    });
}

/// Keys that are written over and over fit into a bounded disk for ever, because compaction gives space back.
#[test]
fn compaction_gives_space_back() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let bounded = Options { compaction: AutoCompaction::Revisions(50), ..options() };
        let engine = open_with(&disk, bounded.clone()).expect("opens");
        for round in 0..2000_u64 {
            let put = PutRequest::new(format!("{:02}", round % 20), vec![round as u8; 400]);
            engine.put(put).await.expect("put");
        }
        // 2,000 versions are 800 kB; 20 keys and 55 revisions of history are 30 kB. The housekeeper runs beside the
        // writer and may be behind it when the last put is answered.
        let end = Instant::now() + Duration::from_secs(60);
        while disk.used() >= 300_000 {
            assert!(Instant::now() < end, "{} bytes are never given back", disk.used());
            std::thread::yield_now();
        }
        loop {
            let status = engine.status().await.expect("status");
            if status.db_size_in_use < 60_000 {
                break;
            }
            assert!(Instant::now() < end, "{status:?}");
            std::thread::yield_now();
        }
        drop(engine);
        let engine = open_with(&disk, bounded).expect("opens");
        for key in 0..20_u64 {
            let kv = engine.range(RangeRequest::key(format!("{key:02}"))).await.expect("range").kvs.remove(0);
            assert_eq!((kv.value[0], kv.version), ((1980 + key) as u8, 100));
        }
    });
}

/// An input/output error refuses all writes until the store is opened again: what the kernel still has of them is
/// unknown. Nothing acknowledged is lost.
#[test]
fn an_error_of_the_disk_stops_writes() {
    for at in 0..60 {
        runtime().block_on(async {
            let disk = SimDisk::default();
            let engine = open(&disk);
            disk.fail_after(at, Fault::Error);
            let (acknowledged, errors) = write_all(&engine, at, 25).await;
            if errors.iter().any(|error| matches!(error, Error::Disk { .. })) {
                engine.range(RangeRequest::prefix("")).await.expect("reads go on");
            }
            drop(engine);
            verify(&open(&disk), &acknowledged, &format!("operation {at}")).await;
        });
    }
}

/// One flipped bit anywhere in the files: the store either refuses to open, naming the file, or has lost nothing.
#[test]
fn a_flipped_bit_is_never_served() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let engine = open_with(&disk, Options { compaction: AutoCompaction::Revisions(100), ..options() });
        let engine = engine.expect("opens");
        let _ = write_all(&engine, 1, 100).await;
        let lease = engine.lease_grant(Default::default()).await.expect("grant").id;
        engine.put(PutRequest { lease, ..PutRequest::new("leased", "v") }).await.expect("put");
        let expect = engine.hash(HashRequest::default()).await.expect("hash");
        let names = || regrow_store::disk::Disk::list(&disk).expect("names");
        while !names().iter().any(|name| name.starts_with("base-")) {
            tokio::task::yield_now().await;
        }
        drop(engine);
        let names = names();
        let (mut refused, mut random) = (0, Random::new(7));
        for _ in 0..1500 {
            let name = &names[random.below(names.len() as u64) as usize];
            let len = disk.bytes(name).expect("there").len() as u64;
            let damaged = disk.copy();
            let offset = random.below(len);
            damaged.flip(name, offset as usize, random.below(8) as u8);
            match open_with(&damaged, options()) {
                Ok(engine) => {
                    let hash = engine.hash(HashRequest::default()).await.expect("hash");
                    assert_eq!(hash, expect, "{name} at {offset} was served");
                }
                Err(Error::Corrupt { file, .. }) => {
                    assert_eq!(file, *name);
                    refused += 1;
                }
                Err(error) => panic!("{name} at {offset}: {error}"),
            }
        }
        assert!(refused > 500, "{refused}");
    });
}

/// A value that rots after the store was opened is told, not served; other keys are served.
#[test]
fn a_value_that_rots_later_is_told() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let engine = open(&disk);
        engine.put(PutRequest::new("bad", vec![0xab; 100])).await.expect("put");
        engine.put(PutRequest::new("good", vec![0xcd; 100])).await.expect("put");
        let name = "log-0000000000000001";
        let bytes = disk.bytes(name).expect("there");
        let at = bytes.windows(100).position(|window| window == [0xab; 100]).expect("the value");
        disk.flip(name, at + 50, 3);
        let error = engine.range(RangeRequest::key("bad")).await.expect_err("damage");
        assert!(matches!(&error, Error::Corrupt { file, offset, .. } if file == name && *offset == at as u64 - 4));
        assert_eq!(engine.range(RangeRequest::key("good")).await.expect("range").kvs[0].value, vec![0xcd; 100]);
    });
}

/// A file that is gone is damage too.
#[test]
fn a_missing_file_is_told() {
    let disk = SimDisk::default();
    let engine = open(&disk);
    let _ = runtime().block_on(write_all(&engine, 1, 100));
    drop(engine);
    let names = regrow_store::disk::Disk::list(&disk).expect("names");
    for name in names.iter().filter(|name| name.starts_with("log-") || name.starts_with("base-")) {
        let damaged = disk.copy();
        regrow_store::disk::Disk::remove(&damaged, name).expect("removed");
        let last = Some(name) == names.iter().rfind(|name| name.starts_with("log-"));
        match open_with(&damaged, options()) {
            // The last segment may just not have been begun yet: then everything before it is there, and it was empty.
            Ok(engine) => assert!(last, "{name} is missed: {engine:?}"),
            Err(error) => assert!(matches!(&error, Error::Corrupt { .. }), "{error}"),
        }
    }
}

/// The quota counts live keys and history; deleting and compacting makes room.
#[test]
fn the_quota_is_kept() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let engine = open_with(&disk, Options { quota_bytes: 20_000, ..options() }).expect("opens");
        let put = || PutRequest::new("k", vec![1; 900]);
        let mut puts = 0;
        while engine.put(put()).await.is_ok() {
            puts += 1;
        }
        assert!((15..22).contains(&puts), "{puts}");
        assert!(matches!(engine.put(put()).await, Err(Error::NoSpace)));
        assert!(matches!(engine.lease_grant(Default::default()).await, Ok(_) | Err(Error::NoSpace)));
        let revision = engine.delete_range(DeleteRangeRequest::key("k")).await.expect("delete").revision;
        engine.compact(CompactRequest { revision, physical: true }).await.expect("compact");
        engine.put(put()).await.expect("there is room again");
    });
}

/// A folder has one user; the second is told who the first is.
#[test]
fn a_folder_has_one_user() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = Engine::open(folder.path(), Options::default()).expect("opens");
    let error = Engine::open(folder.path(), Options::default()).expect_err("taken");
    assert!(matches!(error, Error::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    engine.close();
    let closed = runtime().block_on(engine.put(PutRequest::new("k", "v")));
    assert!(matches!(closed, Err(Error::Closed)));
    Engine::open(folder.path(), Options::default()).expect("it is free");
}

/// Leases and their keys survive a restart; their time starts over, as in etcd.
#[test]
fn leases_survive_a_restart() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let clock = regrow_store::clock::ManualClock::default();
        let with_clock = || Options { clock: Arc::new(clock.clone()), ..options() };
        let engine = open_with(&disk, with_clock()).expect("opens");
        let grant = regrow_store::LeaseGrantRequest { ttl: 10, ..Default::default() };
        let id = engine.lease_grant(grant).await.expect("grant").id;
        engine.put(PutRequest { lease: id, ..PutRequest::new("k", "v") }).await.expect("put");
        clock.advance(Duration::from_secs(8));
        drop(engine);
        let engine = open_with(&disk, with_clock()).expect("opens");
        let request = regrow_store::LeaseTimeToLiveRequest { id, keys: true };
        let lease = engine.lease_time_to_live(request).await.expect("in force");
        assert_eq!((lease.ttl, lease.granted_ttl, &lease.keys[..]), (10, 10, &[Bytes::from("k")][..]));
        let mut watch = engine.watch(WatchRequest::key("k")).await.expect("watch");
        clock.advance(Duration::from_secs(10));
        assert!(matches!(watch.next().await, Some(Ok(WatchItem::Events { .. }))));
        assert_eq!(engine.range(RangeRequest::key("k")).await.expect("range").count, 0);
    });
}
