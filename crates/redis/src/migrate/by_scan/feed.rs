//! One feed by scan, over all breaks.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::info::Info;
use crate::resp::Command;
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::super::audit::keys_of;
use super::super::board::Stage;
use super::super::carrier::{Answer, Carrier, Job};
use super::super::error::MigrateError;
use super::super::flow::Shard;
use super::super::journal::FeedJournal;
use super::super::load::{in_db, value};
use super::super::options::Shared;
use super::super::scan::{Scan, bearable};
use super::copy::Copier;
use super::events::Events;
use super::watch::Watch;
use super::{Ask, Changes, Ended};

/// Keys that the scan may be ahead of the copiers.
const AHEAD_MAX: usize = 10_000;
/// Positions asked for at once.
const PINGS_MAX: usize = 64;
/// Pause before all is read again.
const PAUSE: Duration = Duration::from_millis(500);

/// A feed.
#[derive(Debug)]
pub(in super::super) struct ScanFlow {
    /// What all share.
    pub shared: Shared,
    /// Its number.
    pub index: usize,
    /// The slots whose keys come by it.
    pub slots: SlotSet,
    /// Where it remembers.
    pub folder: PathBuf,
}

impl ScanFlow {
    /// Runs until an error, or until told to stop.
    pub(in super::super) async fn run(self) -> Result<(), MigrateError> {
        let board = self.shared.board.clone();
        tokio::select! {
            failed = self.feed() => Err(failed),
            () = board.stopped() => Ok(()),
        }
    }

    async fn feed(self) -> MigrateError {
        let board = &self.shared.board;
        let Some(changes) = self.shared.scans.get(self.index) else { return MigrateError::Stopped };
        let mut asked = changes.asked.lock().await;
        loop {
            let why = match self.attempt(changes, &mut asked).await {
                Err(Ended::Again(why)) => why,
                Err(Ended::Failed(error)) => return error,
                Ok(never) => match never {},
            };
            board.feed(self.index, |feed| (feed.stage, feed.linked) = (Stage::Loading, false));
            board.change(|status| status.new_snapshots += 1);
            board.waiting(Some(format!("reading all again, because {why}")));
            sleep(PAUSE).await;
        }
    }

    /// Reads all, and then what changes.
    async fn attempt(&self, changes: &Changes, asked: &mut mpsc::Receiver<Ask>) -> Result<Infallible, Ended> {
        let (shared, board) = (&self.shared, &self.shared.board);
        board.feed(self.index, |feed| {
            (feed.stage, feed.linked) = (Stage::Loading, false);
            (feed.loaded_keys, feed.snapshot_keys) = (0, 0);
        });
        let mut journal = FeedJournal::open(&self.folder)?;
        let source = Shard { side: shared.source.clone(), slots: self.slots.clone() };
        let dialer = source.side.dialer().clone();
        let open = |address| {
            let dialer = dialer.clone();
            async move {
                let events = Events::open(&dialer, &address).await?;
                Ok((events, dialer.connect(&address).await?))
            }
        };
        let (events, mut link) = source.reach(board, shared.options.patience, open).await?;
        let total = self.count(&link.text(&Command::new("INFO").arg("keyspace")).await?);
        let mut watch = Watch::new(shared, self.index, link).await?;
        let sweep = std::mem::replace(&mut journal.dirty, true);
        journal.save(&self.folder)?;

        changes.queue().clear();
        changes.streams().clear();
        board.feed(self.index, |feed| (feed.linked, feed.snapshot_keys) = (true, total));
        let (pings, pinged) = mpsc::channel(PINGS_MAX);
        let mut tasks = JoinSet::new();
        tasks.spawn(events.run(shared.clone(), self.index, pinged));
        // By another name than the attempt before, whose connections are ended then: what they left in a server's hands would be older.
        let who = Arc::new(shared.to_target(&format!("scan{}", self.index)));
        for part in 0..shared.options.loaders.max(1) {
            tasks.spawn(Copier::new(shared, self.index, part, &who).run());
        }
        let ended = tokio::select! {
            Some(ended) = tasks.join_next() => ended.unwrap_or_else(|error| {
                Err(MigrateError::refused(format!("a task ended early: {error}"), "run it again").into())
            }),
            ended = watch.run(asked, pings) => ended,
            ended = self.read_all(changes, sweep) => ended,
        };
        // None of them may touch the queue of the next attempt.
        tasks.shutdown().await;
        ended
    }

    /// Keys of the databases that are carried over, of what `INFO keyspace` says.
    fn count(&self, text: &str) -> u64 {
        let info = Info::parse(text);
        let databases = self.shared.options.databases.keys();
        databases.filter_map(|db| keys_of(info.text(&format!("db{db}"))?)).sum()
    }

    /// Puts all keys into the queue, and says when they are copied. Ends with an error only.
    async fn read_all(&self, changes: &Changes, sweep: bool) -> Result<Infallible, Ended> {
        let (shared, board) = (&self.shared, &self.shared.board);
        let mut source = shared.source_carrier();
        let databases: Vec<u32> = shared.options.databases.keys().copied().collect();
        let at_once = bearable(&mut source).await?;
        let mut scan = Scan::of(&source, &databases, Some(&self.slots)).await?.in_steps_of(at_once);
        let (started, mut count) = (Instant::now(), 0);
        while let Some((db, keys)) = scan.next(&mut source).await? {
            changes.until(|queue| (queue.len() < AHEAD_MAX).then_some(())).await;
            count += keys.len() as u64;
            changes.touch(keys.into_iter().map(|key| (db, key)));
            if let Some(rate) = shared.options.rate {
                sleep_until(started + Duration::from_secs_f64(count as f64 / f64::from(rate))).await;
            }
        }
        if sweep {
            self.find_gone(changes, &mut source, at_once).await?;
        }
        let all = changes.queue().last();
        changes.until(|queue| (queue.reached() >= all).then_some(())).await;
        changes.show(self.index, board);
        board.waiting(None);
        board.feed(self.index, |feed| feed.stage = Stage::Live);
        std::future::pending().await
    }

    /// Keys of the target that the source does not have are copied as well, which removes them.
    async fn find_gone(&self, changes: &Changes, source: &mut Carrier, at_once: usize) -> Result<(), Ended> {
        let who = Arc::new(self.shared.to_target(&format!("sweep{}", self.index)));
        let mut target = self.shared.carrier(&who);
        let back: Vec<(u32, u32)> = self.shared.options.databases.iter().map(|(from, to)| (*to, *from)).collect();
        let databases: Vec<u32> = back.iter().map(|(to, _)| *to).collect();
        let mut scan = Scan::of(&target, &databases, None).await?.in_steps_of(at_once);
        while let Some((to, keys)) = scan.next(&mut target).await? {
            changes.until(|queue| (queue.len() < AHEAD_MAX).then_some(())).await;
            let Some(from) = back.iter().find(|(other, _)| *other == to).map(|(_, from)| *from) else { continue };
            let keys: Vec<Bytes> = keys.into_iter().filter(|key| self.slots.contains(Slot::of_key(key))).collect();
            let look =
                |key: &Bytes| Job::plain(source.lanes().of(key), in_db(from, vec![Command::new("EXISTS").arg(key)]));
            let answers = source.carry(keys.iter().map(look).collect()).await?;
            let gone = |answer: &Answer| value(answer, from).and_then(crate::resp::Value::int) == Some(0);
            let gone = keys.into_iter().zip(&answers).filter(|(_, answer)| gone(answer)).map(|(key, _)| (from, key));
            changes.touch(gone);
        }
        Ok(())
    }
}
