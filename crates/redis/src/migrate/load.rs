//! The snapshot goes to the target: by `RESTORE` where a value is short, in pieces where it is long.
//!
//! One thread reads, several tasks carry; keys are dealt to them by lane. All of it may be repeated: a key is replaced, not
//! added to, and nothing live is applied before the whole is there. Pieces of long values must not be repeated, so they are
//! carried with a mark. What is known to be on the target, and on a replica of it where there are some, is remembered.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::rdb::{Fault, Key, Record, Value as Kept, dump};
use crate::rebuild::{Dialect, Rebuild};
use crate::resp::{Command, Value};

use super::board::shown;
use super::carrier::{Answer, Carrier, Job, Mark};
use super::error::MigrateError;
use super::hold::hold;
use super::lane::{Lane, own};
use super::options::{Shared, now_ms};
use super::sign::Signer;
use super::snapshot;

/// Batches and pieces on their way to one task.
const ITEMS_MAX: usize = 8;
/// Bytes on their way to all tasks, unless one piece alone has more.
const BYTES_MAX: usize = 64 << 20;
/// Keys and bytes of one batch.
const BATCH_KEYS: usize = 400;
const BATCH_BYTES: usize = 1 << 20;
/// How often it is remembered how far it is.
const REMEMBER_EVERY: Duration = Duration::from_secs(1);
/// How long a replica may take to confirm.
const CONFIRM_WITHIN: Duration = Duration::from_millis(500);

/// How far the target is: bytes of the snapshot, and keys in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Loaded {
    /// Bytes of the snapshot of which all records are on the target.
    pub bytes: u64,
    /// Keys in them.
    pub keys: u64,
}

enum Item {
    Batch(Batch, OwnedSemaphorePermit),
    /// To be carried alone, after all before it.
    Piece(Bytes, Job, OwnedSemaphorePermit),
    Everywhere(Command),
    /// All records before this place have been handed out; whether they were the last.
    Pass(Loaded, bool),
}

/// Keys that one task carries at once.
#[derive(Default)]
struct Batch {
    names: Vec<(Bytes, Lane)>,
    jobs: Vec<Job>,
    bytes: usize,
}

struct Report {
    task: usize,
    keys: u64,
    pass: Option<(Loaded, bool, u64)>,
}

/// Brings a snapshot to the target, from a place on. `remember` is told how far it is, and the number of the sign that says so.
pub(super) async fn load(
    shared: &Shared,
    index: usize,
    path: PathBuf,
    generation: u64,
    mut from: Loaded,
    signer: &mut Signer,
    remember: &mut (dyn FnMut(Loaded, u64) -> Result<(), MigrateError> + Send),
) -> Result<(), MigrateError> {
    loop {
        if !signer.kept().await? {
            from = Loaded::default();
        }
        match pass(shared, index, path.clone(), generation, from, signer, remember).await? {
            None => return Ok(()),
            // Another server has taken over for one of the target's, and may not have all that the old one had confirmed to us
            // alone. What was confirmed by a replica is safe.
            Some(safe) => from = safe,
        }
        shared.board.change(|status| status.rewinds += 1);
        shared.board.feed(index, |feed| feed.loaded_keys = from.keys);
    }
}

