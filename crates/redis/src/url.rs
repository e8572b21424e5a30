//! Where a data set lives, as people write it.
//!
//! ```text
//! redis://[user[:password]@]host[:port][/db]                       one server
//! rediss://…                                                       the same, by TLS
//! redis-sentinel://[user[:password]@]host[:port][,…]/master[/db]   the master that these sentinels know
//! redis-cluster://[user[:password]@]host[:port][,…]                the cluster that these nodes are of
//! rediss-sentinel://…, rediss-cluster://…                          the same, by TLS
//! ```
//!
//! `user:password` may hold percent escapes. With one word before the `@` it is the user and there is no password, as in
//! any URL; `:secret@` is a password alone.

use std::fmt;
use std::str::FromStr;

use crate::address::{Address, BadAddress};

/// Port of a server where none is written.
pub const PORT: u16 = 6379;
/// Port of a sentinel where none is written.
pub const SENTINEL_PORT: u16 = 26379;

/// A name and a password. `Debug` hides the password.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Credentials {
    /// The ACL user; `None` for the default user.
    pub user: Option<String>,
    /// `None`: do not authenticate.
    pub password: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .finish()
    }
}

/// Where to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One server.
    Server {
        /// Its address.
        address: Address,
        /// The database, 0 where none is written.
        db: u32,
    },
    /// The current master of a name that sentinels watch.
    Sentinel {
        /// At least one.
        sentinels: Vec<Address>,
        /// The name.
        master: String,
        /// The database, 0 where none is written.
        db: u32,
    },
    /// A cluster, by some of its nodes.
    Cluster {
        /// At least one.
        nodes: Vec<Address>,
    },
}

/// A place with what is needed to get in. `Display` leaves the password out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// Where.
    pub place: Place,
    /// Whether connections are by TLS.
    pub tls: bool,
    /// As whom.
    pub credentials: Credentials,
    /// As whom sentinels are asked: they have users of their own. No part of the text; nobody by default.
    pub sentinel: Credentials,
}

/// A text that is no such URL; the caller's fault. The text is not repeated, because a password may be in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// Not one of the schemes.
    #[error("the URL starts with none of redis://, rediss://, redis-sentinel://, redis-cluster://")]
    Scheme,
    /// A host or port that is none.
    #[error(transparent)]
    Address(#[from] BadAddress),
    /// A database that is no number.
    #[error("the database {0:?} is not a number")]
    Database(String),
    /// A sentinel URL without the name of its master.
    #[error("the name of the master is missing: redis-sentinel://HOST:PORT/NAME")]
    Master,
    /// A cluster URL with a path: a cluster has database 0 only.
    #[error("a cluster has no databases: take {0:?} off the URL")]
    Path(String),
    /// Two hosts where one is meant.
    #[error("redis:// names one server; for several write redis-cluster:// or redis-sentinel://")]
    Several,
    /// A `%` that no two hex digits follow, or that makes no UTF-8.
    #[error("a percent escape in the user or password is malformed")]
    Escape,
    /// `?…` or `#…`.
    #[error("nothing may follow the path: take the part from {0:?} off the URL")]
    Query(char),
}

impl FromStr for Url {
    type Err = BadUrl;

