//! The copy of an embedded store, read by the tool it is made for. Skipped where `etcdctl` is not installed
//! (`etcd-client` on Debian).

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{io::Write, path::Path, process::Command};

use regrow_store::{
    AutoCompaction, CompactRequest, DeleteRangeRequest, Engine, Error, Op, Options, PutRequest, Revision, Snapshot,
    Store, TxnRequest,
    limits::{SNAPSHOT_PART_BYTES, SNAPSHOT_WINDOW, SNAPSHOTS_MAX},
};

/// More versions than are put into order at once, twice over, and more leaves than one branch of branches has.
const KEYS: usize = 2 * SNAPSHOT_WINDOW + 1000;

const TXN: usize = 128;

fn open(folder: &Path) -> Engine {
    let options = Options { compaction: AutoCompaction::Off, ..Options::default() };
    Engine::open(folder, options).expect("opens")
}

async fn fill(engine: &Engine, from: usize, to: usize, value: usize) {
    for start in (from..to).step_by(TXN) {
        let put = |key: usize| Op::Put(PutRequest::new(format!("key/{key:07}"), vec![b'v'; key % value]));
        let success = (start..(start + TXN).min(to)).map(put).collect();
        engine.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("puts");
    }
}

async fn read(snapshot: &mut Snapshot, file: &mut std::fs::File, parts: usize) -> usize {
    let mut count = 0;
    let mut remaining = None;
    while count < parts {
        let Some(part) = snapshot.next().await else { break };
        let part = part.expect("a piece");
        assert!(part.bytes.len() <= SNAPSHOT_PART_BYTES);
        let end = part.remaining + part.bytes.len() as u64;
        // The checksum behind the end is not counted.
        assert!(remaining.is_none_or(|remaining| remaining == end || remaining == 0), "{remaining:?}, {part:?}");
        remaining = Some(part.remaining);
        file.write_all(&part.bytes).expect("written");
        count += 1;
    }
    count
}

/// A copy is of one revision, whatever is put, deleted and compacted while it is read; the tool counts every version in
/// it and finds the checksum right.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_revision() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(&folder.path().join("store"));
    fill(&engine, 0, KEYS, 40).await;
    let old = engine.put(PutRequest::new("key/0000000", "again")).await.expect("puts").revision;
    engine.compact(CompactRequest { revision: old, physical: true }).await.expect("compacts");
    let deleted = engine.delete_range(DeleteRangeRequest::prefix("key/00000")).await.expect("deletes");
    assert_eq!(deleted.deleted, 100);
    let path = folder.path().join("copy.db");
    let mut file = std::fs::File::create(&path).expect("a file");
    let mut snapshot = engine.snapshot().await.expect("begins");
    let revision = deleted.revision;
    assert_eq!(snapshot.revision(), revision);
    assert_eq!(read(&mut snapshot, &mut file, 10).await, 10);

    fill(&engine, 0, 10 * TXN, 10).await;
    engine.delete_range(DeleteRangeRequest::prefix("key/0001")).await.expect("deletes");
    let now = engine.put(PutRequest::new("last", "1")).await.expect("puts").revision;
    engine.compact(CompactRequest { revision: now, physical: false }).await.expect("compacts");
    let parts = read(&mut snapshot, &mut file, usize::MAX).await;
    assert!(parts > 300, "{parts}");
    assert!(snapshot.next().await.is_none());
    drop((snapshot, file));
    // What was held back is given up when the copy is done.
    let late = CompactRequest { revision: now.next(), physical: true };
    engine.put(PutRequest::new("last", "2")).await.expect("puts");
    engine.compact(late).await.expect("compacts");

    let command =
        Command::new("etcdctl").env("ETCDCTL_API", "3").args(["snapshot", "status", "-w", "json"]).arg(&path).output();
    let Ok(output) = command else {
        eprintln!("skipped: etcdctl is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout);
    // Besides versions and deletions the tool counts what etcd knows of itself: its index, and twice what is compacted.
    let total = KEYS + 100 + 3;
    assert!(said.contains(&format!("\"revision\":{},\"totalKey\":{total},", revision.0)), "{said}");
    let restored = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore"])
        .arg(&path)
        .arg("--data-dir")
        .arg(folder.path().join("restored"))
        .output()
        .expect("it runs");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
}

/// So many copies at once and no more; one that is dropped half read makes room.
#[tokio::test]
async fn copies_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = open(folder.path());
    let mut all = Vec::new();
    for _ in 0..SNAPSHOTS_MAX {
        all.push(engine.snapshot().await.expect("there is room"));
    }
    assert_eq!(all[0].revision(), Revision::EMPTY);
    let refused = engine.snapshot().await.expect_err("there is none");
    assert!(matches!(refused, Error::TooManySnapshots { .. }) && refused.is_retryable(), "{refused}");
    all[0].next().await.expect("a piece").expect("no error");
    all.pop();
    engine.snapshot().await.expect("there is room again");
}
