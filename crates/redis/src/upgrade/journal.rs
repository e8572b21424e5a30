//! What an upgrade remembers on disk, because the cluster does not tell it.
//!
//! Shape: a folder with a `lock` that one process holds, and `journal.json`, which is there while an upgrade is not over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::address::Address;
use crate::disk::{DiskError, hold_folder, read_json, replace_json, sync_folder};
use crate::topology::NodeId;

use super::error::UpgradeError;

/// Of this form of the journal.
const VERSION: u32 = 1;

/// An upgrade that is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// When it was begun, in seconds since 1970.
    pub began_s: u64,
    /// Which command restarts its nodes: see [`super::Hand::print`].
    pub command: String,
    /// The masters at the beginning.
    pub masters: BTreeSet<NodeId>,
    /// The nodes that are done, with their versions.
    pub done: BTreeMap<NodeId, String>,
    /// The node in hand.
    pub current: Option<Current>,
}

/// A node whose restart was begun and is not known to have ended well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Current {
    /// Which.
    pub node: NodeId,
    /// Where it is.
    pub address: Address,
    /// The master whose replica it is; `None`: it is a master.
    pub of: Option<NodeId>,
    /// The process that it was before (`run_id`).
    pub run_id: String,
    /// Whether its command failed: then a new process is no proof that all was done.
    pub failed: bool,
}

/// The folder, held by this process.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    _lock: File,
}

impl Journal {
    /// A new upgrade, begun now.
    pub fn new(command: String, masters: BTreeSet<NodeId>) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { version: VERSION, began_s: now.as_secs(), command, masters, done: BTreeMap::new(), current: None }
    }
}

impl State {
    /// Takes a folder, making it if it is not there. Refused while another process has it.
    pub fn open(folder: &Path) -> Result<Self, UpgradeError> {
        match hold_folder(folder)? {
            Some(lock) => Ok(Self { path: folder.join("journal.json"), _lock: lock }),
            None => Err(UpgradeError::State {
                why: format!("another process upgrades with the state folder {}", folder.display()),
                hint: "wait for it, stop it, or give another --state",
            }),
        }
    }

    /// The upgrade that is not over, if one is.
    pub fn journal(&self) -> Result<Option<Journal>, UpgradeError> {
        match read_json::<Journal>(&self.path)? {
            Some(journal) if journal.version != VERSION => Err(UpgradeError::State {
                why: format!(
                    "{} is of version {}, and this program writes {VERSION}",
                    self.path.display(),
                    journal.version
                ),
                hint: "go on with the program that began it, or begin anew with --anew",
            }),
            journal => Ok(journal),
        }
    }

    /// Writes the journal.
    pub fn save(&self, journal: &Journal) -> Result<(), DiskError> {
        replace_json(&self.path, journal)
    }

    /// The upgrade is over.
    pub fn clear(&self) -> Result<(), DiskError> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(DiskError { path: self.path.clone(), source: error })
            }
            _ => self.path.parent().map_or(Ok(()), sync_folder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::id;

    /// One process has the folder; what is written is read; a strange journal is refused; cleared it is gone.
    #[test]
    fn folder() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(temp.path()).unwrap();
        assert!(matches!(State::open(temp.path()), Err(UpgradeError::State { .. })));
        assert_eq!(state.journal().unwrap(), None);
        let mut journal = Journal::new("c".to_owned(), BTreeSet::from([id("aa")]));
        journal.done.insert(id("bb"), "7.0.15".to_owned());
        journal.current = Some(Current {
            node: id("aa"),
            address: Address::new("::1", 7001),
            of: None,
            run_id: "r".to_owned(),
            failed: true,
        });
        state.save(&journal).unwrap();
        assert_eq!(state.journal().unwrap(), Some(journal.clone()));
        state.save(&Journal { version: 2, ..journal }).unwrap();
        assert!(state.journal().unwrap_err().to_string().contains("is of version 2"));
        state.clear().unwrap();
        state.clear().unwrap();
        assert_eq!(state.journal().unwrap(), None);
    }
}
