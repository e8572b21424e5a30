//! What `migrate` shows of itself.

use std::time::{Duration, Instant};

use crate::migrate::audit::{Audit, Master, Weight};
use crate::migrate::board::{Special, Stage, Status};
use crate::migrate::run::Speed;
use crate::migrate::verify::Verdict;

use super::io::Io;
use super::table::{bytes, columns};

/// Width of the bar.
const BAR: usize = 24;
/// How often a line is written where nothing can be written over.
const PLAIN_EVERY: Duration = Duration::from_secs(5);
/// Differences that are listed; `--json` has more.
const LISTED_MAX: usize = 50;

/// The line of progress.
#[derive(Debug)]
pub(super) struct Line {
    keys: Speed,
    writes: Speed,
    plain_at: Option<Instant>,
    waiting: Option<String>,
}

impl Line {
    /// How often it is written over.
    pub(super) const EVERY: Duration = Duration::from_millis(200);

    pub(super) fn new() -> Self {
        Self { keys: Speed::new(), writes: Speed::new(), plain_at: None, waiting: None }
    }

    /// Shows it: over the last one on a terminal, else as a line now and then.
    pub(super) fn show(&mut self, status: &Status, io: &mut Io, last: bool) {
        let keys = self.keys.of(status.feeds.iter().map(|feed| feed.loaded_keys).sum());
        let writes = self.writes.of(status.writes);
        let text = line(status, keys, writes);
        if io.terminal {
            io.over(&text);
            return;
        }
        let due = self.plain_at.is_none_or(|at| at.elapsed() >= PLAIN_EVERY);
        if due || last || self.waiting != status.waiting {
            self.plain_at = Some(Instant::now());
            self.waiting.clone_from(&status.waiting);
            io.say(&text);
        }
    }
}

/// The line, from what is known and how fast it goes.
fn line(status: &Status, keys_per_second: f64, writes_per_second: f64) -> String {
    let feeds = &status.feeds;
    let sum = |of: fn(&crate::migrate::board::FeedStatus) -> u64| -> u64 { feeds.iter().map(of).sum() };
    let lag = sum(|feed| feed.spooled.saturating_sub(feed.applied));
    let (lag, wait) = if status.by_scan {
        (format!("{lag} keys"), "found or changed wait")
    } else {
        (bytes(lag), "of live writes wait")
    };
    let stage = feeds.iter().map(|feed| feed.stage).min().unwrap_or(Stage::Taking);
    let mut text = match stage {
        Stage::Taking => format!("taking the snapshot: {}", bytes(sum(|feed| feed.snapshot_bytes))),
        Stage::Loading => {
            let (done, all) = (sum(|feed| feed.loaded_keys), sum(|feed| feed.snapshot_keys));
            let left = all.saturating_sub(done) as f64 / keys_per_second.max(1.0);
            format!(
                "{} {done} of {all} keys, {keys_per_second:.0} keys/s, {left:.0} s left, {lag} {wait}",
                bar(done, all)
            )
        }
        Stage::Sweeping => "removing keys that are gone".to_owned(),
        Stage::Live => {
            let what = if status.by_scan { "changed keys" } else { "writes" };
            format!("live: {} {what}, {writes_per_second:.0}/s, lag {lag}", status.writes)
        }
    };
    if feeds.iter().any(|feed| !feed.linked) && stage > Stage::Taking {
        text += "; no link to the source";
    }
    if let Some(why) = &status.waiting {
        text += &format!("; waiting: {why}");
    }
    text
}

fn bar(done: u64, all: u64) -> String {
    let full = if all == 0 { BAR } else { ((done.min(all) as u128 * BAR as u128) / u128::from(all)) as usize };
    format!("[{}{}]", "#".repeat(full), ".".repeat(BAR - full))
}

