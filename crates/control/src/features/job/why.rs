//! Why a run waits, for people.

use crate::features::span;
use regrow_model::run::{Run, Slot, State, Worker};
use regrow_model::{RunId, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Items named in one line; the rest is counted.
const NAMED_MAX: usize = 5;

/// What is known around a run.
#[derive(Clone, Copy, Debug)]
pub struct Around<'a> {
    /// Runs that have not ended.
    pub live: &'a [Run],
    /// Workers that have a lease.
    pub workers: &'a [Worker],
    /// Hosts that gossip says are dead.
    pub dead: &'a BTreeSet<String>,
}

/// Why a run waits, a clause each: its time, hosts, slots, workers, those before it, and how long it may wait. Empty when
/// it runs or has ended.
pub fn waits(run: &Run, around: Around<'_>, now: Time) -> Vec<String> {
    let mut lines = match run.state {
        State::Parked => vec![parked(run, around.dead)],
        State::Queued if run.due > now => vec![not_due(run, now)],
        State::Queued => {
            let mut lines: Vec<String> = run.order.slots.iter().filter_map(|slot| held(slot, around.live)).collect();
            lines.extend(no_worker(run, around));
            if lines.is_empty() {
                lines.push(in_line(run, around.live, now));
            }
            lines
        }
        _ => return Vec::new(),
    };
    if let Some(deadline) = run.order.deadline {
        lines.push(match deadline.0.checked_sub(now.0) {
            Some(left) => format!("expires in {} if it has not begun by then", span(Duration::from_millis(left))),
            None => "its deadline has passed: it is about to expire".to_owned(),
        });
    }
    lines
}

fn parked(run: &Run, dead: &BTreeSet<String>) -> String {
    let missing: Vec<&str> = run.order.hosts.iter().filter(|host| dead.contains(*host)).map(String::as_str).collect();
    if missing.is_empty() {
        return "its hosts are back: it is about to go on".to_owned();
    }
    format!("parked until gossip sees {} again", named(&missing))
}

fn not_due(run: &Run, now: Time) -> String {
    let left = span(run.due.since(now));
    if run.failures == 0 {
        return format!("not due for another {left}");
    }
    let tries = run.order.retry.times.saturating_add(1);
    format!("failed {} of {tries} times, tried again in {left}", run.failures)
}

/// Who holds all places of a slot.
fn held(slot: &Slot, live: &[Run]) -> Option<String> {
    let holds = |run: &&Run| run.state == State::Running && run.order.slots.iter().any(|held| held.name == slot.name);
    let holders: Vec<&RunId> = live.iter().filter(holds).map(|run| &run.id).collect();
    if holders.len() < usize::try_from(slot.limit).unwrap_or(usize::MAX) {
        return None;
    }
    let who = named(&holders.iter().map(|id| id.as_str()).collect::<Vec<_>>());
    Some(match slot.name.split_once('/') {
        Some(("job", job)) => format!("{} of job/{job} at a time, now {who}", runs(slot.limit)),
        Some(("schedule", schedule)) => format!("the last run of schedule/{schedule} has not ended: {who}"),
        Some(("key", key)) => format!("the key `{key}` is held by {who}"),
        _ => format!("`{}` is held by {who}", slot.name),
    })
}

fn runs(count: u32) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{count} runs") }
}

/// Why no worker takes it, when none can.
fn no_worker(run: &Run, around: Around<'_>) -> Option<String> {
    if around.workers.is_empty() {
        return Some("there is no worker: start an agent with --jobs, or `regrow worker`".to_owned());
    }
    let wanted: Vec<&str> = run.order.labels.iter().map(|label| label.as_str()).collect();
    let fit: Vec<&Worker> = around.workers.iter().filter(|worker| worker.has_labels(&run.order.labels)).collect();
    if fit.is_empty() {
        return Some(format!("no worker has its labels: {}", named(&wanted)));
    }
    let mut busy: BTreeMap<&str, u32> = BTreeMap::new();
    for running in around.live.iter().filter(|run| run.state == State::Running) {
        *busy.entry(running.worker.as_deref().unwrap_or_default()).or_default() += 1;
    }
    let open: Vec<&&Worker> = fit.iter().filter(|worker| !worker.draining).collect();
    let which = if wanted.is_empty() { String::new() } else { format!(" with {}", named(&wanted)) };
    if open.is_empty() {
        return Some(format!("every worker{which} drains"));
    }
    let runs_of = |worker: &Worker| busy.get(&*worker.id).copied().unwrap_or(0);
    if open.iter().any(|worker| runs_of(worker) < worker.room) {
        return None;
    }
    let full: Vec<String> =
        open.iter().map(|worker| format!("{} ({} of {})", worker.id, runs_of(worker), worker.room)).collect();
    let full: Vec<&str> = full.iter().map(String::as_str).collect();
    Some(format!("every worker{which} is full: {}", named(&full)))
}

/// How many go before it.
fn in_line(run: &Run, live: &[Run], now: Time) -> String {
    let turn = |run: &Run| (std::cmp::Reverse(run.order.priority), run.id.clone());
    let own = turn(run);
    let waits = |other: &&Run| other.state == State::Queued && other.due <= now && turn(other) < own;
    match live.iter().filter(waits).count() {
        0 => "a worker is about to take it".to_owned(),
        1 => "1 run is before it".to_owned(),
        count => format!("{count} runs are before it"),
    }
}

fn named(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED_MAX) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
