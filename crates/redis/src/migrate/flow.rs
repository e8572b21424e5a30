//! One feed from its snapshot to its live writes, over all breaks.
//!
//! Stages: the snapshot is taken to disk; it goes to the target while live writes gather on disk; then they are applied as they
//! come. What may go wrong on the way leads back to one of these: a broken link is attached anew where it was; a source that
//! cannot go on from there gives a new snapshot, and what it does not hold is removed from the target; a target that has lost what
//! it had confirmed gets all of a new snapshot, too.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::replication::{Begin, Entry, Feed, Position, ReplicationError, attach};
use crate::resp::Command;
use crate::slot_set::SlotSet;

use super::board::{Board, Stage};
use super::carrier::Job;
use super::error::MigrateError;
use super::hold::absolute;
use super::journal::{FeedJournal, FeedStage};
use super::live::{Applier, lanes_of, mark_name, mark_value};
use super::load::{Loaded, load};
use super::options::{Shared, now_ms};
use super::place::Side;
use super::sign::Signer;
use super::snapshot::take;
use super::spool::{Frame, Spool, SpoolWriter, Spooled};
use super::sweep::sweep;

/// Writes and bytes in one frame of the spool, at most, unless one write alone has more.
const FRAME_WRITES: usize = 1000;
const FRAME_BYTES: usize = 256 << 10;
/// How often the spool is made safe from a power cut.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Pauses between attempts to attach.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// A feed.
#[derive(Debug)]
pub(super) struct Flow {
    /// What all share.
    pub shared: Shared,
    /// Its number.
    pub index: usize,
    /// The slots whose keys come by it.
    pub slots: SlotSet,
    /// Where it remembers.
    pub folder: PathBuf,
    /// A link that is where the journal says, if there is one already.
    pub first: Option<Feed>,
}

