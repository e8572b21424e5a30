//! How a command finds and enters a cluster.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::address::Address;
use crate::admin::Cluster;
use crate::connection::Dialer;
use crate::migrate::verify::Extent;
use crate::tls::Tls;
use crate::topology::Node;
use crate::url::{BadUrl, Credentials, PORT, Place, Url};

use super::failure::Failure;

/// Where help has what is about the servers of Redis, apart from what is about our own agent.
const SERVERS: &str = "How to reach the servers of Redis";

/// As whom to come, and how patient to be.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Access {
    /// ACL user to log in as
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_USER", help_heading = SERVERS)]
    user: Option<String>,
    /// Password; better given in the variable, where other users of the machine do not see it
    #[arg(long, value_name = "TEXT", env = "REGROW_REDIS_PASSWORD", hide_env_values = true, help_heading = SERVERS)]
    password: Option<String>,
    #[command(flatten)]
    sentinel: Sentinel,
    /// Come by TLS, as rediss:// says
    #[arg(long, help_heading = SERVERS)]
    tls: bool,
    /// Certificate authority that signed the servers' certificates, PEM; else those that this system trusts
    #[arg(long, value_name = "FILE", env = "REGROW_REDIS_CACERT", help_heading = SERVERS)]
    cacert: Option<PathBuf>,
    /// Certificate to show to servers that want one, PEM
    #[arg(long, value_name = "FILE", requires = "key", env = "REGROW_REDIS_CERT", help_heading = SERVERS)]
    cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", env = "REGROW_REDIS_KEY", help_heading = SERVERS)]
    key: Option<PathBuf>,
    /// Name that the servers' certificates are for, where it is not the host that is connected to
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_SNI", help_heading = SERVERS)]
    sni: Option<String>,
    /// Seconds to wait for one answer of one server
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = SERVERS)]
    timeout: u64,
    /// Seconds to wait until all nodes agree
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    settle: u64,
    /// Write one JSON object instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// As whom sentinels are asked.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Sentinel {
    /// ACL user to log in as at sentinels
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_SENTINEL_USER", help_heading = SERVERS)]
    sentinel_user: Option<String>,
    /// Password of the sentinels; better given in the variable
    #[arg(long, value_name = "TEXT", env = "REGROW_REDIS_SENTINEL_PASSWORD", hide_env_values = true, help_heading = SERVERS)]
    sentinel_password: Option<String>,
}

impl Sentinel {
    fn credentials(&self) -> Credentials {
        let given = |word: &Option<String>| word.clone().filter(|word| !word.is_empty());
        Credentials { user: given(&self.sentinel_user), password: given(&self.sentinel_password) }
    }
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

/// A backend of a proxy, or what a monitor looks at.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Backend {
    /// Where to: redis://, rediss://, redis-sentinel:// or redis-cluster:// URL, without a password
    #[arg(long, value_name = "URL")]
    to: Url,
    /// ACL user to log in as there
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_USER")]
    user: Option<String>,
    /// ACL user to log in as at sentinels; their password comes from REGROW_REDIS_SENTINEL_PASSWORD
    #[arg(long, value_name = "NAME", env = "REGROW_REDIS_SENTINEL_USER")]
    sentinel_user: Option<String>,
    /// A file with the password for there; else REGROW_REDIS_PASSWORD, else none
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Certificate authority that signed the servers' certificates, PEM, for rediss://; else those that this system trusts
    #[arg(long, value_name = "FILE")]
    backend_ca: Option<PathBuf>,
    /// Certificate to show to servers that want one, PEM
    #[arg(long, value_name = "FILE", requires = "backend_key")]
    backend_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    backend_key: Option<PathBuf>,
    /// Name that the servers' certificates are for, where it is not the host that is connected to
    #[arg(long, value_name = "NAME")]
    backend_sni: Option<String>,
    /// Write one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Backend {
    /// The URL with what is needed to get in, and how servers prove who they are.
    pub(super) fn url(&self) -> Result<(Url, Option<Tls>), Failure> {
        let mut url = self.to.clone();
        if url.credentials.password.is_some() {
            return Err(Failure::Refused {
                why: "the URL holds a password, and everybody on this machine can read it from the list of processes"
                    .to_owned(),
                hint: "take it off the URL, and give it in REGROW_REDIS_PASSWORD or with --password-file".to_owned(),
            });
        }
        url.credentials.user = url.credentials.user.or(self.user.clone());
        url.credentials.password = match &self.password_file {
            Some(path) => Some(super::proxy::read_password(path)?),
            None => variable("REGROW_REDIS_PASSWORD"),
        };
        url.sentinel =
            Credentials { user: self.sentinel_user.clone(), password: variable("REGROW_REDIS_SENTINEL_PASSWORD") };
        if !url.tls && self.backend_ca.is_none() {
            return Ok((url, None));
        }
        let shown = self.backend_cert.as_deref().zip(self.backend_key.as_deref());
        let tls = super::tls::client(self.backend_ca.as_deref(), shown, self.backend_sni.as_deref())?;
        Ok((url, Some(tls)))
    }

