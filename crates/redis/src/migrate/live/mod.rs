//! Live writes go to the target, each exactly once.
//!
//! Writes are taken from the spool in windows, and a window goes in rounds. A round has for each lane one transaction: its writes,
//! and the mark that says up to where they go. All lanes at once, and no lane begins its next round before all have ended this
//! one, so that order holds whatever is refused and sent again. Which writes go in one round is decided in [`wave`].
//!
//! After a kill, or when a fail-over of the target has lost writes, the marks are read and what is behind them is passed over.
//! Files of the spool are given up only when a replica of the target has confirmed what was in them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use crate::replication::Position;
use crate::resp::{Command, Value};
use crate::slot_set::SlotSet;

use super::carrier::{Answer, Carrier, Job, Mark, Sign};
use super::deed::{Deed, deed};
use super::error::MigrateError;
use super::hold::with_expiry;
use super::journal::FeedJournal;
use super::lane::Lane;
use super::options::{Shared, now_ms};
use super::sign::sign_name;
use super::spool::{Frame, Spool, SpoolReader, Spooled};
use super::telling::Telling;

mod anew;
mod expiry;
mod special;
mod wave;

pub(super) use anew::{KEPT_MAX, Seen, read_at};
use wave::{Item, next_wave};

/// Writes in one round, unless a transaction of the source has more.
const ROUND_WRITES: usize = 2000;
/// Bytes in one round, likewise.
const ROUND_BYTES: usize = 8 << 20;
/// Beyond this many times these limits a transaction of the source is cut.
const TRANSACTION_FACTOR: usize = 8;
/// How often it is asked what is confirmed.
const CONFIRM_EVERY: Duration = Duration::from_secs(1);
/// How long a replica may take to confirm.
const CONFIRM_WITHIN: Duration = Duration::from_millis(200);

/// A key to be copied anew.
#[derive(Debug, Clone)]
struct Anew {
    /// Its database on the source.
    from: u32,
    /// The value read from the source (`None`: it has none), its expiry, and the position it was read at.
    value: Option<(Bytes, u64)>,
    at: u64,
    /// The target's value is not as it should be from after this position on.
    since: u64,
}

/// Applies a feed's live writes.
#[derive(Debug)]
pub(super) struct Applier {
    shared: Shared,
    index: usize,
    slots: SlotSet,
    folder: PathBuf,
    carrier: Carrier,
    source: Carrier,
    spool: Arc<Spool>,
    reader: SpoolReader,
    queue: VecDeque<Spooled>,
    /// The position after what is in the queue.
    read: Position,
    /// Position of the last write applied, by lane.
    marks: Vec<u64>,
    /// Marks that a replica of the target has.
    confirmed: Vec<u64>,
    /// Up to here all is applied.
    applied: u64,
    /// Keys to be copied anew, by database of the target and name.
    anew: BTreeMap<(u32, Bytes), Anew>,
    /// Keys to be copied anew that wait to be read, by database of the source and name.
    pending: BTreeSet<(u32, Bytes)>,
    /// The target's values of these are not as they should be from after this position on.
    pending_since: u64,
    /// Keys copied anew, which no replica of the target has confirmed.
    settled: BTreeSet<(u32, Bytes)>,
    /// Writes whose keys are to be copied anew when the source has told them, and whether that is told people.
    unasked: Vec<(Spooled, bool)>,
    /// After the first position and up to the second, what is passed over is doubtful.
    doubt: (u64, u64),
    /// Keys whose expiries came as what was left when they were sent, by database of the source.
    relative: BTreeSet<(u32, Bytes)>,
    /// Whether there may be keys to be copied anew that the journal does not have.
    unkept: bool,
    /// Up to here writes are applied again after a fail-over of the target.
    again_until: u64,
    /// As of the last confirmation.
    changes: u64,
}

/// Writes that are taken off the queue together.
#[derive(Debug, Default)]
struct Window {
    writes: Vec<Spooled>,
    /// Those that do something.
    items: Vec<Item>,
    /// The one after them, which goes with no other.
    alone: Option<(Spooled, Deed)>,
}

/// Commands of a round for one lane.
#[derive(Debug, Default)]
struct LaneRound {
    commands: Vec<Command>,
    /// Which write each command is of; `None` for a choice of database.
    of: Vec<Option<usize>>,
    db: u32,
    end: u64,
}

