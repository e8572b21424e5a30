//! Goes through all keys of the target: to remove those that are gone from the source, and to release held expiries.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use bytes::Bytes;

use crate::rdb::Record;
use crate::resp::{Command, Value};
use crate::slot_set::SlotSet;

use super::board::shown;
use super::carrier::{Carrier, Job};
use super::error::MigrateError;
use super::hold::{HOLD_MS, hold, is_held, release};
use super::load::{in_db, value};
use super::options::{NEAR_MS, Shared, now_ms};
use super::scan::Scan;
use super::snapshot;

/// Keys whose hashes are held at once: 16 bytes each, about 256 MiB. More keys are gone through in several passes.
const HASHES_MAX: u64 = 16 << 20;
/// Removes from the target what is not in a snapshot, of the keys that belong to a feed. `snapshot`: `None` stands for an empty
/// one. `db`: only of this database of the target. How many were removed.
pub(super) async fn sweep(
    shared: &Shared,
    carrier: &mut Carrier,
    slots: &SlotSet,
    snapshot: Option<&Path>,
    db: Option<u32>,
) -> Result<u64, MigrateError> {
    let hasher = RandomState::new();
    let databases: Vec<u32> =
        shared.options.databases.values().copied().filter(|to| db.is_none_or(|db| db == *to)).collect();
    let mut removed = 0;
    let (mut part, mut parts) = (0, 1);
    while part < parts {
        let mut kept = HashSet::new();
        if let Some(path) = snapshot {
            let (hashes, total) = hashes(shared, path, &hasher, part, parts).await?;
            if part == 0 && parts == 1 && total > HASHES_MAX {
                parts = total.div_ceil(HASHES_MAX);
                continue;
            }
            kept = hashes;
        }
        let mut scan = Scan::new(carrier, &databases).await?;
        while let Some((db, keys)) = scan.next(carrier).await? {
            let gone: Vec<Job> = keys
                .iter()
                .filter(|key| {
                    let hash = hasher.hash_one((db, key));
                    slots.contains(crate::slot::Slot::of_key(key)) && hash % parts == part && !kept.contains(&hash)
                })
                .map(|key| Job::plain(carrier.lanes().of(key), in_db(db, vec![Command::new("UNLINK").arg(key)])))
                .collect();
            removed += gone.len() as u64;
            carrier.carry(gone).await?;
        }
        part += 1;
    }
    Ok(removed)
}

/// Hashes of a snapshot's keys in one of several parts, and how many keys there are. More than are wanted are not kept.
async fn hashes(
    shared: &Shared,
    path: &Path,
    hasher: &RandomState,
    part: u64,
    parts: u64,
) -> Result<(HashSet<u64>, u64), MigrateError> {
    let (path, hasher, databases) = (path.to_owned(), hasher.clone(), shared.options.databases.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let mut reader = snapshot::open(&path)?;
        let (mut hashes, mut total) = (HashSet::new(), 0);
        while let Some(record) = reader.next_record()? {
            let Record::Key(key) = record else { continue };
            let Some(db) = databases.get(&key.db) else { continue };
            total += 1;
            let hash = hasher.hash_one((*db, &key.name));
            if hash % parts == part && (hashes.len() as u64) < 2 * HASHES_MAX {
                hashes.insert(hash);
            }
        }
        Ok((hashes, total))
    });
    reading
        .await
        .unwrap_or_else(|error| Err(MigrateError::refused(format!("a task ended early: {error}"), "try again")))
}

/// What is to be done with the expiries of the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Those that are not near are released.
    Far,
    /// All are released.
    All,
    /// All are held.
    Hold,
}

impl Change {
    /// The expiry that is to be written in the place of another.
    fn of(self, found: u64, now_ms: u64) -> Option<u64> {
        match self {
            Self::Far => (is_held(found) && release(found) > now_ms.saturating_add(NEAR_MS)).then(|| release(found)),
            Self::All => is_held(found).then(|| release(found)),
            Self::Hold => (!is_held(found)).then(|| hold(found)),
        }
    }
}

