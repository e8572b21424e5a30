//! The settings of gossip: from flags, variables and the file.

use super::{address, keys};
use crate::config::Guarded;
use crate::exit::Failure;
use crate::runtime::handlers::Handler;
use regrow_gossip::wire::{Keyring, Tags};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Where gossip is when nothing else is said: Serf's port.
pub(crate) const PORT: u16 = 7946;
/// The default of `--gossip`.
pub(crate) const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// What flags, variables and the file say of gossip.
#[derive(Clone, Debug, Default)]
pub(crate) struct GossipFlags {
    pub(crate) join: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) advertise: Option<String>,
    pub(crate) encrypt: Option<PathBuf>,
    pub(crate) handlers: Vec<String>,
}

/// The settings that gossip runs with.
#[derive(Clone, Debug)]
pub(crate) struct GossipSettings {
    /// Where to listen, UDP and TCP alike.
    pub(super) bind: SocketAddr,
    /// Where others reach us, when that is not where we listen. Port 0: the one that is listened on.
    pub(super) advertise: Option<SocketAddr>,
    /// Whom to meet, as `host[:port]`.
    pub(super) join: Vec<String>,
    pub(super) tags: Tags,
    /// The keys, and the file that they are kept in.
    pub(super) keys: Option<(Keyring, PathBuf)>,
    pub(super) handlers: Vec<Handler>,
}

impl GossipFlags {
    /// Checks what was said. `keys/gossip.key` is looked for in the data folder.
    pub(crate) fn settle(self, bind: SocketAddr, guard: &Guarded) -> Result<GossipSettings, Failure> {
        let keys = match &self.encrypt {
            Some(file) => Some((keys::read(file)?, file.clone())),
            None => {
                let file = guard.data.join("keys/gossip.key");
                if file.exists() { Some((keys::read(&file)?, file)) } else { None }
            }
        };
        if !bind.ip().is_loopback() && keys.is_none() && !guard.insecure {
            return Err(Failure::usage(format!(
                "gossip at {bind} would take anybody for a member: there is no key\n  {}\n  or --encrypt FILE with a \
                 key of your own; or say --insecure if the network around is yours alone",
                guard.fix(bind.ip())
            )));
        }
        let mut tags = Tags::new();
        for tag in &self.tags {
            let (name, value) = tag
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| Failure::usage(format!("the tag `{tag}` is not NAME=VALUE")))?;
            tags.insert(name.to_owned(), value.to_owned());
        }
        let handlers = self.handlers.iter().map(|text| {
            Handler::parse(text).map_err(|error| Failure::usage(format!("the event handler `{text}`: {error}")))
        });
        let handlers = handlers.collect::<Result<_, _>>()?;
        let advertise = self.advertise.as_deref().map(address::parse).transpose()?;
        let join = self.join.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|one| !one.is_empty());
        Ok(GossipSettings { bind, advertise, join: join.map(str::to_owned).collect(), tags, keys, handlers })
    }
}