impl LaneRound {
    /// Adds a command of a write.
    fn add(&mut self, number: usize, db: u32, command: Command, end: u64) {
        if self.db != db {
            self.commands.push(Command::new("SELECT").number(db));
            self.of.push(None);
            self.db = db;
        }
        self.commands.push(command);
        self.of.push(Some(number));
        self.end = self.end.max(end);
    }

    /// Commands that stand for one write.
    fn of_one(number: usize, end: u64, commands: Vec<Command>) -> Self {
        Self { of: vec![Some(number); commands.len()], commands, db: 0, end }
    }
}

impl Applier {
    /// Begins where the marks on the target say. [`MigrateError::TargetLost`]: they are not there.
    pub(super) async fn new(
        shared: &Shared,
        index: usize,
        slots: SlotSet,
        folder: PathBuf,
        spool: Arc<Spool>,
        journal: &FeedJournal,
    ) -> Result<Self, MigrateError> {
        let who = Arc::new(shared.to_target(&format!("live{index}")));
        let count = shared.lanes.count();
        let mut applier = Self {
            shared: shared.clone(),
            index,
            slots,
            folder,
            carrier: shared.carrier(&who),
            source: shared.source_carrier(),
            reader: SpoolReader::new(Arc::clone(&spool)),
            spool,
            queue: VecDeque::new(),
            read: Position { history: String::new(), offset: journal.base, db: 0 },
            marks: vec![0; count],
            confirmed: vec![journal.base; count],
            applied: journal.base,
            anew: BTreeMap::new(),
            pending: journal.anew(),
            pending_since: journal.base.saturating_sub(1),
            settled: BTreeSet::new(),
            unasked: Vec::new(),
            doubt: (0, 0),
            relative: BTreeSet::new(),
            unkept: false,
            again_until: 0,
            changes: 0,
        };
        applier.read_marks(journal.generation).await?;
        // Marks tell what a lane has; that it has lost what was given up already, only the sign tells.
        if applier.carrier.signed(&sign_name(index)).await? < journal.signed {
            return Err(MigrateError::TargetLost);
        }
        applier.doubt = applier.find_doubt(journal)?;
        applier.again_until = applier.doubt.1;
        applier.changes = applier.carrier.changes();
        Ok(applier)
    }

    fn lanes(&self) -> Vec<Lane> {
        lanes_of(&self.shared, &self.slots)
    }

    async fn read_marks(&mut self, generation: u64) -> Result<(), MigrateError> {
        let lanes = self.lanes();
        let name = mark_name(self.index);
        let looks = lanes
            .iter()
            .map(|lane| Job::plain(*lane, vec![Command::new("GET").arg(self.shared.lanes.key(*lane, &name))]))
            .collect();
        for (lane, answer) in lanes.iter().zip(self.carrier.carry(looks).await?) {
            let Answer::Values(values) = answer else { return Err(MigrateError::TargetLost) };
            let mark = values.first().and_then(Value::text).and_then(|text| {
                let (of, at) = text.split_once('/')?;
                (of.parse() == Ok(generation)).then_some(())?;
                at.parse::<u64>().ok()
            });
            self.marks[usize::from(*lane)] = mark.ok_or(MigrateError::TargetLost)?;
        }
        Ok(())
    }

    /// Applies what comes until an error, or until it is told to stop.
    pub(super) async fn run(&mut self, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        let mut confirm_at = Instant::now() + CONFIRM_EVERY;
        loop {
            if self.shared.board.stopping() {
                return Err(MigrateError::Stopped);
            }
            if Instant::now() >= confirm_at {
                self.confirm(journal).await?;
                confirm_at = Instant::now() + CONFIRM_EVERY;
            }
            if self.queue.is_empty() {
                let gate = Arc::clone(&self.shared.gate);
                let open = gate.read().await;
                let copied = self.copy_anew(journal).await;
                drop(open);
                match copied {
                    Err(MigrateError::Behind) => self.rewind(journal, true).await?,
                    done => done?,
                }
                self.reached(self.applied);
                let board = self.shared.board.clone();
                let frame = tokio::select! {
                    frame = self.reader.next() => Some(frame.map_err(MigrateError::disk(&self.folder))?),
                    () = sleep_until(confirm_at) => None,
                    () = board.stopped() => None,
                };
                let Some(frame) = frame else { continue };
                self.take(frame);
                // As many as there are, so that rounds are full when there is much to do.
                while self.queue.len() < ROUND_WRITES
                    && let Some(frame) = self.reader.try_next().map_err(MigrateError::disk(&self.folder))?
                {
                    self.take(frame);
                }
            }
            match self.step(journal).await {
                Err(MigrateError::Behind) => self.rewind(journal, true).await?,
                done => done?,
            }
        }
    }