/// `Some`: a server of the target was replaced, and this is what is safe.
async fn pass(
    shared: &Shared,
    index: usize,
    path: PathBuf,
    generation: u64,
    from: Loaded,
    signer: &mut Signer,
    remember: &mut (dyn FnMut(Loaded, u64) -> Result<(), MigrateError> + Send),
) -> Result<Option<Loaded>, MigrateError> {
    let tasks = shared.options.loaders.max(1);
    let (report, mut reports) = mpsc::channel(tasks * 4);
    let who = Arc::new(shared.to_target(&format!("load{index}")));
    let mut senders = Vec::new();
    let mut carrying = JoinSet::new();
    for task in 0..tasks {
        let (sender, receiver) = mpsc::channel(ITEMS_MAX);
        senders.push(sender);
        let carrier = shared.carrier(&who);
        carrying.spawn(carry(task, carrier, receiver, report.clone()));
    }
    drop(report);
    let dealer = Dealer {
        shared: shared.clone(),
        index,
        generation,
        batches: senders.iter().map(|_| Batch::default()).collect(),
        senders,
        room: Arc::new(Semaphore::new(BYTES_MAX)),
        runtime: Handle::current(),
        pass: format!("{:x}-{:x}", now_ms(), std::process::id()),
        piece: 0,
        dialect: Dialect::Seven,
    };
    let reading = tokio::task::spawn_blocking(move || dealer.deal(path, from));
    let mut passed = vec![(from, 0u64); tasks];
    let (mut safe, mut keys, mut moved) = (from, from.keys, None);
    let listen = async {
        while let Some(Report { task, keys: more, pass }) = reports.recv().await {
            keys += more;
            shared.board.feed(index, |feed| feed.loaded_keys = keys);
            let Some((place, confirmed, changes)) = pass else { continue };
            if changes > passed[task].1 {
                moved.get_or_insert(safe);
            }
            passed[task].1 = changes;
            if confirmed {
                passed[task].0 = place;
            }
            let least = passed.iter().map(|(place, _)| *place).min_by_key(|place| place.bytes).unwrap_or(from);
            if least.bytes > safe.bytes && moved.is_none() && signer.next(CONFIRM_WITHIN).await {
                safe = least;
                remember(safe, signer.number())?;
            }
        }
        Ok::<(), MigrateError>(())
    };
    listen.await?;
    // The tasks end when the reader has ended, or with an error.
    while let Some(done) = carrying.join_next().await {
        done.map_err(stopped_short)??;
    }
    let reached = reading.await.map_err(stopped_short)??;
    if shared.board.stopping() {
        return Err(MigrateError::Stopped);
    }
    if moved.is_none() && !signer.last(CONFIRM_WITHIN).await? {
        moved = Some(safe);
    }
    if moved.is_none() {
        remember(reached, signer.number())?;
    }
    Ok(moved)
}

fn stopped_short(error: tokio::task::JoinError) -> MigrateError {
    MigrateError::refused(format!("a task ended before its work was done: {error}"), "run the same command again")
}

/// One task's part.
async fn carry(
    task: usize,
    mut carrier: Carrier,
    mut items: mpsc::Receiver<Item>,
    report: mpsc::Sender<Report>,
) -> Result<(), MigrateError> {
    while let Some(item) = items.recv().await {
        match item {
            Item::Batch(batch, _room) => {
                let answers = carrier.carry(batch.jobs).await?;
                for ((name, lane), answer) in batch.names.iter().zip(&answers) {
                    judge(&carrier, *lane, name, answer)?;
                }
                let _ = report.send(Report { task, keys: batch.names.len() as u64, pass: None }).await;
            }
            Item::Piece(name, job, _room) => {
                let lane = job.lane;
                let answer = carrier.one(job).await?;
                judge(&carrier, lane, &name, &answer)?;
            }
            Item::Everywhere(command) => {
                for (address, values) in carrier.everywhere(std::slice::from_ref(&command)).await? {
                    if let Some(Value::Error(message)) = values.first() {
                        return Err(MigrateError::refused(
                            format!(
                                "{address} does not take a library of functions: {}",
                                String::from_utf8_lossy(message)
                            ),
                            "remove the library on the source, or use a target that takes it",
                        ));
                    }
                }
            }
            Item::Pass(place, last) => {
                if last {
                    carrier.confirm(CONFIRM_WITHIN, None).await?;
                }
                let confirmed = carrier.confirmed(CONFIRM_WITHIN, None).await;
                let pass = Some((place, confirmed, carrier.changes()));
                let _ = report.send(Report { task, keys: 0, pass }).await;
            }
        }
    }
    Ok(())
}

