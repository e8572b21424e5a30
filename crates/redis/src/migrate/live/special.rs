//! Writes of several lanes, and those that go with no other.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::super::board::shown;
use super::super::carrier::{Answer, Job};
use super::super::deed::{Deed, deed_of_keys};
use super::super::error::MigrateError;
use super::super::journal::FeedJournal;
use super::super::lane::{Lane, Lanes};
use super::super::load::in_db;
use super::super::spool::Spooled;
use super::super::sweep::sweep;
use super::{Applier, LaneRound};

impl Applier {
    /// A write that stands alone.
    pub(super) async fn alone(
        &mut self,
        write: Spooled,
        deed: Deed,
        journal: &FeedJournal,
    ) -> Result<(), MigrateError> {
        let (end, generation) = (write.end, journal.generation);
        let db = self.shared.options.databases.get(&write.db).copied().unwrap_or(0);
        self.shared.near(db, write.words.iter().skip(1).take(2).cloned());
        self.shared.written(write.db, write.words.iter().skip(1).take(2));
        match deed {
            Deed::Everywhere(words) => {
                for (address, values) in self.carrier.everywhere(&[Command::of("a library", &words)]).await? {
                    if let Some(Value::Error(message)) = values.first()
                        // It is gone already: this was done before.
                        && !message.starts_with(b"ERR Library not found")
                    {
                        return Err(MigrateError::refused(
                            format!(
                                "{address} does not take a library of functions: {}",
                                String::from_utf8_lossy(message)
                            ),
                            "use a target that takes it, then run the same command again",
                        ));
                    }
                }
                Ok(())
            }
            Deed::Flush { db } => {
                let to = match db {
                    Some(db) => match self.shared.options.databases.get(&db) {
                        Some(to) => Some(*to),
                        None => return Ok(()),
                    },
                    None => None,
                };
                self.flush(to, &write, generation).await
            }
            Deed::Ask => {
                let ask = Command::new("COMMAND GETKEYS").args(&write.words);
                let lane = 0;
                let keys = match self.source.one(Job::plain(lane, vec![ask])).await? {
                    Answer::Values(values) => values
                        .first()
                        .and_then(Value::array)
                        .map(|keys| keys.iter().filter_map(Value::bytes).cloned().collect::<Vec<_>>()),
                    _ => None,
                };
                match deed_of_keys(&write.words, keys.unwrap_or_default(), &self.shared.lanes) {
                    Deed::Lane(lane, words) => {
                        if self.marks[usize::from(lane)] < end {
                            let commands = in_db(db, vec![Command::of("a live write", &words)]);
                            self.transact(lane, commands, generation, &write).await?;
                        }
                        Ok(())
                    }
                    Deed::Anew(keys) => {
                        self.renew_keys(&write, keys);
                        Ok(())
                    }
                    _ => Err(refused_write(&write, "the source does not say which keys it writes")),
                }
            }
            Deed::Refused(why) => Err(refused_write(&write, why)),
            Deed::Nothing
            | Deed::Begin
            | Deed::End
            | Deed::Anew(_)
            | Deed::Lane(..)
            | Deed::Split(_)
            | Deed::Gather { .. }
            | Deed::Rename { .. }
            | Deed::ListMove { .. } => Ok(()),
        }
    }

