//! Noticing an end at once: the kernel makes a pidfd readable when its process ends (pidfd_open(2)).

use super::record::{Folder, State};
use super::{Instances, Watched, unseen};
use crate::error::io_error;
use crate::pidfd::Pidfd;
use crate::proc;
use regrow_model::observed::WorldError;
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{InstanceId, Observation};
use rustix::process::{PidfdFlags, Signal};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch as channel;

/// Longest wait for the shim's note of how its process ended, before the end is told without it: news of a death is
/// worth more than its cause.
const EXIT_WAIT_MAX: Duration = Duration::from_millis(50);
/// Time between two looks for the note.
const EXIT_LOOK_EVERY: Duration = Duration::from_millis(1);
/// Most rounds of ending what a dead shim left behind; each kills every process that is there, so more than a few
/// mean that something cannot be killed.
const SWEEP_ROUNDS_MAX: usize = 100;

impl Instances {
    /// Watches a process that is alive. An error means that it has ended meanwhile.
    pub(super) fn watch(
        &self,
        instance: &InstanceId,
        state: State,
        folder: Folder,
    ) -> Result<Arc<Watched>, WorldError> {
        let mut all = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = all.get(instance).filter(|watched| watched.state == state) {
            return Ok(watched.clone());
        }
        let process = Pidfd::open(state.process)
            .map_err(|source| io_error(format!("cannot watch {instance} (pid {})", state.process.pid), &source))?;
        // A shim that is gone already counts as gone, below.
        let shim = Pidfd::open(state.shim).ok();
        let (exit, _) = channel::channel(None);
        let watched = Arc::new(Watched { state, folder, exit, stopping: Mutex::new(false) });
        all.insert(instance.clone(), watched.clone());
        let (instance, seen, observed) = (instance.clone(), self.seen.clone(), watched.clone());
        tokio::spawn(async move {
            let exit = observed.end(process, shim).await;
            // Under the lock, so that a stop that begins now either is told of or sees the end.
            let told = {
                let stopping = observed.stopping.lock().unwrap_or_else(PoisonError::into_inner);
                observed.exit.send_replace(Some(exit.clone()));
                *stopping
            };
            if !told {
                let incarnation = observed.state.incarnation;
                // Fails only when the agent ends, and then it will be found again.
                let process = Some(observed.state.process);
                let _ = seen.send(Observation::Exited { instance, incarnation, process, exit }).await;
            }
        });
        Ok(watched)
    }
}

impl Watched {
    /// Waits for the end. When the shim ends first, the instance is ended too: without a shim its output blocks it
    /// and its end is lost.
    async fn end(&self, process: Pidfd, shim: Option<Pidfd>) -> Exit {
        let shim_ended = async {
            // A shim that could not be opened has ended before.
            if let Some(shim) = &shim {
                shim.ended().await;
            }
            sweep(&self.state).await;
        };
        let process_ended = process.ended();
        {
            let (mut shim_ended, mut process_ended) = (std::pin::pin!(shim_ended), std::pin::pin!(process_ended));
            std::future::poll_fn(|context| match process_ended.as_mut().poll(context) {
                std::task::Poll::Ready(()) => std::task::Poll::Ready(()),
                std::task::Poll::Pending => shim_ended.as_mut().poll(context),
            })
            .await;
        }
        let exit = ended(&self.folder, self.state.incarnation).await;
        sweep(&self.state).await;
        exit
    }
}

/// How a life ended, as far as its shim notes it within [`EXIT_WAIT_MAX`].
pub(super) async fn ended(folder: &Folder, incarnation: u64) -> Exit {
    let begun_at = tokio::time::Instant::now();
    loop {
        if let Some(exit) = folder.exit_of(incarnation) {
            return exit;
        }
        let noting = folder.state().is_some_and(|state| proc::is_alive(state.shim));
        if !noting || begun_at.elapsed() >= EXIT_WAIT_MAX {
            // The note may have come between the two looks.
            return folder.exit_of(incarnation).unwrap_or_else(unseen);
        }
        tokio::time::sleep(EXIT_LOOK_EVERY).await;
    }
}

/// Ends everything that a shim which is gone left behind: all that is still in the session that it led.
pub(super) async fn sweep(state: &State) {
    if !state.is_of_this_boot() || proc::is_alive(state.shim) {
        return;
    }
    for _ in 0..SWEEP_ROUNDS_MAX {
        // A session's id is not given to another process while the session has members, so these are ours; but a
        // session whose members are all gone may be anybody's by now, and then its leader is alive and younger.
        if proc::stat(state.shim.pid).is_some_and(|stat| stat.id != state.shim) {
            return;
        }
        let session = state.shim.pid;
        let left: Vec<ProcessId> =
            proc::all().filter(|stat| stat.session == session && stat.state != b'Z').map(|stat| stat.id).collect();
        if left.is_empty() {
            return;
        }
        for id in left {
            // By pidfd, checked once more behind the opening: it then is this process and no other.
            if let Ok(pidfd) = rustix::process::pidfd_open(crate::signal::pid(id.pid), PidfdFlags::empty())
                && proc::is_there(id)
            {
                let _ = rustix::process::pidfd_send_signal(&pidfd, Signal::KILL);
            }
        }
        tokio::time::sleep(EXIT_LOOK_EVERY).await;
    }
}
