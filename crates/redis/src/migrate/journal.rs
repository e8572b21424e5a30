//! What a migration remembers on disk, so that it can go on after it was killed.
//!
//! Shape: a folder with `journal.json`, a `lock` that one process holds, and for each feed a folder `feed-<n>` with its own
//! `journal.json`, `snapshot.rdb` and the spool. Journals are replaced whole, never changed in place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::disk::{hold_folder, make_folder, read_json, replace_json};
use crate::replication::Position;

use super::error::MigrateError;
use super::options::Options;

/// Of this form of the journal.
const VERSION: u32 = 1;

/// About the whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    version: u32,
    /// A word that no other migration has; its keys on the target are named after it.
    pub run: String,
    /// Where from, without passwords.
    pub from: String,
    /// Where to, without passwords.
    pub to: String,
    /// The slots of each feed, as ranges; one feed of all for one server.
    pub feeds: Vec<String>,
    /// Databases carried over: from which to which.
    pub databases: BTreeMap<u32, u32>,
    /// Whether the source is read by scan, not by replication.
    #[serde(default)]
    pub by_scan: bool,
    /// Whether the migration is over and its keys on the target are removed.
    pub finished: bool,
    /// The admin socket of the proxy, once a cut-over with a way back is about to switch it.
    #[serde(default)]
    pub crossing: Option<PathBuf>,
    /// Whether the proxy has switched.
    #[serde(default)]
    pub crossed: bool,
    /// Of a way back that is not under way yet: before this time, in milliseconds since 1970, all expiries must be held.
    #[serde(default)]
    pub hold_before_ms: Option<u64>,
}

/// How far a feed is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedStage {
    /// The snapshot has not come whole.
    Taking,
    /// The snapshot is on disk and goes to the target.
    Loading,
    /// Live writes are applied.
    Live,
}

/// About one feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedJournal {
    /// How far it is.
    pub stage: FeedStage,
    /// Number of the snapshot: marks of an older one do not count.
    pub generation: u64,
    /// Where the snapshot was taken.
    pub snapshot: Option<Position>,
    /// Keys in the snapshot.
    pub keys: u64,
    /// Bytes of the snapshot of which all records are on the target.
    pub loaded: u64,
    /// Keys in these bytes.
    pub loaded_keys: u64,
    /// Position up to which all is on the target.
    pub base: u64,
    /// Number of the sign that every master of the target got when all of [`Self::loaded`] or [`Self::base`] was there; 0: none.
    #[serde(default)]
    pub signed: u64,
    /// Whether the target has keys of an older snapshot, which may be gone.
    pub dirty: bool,
    /// Keys that the target may not have as they should be, to be copied anew: database of the source, name in hexadecimal.
    #[serde(default)]
    pub(super) anew: BTreeSet<(u32, String)>,
    /// Whether writes after [`Self::base`] are being applied again after a fail-over of the target.
    #[serde(default)]
    pub rewound: bool,
}

impl Default for FeedJournal {
    fn default() -> Self {
        Self {
            stage: FeedStage::Taking,
            generation: 0,
            snapshot: None,
            keys: 0,
            loaded: 0,
            loaded_keys: 0,
            base: 0,
            signed: 0,
            dirty: false,
            anew: BTreeSet::new(),
            rewound: false,
        }
    }
}

/// The state folder, held by this process.
#[derive(Debug)]
pub struct State {
    folder: PathBuf,
    _lock: File,
}

impl State {
    /// Takes a folder, making it if it is not there. Refused while another process has it.
    pub fn open(folder: &Path) -> Result<Self, MigrateError> {
        match hold_folder(folder)? {
            Some(lock) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            None => Err(MigrateError::refused(
                format!("another process migrates with the state folder {}", folder.display()),
                "wait for it, stop it, or give another --state",
            )),
        }
    }

    /// The journal of the migration that was begun here, if one was.
    pub fn journal(&self) -> Result<Option<Journal>, MigrateError> {
        let path = self.folder.join("journal.json");
        let journal: Option<Journal> = read_json(&path)?;
        match journal {
            Some(journal) if journal.version != VERSION => Err(MigrateError::Journal {
                path,
                why: format!("it is of version {}, and this program writes {VERSION}", journal.version),
            }),
            journal => Ok(journal),
        }
    }

