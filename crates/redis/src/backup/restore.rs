//! Brings a backup to a server or cluster.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::connection::Dialer;
use crate::info::Info;
use crate::migrate::MigrateError;
use crate::migrate::board::{Board, shown};
use crate::migrate::carrier::{Answer, Carrier, Job, Mark, Who};
use crate::migrate::lane::Lanes;
use crate::migrate::load::in_db;
use crate::migrate::place::Side;
use crate::rebuild::{Dialect, Rebuild};
use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::slot_set::SlotSet;
use crate::url::Url;

use super::error::BackupError;
use super::examine::examine;
use super::manifest::Manifest;
use super::stream::{Dealer, Head, Item, Parcel};
use super::take::{DATABASES_MAX, keys};

/// A backup whose files were all read and are as the manifest says.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What is in it.
    pub manifest: Manifest,
    pub(super) files: Vec<PathBuf>,
}

/// Reads manifest and files of a backup, from the first byte to the last. Blocks.
pub fn check(folder: &Path) -> Result<Checked, BackupError> {
    let manifest = Manifest::read(folder)?;
    let files: Vec<PathBuf> = manifest.shards.iter().map(|shard| folder.join(&shard.file)).collect();
    if let Some(missing) = files.iter().find(|path| !path.is_file()) {
        return Err(BackupError::refused(
            format!("{} is missing, and the manifest lists it", missing.display()),
            "use another copy of the backup: this one is not whole",
        ));
    }
    for (shard, path) in manifest.shards.iter().zip(&files) {
        let found = examine(path, None)?;
        if found != shard.found {
            return Err(BackupError::refused(
                format!(
                    "{} is not the file that was written: SHA-256 {} instead of {}",
                    path.display(),
                    found.sha256,
                    shard.found.sha256
                ),
                "use another copy of the backup: this one is not as it was written",
            ));
        }
    }
    Ok(Checked { manifest, files })
}

/// A restore that is ready to begin.
#[derive(Debug, Clone)]
pub struct Restore {
    pub(super) backup: Checked,
    pub(super) side: Side,
    pub(super) lanes: Arc<Lanes>,
    pub(super) board: Board,
    who: Arc<Who>,
    patience: Duration,
    bytes: Arc<AtomicU64>,
    keys: Arc<AtomicU64>,
    /// The target's masters.
    pub masters: usize,
    /// Keys that the target holds already.
    pub held: u64,
    /// The target removes keys when its memory is full.
    pub evicts: Option<String>,
}

/// How far a restore is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the files that were read.
    pub bytes: u64,
    /// Keys on the target, or compared.
    pub keys: u64,
}

/// What was restored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Restored {
    /// Keys brought to the target.
    pub keys: u64,
    /// Keys left out, because they have expired since the backup.
    pub expired: u64,
}

/// The oldest target: what it says of expiries is not enough to compare by before.
const VERSION_MIN: (u32, u32, u32) = (7, 0, 0);
/// Tasks that bring keys to the target.
const TASKS: usize = 4;
/// Keys and bytes sent at once by one task.
const BATCH_KEYS: usize = 400;
const BATCH_BYTES: usize = 1 << 20;
/// How long between two looks at replicas that should follow.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_millis(200);

