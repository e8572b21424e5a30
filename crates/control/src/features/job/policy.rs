//! What follows an end, a loss, a deadline, a dead host.

use super::inventory;
use regrow_model::Time;
use regrow_model::run::{Order, Run, RunResult, State, Task};
use regrow_model::spec::{Down, OnLoss};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Workers that one run may lose before it is taken for what kills them.
pub const LOSSES_MAX: u32 = 5;

/// How long a dead letter is kept at least, whatever the job's retention: a weekend and its Monday.
pub const DEAD_KEPT: Duration = Duration::from_secs(4 * 24 * 3600);

/// How a try ended, as its worker tells.
#[derive(Clone, Debug, PartialEq)]
pub struct End {
    /// A final state.
    pub state: State,
    /// Why, for people.
    pub why: String,
    /// What came of it.
    pub result: RunResult,
}

/// Why a run is to end early.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Halt {
    /// It is not.
    #[default]
    No,
    /// Somebody asks for it: politely first.
    Cancelled(String),
    /// The worker is lost, or gives up: nothing may be left at once.
    Lost,
}

/// The run as it is when a worker begins it.
pub fn begun(run: &Run, worker: &str, now: Time) -> Run {
    Run {
        state: State::Running,
        attempt: run.attempt + 1,
        started: Some(now),
        worker: Some(worker.into()),
        why: String::new(),
        ..run.clone()
    }
}

/// What follows the end of a try: the same run again, or its end.
pub fn ended(run: &Run, end: End, now: Time) -> Run {
    // Its leash may know before its worker does.
    if end.state == State::Lost {
        return lost(run, false, now);
    }
    let failed = matches!(end.state, State::Failed | State::TimedOut);
    let mut next = Run { result: Some(end.result), why: end.why, ..run.clone() };
    if !failed {
        return finished(next, end.state, now);
    }
    next.failures += 1;
    let retry = &run.order.retry;
    if next.failures > retry.times {
        next.dead = retry.times > 0;
        return finished(next, end.state, now);
    }
    let doubled = retry.delay.0.saturating_mul(1_u32.checked_shl(next.failures - 1).unwrap_or(u32::MAX));
    let due = now.after(doubled.min(retry.max_delay.0));
    Run { state: State::Queued, due, worker: None, resume: false, ..next }
}

/// What follows the loss of its worker. `cancelled`: somebody had asked for its end.
pub fn lost(run: &Run, cancelled: bool, now: Time) -> Run {
    let worker = run.worker.as_deref().unwrap_or("its worker");
    let why = format!("{worker} was lost in mid-run");
    let next = Run { why, ..run.clone() };
    if cancelled {
        return finished(next, State::Cancelled, now);
    }
    let losses = run.attempt.saturating_sub(run.failures);
    match run.order.on_loss {
        OnLoss::Fail => finished(next, State::Lost, now),
        _ if losses >= LOSSES_MAX => finished(Run { dead: true, ..next }, State::Lost, now),
        on_loss => Run { state: State::Queued, due: now, worker: None, resume: on_loss == OnLoss::Resume, ..next },
    }
}

/// A run that has not started in time.
pub fn expired(run: &Run, now: Time) -> Run {
    finished(Run { why: "it had not started by its deadline".to_owned(), ..run.clone() }, State::Expired, now)
}

/// A run that was cancelled before it began, by `by`.
pub fn cancelled(run: &Run, by: &str, now: Time) -> Run {
    finished(Run { why: format!("cancelled by {by}"), ..run.clone() }, State::Cancelled, now)
}

fn finished(run: Run, state: State, now: Time) -> Run {
    Run { state, ended: Some(now), ..run }
}

/// When what is kept of an ended run goes.
pub fn forgotten_at(run: &Run) -> Time {
    let kept = if run.dead { run.order.retention.0.max(DEAD_KEPT) } else { run.order.retention.0 };
    run.ended.unwrap_or(run.submitted).after(kept)
}

/// A run that is accepted: it waits, is parked, or ends at once because all of its hosts are dead.
pub fn accepted(run: Run, dead: &BTreeSet<String>, now: Time) -> Run {
    let down: Vec<&String> = run.order.hosts.iter().filter(|host| dead.contains(*host)).collect();
    if down.is_empty() {
        return run;
    }
    match run.order.down {
        Down::Run => run,
        Down::Park => {
            let why = format!("waits for {}", named(&down));
            Run { state: State::Parked, why, ..run }
        }
        Down::Skip => {
            let why = format!("left out: {}, not alive", named(&down));
            let order = without(&run.order, dead);
            let none_left = order.hosts.is_empty();
            let run = Run { order: Arc::new(order), why, ..run };
            if none_left { finished(run, State::Skipped, now) } else { run }
        }
    }
}

/// A parked run, when what it waits for is back.
pub fn unparked(run: &Run, dead: &BTreeSet<String>) -> Option<Run> {
    let waits = run.order.hosts.iter().any(|host| dead.contains(host));
    (run.state == State::Parked && !waits).then(|| Run { state: State::Queued, why: String::new(), ..run.clone() })
}

fn named(hosts: &[&String]) -> String {
    let shown: Vec<&str> = hosts.iter().take(5).map(|host| host.as_str()).collect();
    let more = hosts.len().saturating_sub(shown.len());
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    shown.join(", ") + &tail
}

/// The order without hosts that are dead. A step that has none left is left out with them.
fn without(order: &Order, dead: &BTreeSet<String>) -> Order {
    fn leave_out(task: &mut Task, dead: &BTreeSet<String>) -> bool {
        match task {
            Task::Exec(_) | Task::Http(_) => true,
            Task::Ansible(task) => inventory::leave_out(task, dead),
            Task::Ssh(task) => {
                task.hosts.retain(|host| !dead.contains(host));
                !task.hosts.is_empty()
            }
            Task::Steps(steps) => {
                steps.retain_mut(|step| leave_out(&mut step.task, dead));
                true
            }
        }
    }
    let mut order = order.clone();
    let some_left = leave_out(&mut order.task, dead);
    order.hosts.retain(|host| some_left && !dead.contains(host));
    order
}