    /// Begins a migration.
    pub fn begin(
        &self,
        run: &str,
        from: &str,
        to: &str,
        feeds: Vec<String>,
        options: &Options,
    ) -> Result<Journal, MigrateError> {
        for feed in 0..feeds.len() {
            let folder = self.feed(feed);
            if folder.exists() {
                fs::remove_dir_all(&folder).map_err(MigrateError::disk(&folder))?;
            }
            make_folder(&folder)?;
        }
        let journal = Journal {
            version: VERSION,
            run: run.to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            feeds,
            databases: options.databases.clone(),
            by_scan: options.by_scan,
            finished: false,
            crossing: None,
            crossed: false,
            hold_before_ms: None,
        };
        self.save(&journal)?;
        Ok(journal)
    }

    /// Writes the journal.
    pub fn save(&self, journal: &Journal) -> Result<(), MigrateError> {
        save(&self.folder, journal)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a feed.
    pub fn feed(&self, feed: usize) -> PathBuf {
        self.folder.join(format!("feed-{feed}"))
    }
}

/// Writes the journal in a folder that this process holds.
pub(super) fn save(folder: &Path, journal: &Journal) -> Result<(), MigrateError> {
    Ok(replace_json(&folder.join("journal.json"), journal)?)
}

impl FeedJournal {
    /// Reads the journal in a feed's folder; a new one where none is.
    pub fn open(folder: &Path) -> Result<Self, MigrateError> {
        Ok(read_json(&folder.join("journal.json"))?.unwrap_or_default())
    }

    /// Keys to be copied anew, by database of the source.
    pub fn anew(&self) -> BTreeSet<(u32, Bytes)> {
        self.anew.iter().filter_map(|(db, name)| Some((*db, unhex(name)?))).collect()
    }

    /// Notes the keys to be copied anew in the place of those before. Whether there is one that was not noted.
    pub fn note_anew<'a>(&mut self, keys: impl Iterator<Item = (u32, &'a Bytes)>) -> bool {
        let before = std::mem::replace(&mut self.anew, keys.map(|(db, name)| (db, hex(name))).collect());
        !self.anew.is_subset(&before)
    }

    /// Writes it to a feed's folder.
    pub fn save(&self, folder: &Path) -> Result<(), MigrateError> {
        Ok(replace_json(&folder.join("journal.json"), self)?)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Bytes> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys to be copied anew are read back whatever their bytes, and a journal from before there were such is read, too.
    #[test]
    fn keys_to_be_copied_anew() {
        let temp = tempfile::tempdir().unwrap();
        let keys = BTreeSet::from([(0, Bytes::from_static(b"a\xff\0\r\n\"")), (3, Bytes::new())]);
        let noted = || keys.iter().map(|(db, name)| (*db, name));
        let mut feed = FeedJournal::default();
        assert!(feed.note_anew(noted()));
        assert!(!feed.note_anew(noted().take(1)));
        assert!(feed.note_anew(noted()));
        feed.save(temp.path()).unwrap();
        assert_eq!(FeedJournal::open(temp.path()).unwrap().anew(), keys);
        let old = r#"{"stage":"live","generation":1,"snapshot":null,"keys":0,"loaded":0,"loaded_keys":0,"base":7,"dirty":false}"#;
        fs::write(temp.path().join("journal.json"), old).unwrap();
        let feed = FeedJournal::open(temp.path()).unwrap();
        assert_eq!((feed.base, feed.anew(), feed.rewound), (7, BTreeSet::new(), false));
    }

    /// One process has the folder; what is written is read; a strange journal is refused by its path.
    #[test]
    fn folder() {
        let temp = tempfile::tempdir().unwrap();
        let state = State::open(temp.path()).unwrap();
        assert!(matches!(State::open(temp.path()), Err(MigrateError::Refused { .. })));
        assert_eq!(state.journal().unwrap(), None);
        let begun = state.begin("r", "a", "b", vec!["0-16383".into()], &Options::default()).unwrap();
        assert_eq!(state.journal().unwrap(), Some(begun));
        let feed = FeedJournal { base: 7, ..FeedJournal::default() };
        feed.save(&state.feed(0)).unwrap();
        assert_eq!(FeedJournal::open(&state.feed(0)).unwrap(), feed);
        fs::write(temp.path().join("journal.json"), "{}").unwrap();
        assert!(state.journal().unwrap_err().to_string().contains("journal.json"));
    }
}