impl Restore {
    /// Looks at the target, which must be able to take all of it. `replace`: whether it may hold keys. Nothing is written.
    pub async fn prepare(
        backup: Checked,
        to: &Url,
        dialer: &Dialer,
        replace: bool,
        patience: Duration,
    ) -> Result<Self, BackupError> {
        let side = Side::open(to, dialer).await?;
        let shards = side.shards().await?;
        let covered = shards.iter().fold(SlotSet::new(), |covered, shard| covered.union(&shard.slots));
        if covered != SlotSet::full() {
            return Err(BackupError::refused(
                format!("{} of 16384 slots of the target are served by nobody", 16_384 - covered.len()),
                "see `check`, then run `fix`",
            ));
        }
        if let Some(key) = backup.manifest.shards.iter().find_map(|shard| shard.found.module_key.as_ref()) {
            return Err(BackupError::refused(
                format!("the value of key \"{key}\" is of a module, and cannot be given to a running server"),
                "start a server with that module on the file itself",
            ));
        }
        let databases: BTreeSet<u32> =
            backup.manifest.keys().into_iter().filter(|(_, count)| *count > 0).map(|(db, _)| db).collect();
        let last = databases.iter().next_back().copied().unwrap_or(0);
        if side.cluster() && last > 0 {
            return Err(BackupError::refused(
                format!("the backup has keys in database {last}, and a cluster has only database 0"),
                "restore it to a server that is no cluster",
            ));
        }
        let functions = backup.manifest.shards.iter().any(|shard| shard.found.functions > 0);
        let (mut held, mut evicts) = (0, None);
        for shard in &shards {
            let mut link = side.dialer().connect(&shard.address).await?;
            let info = link.info().await?;
            if info.text("role") == Some("slave") {
                return Err(BackupError::refused(
                    format!("{} is a replica, and takes no writes", shard.address),
                    "name its master",
                ));
            }
            let (version, newest) = (info.version(), newest(&backup.manifest));
            if version < VERSION_MIN || (version.0, version.1) < newest {
                let least = newest.max((VERSION_MIN.0, VERSION_MIN.1));
                return Err(BackupError::refused(
                    format!("{} is of version {}.{}, which is too old", shard.address, version.0, version.1),
                    format!("use a target of version {}.{} or newer", least.0, least.1),
                ));
            }
            held += (0..DATABASES_MAX).filter_map(|db| keys(info.text(&format!("db{db}"))?)).sum::<u64>();
            let policy = info.text("maxmemory_policy").unwrap_or_default();
            if info.number("maxmemory").is_some_and(|limit| limit > 0) && policy != "noeviction" {
                evicts = Some(policy.to_owned());
            }
            if last > 0 && link.ok(&Command::new("SELECT").number(last)).await.is_err() {
                return Err(BackupError::refused(
                    format!("the backup has keys in database {last}, which {} does not have", shard.address),
                    format!("set `databases` to more than {last} on the target, and restart it"),
                ));
            }
            let list = if functions { link.call(&Command::new("FUNCTION LIST")).await? } else { Value::Null };
            if !replace && list.array().is_some_and(|list| !list.is_empty()) {
                return Err(not_empty(format!("{} has libraries of functions", shard.address)));
            }
        }
        if held > 0 && !replace {
            return Err(not_empty(format!("the target holds {held} keys")));
        }
        let run = format!("restore-{:x}-{:x}", crate::migrate::options::now_ms(), std::process::id());
        Ok(Self {
            lanes: Arc::new(Lanes::new(side.cluster(), &run)),
            who: Arc::new(Who::new(&run, &std::process::id().to_string())),
            masters: shards.len(),
            board: Board::new(0),
            bytes: Arc::default(),
            keys: Arc::default(),
            backup,
            side,
            patience,
            held,
            evicts,
        })
    }

    pub(super) fn carrier(&self) -> Carrier {
        let (side, lanes, who) = (self.side.clone(), Arc::clone(&self.lanes), Arc::clone(&self.who));
        Carrier::new(side, lanes, who, self.board.clone(), self.patience)
    }

    /// Brings all keys to the target. A key that is there already is replaced; others are left alone.
    pub async fn load(&self, tell: &mut (dyn FnMut(Progress) + Send)) -> Result<Restored, BackupError> {
        let (dealer, ends) = Dealer::new(TASKS);
        let mut tasks = JoinSet::new();
        for (number, items) in ends.into_iter().enumerate() {
            let task = Loader {
                carrier: self.carrier(),
                lanes: Arc::clone(&self.lanes),
                number,
                piece: 0,
                keys: Arc::clone(&self.keys),
            };
            tasks.spawn(task.work(items));
        }
        let restored = self.deal(dealer, |_| true, tasks, tell).await?;
        self.followed().await?;
        Ok(restored)
    }

