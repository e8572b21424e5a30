//! The audit log on disk: `DATA/audit.jsonl`, one JSON object a line.
//!
//! **Flow.** Doors put entries in a queue; the writer takes all that wait, writes them in one go, and tells those who follow.
//!
//! **Guarantees.** Doors never wait for the disk. The log has at most [`FILES_MAX`] files of [`BYTES_MAX`]: at the limit
//! `audit.jsonl` becomes `audit.jsonl.1`, that `.2`, and the last one goes. What did not fit, or could not be written, is
//! counted, and the next line that can be written says how many.
//!
//! **Caveats.** What was done in the moment before a kill -9 or a loss of power may be missing: entries are written some
//! [`GATHER`] after they happen, and the file is synced when it is closed.

use regrow_serve::access::audit::{self, Queue};
use regrow_serve::wire::AuditQuery;
use regrow_serve::{AgentError, Lines};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc};

/// Bytes of one file before the next is begun.
const BYTES_MAX: u64 = 32 << 20;
/// Files kept, the one that is written included.
const FILES_MAX: usize = 8;
/// How long entries gather before they are written together.
const GATHER: Duration = Duration::from_millis(20);
/// Lines kept for a slow follower.
const FOLLOWED_MAX: usize = 4_096;
/// Lines waiting for a slow reader.
const LINES_WAITING: usize = 256;
/// Most lines of one answer, beside what follows.
const LAST_MAX: usize = 10_000;
/// Lines of one answer where none are asked for.
const LAST_DEFAULT: usize = 100;

/// The log. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Journal {
    queue: Arc<Queue>,
    files: Arc<Mutex<Files>>,
}

struct Files {
    path: PathBuf,
    /// Opened when there is something to write.
    file: Option<(File, u64)>,
    lost: u64,
    followers: broadcast::Sender<Arc<str>>,
}

impl Journal {
    /// The log of a data folder. Entries wait until [`Journal::run`] writes them.
    pub(crate) fn new(data: &Path) -> Journal {
        let followers = broadcast::channel(FOLLOWED_MAX).0;
        let files = Files { path: data.join("audit.jsonl"), file: None, lost: 0, followers };
        Journal { queue: Arc::default(), files: Arc::new(Mutex::new(files)) }
    }

    /// Where doors put entries.
    pub(crate) fn queue(&self) -> Arc<Queue> {
        self.queue.clone()
    }

    /// Writes entries as they come.
    pub(crate) async fn run(self) {
        loop {
            let (entries, lost) = self.queue.take().await;
            let files = self.files.clone();
            let written = tokio::task::spawn_blocking(move || lock(&files).write(&entries, lost)).await;
            if written.is_err() {
                return;
            }
            tokio::time::sleep(GATHER).await;
        }
    }

    /// Writes what still waits, and syncs.
    pub(crate) fn close(&self) {
        let (entries, lost) = self.queue.take_now();
        let mut files = lock(&self.files);
        if !entries.is_empty() {
            files.write(&entries, lost);
        }
        if let Some((file, _)) = files.file.take()
            && let Err(error) = file.sync_all()
        {
            tracing::warn!("the audit log could not be synced: {error}");
        }
    }

    /// The lines that a query asks for, oldest first.
    pub(crate) async fn lines(&self, query: AuditQuery) -> Result<Lines, AgentError> {
        let last = query.last.unwrap_or(LAST_DEFAULT).min(LAST_MAX);
        let (sender, lines) = mpsc::channel(LINES_WAITING);
        let (followed, parts) = {
            let files = lock(&self.files);
            // Under the lock: what is written later is followed, and not read too.
            (query.follow.then(|| files.followers.subscribe()), files.parts())
        };
        let who = query.who.map(|who| format!("\"who\":{}", serde_json::Value::from(who)));
        let wanted = move |line: &str| who.as_ref().is_none_or(|who| line.contains(who.as_str()));
        tokio::spawn(async move {
            let reading = tokio::task::spawn_blocking(move || {
                let newest = read(parts, last, &wanted);
                (newest, wanted)
            });
            let Ok((newest, wanted)) = reading.await else { return };
            for line in newest {
                if sender.send(line).await.is_err() {
                    return;
                }
            }
            let Some(mut followed) = followed else { return };
            loop {
                let line = tokio::select! {
                    line = followed.recv() => line,
                    () = sender.closed() => return,
                };
                let line = match line {
                    Ok(line) if wanted(&line) => line.to_string(),
                    Ok(_) => continue,
                    Err(broadcast::error::RecvError::Lagged(lost)) => format!("{{\"lost\":{lost}}}"),
                    Err(broadcast::error::RecvError::Closed) => return,
                };
                if sender.send(line).await.is_err() {
                    return;
                }
            }
        });
        Ok(lines)
    }
}

