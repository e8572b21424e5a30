//! Moves slots with their keys from one master to another.
//!
//! For each slot, as the cluster specification has it: the target says that it takes the slot, the source that it gives it;
//! keys go over in batches; then the target owns the slot, and everybody is told. In between the source serves what it
//! still has and sends clients on for the rest, so nobody loses a read or a write.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use crate::connection;
use crate::plan::Move;
use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::topology::NodeId;

use super::cluster::Cluster;
use super::error::AdminError;

/// How gently slots are moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MoveLimits {
    /// Keys in one `MIGRATE`, 1 to 10,000; default 100. The source serves nobody while it sends them.
    pub batch_keys: usize,
    /// How long the source may be busy with one batch; default 60 s. A key that cannot be sent in this time cannot be moved.
    pub batch_timeout: Duration,
}

impl Default for MoveLimits {
    fn default() -> Self {
        Self { batch_keys: 100, batch_timeout: Duration::from_secs(60) }
    }
}

/// How far a list of moves is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Progress {
    /// Slots that are through.
    pub slots: usize,
    /// Slots in the whole list.
    pub slots_total: usize,
    /// Keys that are over.
    pub keys: u64,
}

/// What a list of moves came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Carried {
    /// Slots moved.
    pub slots: usize,
    /// Keys moved with them.
    pub keys: u64,
}

/// Whose copy counts when the target already has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Twin {
    /// The source owns the slot: its copy replaces a leftover.
    Replace,
    /// The target owns the slot: its copy stays, and so does the stray one.
    Keep,
}

/// What became of the keys of one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Emptied {
    pub(super) moved: u64,
    /// Left at the source, because the target has keys of the same name.
    pub(super) kept: u64,
}

/// Times a batch is tried again after the servers lost each other.
const TRIES_MAX: u32 = 5;
/// Pause before the next try.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Stray keys with twins in one slot before we give up on it.
const KEPT_MAX: u64 = 10_000;

impl Cluster {
    /// Carries moves out, slot by slot. `on` is told after each slot.
    pub async fn carry(
        &mut self,
        moves: &[Move],
        limits: MoveLimits,
        on: &mut dyn FnMut(Progress),
    ) -> Result<Carried, AdminError> {
        let mut progress =
            Progress { slots_total: moves.iter().map(|one| one.slots.len()).sum(), ..Progress::default() };
        for one in moves {
            for slot in one.slots.iter() {
                self.open_slot(slot, &one.from, &one.to).await?;
                progress.keys += self.finish_slot(slot, &one.from, &one.to, limits).await?;
                progress.slots += 1;
                on(progress);
            }
        }
        Ok(Carried { slots: progress.slots, keys: progress.keys })
    }

    async fn open_slot(&mut self, slot: Slot, from: &NodeId, to: &NodeId) -> Result<(), AdminError> {
        // The target first: from the moment the source gives, it sends clients to the target.
        self.link(to)?.ok(&set_slot(slot).arg("IMPORTING").arg(from)).await?;
        self.link(from)?.ok(&set_slot(slot).arg("MIGRATING").arg(to)).await?;
        Ok(())
    }

