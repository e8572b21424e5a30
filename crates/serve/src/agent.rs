//! What a door can ask of the agent behind it.

use crate::wire::{EventsQuery, LogsQuery, RenderedTemplate};
use regrow_control::apply::{Difference, Resolved};
use regrow_control::explain::Explanation;
use regrow_control::reconcile::{Answer, Command};
use regrow_control::status::Status;
use regrow_model::{InstanceId, Name, Plan, Ref};
use std::pin::Pin;
use tokio::sync::mpsc;

/// A future that can be sent between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Lines of JSON, without their line ends, until the sender has no more. Bounded: a slow reader holds the sender up.
pub type Lines = mpsc::Receiver<String>;

/// The agent as doors see it.
pub trait Agent: Send + Sync + 'static {
    /// The cluster at a glance.
    fn status(&self) -> BoxFuture<'_, Result<Status, AgentError>>;
    /// What applying a spec would change, and what would be done first.
    fn preview(&self, resolved: Resolved) -> BoxFuture<'_, Result<(Vec<Difference>, Plan), AgentError>>;
    /// What would be done now, without any change.
    fn plan(&self) -> BoxFuture<'_, Result<Plan, AgentError>>;
    /// Has something changed.
    fn command(&self, command: Command) -> BoxFuture<'_, Result<Answer, AgentError>>;
    /// Why an object is as it is.
    fn explain(&self, object: Ref) -> BoxFuture<'_, Result<Explanation, AgentError>>;
    /// What a template renders to now, beside what is on disk.
    fn template(&self, name: Name) -> BoxFuture<'_, Result<RenderedTemplate, AgentError>>;
    /// Events, oldest first.
    fn events(&self, query: EventsQuery) -> BoxFuture<'_, Result<Lines, AgentError>>;
    /// An instance's output, oldest first.
    fn logs(&self, instance: InstanceId, query: LogsQuery) -> BoxFuture<'_, Result<Lines, AgentError>>;
}

/// Why the agent did not do as asked. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AgentError {
    /// What was sent does not fit; the caller's fault.
    #[error("{0}")]
    Usage(String),
    /// It cannot be, as things are.
    #[error("{0}")]
    Refused(String),
    /// There is no such object.
    #[error("{0}")]
    NotFound(String),
    /// It cannot be done now; retryable.
    #[error("{0}")]
    Unavailable(String),
}
