//! The holder.

use super::{KILLED, LAUNCH, LIFE, NOT_RUN, family, monotonic_millis};
use nix::sys::signal::{SigHandler, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use std::ffi::OsString;
use std::os::fd::AsFd;
use std::process::{Command, ExitCode, Stdio};

/// Longest of what the worker says without a line's end.
const WORD_BYTES_MAX: usize = 256;

/// How a program ended.
pub(super) enum End {
    Exited(i32),
    Killed,
}

/// `words`: the memory of each process in MiB, then program and arguments.
pub(super) fn hold(words: Vec<OsString>) -> ExitCode {
    let refuse = |why: String| {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("regrow leash: {why}\n").as_bytes());
        ExitCode::from(NOT_RUN)
    };
    ignore_signals();
    if let Err(error) = rustix::process::set_child_subreaper(Some(rustix::process::getpid())) {
        return refuse(format!("cannot look after what the run starts: {error}"));
    }
    // Also when its file was replaced by an upgrade meanwhile (proc(5)).
    let mut command = Command::new("/proc/self/exe");
    command.args(["leash", LAUNCH]).arg(std::process::id().to_string()).args(words).stdin(Stdio::null());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return refuse(format!("cannot start its launcher: {error}")),
    };
    let pid = crate::signal::pid(child.id());
    let end = watch(pid);
    let status = match end {
        End::Exited(code) => {
            family::end_all(family::Spare::Connections);
            u8::try_from(code).unwrap_or(1)
        }
        End::Killed => {
            family::end_all(family::Spare::Nothing);
            KILLED
        }
    };
    ExitCode::from(status)
}

/// Waits for the end of the program, or of the right to run it.
fn watch(pid: Pid) -> End {
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else { return End::Killed };
    let stdin = std::io::stdin();
    let mut ears = Ears { heard: Vec::new(), beat: monotonic_millis() };
    loop {
        let life = u64::try_from(LIFE.as_millis()).unwrap_or(u64::MAX);
        let left = (ears.beat + life).saturating_sub(monotonic_millis());
        if left == 0 {
            return End::Killed;
        }
        let mut ready = [PollFd::new(&pidfd, PollFlags::IN), PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)];
        let wait = Timespec {
            tv_sec: i64::try_from(left / 1_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(left % 1_000).unwrap_or(0) * 1_000_000,
        };
        match poll(&mut ready, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return End::Killed,
        }
        let (ended, said) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if ended {
            return reap(pid);
        }
        if said {
            match ears.listen() {
                Heard::Kill => return End::Killed,
                Heard::Term => {
                    let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::TERM);
                }
                Heard::Nothing => {}
            }
        }
    }
}

/// Asks for the program's end, which lets its pid go.
fn reap(pid: Pid) -> End {
    match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED) {
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => End::Exited(code),
            (None, Some(signal)) => End::Exited(128 + signal),
            (None, None) => End::Killed,
        },
        _ => End::Killed,
    }
}

/// What the worker says.
struct Ears {
    heard: Vec<u8>,
    /// When the worker's last good beat began, of the monotonic clock.
    beat: u64,
}

enum Heard {
    Nothing,
    Term,
    Kill,
}

impl Ears {
    fn listen(&mut self) -> Heard {
        let mut bytes = [0; WORD_BYTES_MAX];
        // Not by the library's buffer: what lies in it does not wake `poll`.
        let count = match rustix::io::read(std::io::stdin(), &mut bytes) {
            Ok(0) => return Heard::Kill,
            Ok(count) => count,
            Err(rustix::io::Errno::INTR) => return Heard::Nothing,
            Err(_) => return Heard::Kill,
        };
        self.heard.extend_from_slice(&bytes[..count]);
        let mut answer = Heard::Nothing;
        while let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.heard.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            match line.trim().split_once(' ') {
                Some(("beat", at)) => self.beat = at.parse().unwrap_or(self.beat).max(self.beat),
                None if line.trim() == "term" => answer = Heard::Term,
                // `kill`, or what only a broken worker says.
                _ => return Heard::Kill,
            }
        }
        if self.heard.len() > WORD_BYTES_MAX { Heard::Kill } else { answer }
    }
}

/// A signal for the worker's group must not end who looks after what the worker started.
#[expect(unsafe_code, reason = "setting any signal's action is unsafe to nix, for the handlers that it could be given")]
fn ignore_signals() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: no handler is set, and this process has one thread.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigIgn) };
    }
}
