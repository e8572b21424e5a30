//! The store's clock.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A store revision: grows by one with each transaction that changes something.
///
/// Range: 0 (before anything) to `i64::MAX`. Source: etcd v3 data model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub i64);

impl Revision {
    /// Before the first write: also etcd's "key does not exist" in a comparison of `mod_revision`.
    pub const ZERO: Revision = Revision(0);
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