    fn take(&mut self, frame: Frame) {
        if frame.position.offset > self.applied {
            let applied = self.applied;
            self.queue.extend(frame.writes.into_iter().filter(|write| write.end > applied));
        }
        self.read = frame.position;
    }

    fn reached(&mut self, position: u64) {
        self.applied = self.applied.max(position);
        let (applied, bytes) = (self.sound(), self.spool.bytes());
        self.shared.board.feed(self.index, |feed| {
            feed.applied = applied;
            feed.spool_bytes = bytes;
        });
    }

    /// As many writes as go together, and the one after them that stands alone, if one does.
    async fn step(&mut self, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        let gate = Arc::clone(&self.shared.gate);
        let _gate = gate.read().await;
        let Window { writes, mut items, alone } = self.collect()?;
        self.find_keys().await?;
        self.keep(journal)?;
        while !items.is_empty() {
            let wave = next_wave(&mut items);
            self.wave(wave, &writes, journal.generation).await?;
            self.find_keys().await?;
        }
        if let Some(last) = writes.last() {
            self.reached(last.end);
            let count = writes.len() as u64;
            self.shared.board.change(|status| status.writes += count);
        }
        if let Some((write, deed)) = alone {
            let end = write.end;
            self.alone(write, deed, journal).await?;
            self.reached(end);
            self.shared.board.change(|status| status.writes += 1);
        }
        self.exact_expiries().await?;
        if self.queue.is_empty() {
            self.reached(self.read.offset);
        }
        self.find_keys().await?;
        self.keep(journal)?;
        self.copy_anew(journal).await?;
        self.reached(self.applied);
        Ok(())
    }

    /// Takes writes off the queue.
    fn collect(&mut self) -> Result<Window, MigrateError> {
        let mut window = Window::default();
        let (mut bytes, mut inside) = (0, false);
        // Values read anew from the source are of this position: what comes after must wait for them.
        let stop_after = self.anew.values().map(|anew| anew.at).min().unwrap_or(u64::MAX);
        while let Some(write) = self.queue.front() {
            let count = window.writes.len();
            let full = count >= ROUND_WRITES || bytes >= ROUND_BYTES;
            let overfull = count >= ROUND_WRITES * TRANSACTION_FACTOR || bytes >= ROUND_BYTES * TRANSACTION_FACTOR;
            if (full && !inside) || overfull || write.end > stop_after {
                break;
            }
            let deed = self.deed(write)?;
            let Some(write) = self.queue.pop_front() else { break };
            inside = match deed {
                Deed::Begin => true,
                Deed::End => false,
                _ => inside,
            };
            if !matches!(deed, Deed::Nothing | Deed::Begin | Deed::End) {
                if self.doubt.0 < write.end && write.end <= self.doubt.1 {
                    self.doubt(&write);
                }
                if self.shared.source.telling() == Telling::Relative {
                    self.note_relative(&write);
                }
                match Item::new(count, deed, &self.shared.lanes) {
                    Ok(item) => window.items.push(item),
                    Err(Deed::Anew(keys)) => self.renew_keys(&write, keys),
                    Err(deed) => {
                        window.alone = Some((write, deed));
                        break;
                    }
                }
            }
            bytes += write.words.iter().map(Bytes::len).sum::<usize>();
            window.writes.push(write);
        }
        Ok(window)
    }

    /// Carries out writes that go at once: what those of several lanes read comes first, what they take away last.
    async fn wave(&mut self, wave: Vec<Item>, writes: &[Spooled], generation: u64) -> Result<(), MigrateError> {
        let now = now_ms();
        let (mut lanes, mut gathering) = (BTreeMap::new(), Vec::new());
        for item in wave {
            let write = &writes[item.number];
            match item.deed {
                Deed::Lane(..) if self.tainted(write) => {}
                Deed::Lane(lane, words) => self.put(&mut lanes, lane, words, item.number, write, now),
                Deed::Split(parts) => {
                    self.shared.board.special(false, &write.words[0], parts.iter().map(|(_, words)| words[1].as_ref()));
                    for (lane, words) in parts {
                        self.put(&mut lanes, lane, words, item.number, write, now);
                    }
                }
                deed => gathering.push((item.number, deed)),
            }
        }
        let after = self.gather(gathering, writes, &mut lanes, generation).await?;
        self.round(lanes, writes, generation).await?;
        self.round(after, writes, generation).await
    }

