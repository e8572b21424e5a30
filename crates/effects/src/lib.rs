//! The world: files, processes, exec, checks. Interprets actions, decides nothing.
//!
//! [`World`] does what an [`regrow_model::Action`] says and tells what came of it as an [`regrow_model::Outcome`];
//! what happens unasked comes as an [`regrow_model::Observation`] through a bounded channel.
//!
//! - Instances are processes that outlive the agent; each has a shim beside it ([`shim_main`]).
//! - Runs of jobs are carried out ([`run`]), each under a leash ([`leash_main`]) that ends it with its worker.
//! - Files are put in place as whole sets, and kept.
//! - Everything has a bound: time, output, connections, processes. Every refusal has a name
//!   ([`regrow_model::observed::WorldErrorKind`]) and a text that says what, to what, and why.

mod checks;
mod durable;
mod error;
mod exec;
mod files;
mod handler;
mod haproxy;
mod http;
mod instance;
mod leash;
mod logs;
mod output;
mod owner;
mod pidfd;
mod port;
mod probe;
mod proc;
pub mod run;
mod shim;
mod signal;
pub mod ssh;
mod tell;
mod world;

pub use handler::{Handled, Script, handle};
pub use instance::ShimCommand;
pub use leash::leash_main;
pub use logs::Reader;
pub use shim::shim_main;
pub use world::World;

use regrow_model::observed::{WorldError, WorldErrorKind};

/// Runs what may block the thread where that is no harm.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WorldError> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|source| error::error(WorldErrorKind::Other, format!("the agent is ending: {source}")))
}
