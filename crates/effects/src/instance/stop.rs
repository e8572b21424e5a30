//! Stopping an instance: a signal to its group, a grace, SIGKILL.

use super::record::{State, Stopping, now};
use super::{Instances, Watched, unseen, watch};
use crate::error::{error, failed, io_error};
use crate::proc;
use nix::sys::signal::Signal;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::process::Exit;
use regrow_model::{InstanceId, Outcome};
use std::io;
use std::sync::PoisonError;
use std::time::Duration;

/// Longest wait for the end of a killed process: only one in an uninterruptible call takes longer.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);
/// Time between two looks for the end of the shim.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// How a stop is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    pub(super) signal: Signal,
    pub(super) grace: Duration,
}

impl Instances {
    /// Stops a life, or finds it gone.
    pub(crate) async fn stop(&self, instance: &InstanceId, incarnation: u64, signal: &str, grace: Duration) -> Outcome {
        match self.try_stop(instance, incarnation, signal, grace).await {
            Ok(exit) => Outcome::Stopped { exit },
            Err(error) => failed(None, error),
        }
    }

    async fn try_stop(
        &self,
        instance: &InstanceId,
        incarnation: u64,
        signal: &str,
        grace: Duration,
    ) -> Result<Exit, WorldError> {
        let signal = crate::signal::named(signal)?;
        let folder = self.folder(instance);
        super::wait_for_a_beginning(&folder).await;
        let Some(state) = folder.state().filter(|state| state.incarnation == incarnation) else {
            // Another life has the slot, or none ever had: this one is not there.
            return Ok(unseen());
        };
        let known = self.watched(instance).filter(|watched| watched.state == state);
        let watched = match known {
            Some(watched) => Some(watched),
            // An error means that it has ended just now.
            None if state.alive().is_some() => self.watch(instance, state.clone(), folder.clone()).ok(),
            None => None,
        };
        let Some(watched) = watched else {
            let gone = tokio::time::timeout(KILL_WAIT_MAX, shim_gone(&state)).await;
            gone.map_err(|_| hangs(&state))?;
            watch::sweep(&state).await;
            return Ok(folder.exit_of(incarnation).unwrap_or_else(unseen));
        };
        stop(&watched, incarnation, Manner { signal, grace }).await
    }
}

/// Stops what is watched. When it is over nothing is left: neither process, nor group, nor shim.
pub(super) async fn stop(watched: &Watched, incarnation: u64, manner: Manner) -> Result<Exit, WorldError> {
    *watched.stopping.lock().unwrap_or_else(PoisonError::into_inner) = true;
    let process = watched.state.process;
    let mut exit = watched.exit.subscribe();
    let ended = async {
        let exit = exit.wait_for(Option::is_some).await.ok().and_then(|exit| exit.clone()).unwrap_or_else(unseen);
        shim_gone(&watched.state).await;
        // The note may have come later than the watch would wait for it.
        watched.folder.exit_of(incarnation).unwrap_or(exit)
    };
    let mut ended = std::pin::pin!(ended);
    let cannot = |signal: Signal, source: rustix::io::Errno| {
        // Not told of by us, so the watch must.
        *watched.stopping.lock().unwrap_or_else(PoisonError::into_inner) = false;
        io_error(format!("cannot send {signal} to the group of pid {}", process.pid), &io::Error::from(source))
    };

    if watched.state.alive().is_some() && !manner.grace.is_zero() {
        let stopping = Stopping { incarnation, polite_until: now().after(manner.grace) };
        // Without it, what outlives the process has no grace; the stop goes on all the same.
        let _ = crate::durable::write_json(&watched.folder.stop_file(), &stopping);
        crate::signal::send_group(process, manner.signal).map_err(|source| cannot(manner.signal, source))?;
        if let Ok(exit) = tokio::time::timeout(manner.grace, ended.as_mut()).await {
            return Ok(exit);
        }
    }
    // Without it the shim is not polite any more, whatever its clock says.
    let _ = crate::durable::remove(&watched.folder.stop_file());
    if watched.state.alive().is_some() {
        crate::signal::send_group(process, Signal::SIGKILL).map_err(|source| cannot(Signal::SIGKILL, source))?;
    }
    tokio::time::timeout(KILL_WAIT_MAX, ended).await.map_err(|_| {
        *watched.stopping.lock().unwrap_or_else(PoisonError::into_inner) = false;
        hangs(&watched.state)
    })
}

async fn shim_gone(state: &State) {
    while state.is_of_this_boot() && proc::is_alive(state.shim) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn hangs(state: &State) -> WorldError {
    let pid = state.process.pid;
    let text = format!(
        "pid {pid} or what it started is still there {KILL_WAIT_MAX:?} after SIGKILL: it hangs in a system call, see \
         /proc/{pid}/stack"
    );
    error(WorldErrorKind::Timeout, text)
}
