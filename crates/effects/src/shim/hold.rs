//! The holder: an instance's companion from its start to its end.

use super::keep::Keep;
use super::line::{self, Splitter, Tail};
use crate::durable::Reserved;
use crate::error::{error, io_error};
use crate::instance::record::{Answer, Ended, Folder, Launch, Order, State, now};
use regrow_model::limits;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::process::{Exit, ProcessId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions, WaitStatus};
use std::fs::File;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for the shim of the life before to let go of the slot.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);
/// Time between two looks at something that cannot be waited for.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Orphans of the instance become the shim's children, and those that have ended are asked for this often.
const REAP_EVERY: Duration = Duration::from_secs(5);
/// Longest that killed leftovers are waited for: a process in an uninterruptible call cannot be ended by anybody.
const LEFTOVERS_WAIT_MAX: Duration = Duration::from_secs(5);
/// One read of output: little enough that what is behind it, such as the end of the process, is not kept waiting.
const READ_BYTES: usize = 16 << 10;
/// Most output that is still taken once the instance has ended: what a leftover goes on printing is not its own.
const DRAIN_BYTES_MAX: usize = 1 << 20;
/// Space kept free for the note of the end, so that a full disk cannot swallow it.
const EXIT_BYTES_RESERVED: u64 = 32 << 10;

/// Reads the [`Order`] from standard input, a socket, answers there, and stays until the instance has ended.
pub(super) fn hold() -> ExitCode {
    let Ok(mut agent) = take_stdin() else { return ExitCode::FAILURE };
    let mut text = Vec::new();
    let order: Order = match agent.read_to_end(&mut text).map(|_| serde_json::from_slice(&text)) {
        Ok(Ok(order)) => order,
        _ => return ExitCode::FAILURE,
    };
    drop(text);
    let begun = Holder::begin(&order);
    let answer = match &begun {
        Ok(holder) => Answer::Started(holder.process),
        Err(refused) => Answer::Failed(refused.clone()),
    };
    // An agent that is gone by now reads state.json when it comes back.
    let _ = serde_json::to_vec(&answer).map(|answer| agent.write_all(&answer));
    drop(agent);
    drop(order);
    match begun {
        Ok(holder) => {
            holder.stay();
            ExitCode::SUCCESS
        }
        Err(_) => ExitCode::FAILURE,
    }
}

/// Standard input as a socket of its own; in its place there is nothing, so that closing the one ends the talk.
fn take_stdin() -> io::Result<UnixStream> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(UnixStream::from(socket))
}

/// Places in [`Holder::streams`].
const STDOUT: usize = 0;
const STDERR: usize = 1;

/// One stream of output.
#[derive(Debug)]
struct Stream {
    name: &'static str,
    pipe: Option<PipeReader>,
    splitter: Splitter,
}

#[derive(Debug)]
struct Holder {
    folder: Folder,
    incarnation: u64,
    process: ProcessId,
    pidfd: OwnedFd,
    streams: [Stream; 2],
    tail: Tail,
    keep: Keep,
    exit_file: Reserved,
    /// Buffers for reading and writing, kept for their space.
    read: Vec<u8>,
    lines: Vec<u8>,
    _lock: File,
}

impl Holder {
    /// Everything up to a running program, or nothing.
    fn begin(order: &Order) -> Result<Holder, WorldError> {
        let folder = Folder::at(order.folder.clone());
        let cannot = |what: &str, source: &io::Error| {
            io_error(format!("cannot start {}: cannot {what}", order.instance), source)
        };
        // In a session of its own no terminal's Ctrl-C or hang-up reaches it.
        rustix::process::setsid().map_err(|source| cannot("begin a session", &source.into()))?;
        let _ = std::env::set_current_dir("/");
        let lock = take_lock(order, &folder)?;
        let own = crate::proc::own().ok_or_else(|| error(WorldErrorKind::Other, "/proc is not mounted"))?;
        for path in [folder.exit_file(), folder.stop_file()] {
            crate::durable::remove(&path).map_err(|source| cannot(&format!("remove {}", path.display()), &source))?;
        }
        let exit_file = Reserved::new(&folder.exit_file(), EXIT_BYTES_RESERVED)
            .map_err(|source| cannot(&format!("write to {}", folder.path().display()), &source))?;
        rustix::process::set_child_subreaper(Some(crate::signal::pid(own.pid)))
            .map_err(|source| cannot("take on orphans", &source.into()))?;

        let (process, pidfd, pipes) = start(order, own)?;
        let state = State { incarnation: order.incarnation, process, shim: own, boot: crate::proc::boot() };
        let path = folder.state_file();
        if let Err(source) = crate::durable::write_json(&path, &state) {
            end_group(process);
            end_children(own);
            return Err(cannot(&format!("write {}", path.display()), &source));
        }
        let [stdout, stderr] = pipes;
        let stream = |name, pipe| Stream { name, pipe: Some(pipe), splitter: Splitter::default() };
        let mut holder = Holder {
            incarnation: order.incarnation,
            process,
            pidfd,
            streams: [stream("stdout", stdout), stream("stderr", stderr)],
            tail: Tail::default(),
            keep: Keep::open(&folder.logs(), order.process.logs),
            exit_file,
            read: vec![0; READ_BYTES],
            lines: Vec::new(),
            folder,
            _lock: lock,
        };
        holder.note(&format!("{} incarnation {} started as pid {}", order.instance, order.incarnation, process.pid));
        Ok(holder)
    }

