//! The two sides of a migration: where their masters are now.

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::address::Address;
use crate::connection::{Connection, Dialer, Error};
use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::slot_set::SlotSet;
use crate::url::{Place, Url};

use super::telling::Telling;

/// Nodes of a cluster that are remembered as ways in.
const WAYS_IN_MAX: usize = 256;

/// A master, and what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Where it is.
    pub address: Address,
    /// Its slots; all of them for one server.
    pub slots: SlotSet,
}

/// The first server that a URL names.
fn first(url: &Url) -> &Address {
    match &url.place {
        Place::Server { address, .. } => address,
        Place::Sentinel { sentinels: several, .. } | Place::Cluster { nodes: several } => &several[0],
    }
}

/// One side. Clones share what is learned about it.
#[derive(Debug, Clone)]
pub struct Side {
    dialer: Dialer,
    url: Url,
    cluster: bool,
    ways_in: Arc<Mutex<BTreeSet<Address>>>,
    /// Whether a master is of a version before 7.0.
    old: Arc<AtomicBool>,
    /// Whether fields of hashes may expire on a master.
    field_expiries: Arc<AtomicBool>,
}

impl Side {
    /// Finds out whether a cluster is behind a URL: `redis://` may name a node of one. `dialer`: with what is needed for TLS, if the URL asks
    /// for it; without, nothing is sent.
    pub async fn open(url: &Url, dialer: &Dialer) -> Result<Self, Error> {
        let mut dialer = dialer.clone();
        if url.credentials != crate::url::Credentials::default() {
            dialer.credentials = url.credentials.clone();
        }
        dialer.tls = match (url.tls, dialer.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => {
                let why = io::Error::other("it is to be reached by TLS, and nothing says whom to trust");
                return Err(Error::Connect { address: first(url).clone(), source: why });
            }
        };
        let url = Url { credentials: dialer.credentials.clone(), ..url.clone() };
        let mut side = Self {
            dialer,
            url: url.clone(),
            cluster: false,
            ways_in: Arc::default(),
            old: Arc::default(),
            field_expiries: Arc::default(),
        };
        match &url.place {
            Place::Cluster { nodes } => {
                side.cluster = true;
                side.learn(nodes.iter().cloned());
            }
            Place::Server { address, .. } => {
                if side.dialer.connect(address).await?.info().await?.flag("cluster_enabled") {
                    side.cluster = true;
                    side.learn([address.clone()]);
                }
            }
            Place::Sentinel { .. } => {}
        }
        Ok(side)
    }

    /// Notes the version of a master: major, minor.
    pub(super) fn note_version(&self, version: (u32, u32)) {
        if version < (7, 0) {
            self.old.store(true, Ordering::Relaxed);
        }
    }

    /// Notes whether fields of hashes may expire on a master.
    pub(super) fn note_field_expiries(&self, may: bool) {
        self.field_expiries.fetch_or(may, Ordering::Relaxed);
    }

    /// Whether fields of hashes may expire on a master, as far as that is known.
    pub(super) fn field_expiries(&self) -> bool {
        self.field_expiries.load(Ordering::Relaxed)
    }

    /// How its masters tell when a key expires, as far as their versions are known.
    pub(super) fn telling(&self) -> Telling {
        if self.old.load(Ordering::Relaxed) { Telling::Relative } else { Telling::Absolute }
    }

    /// Whether it is a cluster.
    pub fn cluster(&self) -> bool {
        self.cluster
    }

    /// Where it is, with what is needed to get in.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// How connections to its servers are made.
    pub fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    fn learn(&self, addresses: impl IntoIterator<Item = Address>) {
        let mut ways_in = self.ways_in.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            if ways_in.len() < WAYS_IN_MAX {
                ways_in.insert(address);
            }
        }
    }

    /// The masters that serve something now.
    pub async fn shards(&self) -> Result<Vec<Shard>, Error> {
        if self.cluster {
            return self.cluster_shards().await;
        }
        let address = match &self.url.place {
            Place::Sentinel { sentinels, master, .. } => self.ask_sentinels(sentinels, master).await?,
            Place::Server { .. } | Place::Cluster { .. } => first(&self.url).clone(),
        };
        Ok(vec![Shard { address, slots: SlotSet::full() }])
    }

    async fn cluster_shards(&self) -> Result<Vec<Shard>, Error> {
        let ways_in: Vec<Address> =
            self.ways_in.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let mut last = None;
        for address in ways_in {
            match self.ask_node(&address).await {
                Ok(shards) => {
                    self.learn(shards.iter().map(|shard| shard.address.clone()));
                    return Ok(shards);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Connect {
            address: Address::new("?", 0),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    async fn ask_node(&self, address: &Address) -> Result<Vec<Shard>, Error> {
        let mut link = self.dialer.connect(address).await?;
        let command = Command::new("CLUSTER SLOTS");
        let answer = link.call(&command).await?;
        let ranges = answer.array().ok_or_else(|| link.unexpected(&command, "slots", &answer))?;
        let mut shards: Vec<Shard> = Vec::new();
        for range in ranges {
            let Some((first, last, owner)) = slot_range(range, address) else {
                return Err(link.unexpected(&command, "a range of slots", range));
            };
            let at = shards.iter().position(|shard| shard.address == owner).unwrap_or_else(|| {
                shards.push(Shard { address: owner, slots: SlotSet::new() });
                shards.len() - 1
            });
            for slot in (first..=last).filter_map(Slot::new) {
                shards[at].slots.insert(slot);
            }
        }
        Ok(shards)
    }

    async fn ask_sentinels(&self, sentinels: &[Address], master: &str) -> Result<Address, Error> {
        let dialer = Dialer { credentials: self.url.sentinel.clone(), ..self.dialer.clone() };
        let mut last = None;
        for sentinel in sentinels {
            let ask = Command::new("SENTINEL GET-MASTER-ADDR-BY-NAME").arg(master);
            let answer = match dialer.connect(sentinel).await {
                Ok(mut link) => link.call(&ask).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(Value::Array(parts)) => {
                    if let [host, port] = parts.as_slice()
                        && let (Some(host), Some(port)) = (host.text(), port.int())
                        && let Ok(port) = u16::try_from(port)
                    {
                        return Ok(Address::new(host, port));
                    }
                }
                Ok(_) => {
                    last = Some(Error::Reply {
                        address: sentinel.clone(),
                        command: ask.name(),
                        message: format!("ERR no master is called {master:?}"),
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::Connect {
            address: Address::new("?", 0),
            source: io::ErrorKind::NotFound.into(),
        }))
    }

    /// A connection to each master.
    pub async fn links(&self) -> Result<Vec<Connection>, Error> {
        let mut links = Vec::new();
        for shard in self.shards().await? {
            links.push(self.dialer.connect(&shard.address).await?);
        }
        Ok(links)
    }
}

/// `[first, last, [host, port, …], …]`; without a host it is the one that was asked.
fn slot_range(range: &Value, asked: &Address) -> Option<(u16, u16, Address)> {
    let parts = range.array()?;
    let number = |index: usize| u16::try_from(parts.get(index)?.int()?).ok();
    let node = parts.get(2)?.array()?;
    let host = node.first()?.text().filter(|host| !host.is_empty() && *host != "?").unwrap_or(&asked.host);
    let port = u16::try_from(node.get(1)?.int()?).ok()?;
    Some((number(0)?, number(1)?, Address::new(host, port)))
}
