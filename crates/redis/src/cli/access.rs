//! How a command finds and enters a cluster.

use std::str::FromStr;
use std::time::Duration;

use crate::address::Address;
use crate::admin::Cluster;
use crate::connection::Dialer;
use crate::topology::Node;
use crate::url::{BadUrl, Credentials, PORT, Place, Url};

use super::failure::Failure;

/// As whom to come, and how patient to be.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Access {
    /// ACL user to log in as
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_USER")]
    user: Option<String>,
    /// Password; better given in the variable, where other users of the machine do not see it
    #[arg(long, value_name = "TEXT", env = "REGROW_REDIS_PASSWORD", hide_env_values = true)]
    password: Option<String>,
    /// Seconds to wait for one answer of one server
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// Seconds to wait until all nodes agree
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    settle: u64,
    /// Write one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// Whether and how a change is asked for.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct Consent {
    /// Do it without asking
    #[arg(long, short)]
    pub(super) yes: bool,
    /// Show what would be done, and stop
    #[arg(long, conflicts_with = "yes")]
    pub(super) dry_run: bool,
}

/// A way into a cluster: `HOST[:PORT]`, or a `redis://` or `redis-cluster://` URL.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    seeds: Vec<Address>,
    credentials: Credentials,
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            let address = Address::parse(text, Some(PORT)).map_err(|error| error.to_string())?;
            return Ok(Self { seeds: vec![address], credentials: Credentials::default() });
        }
        let url: Url = text.parse().map_err(|error: BadUrl| error.to_string())?;
        if url.tls {
            return Err("commands on clusters do not come by TLS yet; write redis-cluster://".to_owned());
        }
        let seeds = match url.place {
            Place::Server { address, db: 0 } => vec![address],
            Place::Cluster { nodes } => nodes,
            Place::Server { .. } => return Err("a cluster has database 0 only".to_owned()),
            Place::Sentinel { .. } => {
                return Err("sentinels watch no cluster; name a node of it".to_owned());
            }
        };
        Ok(Self { seeds, credentials: url.credentials })
    }
}

impl Access {
    /// How to connect, where no URL says more.
    pub(super) fn dialer(&self) -> Dialer {
        Dialer {
            credentials: Credentials { user: self.user.clone(), password: self.password.clone() },
            timeout: Duration::from_secs(self.timeout),
        }
    }

    /// How long all nodes may take to agree.
    pub(super) fn settle(&self) -> Duration {
        Duration::from_secs(self.settle)
    }

    /// How to connect to a cluster. What the URL says about the user goes before flags and variables.
    pub(super) fn dialer_for(&self, entry: &Entry) -> Dialer {
        let mut dialer = self.dialer();
        if entry.credentials != Credentials::default() {
            dialer.credentials = entry.credentials.clone();
        }
        dialer
    }

    /// Opens a cluster.
    pub(super) async fn open(&self, entry: &Entry) -> Result<Cluster, Failure> {
        Ok(Cluster::open(&self.dialer_for(entry), &entry.seeds).await?)
    }
}

/// The one node that a text names.
pub(super) fn find<'a>(cluster: &'a Cluster, text: &str) -> Result<&'a Node, Failure> {
    cluster.picture().find(text).map_err(|fits| Failure::Node { text: text.to_owned(), fits })
}

/// A node as people recognise it.
pub(super) fn name(node: &Node) -> String {
    format!("{} ({})", node.address, node.id.short())
}

/// Refuses to change a cluster that is not whole: a change on top of a trouble makes two troubles.
pub(super) fn must_be_whole(cluster: &Cluster) -> Result<(), Failure> {
    let problems = cluster.picture().problems();
    match problems.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(Failure::Refused {
            why: format!("the cluster is not whole: {first} ({} problem(s) in all)", problems.len()),
            hint: "see `check`, then run `fix`".to_owned(),
        }),
    }
}
