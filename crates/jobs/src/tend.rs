//! What nobody asks for: losses, deadlines, schedules, and what is old.

use crate::limits::{SWEEP, TEND};
use crate::queue::{BoxFuture, Clock, Queue};
use crate::worker::{fresh_id, until};
use regrow_control::features::job::order::{OrderError, Wish};
use regrow_control::features::job::policy;
use regrow_control::features::job::schedule::{self, Fired};
use regrow_model::run::{Order, Run};
use regrow_model::{Entry, Name, Time, desired};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// What a tender knows of the cluster beside the queue.
pub trait Cluster: Send + Sync + 'static {
    /// The schedules of the spec; none where it is not known.
    fn schedules(&self) -> BoxFuture<'_, BTreeMap<Name, Entry<desired::Schedule>>>;
    /// The order of a run, as the cluster is now; `None` where that is not known now.
    fn order(&self, job: Name, wish: Wish, by: String) -> BoxFuture<'_, Option<Result<Order, OrderError>>>;
    /// Hosts that gossip says are dead; `None` where that is not known, and then what is parked stays so.
    fn dead(&self) -> BoxFuture<'_, Option<BTreeSet<String>>>;
}

/// For a process that knows nothing of the cluster: it tends what the queue alone says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Cluster for Nothing {
    fn schedules(&self) -> BoxFuture<'_, BTreeMap<Name, Entry<desired::Schedule>>> {
        Box::pin(async { BTreeMap::new() })
    }
    fn order(&self, _: Name, _: Wish, _: String) -> BoxFuture<'_, Option<Result<Order, OrderError>>> {
        Box::pin(async { None })
    }
    fn dead(&self) -> BoxFuture<'_, Option<BTreeSet<String>>> {
        Box::pin(async { None })
    }
}

/// A run of an order that waits from now on, or from `due`.
pub fn waiting(order: Order, due: Time, now: Time, dead: &BTreeSet<String>) -> Run {
    policy::accepted(Run::waiting(fresh_id(), order, due, now), dead, now)
}

/// Tends a queue until `end` says so. Any number of processes may, at the same time.
pub async fn tend(queue: Arc<dyn Queue>, cluster: Arc<dyn Cluster>, clock: Clock, mut end: watch::Receiver<bool>) {
    let mut swept: Option<Instant> = None;
    let mut dealt_with: BTreeMap<Name, Time> = BTreeMap::new();
    loop {
        if tokio::time::timeout(TEND, until(&mut end, |end| *end)).await.is_ok() {
            return;
        }
        if let Err(error) = queue.tend(cluster.dead().await).await {
            tracing::debug!(%error, "the queue cannot be tended");
            continue;
        }
        let schedules = cluster.schedules().await;
        dealt_with.retain(|name, _| schedules.contains_key(name));
        for (name, schedule) in &schedules {
            // Most looks find nothing due, and ask the queue nothing.
            let known = dealt_with.get(name).copied().unwrap_or_default();
            let now = clock();
            if schedule::next_after(&schedule.spec, known.max(schedule.at)).is_none_or(|next| next > now) {
                continue;
            }
            match begin(&*queue, &*cluster, name, schedule, now).await {
                Ok(at) => drop(dealt_with.insert(name.clone(), at)),
                Err(error) => tracing::debug!(%error, schedule = %name, "the schedule cannot be looked at"),
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

/// Begins the runs of a schedule whose times have come. The answer: times up to there are dealt with.
pub async fn begin(
    queue: &dyn Queue,
    cluster: &dyn Cluster,
    name: &Name,
    schedule: &desired::Schedule,
    now: Time,
) -> Result<Time, crate::Error> {
    let was = queue.fired(name.clone()).await?;
    let fired = was.clone().unwrap_or_default();
    if schedule::next_after(&schedule.spec, fired.at.max(schedule.at)).is_none_or(|next| next > now) {
        return Ok(fired.at);
    }
    let mut live = Vec::new();
    for id in &fired.runs {
        live.extend(queue.get(id.clone()).await?.filter(|run| !run.state.is_final()));
    }
    let due = schedule::due(&schedule.spec, schedule.at, &fired, &live.iter().collect::<Vec<_>>(), now);
    let by = format!("schedule/{name}");
    let wish = Wish { parameters: schedule.spec.parameters.clone(), ..Wish::default() };
    let dead = cluster.dead().await.unwrap_or_default();
    let mut runs = Vec::new();
    for time in &due.fire {
        match cluster.order(schedule.spec.job.clone(), wish.clone(), by.clone()).await {
            Some(Ok(mut order)) => {
                if schedule.spec.overlap != regrow_model::spec::Overlap::Allow {
                    let slot = regrow_model::run::Slot { name: by.clone(), limit: 1 };
                    order.slots.push(slot);
                }
                runs.push(waiting(order, *time, now, &dead));
            }
            Some(Err(error)) => tracing::warn!(schedule = %name, %error, "the schedule's run is refused"),
            None => return Ok(fired.at),
        }
    }
    let mut known: Vec<_> = live.iter().map(|run| run.id.clone()).collect();
    known.extend(runs.iter().map(|run| run.id.clone()));
    if let Some((count, why)) = due.left_out {
        tracing::info!(schedule = %name, count, "times are left out: {why}");
    }
    if !queue.fire(name.clone(), was, Fired { at: due.at, runs: known }, runs).await? {
        // Another process has dealt with it; what it remembers is read with the next look.
        return Ok(fired.at);
    }
    for id in due.cancel {
        queue.cancel(id, by.clone()).await?;
    }
    Ok(due.at)
}
