//! Starting an instance: port, shim, program.

use super::record::{Answer, Folder, Order};
use super::stop::{Manner, stop};
use super::{Instances, watch};
use crate::error::{error, failed, io_error};
use crate::pidfd::Pidfd;
use nix::sys::signal::Signal;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::process::{Process, ProcessId};
use regrow_model::{InstanceId, Outcome};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Pair;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Longest that a shim may take to answer: user look-ups through a slow name service are most of it.
const START_WAIT_MAX: Duration = Duration::from_secs(15);
/// Grace for an older life that is still there when a new one starts.
const OLDER_GRACE: Duration = Duration::from_secs(5);
/// Largest answer of a shim, bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

impl Instances {
    /// Starts `process`, or finds what is there already for this incarnation.
    pub(crate) async fn start(
        &self,
        instance: &InstanceId,
        incarnation: u64,
        process: &Process,
        listen: Option<&(String, u16)>,
    ) -> Outcome {
        match self.try_start(instance, incarnation, process, listen).await {
            Ok((process, adopted)) => Outcome::Started { process, adopted },
            Err(error) => failed(None, error),
        }
    }

    async fn try_start(
        &self,
        instance: &InstanceId,
        incarnation: u64,
        process: &Process,
        listen: Option<&(String, u16)>,
    ) -> Result<(ProcessId, bool), WorldError> {
        let folder = self.folder(instance);
        super::wait_for_a_beginning(&folder).await;
        if let Some(state) = folder.state() {
            match (state.alive(), state.incarnation) {
                (Some(process), known) if known == incarnation => {
                    self.watch(instance, state, folder)?;
                    return Ok((process, true));
                }
                (Some(process), known) if known > incarnation => {
                    let text = format!(
                        "cannot start {instance} incarnation {incarnation}: the younger incarnation {known} runs as pid {}",
                        process.pid
                    );
                    return Err(error(WorldErrorKind::Refused, text));
                }
                (Some(_), known) => {
                    let older = self.watch(instance, state, folder.clone())?;
                    stop(&older, known, Manner { signal: Signal::SIGTERM, grace: OLDER_GRACE }).await?;
                }
                (None, _) => watch::sweep(&state).await,
            }
        }
        if let Some((address, port)) = listen {
            let (address, port) = (address.clone(), *port);
            let what = format!("cannot start {instance}");
            crate::blocking(move || crate::port::must_be_free(&address, port, &what)).await??;
        }
        let process = self.order(instance, incarnation, process, &folder).await?;
        // What ended already is told of by the watch of nobody: so by this state and its exit, which `watch` needs.
        if let Some(state) = folder.state().filter(|state| state.process == process)
            && self.watch(instance, state, folder.clone()).is_err()
        {
            let exit = watch::ended(&folder, incarnation).await;
            let (instance, process) = (instance.clone(), Some(process));
            let gone = regrow_model::Observation::Exited { instance, incarnation, process, exit };
            let seen = self.seen.clone();
            // Behind the outcome: the runtime learns of the process first.
            tokio::spawn(async move { seen.send(gone).await });
        }
        Ok((process, false))
    }

    /// Runs a shim and hands it its order.
    async fn order(
        &self,
        instance: &InstanceId,
        incarnation: u64,
        process: &Process,
        folder: &Folder,
    ) -> Result<ProcessId, WorldError> {
        let order = Order {
            instance: instance.clone(),
            incarnation,
            folder: folder.path().to_owned(),
            leading: self.shim.arguments.clone(),
            process: process.clone(),
        };
        let text = serde_json::to_vec(&order)
            .map_err(|source| error(WorldErrorKind::Other, format!("cannot start {instance}: {source}")))?;
        let cannot = |source: &io::Error| io_error(format!("cannot start {instance}: cannot run its shim"), source);
        let (shim, folder) = (self.shim.clone(), folder.clone());
        let (child, agent) = crate::blocking(move || spawn(&shim, &folder, &order.instance, incarnation))
            .await?
            .map_err(|source| cannot(&source))?;
        let child = Reaper(Some(child));
        let mut agent = UnixStream::from_std(agent).map_err(|source| cannot(&source))?;
        let talk = async {
            agent.write_all(&text).await?;
            agent.shutdown().await?;
            let mut answer = Vec::new();
            agent.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok(answer)
        };
        match tokio::time::timeout(START_WAIT_MAX, talk).await {
            Ok(Ok(answer)) => match serde_json::from_slice(&answer) {
                Ok(Answer::Started(process)) => Ok(process),
                Ok(Answer::Failed(refused)) => Err(refused),
                Err(_) => {
                    let log = self.folder(instance).shim_log();
                    let text = format!(
                        "cannot start {instance}: its shim {} ended without an answer; see {}",
                        self.shim.program.display(),
                        log.display()
                    );
                    Err(error(WorldErrorKind::Other, text))
                }
            },
            Ok(Err(source)) => Err(cannot(&source)),
            Err(_) => {
                child.kill();
                let text = format!("cannot start {instance}: its shim has not answered within {START_WAIT_MAX:?}");
                Err(error(WorldErrorKind::Timeout, text))
            }
        }
    }
}

fn spawn(
    shim: &super::ShimCommand,
    folder: &Folder,
    instance: &InstanceId,
    incarnation: u64,
) -> io::Result<(Child, Pair)> {
    std::fs::create_dir_all(folder.path())?;
    let log = File::create(folder.shim_log())?;
    let (ours, theirs) = Pair::pair()?;
    ours.set_nonblocking(true)?;
    let mut command = Command::new(&shim.program);
    // The instance and its life are there for people who read `ps`.
    command.args(&shim.arguments).arg(crate::shim::HOLD).arg(instance.to_string()).arg(incarnation.to_string());
    command.env_clear().envs(crate::exec::base_environment());
    command.stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).stderr(log);
    Ok((command.spawn()?, ours))
}

/// Asks for a shim's end, so that none becomes a zombie for as long as the agent lives.
struct Reaper(Option<Child>);

impl Reaper {
    fn kill(mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // Without a runtime the agent is at its end, and so is the zombie.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let Ok(pidfd) = Pidfd::of_child(child.id()) else { return };
        runtime.spawn(async move {
            pidfd.ended().await;
            let _ = child.try_wait();
        });
    }
}