    /// Writes that read other lanes than they write, or change two: what is to be done in the lanes that they write is added, and
    /// what is to be taken away after that is the answer.
    pub(super) async fn gather(
        &mut self,
        deeds: Vec<(usize, Deed)>,
        writes: &[Spooled],
        lanes: &mut BTreeMap<Lane, LaneRound>,
        generation: u64,
    ) -> Result<BTreeMap<Lane, LaneRound>, MigrateError> {
        let mut after = BTreeMap::new();
        let (mut todo, mut looks, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for (number, deed) in deeds {
            let write = &writes[number];
            let db = self.shared.options.databases.get(&write.db).copied().unwrap_or(0);
            self.shared.near(db, write.words.iter().skip(1).take(2).cloned());
            self.shared.written(write.db, write.words.iter().skip(1).take(2));
            let reach = Reach::of(&deed, &self.shared.lanes);
            self.note(false, write, if reach.taken.is_some() { &[1, 2] } else { &[1] });
            let behind = |lane: Lane| self.marks[usize::from(lane)] < write.end;
            let writes_it = behind(reach.written);
            if writes_it && self.ahead(write.db, &reach.read, write.end) {
                self.renew(write);
                continue;
            }
            if let Some((lane, command)) = reach.taken.filter(|(lane, _)| behind(*lane)) {
                after.insert(lane, LaneRound::of_one(number, write.end, vec![command]));
            }
            if writes_it {
                let count = reach.looks.len();
                looks.extend(reach.looks.into_iter().map(|mut look| {
                    let mark = self.mark(look.lane, generation, write.end);
                    look.commands.insert(0, Command::new("GET").arg(mark.key));
                    expected.push(mark.before);
                    look
                }));
                todo.push((number, deed, reach.written, reach.read, count));
            }
        }
        let mut answers = Vec::new();
        for (answer, mark) in self.carrier.carry(looks).await?.into_iter().zip(expected) {
            let mut values = if let Answer::Values(values) = answer { values } else { Vec::new() };
            // A server that has taken over and lost writes answers with an older value, or none.
            if values.is_empty() || values.remove(0).bytes() != mark.as_ref() {
                return Err(MigrateError::Behind);
            }
            answers.push(values);
        }
        let mut answers = answers.into_iter();
        for (number, deed, lane, read, count) in todo {
            let found: Vec<Vec<Value>> = answers.by_ref().take(count).collect();
            if let Some((key, message)) = refused_look(&deed, &read, &found) {
                return Err(self.carrier.refused(self.shared.lanes.of(key), "DUMP", message));
            }
            match on_copies(deed, &found, |copy| self.shared.lanes.key(lane, &format!("t{copy}"))) {
                Some(commands) => {
                    lanes.insert(lane, LaneRound::of_one(number, writes[number].end, commands));
                }
                None => {
                    // Then nothing is taken away, either: the keys are copied anew, both of them.
                    after.retain(|_, round: &mut LaneRound| round.of != [Some(number)]);
                    self.renew(&writes[number]);
                }
            }
        }
        Ok(after)
    }

    fn note(&self, anew: bool, write: &Spooled, keys: &[usize]) {
        let keys = keys.iter().filter_map(|index| write.words.get(*index)).map(Bytes::as_ref);
        self.shared.board.special(anew, &write.words[0], keys);
    }

    /// A transaction of one lane for a write that stands alone.
    async fn transact(
        &mut self,
        lane: Lane,
        commands: Vec<Command>,
        generation: u64,
        write: &Spooled,
    ) -> Result<(), MigrateError> {
        let mark = Some(self.mark(lane, generation, write.end));
        match self.carrier.one(Job { lane, commands, mark }).await? {
            Answer::Behind => Err(MigrateError::Behind),
            Answer::Done => {
                self.marks[usize::from(lane)] = write.end;
                self.doubt(write);
                Ok(())
            }
            Answer::Values(values) => {
                self.marks[usize::from(lane)] = write.end;
                if values.iter().any(|value| matches!(value, Value::Error(_))) {
                    self.renew(write);
                }
                Ok(())
            }
            Answer::Rejected { .. } => {
                self.renew(write);
                Ok(())
            }
        }
    }

    /// Whether what is to be read has gone on beyond a position: after a fail-over of the target lanes may be at different ones,
    /// and then a value is not the one that a write there meant. Nor is one that is still to be copied anew.
    fn ahead(&self, db: u32, keys: &[Bytes], end: u64) -> bool {
        keys.iter().any(|key| self.marks[usize::from(self.shared.lanes.of(key))] >= end || self.stale(db, key))
    }

    /// Removes all keys of the feed, of one database or of all, in the lanes that are not beyond it. Their marks go with it: done
    /// again after a kill, it would remove what was written since.
    async fn flush(&mut self, db: Option<u32>, write: &Spooled, generation: u64) -> Result<(), MigrateError> {
        let lanes: Vec<Lane> =
            self.lanes().into_iter().filter(|lane| self.marks[usize::from(*lane)] < write.end).collect();
        let slots: SlotSet = if self.shared.lanes.cluster() {
            lanes.iter().filter_map(|lane| Slot::new(*lane)).collect()
        } else if lanes.is_empty() {
            SlotSet::new()
        } else {
            self.slots.clone()
        };
        if slots.is_empty() {
            return Ok(());
        }
        sweep(&self.shared, &mut self.carrier, &slots, None, db).await?;
        let job = |lane: &Lane| Job {
            lane: *lane,
            commands: Vec::new(),
            mark: Some(self.mark(*lane, generation, write.end)),
        };
        let jobs: Vec<Job> = lanes.iter().map(job).collect();
        for (lane, answer) in lanes.iter().zip(self.carrier.carry(jobs).await?) {
            match answer {
                Answer::Behind => return Err(MigrateError::Behind),
                Answer::Rejected { message, .. } => return Err(self.carrier.refused(*lane, "SET", message.as_bytes())),
                Answer::Done | Answer::Values(_) => self.marks[usize::from(*lane)] = write.end,
            }
        }
        Ok(())
    }
}

/// Which lanes a write of several lanes concerns, and what it needs to know.
struct Reach {
    written: Lane,
    /// Keys that it reads.
    read: Vec<Bytes>,
    /// How they are read.
    looks: Vec<Job>,
    /// What it takes away when it is done.
    taken: Option<(Lane, Command)>,
}

impl Reach {
    fn of(deed: &Deed, lanes: &Lanes) -> Self {
        let value = |key: &Bytes| {
            Job::plain(lanes.of(key), vec![Command::new("DUMP").arg(key), Command::new("PEXPIRETIME").arg(key)])
        };
        match deed {
            Deed::Rename { from, to } => Self {
                written: lanes.of(to),
                read: vec![from.clone()],
                looks: vec![value(from)],
                taken: Some((lanes.of(from), Command::new("UNLINK").arg(from))),
            },
            Deed::ListMove { from, to, from_head, .. } => {
                let look = Command::new("LINDEX").arg(from).number(if *from_head { 0 } else { -1 });
                let pop = Command::new(if *from_head { "LPOP" } else { "RPOP" }).arg(from);
                Self {
                    written: lanes.of(to),
                    read: vec![from.clone()],
                    looks: vec![Job::plain(lanes.of(from), vec![look])],
                    taken: Some((lanes.of(from), pop)),
                }
            }
            Deed::Gather { lane, words, reads } => {
                let read: Vec<Bytes> = reads.iter().filter_map(|index| words.get(*index).cloned()).collect();
                Self { written: *lane, looks: read.iter().map(value).collect(), read, taken: None }
            }
            _ => Self { written: 0, read: Vec::new(), looks: Vec::new(), taken: None },
        }
    }
}

/// A value that the server does not give, with the key and its words.
fn refused_look<'a>(deed: &Deed, read: &'a [Bytes], found: &'a [Vec<Value>]) -> Option<(&'a Bytes, &'a Bytes)> {
    if matches!(deed, Deed::ListMove { .. }) {
        return None;
    }
    read.iter().zip(found).find_map(|(key, values)| match values.first() {
        Some(Value::Error(message)) => Some((key, message)),
        _ => None,
    })
}