    /// From an open slot to one that the target owns. The keys moved.
    pub(super) async fn finish_slot(
        &mut self,
        slot: Slot,
        from: &NodeId,
        to: &NodeId,
        limits: MoveLimits,
    ) -> Result<u64, AdminError> {
        let emptied = self.empty_slot(slot, from, to, Twin::Replace, limits).await?;
        // The target first again: were the source first and then lost, nobody would own the slot.
        let own = set_slot(slot).arg("NODE").arg(to);
        self.link(to)?.ok(&own).await?;
        self.tell_source(from, &own).await?;
        // The others would learn it by gossip; telling them spares clients a redirection. One that fails learns it later.
        let others: Vec<NodeId> =
            self.picture().masters().map(|node| node.id.clone()).filter(|id| id != from && id != to).collect();
        for other in others {
            match self.link(&other)?.ok(&own).await {
                Ok(()) | Err(connection::Error::Reply { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(emptied.moved)
    }

    /// Tells the source who owns the slot. A master that gave its last slot away may have heard so from the target by
    /// now, and have become its replica (`cluster-allow-replica-migration`): it takes no such order, and needs none.
    async fn tell_source(&mut self, from: &NodeId, own: &Command) -> Result<(), AdminError> {
        let link = self.link(from)?;
        let refused = match link.ok(own).await {
            Err(refused @ connection::Error::Reply { .. }) => refused,
            done => return Ok(done?),
        };
        let role = link.call(&Command::new("ROLE")).await?;
        match role.array().and_then(<[Value]>::first).and_then(Value::bytes) {
            Some(role) if role.as_ref() == b"slave" => Ok(()),
            _ => Err(refused.into()),
        }
    }

    /// Sends all keys of a slot over.
    pub(super) async fn empty_slot(
        &mut self,
        slot: Slot,
        from: &NodeId,
        to: &NodeId,
        twin: Twin,
        limits: MoveLimits,
    ) -> Result<Emptied, AdminError> {
        let mut emptied = Emptied::default();
        loop {
            // Keys that stay are listed again each time: ask for that many more. Each round moves a key or raises `kept`.
            let want = limits.batch_keys as u64 + emptied.kept;
            let get = Command::new("CLUSTER GETKEYSINSLOT").number(slot.number()).number(want);
            let answer = self.link(from)?.call(&get).await?;
            let keys: Vec<Bytes> =
                answer.array().unwrap_or_default().iter().filter_map(Value::bytes).cloned().collect();
            if keys.len() as u64 <= emptied.kept {
                return Ok(emptied);
            }
            let kept = match self.migrate_batch(&keys, from, to, twin, limits).await {
                Ok(kept) => kept,
                Err(AdminError::Server(error @ connection::Error::Reply { .. })) => {
                    return Err(self.stuck(slot, from, to, error.to_string()));
                }
                Err(error) => return Err(error),
            };
            emptied.moved += keys.len() as u64 - kept;
            emptied.kept = emptied.kept.max(kept);
            if emptied.kept > KEPT_MAX {
                return Err(self.stuck(slot, from, to, format!("more than {KEPT_MAX} keys are on both sides")));
            }
        }
    }

    /// Sends keys over, trying again where that helps: a batch may be sent twice, because keys that are gone are passed
    /// over. The number that stayed because the target has them.
    async fn migrate_batch(
        &mut self,
        keys: &[Bytes],
        from: &NodeId,
        to: &NodeId,
        twin: Twin,
        limits: MoveLimits,
    ) -> Result<u64, AdminError> {
        let (mut replace, mut tries) = (false, 0);
        loop {
            match self.migrate(keys, from, to, replace, limits).await {
                Ok(()) => return Ok(0),
                Err(error) if passes(&error) && tries < TRIES_MAX => {
                    tries += 1;
                    sleep(TRY_AGAIN_AFTER).await;
                }
                // A key whose arrival was not confirmed is on both sides after a lost connection.
                Err(error) if error.code() == Some("BUSYKEY") && !replace => match twin {
                    Twin::Replace => replace = true,
                    Twin::Keep => return self.migrate_each(keys, from, to, limits).await,
                },
                Err(error) => return Err(error),
            }
        }
    }

    /// Key by key; the number that the target has already.
    async fn migrate_each(
        &mut self,
        keys: &[Bytes],
        from: &NodeId,
        to: &NodeId,
        limits: MoveLimits,
    ) -> Result<u64, AdminError> {
        let mut kept = 0;
        for key in keys {
            match self.migrate(std::slice::from_ref(key), from, to, false, limits).await {
                Ok(()) => {}
                Err(error) if error.code() == Some("BUSYKEY") => kept += 1,
                Err(error) => return Err(error),
            }
        }
        Ok(kept)
    }

    async fn migrate(
        &mut self,
        keys: &[Bytes],
        from: &NodeId,
        to: &NodeId,
        replace: bool,
        limits: MoveLimits,
    ) -> Result<(), AdminError> {
        let credentials = self.dialer().credentials.clone();
        let patience = self.dialer().timeout;
        let port = self.node(to)?.address.port;
        let ip = self.link(to)?.peer_ip().to_string();
        let busy_ms = i64::try_from(limits.batch_timeout.as_millis()).unwrap_or(i64::MAX);
        let mut command = Command::new("MIGRATE").arg(ip).number(port).arg("").number(0).number(busy_ms);
        if replace {
            command = command.arg("REPLACE");
        }
        command = match (credentials.user, credentials.password) {
            (Some(user), Some(password)) => command.arg("AUTH2").arg(user).arg(password),
            (None, Some(password)) => command.arg("AUTH").arg(password),
            _ => command,
        };
        let link = self.link(from)?;
        link.set_timeout(limits.batch_timeout + patience);
        let done = link.call(&command.arg("KEYS").args(keys)).await;
        link.set_timeout(patience);
        done?;
        Ok(())
    }

    fn stuck(&self, slot: Slot, from: &NodeId, to: &NodeId, why: String) -> AdminError {
        match (self.node(from), self.node(to)) {
            (Ok(from), Ok(to)) => AdminError::Stuck { slot, from: from.address.clone(), to: to.address.clone(), why },
            (Err(error), _) | (_, Err(error)) => error,
        }
    }
}

/// Whether a refusal to move keys may pass: the servers lost each other, or the target is busy with itself.
fn passes(error: &AdminError) -> bool {
    let text = error.to_string();
    error.code() == Some("IOERR")
        || ["CLUSTERDOWN", "LOADING", "TRYAGAIN"]
            .iter()
            .any(|code| text.contains(&format!("replied with error: {code}")))
}

/// The start of `CLUSTER SETSLOT n …`.
pub(super) fn set_slot(slot: Slot) -> Command {
    Command::new("CLUSTER SETSLOT").number(slot.number())
}
