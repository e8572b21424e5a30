//! A backend looked at from outside: who is there, and what it can do.

use std::sync::Arc;

use crate::address::Address;
use crate::admin::chain;
use crate::info::Info;
use crate::resp::Command;
use crate::tls::Tls;
use crate::topology::View;
use crate::url::{Place, Url};

use super::limits::Limits;
use super::map::Map;
use super::table::Table;
use super::wire::{Dialer, Proto, Wire, WireError};

/// A backend that cannot be used; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No server of it lets us in.
    #[error("the backend {url} cannot be used: {why}")]
    Unusable {
        /// The backend, without its password.
        url: String,
        /// What each server said.
        why: String,
    },
    /// `rediss://`, for a proxy that was started without the certificates to trust.
    #[error("the backend {url} is reached by TLS, and the proxy was started without --backend-ca")]
    NoAuthority {
        /// The backend, without its password.
        url: String,
    },
}

/// A backend that has been looked at.
pub(crate) struct Opened {
    pub(crate) url: Url,
    pub(crate) dialer: Dialer,
    pub(crate) map: Map,
    pub(crate) table: Table,
    /// Version of the server that was asked.
    pub(crate) version: String,
    /// Whether it is a cluster; else one server has all slots.
    pub(crate) cluster: bool,
    /// Bytes of one word that the servers take.
    pub(crate) word_bytes_max: usize,
}

/// Connects to a backend and learns what is needed to serve clients.
pub(crate) async fn open(url: &Url, tls: Option<&Tls>, limits: &Arc<Limits>) -> Result<Opened, OpenError> {
    let tls = match (url.tls, tls) {
        (false, _) => None,
        (true, Some(tls)) => Some(tls.clone()),
        (true, None) => return Err(OpenError::NoAuthority { url: url.to_string() }),
    };
    let db = match url.place {
        Place::Server { db, .. } | Place::Sentinel { db, .. } => db,
        Place::Cluster { .. } => 0,
    };
    let dialer = Dialer { credentials: url.credentials.clone(), tls, db, limits: Arc::clone(limits) };
    let mut why = Vec::new();
    let candidates = match candidates(url, &dialer).await {
        Ok(candidates) => candidates,
        Err(error) => return Err(OpenError::Unusable { url: url.to_string(), why: chain(&error) }),
    };
    for address in candidates {
        match look(url, &dialer, &address).await {
            Ok(opened) => return Ok(opened),
            Err(error) => why.push(chain(&error)),
        }
    }
    Err(OpenError::Unusable { url: url.to_string(), why: why.join("; ") })
}

async fn look(url: &Url, dialer: &Dialer, address: &Address) -> Result<Opened, WireError> {
    let mut wire = dialer.connect(address, Proto::Two).await?;
    let info = wire.ask(&Command::new("INFO")).await?;
    let info = Info::parse(info.text().unwrap_or_default());
    let table = Table::parse(&wire.ask(&Command::new("COMMAND")).await?);
    if table.len() == 0 {
        let message = "it tells of no commands".to_owned();
        return Err(WireError::Refused { address: address.clone(), message });
    }
    let longest = wire.ask(&Command::new("CONFIG GET proto-max-bulk-len")).await;
    let word_bytes_max =
        longest.ok().and_then(|answer| usize::try_from(answer.array()?.get(1)?.int()?).ok()).unwrap_or(usize::MAX);
    let cluster = info.flag("cluster_enabled");
    let map = if cluster { view(&mut wire, url).await? } else { Map::single(address.clone()) };
    let (major, minor, patch) = info.version();
    Ok(Opened {
        url: url.clone(),
        dialer: dialer.clone(),
        map,
        table,
        version: format!("{major}.{minor}.{patch}"),
        cluster,
        word_bytes_max,
    })
}

/// The servers that a URL leads to; of sentinels, the master that they name.
async fn candidates(url: &Url, dialer: &Dialer) -> Result<Vec<Address>, WireError> {
    match &url.place {
        Place::Server { address, .. } => Ok(vec![address.clone()]),
        Place::Cluster { nodes } => Ok(nodes.clone()),
        Place::Sentinel { sentinels, master, .. } => Ok(vec![ask_sentinels(sentinels, master, url, dialer).await?]),
    }
}

/// The master that the first sentinel that answers names. Sentinels have no users in common with the servers that they
/// watch.
async fn ask_sentinels(sentinels: &[Address], master: &str, url: &Url, dialer: &Dialer) -> Result<Address, WireError> {
    let dialer = Dialer { credentials: url.sentinel.clone(), db: 0, ..dialer.clone() };
    let mut last = None;
    for sentinel in sentinels {
        let asked = async {
            let mut wire = dialer.connect(sentinel, Proto::Two).await?;
            wire.ask(&Command::new("SENTINEL GET-MASTER-ADDR-BY-NAME").arg(master)).await
        };
        match asked.await {
            Ok(answer) => {
                let parts = answer.array().unwrap_or_default();
                let address = parts.first().and_then(|host| host.text()).zip(parts.get(1).and_then(|port| port.int()));
                if let Some((host, port)) = address
                    && let Ok(port) = u16::try_from(port)
                {
                    return Ok(Address::new(host, port));
                }
                let message = format!("it knows no master called {master:?}");
                last = Some(WireError::Refused { address: sentinel.clone(), message });
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| WireError::Closed { address: Address::new(master, 0) }))
}

/// Asks a node who serves what.
async fn view(wire: &mut Wire, url: &Url) -> Result<Map, WireError> {
    let address = wire.address.clone();
    let refused = |message: String| WireError::Refused { address: address.clone(), message };
    let nodes = wire.ask(&Command::new("CLUSTER NODES")).await?;
    let view =
        View::parse(nodes.text().unwrap_or_default(), "", &address).map_err(|error| refused(error.to_string()))?;
    let seeds: &[Address] = match &url.place {
        Place::Server { address, .. } => std::slice::from_ref(address),
        Place::Cluster { nodes } => nodes,
        Place::Sentinel { .. } => &[],
    };
    let map = Map::of_view(&view, seeds);
    if map.nodes().is_empty() { Err(refused("it knows of no master with slots".to_owned())) } else { Ok(map) }
}

/// Learns anew who serves what. `turn`: which of those known is asked first.
pub(crate) async fn refresh(
    url: &Url,
    dialer: &Dialer,
    cluster: bool,
    known: &[Address],
    turn: usize,
) -> Result<Map, WireError> {
    if !cluster {
        let mut addresses = candidates(url, dialer).await?;
        return match addresses.pop() {
            Some(address) => Ok(Map::single(address)),
            None => Err(WireError::Closed { address: Address::new("?", 0) }),
        };
    }
    let mut last = None;
    for offset in 0..known.len() {
        let address = &known[(turn + offset) % known.len()];
        let asked = async {
            let mut wire = dialer.connect(address, Proto::Two).await?;
            view(&mut wire, url).await
        };
        match tokio::time::timeout(dialer.limits.connect_within, asked).await {
            Ok(Ok(map)) => return Ok(map),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {
                last = Some(WireError::Silent { address: address.clone(), after: dialer.limits.connect_within });
            }
        }
    }
    Err(last.unwrap_or_else(|| WireError::Closed { address: Address::new("?", 0) }))
}
