//! The decoder of Serf's RPC requests, from the crate that it is part of.

#[path = "../../../crates/serve/src/serf/request.rs"]
#[allow(dead_code, reason = "here requests are read and never done")]
mod request;

use regrow_gossip::wire::Reader;

/// Reads requests until the bytes end or are none; how many there were.
pub fn read_all(bytes: &[u8]) -> usize {
    let mut reader = Reader::new(bytes);
    std::iter::from_fn(|| request::read(&mut reader).ok()).count()
}
