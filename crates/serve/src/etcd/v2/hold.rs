//! The leases that nodes with a time to live hang on.
//!
//! A node with a `ttl` of its own has a lease of its own, made by this door and known by its id. What lies beneath a
//! directory that has a lease hangs on that lease, unless its own ends sooner; so one revision takes all of it.

use std::{
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicU64, Ordering},
};

use regrow_store::{
    Error, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseTimeToLiveRequest, Store, limits::LEASE_TTL_SECONDS_MIN,
};

use super::{node::Life, state::State};

/// What the upper 16 bits of a lease's id say if it was made for one node: "v2".
const OURS: i64 = 0x7632;

/// A lease that has less than this is not given to a node again: it could end before it is kept alive.
const LEFT_SECONDS_MIN: i64 = 2;

/// Ids for leases.
#[derive(Debug, Default)]
pub(super) struct LeaseIds {
    state: RandomState,
    next: AtomicU64,
}

impl LeaseIds {
    fn next(&self) -> LeaseId {
        let hash = self.state.hash_one(self.next.fetch_add(1, Ordering::Relaxed));
        LeaseId(OURS << 48 | (hash >> 16) as i64)
    }
}

/// The lease that a node is to hang on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hold {
    pub(super) lease: LeaseId,
    /// It is the one that the node has already: it has to be kept alive when the node has been written.
    pub(super) is_kept: bool,
    /// The lease above that ends soonest: that of directories made on the way.
    pub(super) inherited: LeaseId,
    /// The time that the node has by itself.
    pub(super) life: Option<Life>,
}

/// Finds the lease of a write; grants at most one however often the write is tried.
#[derive(Debug, Default)]
pub(super) struct Holder {
    granted: Option<LeaseGrantResponse>,
}

impl Holder {
    /// The lease for a node that is to live for `ttl` seconds, or as long as it is not taken away.
    pub(super) async fn hold(
        &mut self,
        store: &dyn Store,
        ids: &LeaseIds,
        ttl: Option<u64>,
        state: &State,
    ) -> Result<Hold, Error> {
        let above = state.leases_above();
        let mut soonest: Option<(i64, LeaseId)> = None;
        for lease in &above {
            let asked = store.lease_time_to_live(LeaseTimeToLiveRequest { id: *lease, keys: false }).await;
            match asked {
                Ok(found) => soonest = soonest.into_iter().chain([(found.ttl, *lease)]).min(),
                // It ends just now: the directory will be gone when this write is tried.
                Err(Error::LeaseNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let inherited = soonest.map_or(LeaseId::NONE, |(_, lease)| lease);
        let Some(ttl) = ttl else {
            return Ok(Hold { lease: inherited, is_kept: false, inherited, life: None });
        };
        let ttl = i64::try_from(ttl).unwrap_or(i64::MAX).max(LEASE_TTL_SECONDS_MIN);
        if let Some((left, lease)) = soonest.filter(|(left, _)| *left < ttl) {
            return Ok(Hold { lease, is_kept: false, inherited, life: Some(Life::new(left)) });
        }
        let had = state.here.file.as_ref().or(state.here.marker.as_ref()).map(|kv| kv.lease);
        if let Some(lease) = had.filter(|lease| is_ours(*lease) && !above.contains(lease)) {
            match store.lease_time_to_live(LeaseTimeToLiveRequest { id: lease, keys: false }).await {
                Ok(found) if found.granted_ttl == ttl && found.ttl >= LEFT_SECONDS_MIN => {
                    return Ok(Hold { lease, is_kept: true, inherited, life: Some(Life::new(ttl)) });
                }
                Ok(_) | Err(Error::LeaseNotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let granted = match self.granted {
            Some(granted) => granted,
            None => grant(store, ids, ttl).await?,
        };
        self.granted = Some(granted);
        Ok(Hold { lease: granted.id, is_kept: false, inherited, life: Some(Life::new(granted.ttl)) })
    }

    /// Takes back the lease that was granted if no node hangs on it.
    pub(super) async fn give_back(self, store: &dyn Store) {
        if let Some(granted) = self.granted {
            release(store, granted.id).await;
        }
    }
}

async fn grant(store: &dyn Store, ids: &LeaseIds, ttl: i64) -> Result<LeaseGrantResponse, Error> {
    loop {
        // 48 bits are hardly ever taken, and another time others are tried.
        match store.lease_grant(LeaseGrantRequest { id: ids.next(), ttl }).await {
            Err(Error::LeaseExists(_)) => {}
            other => return other,
        }
    }
}

/// Ends a lease that was made for one node when nothing hangs on it any more. What goes wrong is logged: the lease ends
/// by itself at its time.
pub(super) async fn release(store: &dyn Store, lease: LeaseId) {
    if !is_ours(lease) {
        return;
    }
    let ended = match store.lease_time_to_live(LeaseTimeToLiveRequest { id: lease, keys: true }).await {
        Ok(found) if found.keys.is_empty() => store.lease_revoke(lease).await.map(drop),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) | Err(Error::LeaseNotFound(_)) => {}
        Err(error) => tracing::warn!(%lease, %error, "a lease that nothing hangs on was not ended"),
    }
}

fn is_ours(lease: LeaseId) -> bool {
    lease.0 >> 48 == OURS
}
