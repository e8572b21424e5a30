//! One command on one host.

use super::Ssh;
use crate::output::Output;
use regrow_control::exec::Target;
use regrow_control::exec::report::Ending;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// What `ssh` ends with when it could not do its part.
const SSH_FAILED: i32 = 255;
/// Longest that output is still taken once `ssh` has ended: a connection that is kept may hold it open.
const DRAIN_WAIT_MAX: Duration = Duration::from_millis(200);
/// One read of output.
const READ_BYTES: usize = 16 << 10;
/// Longest line that is told as it comes; a longer one is told in pieces.
const LINE_BYTES_MAX: usize = 64 << 10;

/// Which output a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What is to be run, the same on every host.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// A line for the remote user's shell; see [`regrow_control::exec::quoted`].
    pub line: &'a str,
    /// File that the command reads as its standard input; without one it reads nothing.
    pub input: Option<&'a Path>,
    /// Longest that it may take, connecting included.
    pub timeout: Duration,
    /// Bytes that are kept of each output: its beginning and its end.
    pub output_bytes_max: usize,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Said {
    /// How it ended.
    pub ending: Ending,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ssh {
    /// Runs a command on a host; `each` is told every line as it comes.
    pub async fn run(&self, target: &Target, run: Run<'_>, mut each: impl FnMut(Stream, &str)) -> Said {
        let unreachable = |reason: String| Said {
            ending: Ending::Unreachable { reason },
            stdout: String::new(),
            stderr: String::new(),
        };
        let log = self.folder.log();
        let input = match run.input.map(std::fs::File::open) {
            None => Stdio::null(),
            Some(Ok(file)) => Stdio::from(file),
            Some(Err(source)) => return unreachable(format!("cannot read the input: {source}")),
        };
        let mut command = Command::new("ssh");
        command.args(self.arguments(target, log.path(), self.folder.has_room())).arg(run.line);
        command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return unreachable("there is no `ssh` here: install openssh-client".to_owned());
            }
            Err(source) => return unreachable(format!("cannot run `ssh`: {source}")),
        };
        let mut stdout = Taken::new(child.stdout.take(), run.output_bytes_max);
        let mut stderr = Taken::new(child.stderr.take(), run.output_bytes_max);
        let status = {
            let all = follow(&mut child, &mut stdout, &mut stderr, &mut each);
            tokio::time::timeout(run.timeout, all).await
        };
        let ending = match status {
            Err(_) => {
                end_group(&mut child).await;
                Ending::TimedOut
            }
            Ok(Err(source)) => Ending::Unreachable { reason: format!("cannot wait for `ssh`: {source}") },
            Ok(Ok(status)) => match (code(status), log.reason()) {
                (SSH_FAILED, Some(reason)) => {
                    // Without the host's name in them, equal reasons are together.
                    let place = format!(" {}", target.address.as_ref().unwrap_or(&target.name));
                    Ending::Unreachable { reason: reason.replace(&format!("host{place} "), "").replace(&place, "") }
                }
                (exit, _) => Ending::Exited { exit },
            },
        };
        stdout.tell_rest(Stream::Stdout, &mut each);
        stderr.tell_rest(Stream::Stderr, &mut each);
        Said { ending, stdout: stdout.kept.whole(), stderr: stderr.kept.whole() }
    }
}

/// As shells have it.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(SSH_FAILED)
}

/// Ends `ssh` and what it started for its way there. A connection that is kept is in no group of ours.
async fn end_group(child: &mut Child) {
    if let Some(pid) = child.id() {
        let _ = rustix::process::kill_process_group(crate::signal::pid(pid), rustix::process::Signal::KILL);
    }
    let _ = child.wait().await;
}

/// Takes both outputs until `ssh` has ended.
async fn follow(
    child: &mut Child,
    stdout: &mut Taken<impl AsyncRead + Unpin>,
    stderr: &mut Taken<impl AsyncRead + Unpin>,
    each: &mut impl FnMut(Stream, &str),
) -> std::io::Result<ExitStatus> {
    let mut status = None;
    let mut until = None;
    while !(stdout.ended && stderr.ended && status.is_some()) {
        tokio::select! {
            () = stdout.take(), if !stdout.ended => stdout.tell(Stream::Stdout, each),
            () = stderr.take(), if !stderr.ended => stderr.tell(Stream::Stderr, each),
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                until = Some(tokio::time::Instant::now() + DRAIN_WAIT_MAX);
            }
            () = tokio::time::sleep_until(until.unwrap_or_else(tokio::time::Instant::now)), if until.is_some() => break,
        }
    }
    match status {
        Some(status) => Ok(status),
        None => child.wait().await,
    }
}

/// One output on its way.
struct Taken<R> {
    reader: Option<R>,
    ended: bool,
    buffer: Vec<u8>,
    kept: Output,
    line: Vec<u8>,
    /// Bytes of `buffer` that the last read filled.
    filled: usize,
}

impl<R: AsyncRead + Unpin> Taken<R> {
    fn new(reader: Option<R>, bytes_max: usize) -> Taken<R> {
        let kept = Output::new(bytes_max);
        Taken { ended: reader.is_none(), reader, buffer: vec![0; READ_BYTES], kept, line: Vec::new(), filled: 0 }
    }

    async fn take(&mut self) {
        let Some(reader) = &mut self.reader else { return };
        match reader.read(&mut self.buffer).await {
            Ok(count @ 1..) => {
                self.kept.add(&self.buffer[..count]);
                self.filled = count;
            }
            _ => self.ended = true,
        }
    }

    fn tell(&mut self, stream: Stream, each: &mut impl FnMut(Stream, &str)) {
        let filled = std::mem::take(&mut self.filled);
        for piece in self.buffer[..filled].split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.line.len() >= LINE_BYTES_MAX {
                each(stream, String::from_utf8_lossy(&self.line).trim_end_matches(['\n', '\r']));
                self.line.clear();
            }
        }
    }

    fn tell_rest(&mut self, stream: Stream, each: &mut impl FnMut(Stream, &str)) {
        if !self.line.is_empty() {
            each(stream, &String::from_utf8_lossy(&self.line));
            self.line.clear();
        }
    }
}
