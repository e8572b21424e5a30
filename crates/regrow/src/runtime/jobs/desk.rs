//! What doors can ask of the queue.

use super::{Secrets, cluster, told};
use crate::runtime::{Handle, now};
use regrow_control::features::job::order::{self, OrderError, Wish};
use regrow_control::features::job::schedule::next_after;
use regrow_control::features::job::why::{Around, waits};
use regrow_jobs::limits::LISTED_MAX;
use regrow_jobs::{Error, Queue, Submission, tend};
use regrow_model::run::{Order, Run, State, Worker};
use regrow_model::spec::Job;
use regrow_model::{Name, RunId, View};
use regrow_serve::jobs::Jobs;
use regrow_serve::jobs::wire::{Again, LogPiece, RunsQuery, ScheduleLine};
use regrow_serve::{AgentError, BoxFuture};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// See the module.
pub(crate) struct Desk {
    handle: Handle,
    queue: Arc<dyn Queue>,
    secrets: Secrets,
}

impl Desk {
    pub(crate) fn new(handle: Handle, queue: Arc<dyn Queue>, secrets: Secrets) -> Desk {
        Desk { handle, queue, secrets }
    }

    async fn look<T: Send + 'static>(&self, look: impl FnOnce(&View) -> T + Send + 'static) -> Result<T, AgentError> {
        let looked = self.handle.look(move |reconciler| look(reconciler.view())).await;
        looked.map_err(|error: AgentError| AgentError::Unavailable(error.to_string()))
    }

    /// Accepts an order.
    async fn accept(&self, order: Order, wish: &Wish, dead: &BTreeSet<String>) -> Result<RunId, AgentError> {
        let now = now();
        let run = tend::waiting(order, order::due(wish, now), now, dead);
        let id = run.id.clone();
        let ids = self.queue.submit(vec![Submission { run, key: wish.key.clone() }]).await.map_err(unavailable)?;
        Ok(ids.into_iter().next().unwrap_or(id))
    }

    async fn ended_run(&self, id: RunId) -> Result<Run, AgentError> {
        let run = self.queue.get(id.clone()).await.map_err(unavailable)?.ok_or_else(|| no_run(&id))?;
        if !run.state.is_final() {
            return Err(AgentError::Refused(format!("run {id} is {}: it is repeated when it has ended", run.state)));
        }
        Ok(run)
    }

    async fn repeat(&self, id: RunId, again: Again, by: String) -> Result<RunId, AgentError> {
        let run = self.ended_run(id.clone()).await?;
        let limit: Vec<String> = match (&run.result, again.failed_hosts) {
            (Some(result), true) => result.failed_hosts().map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        if again.failed_hosts && limit.is_empty() {
            return Err(AgentError::Refused(format!("nothing has failed on a host in run {id}")));
        }
        let wish = Wish {
            parameters: run.order.answers.clone().into_iter().collect(),
            priority: Some(run.order.priority),
            limit,
            ..Wish::default()
        };
        let (job, asked) = (run.order.job.clone(), wish.clone());
        let (order, dead) = self
            .look(move |view| {
                let order = order::order(view, &job, &asked, &by, now());
                // A job that is gone is repeated as it was, unless other hosts are wanted.
                let kept = |order: &Order| Order { by: by.clone(), deadline: None, ..order.clone() };
                let order = match order {
                    Err(OrderError::NoJob(_)) if !again.failed_hosts => Ok(kept(&run.order)),
                    order => order,
                };
                (order, cluster::dead(view))
            })
            .await?;
        self.accept(order.map_err(refused)?, &wish, &dead).await
    }

    /// Why a run waits.
    async fn reasons(&self, id: RunId) -> Result<Vec<String>, AgentError> {
        let run = self.queue.get(id.clone()).await.map_err(unavailable)?.ok_or_else(|| no_run(&id))?;
        if !matches!(run.state, State::Queued | State::Parked) {
            return Ok(Vec::new());
        }
        let live = self.queue.list(false, LISTED_MAX).await.map_err(unavailable)?;
        let workers = self.queue.workers().await.map_err(unavailable)?;
        let dead = self.look(cluster::dead).await?;
        Ok(waits(&run, Around { live: &live, workers: &workers, dead: &dead }, now()))
    }

    async fn schedule_lines(&self) -> Result<Vec<ScheduleLine>, AgentError> {
        let schedules = self.look(|view| view.schedules.clone()).await?;
        let mut lines = Vec::with_capacity(schedules.len());
        for (name, schedule) in schedules {
            let fired = self.queue.fired(name.clone()).await.map_err(unavailable)?.unwrap_or_default();
            let mut runs = Vec::new();
            for id in fired.runs {
                let run = self.queue.get(id).await.map_err(unavailable)?;
                runs.extend(run.filter(|run| !run.state.is_final()).map(|run| run.id));
            }
            let spec = schedule.spec.clone();
            let next = if spec.paused { None } else { next_after(&spec, fired.at.max(schedule.at)) };
            lines.push(ScheduleLine { name, schedule: spec, next, last: Some(fired.at).filter(|at| at.0 > 0), runs });
        }
        Ok(lines)
    }

    async fn secret_of(&self, job: Name) -> Result<Option<Vec<u8>>, AgentError> {
        let found = self
            .look(move |view| {
                let job = view.jobs.get(&job)?;
                Some((job.spec.webhook.clone()?, job.root.clone()))
            })
            .await?;
        let Some((secret, root)) = found else { return Ok(None) };
        let value = self.secrets.one("webhook", &secret, &root).await.map_err(AgentError::Unavailable)?;
        Ok(Some(value.into_bytes()))
    }
}

