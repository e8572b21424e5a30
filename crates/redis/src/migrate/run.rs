//! A whole migration: begun or gone on with, followed, and brought to its end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::RwLock;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::connection::Dialer;
use crate::replication::Feed;
use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::slot_set::SlotSet;
use crate::url::Url;

use super::board::{Board, FeedStatus, Stage, Status};
use super::by_scan::{Changes, ScanFlow};
use super::carrier::{Job, Who};
use super::error::MigrateError;
use super::flow::Flow;
use super::journal::{FeedJournal, Journal, State};
use super::lane::{Lane, Lanes};
use super::live::mark_name;
use super::load::in_db;
use super::options::{FAR_RELEASED, HELD, Options, RELEASED, Shared};
use super::place::Side;
use super::sign::sign_name;
use super::sweep::{Change, change_some, expiries};
use super::verify::{Extent, Verdict, Verifier};
use super::way_back::{self, Crossing, in_time};

/// How often it is looked whether something is reached.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Lanes whose marks are removed at once.
const CLEAR_AT_ONCE: usize = 1000;

/// A migration.
#[derive(Debug)]
pub struct Migration {
    shared: Shared,
    state: State,
    journal: Journal,
    slots: Vec<SlotSet>,
    flows: JoinSet<Result<(), MigrateError>>,
}

/// The two sides.
#[derive(Debug, Clone)]
pub struct Sides {
    /// Where from.
    pub source: Side,
    /// Where to.
    pub target: Side,
    /// Where from, as shown.
    pub from: String,
    /// Where to, as shown.
    pub to: String,
}

impl Sides {
    /// Finds both.
    pub async fn open(from: &Url, to: &Url, dialer: &Dialer) -> Result<Self, MigrateError> {
        Ok(Self {
            source: Side::open(from, dialer).await?,
            target: Side::open(to, dialer).await?,
            from: from.to_string(),
            to: to.to_string(),
        })
    }

    /// The other way round.
    pub fn swapped(self) -> Self {
        Self { source: self.target, target: self.source, from: self.to, to: self.from }
    }
}

/// The journal of a migration between these two that is not over, in a state folder that nobody holds.
pub fn begun(folder: &Path, from: &str, to: &str) -> Result<Option<Journal>, MigrateError> {
    if !folder.exists() {
        return Ok(None);
    }
    let state = State::open(folder)?;
    let Some(journal) = state.journal()? else { return Ok(None) };
    if journal.finished {
        return Ok(None);
    }
    if journal.from != from || journal.to != to {
        return Err(MigrateError::refused(
            format!("{} holds a migration from {} to {} that is not over", folder.display(), journal.from, journal.to),
            "finish that one, or give another --state",
        ));
    }
    Ok(Some(journal))
}

