//! The front doors: they know wire formats and decide nothing.
//!
//! - [`Entrance`]: where connections come in; [`access`]: who is there.
//! - [`Agent`]: what a door can ask of the agent behind it.
//! - [`api`]: Regrow's own HTTP interface, on a Unix socket and on the HTTP door.
//! - [`etcd`]: the store as an etcd member, by gRPC.
//! - [`jobs`]: jobs and their runs.
//! - [`membership`]: members, events, queries, keys: over HTTP; [`serf`]: the same as Serf's RPC.
//! - [`wire`]: the types that travel, shared with the command line.

pub mod access;
mod agent;
pub mod api;
mod entrance;
pub mod etcd;
pub mod jobs;
pub mod membership;
pub mod serf;
pub mod wire;

pub use agent::{Agent, AgentError, BoxFuture, Lines};
pub use entrance::Entrance;
