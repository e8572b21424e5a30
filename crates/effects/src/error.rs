//! How the world's refusals are named: every one says what, to what, why, and where it helps what to do.

use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::{Outcome, limits};
use std::fmt::Display;
use std::io;

/// An error of `kind`; of a text longer than [`limits::OUTPUT_BYTES_MAX`] bytes both ends are kept, because it goes
/// into a record.
pub(crate) fn error(kind: WorldErrorKind, text: impl Into<String>) -> WorldError {
    WorldError { kind, text: crate::output::condense(text.into(), limits::OUTPUT_BYTES_MAX) }
}

/// Names an operating system's error: `what` is a clause with the verb and the object, `cannot write /etc/x.cfg`.
pub(crate) fn io_error(what: impl Display, source: &io::Error) -> WorldError {
    let kind = kind_of(source);
    let hint = match kind {
        WorldErrorKind::DiskFull => "; free some space or raise the quota",
        WorldErrorKind::Permission => "; run Regrow as a user that may, or change the permissions",
        _ => "",
    };
    error(kind, format!("{what}: {}{hint}", reason(source)))
}

/// Sorts an operating system's error.
pub(crate) fn kind_of(source: &io::Error) -> WorldErrorKind {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => WorldErrorKind::NotFound,
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => WorldErrorKind::Permission,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => WorldErrorKind::DiskFull,
        io::ErrorKind::TimedOut => WorldErrorKind::Timeout,
        io::ErrorKind::ConnectionRefused => WorldErrorKind::Refused,
        io::ErrorKind::AddrInUse => WorldErrorKind::PortInUse,
        _ => WorldErrorKind::Other,
    }
}

/// The system's words for an error, without Rust's `(os error N)`, as a lower-case fragment.
pub(crate) fn reason(source: &io::Error) -> String {
    let text = source.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    match letters.next() {
        // `I/O error` keeps its capitals.
        Some(first) if !letters.as_str().starts_with(|next: char| next == '/' || next.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// A failed action.
pub(crate) fn failed(stage: impl Into<Option<Stage>>, error: WorldError) -> Outcome {
    Outcome::Failed { stage: stage.into(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that people read the system's reason as a fragment, with a hint where something can be done.
    #[test]
    fn names_the_refusal() {
        let full = io_error("cannot write /x", &io::Error::from_raw_os_error(28));
        assert_eq!(full.kind, WorldErrorKind::DiskFull);
        assert_eq!(full.text, "cannot write /x: no space left on device; free some space or raise the quota");
        assert_eq!(reason(&io::Error::from_raw_os_error(5)), "input/output error");
    }
}
