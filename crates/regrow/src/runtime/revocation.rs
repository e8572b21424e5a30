//! Spreads what is revoked: `keys/ca.crl` of the machine where the authority is, through the store, to all agents.
//!
//! **Flow.** Whoever has a newer list than the store puts it there; whoever has an older one takes it from there, and the
//! locksmith finds the changed file. So `regrow key revoke` needs no agent and no network, and yet reaches all.
//!
//! **Guarantees.** A list is taken only if an authority that this node believes has signed it, and only if its number is
//! higher than that of the node's own: who can write to the store can neither revoke nor bring back.

use crate::exit::Failure;
use crate::keys::{CA, CRL, Folder, Lists};
use regrow_store::{PutRequest, RangeRequest, Store, WatchRequest};
use std::sync::Arc;
use std::time::Duration;

/// Where the newest list is.
const KEY: &str = "/regrow/access/revoked";
/// Between two looks at the file, and between two tries of a store that is away.
const LOOK: Duration = Duration::from_secs(1);
/// Longest list that is taken: some thousands of certificates.
const LIST_BYTES_MAX: usize = 1 << 20;

/// Spreads for ever.
pub(super) async fn run(folder: Folder, store: Arc<dyn Store>) {
    let mut said = None;
    loop {
        match spread(&folder, &*store).await {
            Ok(()) => said = None,
            Err(why) => {
                if said.as_ref() != Some(&why) {
                    tracing::warn!("what is revoked is not spread: {why}");
                    said = Some(why);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}

/// Brings file and store to the same, then waits until one of them changes.
async fn spread(folder: &Folder, store: &dyn Store) -> Result<(), String> {
    let text = |error: regrow_store::Error| error.to_string();
    let mut watch = store.watch(WatchRequest::key(KEY)).await.map_err(text)?;
    let found = store.range(RangeRequest::key(KEY)).await.map_err(text)?;
    let theirs = found.kvs.first().map_or(&b""[..], |kv| &kv.value);
    let stamp = folder.stamp();
    if let Some(ours) = compare(folder, theirs).map_err(|failure| failure.message)? {
        store.put(PutRequest::new(KEY, ours)).await.map_err(text)?;
    }
    loop {
        tokio::select! {
            item = watch.next() => return item.map(|item| item.map(drop)).unwrap_or(Ok(())).map_err(text),
            () = tokio::time::sleep(LOOK) => {
                if folder.stamp() != stamp {
                    return Ok(());
                }
            }
        }
    }
}

/// Takes what the store has, if it is newer; returns our own if that is.
fn compare(folder: &Folder, theirs: &[u8]) -> Result<Option<String>, Failure> {
    let ours = folder.read_if_there(CRL)?.unwrap_or_default();
    let believed = crate::keys::certificates(&folder.path(CA))?;
    let own = Lists::read(ours.as_bytes()).map(|lists| lists.number()).unwrap_or(0);
    let new = if theirs.len() > LIST_BYTES_MAX { None } else { Lists::read(theirs).ok() };
    let new = new.filter(|lists| !lists.is_empty()).map(|lists| lists.signed_by(&believed));
    match new {
        // Two that do not believe each other must not go on putting theirs in its place.
        Some(lists) if lists.is_empty() => {
            let hint = "copy keys/ca.pem from where the authority is";
            Err(Failure::failed(format!("the list at {KEY} is of an authority that is not in ca.pem here: {hint}")))
        }
        Some(lists) if lists.number() > own => {
            folder.write(CRL, &lists.pem())?;
            tracing::info!("certificates were revoked: list {} was taken from the store", lists.number());
            Ok(None)
        }
        Some(lists) if lists.number() == own => Ok(None),
        _ => Ok(Some(ours).filter(|_| own > 0)),
    }
}
