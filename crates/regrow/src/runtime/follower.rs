//! Follows the store, for as long as the agent runs.
//!
//! Guarantees: the loop is told every change once and in order. Where the store cannot be reached it is asked again
//! from the first revision that was not told; where that is compacted by then, the loop is given the whole content.

use super::driver::Message;
use super::events;
use super::shelf::{self, Shelf};
use super::stage::Overlay;
use regrow_control::reconcile::{Input, StoreChange};
use regrow_model::key::EVENTS;
use regrow_model::{Name, Revision};
use regrow_store::{Error, Watch};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The pause before the store is asked again; the store's client has its own between its endpoints.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Follower {
    pub(super) shelf: Shelf,
    pub(super) overlay: Overlay,
    pub(super) inbox: mpsc::Sender<Message>,
    /// Prefixes of the users' own keys that are wanted.
    pub(super) prefixes: watch::Receiver<Vec<String>>,
    pub(super) node: Name,
    /// Told when the store has gone to another place, with other revisions.
    pub(super) moved: watch::Receiver<u64>,
    /// The first revision that was not told.
    pub(super) next: Revision,
}

/// Nobody listens any more, or the store is closed.
struct Over;

impl Follower {
    pub(super) async fn run(mut self, mut watch: Watch) {
        loop {
            let item = tokio::select! {
                biased;
                Ok(()) = self.moved.changed() => {
                    // The view's revisions are the old place's: what is compared with them would never hold again.
                    let gone = Error::Compacted { requested: regrow_store::Revision(self.next.0), compacted: regrow_store::Revision(self.next.0) };
                    Some(Err(gone))
                }
                item = watch.next() => item,
            };
            let told = match item {
                Some(Ok(item)) => {
                    let (changes, revision) = shelf::changes(item, &self.prefixes.borrow());
                    self.next = Revision(revision.0 + 1);
                    log_events(&changes, &self.node);
                    let changes = self.overlay.read(changes);
                    self.tell(Message::Input(Input::Changed { changes, revision })).await
                }
                Some(Err(error)) => match self.again(error).await {
                    Ok(new) => {
                        watch = new;
                        Ok(())
                    }
                    Err(over) => Err(over),
                },
                None => Err(Over),
            };
            if told.is_err() {
                return;
            }
        }
    }

    async fn tell(&self, message: Message) -> Result<(), Over> {
        self.inbox.send(message).await.map_err(|_| Over)
    }

    /// A watch that goes on where the one that failed ended.
    async fn again(&mut self, mut error: Error) -> Result<Watch, Over> {
        loop {
            let watch = match error {
                Error::Closed => return Err(Over),
                Error::Unavailable { .. } | Error::TooManyWatches { .. } => {
                    tracing::debug!("the watch on the store is begun again: {error}");
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => {}
                        () = self.inbox.closed() => return Err(Over),
                    }
                    self.shelf.resume(self.next).await
                }
                Error::Compacted { .. } => {
                    tracing::warn!("the store has other revisions than were told: everything is read anew");
                    self.reload().await?
                }
                error => {
                    tracing::error!("the watch on the store ended: {error}");
                    self.tell(Message::Leave).await?;
                    return Err(Over);
                }
            };
            match watch {
                Ok(watch) => return Ok(watch),
                Err(next) => error = next,
            }
        }
    }

    async fn reload(&mut self) -> Result<Result<Watch, Error>, Over> {
        let (changes, revision, watch) = match self.shelf.load().await {
            Ok(loaded) => loaded,
            // Asked again from the same revision, it will be told again that that is compacted.
            Err(error) => return Ok(Err(error)),
        };
        self.next = Revision(revision.0 + 1);
        self.overlay.clear();
        let changes = self.overlay.read(changes);
        self.tell(Message::Reloaded(changes, revision)).await?;
        Ok(Ok(watch))
    }
}

/// Tells the log of the events that this node has recorded.
fn log_events(changes: &[StoreChange], node: &Name) {
    for change in changes.iter().filter(|change| change.key.starts_with(EVENTS)) {
        let event = change.value.as_deref().and_then(|value| events::read(&change.key, value));
        if let Some((_, event)) = event.filter(|(_, event)| event.node == *node) {
            events::log(&event);
        }
    }
}