/// What is to be done in the lane that is written, with what was found of the others; `None`: that is not what the write meant. `copy`:
/// names for copies in that lane.
fn on_copies(deed: Deed, found: &[Vec<Value>], copy: impl Fn(usize) -> Bytes) -> Option<Vec<Command>> {
    let value = |values: &Vec<Value>| values.first().and_then(Value::bytes).cloned();
    let expiry = |values: &Vec<Value>| values.get(1).and_then(Value::int).unwrap_or(-1).max(0);
    match deed {
        Deed::Gather { mut words, reads, .. } => {
            let (mut commands, mut copies) = (Vec::new(), Vec::new());
            for (number, (index, values)) in reads.iter().zip(found).enumerate() {
                let copy = copy(number);
                commands.push(Command::new("UNLINK").arg(&copy));
                // COPY takes the expiry along.
                let restore =
                    |value| Command::new("RESTORE").arg(&copy).number(expiry(values)).arg(value).arg("ABSTTL");
                commands.extend(value(values).map(restore));
                words[*index] = copy.clone();
                copies.push(copy);
            }
            commands.push(Command::of("a live write", &words));
            commands.push(Command::new("UNLINK").args(&copies));
            Some(commands)
        }
        Deed::Rename { to, .. } => {
            let values = found.first()?;
            let restore = Command::new("RESTORE").arg(&to).number(expiry(values)).arg(value(values)?);
            Some(vec![restore.args(["REPLACE", "ABSTTL"])])
        }
        Deed::ListMove { to, to_head, .. } => {
            Some(vec![Command::new(if to_head { "LPUSH" } else { "RPUSH" }).arg(&to).arg(value(found.first()?)?)])
        }
        _ => None,
    }
}

fn refused_write(write: &Spooled, why: &str) -> MigrateError {
    let name = String::from_utf8_lossy(&write.words[0]).to_uppercase();
    let keys: Vec<String> = write.words.iter().skip(1).take(3).map(|word| shown(word)).collect();
    MigrateError::refused(
        format!("the source's {name} ({}) cannot be carried over: {why}", keys.join(", ")),
        "stop such writes and begin anew with an empty state folder and target",
    )
}
