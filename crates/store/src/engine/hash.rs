//! A checksum of everything that can be read.

use super::{index::Key, scan::Found, shared::Shared, signal::read};
use crate::{Error, HashResponse, KeyValue, Result, Revision, limits::SCAN_KEYS};

/// Hashes every version of every key, in order, that some revision from the oldest kept to `rev` (0: now) shows.
///
/// Errors: `Compacted`, `FutureRevision`, `Corrupt`, `Disk`.
pub(crate) async fn hash(shared: &Shared, rev: i64) -> Result<HashResponse> {
    let pin = shared.pin(rev)?;
    // Versions from `oldest` on stay while the hash is computed. Compaction may come in between the two steps, but
    // not for ever: beyond `pin` it is an error.
    let (oldest, _oldest) = loop {
        let oldest = shared.compacted();
        shared.readable(pin.rev, pin.current)?;
        match shared.pin(oldest.max(1)) {
            Err(Error::Compacted { .. }) => {}
            pinned => break (oldest, pinned?),
        }
    };
    let mut hasher = crc32fast::Hasher::new();
    let mut after: Option<Key> = None;
    loop {
        let found = step(shared, &mut after, oldest, pin.rev);
        let done = after.is_none();
        for (found, sub) in found {
            add(&mut hasher, &found.load()?, sub);
        }
        if done {
            break;
        }
        tokio::task::yield_now().await;
    }
    Ok(HashResponse {
        revision: Revision(pin.current),
        hash: hasher.finalize(),
        hash_revision: Revision(pin.rev),
        compact_revision: Revision(oldest),
    })
}

/// Visits some keys; `after` becomes `None` behind the last.
fn step(shared: &Shared, after: &mut Option<Key>, oldest: i64, rev: i64) -> Vec<(Found, u32)> {
    let index = read(&shared.index);
    let mut found = Vec::new();
    let mut last = None;
    for (key, history) in index.after(after.as_ref()).take(SCAN_KEYS) {
        last = Some(key.clone());
        for version in history.shown(oldest, rev) {
            found.push((Found::new(&index, key, version, !version.is_deletion()), version.sub));
        }
    }
    *after = last;
    found
}

fn add(hasher: &mut crc32fast::Hasher, kv: &KeyValue, sub: u32) {
    hasher.update(&(kv.key.len() as u64).to_le_bytes());
    hasher.update(&kv.key);
    hasher.update(&(kv.value.len() as u64).to_le_bytes());
    hasher.update(&kv.value);
    for field in [kv.create_revision.0, kv.mod_revision.0, kv.version, kv.lease.0, i64::from(sub)] {
        hasher.update(&field.to_le_bytes());
    }
}
