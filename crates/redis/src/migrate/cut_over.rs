//! The cut-over: the source's writers are paused, the target is brought to the same state, the endpoint is switched.
//!
//! All that takes long is done before the pause. What goes wrong before the switch ends the pause and leaves the migration as
//! it was.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::process::Command as Program;
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::proxy::Remote;
use crate::resp::Command;

use super::error::MigrateError;
use super::options::{Keys, now_ms};
use super::run::Hand;
use super::verify::{Extent, Verdict, Verifier};
use super::way_back::{AtSwitch, Crossing, Switched, send_away, switch};

/// How a cut-over goes about it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CutOver {
    /// How long the source's writers may be paused, in milliseconds; beyond it the cut-over is given up. Default 10 s.
    pub pause_max_ms: u64,
    /// Shell command that switches the endpoint.
    pub switch_with: Option<String>,
    /// Admin socket of the proxy that clients use: it holds their commands during the pause, and is switched to the target.
    pub proxy: Option<PathBuf>,
    /// Whether there is to be a way back; only with a proxy. Then late writes are not carried over: connections that did not come
    /// by the proxy are closed instead.
    pub way_back: bool,
    /// How long late writes to the source are still carried over, in milliseconds. Default 2 s.
    pub linger_ms: u64,
}

/// What a cut-over came to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct CutOverReport {
    /// Milliseconds for which writers were paused.
    pub paused_ms: u64,
    /// Of the keys written last.
    pub tail: Verdict,
    /// Writes that came to the source after the switch, and were carried over.
    pub late_writes: u64,
}

/// Both sides are the same.
struct InStep {
    tail: Verdict,
    near: Option<Keys>,
}

impl Hand {
    /// Cuts over. The feeds run on; when this is done they can be stopped and the migration finished. `crossing`: for a way back.
    pub async fn cut_over(
        &self,
        plan: &CutOver,
        tolerance_ms: u64,
        mut crossing: Option<&mut Crossing>,
        say: &mut (dyn FnMut(&str) + Send),
    ) -> Result<CutOverReport, MigrateError> {
        self.caught_up().await?;
        if let Some(crossing) = crossing.as_deref_mut() {
            say("attaching to the target for the way back");
            crossing.prepare(&self.shared).await?;
        }
        say("releasing expiries");
        let released_from = now_ms();
        self.release_far().await?;
        self.caught_up().await?;
        let mut links = self.shared.source.links().await?;
        say("pausing the source's writers");
        let began = Instant::now();
        let proxy = plan.proxy.as_ref().map(Remote::new);
        let result = self
            .under_pause(plan, proxy.as_ref(), &mut links, tolerance_ms, released_from, crossing.as_deref_mut())
            .await;
        if let Some(proxy) = &proxy {
            // It may never have been paused, or the pause is over by itself.
            let _ = proxy.resume().await;
        }
        let mut paused_ms = millis(began);
        if result.is_ok() && crossing.is_some() {
            // A link that is broken ends the pause with it.
            let _ = send_away(&mut links).await;
        }
        let unpaused = unpause(&mut links).await;
        if proxy.is_none() {
            paused_ms = millis(began);
        }
        match result {
            Ok((tail, written)) => {
                unpaused?;
                let mut late_writes = 0;
                if crossing.is_none() {
                    tokio::time::sleep(Duration::from_millis(plan.linger_ms)).await;
                    self.caught_up().await?;
                    late_writes = self.status().writes.saturating_sub(written);
                }
                Ok(CutOverReport { paused_ms, tail, late_writes })
            }
            // Clients may be at the target, whose expiries are theirs then.
            Err(error @ MigrateError::SwitchUnknown(_)) => Err(error),
            Err(error) => {
                say("given up: the source's writers go on");
                self.hold().await?;
                Err(error)
            }
        }
    }

