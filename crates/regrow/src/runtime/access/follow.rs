//! Follows the tokens in the store, and tells the guard.
//!
//! While the store cannot be reached, what is known of tokens stays: a token that is revoked meanwhile is refused here as soon
//! as the store is back.

use super::record;
use regrow_model::access::TOKENS;
use regrow_serve::access::Guard;
use regrow_store::Pages;
use regrow_store::{Error, EventKind, Revision, Store, Watch, WatchItem, WatchRequest};
use std::sync::Arc;
use std::time::Duration;

/// The pause before the store is asked again.
const PAUSE: Duration = Duration::from_millis(500);

/// See the module.
pub(super) struct Follower {
    store: Arc<dyn Store>,
    guard: Guard,
    watch: Watch,
}

impl Follower {
    /// Tells the guard all tokens that there are.
    pub(super) async fn begin(store: Arc<dyn Store>, guard: Guard) -> Result<Follower, Error> {
        let watch = load(&*store, &guard).await?;
        Ok(Follower { store, guard, watch })
    }

    /// Until the store is closed.
    pub(super) async fn run(mut self) {
        loop {
            match self.watch.next().await {
                Some(Ok(WatchItem::Events { events, .. })) => {
                    for event in events {
                        let revision = event.kv.mod_revision.0;
                        let Some(id) = std::str::from_utf8(&event.kv.key).ok().and_then(|key| key.strip_prefix(TOKENS))
                        else {
                            continue;
                        };
                        let put = event.kind == EventKind::Put;
                        let token = if put { record(&event.kv.key, &event.kv.value) } else { None };
                        self.guard.know(id, token.map(|(_, token)| token), revision);
                    }
                }
                Some(Ok(WatchItem::Progress { .. })) => {}
                Some(Err(Error::Closed)) | None => return,
                Some(Err(error)) => {
                    tracing::warn!("the tokens are read anew, their watch ended: {error}");
                    self.watch = loop {
                        match load(&*self.store, &self.guard).await {
                            Ok(watch) => break watch,
                            Err(Error::Closed) => return,
                            Err(_) => tokio::time::sleep(PAUSE).await,
                        }
                    };
                }
            }
        }
    }
}

/// Tells the guard all tokens, and watches what becomes of them.
async fn load(store: &dyn Store, guard: &Guard) -> Result<Watch, Error> {
    let mut pages = Pages::of(store, TOKENS, Revision(0));
    let mut all = Vec::new();
    while let Some(kv) = pages.next().await? {
        if let Some((id, token)) = record(&kv.key, &kv.value) {
            all.push((id, token, kv.mod_revision.0));
        }
    }
    let revision = pages.revision();
    guard.know_all(all, revision.0);
    store.watch(WatchRequest::prefix(TOKENS).from(Revision(revision.0 + 1))).await
}
