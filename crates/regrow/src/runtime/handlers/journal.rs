//! What handlers have still to see, on disk.
//!
//! Shape: JSON lines, `{"add": [ID, CASE]}` and `{"done": ID}`; a torn last line is passed over. Rewritten with what is
//! pending when it is opened and after every [`DONE_MAX`] ends, so that it stays small.

use super::case::Case;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ends after which the file is written anew.
const DONE_MAX: usize = 1_024;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry<'a> {
    Add(u64, std::borrow::Cow<'a, Case>),
    Done(u64),
}

pub(super) struct Journal {
    path: PathBuf,
    file: File,
    pending: BTreeMap<u64, Case>,
    next: u64,
    done: usize,
}

impl Journal {
    /// Opens it; gives what is pending, oldest first.
    pub(super) fn open(path: &Path) -> io::Result<(Journal, Vec<(u64, Case)>)> {
        let mut pending = BTreeMap::new();
        match File::open(path) {
            Ok(file) => {
                for line in BufReader::new(file).split(b'\n') {
                    match serde_json::from_slice(&line?) {
                        Ok(Entry::Add(id, case)) => drop(pending.insert(id, case.into_owned())),
                        Ok(Entry::Done(id)) => drop(pending.remove(&id)),
                        Err(_) => {}
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let next = pending.keys().next_back().map_or(1, |last| last + 1);
        let file = rewrite(path, &pending)?;
        let all = pending.iter().map(|(id, case)| (*id, case.clone())).collect();
        Ok((Journal { path: path.to_owned(), file, pending, next, done: 0 }, all))
    }

    /// Writes that a case is to be handled; its number.
    pub(super) fn add(&mut self, case: &Case) -> io::Result<u64> {
        let id = self.next;
        self.next += 1;
        self.append(&Entry::Add(id, std::borrow::Cow::Borrowed(case)))?;
        self.pending.insert(id, case.clone());
        Ok(id)
    }

    /// Writes that it was.
    pub(super) fn done(&mut self, id: u64) -> io::Result<()> {
        self.pending.remove(&id);
        self.done += 1;
        if self.done >= DONE_MAX {
            self.file = rewrite(&self.path, &self.pending)?;
            self.done = 0;
            return Ok(());
        }
        self.append(&Entry::Done(id))
    }

    fn append(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        // In one write: a line that is torn by our end is the last.
        self.file.write_all(&line)
    }
}

fn rewrite(path: &Path, pending: &BTreeMap<u64, Case>) -> io::Result<File> {
    let staged = path.with_extension("new");
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&staged)?;
    let mut text = Vec::new();
    for (id, case) in pending {
        serde_json::to_writer(&mut text, &Entry::Add(*id, std::borrow::Cow::Borrowed(case)))?;
        text.push(b'\n');
    }
    file.write_all(&text)?;
    file.sync_data()?;
    std::fs::rename(&staged, path)?;
    OpenOptions::new().append(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(ltime: u64) -> Case {
        Case::User { name: "deploy".to_owned(), ltime, payload: vec![0, 255], coalesce: false }
    }

    /// Shows that what is not done comes back in order, a torn line is passed over, and the file stays small.
    #[test]
    fn what_is_pending_comes_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("handlers.journal");
        let (mut journal, none) = Journal::open(&path).expect("opened");
        assert_eq!(none, []);
        let ids: Vec<u64> = (0..5).map(|ltime| journal.add(&case(ltime)).expect("written")).collect();
        journal.done(ids[0]).expect("written");
        journal.done(ids[2]).expect("written");
        drop(journal);
        OpenOptions::new().append(true).open(&path).expect("there").write_all(b"{\"add\":[9,{").expect("torn");
        let (mut journal, pending) = Journal::open(&path).expect("opened");
        assert_eq!(pending, [(ids[1], case(1)), (ids[3], case(3)), (ids[4], case(4))]);
        for ltime in 0..3 * DONE_MAX as u64 {
            let id = journal.add(&case(ltime)).expect("written");
            journal.done(id).expect("written");
        }
        assert!(std::fs::metadata(&path).expect("there").len() < 200 * DONE_MAX as u64);
        let (_, pending) = Journal::open(&path).expect("opened");
        assert_eq!(pending.len(), 3);
    }
}
