//! What a process knows of the queue: the keys that it watches, as they are.

use super::change::Change;
use regrow_control::features::job::queue::Queue;
use regrow_model::key::JOBS;
use regrow_model::run::{Run, RunResult, State, Worker, WorkerId};
use regrow_model::{RunId, Time};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

pub(super) fn live(id: &RunId) -> String {
    format!("{JOBS}queue/live/{id}")
}

pub(super) fn slot(key: &str, place: u32) -> String {
    format!("{JOBS}queue/slot/{key}/{place}")
}

pub(super) fn worker(id: &str) -> String {
    format!("{JOBS}queue/worker/{id}")
}

pub(super) fn cancel(id: &RunId) -> String {
    format!("{JOBS}queue/cancel/{id}")
}

/// All that is watched.
pub(super) fn hot() -> String {
    format!("{JOBS}queue/")
}

pub(super) fn done(id: &RunId) -> String {
    format!("{JOBS}done/{id}")
}

pub(super) fn all_done() -> String {
    format!("{JOBS}done/")
}

/// All pieces of a run's log.
pub(super) fn log(id: &RunId) -> String {
    format!("{JOBS}log/{id}/")
}

pub(super) fn fired(schedule: &str) -> String {
    format!("{JOBS}fired/{schedule}")
}

pub(super) fn word(word: &str) -> String {
    format!("{JOBS}key/{}", regrow_model::Digest::of([word.as_bytes()]))
}

/// A worker that has its place.
pub(super) struct Here {
    pub(super) worker: Worker,
    /// Of its last beat that is known of.
    pub(super) revision: i64,
    /// When that became known here: not before it was written.
    pub(super) since: Instant,
}

/// What is known.
#[derive(Default)]
pub(super) struct Known {
    pub(super) queue: Queue,
    /// The revision of each key's last change; of one that is gone for as long as an older change of it may come.
    fences: BTreeMap<RunId, i64>,
    pub(super) workers: BTreeMap<WorkerId, Here>,
    /// Runs whose end is asked for, and by whom.
    pub(super) cancels: BTreeMap<RunId, String>,
    /// Runs that posts of this process are claiming, run, or have just settled.
    pub(super) taken: BTreeSet<RunId>,
    /// Everything up to here is in it.
    revision: i64,
}

/// A run's record without what was accepted, which never changes: most of it, and known already.
#[derive(Deserialize)]
struct Progress {
    id: RunId,
    state: State,
    due: Time,
    #[serde(default)]
    attempt: u32,
    #[serde(default)]
    failures: u32,
    #[serde(default)]
    resume: bool,
    submitted: Time,
    started: Option<Time>,
    worker: Option<WorkerId>,
    #[serde(default)]
    why: String,
    result: Option<RunResult>,
    ended: Option<Time>,
    #[serde(default)]
    dead: bool,
}

/// Reads a run's record; of one that is known only what may have changed.
fn read(record: &[u8], known: Option<&Arc<Run>>) -> Result<Run, serde_json::Error> {
    let Some(known) = known else { return serde_json::from_slice(record) };
    let Progress { id, state, due, attempt, failures, resume, submitted, started, worker, why, result, ended, dead } =
        serde_json::from_slice(record)?;
    let order = known.order.clone();
    Ok(Run { id, order, state, due, attempt, failures, resume, submitted, started, worker, why, result, ended, dead })
}

impl Known {
    /// Takes in a change of a key; `None`: it is gone. `false`: it is only a sign of life.
    pub(super) fn apply(&mut self, key: &[u8], value: Option<&[u8]>, revision: i64) -> bool {
        self.revision = self.revision.max(revision);
        let rest = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(JOBS)?.strip_prefix("queue/"));
        let Some((kind, rest)) = rest.and_then(|rest| rest.split_once('/')) else { return false };
        match kind {
            "live" => {
                let Ok(id) = rest.parse::<RunId>() else { return false };
                let run = value.map(|value| read(value, self.queue.get(&id)));
                match run.transpose() {
                    Ok(run) => self.put(&id, run.map(Arc::new), revision),
                    Err(error) => tracing::warn!(run = %id, %error, "passed over a run that cannot be read"),
                }
            }
            "slot" => {
                let Some((slot, place)) = rest.split_once('/') else { return false };
                let holder = value.and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
                if let Ok(place) = place.parse() {
                    self.queue.hold(slot, place, holder);
                }
            }
            "worker" => {
                let Some(worker) = value.and_then(|value| serde_json::from_slice::<Worker>(value).ok()) else {
                    return self.workers.remove(rest).is_some();
                };
                let was = self.workers.insert(rest.into(), Here { worker, revision, since: Instant::now() });
                let is = self.workers.get(rest).map(|here| &here.worker);
                return was.as_ref().map(|was| &was.worker) != is;
            }
            "cancel" => {
                let Ok(id) = rest.parse::<RunId>() else { return false };
                match value {
                    Some(by) => drop(self.cancels.insert(id, String::from_utf8_lossy(by).into_owned())),
                    None => drop(self.cancels.remove(&id)),
                }
            }
            _ => return false,
        }
        true
    }

    /// What was known of workers before everything was read anew: when they were last heard of.
    pub(super) fn remember(&mut self, before: &Known) {
        for (id, here) in &mut self.workers {
            if let Some(was) = before.workers.get(id).filter(|was| was.revision == here.revision) {
                here.since = was.since;
            }
        }
    }

    /// Takes in a run, unless something newer of it is known.
    pub(super) fn put(&mut self, id: &RunId, run: Option<Arc<Run>>, revision: i64) {
        if self.fences.get(id).is_some_and(|known| *known > revision) {
            return;
        }
        let run = run.filter(|run| !run.state.is_final());
        match &run {
            Some(_) => drop(self.fences.insert(id.clone(), revision)),
            // The watch is there already, or will bring nothing older: revisions come in order.
            None if self.revision >= revision => drop(self.fences.remove(id)),
            None => drop(self.fences.insert(id.clone(), revision)),
        }
        self.queue.put(id, run);
    }

    /// Everything up to here is known.
    pub(super) fn revision(&self) -> i64 {
        self.revision
    }

    pub(super) fn fence(&self, id: &RunId) -> Option<i64> {
        self.fences.get(id).copied()
    }

    /// A change of a run that is known; the places that it holds are given back.
    pub(super) fn change(&self, run: &Arc<Run>, next: Run) -> Option<Change> {
        let fence = self.fence(&run.id)?;
        let free = self.queue.held_by(run);
        Some(Change { id: run.id.clone(), fence, run: next, take: Vec::new(), free })
    }
}
