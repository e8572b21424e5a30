//! The agent as doors and commands see it.

use super::driver::Message;
use super::gossip::Trail;
use super::shelf::Shelf;
use super::{events, jobs, logs, now};
use regrow_control::apply::{Difference, Resolved};
use regrow_control::explain::{self, Explanation};
use regrow_control::reconcile::{Answer, Command, CommandError, Reconciler};
use regrow_control::status::{self, Status};
use regrow_effects::World;
use regrow_jobs::Queue;
use regrow_model::{InstanceId, Kind, Name, Plan, Ref, Standing};
use regrow_serve::wire::{EventsQuery, LogsQuery, RenderedFile, RenderedTemplate};
use regrow_serve::{Agent, AgentError, BoxFuture, Lines};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};

/// A cheap clone of the way to the loop.
#[derive(Clone)]
pub(crate) struct Handle {
    inbox: mpsc::Sender<Message>,
    shelf: Shelf,
    world: World,
    trail: Option<Trail>,
    /// The queue of runs, as soon as it is open.
    queue: Arc<OnceLock<Arc<dyn Queue>>>,
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Message>, shelf: Shelf, world: World, trail: Option<Trail>) -> Handle {
        Handle { inbox, shelf, world, trail, queue: Arc::default() }
    }

    /// From now on runs are told of too.
    pub(super) fn knows_runs(&self, queue: Arc<dyn Queue>) {
        // There is one queue, and it is opened once.
        let _ = self.queue.set(queue);
    }

    /// Where gossip reaches the members that the store lists as alive.
    pub(super) async fn living_members(&self) -> Result<Vec<String>, AgentError> {
        self.look(|reconciler| {
            let members = reconciler.view().members.values();
            members.filter(|member| member.standing == Standing::Alive).map(|member| member.address.clone()).collect()
        })
        .await
    }

    /// Computes something from the reconciler, inside the loop.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Reconciler) -> T + Send + 'static,
    ) -> Result<T, AgentError> {
        let (sender, answer) = oneshot::channel();
        let message = Message::Look(Box::new(move |reconciler| drop(sender.send(look(reconciler)))));
        self.inbox.send(message).await.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())
    }
}

fn ending() -> AgentError {
    AgentError::Unavailable("the agent is ending".to_owned())
}

impl Agent for Handle {
    fn status(&self) -> BoxFuture<'_, Result<Status, AgentError>> {
        Box::pin(self.look(|reconciler| status::status(reconciler.view(), reconciler.held(), now())))
    }

    fn preview(&self, resolved: Resolved) -> BoxFuture<'_, Result<(Vec<Difference>, Plan), AgentError>> {
        Box::pin(self.look(move |reconciler| reconciler.preview(&resolved, now())))
    }

    fn plan(&self) -> BoxFuture<'_, Result<Plan, AgentError>> {
        Box::pin(self.look(|reconciler| reconciler.plan(now())))
    }

    fn command(&self, command: Command) -> BoxFuture<'_, Result<Answer, AgentError>> {
        Box::pin(async move {
            let (sender, answer) = oneshot::channel();
            self.inbox.send(Message::Ask(Box::new(command), sender)).await.map_err(|_| ending())?;
            answer.await.map_err(|_| ending())?.map_err(|error| match error {
                CommandError::Order(error) => order(&error),
                CommandError::Store(_) | CommandError::Contention(_) => AgentError::Unavailable(error.to_string()),
            })
        })
    }

    fn explain(&self, object: Ref) -> BoxFuture<'_, Result<Explanation, AgentError>> {
        Box::pin(async move {
            let events = events::all(&self.shelf).await.map_err(|error| AgentError::Unavailable(error.to_string()))?;
            let (name, job, is_job) = (object.to_string(), object.name.clone(), object.kind == Kind::Job);
            let trail = self.trail.as_ref().filter(|_| object.kind == Kind::Node);
            let trail = trail.map(|trail| trail.of(object.name.as_str())).unwrap_or_default();
            let mut explanation = self
                .look(move |reconciler| explain::explain(reconciler.view(), &events, reconciler.held(), &object, now()))
                .await?;
            if let Some(queue) = self.queue.get().filter(|_| is_job) {
                explanation.now.extend(jobs::last_runs(&**queue, &job, now()).await);
            }
            explanation.now.extend(trail.into_iter().map(|(at, what)| format!("{}  {what}", super::clock_text(at))));
            if explanation.is_unknown() {
                return Err(AgentError::NotFound(format!(
                    "there is no {name}, and nothing is known of it: `regrow status` lists what is there"
                )));
            }
            Ok(explanation)
        })
    }

    fn template(&self, name: Name) -> BoxFuture<'_, Result<RenderedTemplate, AgentError>> {
        Box::pin(async move {
            let wanted = name.clone();
            let rendered = self.look(move |reconciler| reconciler.render(&wanted)).await?;
            let set = match rendered {
                None => return Err(AgentError::NotFound(format!("there is no template `{name}`"))),
                Some(Err(error)) => return Err(AgentError::Refused(error.to_string())),
                Some(Ok(set)) => set,
            };
            let files = set.files.into_iter().map(|file| RenderedFile {
                current: std::fs::read_to_string(&file.destination).ok(),
                destination: file.destination,
                content: file.content.to_string(),
            });
            Ok(RenderedTemplate { files: files.collect() })
        })
    }

    fn events(&self, query: EventsQuery) -> BoxFuture<'_, Result<Lines, AgentError>> {
        Box::pin(events::lines(self.shelf.clone(), query))
    }

    fn logs(&self, instance: InstanceId, query: LogsQuery) -> BoxFuture<'_, Result<Lines, AgentError>> {
        Box::pin(logs::lines(self.world.clone(), instance, query))
    }
}

fn order(error: &regrow_control::apply::OrderError) -> AgentError {
    use regrow_control::apply::OrderError;
    match error {
        OrderError::NoGroup { .. } | OrderError::NoInstance(_) => AgentError::NotFound(error.to_string()),
        _ => AgentError::Refused(error.to_string()),
    }
}