    /// Adds a command to what is to be done in its lane, unless that lane is beyond it.
    fn put(
        &self,
        lanes: &mut BTreeMap<Lane, LaneRound>,
        lane: Lane,
        mut words: Vec<Bytes>,
        number: usize,
        write: &Spooled,
        now: u64,
    ) {
        if self.marks[usize::from(lane)] >= write.end {
            return;
        }
        let db = self.shared.options.databases.get(&write.db).copied().unwrap_or(0);
        with_expiry(&mut words, |at| self.shared.expiry(at, now));
        self.shared.written(write.db, words.get(1));
        // The second of two keys gets its expiry from the first.
        self.shared.near(db, words.iter().skip(1).take(2).cloned());
        lanes.entry(lane).or_default().add(number, db, Command::of("a live write", &words), write.end);
    }

    fn deed(&self, write: &Spooled) -> Result<Deed, MigrateError> {
        let options = &self.shared.options;
        let name = write.words.first().map(|name| name.to_ascii_uppercase()).unwrap_or_default();
        if matches!(name.as_slice(), b"MULTI" | b"EXEC" | b"FLUSHALL" | b"FUNCTION" | b"SCRIPT" | b"PUBLISH") {
            return Ok(self.on_one_server(write, deed(&write.words, write.db, &self.shared.lanes)));
        }
        if !options.databases.contains_key(&write.db) {
            return if options.left.contains(&write.db) {
                Ok(Deed::Nothing)
            } else {
                Err(MigrateError::refused(
                    format!("the source writes to database {}, and nothing says where it goes", write.db),
                    "run the same command with --db FROM=TO or --leave-db N for it",
                ))
            };
        }
        Ok(self.on_one_server(write, deed(&write.words, write.db, &self.shared.lanes)))
    }

    /// On one server with the same databases, what concerns databases can be done as it is.
    fn on_one_server(&self, write: &Spooled, deed: Deed) -> Deed {
        let same = self.shared.options.databases.iter().all(|(from, to)| from == to);
        match deed {
            Deed::Flush { db } if !self.shared.lanes.cluster() && self.shared.feeds == 1 => {
                let one =
                    db.is_some() || self.shared.options.databases.len() > 1 || !self.shared.options.left.is_empty();
                if one && db.is_none() { Deed::Flush { db } } else { Deed::Lane(0, write.words.clone()) }
            }
            Deed::Refused(_) if !self.shared.lanes.cluster() && same && self.shared.options.left.is_empty() => {
                Deed::Lane(0, write.words.clone())
            }
            deed => deed,
        }
    }

    fn mark(&self, lane: Lane, generation: u64, end: u64) -> Mark {
        Mark {
            key: self.shared.lanes.key(lane, &mark_name(self.index)),
            value: mark_value(generation, end),
            before: Some(mark_value(generation, self.marks[usize::from(lane)])),
        }
    }

    /// What is to be done in a lane, as one transaction with its mark.
    fn job(&self, lane: Lane, round: &LaneRound, generation: u64) -> Job {
        let mut commands = round.commands.clone();
        if round.db != 0 {
            commands.push(Command::new("SELECT 0"));
        }
        Job { lane, commands, mark: Some(self.mark(lane, generation, round.end)) }
    }

