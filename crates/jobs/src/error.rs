//! What can go wrong with a queue.

use regrow_model::RunId;

/// Why a queue did not do as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store behind it failed; a write may or may not have happened.
    #[error("the store of the queue failed")]
    Store(#[from] regrow_store::Error),
    /// Redis failed; a write may or may not have happened.
    #[error("the Redis of the queue failed")]
    Redis(#[from] regrow_redis::connection::Error),
    /// The worker's lease has ended: what it ran belongs to others now.
    #[error("the worker's lease has ended")]
    Lost,
    /// A record that is none.
    #[error("the record of run {run} cannot be read")]
    Record {
        /// Whose.
        run: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Redis answered with something else than its commands say.
    #[error("Redis gave an answer that does not fit: {0}")]
    Answer(&'static str),
    /// There is no such run.
    #[error("there is no run {0}")]
    NoRun(RunId),
    /// Not a place where a queue can be.
    #[error("`{url}` is not the place of a queue: {why}")]
    Place {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Error {
    /// Whether the same request may succeed later without anything changed by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Store(error) => error.is_retryable(),
            Error::Redis(error) => error.retryable(),
            _ => false,
        }
    }
}