fn lock(files: &Mutex<Files>) -> std::sync::MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Files {
    fn write(&mut self, entries: &[audit::Entry], lost: u64) {
        self.lost += lost;
        let mut text = String::new();
        if self.lost > 0
            && let Some(last) = entries.last()
        {
            audit::write_lost(last.at, self.lost, &mut text);
        }
        entries.iter().for_each(|entry| audit::write(entry, &mut text));
        match self.append(text.as_bytes()) {
            Ok(()) => {
                if self.lost > 0 {
                    tracing::warn!("{} entries of the audit log are lost", self.lost);
                }
                self.lost = 0;
                if self.followers.receiver_count() > 0 {
                    text.lines().for_each(|line| drop(self.followers.send(line.into())));
                }
            }
            Err(error) => {
                if self.lost == lost {
                    tracing::error!("the audit log {} cannot be written: {error}", self.path.display());
                }
                self.lost += entries.len() as u64;
                // What is there of it may be half a line: another file begins with a whole one.
                self.file = None;
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.as_ref().is_some_and(|(_, size)| *size >= BYTES_MAX) {
            if let Some((file, _)) = self.file.take() {
                file.sync_all()?;
            }
            for number in (1..FILES_MAX).rev() {
                let from = numbered(&self.path, number - 1);
                match std::fs::rename(&from, numbered(&self.path, number)) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
        }
        if self.file.is_none() {
            let mut file = File::options().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
            let size = file.metadata()?.len();
            end_line(&mut file, &self.path, size)?;
            self.file = Some((file, size));
        }
        if let Some((file, size)) = &mut self.file {
            file.write_all(bytes)?;
            *size += bytes.len() as u64;
        }
        Ok(())
    }

    /// The files as they are now, oldest first, with how much of each is read.
    fn parts(&self) -> Vec<(File, u64)> {
        let all = (0..FILES_MAX).rev().filter_map(|number| File::open(numbered(&self.path, number)).ok());
        all.filter_map(|file| {
            let size = file.metadata().ok()?.len();
            Some((file, size))
        })
        .collect()
    }
}

/// Ends a line that a crash has cut.
fn end_line(file: &mut File, path: &Path, size: u64) -> std::io::Result<()> {
    use std::os::unix::fs::FileExt;
    if size == 0 {
        return Ok(());
    }
    let mut last = [0];
    File::open(path)?.read_exact_at(&mut last, size - 1)?;
    if last != *b"\n" { file.write_all(b"\n") } else { Ok(()) }
}

fn numbered(path: &Path, number: usize) -> PathBuf {
    if number == 0 { path.to_path_buf() } else { path.with_extension(format!("jsonl.{number}")) }
}

/// The newest lines that are wanted. The newest file is read first, and older ones only if it has too few.
fn read(parts: Vec<(File, u64)>, last: usize, wanted: &impl Fn(&str) -> bool) -> VecDeque<String> {
    let mut newest: VecDeque<String> = VecDeque::new();
    for (file, size) in parts.into_iter().rev() {
        let mut here: VecDeque<String> = VecDeque::new();
        for line in BufReader::new(file.take(size)).lines().map_while(Result::ok) {
            if wanted(&line) {
                here.push_back(line);
                if here.len() > last - newest.len() {
                    here.pop_front();
                }
            }
        }
        here.append(&mut newest);
        newest = here;
        if newest.len() >= last {
            break;
        }
    }
    newest
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_control::access::Identity;
    use regrow_serve::access::{Audit, Caller, From, Outcome, What};

    const HERE: From = From { door: "etcd", remote: None };

    fn put(audit: &Audit, key: &str) {
        let owner = Caller::of(Identity::Owner);
        audit.tell(&owner, HERE, "put", What::Key(key.to_owned().into()), Outcome::Done(Some(1)));
    }

    fn written(journal: &Journal, size: u64) {
        let (entries, lost) = journal.queue.take_now();
        let mut files = lock(&journal.files);
        files.write(&entries, lost);
        if let Some((_, at)) = &mut files.file {
            *at += size;
        }
    }

    fn read_all(journal: &Journal, last: usize) -> Vec<String> {
        let parts = lock(&journal.files).parts();
        let keys = read(parts, last, &|_| true);
        keys.iter().filter_map(|line| line.split("\"to\":[\"").nth(1)?.split('"').next().map(str::to_owned)).collect()
    }

    /// Files follow each other up to their number; the newest lines are found over several of them, and a line that a
    /// crash has cut spoils no other.
    #[test]
    fn files_rotate_and_are_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::new(folder.path());
        let audit = Audit::into(journal.queue());
        for number in 0..FILES_MAX + 3 {
            put(&audit, &format!("k{number}"));
            // As if the file were full.
            written(&journal, BYTES_MAX);
        }
        let files = std::fs::read_dir(folder.path()).expect("the folder").count();
        assert_eq!(files, FILES_MAX);
        assert_eq!(read_all(&journal, 3), ["k8", "k9", "k10"]);
        assert_eq!(read_all(&journal, 100).len(), FILES_MAX);
        journal.close();
        let path = folder.path().join("audit.jsonl");
        let mut text = std::fs::read_to_string(&path).expect("the log");
        text.push_str("{\"ts\":1,\"wh");
        std::fs::write(&path, text).expect("written");
        put(&audit, "after");
        written(&journal, 0);
        assert_eq!(read_all(&journal, 1), ["after"]);
    }

    /// What cannot be written is counted, and told when something can be again.
    #[test]
    fn losses_are_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::new(&folder.path().join("missing"));
        let audit = Audit::into(journal.queue());
        put(&audit, "a");
        put(&audit, "b");
        written(&journal, 0);
        std::fs::create_dir(folder.path().join("missing")).expect("a folder");
        put(&audit, "c");
        written(&journal, 0);
        let text = std::fs::read_to_string(folder.path().join("missing/audit.jsonl")).expect("the log");
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains("\"lost\":2") && lines[1].contains("\"c\""), "{text}");
    }
}
