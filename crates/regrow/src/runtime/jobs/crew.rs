//! Who tends the queue and who works on it, in one process.

use super::Carrier;
use super::clock;
use regrow_jobs::tend::{self, Cluster};
use regrow_jobs::worker::{self, Call};
use regrow_jobs::{Queue, Runner};
use regrow_model::{Name, RunId};
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Runs named when the worker drains; the rest is counted.
const NAMED_MAX: usize = 5;

/// See the module.
pub(crate) struct Crew {
    call: watch::Sender<Call>,
    end: watch::Sender<bool>,
    tending: JoinHandle<()>,
    working: Option<(JoinHandle<()>, Arc<Carrier>)>,
}

impl Crew {
    /// Begins to tend and, with a worker's settings and its carrier, to work.
    pub(crate) fn start(
        queue: &Arc<dyn Queue>,
        cluster: Arc<dyn Cluster>,
        worker: Option<(worker::Settings, Arc<Carrier>)>,
    ) -> Crew {
        let (call, called) = watch::channel(Call::Work);
        let (end, ended) = watch::channel(false);
        let tending = tokio::spawn(tend::tend(queue.clone(), cluster, clock(), ended));
        let working = worker.map(|(settings, carrier)| {
            let runner: Arc<dyn Runner> = carrier.clone();
            (tokio::spawn(worker::work(queue.clone(), runner, settings, clock(), called)), carrier)
        });
        Crew { call, end, tending, working }
    }

    /// Takes no more runs.
    pub(crate) fn drain(&self) {
        self.call.send_if_modified(|call| (*call < Call::Drain).then(|| *call = Call::Drain).is_some());
    }

    /// Ends what runs.
    pub(crate) fn stop(&self) {
        self.call.send_replace(Call::Stop);
    }

    /// Runs that are under way here, a line each; none where nothing is.
    pub(crate) fn under_way(&self) -> Vec<String> {
        let running: Vec<(RunId, Name)> = self.working.iter().flat_map(|(_, carrier)| carrier.under_way()).collect();
        let mut lines: Vec<String> =
            running.iter().take(NAMED_MAX).map(|(id, job)| format!("{id}  job/{job}")).collect();
        if running.len() > NAMED_MAX {
            lines.push(format!("and {} more", running.len() - NAMED_MAX));
        }
        lines
    }

    /// Until the worker has ended, because it was told to. Dropping the future changes nothing.
    pub(crate) async fn ended(&mut self) {
        if let Some((working, _)) = &mut self.working {
            // One that ended badly has ended.
            let _ = working.await;
        }
        self.working = None;
    }

    /// Tends no more; the worker has ended before.
    pub(crate) async fn close(self) {
        self.end.send_replace(true);
        let _ = self.tending.await;
    }
}
