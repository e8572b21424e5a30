//! What of that which was carried is safe: on a replica, where there are replicas; and signs, by which a later process knows that.
//!
//! A master without a connected replica confirms at once, and a replica that was away may be made master later, with less than was
//! confirmed. So each confirmation of a feed leaves a numbered *sign* on every master, after all that was carried. Replication keeps
//! the order: a server that has the sign has what came before it. Who goes on after a kill looks for the last sign that was
//! remembered; who is alive sees that another server process answers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::connection::Error;
use crate::resp::{Command, Value};

use super::super::error::MigrateError;
use super::super::lane::Lane;
use super::{Answer, Carrier, Job, PAUSE_MAX, TELL_AFTER};

/// A sign.
#[derive(Debug, Clone)]
pub struct Sign {
    /// Name of its key, in some lane of each master.
    pub name: String,
    /// What is written there: more than in the sign before it.
    pub number: u64,
}

impl Carrier {
    /// Asks whether all that was carried is on a replica, too, where there are replicas, and leaves a sign on every master. When a
    /// server that carried something, or has the sign before, is gone or is not the same any more, [`Self::changes`] grows.
    pub async fn confirmed(&mut self, within: Duration, sign: Option<&Sign>) -> bool {
        let mut places: BTreeMap<Address, Option<Arc<str>>> =
            self.unconfirmed.iter().map(|(address, server)| (address.clone(), Some(Arc::clone(server)))).collect();
        if sign.is_some() {
            if self.routes.contains(&None) {
                self.refresh().await;
            }
            let masters: BTreeSet<&Address> = self.routes.iter().flatten().collect();
            for address in masters {
                places.entry(address.clone()).or_default();
            }
        }
        let mut all = !places.is_empty() || sign.is_none();
        for (address, server) in places {
            if !self.links.contains_key(&address) {
                match self.connect(&address).await {
                    Ok(link) => drop(self.links.insert(address.clone(), link)),
                    Err(_) => {
                        self.refresh().await;
                        if server.is_some() && !self.routes.contains(&Some(address.clone())) {
                            self.gone(&address);
                        }
                        all = false;
                        continue;
                    }
                }
            }
            // What was written by another connection counts only after a write of this one.
            let (name, number) = sign.map_or(("w", 1), |sign| (&sign.name, sign.number));
            let lane = self.routes.iter().position(|route| route.as_ref() == Some(&address));
            let key = lane.and_then(|lane| Lane::try_from(lane).ok()).map(|lane| self.lanes.key(lane, name));
            let (Some(link), Some(key)) = (self.links.get_mut(&address), key) else {
                self.gone(&address);
                return false;
            };
            if server.is_some_and(|server| link.server != server) {
                self.gone(&address);
                return false;
            }
            if sign.is_some() && !self.signed.is_empty() && self.signed.insert(Arc::clone(&link.server)) {
                self.changes += 1;
                return false;
            }
            let replicas = match link.connection.info().await {
                Ok(info) => info.number("connected_slaves").unwrap_or(0),
                Err(_) => {
                    self.links.remove(&address);
                    return false;
                }
            };
            let wait = Command::new("WAIT").number(1).number(within.as_millis() as i128);
            let written = link.connection.ok(&Command::new("SET").arg(key).number(number)).await;
            let good = match written {
                Ok(()) if replicas == 0 => true,
                Ok(()) => matches!(link.connection.int(&wait).await, Ok(count) if count >= 1),
                Err(Error::Reply { .. }) => {
                    self.refresh().await;
                    false
                }
                Err(_) => {
                    self.links.remove(&address);
                    false
                }
            };
            if good {
                self.unconfirmed.remove(&address);
            }
            all &= good;
        }
        if all && sign.is_some() && self.signed.is_empty() {
            self.signed = self.links.values().map(|link| Arc::clone(&link.server)).collect();
        }
        all
    }

    /// Waits until all that was carried is confirmed, and the sign is on every master; or a server has changed.
    pub async fn confirm(&mut self, within: Duration, sign: Option<&Sign>) -> Result<(), MigrateError> {
        let (since, changes) = (Instant::now(), self.changes);
        while !self.confirmed(within, sign).await && self.changes == changes {
            let why = "a replica of the target does not confirm what its master has".to_owned();
            if since.elapsed() >= self.patience {
                return Err(MigrateError::Patience { after: self.patience, why });
            }
            if since.elapsed() >= TELL_AFTER {
                self.board.waiting(Some(why));
            }
            tokio::select! {
                () = sleep(PAUSE_MAX) => {}
                () = self.board.stopped() => return Err(MigrateError::Stopped),
            }
        }
        self.board.waiting(None);
        Ok(())
    }

    /// The number of the newest sign of this name that every master has; 0: one has none. A master that was given its slots since
    /// then has none, either.
    pub async fn signed(&mut self, name: &str) -> Result<u64, MigrateError> {
        let lanes: Vec<Lane> = (0..self.lanes.count()).filter_map(|lane| Lane::try_from(lane).ok()).collect();
        let look = |lane: &Lane| Job::plain(*lane, vec![Command::new("GET").arg(self.lanes.key(*lane, name))]);
        let mut newest: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        let looks = lanes.iter().map(look).collect();
        for (lane, answer) in lanes.iter().zip(self.carry(looks).await?) {
            let number = match answer {
                Answer::Values(values) => values.first().and_then(Value::text).and_then(|text| text.parse().ok()),
                _ => None,
            };
            if let Some(server) = &self.servers[usize::from(*lane)] {
                let newest = newest.entry(Arc::clone(server)).or_default();
                *newest = number.unwrap_or(0).max(*newest);
            }
        }
        let least = newest.values().copied().min().unwrap_or(0);
        self.signed = newest.into_keys().collect();
        Ok(least)
    }

    fn gone(&mut self, address: &Address) {
        self.unconfirmed.remove(address);
        self.changes += 1;
    }
}
