//! Running an event handler: a line for the shell, with the agent's own environment and more, and an input to read.
//!
//! As Serf runs its handlers, but bounded: in time, and with nothing left behind.

use crate::error::{error, io_error};
use crate::exec::Group;
use regrow_model::observed::{WorldError, WorldErrorKind};
use std::collections::VecDeque;
use std::io::{self, PipeReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Largest input: what a pipe holds (pipe(7)), so that writing it never waits for the handler to read.
const INPUT_BYTES_MAX: usize = 60 << 10;
/// Longest that output is still taken once the handler has ended.
const DRAIN_WAIT_MAX: Duration = Duration::from_millis(100);
/// One read of output.
const READ_BYTES: usize = 4 << 10;

/// A handler to be run.
#[derive(Clone, Copy, Debug)]
pub struct Script<'a> {
    /// What the shell is given: `/bin/sh -c LINE`.
    pub line: &'a str,
    /// Environment beside the agent's own.
    pub environment: &'a [(String, String)],
    /// Variables of the agent that are not for handlers.
    pub hidden: &'a [&'a str],
    /// Its standard input; at most 60 KiB.
    pub input: &'a [u8],
    /// Longest that it may take; then its process group is killed.
    pub timeout: Duration,
    /// Output kept: the last so many bytes of both its outputs together.
    pub output_max: usize,
}

/// A handler that has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handled {
    /// What it said: the end of it, if it said more than was to be kept.
    pub output: Vec<u8>,
    /// Bytes that it said in all.
    pub said: u64,
}

/// Runs a handler to its end.
///
/// Errors: it could not be run, took too long and was killed, or ended with another code than 0; the text has what it
/// said.
pub async fn handle(script: Script<'_>) -> Result<Handled, WorldError> {
    let line = script.line;
    if script.input.len() > INPUT_BYTES_MAX {
        let text = format!("handler `{line}`: an input of more than {INPUT_BYTES_MAX} bytes");
        return Err(error(WorldErrorKind::Other, text));
    }
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line);
    for name in script.hidden {
        command.env_remove(name);
    }
    command.envs(script.environment.iter().map(|(name, value)| (name, value)));
    let input = script.input.to_vec();
    let spawned = crate::blocking(move || -> io::Result<(Group, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::piped()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A handler need not read what it is told.
            let _ = stdin.write_all(&input);
        }
        Ok((Group::of(child), reader))
    });
    let cannot = |source: io::Error| io_error(format!("cannot run handler `{line}`"), &source);
    let (mut group, reader) = spawned.await?.map_err(cannot)?;
    let ended = group.ended().map_err(cannot)?;
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(cannot)?;
    let mut output = Tail { bytes: VecDeque::new(), most: script.output_max, said: 0 };
    let in_time = tokio::time::timeout(script.timeout, async {
        let mut end = std::pin::pin!(ended.ended());
        let mut taken = std::pin::pin!(output.take(&mut reader));
        let mut all = false;
        std::future::poll_fn(|context| {
            all = all || taken.as_mut().poll(context).is_ready();
            end.as_mut().poll(context)
        })
        .await;
    });
    if in_time.await.is_err() {
        drop(group);
        let text =
            format!("handler `{line}` has not ended within {:?} and was killed{}", script.timeout, output.told());
        return Err(error(WorldErrorKind::Timeout, text));
    }
    let status = group.status().map_err(cannot)?;
    let _ = tokio::time::timeout(DRAIN_WAIT_MAX, output.take(&mut reader)).await;
    if !status.success() {
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        return Err(error(WorldErrorKind::Other, format!("handler `{line}` {how}{}", output.told())));
    }
    Ok(Handled { output: output.bytes.into(), said: output.said })
}

/// The end of an output.
struct Tail {
    bytes: VecDeque<u8>,
    most: usize,
    said: u64,
}

impl Tail {
    async fn take(&mut self, reader: &mut pipe::Receiver) {
        let mut bytes = [0; READ_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut bytes).await {
            self.said += count as u64;
            self.bytes.extend(&bytes[..count]);
            let excess = self.bytes.len().saturating_sub(self.most);
            self.bytes.drain(..excess);
        }
    }

    fn told(&self) -> String {
        let bytes: Vec<u8> = self.bytes.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes).trim().to_owned();
        if text.is_empty() { text } else { format!("; it said: {text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line: &str, timeout: Duration) -> Script<'_> {
        Script { line, environment: &[], hidden: &[], input: b"one\ntwo\n", timeout, output_max: 8 }
    }

    /// Shows the input, the end of a long output with its whole length, and each way to fail.
    #[tokio::test]
    async fn ways_to_end() {
        let long = Duration::from_secs(60);
        let said = |output: &[u8], said| Ok(Handled { output: output.to_vec(), said });
        assert_eq!(handle(script("cat", long)).await, said(b"one\ntwo\n", 8));
        assert_eq!(handle(script("printf 0123456789abcdef", long)).await, said(b"89abcdef", 16));
        assert_eq!(handle(script("true", long)).await, said(b"", 0));
        let failed = handle(script("echo no; exit 3", long)).await.expect_err("it fails");
        assert!(failed.text.ends_with("exited with code 3; it said: no"), "{}", failed.text);
        let late = handle(script("echo wait; sleep 600", Duration::from_millis(300))).await.expect_err("too slow");
        assert_eq!(late.kind, WorldErrorKind::Timeout);
        let environment = [("SERF_EVENT".to_owned(), "user".to_owned())];
        let more = Script { environment: &environment, hidden: &["PATH"], ..script("echo $SERF_EVENT", long) };
        assert_eq!(handle(more).await, said(b"user\n", 5));
    }
}
