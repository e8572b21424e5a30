//! Takes a backup.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::admin::Cluster;
use crate::connection::Dialer;
use crate::disk::{DiskError, sync_folder};
use crate::migrate::board::Board;
use crate::migrate::options::now_ms;
use crate::migrate::place::{Shard, Side};
use crate::migrate::{MigrateError, snapshot};
use crate::replication::{Begin, attach};
use crate::slot_set::SlotSet;
use crate::topology::Problem;
use crate::url::Url;

use super::error::BackupError;
use super::examine::examine;
use super::manifest::{MANIFEST, Manifest, ShardFile};

/// What there is to be backed up.
#[derive(Debug, Clone)]
pub struct Survey {
    side: Side,
    /// Where from, without a password.
    pub from: String,
    /// The masters, or the one server, in order of their slots.
    pub shards: Vec<Shard>,
    /// Keys of each as it says now, and bytes of memory.
    pub sizes: Vec<(u64, u64)>,
    /// The version of each.
    pub versions: Vec<String>,
}

/// Looks at a server or cluster. Refused while slots are served by nobody, by two, or are being moved: a backup could
/// then have a key twice or not at all.
pub async fn survey(url: &Url, dialer: &Dialer) -> Result<Survey, BackupError> {
    let side = Side::open(url, dialer).await?;
    let shards = settled(&side).await?;
    let (mut sizes, mut versions) = (Vec::new(), Vec::new());
    for shard in &shards {
        let info = side.dialer().connect(&shard.address).await?.info().await?;
        let keys = (0..DATABASES_MAX).filter_map(|db| keys(info.text(&format!("db{db}"))?)).sum();
        let memory = info.number("used_memory").and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0);
        sizes.push((keys, memory));
        versions.push(crate::upgrade::version(&info));
    }
    Ok(Survey { side, from: url.to_string(), shards, sizes, versions })
}

/// Databases looked for in what a server says of itself; 16 unless it is told otherwise.
pub(super) const DATABASES_MAX: u32 = 1024;

/// `keys=5,expires=0,avg_ttl=0`.
pub(super) fn keys(line: &str) -> Option<u64> {
    line.strip_prefix("keys=")?.split(',').next()?.parse().ok()
}

/// The masters of a side whose slots stay where they are.
async fn settled(side: &Side) -> Result<Vec<Shard>, BackupError> {
    let mut shards = side.shards().await?;
    shards.sort_by_key(|shard| shard.slots.iter().next());
    if !side.cluster() {
        return Ok(shards);
    }
    let seeds: Vec<_> = shards.iter().map(|shard| shard.address.clone()).collect();
    let cluster = Cluster::open(side.dialer(), &seeds).await?;
    let problems = cluster.picture().problems();
    let in_the_way = |problem: &&Problem| {
        matches!(problem, Problem::Uncovered { .. } | Problem::Contested { .. } | Problem::Open { .. })
    };
    match problems.iter().find(in_the_way) {
        None => Ok(shards),
        Some(problem) => Err(BackupError::refused(
            format!("keys could be missed or be there twice: {problem}"),
            "see `check`; take the backup when slots stay where they are",
        )),
    }
}

/// Takes a backup into a folder, which must not exist or be empty. `at_once`: masters that give their snapshots at the same time.
/// `board` shows how far it is, one feed for each shard. On an error nothing is left of it.
pub async fn take(survey: &Survey, folder: &Path, at_once: usize, board: &Board) -> Result<Manifest, BackupError> {
    let fresh = prepare(folder)?;
    let taken = fill(survey, folder, at_once, board).await;
    if taken.is_err() {
        clean(folder, survey, fresh);
    }
    taken
}

async fn fill(survey: &Survey, folder: &Path, at_once: usize, board: &Board) -> Result<Manifest, BackupError> {
    let began_ms = now_ms();
    let turns = Arc::new(Semaphore::new(at_once.max(1)));
    let mut taking = JoinSet::new();
    for (index, shard) in survey.shards.iter().cloned().enumerate() {
        let (turns, side, board) = (Arc::clone(&turns), survey.side.clone(), board.clone());
        let (path, version) = (folder.join(file_name(&shard.slots)), survey.versions[index].clone());
        taking.spawn(async move {
            let _turn = turns.acquire().await;
            let file = one(&side, shard, path, version, &board, index).await?;
            Ok::<_, BackupError>((index, file))
        });
    }
    let mut files = Vec::new();
    while let Some(done) = taking.join_next().await {
        match done.map_err(BackupError::from).flatten() {
            Ok(file) => files.push(file),
            Err(error) => {
                // None of them may write any more when the files are taken away.
                taking.shutdown().await;
                return Err(error);
            }
        }
    }
    files.sort_by_key(|(index, _)| *index);
    let after = settled(&survey.side).await?;
    let slots = |shards: &[Shard]| shards.iter().map(|shard| shard.slots.to_string()).collect::<BTreeSet<_>>();
    if slots(&after) != slots(&survey.shards) {
        return Err(BackupError::refused(
            "slots were moved while the backup was taken, so it may lack keys",
            "take it again while slots stay where they are",
        ));
    }
    sync_folder(folder)?;
    let files = files.into_iter().map(|(_, file)| file).collect();
    let manifest = Manifest::new(began_ms, survey.from.clone(), survey.side.cluster(), files);
    manifest.write(folder)?;
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync_folder(parent)?;
    }
    Ok(manifest)
}

