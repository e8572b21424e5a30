//! Instances as processes of this node: started, found again, watched and stopped.
//!
//! The agent holds nothing that an instance needs: it may be killed at any time, and finds everything again through
//! `DATA/instances/` ([`record`]). Identity is pid and start time, so a pid that the kernel gave to somebody else is
//! never taken for an instance.

pub(crate) mod record;
mod start;
mod stop;
mod watch;

use crate::proc;
use record::{Folder, State, now};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Found, InstanceId, Observation};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch as channel};

/// How to run this same program as a shim.
#[derive(Clone, Debug)]
pub struct ShimCommand {
    /// The program, an absolute path.
    pub program: PathBuf,
    /// Arguments that lead to [`crate::shim_main`].
    pub arguments: Vec<String>,
}

/// The instances of one node.
#[derive(Debug)]
pub(crate) struct Instances {
    data: PathBuf,
    shim: ShimCommand,
    seen: mpsc::Sender<Observation>,
    watched: Mutex<BTreeMap<InstanceId, Arc<Watched>>>,
}

/// A process that is watched.
#[derive(Debug)]
struct Watched {
    state: State,
    folder: Folder,
    /// How it ended; set once, by the watch.
    exit: channel::Sender<Option<Exit>>,
    /// A stop is under way: its outcome tells of the end, and no observation does.
    stopping: Mutex<bool>,
}

impl Instances {
    pub(crate) fn new(data: PathBuf, shim: ShimCommand, seen: mpsc::Sender<Observation>) -> Instances {
        Instances { data, shim, seen, watched: Mutex::default() }
    }

    /// Where an instance's files are.
    pub(crate) fn folder(&self, instance: &InstanceId) -> Folder {
        Folder::of(&self.data, instance)
    }

    /// The process of a life, when it is alive.
    pub(crate) fn process(&self, instance: &InstanceId, incarnation: u64) -> Option<ProcessId> {
        let state = self.folder(instance).state().filter(|state| state.incarnation == incarnation)?;
        state.alive()
    }

    /// Finds every instance of an earlier life of the agent, and watches those that are alive.
    pub(crate) async fn adopt(&self) -> Vec<Found> {
        let mut found = Vec::new();
        for instance in ids(&self.data.join("instances")) {
            let folder = self.folder(&instance);
            wait_for_a_beginning(&folder).await;
            let Some(state) = folder.state() else { continue };
            let incarnation = state.incarnation;
            let (process, exit) = match state.alive() {
                Some(process) => match self.watch(&instance, state, folder.clone()) {
                    Ok(_) => (Some(process), None),
                    Err(_) => (None, Some(watch::ended(&folder, incarnation).await)),
                },
                None => {
                    watch::sweep(&state).await;
                    (None, Some(watch::ended(&folder, incarnation).await))
                }
            };
            found.push(Found { instance, incarnation, process, exit });
        }
        found
    }

    fn watched(&self, instance: &InstanceId) -> Option<Arc<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).get(instance).cloned()
    }
}

/// The instances that have a folder, in order.
fn ids(folder: &Path) -> Vec<InstanceId> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut ids: Vec<InstanceId> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    ids.sort();
    ids
}

/// A shim that holds the slot but has not noted its process yet was ordered just before the agent died.
async fn wait_for_a_beginning(folder: &Folder) {
    /// Longest wait: a shim needs milliseconds.
    const WAIT_MAX: Duration = Duration::from_secs(5);
    const LOOK_EVERY: Duration = Duration::from_millis(5);
    let begun_at = tokio::time::Instant::now();
    while begun_at.elapsed() < WAIT_MAX && is_locked(folder) {
        if folder.state().is_some_and(|state| state.is_of_this_boot() && proc::is_alive(state.shim)) {
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a shim holds the slot. It is asked with a shared lock, for a moment: a shim that begins just then tries
/// again.
fn is_locked(folder: &Folder) -> bool {
    std::fs::File::open(folder.lock())
        .is_ok_and(|lock| rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_err())
}

/// An end that nobody saw.
fn unseen() -> Exit {
    Exit { code: None, signal: None, at: now(), tail: String::new() }
}
