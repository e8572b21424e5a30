//! A client of a cluster: each command goes to the master of its slot.
//!
//! It follows `MOVED` and `ASK`, and forgets a server that fails. It does not repeat a command whose fate is unknown: that is
//! the caller's decision.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::sleep;

use crate::address::Address;
use crate::connection::{Connection, Dialer, Error};
use crate::resp::{Command, Value};
use crate::slot::Slot;

/// Redirections for one call; in a settled cluster one is enough.
const HOPS_MAX: usize = 16;
/// Pause where the cluster says `TRYAGAIN`.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// A client of a cluster.
#[derive(Debug)]
pub struct Router {
    dialer: Dialer,
    seeds: Vec<Address>,
    next_seed: usize,
    links: BTreeMap<Address, Connection>,
    owners: BTreeMap<Slot, Address>,
}

impl Router {
    /// A client that starts from some nodes, at least one.
    pub fn new(dialer: Dialer, seeds: Vec<Address>) -> Self {
        debug_assert!(!seeds.is_empty());
        Self { dialer, seeds, next_seed: 0, links: BTreeMap::new(), owners: BTreeMap::new() }
    }

    /// Sends commands, all of one slot, to its master, one right after the other on one connection. The answers, refusals
    /// among them; a redirection is followed if the first command gets one.
    ///
    /// Errors: the server that failed; whether the commands were carried out is unknown.
    pub async fn call(&mut self, slot: Slot, commands: &[Command]) -> Result<Vec<Value>, Error> {
        let mut to = self.owners.get(&slot).unwrap_or(&self.seeds[self.next_seed % self.seeds.len()]).clone();
        let mut asking = false;
        for _ in 0..HOPS_MAX {
            let answers = match self.send(&to, commands, asking).await {
                Ok(answers) => answers,
                Err(error) => {
                    self.forget(&to);
                    return Err(error);
                }
            };
            match redirection(answers.first(), &to) {
                None => return Ok(answers),
                Some(Redirection::Moved(place)) => {
                    self.owners.insert(slot, place.clone());
                    (to, asking) = (place, false);
                }
                Some(Redirection::Ask(place)) => (to, asking) = (place, true),
                Some(Redirection::TryAgain) => sleep(TRY_AGAIN_AFTER).await,
            }
        }
        let command = commands.first().map_or("", Command::name);
        Err(Error::Reply { address: to, command, message: format!("CLUSTERDOWN sent on {HOPS_MAX} times") })
    }

    async fn send(&mut self, to: &Address, commands: &[Command], asking: bool) -> Result<Vec<Value>, Error> {
        if !self.links.contains_key(to) {
            let link = self.dialer.connect(to).await?;
            self.links.insert(to.clone(), link);
        }
        let Some(link) = self.links.get_mut(to) else { return Ok(Vec::new()) };
        if asking {
            link.ok(&Command::new("ASKING")).await?;
        }
        link.pipeline(commands).await
    }

    fn forget(&mut self, server: &Address) {
        self.links.remove(server);
        self.owners.retain(|_, owner| owner != server);
        self.next_seed = self.next_seed.wrapping_add(1);
    }
}

/// Where a command belongs instead.
pub(crate) enum Redirection {
    Moved(Address),
    Ask(Address),
    TryAgain,
}

/// `MOVED slot host:port`; without a host it is the host that said so.
pub(crate) fn redirection(answer: Option<&Value>, from: &Address) -> Option<Redirection> {
    let Some(Value::Error(message)) = answer else { return None };
    let mut words = std::str::from_utf8(message).ok()?.split(' ');
    let kind = words.next()?;
    if kind == "TRYAGAIN" {
        return Some(Redirection::TryAgain);
    }
    let (host, port) = words.nth(1)?.rsplit_once(':')?;
    let place = Address::new(if host.is_empty() { &from.host } else { host }, port.parse().ok()?);
    match kind {
        "MOVED" => Some(Redirection::Moved(place)),
        "ASK" => Some(Redirection::Ask(place)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirections() {
        let from = Address::new("h", 1);
        let read = |text: &'static str| match redirection(Some(&Value::Error(text.into())), &from) {
            Some(Redirection::Moved(place)) => format!("moved {place}"),
            Some(Redirection::Ask(place)) => format!("ask {place}"),
            Some(Redirection::TryAgain) => "again".to_owned(),
            None => "none".to_owned(),
        };
        for (text, wanted) in [
            ("MOVED 5 10.0.0.1:7", "moved 10.0.0.1:7"),
            ("MOVED 5 :7", "moved h:7"),
            ("MOVED 5 ::1:7", "moved [::1]:7"),
            ("ASK 5 a:7", "ask a:7"),
            ("TRYAGAIN later", "again"),
            ("MOVED 5", "none"),
            ("MOVED 5 a:b", "none"),
            ("ERR no", "none"),
        ] {
            assert_eq!(read(text), wanted);
        }
    }
}
