//! Lanes: what is applied in order, and the mark that remembers how far each lane is.
//!
//! On a cluster a lane is a slot, because a transaction cannot span two. One server has one lane. Each lane has a mark on the
//! target: a small key in the lane's slot that holds the position of the last write applied, and is written in the same
//! transaction as it.

use bytes::Bytes;

use crate::slot::{SLOTS, Slot};

/// Start of the names of the migration's own keys. Keys of such names on the source are not copied.
pub(super) const PREFIX: &[u8] = b"regrow:migrate:";

/// A lane, 0 to 16383.
pub(crate) type Lane = u16;

/// Which lanes a target has, and a word that hashes to each of them.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// Empty for one server.
    tags: Vec<Bytes>,
    run: String,
}

impl Lanes {
    /// The lanes of a cluster or of one server, for a run of this name.
    pub fn new(cluster: bool, run: &str) -> Self {
        let mut tags = vec![Bytes::new(); if cluster { usize::from(SLOTS) } else { 0 }];
        let (mut left, mut word) = (tags.len(), 0u64);
        while left > 0 {
            let text = word.to_string();
            let tag = &mut tags[usize::from(Slot::of_key(text.as_bytes()).number())];
            if tag.is_empty() {
                *tag = text.into();
                left -= 1;
            }
            word += 1;
        }
        Self { tags, run: run.to_owned() }
    }

    /// Whether the target is a cluster.
    pub fn cluster(&self) -> bool {
        !self.tags.is_empty()
    }

    /// How many there are: 16384 or 1.
    pub fn count(&self) -> usize {
        self.tags.len().max(1)
    }

    /// The lane of a key.
    pub fn of(&self, key: &[u8]) -> Lane {
        if self.cluster() { Slot::of_key(key).number() } else { 0 }
    }

    /// A key of the migration's own, in a lane.
    pub fn key(&self, lane: Lane, name: &str) -> Bytes {
        let tag = self.tags.get(usize::from(lane)).map_or(&b"0"[..], Bytes::as_ref);
        let mut key = PREFIX.to_vec();
        key.extend_from_slice(self.run.as_bytes());
        key.extend_from_slice(b":{");
        key.extend_from_slice(tag);
        key.extend_from_slice(b"}:");
        key.extend_from_slice(name.as_bytes());
        key.into()
    }
}

/// Whether a key is the migration's own.
pub(super) fn own(key: &[u8]) -> bool {
    key.starts_with(PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every lane has a key in it, and no two lanes the same.
    #[test]
    fn keys_fall_into_their_lanes() {
        let lanes = Lanes::new(true, "r");
        assert_eq!(lanes.count(), 16384);
        for lane in 0..SLOTS {
            let key = lanes.key(lane, "m0");
            assert_eq!(lanes.of(&key), lane);
            assert!(own(&key));
        }
        let one = Lanes::new(false, "r");
        assert_eq!(
            (one.count(), one.of(b"any"), one.key(0, "m0")),
            (1, 0, Bytes::from_static(b"regrow:migrate:r:{0}:m0"))
        );
    }
}