/// The audit as people read it.
pub(super) fn audit_shown(audit: &Audit, from: &str, to: &str) -> String {
    let mut rows = vec![
        ["SIDE", "MASTER", "VERSION", "KEYS", "DATABASES", "MEMORY", "LIMIT", "BACKLOG", "FUNCTIONS"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for (side, masters) in [("from", &audit.source), ("to", &audit.target)] {
        rows.extend(masters.iter().map(|master| row(side, master)));
    }
    let mut text = format!("from {from} to {to}\n{}", columns(&rows));
    for finding in &audit.findings {
        let weight = match finding.weight {
            Weight::Note => "note",
            Weight::Warning => "warning",
            Weight::Blocker => "blocker",
        };
        text += &format!("{weight}: {}\n", finding.text);
    }
    text
}

fn row(side: &str, master: &Master) -> Vec<String> {
    let databases: Vec<String> = master.keys.keys().map(u32::to_string).collect();
    vec![
        side.to_owned(),
        master.address.to_string(),
        master.version.clone(),
        master.keys.values().sum::<u64>().to_string(),
        if databases.is_empty() { "-".to_owned() } else { databases.join(",") },
        bytes(master.memory),
        if master.memory_max == 0 { "none".to_owned() } else { bytes(master.memory_max) },
        bytes(master.backlog),
        master.functions.to_string(),
    ]
}

/// Writes that were not carried over as they were.
pub(super) fn special_shown(status: &Status) -> String {
    let mut text = String::new();
    for (title, list) in [
        ("split over slots or carried out on copies", &status.split),
        ("copied anew from the source because the target would not take them", &status.copied_anew),
    ] {
        for (command, special) in list {
            let keys = special.keys.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
            text += &format!("{} {command} {title} (keys like {keys})\n", special.count);
        }
    }
    if status.silent.count > 0 {
        text += &silent_shown(&status.silent);
    }
    text
}

fn silent_shown(silent: &Special) -> String {
    let keys = silent.keys.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    format!(
        "{} key(s) were different although no event had told of it, and were copied anew (like {keys})\n",
        silent.count
    )
}

/// A comparison's result.
pub(super) fn verdict_shown(verdict: &Verdict) -> String {
    let mut text: String = verdict
        .differences
        .iter()
        .take(LISTED_MAX)
        .map(|found| match found.db {
            0 => format!("different: {}: {}\n", found.key, found.what),
            db => format!("different: {} in database {db}: {}\n", found.key, found.what),
        })
        .collect();
    text += &verdict
        .unsettled
        .iter()
        .take(LISTED_MAX)
        .map(|key| format!("not compared, because it changes all the time: {key}\n"))
        .collect::<String>();
    text + &format!("{} keys compared, {} different\n", verdict.keys, verdict.different)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrate::board::Board;

    #[test]
    fn lines() {
        let board = Board::new(1);
        let shown = |board: &Board| line(&board.status(), 1000.0, 50.0);
        board.feed(0, |feed| feed.snapshot_bytes = 2048);
        assert_eq!(shown(&board), "taking the snapshot: 2.0 KiB");
        board.feed(0, |feed| {
            (feed.stage, feed.linked) = (Stage::Loading, true);
            (feed.loaded_keys, feed.snapshot_keys) = (5000, 10_000);
            (feed.applied, feed.spooled) = (7_000_000, 7_000_100);
        });
        assert_eq!(
            shown(&board),
            "[############............] 5000 of 10000 keys, 1000 keys/s, 5 s left, 100 B of live writes wait"
        );
        board.feed(0, |feed| (feed.stage, feed.linked) = (Stage::Live, false));
        board.waiting(Some("h:1: OOM".to_owned()));
        assert_eq!(shown(&board), "live: 0 writes, 50/s, lag 100 B; no link to the source; waiting: h:1: OOM");
        board.change(|status| status.by_scan = true);
        assert!(shown(&board).starts_with("live: 0 changed keys, 50/s, lag 100 keys; "), "{}", shown(&board));
    }
}
