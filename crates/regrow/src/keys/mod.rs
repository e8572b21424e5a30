//! A node's keys: `keys/` in its data folder, and the authority that signs them.
//!
//! | file | what | where |
//! |---|---|---|
//! | `ca.pem` | the cluster's authority; while it is exchanged, the new one and then the old | every node |
//! | `ca.key`, `ca-old.key` | its key; that of the one before, until the exchange is finished | where `regrow init` ran |
//! | `issued/SERIAL.pem` | what it signed | there too |
//! | `node.pem`, `node.key` | the node's certificate and its key | every node |
//! | `ca.crl` | what was revoked | every node |
//! | `gossip.key` | seals gossip | every node |
//! | `admin.token` | a token of the role `admin` | where `regrow init` ran |
//!
//! The folder is 0700 and the files are 0600. `ca.pem` comes last: an agent that finds it asks for credentials.

mod authority;
mod facts;
mod folder;

pub(crate) use authority::{AUTHORITY, Authority, Role, Signed, Wanted, certificates, names, pem};
pub(crate) use facts::{Facts, Lists, facts, revoked_serials};
pub(crate) use folder::{
    ADMIN_TOKEN, CA, CA_KEY, CA_OLD_KEY, CLIENT, CLIENT_KEY, CRL, Folder, GOSSIP, NODE, NODE_KEY, Stamp, random, token,
};

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970, now.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_secs()).unwrap_or(i64::MAX)
}

/// A time as people write it, to the minute, UTC.
pub(crate) fn day(seconds: i64) -> String {
    let time = UNIX_EPOCH + std::time::Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    humantime::format_rfc3339_seconds(time).to_string().replace('T', " ").chars().take(16).collect()
}
