//! An agent and a membership that have nothing to say.

use std::sync::Arc;

use regrow_control::{
    apply::{Difference, Resolved},
    explain::Explanation,
    reconcile::{Answer, Command},
    status::Status as Overview,
};
use regrow_gossip::{Coordinate, Input, KeyOp, KeyReport, QueryRequest};
use regrow_model::{InstanceId, Name, Plan, Ref};
use regrow_serve::{
    Agent, AgentError, BoxFuture, Lines,
    membership::{Happening, Joining, Membership, MembershipError, QueryAnswer, Roll},
    wire::{EventsQuery, LogsQuery, RenderedTemplate},
};
use tokio::sync::{broadcast, mpsc};

/// Answers that it is mute.
pub(crate) struct Mute;

fn mute<T: Send + 'static>() -> BoxFuture<'static, Result<T, AgentError>> {
    Box::pin(async { Err(AgentError::Unavailable("it is mute".to_owned())) })
}

fn alone<T: Send + 'static>() -> BoxFuture<'static, Result<T, MembershipError>> {
    Box::pin(async { Err(MembershipError::Unavailable("it is mute".to_owned())) })
}

impl Agent for Mute {
    fn status(&self) -> BoxFuture<'_, Result<Overview, AgentError>> {
        mute()
    }
    fn preview(&self, _: Resolved) -> BoxFuture<'_, Result<(Vec<Difference>, Plan), AgentError>> {
        mute()
    }
    fn plan(&self) -> BoxFuture<'_, Result<Plan, AgentError>> {
        mute()
    }
    fn command(&self, _: Command) -> BoxFuture<'_, Result<Answer, AgentError>> {
        mute()
    }
    fn explain(&self, _: Ref) -> BoxFuture<'_, Result<Explanation, AgentError>> {
        mute()
    }
    fn template(&self, _: Name) -> BoxFuture<'_, Result<RenderedTemplate, AgentError>> {
        mute()
    }
    fn events(&self, _: EventsQuery) -> BoxFuture<'_, Result<Lines, AgentError>> {
        mute()
    }
    fn logs(&self, _: InstanceId, _: LogsQuery) -> BoxFuture<'_, Result<Lines, AgentError>> {
        mute()
    }
}

impl Membership for Mute {
    fn roll(&self) -> BoxFuture<'_, Result<Roll, MembershipError>> {
        alone()
    }
    fn coordinate(&self, _: String) -> BoxFuture<'_, Result<Option<Coordinate>, MembershipError>> {
        alone()
    }
    fn command(&self, _: Input) -> BoxFuture<'_, Result<(), MembershipError>> {
        alone()
    }
    fn join(&self, _: Vec<String>, _: bool) -> BoxFuture<'_, Result<Joining, MembershipError>> {
        alone()
    }
    fn leave(&self) -> BoxFuture<'_, Result<(), MembershipError>> {
        alone()
    }
    fn query(&self, _: QueryRequest) -> BoxFuture<'_, Result<mpsc::Receiver<QueryAnswer>, MembershipError>> {
        alone()
    }
    fn keys(&self, _: KeyOp, _: u8) -> BoxFuture<'_, Result<KeyReport, MembershipError>> {
        alone()
    }
    fn happenings(&self) -> broadcast::Receiver<Arc<Happening>> {
        broadcast::channel(1).1
    }
    fn log(&self) -> broadcast::Receiver<Arc<(tracing::Level, String)>> {
        broadcast::channel(1).1
    }
}
