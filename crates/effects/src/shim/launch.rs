//! The launcher: becomes the instance's program.

use crate::error::{error, io_error, kind_of, reason};
use crate::instance::record::Launch;
use nix::sys::signal::{SigHandler, SigSet};
use nix::unistd::User;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::spec::Limits;
use rustix::process::{Resource, Rlimit, Signal};
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// Reads the [`Launch`] from standard input, a socket, and becomes the program; answers there only when it cannot.
pub(super) fn launch() -> ExitCode {
    // The copy closes itself at exec: its end is how the holder learns that the program runs.
    let Ok(mut holder) = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) else {
        return ExitCode::FAILURE;
    };
    let mut order = Vec::new();
    let launch: Launch = match holder.read_to_end(&mut order).map(|_| serde_json::from_slice(&order)) {
        Ok(Ok(launch)) => launch,
        // The holder died while it wrote, and nobody is left to be told.
        _ => return ExitCode::FAILURE,
    };
    let refusal = become_program(&launch);
    let _ = serde_json::to_vec(&refusal).map(|answer| holder.write_all(&answer));
    ExitCode::FAILURE
}

/// Returns only when it failed.
fn become_program(launch: &Launch) -> WorldError {
    let process = &launch.process;
    let Some((program, arguments)) = process.command.split_first() else {
        return refuse(launch, WorldErrorKind::NotFound, "its command is empty");
    };
    if let Err(refused) = set_limits(&process.limits) {
        return refuse(launch, refused.kind, &refused.text);
    }
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    if let Some(user) = &process.user {
        match become_user(user) {
            Ok(user) => {
                command.env("HOME", user.dir);
            }
            Err(refused) => return refuse(launch, refused.kind, &refused.text),
        }
    }
    command.envs(&process.environment);
    if let Err(source) = std::env::set_current_dir(&process.directory) {
        let refused = io_error(format!("cannot enter its working directory {}", process.directory), &source);
        return refuse(launch, refused.kind, &refused.text);
    }
    default_signals();
    // Behind the change of user, which clears it.
    if let Err(source) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return refuse(launch, WorldErrorKind::Other, &format!("cannot tie it to its shim: {source}"));
    }
    if rustix::process::getppid().map(|parent| parent.as_raw_pid().unsigned_abs()) != Some(launch.shim) {
        return refuse(launch, WorldErrorKind::Other, "its shim is gone");
    }
    let source = command.exec();
    let why = match source.kind() {
        io::ErrorKind::NotFound if program.contains('/') && Path::new(program).exists() => {
            format!("cannot run {program}: the interpreter that its first line names does not exist")
        }
        io::ErrorKind::NotFound if program.contains('/') => {
            format!("there is no program {program}: install it or correct `command`")
        }
        io::ErrorKind::NotFound => {
            format!("there is no program `{program}` in PATH: install it or write its absolute path")
        }
        io::ErrorKind::PermissionDenied => {
            format!("not allowed to run {program}: it must be a file with the x permission for the user")
        }
        _ => format!("cannot run {program}: {}", reason(&source)),
    };
    refuse(launch, kind_of(&source), &why)
}

/// Undoes what the agent inherited: a shell that starts it in the background, or `nohup`, has it ignore signals, and
/// what is ignored stays so in every program after it. An instance that is stopped by SIGINT would never notice.
#[expect(unsafe_code, reason = "setting any signal's action is unsafe to nix, for the handlers that it could be given")]
pub(crate) fn default_signals() {
    let _ = SigSet::empty().thread_set_mask();
    for signal in nix::sys::signal::Signal::iterator() {
        // SAFETY: no handler is set, and this process has one thread. That SIGKILL and SIGSTOP refuse is as it should be.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
}

fn refuse(launch: &Launch, kind: WorldErrorKind, why: &str) -> WorldError {
    error(kind, format!("cannot start {}: {why}", launch.instance))
}

fn set_limits(limits: &Limits) -> Result<(), WorldError> {
    let mib = |count: u64| count.saturating_mul(1 << 20);
    let wanted = [
        (Resource::Nofile, "open_files", limits.open_files),
        (Resource::Nproc, "processes", limits.processes),
        (Resource::As, "memory_mib", limits.memory_mib.map(mib)),
        (Resource::Fsize, "file_size_mib", limits.file_size_mib.map(mib)),
    ];
    for (resource, name, value) in wanted {
        let Some(value) = value else { continue };
        let limit = Rlimit { current: Some(value), maximum: Some(value) };
        rustix::process::setrlimit(resource, limit)
            .map_err(|source| io_error(format!("cannot set its limit {name} to {value}"), &io::Error::from(source)))?;
    }
    Ok(())
}

/// Takes on a user by name or number, with all of the user's groups.
fn become_user(name: &str) -> Result<User, WorldError> {
    let user = crate::owner::user(name)?;
    let change = || {
        let c_name = CString::new(user.name.as_bytes()).map_err(|_| nix::errno::Errno::EINVAL)?;
        nix::unistd::initgroups(&c_name, user.gid)?;
        nix::unistd::setgid(user.gid)?;
        nix::unistd::setuid(user.uid)
    };
    if nix::unistd::geteuid() != user.uid || nix::unistd::getegid() != user.gid {
        change().map_err(|source| {
            let why = format!("cannot become user {}", OsStr::new(name).display());
            io_error(why, &io::Error::from(source))
        })?;
    }
    Ok(user)
}
