//! A program under a leash, from its beginning to its end.

use super::limits::{DRAIN_WAIT_MAX, LINE_BYTES_MAX, READ_BYTES, WHY_BYTES_MAX};
use super::sink::Sink;
use crate::leash;
use regrow_control::features::job::policy::Halt;
use regrow_model::run::Stream;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::watch;

/// A program to be run.
pub(super) struct Program<'a> {
    /// Program and arguments.
    pub(super) command: Vec<String>,
    /// Working directory.
    pub(super) directory: &'a Path,
    /// All of its environment.
    pub(super) environment: BTreeMap<String, String>,
    /// Most memory of each of its processes, MiB.
    pub(super) memory_mib: u32,
    /// Time between SIGTERM and SIGKILL.
    pub(super) grace: Duration,
}

/// What ends a run early.
#[derive(Clone)]
pub(super) struct Reins {
    /// Why it is to end.
    pub(super) halt: watch::Receiver<Halt>,
    /// When the worker's last good beat began.
    pub(super) beat: watch::Receiver<Instant>,
    /// When it has taken too long.
    pub(super) until: tokio::time::Instant,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// By itself, with this code; 128 and the signal's number when a signal ended it.
    Exited {
        /// The code.
        code: i32,
        /// The last line of its standard error.
        said: String,
    },
    /// Somebody asked for it.
    Cancelled(String),
    /// It took too long.
    TimedOut,
    /// The worker has no right to it any more.
    Lost,
    /// It could not be begun.
    Refused(String),
    /// Somebody killed its leash.
    Unleashed,
}

/// Runs a program to its end; when this returns, nothing that it started is left. Lines of its standard output go through
/// `read`, which gives what is told of them.
pub(super) async fn run(
    own: &Path,
    program: Program<'_>,
    mut reins: Reins,
    sink: &Sink,
    read: &mut (dyn FnMut(&str) -> Option<regrow_model::run::Line> + Send),
) -> Ended {
    let mut command = Command::new(own);
    command.args(["leash", leash::HOLD]).arg(program.memory_mib.to_string()).args(&program.command);
    command.current_dir(program.directory).env_clear().envs(&program.environment);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(_) if !program.directory.is_dir() => {
            return Ended::Refused(format!("its folder {} does not exist here", program.directory.display()));
        }
        Err(source) => return Ended::Refused(format!("cannot start its leash: {source}")),
    };
    let mut out = Reader::new(child.stdout.take());
    let mut err = Reader::new(child.stderr.take());
    let mut said = String::new();
    let mut rein = Rein { stdin: child.stdin.take(), beat: reins.beat.clone() };
    let ended = {
        let mut tell = |line: &str| read(line);
        let mut keep = |line: &str| {
            if !line.trim().is_empty() {
                said = sink.masked(crate::output::cut(line.trim().to_owned(), WHY_BYTES_MAX));
            }
            Some(sink.text(Stream::Stderr, line))
        };
        let outputs = async { tokio::join!(out.drain(sink, &mut tell), err.drain(sink, &mut keep)) };
        let mut outputs = std::pin::pin!(outputs);
        let mut drained = false;
        let control = control(&mut child, &mut rein, &mut reins, program.grace);
        let mut control = std::pin::pin!(control);
        let ended = loop {
            tokio::select! {
                ended = &mut control => break ended,
                _ = &mut outputs, if !drained => drained = true,
            }
        };
        if !drained {
            // What a kept connection holds open is not waited for.
            let _ = tokio::time::timeout(DRAIN_WAIT_MAX, &mut outputs).await;
        }
        ended
    };
    match ended {
        Ended::Exited { code, .. } => Ended::Exited { code, said },
        other => other,
    }
}

