//! What is kept of one member, and where.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Config;
use crate::directory::Profile;
use crate::event::Status;
use crate::time::Time;
use crate::wire::{Alive, AliveRef, StateCode};

/// Returns after failure that are remembered.
const RETURNS_MAX: usize = 16;
/// Longest quarantine.
const QUARANTINE_MAX: Duration = Duration::from_secs(3600);
/// Records allocated together.
const CHUNK: usize = 64;

/// Somebody says that a member lives, where what we know does not allow to believe it unseen.
#[derive(Debug, Clone)]
pub(crate) struct Claim {
    pub(crate) alive: Alive,
    pub(crate) since: Time,
}

/// What is kept of a member.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    /// What it said of itself. Changes by [`Members::set_profile`] only.
    pub(crate) profile: Arc<Profile>,
    /// Lamport time of the last intent.
    pub(crate) status_ltime: u64,
    /// When `state` last changed.
    pub(crate) changed: Time,
    pub(crate) incarnation: u32,
    pub(crate) state: StateCode,
    pub(crate) status: Status,
    flags: u8,
}

/// Forget it when it has left.
const PRUNE: u8 = 1;
/// Another has taken its address since it died.
pub(crate) const SUPERSEDED: u8 = 2;
/// Its name is in the ring.
pub(crate) const RINGED: u8 = 4;

/// What is kept of the few that have it.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) claim: Option<Claim>,
    pub(crate) quarantined_until: Option<Time>,
    /// When it was last told that only TCP gets through to it.
    pub(crate) udp_told: Option<Time>,
    /// When it returned after failure, within the window.
    pub(crate) returns: VecDeque<Time>,
}

impl Record {
    /// A record of a member that is not known to live yet.
    pub(crate) fn new(profile: Arc<Profile>, now: Time) -> Self {
        Self {
            profile,
            status_ltime: 0,
            changed: now,
            incarnation: 0,
            state: StateCode::Dead,
            status: Status::Failed,
            flags: 0,
        }
    }

    pub(crate) fn name(&self) -> &str {
        self.profile.name.as_str()
    }

    pub(crate) fn id(&self) -> u32 {
        self.profile.name.id()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.profile.address
    }

    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn set(&mut self, flag: u8, on: bool) {
        self.flags = if on { self.flags | flag } else { self.flags & !flag };
    }

    pub(crate) fn is_pruned(&self) -> bool {
        self.has(PRUNE)
    }

    pub(crate) fn set_prune(&mut self, on: bool) {
        self.set(PRUNE, on);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.has(SUPERSEDED)
    }

    pub(crate) fn is_living(&self) -> bool {
        matches!(self.state, StateCode::Alive | StateCode::Suspect)
    }

    /// Whether its death is so long ago that memberlist has forgotten it.
    pub(crate) fn is_forgotten(&self, config: &Config, now: Time) -> bool {
        !self.is_living() && now.since(self.changed) > config.gossip_to_the_dead
    }

    /// What we say of it to others.
    pub(crate) fn to_alive(&self) -> AliveRef<'_> {
        let profile = &self.profile;
        AliveRef {
            incarnation: self.incarnation,
            node: self.name(),
            address: profile.address,
            meta: &profile.meta,
            versions: profile.versions.into(),
        }
    }

    /// Whether it understands checksums on datagrams.
    pub(crate) fn takes_checksums(&self) -> bool {
        self.profile.versions[1] >= 5
    }

    /// Whether it answers indirect pings with nacks.
    pub(crate) fn sends_nacks(&self) -> bool {
        self.profile.versions[1] >= 4
    }

    /// Whether it answers pings over TCP.
    pub(crate) fn takes_tcp_pings(&self) -> bool {
        self.profile.versions[1] >= 3
    }
}

impl Rare {
    pub(crate) fn is_empty(&self) -> bool {
        self.claim.is_none() && self.quarantined_until.is_none() && self.udp_told.is_none() && self.returns.is_empty()
    }

    /// Counts a return after failure. Gives the number of returns in the window and the end of the
    /// quarantine when that makes one.
    pub(crate) fn count_return(&mut self, config: &Config, now: Time) -> Option<(u32, Time)> {
        self.returns.push_back(now);
        while self.returns.len() > RETURNS_MAX
            || self.returns.front().is_some_and(|at| now.since(*at) > config.flap_window)
        {
            self.returns.pop_front();
        }
        let returns = u32::try_from(self.returns.len()).unwrap_or(u32::MAX);
        let over = returns.checked_sub(config.flap_limit.max(1))?;
        let lasts = config.flap_quarantine.saturating_mul(1 << over.min(16)).min(QUARANTINE_MAX);
        self.quarantined_until = Some(now + lasts);
        Some((returns, now + lasts))
    }
}

/// Records by number, a chunk of them at a time: a table that grows is not copied and has little to spare.
#[derive(Debug, Default)]
pub(crate) struct Records {
    chunks: Vec<Box<[Option<Record>]>>,
    pub(crate) used: usize,
}

impl Records {
    pub(crate) fn get(&self, id: u32) -> Option<&Record> {
        self.chunks.get(id as usize / CHUNK)?[id as usize % CHUNK].as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut Record> {
        self.chunks.get_mut(id as usize / CHUNK)?[id as usize % CHUNK].as_mut()
    }

    pub(crate) fn insert(&mut self, record: Record) {
        let id = record.id() as usize;
        while self.chunks.len() <= id / CHUNK {
            self.chunks.push(std::iter::repeat_with(|| None).take(CHUNK).collect());
        }
        self.used += usize::from(self.chunks[id / CHUNK][id % CHUNK].replace(record).is_none());
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<Record> {
        let record = self.chunks.get_mut(id as usize / CHUNK)?[id as usize % CHUNK].take()?;
        self.used -= 1;
        Some(record)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.chunks.iter().flat_map(|chunk| chunk.iter().flatten())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Record> {
        self.chunks.iter_mut().flat_map(|chunk| chunk.iter_mut().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a record is as small as the simulation of 10,000 machines needs it.
    #[test]
    fn records_are_small() {
        assert_eq!(size_of::<Option<Record>>(), 32);
    }

    /// Shows that the third return in ten minutes makes a quarantine and a fourth doubles it.
    #[test]
    fn flapping_makes_a_quarantine() {
        let config = Config::lan("me", SocketAddr::from(([127, 0, 0, 1], 1)));
        let mut rare = Rare::default();
        let at = |seconds: u64| Time::from_millis(seconds * 1000);
        assert_eq!(rare.count_return(&config, at(0)), None);
        assert_eq!(rare.count_return(&config, at(10)), None);
        assert_eq!(rare.count_return(&config, at(20)), Some((3, at(320))));
        assert_eq!(rare.count_return(&config, at(30)), Some((4, at(630))));
        assert_eq!(rare.count_return(&config, at(30_000)), None, "old returns are forgotten");
    }
}
