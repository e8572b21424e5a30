//! Keys that are copied anew, because a write of them was refused or means nothing on the target; and how that is not forgotten.
//!
//! A refusal is known only once the mark has gone past it. So the journal has the keys on disk before the next window begins,
//! and after a kill the writes of the last window, whose answers nobody may have heard, count as refused.
//!
//! Until a key is copied, what is written from it would be wrong, too: such a write is not carried out, and the keys that it writes
//! are copied anew as well. So that this ends while clients write on, all keys that wait are read at about one position, and no
//! more keys are taken than the write changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::resp::{Command, Value};

use super::super::board::shown;
use super::super::carrier::{Answer, Carrier, Job};
use super::super::deed::touched;
use super::super::error::MigrateError;
use super::super::journal::FeedJournal;
use super::super::lane::{Lane, own};
use super::super::load::in_db;
use super::super::options::now_ms;
use super::super::spool::{SpoolReader, Spooled};
use super::super::telling::Telling;
use super::{Anew, Applier, LaneRound, ROUND_WRITES, TRANSACTION_FACTOR};

/// Keys to be copied anew that are kept; with more, a new snapshot is less work.
pub(in super::super) const KEPT_MAX: usize = 200_000;
/// Writes whose keys are asked for at once.
const ASKED_AT_ONCE: usize = 500;
/// Keys read in one transaction of the source, and written in one exchange with the target.
const KEYS_AT_ONCE: usize = 50;
/// Keys that are read before the first of them is written, and bytes of their values, about.
const READ_MAX: usize = 5000;
const READ_BYTES_MAX: usize = 16 << 20;

impl Applier {
    /// Has the keys of a write copied anew, because it was refused or means nothing on the target.
    pub(super) fn renew(&mut self, write: &Spooled) {
        match touched(&write.words) {
            Some(touched) => self.renew_keys(write, touched.writes),
            None => self.unasked.push((write.clone(), true)),
        }
    }

    /// The same, where the keys are known.
    pub(super) fn renew_keys(&mut self, write: &Spooled, keys: Vec<Bytes>) {
        self.shared.board.special(true, &write.words[0], keys.iter().map(Bytes::as_ref));
        self.shared.written(write.db, &keys);
        self.pend(write.db, keys, write.end.saturating_sub(1));
    }

    /// Takes a write that was carried out, but whose answer was not heard: it may have been refused.
    pub(super) fn doubt(&mut self, write: &Spooled) {
        if !may_be_refused(&write.words) {
            return;
        }
        match touched(&write.words) {
            Some(touched) => self.pend(write.db, touched.writes, write.end.saturating_sub(1)),
            None => self.unasked.push((write.clone(), false)),
        }
    }

    /// Has keys copied anew that depend on others which are not as they should be yet. Whether the write is one that does.
    pub(super) fn tainted(&mut self, write: &Spooled) -> bool {
        if self.anew.is_empty() && self.pending.is_empty() {
            return false;
        }
        let Some(touched) = touched(&write.words) else { return false };
        let tainted = touched.reads.iter().any(|key| self.stale(write.db, key));
        if tainted {
            self.renew_keys(write, touched.writes);
        }
        tainted
    }

    /// Whether a key of the source is still to be copied anew.
    pub(super) fn stale(&self, from: u32, key: &Bytes) -> bool {
        (!self.pending.is_empty() && self.pending.contains(&(from, key.clone())))
            || (!self.anew.is_empty()
                && self
                    .shared
                    .options
                    .databases
                    .get(&from)
                    .is_some_and(|db| self.anew.contains_key(&(*db, key.clone()))))
    }

    /// Up to here all is on the target as it should be.
    pub(super) fn sound(&self) -> u64 {
        let pending = if self.pending.is_empty() { None } else { Some(self.pending_since) };
        let unasked = self.unasked.iter().map(|(write, _)| write.end.saturating_sub(1)).min();
        let anew = self.anew.values().map(|anew| anew.since).min();
        [pending, unasked, anew].into_iter().flatten().min().map_or(self.applied, |since| since.min(self.applied))
    }