    /// Waits until a replica of each master has all, where there are replicas: a fail-over then loses nothing.
    async fn followed(&self) -> Result<(), BackupError> {
        let since = Instant::now();
        for shard in self.side.shards().await? {
            let mut link = self.side.dialer().connect(&shard.address).await?;
            let written = link.info().await?.number("master_repl_offset").unwrap_or(0);
            while !followed(&link.info().await?, written) {
                if since.elapsed() >= self.patience {
                    let why = format!("no replica of {} has all that was restored", shard.address);
                    return Err(MigrateError::Patience { after: self.patience, why }.into());
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Reads all files and waits for the tasks that work on what is read.
    pub(super) async fn deal(
        &self,
        dealer: Dealer,
        wanted: impl Fn(&[u8]) -> bool + Send + 'static,
        mut tasks: JoinSet<Result<(), BackupError>>,
        tell: &mut (dyn FnMut(Progress) + Send),
    ) -> Result<Restored, BackupError> {
        self.bytes.store(0, Ordering::Relaxed);
        self.keys.store(0, Ordering::Relaxed);
        let (files, bytes) = (self.backup.files.clone(), Arc::clone(&self.bytes));
        let mut reading = tokio::task::spawn_blocking(move || {
            let (mut all, mut before) = (Restored::default(), 0);
            for path in files {
                let tell = |at| bytes.store(before + at, Ordering::Relaxed);
                // By slot also where the target has none: a task's marks are its own.
                let task = |key: &[u8]| usize::from(Slot::of_key(key).number());
                let dealt = dealer.deal(&path, &wanted, &task, &tell)?;
                all.keys += dealt.keys;
                all.expired += dealt.expired;
                before = bytes.load(Ordering::Relaxed);
            }
            Ok::<_, BackupError>(all)
        });
        let restored = loop {
            tokio::select! {
                done = &mut reading => break done?,
                () = sleep(TELL_EVERY) => tell(self.progress()),
            }
        };
        // What a task says is the reason when the reader ended early.
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        tell(self.progress());
        restored
    }

    fn progress(&self) -> Progress {
        Progress { bytes: self.bytes.load(Ordering::Relaxed), keys: self.keys.load(Ordering::Relaxed) }
    }

    pub(super) fn count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.keys)
    }

    /// Why it waits, if it does.
    pub fn waiting(&self) -> Option<String> {
        self.board.status().waiting
    }

    /// Keys that the target holds now.
    pub async fn held_now(&self) -> Result<u64, BackupError> {
        let mut held = 0;
        for shard in self.side.shards().await? {
            let info = self.side.dialer().connect(&shard.address).await?.info().await?;
            held += (0..DATABASES_MAX).filter_map(|db| keys(info.text(&format!("db{db}"))?)).sum::<u64>();
        }
        Ok(held)
    }
}

/// Whether a master has no replica, or one that has got all up to a position.
fn followed(info: &Info, written: i64) -> bool {
    let count = info.number("connected_slaves").unwrap_or(0);
    let offset = |line: &str| line.split(',').find_map(|field| field.strip_prefix("offset=")?.parse::<i64>().ok());
    let has = |number| info.text(&format!("slave{number}")).and_then(offset).is_some_and(|at| at >= written);
    count == 0 || (0..count).any(has)
}

fn not_empty(what: String) -> BackupError {
    BackupError::refused(
        what,
        "empty it first; or give --replace: keys and functions of the backup then replace those of the same name, and others stay",
    )
}

/// The newest server of a backup. What it wrote, older ones may not take.
fn newest(manifest: &Manifest) -> (u32, u32) {
    let version = |text: &str| {
        let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
    };
    // The form of the snapshot counts, not what the server calls itself: forks have numbers of their own.
    let form = |rdb_version| match rdb_version {
        0..=9 => (5, 0),
        10 => (7, 0),
        _ => (7, 2),
    };
    manifest
        .shards
        .iter()
        .map(|shard| form(shard.found.rdb_version).min(version(&shard.version)))
        .max()
        .unwrap_or((0, 0))
}

struct Loader {
    carrier: Carrier,
    lanes: Arc<Lanes>,
    number: usize,
    piece: u64,
    keys: Arc<AtomicU64>,
}

impl Loader {
    async fn work(mut self, mut items: mpsc::Receiver<Parcel>) -> Result<(), BackupError> {
        let (mut batch, mut bytes): (Vec<(Head, Job, Parcel)>, usize) = (Vec::new(), 0);
        let mut long: Option<(Head, Rebuild)> = None;
        let (mut pending, mut rooms) = (Vec::new(), Vec::new());
        loop {
            let parcel = match items.try_recv() {
                Ok(parcel) => parcel,
                Err(_) => {
                    self.flush(&mut batch).await?;
                    bytes = 0;
                    match items.recv().await {
                        Some(parcel) => parcel,
                        None => break,
                    }
                }
            };
            if let (Item::Whole(head, dump), _) = &parcel {
                let restore = Command::new("RESTORE").arg(&head.name).number(head.expires_ms.unwrap_or(0)).arg(dump);
                let job = self.job(head, vec![restore.args(["REPLACE", "ABSTTL"])]);
                bytes += dump.len();
                batch.push((head.clone(), job, parcel));
                if batch.len() >= BATCH_KEYS || bytes >= BATCH_BYTES {
                    self.flush(&mut batch).await?;
                    bytes = 0;
                }
                continue;
            }
            self.flush(&mut batch).await?;
            bytes = 0;
            match parcel.0 {
                Item::Function(code) => self.function(code).await?,
                Item::Begin(head) => {
                    let job = self.job(&head, vec![Command::new("UNLINK").arg(&head.name)]);
                    self.one(&head, job).await?;
                    let rebuild = Rebuild::new(head.name.clone(), Dialect::Seven);
                    long = Some((head, rebuild));
                }
                Item::Piece(piece) => {
                    let Some((head, rebuild)) = &mut long else { continue };
                    pending.extend(rebuild.commands(&piece));
                    rooms.push(parcel.1);
                    // An entry of a stream is a piece of its own.
                    let size: usize = pending.iter().map(Command::size).sum();
                    if pending.len() >= BATCH_KEYS || size >= BATCH_BYTES {
                        let head = head.clone();
                        self.append(&head, &mut pending, &mut rooms).await?;
                    }
                }
                Item::End => {
                    let Some((head, _)) = long.take() else { continue };
                    self.append(&head, &mut pending, &mut rooms).await?;
                    let mut commands = vec![];
                    commands.extend(head.expires_ms.map(|at| Command::new("PEXPIREAT").arg(&head.name).number(at)));
                    let mut job = self.job(&head, commands);
                    job.commands.push(Command::new("UNLINK").arg(self.mark(&head)));
                    self.one(&head, job).await?;
                    self.keys.fetch_add(1, Ordering::Relaxed);
                }
                Item::Whole(..) => {}
            }
        }
        if self.carrier.changes() > 0 { Err(BackupError::Replaced) } else { Ok(()) }
    }

    fn job(&self, head: &Head, commands: Vec<Command>) -> Job {
        Job::plain(self.lanes.of(&head.name), in_db(head.db, commands))
    }

    /// The key that tells whether a piece was taken in when its answer is lost. It is gone when its value is whole.
    fn mark(&self, head: &Head) -> Bytes {
        self.lanes.key(self.lanes.of(&head.name), &format!("p{}", self.number))
    }

    /// Brings pieces of a long value to the target, exactly once.
    async fn append(
        &mut self,
        head: &Head,
        commands: &mut Vec<Command>,
        rooms: &mut Vec<OwnedSemaphorePermit>,
    ) -> Result<(), BackupError> {
        if !commands.is_empty() {
            self.piece += 1;
            let mark = Mark { key: self.mark(head), value: self.piece.to_string().into(), before: None };
            let job = Job { mark: Some(mark), ..self.job(head, std::mem::take(commands)) };
            self.one(head, job).await?;
        }
        rooms.clear();
        Ok(())
    }

    async fn one(&mut self, head: &Head, job: Job) -> Result<(), BackupError> {
        let answer = self.carrier.one(job).await?;
        judge(&head.name, &answer)
    }

    async fn flush(&mut self, batch: &mut Vec<(Head, Job, Parcel)>) -> Result<(), BackupError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (mut names, mut jobs, mut rooms) = (Vec::new(), Vec::new(), Vec::new());
        for (head, job, parcel) in batch.drain(..) {
            names.push(head.name);
            jobs.push(job);
            rooms.push(parcel.1);
        }
        let answers = self.carrier.carry(jobs).await?;
        names.iter().zip(&answers).try_for_each(|(name, answer)| judge(name, answer))?;
        self.keys.fetch_add(names.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Each master has the functions.
    async fn function(&mut self, code: Bytes) -> Result<(), BackupError> {
        let load = Command::new("FUNCTION LOAD REPLACE").arg(code);
        for (address, values) in self.carrier.everywhere(std::slice::from_ref(&load)).await? {
            if let Some(Value::Error(message)) = values.first() {
                let (key, why) = (format!("a library of functions, on {address}"), lossy(message));
                return Err(BackupError::NotTaken { key, why });
            }
        }
        Ok(())
    }
}

/// A value that the target refuses is an end: it would be missing.
fn judge(name: &[u8], answer: &Answer) -> Result<(), BackupError> {
    let why = match answer {
        Answer::Values(values) => {
            values.iter().find_map(|value| if let Value::Error(message) = value { Some(lossy(message)) } else { None })
        }
        Answer::Rejected { message, .. } => Some(message.clone()),
        Answer::Behind => return Err(BackupError::Replaced),
        Answer::Done => None,
    };
    why.map_or(Ok(()), |why| Err(BackupError::NotTaken { key: shown(name), why }))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::examine::Found;
    use super::super::manifest::ShardFile;
    use super::*;

    #[test]
    fn replicas() {
        let followed = |text, written| followed(&Info::parse(text), written);
        assert!(followed("connected_slaves:0\r\n", 9));
        let two = "connected_slaves:2\r\nslave0:ip=h,port=1,state=online,offset=7,lag=0\r\nslave1:ip=h,port=2,state=online,offset=9,lag=1\r\n";
        assert!(followed(two, 9) && !followed(two, 10));
        assert!(!followed("connected_slaves:1\r\n", 0));
    }

    /// The form of the files says which target is new enough.
    #[test]
    fn versions() {
        let manifest = |rdb_version, version: &str| {
            let file = ShardFile {
                file: "shard-0.rdb".to_owned(),
                slots: "0".to_owned(),
                address: "h:1".to_owned(),
                version: version.to_owned(),
                history: String::new(),
                offset: 0,
                found: Found { rdb_version, keys: BTreeMap::new(), ..Found::default() },
            };
            Manifest::new(0, String::new(), false, vec![file])
        };
        assert_eq!(newest(&manifest(10, "7.0.15")), (7, 0));
        assert_eq!(newest(&manifest(11, "8.1.2")), (7, 2));
        assert_eq!(newest(&manifest(9, "6.2.1")), (5, 0));
    }
}