/// A value that the target refuses is an end: it would be missing.
pub(super) fn judge(carrier: &Carrier, lane: Lane, name: &[u8], answer: &Answer) -> Result<(), MigrateError> {
    let why = match answer {
        Answer::Values(values) => {
            values.iter().find_map(|value| if let Value::Error(message) = value { Some(message.clone()) } else { None })
        }
        Answer::Rejected { message, .. } => Some(Bytes::copy_from_slice(message.as_bytes())),
        Answer::Done | Answer::Behind => None,
    };
    match why {
        None => Ok(()),
        Some(message) => Err(MigrateError::refused(
            format!("the target does not take key \"{}\": {}", shown(name), carrier.refused(lane, "it", &message)),
            "remove what is in the way, then run the same command again",
        )),
    }
}

/// Reads the snapshot and deals its keys out.
struct Dealer {
    shared: Shared,
    index: usize,
    generation: u64,
    senders: Vec<mpsc::Sender<Item>>,
    /// What is gathered for each task.
    batches: Vec<Batch>,
    room: Arc<Semaphore>,
    runtime: Handle,
    /// A word that no other pass over a snapshot has.
    pass: String,
    piece: u64,
    dialect: Dialect,
}

impl Dealer {
    fn deal(mut self, path: PathBuf, from: Loaded) -> Result<Loaded, MigrateError> {
        let mut reader = snapshot::open(&path)?;
        let version = reader.version();
        let started = Instant::now();
        let mut remembered = Instant::now();
        let mut keys = 0;
        loop {
            // The same record must have the same place when the one before it is not wanted any more.
            reader.pass_over()?;
            let place = Loaded { bytes: reader.offset(), keys };
            if remembered.elapsed() >= REMEMBER_EVERY && place.bytes > from.bytes {
                remembered = Instant::now();
                if !self.all(place, false) {
                    return Ok(place);
                }
            }
            let Some(record) = reader.next_record()? else {
                let place = Loaded { bytes: reader.offset(), keys };
                self.all(place, true);
                return Ok(place);
            };
            let good = match record {
                Record::Note { .. } => true,
                // The same twice is the same once, so it does not matter where it stood.
                Record::Function(code) => self.senders[0]
                    .blocking_send(Item::Everywhere(Command::new("FUNCTION LOAD REPLACE").arg(code)))
                    .is_ok(),
                Record::Key(key) => {
                    keys += 1;
                    let Some(db) = self.shared.options.databases.get(&key.db).copied() else { continue };
                    if place.bytes < from.bytes || own(&key.name) {
                        continue;
                    }
                    if let Some(rate) = self.shared.options.rate {
                        slow_down(started, keys - from.keys, rate);
                    }
                    match &key.value {
                        Kept::Whole(bytes) => self.whole(db, &key, bytes, version),
                        Kept::Long => {
                            let mut rebuild = self.long_begin(db, &key);
                            let mut good = rebuild.is_some();
                            if let Some(rebuild) = &mut rebuild {
                                let read = reader.pieces(&mut |piece| {
                                    if self.pieces(db, &key, rebuild.commands(&piece)) {
                                        Ok(())
                                    } else {
                                        Err(Fault::Stopped)
                                    }
                                });
                                match read {
                                    Err(error) if matches!(error.fault, Fault::Stopped) => good = false,
                                    other => other?,
                                }
                            }
                            good && self.long_end(db, &key)
                        }
                    }
                }
            };
            // A task that is gone has its error to tell.
            if !good || self.shared.board.stopping() {
                return Ok(place);
            }
        }
    }

    fn whole(&mut self, db: u32, key: &Key, bytes: &Bytes, version: u16) -> bool {
        let expiry = key.expires_ms.map_or(0, hold);
        let restore = Command::new("RESTORE").arg(&key.name).number(expiry).arg(dump(key.kind, bytes, version));
        let commands = in_db(db, vec![restore.args(["REPLACE", "ABSTTL"])]);
        let job = Job::plain(self.shared.lanes.of(&key.name), commands);
        let task = self.task(job.lane);
        let batch = &mut self.batches[task];
        batch.bytes += size(&job);
        batch.names.push((key.name.clone(), job.lane));
        batch.jobs.push(job);
        if batch.jobs.len() < BATCH_KEYS && batch.bytes < BATCH_BYTES { true } else { self.hand_out(task) }
    }

