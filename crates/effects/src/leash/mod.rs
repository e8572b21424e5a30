//! The leash: a tiny process between a worker and what a run starts, so that nothing of a run outlives the right to it.
//!
//! The same binary runs in two roles:
//! - **hold** is started by the worker. It is the reaper of everything that the run starts, reads from its standard
//!   input what the worker says, and kills everything when the worker says so, is gone, or has not said for
//!   [`LIFE`] that its lease lives: a worker that is only paused is over before its runs begin elsewhere. When the
//!   program ends, what it left behind is killed, and the holder ends as the program did.
//! - **launch** is started by the holder, in a session of its own: it sets limits, asks the kernel for SIGKILL should
//!   the holder die, and becomes the program.
//!
//! What the worker says, a line each: `beat MILLIS`, the monotonic clock when the worker's last good beat began;
//! `term`, SIGTERM for the program's group; `kill`, SIGKILL for everything. The end of the input is `kill`.
//!
//! Connections that `ssh` keeps open for the next run live on when the program ends by itself.

mod family;
mod hold;
mod launch;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

/// First argument of the holder.
pub(crate) const HOLD: &str = "hold";
/// First argument of the launcher.
pub(crate) const LAUNCH: &str = "launch";

/// How long a run lives after the beginning of its worker's last good beat: a second less than the worker's lease, and
/// two more than a worker waits before it gives up by itself (`regrow_jobs::limits`).
pub(crate) const LIFE: Duration = Duration::from_secs(7);

/// What a program that was killed by the leash is told to have ended with, as shells have it: 128 and SIGKILL.
pub(crate) const KILLED: u8 = 137;

/// What a program that cannot be run is told to have ended with, as shells have it.
pub(crate) const NOT_RUN: u8 = 127;

pub(crate) use family::end_marked;

/// The body of the hidden subcommand `leash`. `words`: what follows it.
///
/// Call it before anything else in `main`, before a runtime or a thread is started.
pub fn leash_main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut words = words.into_iter();
    match words.next().as_ref().and_then(|role| role.to_str()) {
        Some(HOLD) => hold::hold(words.collect()),
        Some(LAUNCH) => launch::launch(words.collect()),
        _ => ExitCode::from(2),
    }
}

/// The monotonic clock, milliseconds: the same for all processes of a machine.
pub(crate) fn monotonic_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1_000 + nanos / 1_000_000
}
