//! An index of numbered things by a hash of theirs: four bytes a slot, at most two thirds of them taken.
//!
//! It is never walked, so that the order of hashes shows nowhere, and hashes are keyed, so that no peer can
//! choose addresses that collide.

use std::net::{IpAddr, SocketAddr};

use crate::rng::Rng;

const FREE: u32 = u32::MAX;
const SLOTS_MIN: usize = 16;

/// A secret that hashes depend on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HashKey([u64; 2]);

/// A key that is no secret.
impl Default for HashKey {
    fn default() -> Self {
        Self([0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03])
    }
}

/// The product of both, its halves over each other.
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

impl HashKey {
    /// Leaves the generator as it was.
    pub(crate) fn new(rng: &Rng) -> Self {
        let mut rng = rng.clone();
        Self([rng.next_u64(), rng.next_u64() | 1])
    }

    pub(crate) fn of(self, address: SocketAddr) -> u64 {
        let ip = match address.ip() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let low = fold(ip as u64 ^ self.0[0], self.0[1]);
        fold((ip >> 64) as u64 ^ low.rotate_left(29), u64::from(address.port()) ^ self.0[0].rotate_left(17) | 1)
    }

    pub(crate) fn of_text(self, text: &str) -> u64 {
        let word = |chunk: &[u8]| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        };
        let mix = |hash: u64, word: u64| fold(hash ^ word, self.0[1]);
        let hash = text.as_bytes().chunks(8).map(word).fold(self.0[0], mix);
        mix(hash, text.len() as u64)
    }
}

/// Numbers by hash. The caller tells what a number's hash is, and which of those with a hash is meant.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    slots: Vec<u32>,
    used: usize,
}

impl Index {
    fn start(&self, hash: u64) -> usize {
        // The high bits are the best mixed ones.
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    fn next(&self, at: usize) -> usize {
        if at + 1 == self.slots.len() { 0 } else { at + 1 }
    }

    fn find(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.start(hash);
        // Ends: a third of the slots is free.
        while self.slots[at] != FREE {
            if is(self.slots[at]) {
                return Some(at);
            }
            at = self.next(at);
        }
        None
    }

    pub(crate) fn get(&self, hash: u64, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.find(hash, is).map(|at| self.slots[at])
    }

    /// Adds a number that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        if (self.used + 1) * 3 > self.slots.len() * 2 {
            let wanted = (self.slots.len() * 3 / 2).max(SLOTS_MIN);
            let old = std::mem::replace(&mut self.slots, vec![FREE; wanted]);
            old.into_iter().filter(|number| *number != FREE).for_each(|number| self.put(hash_of(number), number));
        }
        self.put(hash, number);
        self.used += 1;
    }

    fn put(&mut self, hash: u64, number: u32) {
        let mut at = self.start(hash);
        while self.slots[at] != FREE {
            at = self.next(at);
        }
        self.slots[at] = number;
    }

    /// Takes a number out.
    pub(crate) fn remove(&mut self, hash: u64, number: u32, hash_of: impl Fn(u32) -> u64) {
        let Some(mut hole) = self.find(hash, |found| found == number) else { return };
        self.used -= 1;
        let mut at = self.next(hole);
        // Those that follow move up, unless they would come before where they belong.
        while self.slots[at] != FREE {
            let home = self.start(hash_of(self.slots[at]));
            let from_home = (at + self.slots.len() - home) % self.slots.len();
            let from_hole = (at + self.slots.len() - hole) % self.slots.len();
            if from_home >= from_hole {
                self.slots[hole] = self.slots[at];
                hole = at;
            }
            at = self.next(at);
        }
        self.slots[hole] = FREE;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Shows that the index and an ordered map agree after each of many random changes, with hashes that collide.
    #[test]
    fn it_agrees_with_a_map() {
        let mut rng = Rng::new([4; 32]);
        let hash_of = |number: u32| u64::from(number % 50) << 56 | 7;
        let mut index = Index::default();
        let mut map = BTreeMap::new();
        for _ in 0..20_000 {
            let number = rng.below(300) as u32;
            if map.remove(&number).is_some() {
                index.remove(hash_of(number), number, hash_of);
            } else {
                index.insert(hash_of(number), number, hash_of);
                map.insert(number, ());
            }
            let asked = rng.below(300) as u32;
            assert_eq!(index.get(hash_of(asked), |found| found == asked).is_some(), map.contains_key(&asked));
            assert_eq!(index.used, map.len());
        }
    }

    /// Shows that addresses that differ little are spread over all slots, with either family.
    #[test]
    fn hashes_are_spread() {
        let key = HashKey::new(&Rng::new([2; 32]));
        let v4 = (0..4096u32).map(|n| SocketAddr::from((std::net::Ipv4Addr::from(0x0a00_0000 | n), 7946)));
        let ports = (0..4096u16).map(|n| SocketAddr::from(([127, 0, 0, 1], 1 + n)));
        let v6 = (0..4096u128).map(|n| SocketAddr::from((std::net::Ipv6Addr::from((0xfd00 << 112) | n), 7946)));
        for addresses in [v4.collect::<Vec<_>>(), ports.collect(), v6.collect()] {
            let mut counts = [0; 64];
            addresses.iter().for_each(|address| counts[(key.of(*address) >> 58) as usize] += 1);
            assert!(counts.iter().all(|count| (25..110).contains(count)), "{counts:?}");
        }
    }
}
