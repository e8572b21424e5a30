//! How commands end: the codes of `docs/reference/exit-codes.md`.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

/// Why a command failed: its exit code, and what a person is told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    pub(crate) code: Code,
    /// What happened, to what, why, and what to do next.
    pub(crate) message: String,
}

/// Exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// It was tried and failed.
    Failed = 1,
    /// The command line, the spec or another input makes no sense.
    Usage = 2,
    /// Refused by the governor or by a rule.
    Refused = 3,
    /// There is no such object.
    NotFound = 4,
    /// The agent or the store cannot be reached.
    Unreachable = 5,
    /// It took too long.
    TimedOut = 6,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Display) -> Failure {
        Failure { code, message: message.to_string() }
    }

    pub(crate) fn failed(message: impl Display) -> Failure {
        Failure::new(Code::Failed, message)
    }

    pub(crate) fn usage(message: impl Display) -> Failure {
        Failure::new(Code::Usage, message)
    }
}

/// Says why it failed, and with which code to end.
pub(crate) fn report(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "regrow: {}", failure.message.trim_end());
            ExitCode::from(failure.code as u8)
        }
    }
}

/// Writes data to standard output. A pipe that was closed is success: the reader has had enough.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    print_bytes(text.as_bytes())
}

/// The same of any bytes, as they are.
pub(crate) fn print_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::failed(format!("cannot write to standard output: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Writes a value as indented JSON to standard output.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|error| Failure::failed(format!("cannot write JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Tells a person something, beside the data.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Whether standard output takes colours: a terminal, and `NO_COLOR` is not set.
pub(crate) fn colours() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) && rustix::termios::isatty(std::io::stdout())
}