/// Compares two sides that nobody migrates between, as they are now. Nothing is changed.
pub async fn compare(
    sides: Sides,
    options: Options,
    extent: Extent,
    tolerance_ms: u64,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<Verdict, MigrateError> {
    let shared = share(sides, options, "compare", 0);
    Verifier::new(&shared, Vec::new(), extent, tolerance_ms, false).run(tell).await
}

fn share(sides: Sides, options: Options, run: &str, feeds: usize) -> Shared {
    let (expiries, scans) = if options.by_scan { (RELEASED, feeds) } else { (HELD, 0) };
    let copiers = options.loaders;
    let board = Board::new(feeds);
    board.change(|status| status.by_scan = options.by_scan);
    Shared {
        options: Arc::new(options),
        lanes: Arc::new(Lanes::new(sides.target.cluster(), run)),
        source_lanes: Arc::new(Lanes::new(sides.source.cluster(), run)),
        source: sides.source,
        target: sides.target,
        run: run.to_owned(),
        board,
        gate: Arc::new(RwLock::new(())),
        expiries: Arc::new(AtomicU8::new(expiries)),
        near: Arc::default(),
        recent: Arc::default(),
        count: Arc::new(AtomicU64::new(0)),
        feeds,
        scans: (0..scans).map(|_| Changes::new(copiers)).collect(),
    }
}

impl Migration {
    /// Begins, or goes on with what the state folder holds. `word`: one that no other migration has.
    pub async fn open(sides: Sides, folder: &Path, options: Options, word: &str) -> Result<Self, MigrateError> {
        let state = State::open(folder)?;
        let journal = match state.journal()?.filter(|journal| !journal.finished) {
            Some(journal) => {
                if journal.databases != options.databases {
                    return Err(MigrateError::refused(
                        "the databases are mapped otherwise than when this migration began",
                        "give the same --db as before, or another --state and an empty target",
                    ));
                }
                if journal.by_scan != options.by_scan {
                    let (before, now) = if journal.by_scan { ("scan", "replication") } else { ("replication", "scan") };
                    return Err(MigrateError::refused(
                        format!("this migration began by {before}, and cannot go on by {now}"),
                        format!("give --by {before}, or another --state and an empty target"),
                    ));
                }
                journal
            }
            None => {
                let shards = sides.source.shards().await?;
                let feeds = shards.iter().map(|shard| shard.slots.to_string()).collect();
                state.begin(word, &sides.from, &sides.to, feeds, &options)?
            }
        };
        let mut slots = Vec::new();
        for feed in &journal.feeds {
            slots.push(read_slots(feed).ok_or_else(|| MigrateError::Journal {
                path: folder.join("journal.json"),
                why: format!("{feed:?} are no slots"),
            })?);
        }
        let shared = share(sides, options, &journal.run, slots.len());
        Ok(Self { shared, state, journal, slots, flows: JoinSet::new() })
    }

    /// What it shows.
    pub fn board(&self) -> &Board {
        &self.shared.board
    }

    /// Where a feed remembers, for messages.
    pub fn folder(&self, feed: usize) -> PathBuf {
        self.state.feed(feed)
    }

    /// Starts the feeds.
    pub fn start(&mut self) {
        self.start_with(Vec::new());
    }

    fn start_with(&mut self, first: Vec<Feed>) {
        let mut first = first.into_iter();
        for (index, slots) in self.slots.iter().enumerate() {
            let (shared, slots, folder) = (self.shared.clone(), slots.clone(), self.state.feed(index));
            if shared.options.by_scan {
                self.flows.spawn(ScanFlow { shared, index, slots, folder }.run());
            } else {
                self.flows.spawn(Flow { shared, index, slots, folder, first: first.next() }.run());
            }
        }
    }

    /// Starts the feeds of a way back, and waits until all expiries are held. `first`: links that are where it begins, if the same process
    /// has cut over. Not in time, it begins with a snapshot.
    pub async fn start_back(&mut self, first: Vec<Feed>) -> Result<(), MigrateError> {
        if self.journal.hold_before_ms.is_none() {
            self.start_with(first);
            return Ok(());
        }
        let hand = self.hand();
        let folders: Vec<PathBuf> = (0..self.slots.len()).map(|feed| self.state.feed(feed)).collect();
        let feeds = folders.iter().map(|folder| FeedJournal::open(folder)).collect::<Result<Vec<_>, _>>()?;
        hand.mark(&feeds).await?;
        self.start_with(first);
        self.beside(hand.hold()).await?;
        if !in_time(&self.journal) {
            self.flows.shutdown().await;
            for (folder, feed) in folders.iter().zip(feeds) {
                let taking = FeedJournal { generation: feed.generation, dirty: true, ..FeedJournal::default() };
                taking.save(folder)?;
            }
            self.start();
        }
        self.journal.hold_before_ms = None;
        self.state.save(&self.journal)
    }

    /// A cut-over with a way back, for [`Hand::cut_over`]. `word`: one that no other migration has.
    pub fn crossing(&self, word: &str) -> Crossing {
        Crossing::new(self.state.folder().to_owned(), self.journal.clone(), word)
    }

    /// Whether clients were switched to the target by a cut-over with a way back. When the last process was killed just then, the proxy is
    /// asked.
    pub async fn crossed(&mut self) -> Result<bool, MigrateError> {
        if let Some(journal) = self.state.journal()? {
            self.journal = journal;
        }
        self.journal.crossed = way_back::crossed(&self.journal).await?;
        if !self.journal.crossed {
            self.journal.crossing = None;
        }
        self.state.save(&self.journal)?;
        Ok(self.journal.crossed)
    }

    /// Leaves the target to clients that were switched to it by a cut-over with a way back: the feeds are ended where they are, all
    /// expiries are released, our own keys removed. What is remembered stays. It may be repeated.
    pub async fn leave(&mut self) -> Result<(), MigrateError> {
        self.halt().await;
        self.release().await
    }

    /// Ends the feeds where they are.
    pub async fn halt(&mut self) {
        self.flows.shutdown().await;
    }

    /// Ends a migration whose way back is over.
    pub fn end(mut self) -> Result<(), MigrateError> {
        (self.journal.finished, self.journal.crossing, self.journal.crossed) = (true, None, false);
        self.state.save(&self.journal)
    }

    async fn release(&self) -> Result<(), MigrateError> {
        let mut hand = self.hand();
        // The old board says that all is to stop.
        hand.shared.board = Board::new(0);
        hand.release_all().await?;
        hand.clear().await
    }

    /// Waits for the first feed that ends, which it does only with an error.
    pub async fn failed(&mut self) -> MigrateError {
        match self.flows.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(Ok(Ok(()))) | None => MigrateError::Stopped,
            Some(Err(error)) => MigrateError::refused(format!("a task ended early: {error}"), "run it again"),
        }
    }

    /// Runs something while the feeds run; their error ends it.
    pub async fn beside<T>(&mut self, work: impl Future<Output = Result<T, MigrateError>>) -> Result<T, MigrateError> {
        tokio::select! {
            done = work => done,
            error = self.failed() => Err(error),
        }
    }

    /// A handle for work beside the feeds.
    pub fn hand(&self) -> Hand {
        Hand { shared: self.shared.clone(), slots: self.slots.clone() }
    }

    /// Stops the feeds. The migration can go on later from where it is.
    pub async fn stop(&mut self) {
        self.shared.board.stop();
        while self.flows.join_next().await.is_some() {}
    }

    /// Ends a migration whose feeds were stopped: all expiries are released, our own keys removed.
    pub async fn finish(mut self) -> Result<(), MigrateError> {
        self.release().await?;
        self.journal.finished = true;
        self.state.save(&self.journal)
    }
}