impl Flow {
    /// Runs until an error, or until told to stop.
    pub(super) async fn run(mut self) -> Result<(), MigrateError> {
        let mut journal = FeedJournal::open(&self.folder)?;
        let (spool, mut last) =
            Spool::open(&self.folder, self.shared.options.spool_bytes_max).map_err(MigrateError::disk(&self.folder))?;
        let mut feed = self.first.take().filter(|_| journal.stage == FeedStage::Live);
        loop {
            if journal.stage == FeedStage::Taking {
                let taken = match feed.take() {
                    Some(feed) => feed,
                    None => self.attach(None).await?.1,
                };
                feed = match self.take(taken, &spool, &mut journal).await {
                    Ok(feed) => Some(feed),
                    Err(MigrateError::Replication(error)) if error.retryable() => {
                        self.shared.board.waiting(Some(crate::admin::chain(&error)));
                        self.pause(PAUSE_MAX).await?;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                last = None;
                self.shared.board.waiting(None);
            }
            let from = last.clone().or_else(|| journal.snapshot.clone());
            let following = Follower {
                shared: self.shared.clone(),
                index: self.index,
                source: Shard { side: self.shared.source.clone(), slots: self.slots.clone() },
                spool: Arc::clone(&spool),
                folder: self.folder.clone(),
            };
            let (spooled, applied) = (from.as_ref().map_or(0, |from| from.offset), journal.base);
            self.shared.board.feed(self.index, |feed| (feed.spooled, feed.applied) = (spooled, applied));
            let mut following = Task(tokio::spawn(following.run(feed.take(), from)));
            let again = tokio::select! {
                ended = &mut following.0 => match ended {
                    Ok(Ok(fresh)) => fresh,
                    Ok(Err(error)) => return Err(error),
                    Err(error) => return Err(MigrateError::refused(format!("a task ended early: {error}"), "run it again")),
                },
                done = self.apply(&spool, &mut journal) => match done {
                    Err(MigrateError::TargetLost) => None,
                    Err(error) => return Err(error),
                    Ok(()) => return Ok(()),
                },
            };
            drop(following);
            self.shared.board.feed(self.index, |feed| feed.stage = Stage::Taking);
            journal.stage = FeedStage::Taking;
            journal.dirty = true;
            journal.save(&self.folder)?;
            self.shared.board.change(|status| status.new_snapshots += 1);
            feed = again;
        }
    }

    async fn pause(&self, pause: Duration) -> Result<(), MigrateError> {
        tokio::select! {
            () = sleep(pause) => Ok(()),
            () = self.shared.board.stopped() => Err(MigrateError::Stopped),
        }
    }

    async fn attach(&self, from: Option<&Position>) -> Result<(Begin, Feed), MigrateError> {
        let source = Shard { side: self.shared.source.clone(), slots: self.slots.clone() };
        source.attach(from, &self.shared.board, self.shared.options.patience).await
    }

    fn snapshot(&self) -> PathBuf {
        self.folder.join("snapshot.rdb")
    }

    /// Takes a snapshot, and forgets what was before it.
    async fn take(&self, mut feed: Feed, spool: &Spool, journal: &mut FeedJournal) -> Result<Feed, MigrateError> {
        self.shared.board.feed(self.index, |feed| {
            (feed.stage, feed.linked) = (Stage::Taking, true);
            (feed.loaded_keys, feed.snapshot_keys, feed.snapshot_bytes) = (0, 0, 0);
        });
        let position = feed.position();
        let summary = take(&mut feed, &self.snapshot(), &self.shared.board, self.index).await?;
        let options = &self.shared.options;
        if let Some(refusal) = summary.refusal(&options.databases, &options.left) {
            return Err(refusal);
        }
        spool.clear().map_err(MigrateError::disk(&self.folder))?;
        *journal = FeedJournal {
            stage: FeedStage::Loading,
            generation: journal.generation + 1,
            base: position.offset,
            snapshot: Some(position),
            keys: summary.total(),
            loaded: 0,
            loaded_keys: 0,
            dirty: journal.dirty,
            signed: journal.signed,
            ..FeedJournal::default()
        };
        journal.save(&self.folder)?;
        Ok(feed)
    }

    /// Brings the snapshot to the target, then live writes.
    async fn apply(&self, spool: &Arc<Spool>, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        if journal.stage == FeedStage::Loading {
            self.load(journal).await?;
        }
        let (applied, keys) = (journal.base, journal.keys);
        self.shared.board.feed(self.index, |feed| {
            (feed.stage, feed.applied, feed.snapshot_keys, feed.loaded_keys) = (Stage::Live, applied, keys, keys);
        });
        let shared = &self.shared;
        Applier::new(shared, self.index, self.slots.clone(), self.folder.clone(), Arc::clone(spool), journal)
            .await?
            .run(journal)
            .await
    }

    async fn load(&self, journal: &mut FeedJournal) -> Result<(), MigrateError> {
        let (path, generation) = (self.snapshot(), journal.generation);
        let mut signer = Signer::new(&self.shared, self.index, journal.signed);
        loop {
            let from = Loaded { bytes: journal.loaded, keys: journal.loaded_keys };
            self.shared.board.feed(self.index, |feed| {
                (feed.stage, feed.snapshot_keys, feed.loaded_keys) = (Stage::Loading, journal.keys, from.keys);
            });
            let mut remember = |loaded: Loaded, signed| {
                (journal.loaded, journal.loaded_keys, journal.signed) = (loaded.bytes, loaded.keys, signed);
                journal.save(&self.folder)
            };
            load(&self.shared, self.index, path.clone(), generation, from, &mut signer, &mut remember).await?;
            if journal.dirty {
                self.shared.board.feed(self.index, |feed| feed.stage = Stage::Sweeping);
                sweep(&self.shared, &mut signer.carrier, &self.slots, Some(&path), None).await?;
            }
            let name = mark_name(self.index);
            let mark = |lane| {
                let key = self.shared.lanes.key(lane, &name);
                let set = Command::new("SET").arg(key).arg(mark_value(generation, journal.base));
                Job::plain(lane, vec![set])
            };
            signer.carrier.carry(lanes_of(&self.shared, &self.slots).into_iter().map(mark).collect()).await?;
            if signer.last(SYNC_EVERY).await? {
                break;
            }
        }
        journal.signed = signer.number();
        (journal.stage, journal.dirty) = (FeedStage::Live, false);
        journal.save(&self.folder)
    }
}

/// A task that ends when nobody waits for it any more.
#[derive(Debug)]
pub(super) struct Task<T>(pub JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Where a feed comes from: whoever is the master of these slots.
#[derive(Debug, Clone)]
pub(super) struct Shard {
    /// The source.
    pub side: Side,
    /// The slots.
    pub slots: SlotSet,
}

impl Shard {
    async fn address(&self) -> Result<Address, MigrateError> {
        let shards = self.side.shards().await?;
        if !self.side.cluster() {
            return match shards.into_iter().next() {
                Some(shard) => Ok(shard.address),
                None => Err(MigrateError::refused("the source has no master", "look at it")),
            };
        }
        match shards.into_iter().find(|shard| shard.slots == self.slots) {
            Some(shard) => Ok(shard.address),
            None => Err(MigrateError::refused(
                "slots of the source have been moved since the migration began",
                "leave the source's slots where they are, and begin anew with an empty state folder and target",
            )),
        }
    }

    /// Attaches, with patience.
    async fn attach(
        &self,
        from: Option<&Position>,
        board: &Board,
        patience: Duration,
    ) -> Result<(Begin, Feed), MigrateError> {
        let dialer = self.side.dialer();
        let try_it = |address| async move { Ok(attach(dialer, &address, from).await?) };
        self.reach(board, patience, try_it).await
    }

    /// Makes a link to the master, with patience.
    pub(super) async fn reach<T, F: Future<Output = Result<T, MigrateError>>>(
        &self,
        board: &Board,
        patience: Duration,
        try_it: impl Fn(Address) -> F,
    ) -> Result<T, MigrateError> {
        let (since, mut pause) = (Instant::now(), PAUSE_MIN);
        loop {
            let tried = async { try_it(self.address().await?).await };
            let error = match tried.await {
                Ok(link) => {
                    board.waiting(None);
                    return Ok(link);
                }
                Err(error) => error,
            };
            let passes = match &error {
                MigrateError::Server(error) => error.retryable(),
                MigrateError::Replication(error) => error.retryable(),
                // While a fail-over is under way a part of the slots is nobody's.
                MigrateError::Refused { .. } => since.elapsed() < Duration::from_secs(60),
                _ => false,
            };
            let why = crate::admin::chain(&error);
            if !passes {
                return Err(error);
            }
            if since.elapsed() >= patience {
                return Err(MigrateError::Patience { after: patience, why });
            }
            board.waiting(Some(format!("the source: {why}")));
            tokio::select! {
                () = sleep(pause) => {}
                () = board.stopped() => return Err(MigrateError::Stopped),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Takes live writes to the spool.
struct Follower {
    shared: Shared,
    index: usize,
    source: Shard,
    spool: Arc<Spool>,
    folder: PathBuf,
}

impl Follower {
    /// Runs until an error, or until the source cannot go on: then the feed it gives instead, which begins with a snapshot.
    async fn run(self, feed: Option<Feed>, from: Option<Position>) -> Result<Option<Feed>, MigrateError> {
        let board = &self.shared.board;
        let mut writer = SpoolWriter::new(Arc::clone(&self.spool)).map_err(MigrateError::disk(&self.folder))?;
        let (mut feed, mut at) = (feed, from);
        loop {
            let mut live = match feed.take() {
                Some(feed) => feed,
                None => {
                    let Some(from) = &at else { return Ok(None) };
                    match self.source.attach(Some(from), board, self.shared.options.patience).await? {
                        (Begin::Onwards, feed) => feed,
                        (Begin::Full, feed) => return Ok(Some(feed)),
                    }
                }
            };
            board.feed(self.index, |feed| feed.linked = true);
            let ended = self.follow(&mut live, &mut writer, &mut at).await;
            board.feed(self.index, |feed| feed.linked = false);
            match ended {
                Err(MigrateError::Replication(error)) if error.retryable() => {
                    board.waiting(Some(format!("the source: {}", crate::admin::chain(&error))));
                }
                Err(error) => return Err(error),
                Ok(()) => return Ok(None),
            }
        }
    }

    async fn follow(
        &self,
        feed: &mut Feed,
        writer: &mut SpoolWriter,
        at: &mut Option<Position>,
    ) -> Result<(), MigrateError> {
        let mut sync_at = Instant::now() + SYNC_EVERY;
        loop {
            writer.room().await;
            let (writes, ended) = gather(feed).await;
            // What came before a break is good.
            let position = feed.position();
            if at.as_ref() != Some(&position) {
                let offset = position.offset;
                *at = Some(position.clone());
                writer.put(&Frame { position, writes }).map_err(MigrateError::disk(&self.folder))?;
                self.shared.board.feed(self.index, |feed| feed.spooled = offset);
            }
            if let Some(error) = ended {
                return Err(error.into());
            }
            if Instant::now() >= sync_at {
                let file = writer.handle().map_err(MigrateError::disk(&self.folder))?;
                if let Ok(synced) = tokio::task::spawn_blocking(move || file.sync_data()).await {
                    synced.map_err(MigrateError::disk(&self.folder))?;
                }
                sync_at = Instant::now() + SYNC_EVERY;
            }
        }
    }
}

/// Waits for an entry, and takes what else has come.
async fn gather(feed: &mut Feed) -> (Vec<Spooled>, Option<ReplicationError>) {
    let (mut writes, mut bytes, now) = (Vec::new(), 0, now_ms());
    let mut entry = match feed.next_entry().await {
        Ok(entry) => entry,
        Err(error) => return (writes, Some(error)),
    };
    loop {
        if let Entry::Write { db, words, end } = entry {
            bytes += words.iter().map(bytes::Bytes::len).sum::<usize>();
            writes.push(Spooled { end, db, words: absolute(words, now) });
        }
        if writes.len() >= FRAME_WRITES || bytes >= FRAME_BYTES {
            return (writes, None);
        }
        entry = tokio::select! {
            biased;
            next = feed.next_entry() => match next {
                Ok(entry) => entry,
                Err(error) => return (writes, Some(error)),
            },
            () = std::future::ready(()) => return (writes, None),
        };
    }
}
