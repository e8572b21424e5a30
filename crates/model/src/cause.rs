//! What ties a chain of events together.

use crate::Time;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// The id of a chain of causes: given to the first event of the chain and carried by everything that follows from it.
///
/// Shape: 13 lower-case letters and digits, time first, so ids sort by birth.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CauseId(Arc<str>);

impl CauseId {
    /// Makes an id from when the chain began and a number that differs for each chain begun in that millisecond
    /// anywhere in the cluster (the maker mixes its node and a counter into it).
    pub fn new(born: Time, salt: u64) -> CauseId {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bits = ((born.0 & ((1 << 42) - 1)) << 22) | (salt & ((1 << 22) - 1));
        let mut text = [0u8; 13];
        for slot in text.iter_mut().rev() {
            *slot = DIGITS[(bits & 31) as usize];
            bits >>= 5;
        }
        CauseId(std::str::from_utf8(&text).expect("ASCII digits").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CauseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
