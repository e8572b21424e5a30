//! A small client that follows redirections, as a good application does: the judge of whether anything is lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer, Error};
use regrow_redis::resp::{Command, Value};
use regrow_redis::slot::Slot;

/// A client of a cluster.
pub(crate) struct Client {
    dialer: Dialer,
    seed: Address,
    links: BTreeMap<Address, Connection>,
    map: BTreeMap<Slot, Address>,
}

/// Redirections for one command.
const HOPS: usize = 64;

impl Client {
    pub(crate) fn new(seed: &Address) -> Self {
        Self { dialer: Dialer::default(), seed: seed.clone(), links: BTreeMap::new(), map: BTreeMap::new() }
    }

    /// Sends a command to whoever serves its key.
    pub(crate) async fn call(&mut self, key: &str, command: Command) -> Result<Value> {
        let slot = Slot::of_key(key.as_bytes());
        let mut to = self.map.get(&slot).unwrap_or(&self.seed).clone();
        let mut asking = false;
        for _ in 0..HOPS {
            if !self.links.contains_key(&to) {
                self.links.insert(to.clone(), self.dialer.connect(&to).await?);
            }
            let link = self.links.get_mut(&to).context("the connection")?;
            if asking {
                link.ok(&Command::new("ASKING")).await?;
            }
            match link.call(&command).await {
                Ok(value) => return Ok(value),
                Err(Error::Reply { message, .. }) => {
                    let mut words = message.split(' ');
                    match (words.next(), words.next(), words.next()) {
                        (Some("MOVED"), _, Some(place)) => {
                            to = place.parse()?;
                            self.map.insert(slot, to.clone());
                            asking = false;
                        }
                        (Some("ASK"), _, Some(place)) => {
                            to = place.parse()?;
                            asking = true;
                        }
                        (Some("TRYAGAIN"), ..) => tokio::task::yield_now().await,
                        _ => bail!("{message}"),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        bail!("{key}: sent on {HOPS} times")
    }
}
