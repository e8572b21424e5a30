//! A handle on a process that the kernel makes ready when it ends (pidfd_open(2)).

use crate::proc;
use regrow_model::process::ProcessId;
use rustix::process::{PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A process that is waited for, whoever its parent is.
#[derive(Debug)]
pub(crate) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Of the very process. That it has ended before is an error of kind `NotFound`.
    pub(crate) fn open(process: ProcessId) -> io::Result<Pidfd> {
        let pidfd = Pidfd::of_child(process.pid)?;
        // Asked behind the opening: the handle is on this process and no other.
        if proc::is_there(process) { Ok(pidfd) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Of a child that has not been asked for yet, so that its pid cannot be another's.
    #[expect(unsafe_code, reason = "tokio has no safe way to register a descriptor that is not one of its own types")]
    pub(crate) fn of_child(pid: u32) -> io::Result<Pidfd> {
        let pidfd: OwnedFd = pidfd_open(crate::signal::pid(pid), PidfdFlags::empty())?;
        // SAFETY: an `OwnedFd` is open and stays the same descriptor for as long as it lives, and the `AsyncFd` owns it.
        let registered = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        Ok(Pidfd(registered?))
    }

    /// Waits for the end of the process.
    pub(crate) async fn ended(&self) {
        // Fails only when the runtime ends.
        let _ = self.0.readable().await;
    }
}