    fn stay(mut self) {
        let mut status = None;
        let mut reaped_at = Instant::now();
        while status.is_none() && !self.wait(REAP_EVERY) {
            if reaped_at.elapsed() >= REAP_EVERY {
                status = reap(self.process).leader;
                reaped_at = Instant::now();
            }
        }
        let at = now();
        let polite = self.is_polite();
        if !polite {
            // Its process is a zombie until it is asked for, so the group's id is still its own.
            end_group(self.process);
        }
        // Its last words go with the note of its end; the rest of its output can wait for that.
        self.drain(STDERR);
        let status = status.or_else(|| reap(self.process).leader);
        let exit = Exit {
            code: status.and_then(WaitStatus::exit_status),
            signal: status.and_then(WaitStatus::terminating_signal),
            at,
            tail: self.tail.text(),
        };
        let ended = Ended { incarnation: self.incarnation, exit };
        if let Err(source) = self.exit_file.write(&ended) {
            self.note(&format!("cannot note its end: {source}"));
        }
        self.drain(STDOUT);
        if polite {
            self.wait_for_leftovers();
        }
        end_group_if_there(self.process);
        if let Some(own) = crate::proc::own() {
            end_children(own);
        }
        self.drain(STDOUT);
        self.drain(STDERR);
        self.note(&format!("pid {} {}", self.process.pid, ended.exit));
    }