    fn from_str(text: &str) -> Result<Self, BadUrl> {
        let (scheme, rest) = text.split_once("://").ok_or(BadUrl::Scheme)?;
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((who, rest)) => (credentials(who)?, rest),
            None => (Credentials::default(), rest),
        };
        if let Some(sign) = rest.chars().find(|c| matches!(c, '?' | '#')) {
            return Err(BadUrl::Query(sign));
        }
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let addresses =
            |port| hosts.split(',').map(|host| Address::parse(host, Some(port))).collect::<Result<Vec<_>, _>>();
        let (place, tls) = match scheme {
            "redis" | "rediss" => {
                let [address] = <[Address; 1]>::try_from(addresses(PORT)?).map_err(|_| BadUrl::Several)?;
                (Place::Server { address, db: database(path)? }, scheme == "rediss")
            }
            "redis-sentinel" | "rediss-sentinel" => {
                let (master, db) = path.split_once('/').unwrap_or((path, ""));
                if master.is_empty() {
                    return Err(BadUrl::Master);
                }
                (
                    Place::Sentinel {
                        sentinels: addresses(SENTINEL_PORT)?,
                        master: master.to_owned(),
                        db: database(db)?,
                    },
                    scheme == "rediss-sentinel",
                )
            }
            "redis-cluster" | "rediss-cluster" => match path {
                "" => (Place::Cluster { nodes: addresses(PORT)? }, scheme == "rediss-cluster"),
                path => return Err(BadUrl::Path(path.to_owned())),
            },
            _ => return Err(BadUrl::Scheme),
        };
        Ok(Self { place, tls, credentials, sentinel: Credentials::default() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |addresses: &[Address]| addresses.iter().map(Address::to_string).collect::<Vec<_>>().join(",");
        let redis = if self.tls { "rediss" } else { "redis" };
        match &self.place {
            Place::Server { address, db: 0 } => write!(f, "{redis}://{address}"),
            Place::Server { address, db } => write!(f, "{redis}://{address}/{db}"),
            Place::Sentinel { sentinels, master, db: 0 } => {
                write!(f, "{redis}-sentinel://{}/{master}", list(sentinels))
            }
            Place::Sentinel { sentinels, master, db } => {
                write!(f, "{redis}-sentinel://{}/{master}/{db}", list(sentinels))
            }
            Place::Cluster { nodes } => write!(f, "{redis}-cluster://{}", list(nodes)),
        }
    }
}

fn credentials(who: &str) -> Result<Credentials, BadUrl> {
    let (user, password) = match who.split_once(':') {
        Some((user, password)) => (user, Some(unescape(password)?)),
        None => (who, None),
    };
    Ok(Credentials { user: Some(unescape(user)?).filter(|user| !user.is_empty()), password })
}

fn database(path: &str) -> Result<u32, BadUrl> {
    if path.is_empty() { Ok(0) } else { path.parse().map_err(|_| BadUrl::Database(path.to_owned())) }
}

fn unescape(text: &str) -> Result<String, BadUrl> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != b'%' {
            bytes.push(*byte);
            continue;
        }
        let digit = |at: usize| rest.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err(BadUrl::Escape);
        };
        bytes.push((high * 16 + low) as u8);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| BadUrl::Escape)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each scheme is read, with its defaults, and written back without the password.
    #[test]
    fn reads_every_scheme() {
        for (text, shown) in [
            ("redis://h", "redis://h:6379"),
            ("redis://h:1/3", "redis://h:1/3"),
            ("rediss://u:p@[::1]:2", "rediss://[::1]:2"),
            ("redis-sentinel://a,b:9/main", "redis-sentinel://a:26379,b:9/main"),
            ("redis-sentinel://a/main/4", "redis-sentinel://a:26379/main/4"),
            ("redis-cluster://:s@a:1,b:2", "redis-cluster://a:1,b:2"),
            ("rediss-cluster://a", "rediss-cluster://a:6379"),
            ("rediss-sentinel://a/main/4", "rediss-sentinel://a:26379/main/4"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("\"s\"") && !format!("{url:?}").contains("\"p\""));
        }
    }

    #[test]
    fn credentials() {
        for (text, user, password) in [
            ("redis://h", None, None),
            ("redis://:p@h", None, Some("p")),
            ("redis://u:a%40b%3a@h", Some("u"), Some("a@b:")),
            ("redis://u:p@ss@h", Some("u"), Some("p@ss")),
            ("redis://u@h", Some("u"), None),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!(
                (url.credentials.user.as_deref(), url.credentials.password.as_deref()),
                (user, password),
                "{text}"
            );
        }
    }

    #[test]
    fn refusals() {
        for (text, part) in [
            ("h:1", "starts with none"),
            ("http://h", "starts with none"),
            ("redis://", "host is empty"),
            ("redis://a,b", "names one server"),
            ("redis://h/x", "database"),
            ("redis-sentinel://h", "name of the master"),
            ("redis-cluster://h/1", "no databases"),
            ("redis://u:%4@h", "percent"),
            ("redis://h?x=1", "nothing may follow"),
        ] {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
