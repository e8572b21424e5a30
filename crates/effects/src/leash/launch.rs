//! The launcher: becomes the program.

use super::NOT_RUN;
use crate::error::reason;
use rustix::process::{Resource, Rlimit, Signal};
use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// `words`: the holder's pid, the memory of each process in MiB, then program and arguments.
pub(super) fn launch(words: Vec<OsString>) -> ExitCode {
    let refusal = become_program(words);
    let _ = io::Write::write_all(&mut io::stderr(), format!("regrow: {refusal}\n").as_bytes());
    ExitCode::from(NOT_RUN)
}

/// Returns only when it failed.
fn become_program(words: Vec<OsString>) -> String {
    let mut words = words.into_iter();
    let number = |word: Option<OsString>| word.and_then(|word| word.to_str()?.parse::<u64>().ok());
    let (holder, memory, program) = (number(words.next()), number(words.next()), words.next());
    let (Some(holder), Some(memory_mib), Some(program)) = (holder, memory, program) else {
        return "the command is empty".to_owned();
    };
    let bytes = memory_mib.saturating_mul(1 << 20);
    let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
    if let Err(source) = rustix::process::setrlimit(Resource::Data, limit) {
        return format!("cannot bound its memory: {source}");
    }
    // What its group and its terminal are is no business of the worker's.
    if let Err(source) = rustix::process::setsid() {
        return format!("cannot begin a session: {source}");
    }
    crate::shim::default_signals();
    if let Err(source) = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)) {
        return format!("cannot tie it to its leash: {source}");
    }
    let parent = rustix::process::getppid().map(|parent| u64::from(parent.as_raw_pid().unsigned_abs()));
    if parent != Some(holder) {
        return "its leash is gone".to_owned();
    }
    let source = Command::new(&program).args(words).exec();
    let program = program.display();
    match source.kind() {
        io::ErrorKind::NotFound => format!("there is no program `{program}` here: install it or correct the command"),
        io::ErrorKind::PermissionDenied => {
            format!("not allowed to run {program}: it must be a file with the x permission")
        }
        _ => format!("cannot run {program}: {}", reason(&source)),
    }
}
