//! The shim: a tiny process beside every instance, so that instances outlive the agent.
//!
//! The same binary runs in two roles:
//! - **hold** is started by the agent, in a session of its own. It holds the slot's lock, starts the launcher, keeps
//!   the output, waits for the end and notes it. It has one thread and no runtime.
//! - **launch** is started by the holder as the head of the instance's process group. It sets limits and user, asks
//!   the kernel for SIGKILL should the holder die, and becomes the program (exec). Doing this in a process of its own
//!   rather than between fork and exec needs no unsafe code.
//!
//! Guarantees: at most one shim for a slot; an instance never runs without its shim; how it ended is on disk before
//! the shim ends; nothing that the instance left behind outlives the shim. Design: `docs/design/0004-shim.md`.

mod hold;
mod keep;
mod launch;
mod line;

pub(crate) use launch::default_signals;

use std::ffi::OsString;
use std::process::ExitCode;

/// First argument of the holder.
pub(crate) const HOLD: &str = "hold";
/// First argument of the launcher.
pub(crate) const LAUNCH: &str = "launch";

/// The body of the hidden subcommand. `args`: what follows the leading arguments of [`crate::ShimCommand`].
///
/// Call it before anything else in `main`, before a runtime or a thread is started.
pub fn shim_main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match args.into_iter().next().as_ref().and_then(|role| role.to_str()) {
        Some(HOLD) => hold::hold(),
        Some(LAUNCH) => launch::launch(),
        _ => ExitCode::from(2),
    }
}