    /// Sends off what is gathered for a task.
    fn hand_out(&mut self, task: usize) -> bool {
        let batch = std::mem::take(&mut self.batches[task]);
        if batch.jobs.is_empty() {
            return true;
        }
        match self.room(batch.bytes) {
            Some(room) => self.senders[task].blocking_send(Item::Batch(batch, room)).is_ok(),
            None => false,
        }
    }

    fn long_begin(&mut self, db: u32, key: &Key) -> Option<Rebuild> {
        let job = Job::plain(self.shared.lanes.of(&key.name), in_db(db, vec![Command::new("UNLINK").arg(&key.name)]));
        self.piece_out(&key.name, job).then(|| Rebuild::new(key.name.clone(), self.dialect))
    }

    fn pieces(&mut self, db: u32, key: &Key, commands: Vec<Command>) -> bool {
        let lane = self.shared.lanes.of(&key.name);
        self.piece += 1;
        let mark = Mark {
            key: self.shared.lanes.key(lane, &format!("l{}", self.index)),
            // A mark of a pass before this one must not be taken for one of this.
            value: format!("{}/{}/{}", self.generation, self.pass, self.piece).into(),
            before: None,
        };
        self.piece_out(&key.name, Job { lane, commands: in_db(db, commands), mark: Some(mark) })
    }

    fn long_end(&mut self, db: u32, key: &Key) -> bool {
        let lane = self.shared.lanes.of(&key.name);
        let mut commands = vec![Command::new("DEL").arg(self.shared.lanes.key(lane, &format!("l{}", self.index)))];
        if let Some(at) = key.expires_ms {
            commands.extend(in_db(db, vec![Command::new("PEXPIREAT").arg(&key.name).number(hold(at))]));
        }
        self.piece_out(&key.name, Job::plain(lane, commands))
    }

    fn piece_out(&mut self, name: &Bytes, job: Job) -> bool {
        let task = self.task(job.lane);
        match self.hand_out(task).then(|| self.room(size(&job))).flatten() {
            Some(room) => self.senders[task].blocking_send(Item::Piece(name.clone(), job, room)).is_ok(),
            None => false,
        }
    }

    /// Waits until there is room for so many bytes.
    fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes.min(BYTES_MAX)).unwrap_or(u32::MAX);
        self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(bytes)).ok()
    }

    fn task(&self, lane: Lane) -> usize {
        usize::from(lane) % self.senders.len()
    }

    fn all(&mut self, place: Loaded, last: bool) -> bool {
        (0..self.senders.len())
            .all(|task| self.hand_out(task) && self.senders[task].blocking_send(Item::Pass(place, last)).is_ok())
    }
}

fn size(job: &Job) -> usize {
    job.commands.iter().map(Command::size).sum()
}

/// Commands in a database of one server; afterwards the connection is in database 0 again.
pub(crate) fn in_db(db: u32, commands: Vec<Command>) -> Vec<Command> {
    if db == 0 {
        return commands;
    }
    let mut all = vec![Command::new("SELECT").number(db)];
    all.extend(commands);
    all.push(Command::new("SELECT 0"));
    all
}

/// What the first of such commands was answered.
pub(super) fn value(answer: &Answer, db: u32) -> Option<&Value> {
    let Answer::Values(values) = answer else { return None };
    values.get(usize::from(db != 0))
}

/// Waits until `keys` may have been sent at this rate.
fn slow_down(started: Instant, keys: u64, rate: u32) {
    let due = Duration::from_secs_f64(keys as f64 / f64::from(rate.max(1)));
    if let Some(early) = due.checked_sub(started.elapsed()) {
        thread::sleep(early.min(Duration::from_secs(1)));
    }
}
