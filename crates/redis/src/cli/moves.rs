//! Shows and carries out moves of slots, for all verbs that move some.

use std::time::{Duration, Instant};

use crate::admin::{Carried, Cluster, MoveLimits, Progress};
use crate::plan::Move;
use crate::topology::NodeId;

use super::access::{Access, Consent, name};
use super::failure::Failure;
use super::io::Io;
use super::table::columns;

/// How gently slots are moved.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Pace {
    /// Keys sent at once; the source serves nobody else while it sends them
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch: u32,
    /// Seconds that the source may be busy with one batch
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    batch_timeout: u64,
}

impl Pace {
    pub(super) fn limits(self) -> MoveLimits {
        MoveLimits { batch_keys: self.batch as usize, batch_timeout: Duration::from_secs(self.batch_timeout) }
    }
}

/// Everything about how a verb that moves slots goes about it.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct How {
    #[command(flatten)]
    pub(super) pace: Pace,
    #[command(flatten)]
    pub(super) consent: Consent,
    #[command(flatten)]
    pub(super) access: Access,
}

/// What moving came to, for `--json`.
#[derive(serde::Serialize)]
pub(super) struct Outcome<'a> {
    pub(super) done: bool,
    pub(super) moves: &'a [Move],
    #[serde(flatten)]
    pub(super) carried: Carried,
}

/// Moves as people read them.
pub(super) fn shown(cluster: &Cluster, moves: &[Move]) -> String {
    let node = |id: &NodeId| cluster.picture().node(id).map_or_else(|| id.to_string(), name);
    let mut rows = vec![["FROM", "TO", "COUNT", "SLOTS"].map(str::to_owned).to_vec()];
    rows.extend(
        moves
            .iter()
            .map(|one| vec![node(&one.from), node(&one.to), one.slots.len().to_string(), one.slots.to_string()]),
    );
    columns(&rows)
}

/// Shows the moves, asks, carries them out and waits until all agree. For `--dry-run` they are the data.
pub(super) async fn offer(cluster: &mut Cluster, moves: &[Move], how: &How, io: &mut Io) -> Result<(), Failure> {
    let text = shown(cluster, moves);
    let json = how.access.json;
    if moves.is_empty() || how.consent.dry_run {
        let done = moves.is_empty();
        return io.data(json, &Outcome { done, moves, carried: Carried::default() }, || {
            if done { "nothing to move".to_owned() } else { text }
        });
    }
    io.say(text.trim_end());
    if !how.consent.yes {
        io.confirm("Move these slots?")?;
    }
    let carried = carry(cluster, moves, how.pace, how.access.settle(), io).await?;
    io.data(json, &Outcome { done: true, moves, carried }, || {
        format!("moved {} slots with {} keys: all nodes agree", carried.slots, carried.keys)
    })
}

/// Carries moves out with a line of progress, and waits until all agree.
pub(super) async fn carry(
    cluster: &mut Cluster,
    moves: &[Move],
    pace: Pace,
    settle: Duration,
    io: &mut Io,
) -> Result<Carried, Failure> {
    let start = Instant::now();
    let carried = cluster.carry(moves, pace.limits(), &mut |progress| io.over(&line(progress, start.elapsed()))).await;
    io.end_line();
    let carried = carried?;
    cluster.settle(settle, |_| true).await?;
    Ok(carried)
}

fn line(progress: Progress, elapsed: Duration) -> String {
    let rate = progress.slots as f64 / elapsed.as_secs_f64().max(0.001);
    let left = (progress.slots_total - progress.slots) as f64 / rate.max(0.001);
    format!(
        "{} of {} slots, {} keys, {rate:.0} slots/s, {left:.0} s left",
        progress.slots, progress.slots_total, progress.keys
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress() {
        let progress = Progress { slots: 50, slots_total: 150, keys: 7 };
        assert_eq!(line(progress, Duration::from_secs(5)), "50 of 150 slots, 7 keys, 10 slots/s, 10 s left");
    }
}