/// Works on a migration beside its feeds.
#[derive(Debug, Clone)]
pub struct Hand {
    pub(super) shared: Shared,
    pub(super) slots: Vec<SlotSet>,
}

impl Hand {
    /// What the migration shows.
    pub fn status(&self) -> Status {
        self.shared.board.status()
    }

    /// Waits until every feed is live and has applied what the source had written when this was called.
    pub async fn caught_up(&self) -> Result<(), MigrateError> {
        let by_scan = self.shared.options.by_scan;
        let behind = |feed: &FeedStatus| if by_scan { feed.stage != Stage::Live } else { !feed.has(feed.spooled) };
        while self.status().feeds.iter().any(behind) {
            self.rest().await?;
        }
        self.reach(&self.positions().await?).await
    }

    /// Waits until the feeds have applied all up to these positions.
    pub async fn reach(&self, positions: &[u64]) -> Result<(), MigrateError> {
        while self.status().feeds.iter().zip(positions).any(|(feed, at)| !feed.has(*at)) {
            self.rest().await?;
        }
        Ok(())
    }

    async fn rest(&self) -> Result<(), MigrateError> {
        tokio::select! {
            () = sleep(LOOK_EVERY) => Ok(()),
            () = self.shared.board.stopped() => Err(MigrateError::Stopped),
        }
    }

    /// Where the source's streams are now, in the order of the feeds.
    pub async fn positions(&self) -> Result<Vec<u64>, MigrateError> {
        let mut positions = Vec::new();
        if self.shared.options.by_scan {
            for changes in self.shared.scans.iter() {
                positions.push(changes.position(true, &self.shared.board).await?);
            }
            return Ok(positions);
        }
        let mut source = self.shared.source_carrier();
        for slots in &self.slots {
            let lane = self.lane(slots);
            let values = source.values(lane, self.info(lane)).await?;
            let at = values
                .last()
                .and_then(Value::text)
                .and_then(|text| crate::info::Info::parse(text).number("master_repl_offset"))
                .and_then(|at| u64::try_from(at).ok());
            positions.push(at.ok_or_else(|| {
                MigrateError::refused("the source does not tell the position of its stream", "see what its log says")
            })?);
        }
        Ok(positions)
    }

    /// `INFO` at the master of a lane: a look at a key before it finds the master, because `INFO` is answered by any node.
    fn info(&self, lane: Lane) -> Vec<Command> {
        let key = self.shared.source_lanes.key(lane, "where");
        vec![Command::new("EXISTS").arg(key), Command::new("INFO").arg("replication")]
    }

    fn lane(&self, slots: &SlotSet) -> Lane {
        if self.shared.source_lanes.cluster() { slots.iter().next().map_or(0, Slot::number) } else { 0 }
    }

