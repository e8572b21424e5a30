//! Running a program to its end: argument lists only, bounded in time and output, nothing left behind.

use crate::error::{error, io_error};
use crate::output::Output;
use crate::pidfd::Pidfd;
use regrow_model::limits;
use regrow_model::observed::{WorldError, WorldErrorKind};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;

/// Where programs are looked for when Regrow itself was given no `PATH`.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest that output is still taken once the program has ended, when something that it left behind holds its output
/// open.
const DRAIN_WAIT_MAX: Duration = Duration::from_millis(100);
/// One read of output.
const READ_BYTES: usize = 4 << 10;

/// A program to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Exec<'a> {
    /// Program and arguments.
    pub(crate) command: &'a [String],
    /// Working directory.
    pub(crate) directory: &'a str,
    /// Environment in addition to `PATH`, `HOME`, `LANG`.
    pub(crate) environment: &'a [(&'a str, String)],
    /// Longest that it may take.
    pub(crate) timeout: Duration,
    /// What becomes of its process group when it ends in time: a check must leave nothing behind, a reload may start
    /// something.
    pub(crate) leftovers: Leftovers,
}

/// What becomes of processes that outlive the program that started them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// They are killed.
    Kill,
    /// They live on. Their output is not read any more.
    Leave,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// How.
    pub(crate) status: ExitStatus,
    /// Both its outputs as they came, at most [`limits::OUTPUT_BYTES_MAX`] bytes: their beginning and their end.
    pub(crate) output: String,
}

impl Ran {
    /// How it ended and what it said, for people.
    pub(crate) fn says(&self) -> String {
        let ended = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exited with code {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        if self.output.is_empty() { ended } else { format!("{ended}: {}", self.output) }
    }
}

/// The environment that every program gets: `PATH`, `HOME`, `LANG` of the node.
pub(crate) fn base_environment() -> BTreeMap<&'static str, String> {
    let mut environment: BTreeMap<_, _> =
        ["PATH", "HOME", "LANG"].into_iter().filter_map(|name| Some((name, std::env::var(name).ok()?))).collect();
    environment.entry("PATH").or_insert_with(|| PATH_DEFAULT.to_owned());
    environment
}

/// Words as a person would type them, for messages.
pub(crate) fn shown(command: &[String]) -> String {
    command.join(" ")
}

/// Runs a program in a process group of its own. An error means that it could not be run or took too long; how it
/// ended is [`Ran::status`].
pub(crate) async fn run(exec: Exec<'_>) -> Result<Ran, WorldError> {
    let shown = shown(exec.command);
    let mut command = build(&exec)?;
    let spawned = crate::blocking(move || -> io::Result<(Group, PipeReader)> {
        let (reader, writer) = io::pipe()?;
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer).process_group(0);
        Ok((Group::of(command.spawn()?), reader))
    });
    let (mut group, reader) = spawned.await?.map_err(|source| cannot_run(&exec, &source))?;
    let cannot = |source: io::Error| io_error(format!("cannot wait for `{shown}`"), &source);
    let ended = group.ended().map_err(cannot)?;
    let mut reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(cannot)?;

    let mut output = Output::new(limits::OUTPUT_BYTES_MAX);
    let in_time = tokio::time::timeout(exec.timeout, async {
        let mut end = std::pin::pin!(ended.ended());
        // Output is taken while it runs, else a full pipe would block it; its end does not wait for the output's end.
        let mut taken = std::pin::pin!(take(&mut reader, &mut output));
        let mut all = false;
        std::future::poll_fn(|context| {
            all = all || taken.as_mut().poll(context).is_ready();
            end.as_mut().poll(context)
        })
        .await;
    })
    .await;
    if in_time.is_err() {
        drop(group);
        let said = output.text();
        let said = if said.is_empty() { said } else { format!("; it said: {said}") };
        let text = format!("`{shown}` has not ended within {:?} and was killed{said}", exec.timeout);
        return Err(error(WorldErrorKind::Timeout, text));
    }
    if exec.leftovers == Leftovers::Kill {
        group.kill();
    }
    let status = group.status().map_err(cannot)?;
    let _ = tokio::time::timeout(DRAIN_WAIT_MAX, take(&mut reader, &mut output)).await;
    Ok(Ran { status, output: output.text() })
}

fn build(exec: &Exec<'_>) -> Result<Command, WorldError> {
    let Some((program, arguments)) = exec.command.split_first() else {
        return Err(error(WorldErrorKind::NotFound, "the command is empty"));
    };
    let mut command = Command::new(program);
    command.args(arguments).current_dir(exec.directory).env_clear().envs(base_environment());
    command.envs(exec.environment.iter().map(|(name, value)| (name, value)));
    Ok(command)
}

fn cannot_run(exec: &Exec<'_>, source: &io::Error) -> WorldError {
    let shown = shown(exec.command);
    if !std::path::Path::new(exec.directory).is_dir() {
        let text = format!("cannot run `{shown}`: its working directory {} does not exist", exec.directory);
        return error(WorldErrorKind::NotFound, text);
    }
    if source.kind() == io::ErrorKind::NotFound {
        let text = format!("cannot run `{shown}`: there is no such program: install it or correct the command");
        return error(WorldErrorKind::NotFound, text);
    }
    io_error(format!("cannot run `{shown}`"), source)
}

/// Takes output until its end.
async fn take(reader: &mut pipe::Receiver, output: &mut Output) {
    let mut bytes = [0; READ_BYTES];
    while let Ok(count @ 1..) = reader.read(&mut bytes).await {
        output.add(&bytes[..count]);
    }
}

/// A process and its group; both are killed when this is dropped before the end was asked for.
#[derive(Debug)]
pub(crate) struct Group(Option<Child>);

impl Group {
    pub(crate) fn of(child: Child) -> Group {
        Group(Some(child))
    }

    pub(crate) fn ended(&self) -> io::Result<Pidfd> {
        Pidfd::of_child(self.0.as_ref().map_or(0, Child::id))
    }

    /// Kills every member. Before [`Group::status`], which lets go of the group's id.
    pub(crate) fn kill(&self) {
        if let Some(child) = &self.0 {
            let _ = rustix::process::kill_process_group(crate::signal::pid(child.id()), Signal::KILL);
        }
    }

    /// How it ended; it must have.
    pub(crate) fn status(&mut self) -> io::Result<ExitStatus> {
        match self.0.take() {
            Some(mut child) => child.wait(),
            None => Err(io::Error::other("it was asked for before")),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
        if let Some(mut child) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            // Else it would be a zombie for as long as the agent lives.
            runtime.spawn_blocking(move || child.wait());
        }
    }
}