fn no_run(id: &RunId) -> AgentError {
    AgentError::NotFound(Error::NoRun(id.clone()).to_string())
}

fn unavailable(error: Error) -> AgentError {
    match error {
        Error::NoRun(id) => no_run(&id),
        error => AgentError::Unavailable(told(&error)),
    }
}

fn refused(error: OrderError) -> AgentError {
    match error {
        OrderError::NoJob(_) => AgentError::NotFound(error.to_string()),
        _ => AgentError::Usage(error.to_string()),
    }
}

impl Jobs for Desk {
    fn jobs(&self) -> BoxFuture<'_, Result<BTreeMap<Name, Job>, AgentError>> {
        let jobs = |view: &View| view.jobs.iter().map(|(name, job)| (name.clone(), job.spec.clone())).collect();
        Box::pin(self.look(jobs))
    }

    fn schedules(&self) -> BoxFuture<'_, Result<Vec<ScheduleLine>, AgentError>> {
        Box::pin(self.schedule_lines())
    }

    fn submit(&self, job: Name, wish: Wish, by: String) -> BoxFuture<'_, Result<RunId, AgentError>> {
        Box::pin(async move {
            let asked = wish.clone();
            let (order, dead) =
                self.look(move |view| (order::order(view, &job, &asked, &by, now()), cluster::dead(view))).await?;
            self.accept(order.map_err(refused)?, &wish, &dead).await
        })
    }

    fn again(&self, id: RunId, again: Again, by: String) -> BoxFuture<'_, Result<RunId, AgentError>> {
        Box::pin(self.repeat(id, again, by))
    }

    fn run(&self, id: RunId) -> BoxFuture<'_, Result<Option<Run>, AgentError>> {
        Box::pin(async move { self.queue.get(id).await.map_err(unavailable) })
    }

    fn runs(&self, query: RunsQuery) -> BoxFuture<'_, Result<Vec<Run>, AgentError>> {
        Box::pin(async move {
            let limit = query.limit.clamp(1, LISTED_MAX);
            // What is chosen among is more than what is given.
            let looked_at = if query.job.is_some() || query.state.is_some() { LISTED_MAX } else { limit };
            let mut runs = self.queue.list(query.ended, looked_at).await.map_err(unavailable)?;
            runs.retain(|run| {
                query.job.as_ref().is_none_or(|job| run.order.job == *job)
                    && query.state.is_none_or(|state| run.state == state)
            });
            runs.sort_by(|one, other| other.id.cmp(&one.id));
            runs.truncate(limit);
            Ok(runs)
        })
    }

    fn waits(&self, id: RunId) -> BoxFuture<'_, Result<Vec<String>, AgentError>> {
        Box::pin(self.reasons(id))
    }

    fn cancel(&self, id: RunId, by: String) -> BoxFuture<'_, Result<bool, AgentError>> {
        Box::pin(async move { self.queue.cancel(id, by).await.map_err(unavailable) })
    }

    fn log(&self, id: RunId, after: Option<String>) -> BoxFuture<'_, Result<Vec<LogPiece>, AgentError>> {
        Box::pin(async move {
            let chunks = self.queue.log(id, after).await.map_err(unavailable)?;
            Ok(chunks.into_iter().map(|chunk| LogPiece { cursor: chunk.cursor, lines: chunk.lines }).collect())
        })
    }

    fn workers(&self) -> BoxFuture<'_, Result<Vec<Worker>, AgentError>> {
        Box::pin(async move { self.queue.workers().await.map_err(unavailable) })
    }

    fn webhook(&self, job: Name) -> BoxFuture<'_, Result<Option<Vec<u8>>, AgentError>> {
        Box::pin(self.secret_of(job))
    }
}