    /// Compares both sides while the feeds run.
    pub async fn verify(
        &self,
        extent: Extent,
        tolerance_ms: u64,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Verdict, MigrateError> {
        Verifier::new(&self.shared, self.slots.clone(), extent, tolerance_ms, true).run(tell).await
    }

    /// Releases the expiries that are not near, and from now on those of live writes. The rest stays held, and is remembered.
    pub async fn release_far(&self) -> Result<(), MigrateError> {
        *self.shared.near.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
        self.expiries(FAR_RELEASED, Change::Far).await
    }

    /// Holds all expiries again, when the end is put off.
    pub async fn hold(&self) -> Result<(), MigrateError> {
        self.expiries(HELD, Change::Hold).await
    }

    /// Releases what is still held after [`Self::release_far`], and from now on all of live writes.
    pub(super) async fn release_near(&self) -> Result<(), MigrateError> {
        self.shared.expiries.store(RELEASED, Ordering::Release);
        let Some(near) = self.shared.near.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return self.release_all().await;
        };
        let who = Arc::new(self.shared.to_target("expiries"));
        let mut carrier = self.shared.carrier(&who);
        let mut by_db: BTreeMap<u32, BTreeSet<bytes::Bytes>> = BTreeMap::new();
        for (db, key) in near {
            by_db.entry(db).or_default().insert(key);
        }
        for (db, keys) in by_db {
            let keys: Vec<bytes::Bytes> = keys.into_iter().collect();
            for keys in keys.chunks(1000) {
                change_some(&mut carrier, Change::All, db, keys).await?;
            }
        }
        Ok(())
    }

    async fn release_all(&self) -> Result<(), MigrateError> {
        self.expiries(RELEASED, Change::All).await
    }

    /// Says how expiries of live writes are written from now on, and changes those that are there. By scan none was ever held.
    async fn expiries(&self, how: u8, change: Change) -> Result<(), MigrateError> {
        if self.shared.options.by_scan {
            return Ok(());
        }
        self.shared.expiries.store(how, Ordering::Release);
        let who = Arc::new(self.shared.to_target("expiries"));
        let mut carrier = self.shared.carrier(&who);
        expiries(&self.shared, &mut carrier, change, &mut |_| {}).await
    }

    /// Removes the migration's own keys from the target.
    async fn clear(&self) -> Result<(), MigrateError> {
        let who: Arc<Who> = Arc::new(self.shared.to_target("clear"));
        let mut carrier = self.shared.carrier(&who);
        let lanes: Vec<Lane> = (0..self.shared.lanes.count()).filter_map(|lane| Lane::try_from(lane).ok()).collect();
        for some in lanes.chunks(CLEAR_AT_ONCE) {
            let jobs = some.iter().map(|lane| {
                let own = |name: &str| self.shared.lanes.key(*lane, name);
                let mut keys = vec![own("w")];
                for feed in 0..self.slots.len() {
                    keys.extend([own(&mark_name(feed)), own(&sign_name(feed)), own(&format!("l{feed}"))]);
                }
                // An exchange of databases takes the marks along.
                let databases = self.shared.options.databases.values();
                let commands = databases.flat_map(|db| in_db(*db, vec![Command::new("UNLINK").args(&keys)]));
                Job::plain(*lane, commands.collect())
            });
            carrier.carry(jobs.collect()).await?;
        }
        Ok(())
    }
}

/// Slots as [`SlotSet`] writes them.
fn read_slots(text: &str) -> Option<SlotSet> {
    let mut slots = SlotSet::new();
    for range in text.split(',').filter(|range| *range != "-") {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        for slot in first..=last {
            slots.insert(Slot::new(slot)?);
        }
    }
    Some(slots)
}

/// How fast something grows.
#[derive(Debug)]
pub struct Speed {
    at: Instant,
    count: u64,
    per_second: f64,
}

impl Speed {
    /// From now on.
    pub fn new() -> Self {
        Self { at: Instant::now(), count: 0, per_second: 0.0 }
    }

    /// Takes a count, and gives what is added in a second, smoothed.
    pub fn of(&mut self, count: u64) -> f64 {
        let seconds = self.at.elapsed().as_secs_f64();
        if seconds >= 0.5 {
            let now = count.saturating_sub(self.count) as f64 / seconds;
            self.per_second = if self.per_second == 0.0 { now } else { self.per_second * 0.6 + now * 0.4 };
            (self.at, self.count) = (Instant::now(), count);
        }
        self.per_second
    }
}

impl Default for Speed {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots are read as they are written.
    #[test]
    fn slots() {
        for text in ["0-16383", "-", "1,3-4,16383"] {
            assert_eq!(read_slots(text).unwrap().to_string(), text);
        }
        assert!(read_slots("16384").is_none() && read_slots("a").is_none());
    }
}
