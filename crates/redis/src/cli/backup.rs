//! `backup`.

use std::path::PathBuf;
use std::time::Duration;

use crate::backup::{Manifest, Survey, survey, take};
use crate::migrate::board::Board;
use crate::migrate::run::Speed;

use super::access::{Access, Whole};
use super::failure::{Exit, Failure};
use super::io::Io;
use super::table::{bytes, columns};

/// Arguments of `backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  regrow redis backup 10.0.0.1:7001 --to /backup/redis-$(date +%F)

The folder holds shard-<slots>.rdb of each master, which any redis-server of that version starts on, and manifest.json,
which is written last: without it a backup is not finished.")]
pub struct Args {
    /// A server, or a node of the cluster; or a redis://, redis-sentinel:// or redis-cluster:// URL
    #[arg(value_name = "NODE")]
    from: Whole,
    /// The folder of the backup; it must not exist yet, or be empty
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Masters that give their snapshots at the same time; each forks, and needs memory for what is written meanwhile
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    at_once: u32,
    /// Show what would be backed up, and stop
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(serde::Serialize)]
struct Outcome<'a> {
    done: bool,
    folder: &'a PathBuf,
    manifest: Option<&'a Manifest>,
}

/// How often it is shown how far it is.
const SHOW_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let from = args.access.secured(&args.from.0);
    let survey = survey(&from, &args.access.dialer(from.tls)?).await?;
    let json = args.access.json;
    let text = shown(&survey);
    if args.dry_run {
        io.data(json, &Outcome { done: false, folder: &args.to, manifest: None }, || text)?;
        return Ok(Exit::Done);
    }
    io.say(text.trim_end());
    let board = Board::new(survey.shards.len());
    let mut speed = Speed::new();
    let taken = {
        let taking = take(&survey, &args.to, args.at_once as usize, &board);
        tokio::pin!(taking);
        loop {
            tokio::select! {
                taken = &mut taking => break taken,
                () = tokio::time::sleep(SHOW_EVERY) => {
                    let come: u64 = board.status().feeds.iter().map(|feed| feed.snapshot_bytes).sum();
                    io.over(&format!("{} have come, {}/s", bytes(come), bytes(speed.of(come) as u64)));
                }
            }
        }
    };
    io.over("");
    let manifest = taken?;
    io.data(json, &Outcome { done: true, folder: &args.to, manifest: Some(&manifest) }, || {
        let mut rows = vec![["FILE", "FROM", "KEYS", "EXPIRING", "BYTES"].map(str::to_owned).to_vec()];
        rows.extend(manifest.shards.iter().map(|shard| {
            let keys: u64 = shard.found.keys.values().sum();
            let expiring = shard.found.expiring.to_string();
            vec![shard.file.clone(), shard.address.clone(), keys.to_string(), expiring, bytes(shard.found.bytes)]
        }));
        let seconds = manifest.ended_ms.saturating_sub(manifest.began_ms) as f64 / 1000.0;
        let keys: u64 = manifest.keys().values().sum();
        let size = bytes(manifest.bytes());
        columns(&rows)
            + &format!("{} holds {keys} keys, {size}, read again and proven, in {seconds:.1} s", args.to.display())
    })?;
    Ok(Exit::Done)
}

fn shown(survey: &Survey) -> String {
    let mut rows = vec![["MASTER", "VERSION", "SLOTS", "KEYS", "MEMORY"].map(str::to_owned).to_vec()];
    for ((shard, version), (keys, memory)) in survey.shards.iter().zip(&survey.versions).zip(&survey.sizes) {
        let slots = shard.slots.to_string();
        rows.push(vec![shard.address.to_string(), version.clone(), slots, keys.to_string(), bytes(*memory)]);
    }
    columns(&rows)
}
