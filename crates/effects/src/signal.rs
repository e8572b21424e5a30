//! Signals by name.

use crate::error::error;
use nix::sys::signal::Signal;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::process::ProcessId;
use rustix::process::{Pid, kill_process, kill_process_group};

/// The signal of a name as `TERM`, `USR2` (also `SIGTERM`).
pub(crate) fn named(name: &str) -> Result<Signal, WorldError> {
    let short = name.strip_prefix("SIG").unwrap_or(name);
    format!("SIG{short}")
        .parse()
        .map_err(|_| error(WorldErrorKind::NotFound, format!("`{name}` is no signal: use a name as TERM, HUP or USR2")))
}

/// Sends a signal to the very process; `false` when it is gone.
pub(crate) fn send(process: ProcessId, signal: Signal) -> Result<bool, rustix::io::Errno> {
    if !crate::proc::is_there(process) {
        return Ok(false);
    }
    found(kill_process(pid(process.pid), of(signal)))
}

/// Sends a signal to the group that the process leads; `false` when nobody is left in it.
///
/// A group's id cannot be given to another process while a member is left, and members hold it until their parent,
/// the shim, has asked for them.
pub(crate) fn send_group(process: ProcessId, signal: Signal) -> Result<bool, rustix::io::Errno> {
    found(kill_process_group(pid(process.pid), of(signal)))
}

fn found(sent: Result<(), rustix::io::Errno>) -> Result<bool, rustix::io::Errno> {
    match sent {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::SRCH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A pid for the system's calls. `0` would mean our own group, so it becomes one that nobody has.
pub(crate) fn pid(pid: u32) -> Pid {
    let raw = i32::try_from(pid).ok().filter(|raw| *raw > 1).unwrap_or(i32::MAX);
    Pid::from_raw(raw).unwrap_or(Pid::INIT)
}

/// Both libraries name the same signals; the one cannot parse, the other cannot open a pidfd.
fn of(signal: Signal) -> rustix::process::Signal {
    rustix::process::Signal::from_named_raw(signal as i32).unwrap_or(rustix::process::Signal::TERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows both spellings, and that what is no signal is refused by name.
    #[test]
    fn names() {
        assert_eq!(named("USR2"), Ok(Signal::SIGUSR2));
        assert_eq!(named("SIGHUP"), Ok(Signal::SIGHUP));
        assert!(named("PLEASE").unwrap_err().text.contains("`PLEASE` is no signal"));
        assert!(Signal::iterator().all(|signal| of(signal).as_raw() == signal as i32));
    }
}