    pub(super) fn json(&self) -> bool {
        self.json
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A way into a cluster: `HOST[:PORT]`, or a `redis://` or `redis-cluster://` URL, or the same by TLS.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    seeds: Vec<Address>,
    credentials: Credentials,
    tls: bool,
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            let address = Address::parse(text, Some(PORT)).map_err(|error| error.to_string())?;
            return Ok(Self { seeds: vec![address], credentials: Credentials::default(), tls: false });
        }
        let url: Url = text.parse().map_err(|error: BadUrl| error.to_string())?;
        let seeds = match url.place {
            Place::Server { address, db: 0 } => vec![address],
            Place::Cluster { nodes } => nodes,
            Place::Server { .. } => return Err("a cluster has database 0 only".to_owned()),
            Place::Sentinel { .. } => {
                return Err("sentinels watch no cluster; name a node of it".to_owned());
            }
        };
        Ok(Self { seeds, credentials: url.credentials, tls: url.tls })
    }
}

/// A way to a server or cluster, of which all is meant: `HOST[:PORT]`, or a URL without a database.
#[derive(Debug, Clone)]
pub(super) struct Whole(pub(super) Url);

impl FromStr for Whole {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = if text.contains("://") { text.to_owned() } else { format!("redis://{text}") };
        let url: Url = url.parse().map_err(|error: BadUrl| error.to_string())?;
        match url.place {
            Place::Server { db: 1.., .. } | Place::Sentinel { db: 1.., .. } => {
                Err("all databases are meant: take the database off the URL".to_owned())
            }
            _ => Ok(Self(url)),
        }
    }
}

/// How much of two sides is compared: `all`, `1/N` (one key in N), `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Compare(pub(super) Option<Extent>);

impl FromStr for Compare {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self(Some(Extent::All))),
            "none" => Ok(Self(None)),
            text => match text.strip_prefix("1/").and_then(|n| n.parse().ok()) {
                Some(n) if n >= 1 => Ok(Self(Some(Extent::Sample(n)))),
                _ => Err("write all, none, or 1/N for one key in N".to_owned()),
            },
        }
    }
}

impl Access {
    /// How to connect, where no URL says more. `tls`: whether a URL asks for it.
    pub(super) fn dialer(&self, tls: bool) -> Result<Dialer, Failure> {
        let shown = self.cert.as_deref().zip(self.key.as_deref());
        let tls = (tls || self.tls).then(|| super::tls::client(self.cacert.as_deref(), shown, self.sni.as_deref()));
        Ok(Dialer {
            credentials: Credentials { user: self.user.clone(), password: self.password.clone() },
            timeout: Duration::from_secs(self.timeout),
            tls: tls.transpose()?,
        })
    }

    /// A URL that is meant by TLS if that is asked for, and what its sentinels ask for.
    pub(super) fn secured(&self, url: &Url) -> Url {
        Url { tls: url.tls || self.tls, sentinel: self.sentinel.credentials(), ..url.clone() }
    }

    /// How long all nodes may take to agree.
    pub(super) fn settle(&self) -> Duration {
        Duration::from_secs(self.settle)
    }

    /// How to connect to a cluster. What the URL says about the user goes before flags and variables.
    pub(super) fn dialer_for(&self, entry: &Entry) -> Result<Dialer, Failure> {
        let mut dialer = self.dialer(entry.tls)?;
        if entry.credentials != Credentials::default() {
            dialer.credentials = entry.credentials.clone();
        }
        Ok(dialer)
    }

    /// Opens a cluster.
    pub(super) async fn open(&self, entry: &Entry) -> Result<Cluster, Failure> {
        Ok(Cluster::open(&self.dialer_for(entry)?, &entry.seeds).await?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents() {
        let of = |text: &str| text.parse::<Compare>().map(|compare| compare.0);
        assert_eq!(of("all"), Ok(Some(Extent::All)));
        assert_eq!(of("none"), Ok(None));
        assert_eq!(of("1/10"), Ok(Some(Extent::Sample(10))));
        for bad in ["1/0", "some", "10", ""] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
