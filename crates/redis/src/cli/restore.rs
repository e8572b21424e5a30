//! `restore`.

use std::path::PathBuf;
use std::time::Duration;

use crate::backup::{Checked, Compared, Progress, Restore, Restored, check};
use crate::migrate::run::Speed;

use super::access::{Access, Compare, Consent, Whole};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::bytes;

/// Arguments of `restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  regrow redis restore /backup/redis-2026-11-30 --to 10.0.1.1:7001

The target may be of any shape: a cluster's backup goes to one server, that of a server to a cluster. Keys that have expired since
the backup are left out and counted.")]
pub struct Args {
    /// The folder of the backup
    #[arg(value_name = "DIR")]
    from: PathBuf,
    /// A server, or a node of the cluster; or a redis://, redis-sentinel:// or redis-cluster:// URL
    #[arg(long, value_name = "NODE")]
    to: Whole,
    /// Let the target hold keys: those of the backup's names are replaced, all others stay
    #[arg(long)]
    replace: bool,
    /// How much is compared afterwards: all, one key in N, none
    #[arg(long, value_name = "all|1/N|none", default_value = "all")]
    verify: Compare,
    /// Seconds that a server may be unusable or full until the restore is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=604_800))]
    patience: u64,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    done: bool,
    from: &'a str,
    began: &'a str,
    keys: u64,
    restored: Option<Restored>,
    /// Keys that the target held before, and holds now.
    held_before: u64,
    held: Option<u64>,
    compared: Option<&'a Compared>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    io.say(&format!("reading {} from the first byte to the last", args.from.display()));
    let folder = args.from.clone();
    let backup: Checked =
        tokio::task::spawn_blocking(move || check(&folder)).await.map_err(crate::backup::BackupError::from)??;
    let manifest = backup.manifest.clone();
    let keys: u64 = manifest.keys().values().sum();
    let patience = Duration::from_secs(args.patience);
    let to = args.access.secured(&args.to.0);
    let restore = Restore::prepare(backup, &to, &args.access.dialer(to.tls)?, args.replace, patience).await?;
    let total = manifest.bytes();
    let mut text = format!(
        "backup of {} of {}: {keys} keys, {} in {} file(s), as they were written\nto {}: {} master(s), {} keys",
        manifest.from,
        manifest.began,
        bytes(total),
        manifest.shards.len(),
        to,
        restore.masters,
        restore.held
    );
    if restore.held > 0 {
        text += "; those that the backup has, too, are replaced, the others stay";
    }
    if let Some(policy) = &restore.evicts {
        text += &format!("\nwarning: when its memory is full, the target removes keys ({policy})");
    }
    let mut outcome = Outcome {
        done: false,
        from: &manifest.from,
        began: &manifest.began,
        keys,
        restored: None,
        held_before: restore.held,
        held: None,
        compared: None,
    };
    let json = args.access.json;
    if args.consent.dry_run {
        io.data(json, &outcome, || text)?;
        return Ok(Exit::Done);
    }
    io.say(&text);
    if !args.consent.yes {
        io.confirm("Restore it?")?;
    }
    let mut line = Line::new(total);
    let waits = restore.clone();
    let restored =
        restore.load(&mut |progress| io.over(&line.of("on the target", progress, waits.waiting().as_deref()))).await;
    io.over("");
    let restored = restored?;
    let held = restore.held_now().await?;
    let compared = match args.verify.0 {
        None => None,
        Some(extent) => {
            io.say("comparing the target with the files");
            let mut line = Line::new(total);
            let waits = restore.clone();
            let tell = &mut |progress| io.over(&line.of("compared", progress, waits.waiting().as_deref()));
            let compared = restore.compare(extent, tell).await;
            io.over("");
            Some(compared?)
        }
    };
    // With keys of its own before, the target's count says nothing.
    let expiring: u64 = manifest.shards.iter().map(|shard| shard.found.expiring).sum();
    let count = restore.held > 0 || (held <= restored.keys && held.saturating_add(expiring) >= restored.keys);
    let equal = compared.as_ref().is_none_or(|compared| compared.different == 0);
    (outcome.done, outcome.restored, outcome.held) = (count && equal, Some(restored), Some(held));
    outcome.compared = compared.as_ref();
    io.data(json, &outcome, || said(restored, held, count, compared.as_ref()))?;
    Ok(if outcome.done { Exit::Done } else { Exit::Failed })
}

/// Differences that are shown; all of them are in `--json`.
const SHOWN_MAX: usize = 20;

fn said(restored: Restored, held: u64, count: bool, compared: Option<&Compared>) -> String {
    let mut text =
        format!("{} keys restored, {} left out, because they have expired since", restored.keys, restored.expired);
    if !count {
        text += &format!("\nwrong: the target holds {held} keys: somebody else writes to it, or it has removed some");
    }
    match compared {
        None => text += &format!("\nnot compared; the target holds {held} keys"),
        Some(compared) if compared.different == 0 => {
            text += &format!("\n{} keys compared: value and expiry are those of the backup", compared.keys);
        }
        Some(compared) => {
            text += &format!("\n{} of {} keys compared are different:", compared.different, compared.keys);
            for found in compared.differences.iter().take(SHOWN_MAX) {
                text += &format!("\n  {} (database {}): {}", found.key, found.db, found.what);
            }
            let more = compared.different.saturating_sub(SHOWN_MAX as u64);
            if more > 0 {
                text += &format!("\n  and {more} more");
            }
        }
    }
    text
}

/// A line of progress.
struct Line {
    total: u64,
    keys: Speed,
    bytes: Speed,
}

impl Line {
    fn new(total: u64) -> Self {
        Self { total, keys: Speed::new(), bytes: Speed::new() }
    }

    fn of(&mut self, what: &str, progress: Progress, waiting: Option<&str>) -> String {
        if let Some(why) = waiting {
            return format!("{} keys {what}; waiting: {why}", progress.keys);
        }
        let (keys, speed) = (self.keys.of(progress.keys), self.bytes.of(progress.bytes));
        let left = self.total.saturating_sub(progress.bytes) as f64 / speed.max(1.0);
        let percent = progress.bytes.saturating_mul(100) / self.total.max(1);
        format!(
            "{percent} %, {} keys {what}, {keys:.0} keys/s, {}/s, {left:.0} s left",
            progress.keys,
            bytes(speed as u64)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let mut line = Line::new(200);
        let progress = Progress { bytes: 50, keys: 7 };
        assert!(line.of("compared", progress, None).starts_with("25 %, 7 keys compared, 0 keys/s"));
        assert_eq!(line.of("compared", progress, Some("full")), "7 keys compared; waiting: full");
    }
}
