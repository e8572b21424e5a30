//! Reads a file from its first byte to its last, and says what is in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::disk::DiskError;
use crate::migrate::board::shown;
use crate::rdb::{Fault, Key, Kind, RdbError, Reader, Record};
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::error::BackupError;

/// Bytes read at once.
pub(super) const READ_BYTES: usize = 1 << 20;

/// What is in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Found {
    /// Bytes.
    pub bytes: u64,
    /// SHA-256 of them, as hex: what `sha256sum` prints.
    pub sha256: String,
    /// Version of the snapshot, 1 to 11.
    pub rdb_version: u16,
    /// Keys by database.
    pub keys: BTreeMap<u32, u64>,
    /// Keys that expire.
    pub expiring: u64,
    /// Libraries of functions.
    pub functions: u64,
    /// A key whose value only a module understands, as text.
    pub module_key: Option<String>,
}

/// Reads a file, and proves its checksum. `slots`: those that its keys must be of.
pub fn examine(path: &Path, slots: Option<&SlotSet>) -> Result<Found, BackupError> {
    let file = File::open(path).map_err(DiskError::at(path))?;
    let mut hashed = Hashed { from: file, context: Context::new(&SHA256), bytes: 0 };
    let damaged = |source| match source {
        RdbError { fault: Fault::Io(source), .. } => DiskError { path: path.to_owned(), source }.into(),
        source => BackupError::Damaged { path: path.to_owned(), source },
    };
    let (mut found, stray, end) = read(&mut hashed, slots).map_err(damaged)?;
    // What was read ahead is hashed; so is what may follow the end.
    io::copy(&mut hashed, &mut io::sink()).map_err(DiskError::at(path))?;
    if hashed.bytes != end {
        let fault = Fault::Corrupt("bytes follow its end");
        return Err(BackupError::Damaged { path: path.to_owned(), source: RdbError { offset: end, key: None, fault } });
    }
    if let Some((key, slot)) = stray {
        return Err(BackupError::refused(
            format!("key \"{key}\" is of slot {slot}, which the server does not serve: slots are being moved"),
            "take the backup when slots stay where they are; see `check`",
        ));
    }
    found.bytes = hashed.bytes;
    found.sha256 = hashed.context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(found)
}

type Stray = Option<(String, Slot)>;

fn read(from: impl Read, slots: Option<&SlotSet>) -> Result<(Found, Stray, u64), RdbError> {
    let mut reader = Reader::new(BufReader::with_capacity(READ_BYTES, from))?;
    let mut found = Found { rdb_version: reader.version(), ..Found::default() };
    let mut stray = None;
    while let Some(record) = reader.next_record()? {
        match record {
            Record::Note { .. } => {}
            Record::Function(_) => found.functions += 1,
            Record::Key(Key { db, name, expires_ms, kind, .. }) => {
                *found.keys.entry(db).or_default() += 1;
                found.expiring += u64::from(expires_ms.is_some());
                if kind == Kind::Module2 {
                    found.module_key.get_or_insert_with(|| shown(&name));
                }
                let slot = Slot::of_key(&name);
                if slots.is_some_and(|slots| !slots.contains(slot)) {
                    stray.get_or_insert_with(|| (shown(&name), slot));
                }
            }
        }
    }
    Ok((found, stray, reader.offset()))
}

struct Hashed<R> {
    from: R,
    context: Context,
    bytes: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(out)?;
        self.context.update(&out[..count]);
        self.bytes += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A snapshot of one key `k` in database 0 that expires, and a checksum.
    fn snapshot() -> Vec<u8> {
        let mut bytes = b"REDIS0010\xfe\x00".to_vec();
        bytes.push(252);
        bytes.extend(4_102_444_800_000u64.to_le_bytes());
        bytes.extend([0, 1, b'k', 1, b'v', 255]);
        let crc = crate::rdb::crc64(0, &bytes);
        bytes.extend(crc.to_le_bytes());
        bytes
    }

    /// All is counted and hashed; each flipped bit, each cut, each byte too many, and a key of another slot is found.
    #[test]
    fn finds() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x.rdb");
        let put = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        let whole = snapshot();
        put(&whole);
        let found = examine(&path, None).unwrap();
        assert_eq!((found.bytes, &found.keys, found.expiring), (whole.len() as u64, &BTreeMap::from([(0, 1)]), 1));
        let sum = std::process::Command::new("sha256sum").arg(&path).output().unwrap();
        assert!(String::from_utf8(sum.stdout).unwrap().starts_with(&found.sha256));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 8);
            put(&damaged);
            // Within the eight bytes of the version another may be as good; its hash is another.
            assert!(examine(&path, None).map(|other| other.sha256 != found.sha256).unwrap_or(true), "byte {at}");
            put(&whole[..at]);
            assert!(matches!(examine(&path, None), Err(BackupError::Damaged { .. })), "cut at {at}");
        }
        put(&[&whole[..], b"x"].concat());
        assert!(matches!(examine(&path, None), Err(BackupError::Damaged { .. })));
        put(&whole);
        let own: SlotSet = [Slot::of_key(b"k")].into_iter().collect();
        assert!(examine(&path, Some(&own)).is_ok());
        assert!(examine(&path, Some(&SlotSet::new())).unwrap_err().to_string().contains("slots are being moved"));
        assert!(matches!(examine(&temp.path().join("no"), None), Err(BackupError::Disk(_))));
    }
}
