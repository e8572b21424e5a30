//! HAProxy's runtime socket: one command a connection, an answer until its end.
//!
//! Source: HAProxy management guide, section 9.3 "Unix Socket commands".

use crate::error::{error, io_error};
use regrow_model::observed::{WorldError, WorldErrorKind};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest that HAProxy may take to answer a command: it answers between two events, in microseconds.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(5);
/// Largest answer that is read, bytes: `show info` has about 4 KiB.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Longest that a reload may take to come through: the new worker must bind, and be ready to serve.
const RELOAD_WAIT_MAX: Duration = Duration::from_secs(5);
/// Time between two looks for the new worker.
const RELOAD_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Most of an answer that is quoted.
const QUOTED_BYTES_MAX: usize = 512;

/// What HAProxy answers when it has done what it was told. Silence is the usual one; all else is a refusal.
const ACCEPTED: [&str; 5] = [
    "New server registered.",
    "Server deleted.",
    "New map created.",
    "New event handler registered.",
    "Health check/agent already enabled.",
];
/// Commands that set an address answer with the change that they made.
const ACCEPTED_BEGINNINGS: [&str; 5] =
    ["IP changed from ", "port changed from ", "no need to change ", "nothing changed", "FQDN changed from "];

/// Sends one command and gives the answer, trimmed.
pub(crate) async fn ask(socket: &str, command: &str) -> Result<String, WorldError> {
    if command.contains(['\n', '\r']) {
        return Err(error(WorldErrorKind::Other, format!("`{}` is more than one command", command.escape_debug())));
    }
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(command.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, io::Error>(String::from_utf8_lossy(&answer).trim().to_owned())
    };
    let what = || format!("cannot ask HAProxy at {socket}: `{command}`");
    match tokio::time::timeout(ANSWER_WAIT_MAX, exchange).await {
        Ok(answer) => answer.map_err(|source| io_error(what(), &source)),
        Err(_) => Err(error(WorldErrorKind::Timeout, format!("{}: no answer within {ANSWER_WAIT_MAX:?}", what()))),
    }
}

/// Sends commands in order; each must be accepted. Stops at the first that is not: those before it are done.
pub(crate) async fn tell(socket: &str, commands: &[String]) -> Result<(), WorldError> {
    for command in commands {
        let answer = ask(socket, command).await?;
        if !accepts(&answer) {
            let answer = crate::output::cut(answer, QUOTED_BYTES_MAX);
            let text = format!("HAProxy at {socket} refused `{command}`: {answer}");
            return Err(error(WorldErrorKind::Refused, text));
        }
    }
    Ok(())
}

fn accepts(answer: &str) -> bool {
    let fine = |line: &str| {
        ACCEPTED.contains(&line) || ACCEPTED_BEGINNINGS.iter().any(|beginning| line.starts_with(beginning))
    };
    answer.lines().map(str::trim).filter(|line| !line.is_empty()).all(fine)
}

/// The process that answers at the socket.
pub(crate) async fn worker(socket: &str) -> Result<u32, WorldError> {
    let info = ask(socket, "show info").await?;
    info.lines().find_map(|line| line.strip_prefix("Pid: ")?.trim().parse().ok()).ok_or_else(|| {
        let info = crate::output::cut(info.clone(), QUOTED_BYTES_MAX);
        error(WorldErrorKind::Refused, format!("HAProxy at {socket} does not say its Pid in `show info`: {info}"))
    })
}

/// Waits until another worker than `before` answers at the socket.
pub(crate) async fn another_worker(socket: &str, before: Option<u32>) -> Result<u32, WorldError> {
    let begun_at = tokio::time::Instant::now();
    loop {
        let answer = worker(socket).await;
        match answer {
            Ok(pid) if Some(pid) != before => return Ok(pid),
            _ if begun_at.elapsed() < RELOAD_WAIT_MAX => tokio::time::sleep(RELOAD_LOOK_EVERY).await,
            Ok(pid) => {
                let text = format!(
                    "the old worker (pid {pid}) still answers at {socket} {RELOAD_WAIT_MAX:?} after the reload: HAProxy \
                     has refused the files, its output says why"
                );
                return Err(error(WorldErrorKind::Refused, text));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows which answers mean done; anything unknown is a refusal.
    #[test]
    fn answers() {
        for answer in ["", "New server registered.", "IP changed from '127.0.0.1' to '127.0.0.2', by stats socket."] {
            assert!(accepts(answer), "{answer}");
        }
        for answer in
            ["No such server.", "Unknown command: 'x'", "Permission denied", "Server deleted.\nNo such server."]
        {
            assert!(!accepts(answer), "{answer}");
        }
    }
}