    /// From the pause to the switch.
    async fn under_pause(
        &self,
        plan: &CutOver,
        proxy: Option<&Remote>,
        links: &mut [Connection],
        tolerance_ms: u64,
        released_from: u64,
        crossing: Option<&mut Crossing>,
    ) -> Result<(Verdict, u64), MigrateError> {
        let (began, within) = (Instant::now(), Duration::from_millis(plan.pause_max_ms));
        if let Some(proxy) = proxy {
            proxy.pause(within / 2, within).await?;
        }
        pause(links, plan.pause_max_ms).await?;
        let too_late = || MigrateError::Patience {
            after: within,
            why: "the target was not in step within the longest pause allowed".to_owned(),
        };
        let left = || within.saturating_sub(began.elapsed());
        let step = timeout(left(), self.in_step(tolerance_ms)).await.map_err(|_| too_late())??;
        let written = self.status().writes;
        let Some(proxy) = proxy else {
            if let Some(command) = &plan.switch_with {
                run(command, left()).await?;
            }
            return Ok((step.tail, written));
        };
        let mut crossing = crossing;
        if let (Some(crossing), Some(socket)) = (crossing.as_deref_mut(), &plan.proxy) {
            let still = Arc::clone(&self.shared.gate).write_owned().await;
            let at = AtSwitch { near: step.near, released_from, still };
            timeout(left(), crossing.begin(&self.shared, at, socket)).await.map_err(|_| too_late())??;
        }
        // Not broken off by us: a proxy whose pause is over refuses.
        match switch(proxy, &self.shared.target).await {
            Switched::Yes => {
                // Clients are at the target now, whether this can be noted or not: without the note the proxy is asked.
                let _ = crossing.map_or(Ok(()), |crossing| crossing.end(true));
                Ok((step.tail, written))
            }
            Switched::No(error) => {
                crossing.map_or(Ok(()), |crossing| crossing.end(false))?;
                Err(error.into())
            }
            Switched::Unknown(error) => Err(MigrateError::SwitchUnknown(crate::admin::chain(&error))),
        }
    }

    /// Under the pause: drain, compare the tail, release what is held.
    async fn in_step(&self, tolerance_ms: u64) -> Result<InStep, MigrateError> {
        self.reach(&self.positions().await?).await?;
        let recent = self.shared.recent().into_iter().collect();
        let verifier = Verifier::new(&self.shared, self.slots.clone(), Extent::All, tolerance_ms, true);
        let tail = verifier.only(recent).await?;
        if let Some(found) = tail.differences.first() {
            return Err(MigrateError::refused(
                format!("the keys written last are not the same: {}: {}", found.key, found.what),
                "the source serves on; look at the key on both sides",
            ));
        }
        let near = self.shared.near.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.release_near().await?;
        Ok(InStep { tail, near })
    }
}

fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

async fn pause(links: &mut [Connection], ms: u64) -> Result<(), MigrateError> {
    for link in links {
        link.ok(&Command::new("CLIENT PAUSE").number(ms).arg("WRITE")).await?;
    }
    Ok(())
}

async fn unpause(links: &mut [Connection]) -> Result<(), MigrateError> {
    for link in links {
        link.ok(&Command::new("CLIENT UNPAUSE")).await?;
    }
    Ok(())
}

/// Runs the command that switches the endpoint; it must end well before the pause does.
async fn run(command: &str, within: Duration) -> Result<(), MigrateError> {
    let mut shell = Program::new("sh");
    shell.arg("-c").arg(command).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = match timeout(within, shell.output()).await {
        Ok(output) => output.map_err(|error| MigrateError::Switch(error.to_string()))?,
        Err(_) => return Err(MigrateError::Switch("the command took longer than the pause may be".to_owned())),
    };
    if output.status.success() {
        return Ok(());
    }
    let said: String = String::from_utf8_lossy(&output.stderr).trim().chars().take(300).collect();
    Err(MigrateError::Switch(format!("the command ended with {}: {said}", output.status)))
}
