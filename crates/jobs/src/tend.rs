//! What nobody asks for: losses, deadlines, schedules, and what is old.

use crate::limits::{SWEEP, TEND};
use crate::queue::{Clock, Queue};
use crate::worker::fresh_id;
use regrow_control::features::job::order::{self, Wish};
use regrow_control::features::job::policy;
use regrow_control::features::job::schedule::{self, Fired};
use regrow_model::run::{Order, Run, State};
use regrow_model::{Name, Time, View};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What a tender knows of the cluster beside the queue.
pub trait Cluster: Send + Sync + 'static {
    /// The cluster as it is; `None` where it is not known, and then no schedule is looked at.
    fn view(&self) -> crate::BoxFuture<'_, Option<Arc<View>>>;
    /// Hosts that gossip says are dead.
    fn dead(&self) -> BTreeSet<String>;
}

/// A run of an order that waits from now on, or from `due`.
pub fn waiting(order: Order, due: Time, now: Time, dead: &BTreeSet<String>) -> Run {
    let run = Run {
        id: fresh_id(),
        order: Arc::new(order),
        state: State::Queued,
        due,
        attempt: 0,
        failures: 0,
        resume: false,
        submitted: now,
        started: None,
        worker: None,
        why: String::new(),
        result: None,
        ended: None,
        dead: false,
    };
    policy::accepted(run, dead, now)
}

/// Tends a queue until `end` says so. Any number of processes may, at the same time.
pub async fn tend(queue: Arc<dyn Queue>, cluster: Arc<dyn Cluster>, clock: Clock, mut end: watch::Receiver<bool>) {
    let mut swept: Option<Instant> = None;
    loop {
        let ended = tokio::time::timeout(TEND, end.wait_for(|end| *end)).await;
        if ended.is_ok() {
            return;
        }
        if let Err(error) = queue.tend(cluster.dead()).await {
            tracing::debug!(%error, "the queue cannot be tended");
            continue;
        }
        if let Some(view) = cluster.view().await {
            for (name, schedule) in &view.schedules {
                if let Err(error) = begin(&*queue, &*cluster, &view, name, schedule, clock()).await {
                    tracing::debug!(%error, schedule = %name, "the schedule cannot be looked at");
                }
            }
        }
        if swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            swept = Some(Instant::now());
            if let Err(error) = queue.sweep().await {
                tracing::debug!(%error, "what is old cannot be forgotten");
            }
        }
    }
}

/// Begins the runs of a schedule whose times have come.
pub async fn begin(
    queue: &dyn Queue,
    cluster: &dyn Cluster,
    view: &View,
    name: &Name,
    schedule: &regrow_model::desired::Schedule,
    now: Time,
) -> Result<(), crate::Error> {
    // Most looks find nothing due, and ask the queue nothing.
    let next = schedule::next_after(&schedule.spec, schedule.at);
    if next.is_none_or(|next| next > now) {
        return Ok(());
    }
    let was = queue.fired(name.clone()).await?;
    let fired = was.clone().unwrap_or_default();
    if schedule::next_after(&schedule.spec, fired.at.max(schedule.at)).is_none_or(|next| next > now) {
        return Ok(());
    }
    let mut live = Vec::new();
    for id in &fired.runs {
        live.extend(queue.get(id.clone()).await?.filter(|run| !run.state.is_final()));
    }
    let due = schedule::due(&schedule.spec, schedule.at, &fired, &live.iter().collect::<Vec<_>>(), now);
    let by = format!("schedule/{name}");
    let wish = Wish { parameters: schedule.spec.parameters.clone(), ..Wish::default() };
    let mut runs = Vec::new();
    for time in &due.fire {
        match order::order(view, &schedule.spec.job, &wish, &by, now) {
            Ok(mut order) => {
                if schedule.spec.overlap != regrow_model::spec::Overlap::Allow {
                    let slot = regrow_model::run::Slot { name: format!("schedule/{name}"), limit: 1 };
                    order.slots.push(slot);
                }
                runs.push(waiting(order, *time, now, &cluster.dead()));
            }
            Err(error) => tracing::warn!(schedule = %name, %error, "the schedule's run is refused"),
        }
    }
    let mut known: Vec<_> = live.iter().map(|run| run.id.clone()).collect();
    known.extend(runs.iter().map(|run| run.id.clone()));
    if let Some((count, why)) = due.left_out {
        tracing::info!(schedule = %name, count, "times are left out: {why}");
    }
    if queue.fire(name.clone(), was, Fired { at: due.at, runs: known }, runs).await? {
        for id in due.cancel {
            queue.cancel(id, by.clone()).await?;
        }
    }
    Ok(())
}
