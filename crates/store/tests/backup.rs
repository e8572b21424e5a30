//! Copies in files: what is restored is the same in every version of every key, and nothing that a file holds makes its
//! reader panic.

use std::path::Path;

use regrow_store::{
    CompactRequest, DeleteRangeRequest, Engine, HashRequest, LeaseGrantRequest, LeaseId, Options, PutRequest, Revision,
    Store,
    backup::{self, BackupError},
};
use sha2::{Digest, Sha256};

async fn write(engine: &Engine, path: &Path) {
    let mut snapshot = engine.snapshot().await.expect("a snapshot");
    let mut bytes = Vec::new();
    while let Some(part) = snapshot.next().await {
        bytes.extend_from_slice(&part.expect("a part").bytes);
    }
    std::fs::write(path, bytes).expect("written");
}

/// A store with history, deletions, a lease, long values, and a compaction in the middle.
async fn store(folder: &Path) -> Engine {
    let engine = Engine::open(folder, Options::default()).expect("opens");
    let lease = engine.lease_grant(LeaseGrantRequest { id: LeaseId(5), ttl: 600 }).await.expect("a lease").id;
    for round in 0..4 {
        for key in 0..50 {
            let put = PutRequest::new(format!("k/{key:02}"), format!("{round} ").repeat(1 + 40 * (key % 7)));
            let lease = if key % 5 == 0 { lease } else { LeaseId::NONE };
            engine.put(PutRequest { lease, ..put }).await.expect("put");
        }
        engine.delete_range(DeleteRangeRequest::prefix(format!("k/{round}"))).await.expect("deleted");
    }
    engine.compact(CompactRequest { revision: Revision(90), physical: true }).await.expect("compacted");
    engine
}

/// The hash over all versions that can be read, and all that is told of the copy, are those of the store; and a second
/// restore into the same folder is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_restored_is_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = store(&folder.path().join("store")).await;
    let file = folder.path().join("copy.db");
    write(&engine, &file).await;
    let (hash, status) =
        (engine.hash(HashRequest::default()).await.expect("a hash"), engine.status().await.expect("so"));
    let into = folder.path().join("a/new/store");
    let told = backup::restore(&file, &into, |_, _| {}).expect("restored");
    assert_eq!((told.revision, told.oldest, told.keys), (status.revision, Revision(90), status.keys));
    assert_eq!(told, backup::verify(&file).expect("whole"));
    assert!(matches!(backup::restore(&file, &into, |_, _| {}), Err(BackupError::Occupied(_))));
    let restored = Engine::open(&into, Options::default()).expect("opens");
    assert_eq!(restored.hash(HashRequest::default()).await.expect("a hash"), hash);
    restored.put(PutRequest::new("more", "1")).await.expect("it goes on");
    assert_eq!(restored.status().await.expect("so").revision, status.revision.next());
}

/// With its checksum made right again after each change, a damaged copy is read to its end or refused, in bounded memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = store(&folder.path().join("store")).await;
    let file = folder.path().join("copy.db");
    write(&engine, &file).await;
    let whole = std::fs::read(&file).expect("the copy");
    let database = whole.len() - 32;
    let mut refused = 0;
    // Heads of pages, elements and values alike, by a step that is prime to their sizes.
    for at in (0..database).step_by(251) {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let sum = Sha256::digest(&bytes[..database]);
            bytes[database..].copy_from_slice(&sum);
            std::fs::write(&file, bytes).expect("written");
            match backup::verify(&file) {
                Ok(_) => {}
                Err(BackupError::Damaged(_)) => refused += 1,
                Err(error) => panic!("byte {at}: {error}"),
            }
        }
    }
    assert!(refused > 0, "some of it matters");
}
