//! Telling a reading program that its files have changed.

use crate::error::{error, io_error};
use crate::exec::{self, Exec, Leftovers};
use crate::haproxy;
use crate::instance::Instances;
use crate::proc::{self, Takes};
use nix::sys::signal::Signal;
use regrow_model::InstanceId;
use regrow_model::action::Tell;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::process::ProcessId;
use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// Longest that a program which has just started may take to have a handler for the signal: until then the signal
/// would kill it.
const HANDLER_WAIT_MAX: Duration = Duration::from_secs(3);
/// Time between two looks for the handler.
const HANDLER_LOOK_EVERY: Duration = Duration::from_millis(10);
/// Looks in a row that must find a signal blocked, before it counts as blocked for good: libraries block all signals
/// for microseconds, and one sent just then kills as soon as that is over.
const BLOCKED_LOOKS: u32 = 4;

/// Tells; gives how, for people.
pub(crate) async fn tell(instances: &Instances, tell: &Tell, directory: &str) -> Result<String, WorldError> {
    match tell {
        Tell::Nobody => Ok("nobody needs telling".to_owned()),
        Tell::Signal { instances: to, signal, haproxy_socket } => {
            by_signal(instances, to, signal, haproxy_socket.as_deref()).await
        }
        Tell::Command { command, timeout } => by_command(command, *timeout, directory).await,
        Tell::Haproxy { socket, commands } => {
            haproxy::tell(socket, commands).await?;
            let s = if commands.len() == 1 { "" } else { "s" };
            Ok(format!("{} command{s} through {socket}", commands.len()))
        }
    }
}

async fn by_signal(
    instances: &Instances,
    to: &[(InstanceId, u64)],
    name: &str,
    haproxy_socket: Option<&str>,
) -> Result<String, WorldError> {
    let signal = crate::signal::named(name)?;
    let mut told = Vec::with_capacity(to.len());
    for (instance, incarnation) in to {
        let Some(process) = instances.process(instance, *incarnation) else {
            let text = format!("cannot signal {instance}: incarnation {incarnation} is not running here");
            return Err(error(WorldErrorKind::NotFound, text));
        };
        wait_for_handler(instance, process, signal).await?;
        let before = match haproxy_socket {
            Some(socket) => Some((socket, haproxy::worker(socket).await.ok())),
            None => None,
        };
        let pid = process.pid;
        let sent = crate::signal::send(process, signal)
            .map_err(|source| io_error(format!("cannot signal {instance} (pid {pid})"), &io::Error::from(source)))?;
        if !sent {
            return Err(error(WorldErrorKind::NotFound, format!("cannot signal {instance}: pid {pid} has just ended")));
        }
        told.push(match before {
            Some((socket, before)) => {
                let worker = haproxy::another_worker(socket, before).await?;
                format!("{instance} (pid {pid}, worker {worker} answers)")
            }
            None => format!("{instance} (pid {pid})"),
        });
    }
    Ok(format!("signal {} to {}", name.trim_start_matches("SIG"), told.join(", ")))
}

/// A program that has no handler is killed by most signals, and one that ignores a signal loses it. One that has just
/// started gets the time to make a handler: HAProxy's master ignores SIGUSR2 until some time after its worker serves.
async fn wait_for_handler(instance: &InstanceId, process: ProcessId, signal: Signal) -> Result<(), WorldError> {
    let begun_at = Instant::now();
    let mut blocked = 0;
    loop {
        let takes = match proc::takes(process.pid, signal as i32) {
            Some(Takes::Default) if !kills(signal) => return Ok(()),
            // One that is gone is found to be by the sending.
            Some(Takes::Handles) | None => return Ok(()),
            Some(takes) => takes,
        };
        blocked = if takes == Takes::Blocks { blocked + 1 } else { 0 };
        if blocked == BLOCKED_LOOKS {
            return Ok(());
        }
        if begun_at.elapsed() >= HANDLER_WAIT_MAX {
            let (pid, why) = (
                process.pid,
                match takes {
                    Takes::Default => "has no handler for it and would be killed",
                    _ => "ignores it",
                },
            );
            let text =
                format!("cannot send {signal} to {instance} (pid {pid}): it {why}; name the signal that it reloads on");
            return Err(error(WorldErrorKind::Refused, text));
        }
        tokio::time::sleep(HANDLER_LOOK_EVERY).await;
    }
}

/// Whether a signal's default is the end of the process, and no handler can be asked for: SIGKILL and SIGSTOP are
/// meant as they are.
fn kills(signal: Signal) -> bool {
    !matches!(
        signal,
        Signal::SIGKILL | Signal::SIGSTOP | Signal::SIGCONT | Signal::SIGCHLD | Signal::SIGURG | Signal::SIGWINCH
    )
}

async fn by_command(command: &[String], timeout: Duration, directory: &str) -> Result<String, WorldError> {
    let ran = exec::run(Exec { command, directory, environment: &[], timeout, leftovers: Leftovers::Leave }).await?;
    let shown = exec::shown(command);
    if ran.status.success() {
        return Ok(format!("command `{shown}`"));
    }
    Err(error(WorldErrorKind::Refused, format!("`{shown}` {}", ran.says())))
}