    /// Marks keys to be copied anew.
    pub(super) fn pend(&mut self, from: u32, keys: impl IntoIterator<Item = Bytes>, since: u64) {
        let since = if self.pending.is_empty() { since } else { self.pending_since.min(since) };
        let before = self.pending.len();
        self.pending.extend(keys.into_iter().filter(|key| !own(key)).map(|key| (from, key)));
        if !self.pending.is_empty() {
            self.pending_since = since;
        }
        self.unkept |= self.pending.len() > before;
    }

    /// Finds the keys of writes that only the source knows.
    pub(super) async fn find_keys(&mut self) -> Result<(), MigrateError> {
        let unasked = std::mem::take(&mut self.unasked);
        for writes in unasked.chunks(ASKED_AT_ONCE) {
            let ask =
                |(write, _): &(Spooled, bool)| Job::plain(0, vec![Command::new("COMMAND GETKEYS").args(&write.words)]);
            let answers = self.source.carry(writes.iter().map(ask).collect()).await?;
            for ((write, named), answer) in writes.iter().zip(answers) {
                let Answer::Values(values) = answer else { continue };
                // A command without keys is answered with an error.
                let keys = values.first().and_then(Value::array).unwrap_or_default();
                let keys = keys.iter().filter_map(Value::bytes).cloned().collect();
                if *named {
                    self.renew_keys(write, keys);
                } else {
                    self.pend(write.db, keys, write.end.saturating_sub(1));
                }
            }
        }
        Ok(())
    }

    /// Makes sure that no key to be copied anew is forgotten when we are killed. This comes before the next window's marks move on,
    /// because only the last window is looked at with doubt after a kill.
    pub(super) fn keep(&mut self, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        if !std::mem::take(&mut self.unkept) {
            return Ok(());
        }
        if self.pending.len() + self.anew.len() + self.settled.len() > KEPT_MAX {
            return Err(MigrateError::TargetLost);
        }
        if self.list(journal, true) { journal.save(&self.folder) } else { Ok(()) }
    }

    /// Notes what is to be copied anew in the journal. Whether something is new there.
    pub(super) fn list(&self, journal: &mut FeedJournal, settled: bool) -> bool {
        let pending = self.pending.iter().map(|(db, name)| (*db, name));
        let anew = self.anew.iter().map(|((_, name), anew)| (anew.from, name));
        let settled = self.settled.iter().filter(|_| settled).map(|(db, name)| (*db, name));
        journal.note_anew(pending.chain(anew).chain(settled))
    }

    /// Where the process before may not have heard, or not have kept, that writes were refused: after the first position, up to
    /// the second. That is its last round, or all that it did again after a fail-over.
    pub(super) fn find_doubt(&self, journal: &FeedJournal) -> Result<(u64, u64), MigrateError> {
        let until = self.marks.iter().copied().max().unwrap_or(0);
        let mut from = journal.base;
        if journal.rewound || until <= from {
            return Ok((from, until));
        }
        let mut reader = SpoolReader::new(Arc::clone(&self.spool));
        let mut ends = VecDeque::new();
        while let Some(frame) = reader.try_next().map_err(MigrateError::disk(&self.folder))? {
            for write in frame.writes.iter().filter(|write| write.end > journal.base && write.end <= until) {
                ends.push_back(write.end);
                if ends.len() > ROUND_WRITES * TRANSACTION_FACTOR + 1 {
                    from = ends.pop_front().unwrap_or(from);
                }
            }
            if frame.position.offset > until {
                break;
            }
        }
        Ok((from, until))
    }

    /// Writes keys anew whose position is reached, and reads those that wait.
    pub(super) async fn copy_anew(&mut self, journal: &FeedJournal) -> Result<(), MigrateError> {
        loop {
            self.copy_due(journal).await?;
            if !self.anew.is_empty() || self.pending.is_empty() {
                return Ok(());
            }
            self.read_pending().await?;
        }
    }

