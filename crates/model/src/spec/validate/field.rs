//! Rules of single values.

use super::super::diagnostic::{Wrongs, quoted};
use super::super::near;
use super::super::tree::At;
use super::Entries;
use crate::Name;
use crate::duration::Span;
use crate::limits::{COMMAND_WORDS_MAX, SPAN_MAX};
use std::time::Duration;

/// Names of signals without `SIG`. Source: signal(7).
const SIGNALS: [&str; 28] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "SYS",
];

/// A span of at most [`SPAN_MAX`].
pub(super) fn span(at: &At<'_>, span: Span, wrong: &mut Wrongs) {
    if span.0 > SPAN_MAX {
        let message = format!("{} is longer than a span may be", quoted(&span.to_string()));
        wrong.value(at, message, format!("the longest is {}", Span(SPAN_MAX)));
    }
}

/// A span that is not zero.
pub(super) fn positive(at: &At<'_>, value: Span, wrong: &mut Wrongs) {
    if value.0 == Duration::ZERO {
        let key = at.path.rsplit('.').next().unwrap_or_default();
        wrong.value(at, format!("`{key}` must be longer than nothing"), format!("for example `{key}: 1s`"));
    }
    span(at, value, wrong);
}

/// A signal by its name.
pub(super) fn signal(at: &At<'_>, signal: &str, refused: &[&str], wrong: &mut Wrongs) {
    if SIGNALS.contains(&signal) {
        if refused.contains(&signal) {
            wrong.value(at, format!("`{signal}` cannot be used here: no program can act on it"), "use `HUP` or `TERM`");
        }
        return;
    }
    let plain = signal.to_ascii_uppercase();
    let plain = plain.strip_prefix("SIG").unwrap_or(&plain);
    let help = if SIGNALS.contains(&plain) {
        format!("write `{plain}`")
    } else {
        near::help(plain, SIGNALS, "signals are named without `SIG`")
    };
    wrong.value(at, format!("{} is not a signal", quoted(signal)), help);
}

/// File permissions in octal.
pub(super) fn mode(at: &At<'_>, mode: &str, wrong: &mut Wrongs) {
    let digits = matches!(mode.len(), 3 | 4) && mode.bytes().all(|b| matches!(b, b'0'..=b'7'));
    if !digits {
        let help = match mode.strip_prefix("0o") {
            Some(octal) => format!("write it without the `o`: `0{octal}`"),
            None => "write three or four octal digits: `0644`".to_owned(),
        };
        wrong.value(at, format!("{} is not a file mode", quoted(mode)), help);
    }
}

/// `user` or `user:group`.
pub(super) fn owner(at: &At<'_>, owner: &str, wrong: &mut Wrongs) {
    let (user, group) = owner.split_once(':').map_or((owner, None), |(user, group)| (user, Some(group)));
    if !is_user(user) || group.is_some_and(|group| !is_user(group)) {
        wrong.value(at, format!("{} is not an owner", quoted(owner)), "write `user` or `user:group`");
    }
}

/// The name of a user.
pub(super) fn user(at: &At<'_>, user: &str, wrong: &mut Wrongs) {
    if !is_user(user) {
        wrong.value(at, format!("{} is not the name of a user", quoted(user)), "for example `user: www-data`");
    }
}

/// What user and group names may hold on Linux: anything but what `/etc/passwd` and paths are cut at. Source:
/// useradd(8), passwd(5).
fn is_user(name: &str) -> bool {
    let wrong = |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '/');
    (1..=32).contains(&name.len()) && !name.starts_with('-') && !name.contains(wrong)
}

/// A path to something; where it begins is no matter.
pub(super) fn path(at: &At<'_>, path: &str, wrong: &mut Wrongs) {
    if path.trim().is_empty() {
        wrong.value(at, "the path is empty", "name a path; a relative one begins at the spec's folder");
    } else if path.contains(char::is_control) {
        wrong.value(at, format!("the path {} has a control character in it", quoted(path)), "leave it out");
    }
}

/// The words of a command. An empty list is none: whether one is needed is for the caller.
pub(super) fn command(at: &At<'_>, command: &[String], wrong: &mut Wrongs) {
    if command.len() > COMMAND_WORDS_MAX {
        let message = format!("the command has {} words; it may have {COMMAND_WORDS_MAX}", command.len());
        wrong.key(at, message, "put them into a script");
    }
    let Some(program) = command.first() else { return };
    if program.trim().is_empty() {
        wrong.value(
            &at.index(0),
            "the program's name is empty",
            "the first word is the program: `[python3, serve.py]`",
        );
    } else if command.len() == 1 && program.contains(' ') {
        let words = program.split_whitespace().collect::<Vec<_>>().join(", ");
        let help = format!("each word is an entry of its own: `[{words}]`; for a shell write `[sh, -c, \"…\"]`");
        wrong.value(&at.index(0), format!("{} is one word, and no program", quoted(program)), help);
    }
}

/// A reference to an object that must be in the spec.
pub(super) fn reference(at: &At<'_>, kind: &str, name: &Name, known: &Entries<'_>, wrong: &mut Wrongs) {
    if !wrong.full() && !known.contains_key(name.as_str()) {
        let what = format!("the {kind}s are");
        let help = if known.is_empty() {
            format!("add it as `{kind}s: {{{name}: …}}`")
        } else {
            near::help(name.as_str(), known.keys().copied(), &what)
        };
        wrong.value(at, format!("there is no {kind} `{name}`"), help);
    }
}

/// A whole `http://` URL.
pub(super) fn url(at: &At<'_>, url: &str, what: &str, example: &str, wrong: &mut Wrongs) {
    let help = match url.strip_prefix("http://") {
        Some(rest) => {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            if is_host(host) && !url.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return;
            }
            format!("for example `{example}`")
        }
        None if url.starts_with("https://") => "checks and probes speak plain HTTP only: use `http://`".to_owned(),
        None => format!("for example `{example}`"),
    };
    wrong.value(at, format!("{} is {what}", quoted(url)), help);
}

/// `address:port`.
pub(super) fn address(at: &At<'_>, address: &str, wrong: &mut Wrongs) {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if !is_host(address) || port.is_none_or(|port| port == 0) {
        let message = format!("{} is not an address with a port", quoted(address));
        wrong.value(at, message, "for example `tcp: \"127.0.0.1:6379\"`");
    }
}

/// `name`, `name:80`, `127.0.0.1:80`, `[::1]:80`.
fn is_host(host: &str) -> bool {
    let (named, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => (address.parse::<std::net::Ipv6Addr>().is_ok(), rest),
        None => {
            let (name, rest) = host.split_at(host.find(':').unwrap_or(host.len()));
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
            (!name.is_empty() && name.bytes().all(plain), rest)
        }
    };
    let port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    named && port
}

#[cfg(test)]
mod tests {
    use super::is_host;

    /// Shows what is taken for a host with or without a port.
    #[test]
    fn hosts() {
        for host in ["localhost", "web-1.local:80", "127.0.0.1:8080", "[::1]:80", "[fe80::1]"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", ":80", "a:0", "a:65536", "a:b", "::1", "[::1]80x", "[web]:80", "a b", "a@b"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