/// Waits for the end, and brings it about when it is asked for.
async fn control(child: &mut Child, rein: &mut Rein, reins: &mut Reins, grace: Duration) -> Ended {
    rein.tell_beat().await;
    let mut asked: Option<Ended> = None;
    let mut patience = std::pin::pin!(tokio::time::sleep_until(reins.until));
    loop {
        tokio::select! {
            status = child.wait() => {
                let code = status.ok().and_then(|status| status.code());
                return match (asked, code) {
                    (Some(asked), _) => asked,
                    // The leash itself kills only when the worker had no right any more.
                    (None, Some(code)) if code != i32::from(leash::KILLED) => Ended::Exited { code, said: String::new() },
                    (None, Some(code)) if !reins.is_lost() => Ended::Exited { code, said: String::new() },
                    (None, Some(_)) => Ended::Lost,
                    (None, None) => Ended::Unleashed,
                };
            }
            () = rein.beat() => rein.tell_beat().await,
            halt = reins.changed() => match halt {
                Halt::No => {}
                Halt::Lost => {
                    asked = Some(Ended::Lost);
                    rein.say("kill\n").await;
                }
                Halt::Cancelled(by) if asked.is_none() => {
                    asked = Some(Ended::Cancelled(by));
                    rein.say("term\n").await;
                    patience.as_mut().reset(tokio::time::Instant::now() + grace);
                }
                Halt::Cancelled(_) => {}
            },
            () = &mut patience => {
                if asked.is_some() {
                    rein.say("kill\n").await;
                    // Once is enough: the leash ends when all is dead.
                    patience.as_mut().reset(tokio::time::Instant::now() + super::limits::FOR_EVER);
                } else {
                    asked = Some(Ended::TimedOut);
                    rein.say("term\n").await;
                    patience.as_mut().reset(tokio::time::Instant::now() + grace);
                }
            }
        }
    }
}

impl Reins {
    /// The next change of why it is to end; for ever without one.
    async fn changed(&mut self) -> Halt {
        match self.halt.changed().await {
            Ok(()) => self.halt.borrow_and_update().clone(),
            // Whoever could ask is gone, and with it the right to the run.
            Err(_) if *self.halt.borrow() == Halt::No => Halt::Lost,
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether the worker's right has ended, as the leash counts it.
    fn is_lost(&self) -> bool {
        *self.halt.borrow() == Halt::Lost || self.beat.borrow().elapsed() >= leash::LIFE
    }
}

/// The way to the leash.
struct Rein {
    stdin: Option<ChildStdin>,
    beat: watch::Receiver<Instant>,
}

impl Rein {
    async fn beat(&mut self) {
        if self.beat.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says when the last good beat began: never later than it did.
    async fn tell_beat(&mut self) {
        let now = leash::monotonic_millis();
        let ago = self.beat.borrow_and_update().elapsed();
        let at = now.saturating_sub(u64::try_from(ago.as_millis()).unwrap_or(u64::MAX));
        self.say(&format!("beat {at}\n")).await;
    }

    async fn say(&mut self, word: &str) {
        if let Some(stdin) = &mut self.stdin {
            // A leash that does not listen has ended, and its end is waited for.
            let _ = stdin.write_all(word.as_bytes()).await;
        }
    }
}

/// One output on its way, in lines.
struct Reader<R> {
    reader: Option<R>,
    line: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(reader: Option<R>) -> Reader<R> {
        Reader { reader, line: Vec::new() }
    }

    /// Takes all of it, a line at a time; a longer line comes in pieces. Held up while too many lines wait.
    async fn drain(&mut self, sink: &Sink, tell: &mut (dyn FnMut(&str) -> Option<regrow_model::run::Line> + Send)) {
        let Some(mut reader) = self.reader.take() else { return };
        let mut buffer = vec![0; READ_BYTES];
        while let Ok(count @ 1..) = reader.read(&mut buffer).await {
            for piece in buffer[..count].split_inclusive(|byte| *byte == b'\n') {
                let mut rest = piece;
                while !rest.is_empty() {
                    let (part, behind) = rest.split_at(rest.len().min(LINE_BYTES_MAX - self.line.len()));
                    rest = behind;
                    self.line.extend_from_slice(part);
                    if part.ends_with(b"\n") || self.line.len() == LINE_BYTES_MAX {
                        self.tell(sink, tell).await;
                    }
                }
            }
        }
        if !self.line.is_empty() {
            self.tell(sink, tell).await;
        }
    }

    async fn tell(&mut self, sink: &Sink, tell: &mut (dyn FnMut(&str) -> Option<regrow_model::run::Line> + Send)) {
        let line = tell(String::from_utf8_lossy(&self.line).trim_end_matches(['\n', '\r']));
        self.line.clear();
        if let Some(line) = line {
            sink.send(line).await;
        }
    }
}