/// Goes through all expiries of the target, and remembers keys whose expiries stay held.
pub(super) async fn expiries(
    shared: &Shared,
    carrier: &mut Carrier,
    change: Change,
    seen: &mut (dyn FnMut(u64) + Send),
) -> Result<(), MigrateError> {
    let databases: Vec<u32> = shared.options.databases.values().copied().collect();
    let mut scan = Scan::new(carrier, &databases).await?;
    while let Some((db, keys)) = scan.next(carrier).await? {
        seen(keys.len() as u64);
        // Live writes stand still between the look and the change.
        let gate = shared.gate.write().await;
        let stay = change_some(carrier, change, db, &keys).await?;
        shared.near(db, stay);
        drop(gate);
    }
    Ok(())
}

/// Releases an expiry in one step, so that a client's change at the same time is not undone.
const RELEASE: &str = "local at = redis.call('PEXPIRETIME', KEYS[1]) \
if at >= tonumber(ARGV[1]) and at < 2 * tonumber(ARGV[1]) then \
return redis.call('PEXPIREAT', KEYS[1], at - tonumber(ARGV[1])) end return 0";

/// Changes the expiries of some keys; those that stay held.
pub(super) async fn change_some(
    carrier: &mut Carrier,
    change: Change,
    db: u32,
    keys: &[Bytes],
) -> Result<Vec<Bytes>, MigrateError> {
    let job = |carrier: &Carrier, key: &Bytes, command| Job::plain(carrier.lanes().of(key), in_db(db, vec![command]));
    let looks = keys.iter().map(|key| job(carrier, key, Command::new("PEXPIRETIME").arg(key))).collect();
    let (now, mut stay, mut changed, mut jobs) = (now_ms(), Vec::new(), Vec::new(), Vec::new());
    for (key, answer) in keys.iter().zip(carrier.carry(looks).await?) {
        // Below zero: it does not expire, or is not there.
        let found = match value(&answer, db) {
            Some(Value::Int(found)) => u64::try_from(*found).ok(),
            Some(Value::Error(message)) => {
                return Err(carrier.refused(carrier.lanes().of(key), "PEXPIRETIME", message));
            }
            _ => {
                return Err(MigrateError::refused(
                    format!("the target does not tell when key \"{}\" expires", shown(key)),
                    "see what its log says",
                ));
            }
        };
        let Some(found) = found else { continue };
        match (change.of(found, now), change) {
            (Some(_), Change::All) => {
                let release = Command::new("EVAL").arg(RELEASE).arg("1").arg(key).number(HOLD_MS);
                jobs.push(job(carrier, key, release));
                changed.push(key);
            }
            (Some(at), _) => {
                jobs.push(job(carrier, key, Command::new("PEXPIREAT").arg(key).number(at)));
                changed.push(key);
            }
            (None, _) if is_held(found) => stay.push(key.clone()),
            (None, _) => {}
        }
    }
    for (key, answer) in changed.into_iter().zip(carrier.carry(jobs).await?) {
        if let Some(Value::Error(message)) = value(&answer, db) {
            return Err(carrier.refused(carrier.lanes().of(key), "EVAL or PEXPIREAT", message));
        }
    }
    Ok(stay)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let now = 1_000_000;
        let (near, far) = (now + NEAR_MS, now + NEAR_MS + 1);
        for (change, found, wanted) in [
            (Change::Far, hold(far), Some(far)),
            (Change::Far, hold(near), None),
            (Change::Far, far, None),
            (Change::All, hold(near), Some(near)),
            (Change::All, far, None),
            (Change::Hold, far, Some(hold(far))),
            (Change::Hold, hold(far), None),
        ] {
            assert_eq!(change.of(found, now), wanted, "{change:?} {found}");
        }
    }
}
