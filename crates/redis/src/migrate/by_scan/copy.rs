//! Copies keys: each as it is on the source when it is read, in the place of what the target has.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::resp::{Command, Value};

use super::super::board::{Stage, shown};
use super::super::carrier::{Answer, Carrier, Job, Who};
use super::super::content::has_groups;
use super::super::error::MigrateError;
use super::super::load::{in_db, judge, value};
use super::super::options::{Shared, now_ms};
use super::super::scan::{bearable, bearable_bytes};
use super::super::verify::{BIG_BYTES, size_of_key};
use super::queue::Key;
use super::{Changes, Ended};

/// Streams with groups that are watched over, at most.
const STREAMS_MAX: usize = 1 << 20;

/// Copies the keys of one part of a feed's queue.
#[derive(Debug)]
pub(super) struct Copier {
    pub(super) shared: Shared,
    pub(super) feed: usize,
    part: usize,
    pub(super) source: Carrier,
    pub(super) target: Carrier,
    /// A word that no other copier has, and how many pieces it has sent.
    pub(super) word: String,
    pub(super) pieces: u64,
    /// Bytes of values read before they are written, about.
    batch_bytes: u64,
}

impl Copier {
    /// `who`: the name that all copiers of an attempt share.
    pub(super) fn new(shared: &Shared, feed: usize, part: usize, who: &Arc<Who>) -> Self {
        Self {
            shared: shared.clone(),
            feed,
            part,
            source: shared.source_carrier(),
            target: shared.carrier(who),
            word: format!("{}-{part}-{}", who.process, now_ms()),
            pieces: 0,
            batch_bytes: 0,
        }
    }

    /// Copies until an error.
    pub(super) async fn run(mut self) -> Result<Infallible, Ended> {
        let shared = self.shared.clone();
        let Some(changes) = shared.scans.get(self.feed) else { return Err(Ended::Failed(MigrateError::Stopped)) };
        let at_once = bearable(&mut self.source).await?;
        self.batch_bytes = bearable_bytes(at_once);
        loop {
            let part = self.part;
            let keys = changes.until(|queue| Some(queue.take(part, at_once)).filter(|keys| !keys.is_empty())).await;
            let mut by_db: BTreeMap<u32, Vec<Bytes>> = BTreeMap::new();
            for (db, name) in &keys {
                by_db.entry(*db).or_default().push(name.clone());
            }
            for (db, names) in by_db {
                self.copy(changes, db, names).await?;
            }
            if self.target.changes() > 0 {
                return Err(Ended::Again("a server of the target is another than before".to_owned()));
            }
            self.tell(&keys);
            changes.queue().done(part);
            changes.show(self.feed, &shared.board);
        }
    }

    fn tell(&self, keys: &[Key]) {
        let live = self.shared.board.stage(self.feed) == Some(Stage::Live);
        let count = keys.len() as u64;
        if live {
            keys.iter().for_each(|(db, name)| self.shared.written(*db, [name]));
            self.shared.board.change(|status| status.writes += count);
        } else {
            self.shared.board.feed(self.feed, |feed| feed.loaded_keys += count);
        }
    }

    async fn copy(&mut self, changes: &Changes, db: u32, names: Vec<Bytes>) -> Result<(), Ended> {
        let Some(to) = self.shared.options.databases.get(&db).copied() else { return Ok(()) };
        let look = |name: &Bytes| Job::plain(self.source.lanes().of(name), in_db(db, vec![size_of_key(name)]));
        let jobs = names.iter().map(look).collect();
        let sizes = self.source.carry(jobs).await?;
        let (mut some, mut bytes) = (Vec::new(), 0);
        for (name, answer) in names.into_iter().zip(sizes) {
            let size = match value(&answer, db) {
                Some(Value::Error(message)) => return Err(self.refused(&name, "MEMORY USAGE", message).into()),
                found => found.and_then(Value::int).and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            };
            if size > BIG_BYTES && self.copy_big(db, to, &name, size).await? {
                continue;
            }
            some.push(name);
            bytes += size;
            if bytes >= self.batch_bytes {
                self.copy_some(changes, db, to, std::mem::take(&mut some)).await?;
                bytes = 0;
            }
        }
        self.copy_some(changes, db, to, some).await
    }

    /// Copies keys whose values are held whole.
    async fn copy_some(&mut self, changes: &Changes, db: u32, to: u32, names: Vec<Bytes>) -> Result<(), Ended> {
        let telling = self.source.side().telling();
        let read = |name: &Bytes| {
            let mut commands = telling.ask(name);
            commands.push(Command::new("DUMP").arg(name));
            Job::plain(self.source.lanes().of(name), in_db(db, commands))
        };
        let jobs = names.iter().map(read).collect();
        let answers = self.source.carry(jobs).await?;
        let (mut written, mut jobs) = (Vec::new(), Vec::new());
        for (name, answer) in names.into_iter().zip(answers) {
            let Answer::Values(values) = &answer else { return Err(Ended::Again("an answer was lost".to_owned())) };
            let expiry = values.get(usize::from(db != 0)..).and_then(|values| telling.of(values));
            let command = match values.get(usize::from(db != 0) + telling.answers()) {
                Some(Value::Null) => {
                    changes.streams().remove(&(db, name.clone()));
                    Command::new("UNLINK").arg(&name)
                }
                Some(Value::Bulk(dump)) => {
                    if self.known(changes, db, &name, dump, expiry)? {
                        continue;
                    }
                    let restore = Command::new("RESTORE").arg(&name).number(expiry.unwrap_or(0)).arg(dump);
                    restore.args(["REPLACE", "ABSTTL"])
                }
                Some(Value::Error(message)) => return Err(self.refused(&name, "DUMP", message).into()),
                _ => return Err(self.refused(&name, "DUMP", b"no answer").into()),
            };
            let lane = self.target.lanes().of(&name);
            jobs.push(Job::plain(lane, in_db(to, vec![command])));
            written.push((name, lane));
        }
        for ((name, lane), answer) in written.iter().zip(self.target.carry(jobs).await?) {
            judge(&self.target, *lane, name, &answer)?;
        }
        Ok(())
    }

    /// Whether the target has this of a stream already. Streams with groups are read again and again.
    fn known(
        &self,
        changes: &Changes,
        db: u32,
        name: &Bytes,
        dump: &Bytes,
        expiry: Option<u64>,
    ) -> Result<bool, MigrateError> {
        let mut streams = changes.streams();
        if !has_groups(dump) {
            streams.remove(&(db, name.clone()));
            return Ok(false);
        }
        if streams.len() >= STREAMS_MAX {
            return Err(MigrateError::refused(
                format!("the source has more than {STREAMS_MAX} streams with groups, which cannot all be watched over"),
                "migrate by replication",
            ));
        }
        let mut hasher = DefaultHasher::new();
        (dump, expiry).hash(&mut hasher);
        let print = hasher.finish();
        Ok(streams.insert((db, name.clone()), print) == Some(print))
    }

    /// The error for a key that cannot be read.
    pub(super) fn refused(&self, name: &[u8], command: &str, message: &[u8]) -> MigrateError {
        MigrateError::refused(
            format!(
                "the source does not give key \"{}\": {command}: {}",
                shown(name),
                String::from_utf8_lossy(message)
            ),
            "look at the key there, and at the rights of the user",
        )
    }
}