    /// Waits for output for at most `timeout` and takes it; `true` when the process has ended, and then nothing is
    /// taken.
    fn wait(&mut self, timeout: Duration) -> bool {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
        let open: Vec<usize> = (0..self.streams.len()).filter(|index| self.streams[*index].pipe.is_some()).collect();
        fds.extend(
            open.iter()
                .filter_map(|index| self.streams[*index].pipe.as_ref())
                .map(|pipe| PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN)),
        );
        if poll(&mut fds, Some(&timeout)).is_err() {
            return false;
        }
        let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        drop(fds);
        if ready[0] {
            return true;
        }
        for (index, ready) in open.into_iter().zip(&ready[1..]) {
            if *ready {
                self.take(index);
            }
        }
        false
    }

    /// One read of one stream; how many bytes came.
    fn take(&mut self, index: usize) -> usize {
        let stream = &mut self.streams[index];
        let Some(pipe) = &mut stream.pipe else { return 0 };
        let count = match pipe.read(&mut self.read) {
            Ok(count) => count,
            Err(source) if matches!(source.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => return 0,
            Err(_) => 0,
        };
        let ts = timestamp();
        self.lines.clear();
        let (lines, tail, name) = (&mut self.lines, &mut self.tail, stream.name);
        let keep = |text: &[u8], more: bool| {
            line::write(lines, &ts, name, text, more);
            if name == "stderr" {
                tail.add(text, limits::OUTPUT_BYTES_MAX);
            }
        };
        if count == 0 {
            stream.pipe = None;
            stream.splitter.end(keep);
        } else {
            stream.splitter.add(&self.read[..count], keep);
        }
        if !self.lines.is_empty() {
            self.keep.write(&self.lines, note);
        }
        count
    }

    /// Takes what is in a pipe now.
    fn drain(&mut self, index: usize) {
        let mut left = DRAIN_BYTES_MAX;
        while left > 0 {
            match self.take(index) {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
    }

    /// Whether a stop is under way, and its grace not over. The agent takes the file away when it is.
    fn is_polite(&self) -> bool {
        self.folder.polite_until(self.incarnation).is_some_and(|until| now() < until)
    }

    /// Leaves what outlived the process in peace for the grace, as long as there is any.
    fn wait_for_leftovers(&mut self) {
        while self.is_polite() && !reap(self.process).none_left {
            (0..self.streams.len()).for_each(|index| self.drain(index));
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A line of our own between those of the instance.
    fn note(&mut self, text: &str) {
        self.keep.write(&note(text), note);
    }
}

fn note(text: &str) -> Vec<u8> {
    let mut line = Vec::new();
    line::write(&mut line, &timestamp(), "regrow", text.as_bytes(), false);
    line
}

fn timestamp() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn take_lock(order: &Order, folder: &Folder) -> Result<File, WorldError> {
    let path = folder.lock();
    let lock = std::fs::create_dir_all(folder.path())
        .and_then(|()| File::options().write(true).create(true).truncate(false).open(&path))
        .map_err(|source| {
            io_error(format!("cannot start {}: cannot open {}", order.instance, path.display()), &source)
        })?;
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(lock),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(LOOK_EVERY),
            Err(source) => {
                let text = format!(
                    "cannot start {}: another shim holds {} ({source}): stop what runs in the slot first",
                    order.instance,
                    path.display()
                );
                return Err(error(WorldErrorKind::Refused, text));
            }
        }
    }
}

/// Starts the launcher and waits until it has become the program.
fn start(order: &Order, own: ProcessId) -> Result<(ProcessId, OwnedFd, [PipeReader; 2]), WorldError> {
    let cannot = |source: io::Error| io_error(format!("cannot start {}: no process for it", order.instance), &source);
    let pipe = || {
        let (reader, writer) = io::pipe()?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        Ok((reader, writer))
    };
    let (stdout, stdout_end) = pipe().map_err(cannot)?;
    let (stderr, stderr_end) = pipe().map_err(cannot)?;
    let (mut ours, theirs) = UnixStream::pair().map_err(cannot)?;
    // By this path it is the same program even when the file has been replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.args(&order.leading).arg(super::LAUNCH).arg(order.instance.to_string());
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(stdout_end).stderr(stderr_end).process_group(0);
    let child = command.spawn().map_err(cannot)?;
    // Else its copies of the pipes' ends would keep them open for ever.
    drop(command);

    let launch = Launch { instance: order.instance.clone(), shim: own.pid, process: order.process.clone() };
    let mut refusal = Vec::new();
    let _ = serde_json::to_vec(&launch)
        .map_err(io::Error::from)
        .and_then(|text| ours.write_all(&text))
        .and_then(|()| ours.shutdown(std::net::Shutdown::Write))
        .and_then(|()| ours.read_to_end(&mut refusal));
    let stat = crate::proc::stat(child.id());
    let pidfd = rustix::process::pidfd_open(crate::signal::pid(child.id()), PidfdFlags::empty());
    match (serde_json::from_slice::<WorldError>(&refusal), stat, pidfd) {
        (Err(_), Some(stat), Ok(pidfd)) => Ok((stat.id, pidfd, [stdout, stderr])),
        (refused, ..) => {
            end_children(own);
            let lost =
                || error(WorldErrorKind::Other, format!("cannot start {}: its launcher was lost", order.instance));
            Err(refused.unwrap_or_else(|_| lost()))
        }
    }
}

/// Kills the group of a process that has not been asked for yet.
fn end_group(process: ProcessId) {
    let _ = rustix::process::kill_process_group(crate::signal::pid(process.pid), Signal::KILL);
}

/// Kills what is left of the group, when a child of ours is still in it: its id is then not anybody else's.
fn end_group_if_there(process: ProcessId) {
    if !reap(process).none_left {
        end_group(process);
    }
}

/// Kills children until none is left: orphans become children, so these are all that the instance began.
fn end_children(own: ProcessId) {
    let deadline = Instant::now() + LEFTOVERS_WAIT_MAX;
    while !reap(own).none_left && Instant::now() < deadline {
        for child in crate::proc::all().filter(|stat| stat.parent == own.pid && stat.state != b'Z') {
            let _ = rustix::process::kill_process(crate::signal::pid(child.id.pid), Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What asking for ended children brought.
#[derive(Debug, Default)]
struct Reaped {
    leader: Option<WaitStatus>,
    none_left: bool,
}

/// Asks for all children that have ended.
fn reap(leader: ProcessId) -> Reaped {
    let leader: Pid = crate::signal::pid(leader.pid);
    let mut reaped = Reaped::default();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == leader => reaped.leader = Some(status),
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => return reaped,
            Err(_) => {
                reaped.none_left = true;
                return reaped;
            }
        }
    }
}