    /// Reads keys that wait, as many as may be held.
    async fn read_pending(&mut self) -> Result<(), MigrateError> {
        let telling = self.source.side().telling();
        let mut bytes = 0;
        while bytes < READ_BYTES_MAX && self.anew.len() < READ_MAX && !self.pending.is_empty() {
            let some: Vec<(u32, Bytes)> = self.pending.iter().take(KEYS_AT_ONCE).cloned().collect();
            let mut by_place: BTreeMap<(Lane, u32), Vec<Bytes>> = BTreeMap::new();
            for (from, key) in &some {
                let lane = self.shared.source_lanes.of(key);
                by_place.entry((lane, *from)).or_default().push(key.clone());
            }
            let jobs =
                by_place.iter().map(|((lane, from), keys)| Job::plain(*lane, look(*from, keys, telling))).collect();
            for (((lane, from), keys), answer) in by_place.iter().zip(self.source.carry(jobs).await?) {
                let values = if let Answer::Values(values) = answer { values } else { Vec::new() };
                let (found, at) = seen(&self.source, *lane, keys, &values)?;
                let Some(db) = self.shared.options.databases.get(from).copied() else { continue };
                for (key, value) in keys.iter().zip(found) {
                    bytes += value.as_ref().map_or(0, |(value, _)| value.len());
                    let anew = Anew { from: *from, value, at, since: self.pending_since };
                    self.anew.insert((db, key.clone()), anew);
                }
            }
            for key in some {
                self.pending.remove(&key);
            }
        }
        Ok(())
    }

    /// Writes the keys that were read anew, of those whose position is reached.
    async fn copy_due(&mut self, journal: &FeedJournal) -> Result<(), MigrateError> {
        // All before the next write is applied.
        let reached = self.queue.front().map_or(self.read.offset, |next| next.end - 1);
        let due: Vec<(u32, Bytes)> =
            self.anew.iter().filter(|(_, anew)| anew.at <= reached).map(|(key, _)| key.clone()).collect();
        for keys in due.chunks(KEYS_AT_ONCE) {
            self.copy_some(keys, journal.generation).await?;
        }
        Ok(())
    }

    async fn copy_some(&mut self, keys: &[(u32, Bytes)], generation: u64) -> Result<(), MigrateError> {
        let now = now_ms();
        let mut lanes: BTreeMap<Lane, LaneRound> = BTreeMap::new();
        for (number, (db, key)) in keys.iter().enumerate() {
            let Some(anew) = self.anew.get(&(*db, key.clone())) else { continue };
            let command = match &anew.value {
                Some((value, expiry)) => {
                    let expiry = if *expiry == 0 { 0 } else { self.shared.expiry(*expiry, now) };
                    self.shared.near(*db, [key.clone()]);
                    Command::new("RESTORE").arg(key).number(expiry).arg(value).args(["REPLACE", "ABSTTL"])
                }
                None => Command::new("UNLINK").arg(key),
            };
            let lane = self.shared.lanes.of(key);
            lanes.entry(lane).or_default().add(number, *db, command, self.marks[usize::from(lane)].max(anew.at));
        }
        let jobs = lanes.iter().map(|(lane, round)| self.job(*lane, round, generation)).collect();
        for ((lane, round), answer) in lanes.iter().zip(self.carrier.carry(jobs).await?) {
            match answer {
                Answer::Behind => return Err(MigrateError::Behind),
                Answer::Rejected { message, .. } => {
                    return Err(self.carrier.refused(*lane, "RESTORE", message.as_bytes()));
                }
                Answer::Values(values) => {
                    let refused = values.iter().zip(&round.of).find_map(|(value, of)| match value {
                        Value::Error(message) => Some((keys.get((*of)?)?, message)),
                        _ => None,
                    });
                    if let Some(((_, key), message)) = refused {
                        let (key, message) = (shown(key), String::from_utf8_lossy(message));
                        return Err(MigrateError::refused(
                            format!("the target does not take key \"{key}\": {message}"),
                            "remove what is in the way, then run the same command again",
                        ));
                    }
                }
                Answer::Done => {}
            }
            self.marks[usize::from(*lane)] = round.end;
        }
        for (db, key) in keys {
            if let Some(anew) = self.anew.remove(&(*db, key.clone())) {
                self.settled.insert((anew.from, key.clone()));
            }
        }
        Ok(())
    }
}

