//! Files written by earlier versions still open. `tests/fixtures/v1` was written by this test, run with
//! `REGROW_STORE_WRITE_FIXTURE=1`, when the format was made; a new format gets a folder of its own.

use std::{fs, path::Path};

use regrow_store::{
    AutoCompaction, CompactRequest, DeleteRangeRequest, Engine, HashRequest, LeaseGrantRequest, LeaseId,
    LeaseTimeToLiveRequest, Op, Options, PutRequest, RangeRequest, Revision, Store, TxnRequest,
};

fn open(folder: &Path) -> Engine {
    let options = Options { segment_bytes: 4096, compaction: AutoCompaction::Off, ..Options::default() };
    Engine::open(folder, options).expect("opens")
}

/// Writes something of every kind, always the same.
async fn write(engine: &Engine, folder: &Path) {
    let grant = |id| engine.lease_grant(LeaseGrantRequest { id: LeaseId(id), ttl: 3600 });
    grant(7).await.expect("grant");
    grant(8).await.expect("grant");
    for round in 0..40_u8 {
        let lease = if round % 5 == 0 { LeaseId(7) } else { LeaseId::NONE };
        let key = format!("key/{}", round % 12);
        let value = vec![round; usize::from(round) * 20];
        engine.put(PutRequest { lease, ..PutRequest::new(key, value) }).await.expect("put");
    }
    let revision = engine.status().await.expect("status").revision;
    engine.compact(CompactRequest { revision, physical: true }).await.expect("compact");
    let has_base = || {
        let mut names = fs::read_dir(folder).expect("a folder");
        names.any(|name| name.expect("a name").file_name().to_string_lossy().starts_with("base-"))
    };
    while !has_base() {
        tokio::task::yield_now().await;
    }
    engine.lease_revoke(LeaseId(8)).await.expect("revoke");
    engine.delete_range(DeleteRangeRequest::key("key/3")).await.expect("delete");
    let put = |key: &'static str| Op::Put(PutRequest::new(key, "after"));
    let success = vec![put("key/1"), put("new"), Op::DeleteRange(DeleteRangeRequest::key("key/2"))];
    engine.txn(TxnRequest { success, ..TxnRequest::default() }).await.expect("txn");
}

/// What was written then is what is written now: same hash of all versions, same leases, and it can be written on.
#[tokio::test]
async fn files_of_version_1_still_open() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1");
    if std::env::var_os("REGROW_STORE_WRITE_FIXTURE").is_some() {
        let engine = open(&fixture);
        write(&engine, &fixture).await;
        engine.close();
        fs::remove_file(fixture.join("lock")).expect("removed");
    }
    let folders = [tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder")];
    let mut files = 0;
    for file in fs::read_dir(&fixture).expect("the fixture") {
        let file = file.expect("a file");
        fs::copy(file.path(), folders[0].path().join(file.file_name())).expect("copied");
        files += 1;
    }
    assert!(files >= 2, "a base and a log");
    let old = open(folders[0].path());
    let new = open(folders[1].path());
    write(&new, folders[1].path()).await;
    let hash = |engine: Engine| async move { engine.hash(HashRequest::default()).await.expect("hash") };
    assert_eq!(hash(old.clone()).await, hash(new.clone()).await);
    // What has been started anew has all of its time again, so the order may be another.
    let leases = |engine: Engine| async move {
        let mut found = engine.leases().await.expect("leases");
        found.leases.sort_unstable();
        found
    };
    assert_eq!(leases(old.clone()).await, leases(new.clone()).await);
    let seven = LeaseTimeToLiveRequest { id: LeaseId(7), keys: true };
    let keys = old.lease_time_to_live(seven).await.expect("in force").keys;
    assert_eq!(keys, new.lease_time_to_live(seven).await.expect("in force").keys);
    let revision = old.put(PutRequest::new("more", "v")).await.expect("put").revision;
    assert_eq!(revision, Revision(44));
    assert_eq!(old.range(RangeRequest::prefix("")).await.expect("range").count, 12);
}