/// The snapshot of one server.
async fn one(
    side: &Side,
    shard: Shard,
    path: PathBuf,
    version: String,
    board: &Board,
    index: usize,
) -> Result<ShardFile, BackupError> {
    let (begin, mut feed) = attach(side.dialer(), &shard.address, None).await?;
    if begin != Begin::Full {
        return Err(BackupError::Task(format!("{} gave no snapshot", shard.address)));
    }
    let position = feed.position();
    let taken = snapshot::take(&mut feed, &path, board, index).await;
    // The server keeps what is written meanwhile for us; it need not any more.
    drop(feed);
    taken.map_err(|error| match error {
        MigrateError::Disk { path, source } => BackupError::Disk(DiskError { path, source }),
        error => error.into(),
    })?;
    let (read, slots) = (path.clone(), side.cluster().then(|| shard.slots.clone()));
    let found = tokio::task::spawn_blocking(move || examine(&read, slots.as_ref())).await??;
    Ok(ShardFile {
        file: file_name(&shard.slots),
        slots: shard.slots.to_string(),
        address: shard.address.to_string(),
        version,
        history: position.history,
        offset: position.offset,
        found,
    })
}

/// Makes the folder, or takes an empty one. Whether it was made.
fn prepare(folder: &Path) -> Result<bool, BackupError> {
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(DiskError::at(parent))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(DiskError { path: folder.to_owned(), source }.into()),
    }
    let mut entries = fs::read_dir(folder).map_err(DiskError::at(folder))?;
    if entries.next().is_some() {
        let what = if folder.join(MANIFEST).exists() { "holds a backup" } else { "is not empty" };
        return Err(BackupError::refused(
            format!("{} {what}, and nothing is overwritten", folder.display()),
            "give a folder that does not exist yet",
        ));
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(DiskError::at(folder))?;
    Ok(false)
}

/// Takes away what was written, as far as that goes. Without a manifest it is no backup in any case.
fn clean(folder: &Path, survey: &Survey, fresh: bool) {
    for shard in &survey.shards {
        let _ = fs::remove_file(folder.join(file_name(&shard.slots)));
    }
    for name in [MANIFEST, "manifest.new"] {
        let _ = fs::remove_file(folder.join(name));
    }
    if fresh {
        let _ = fs::remove_dir(folder);
    }
}

/// The file of some slots: `shard-0-5460.rdb`; of several ranges the first, and how many follow.
fn file_name(slots: &SlotSet) -> String {
    let ranges = slots.ranges();
    let more = ranges.len().saturating_sub(1);
    let first = ranges.first().map_or("none".to_owned(), |(first, last)| format!("{first}-{last}"));
    if more == 0 { format!("shard-{first}.rdb") } else { format!("shard-{first}+{more}.rdb") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Slot;

    #[test]
    fn names() {
        let of = |numbers: &[u16]| numbers.iter().filter_map(|number| Slot::new(*number)).collect::<SlotSet>();
        assert_eq!(file_name(&SlotSet::full()), "shard-0-16383.rdb");
        assert_eq!(file_name(&of(&[5, 6, 9, 12, 13])), "shard-5-6+2.rdb");
        assert_eq!(keys("keys=5,expires=0,avg_ttl=0"), Some(5));
    }

    /// A new folder and an empty one are taken, and are the owner's alone; one that holds something is not.
    #[test]
    fn folders() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("a/b");
        assert!(prepare(&folder).unwrap());
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(!prepare(&folder).unwrap());
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(folder.join("x"), "").unwrap();
        assert!(prepare(&folder).unwrap_err().to_string().contains("is not empty"));
        fs::write(folder.join(MANIFEST), "").unwrap();
        assert!(prepare(&folder).unwrap_err().to_string().contains("holds a backup"));
    }
}