/// Whether a command that a server understands may be refused for what its key holds.
fn may_be_refused(words: &[Bytes]) -> bool {
    let name = words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
    match name.as_slice() {
        b"DEL" | b"UNLINK" | b"MSET" | b"PERSIST" | b"PEXPIREAT" => false,
        b"SET" => words.iter().skip(3).any(|word| word.eq_ignore_ascii_case(b"GET")),
        _ => true,
    }
}

/// A key's value on a server, and when it expires (0: never); `None`: it is not there.
pub(in super::super) type Seen = Option<(Bytes, u64)>;

/// What tells the values of keys of one lane together with the position of their stream.
fn look(db: u32, keys: &[Bytes], telling: Telling) -> Vec<Command> {
    let mut commands = vec![Command::new("MULTI")];
    for key in keys {
        commands.push(Command::new("DUMP").arg(key));
        commands.extend(telling.ask(key));
    }
    commands.extend([Command::new("INFO").arg("replication"), Command::new("EXEC")]);
    in_db(db, commands)
}

/// The values of keys and the position, of what [`look`] was answered.
fn seen(source: &Carrier, lane: Lane, keys: &[Bytes], values: &[Value]) -> Result<(Vec<Seen>, u64), MigrateError> {
    let errors = |values: &[Value]| {
        values.iter().find_map(|value| match value {
            Value::Error(message) => Some(message.clone()),
            _ => None,
        })
    };
    let done = values.iter().find_map(|value| if let Value::Array(done) = value { Some(done) } else { None });
    if let Some(message) = errors(values).or_else(|| errors(done?)) {
        return Err(source.refused(lane, "DUMP", &message));
    }
    let telling = source.side().telling();
    let each = 1 + telling.answers();
    let at = done
        .and_then(|done| done.get(each * keys.len())?.text())
        .and_then(|text| crate::info::Info::parse(text).number("master_repl_offset"))
        .and_then(|at| u64::try_from(at).ok());
    let (Some(done), Some(at)) = (done, at) else {
        let key = keys.first().map_or_else(String::new, |key| shown(key));
        return Err(MigrateError::refused(
            format!("the source does not tell the value of key \"{key}\" together with its position"),
            "see what its log says",
        ));
    };
    let value = |found: &[Value]| {
        let (value, expiry) = found.split_first()?;
        Some((value.bytes()?.clone(), telling.of(expiry).unwrap_or(0)))
    };
    Ok((done[..each * keys.len()].chunks(each).map(value).collect(), at))
}

/// The values of keys on the source, each with the position of the source's stream at that moment. The caller bounds their size.
pub(in super::super) async fn read_at(
    source: &mut Carrier,
    db: u32,
    keys: &[Bytes],
) -> Result<Vec<(Seen, u64)>, MigrateError> {
    let mut lanes: BTreeMap<Lane, Vec<usize>> = BTreeMap::new();
    for (index, key) in keys.iter().enumerate() {
        lanes.entry(source.lanes().of(key)).or_default().push(index);
    }
    let groups: Vec<(Lane, Vec<usize>, Vec<Bytes>)> = lanes
        .iter()
        .flat_map(|(lane, indexes)| indexes.chunks(KEYS_AT_ONCE).map(|some| (*lane, some.to_vec())))
        .map(|(lane, some)| {
            let keys = some.iter().map(|index| keys[*index].clone()).collect();
            (lane, some, keys)
        })
        .collect();
    let telling = source.side().telling();
    let jobs = groups.iter().map(|(lane, _, keys)| Job::plain(*lane, look(db, keys, telling))).collect();
    let mut found = vec![(None, 0); keys.len()];
    for ((lane, indexes, keys), answer) in groups.iter().zip(source.carry(jobs).await?) {
        let values = if let Answer::Values(values) = answer { values } else { Vec::new() };
        let (some, at) = seen(source, *lane, keys, &values)?;
        for (index, value) in indexes.iter().zip(some) {
            found[*index] = (value, at);
        }
    }
    Ok(found)
}
