//! What is in a backup.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::{read_json, replace_json};

use super::error::BackupError;
use super::examine::Found;

/// The file that makes a backup one.
pub const MANIFEST: &str = "manifest.json";
/// Of this form of the manifest.
const FORMAT: u32 = 1;
/// Files in one backup; a cluster has at most 1,000 nodes.
const SHARDS_MAX: usize = 16_384;

/// All about a backup. It is written when all files are on disk and have been read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1.
    pub format: u32,
    /// When it was begun, for people: `2026-11-30T15:04:05Z`.
    pub began: String,
    /// The same in milliseconds since 1970.
    pub began_ms: u64,
    /// When all files were on disk.
    pub ended_ms: u64,
    /// Where from, without a password.
    pub from: String,
    /// Whether it was a cluster.
    pub cluster: bool,
    /// Its files.
    pub shards: Vec<ShardFile>,
}

/// A file of a backup: the data of one master.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardFile {
    /// Its name in the folder: `shard-0-5460.rdb`.
    pub file: String,
    /// The slots of the master, as ranges; all of them for one server.
    pub slots: String,
    /// The server it is from.
    pub address: String,
    /// Version of that server.
    pub version: String,
    /// Where its stream of writes was: history and bytes.
    pub history: String,
    /// See `history`.
    pub offset: u64,
    /// What is in it.
    pub found: Found,
}

impl Manifest {
    /// A new one.
    pub(super) fn new(began_ms: u64, from: String, cluster: bool, shards: Vec<ShardFile>) -> Self {
        let ended_ms = crate::migrate::options::now_ms();
        Self { format: FORMAT, began: utc(began_ms), began_ms, ended_ms, from, cluster, shards }
    }

    /// Reads that of a folder. Refused where there is none, or none that makes sense.
    pub fn read(folder: &Path) -> Result<Self, BackupError> {
        let path = folder.join(MANIFEST);
        if !folder.is_dir() {
            return Err(BackupError::refused(
                format!("{} is no folder", folder.display()),
                "name the folder that `backup --to` has made",
            ));
        }
        let Some(manifest) = read_json::<Self>(&path)? else {
            return Err(BackupError::refused(
                format!(
                    "{} holds no {MANIFEST}: it is no backup, or one that did not come to its end",
                    folder.display()
                ),
                "use a backup that was finished",
            ));
        };
        match manifest.wrong() {
            None => Ok(manifest),
            Some(why) => {
                Err(BackupError::refused(format!("{}: {why}", path.display()), "use another copy of the backup"))
            }
        }
    }

    /// Writes it to a folder.
    pub(super) fn write(&self, folder: &Path) -> Result<(), BackupError> {
        Ok(replace_json(&folder.join(MANIFEST), self)?)
    }

    fn wrong(&self) -> Option<String> {
        if self.format != FORMAT {
            return Some(format!("it is of format {}, and this program reads {FORMAT}", self.format));
        }
        if self.shards.is_empty() || self.shards.len() > SHARDS_MAX {
            return Some(format!("it lists {} files", self.shards.len()));
        }
        let mut names = BTreeSet::new();
        // A name with a path in it would lead out of the folder.
        for file in &self.shards {
            let name = &file.file;
            if !name.starts_with("shard-") || name.contains(['/', '\\']) || !names.insert(name) {
                return Some(format!("{name:?} is no name of a file of it"));
            }
        }
        None
    }

    /// Keys by database.
    pub fn keys(&self) -> BTreeMap<u32, u64> {
        let mut keys = BTreeMap::new();
        for (db, count) in self.shards.iter().flat_map(|shard| &shard.found.keys) {
            *keys.entry(*db).or_default() += count;
        }
        keys
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.found.bytes).sum()
    }
}

/// A time as people and programs read it: `2026-11-30T15:04:05Z`. Source: Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", `civil_from_days`.
pub fn utc(ms: u64) -> String {
    let seconds = ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59Z"),
            (1_796_051_045_000, "2026-11-30T15:04:05Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
    }

    /// What is written is read; what is not there, of another form, or leads out of the folder is refused.
    #[test]
    fn files() {
        let temp = tempfile::tempdir().unwrap();
        let refused = |folder: &Path| Manifest::read(folder).unwrap_err().to_string();
        assert!(refused(&temp.path().join("no")).contains("is no folder"));
        assert!(refused(temp.path()).contains("did not come to its end"));
        let shard = |file: &str| ShardFile {
            file: file.to_owned(),
            slots: "0-16383".to_owned(),
            address: "h:1".to_owned(),
            version: "7.0.15".to_owned(),
            history: "a".to_owned(),
            offset: 5,
            found: Found { keys: BTreeMap::from([(0, 3), (2, 1)]), bytes: 9, ..Found::default() },
        };
        let manifest = Manifest::new(5, "redis://h:1".to_owned(), false, vec![shard("shard-0-16383.rdb")]);
        manifest.write(temp.path()).unwrap();
        assert_eq!(Manifest::read(temp.path()).unwrap(), manifest);
        assert_eq!((manifest.keys(), manifest.bytes()), (BTreeMap::from([(0, 3), (2, 1)]), 9));
        for (other, why) in [
            (Manifest { format: 2, ..manifest.clone() }, "it is of format 2"),
            (Manifest { shards: vec![], ..manifest.clone() }, "it lists 0 files"),
            (Manifest { shards: vec![shard("../shard-1.rdb")], ..manifest.clone() }, "is no name"),
            (Manifest { shards: vec![shard("shard-/../../x")], ..manifest.clone() }, "is no name"),
            (Manifest { shards: vec![shard("shard-1.rdb"), shard("shard-1.rdb")], ..manifest }, "is no name"),
        ] {
            other.write(temp.path()).unwrap();
            assert!(refused(temp.path()).contains(why), "{why}");
        }
    }
}