    /// Carries out what was collected.
    async fn round(
        &mut self,
        lanes: BTreeMap<Lane, LaneRound>,
        writes: &[Spooled],
        generation: u64,
    ) -> Result<(), MigrateError> {
        let mut rounds: Vec<(Lane, LaneRound)> = lanes.into_iter().collect();
        let mut anew: Vec<usize> = Vec::new();
        let mut unheard: Vec<usize> = Vec::new();
        while !rounds.is_empty() {
            let jobs = rounds.iter().map(|(lane, round)| self.job(*lane, round, generation)).collect();
            let answers = self.carrier.carry(jobs).await?;
            let (mut again, mut behind) = (Vec::new(), false);
            for ((lane, mut round), answer) in rounds.into_iter().zip(answers) {
                match answer {
                    Answer::Behind => behind = true,
                    Answer::Done => {
                        self.marks[usize::from(lane)] = round.end;
                        unheard.extend(round.of.iter().flatten());
                    }
                    Answer::Values(values) => {
                        self.marks[usize::from(lane)] = round.end;
                        let failed = values.iter().zip(&round.of).filter(|(value, _)| matches!(value, Value::Error(_)));
                        anew.extend(failed.filter_map(|(_, of)| *of));
                    }
                    Answer::Rejected { command, message } => {
                        let Some(Some(write)) = round.of.get(command).copied() else {
                            return Err(self.carrier.refused(lane, "a mark", message.as_bytes()));
                        };
                        anew.push(write);
                        round.commands.remove(command);
                        round.of.remove(command);
                        again.push((lane, round));
                    }
                }
            }
            if behind {
                unheard.append(&mut anew);
                self.doubt_some(unheard, writes);
                return Err(MigrateError::Behind);
            }
            rounds = again;
        }
        self.doubt_some(unheard, writes);
        anew.sort_unstable();
        anew.dedup();
        for write in anew {
            self.renew(&writes[write]);
        }
        Ok(())
    }

    fn doubt_some(&mut self, mut some: Vec<usize>, writes: &[Spooled]) {
        some.sort_unstable();
        some.dedup();
        for write in some {
            self.doubt(&writes[write]);
        }
    }

    /// Remembers what replicas of the target have confirmed, and gives up the spool before it.
    async fn confirm(&mut self, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        if self.carrier.changes() != self.changes {
            return self.rewind(journal, false).await;
        }
        let applied = self.applied;
        let sign = Sign { name: sign_name(self.index), number: journal.signed + 1 };
        if (applied == journal.base && self.settled.is_empty())
            || !self.unasked.is_empty()
            || !self.carrier.confirmed(CONFIRM_WITHIN, Some(&sign)).await
        {
            return Ok(());
        }
        if self.carrier.changes() != self.changes {
            return self.rewind(journal, false).await;
        }
        self.confirmed.clone_from(&self.marks);
        (journal.base, journal.signed) = (applied, sign.number);
        journal.rewound &= applied < self.again_until;
        self.list(journal, false);
        journal.save(&self.folder)?;
        self.settled.clear();
        self.spool.give_up(applied).map_err(MigrateError::disk(&self.folder))
    }

    /// Looks at the marks after a server of the target was replaced by another, and goes back to what is known to be safe when
    /// they have lost something. `always`: also when they have not.
    async fn rewind(&mut self, journal: &mut FeedJournal, always: bool) -> Result<(), MigrateError> {
        let known = self.marks.clone();
        self.read_marks(journal.generation).await?;
        self.changes = self.carrier.changes();
        let less = |than: &dyn Fn(usize) -> u64| {
            self.lanes().into_iter().map(usize::from).any(|lane| self.marks[lane] < than(lane))
        };
        if less(&|lane| self.confirmed[lane].min(known[lane])) {
            return Err(MigrateError::TargetLost);
        }
        if !always && !less(&|lane| known[lane]) {
            return Ok(());
        }
        self.shared.board.change(|status| status.rewinds += 1);
        self.again_until = known.iter().copied().max().unwrap_or(0).max(self.again_until);
        // What was copied anew since may be lost with the rest.
        let settled = std::mem::take(&mut self.settled);
        for (from, key) in settled {
            self.pend(from, [key], journal.base.saturating_sub(1));
        }
        self.list(journal, true);
        journal.rewound = true;
        journal.save(&self.folder)?;
        // Values read anew stay: they are written when their position is reached again.
        self.queue.clear();
        self.applied = journal.base;
        self.reached(journal.base);
        self.reader = SpoolReader::new(Arc::clone(&self.spool));
        Ok(())
    }
}

/// The name of a feed's marks.
pub(super) fn mark_name(feed: usize) -> String {
    format!("m{feed}")
}

/// What a mark holds: number of the snapshot, position.
pub(super) fn mark_value(generation: u64, end: u64) -> Bytes {
    format!("{generation}/{end}").into()
}

/// The lanes of the target that a feed writes to.
pub(super) fn lanes_of(shared: &Shared, slots: &SlotSet) -> Vec<Lane> {
    if shared.lanes.cluster() { slots.iter().map(crate::slot::Slot::number).collect() } else { vec![0] }
}
