//! The way to copy where replication is refused: keys by `SCAN`, values by `DUMP`, and what changes meanwhile by keyspace events.
//!
//! Flow: a feed subscribes to the events of its master ([`events`]) and then scans it. Both put keys into a [`queue`]; copiers
//! ([`copy`]) read each key's value and expiry as they are then, and write them to the target in the place of what is there. A
//! position of such a feed is a number of its queue; that all writes up to now are in the queue is known by a `PING` on the link
//! of the events, because a server answers it after the events of all that it did before.
//!
//! What tells no event is looked for: commands that empty or exchange databases are counted by the server, and are a reason to read
//! all again; streams with groups, of which `XACK`, `XCLAIM` and `XREADGROUP` change what is pending, are read again whenever a position is
//! asked for; what a comparison finds different is read again before it counts.
//!
//! Guarantees: a value that is copied twice is the same as if copied once, so nothing depends on what was copied before a kill; events
//! that may have been missed, and servers of the target that may have lost what they had, are answered by reading all again, and by
//! removing from the target what is not on the source. Nothing is written to the source. Expiries are not held: one that is
//! renewed in time tells an event, and the key is copied again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};

use super::board::Board;
use super::error::MigrateError;

mod big;
mod copy;
mod events;
mod feed;
mod queue;
mod watch;

pub(super) use feed::ScanFlow;
use queue::{Key, Queue};

/// Those who ask for a position, at once.
const ASKS_MAX: usize = 64;

/// Why a feed cannot go on as it is.
#[derive(Debug)]
enum Ended {
    /// All has to be read again.
    Again(String),
    Failed(MigrateError),
}

impl From<MigrateError> for Ended {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Server(error) if error.retryable() => Self::Again(crate::admin::chain(&error)),
            MigrateError::Behind => Self::Again("another server has taken over".to_owned()),
            error => Self::Failed(error),
        }
    }
}

impl From<crate::connection::Error> for Ended {
    fn from(error: crate::connection::Error) -> Self {
        MigrateError::from(error).into()
    }
}

/// Somebody wants to know a feed's position.
#[derive(Debug)]
struct Ask {
    /// Also for writes that tell no event.
    thorough: bool,
    reply: oneshot::Sender<u64>,
}

/// The changed keys of a feed, for all that deal with them.
#[derive(Debug)]
pub(super) struct Changes {
    queue: Mutex<Queue>,
    /// Keys were put in, or copied.
    turned: Notify,
    asks: mpsc::Sender<Ask>,
    asked: tokio::sync::Mutex<mpsc::Receiver<Ask>>,
    /// Streams that have groups, with a fingerprint of what was copied last.
    streams: Mutex<HashMap<Key, u64>>,
}

impl Changes {
    /// With as many parts as there are copiers.
    pub(super) fn new(copiers: usize) -> Self {
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        Self {
            queue: Mutex::new(Queue::new(copiers)),
            turned: Notify::new(),
            asks,
            asked: tokio::sync::Mutex::new(asked),
            streams: Mutex::default(),
        }
    }

    /// The position that has all that the source has done before this was called. `thorough`: also what tells no event. Waits while there
    /// is no link to the source.
    pub(super) async fn position(&self, thorough: bool, board: &Board) -> Result<u64, MigrateError> {
        loop {
            let (reply, answer) = oneshot::channel();
            let asked = async {
                self.asks.send(Ask { thorough, reply }).await.ok()?;
                answer.await.ok()
            };
            tokio::select! {
                // A link that broke takes those who wait along.
                position = asked => if let Some(position) = position { return Ok(position) },
                () = board.stopped() => return Err(MigrateError::Stopped),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Has keys copied again.
    pub(super) fn touch(&self, keys: impl IntoIterator<Item = (u32, Bytes)>) {
        let mut queue = self.queue();
        keys.into_iter().for_each(|key| queue.put(key));
        drop(queue);
        self.turned.notify_waiters();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<Key, u64>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something holds of the queue.
    async fn until<T>(&self, look: impl Fn(&mut Queue) -> Option<T>) -> T {
        loop {
            let turned = self.turned.notified();
            if let Some(found) = look(&mut self.queue()) {
                return found;
            }
            turned.await;
        }
    }

    /// Shows on the board how far it is.
    fn show(&self, feed: usize, board: &Board) {
        let (last, reached) = {
            let queue = self.queue();
            (queue.last(), queue.reached())
        };
        board.feed(feed, |feed| {
            (feed.spooled, feed.applied) = (feed.spooled.max(last), feed.applied.max(reached));
        });
        self.turned.notify_waiters();
    }
}
