//! Is a store what it says? A recorder of what clients asked and were told, and the checkers of that record.
//!
//! **Flow.** [`drive`] lets many clients work on a store and writes down every [`history::Operation`] with the moments
//! it was asked and answered, and every item each watch delivered. [`linear`] looks for one order of all operations
//! that explains every answer; [`watches`] compares what the watches told with each other and with the answers.
//! [`planted`] is a store with a bug, which must be found.
//!
//! **Partitions.** Keys and leases are in groups, and an operation touches one group. Linearizability is local, so each
//! group is checked by itself (Herlihy and Wing); revisions are of the whole store and bind the groups together.
//!
//! **Unknown outcomes.** A write whose connection died may have happened, at any moment until the server was surely
//! dead, or not at all. Reads whose connection died say nothing and are left out.

#![allow(dead_code, unreachable_pub, reason = "support: each test file uses a part of it")]

pub mod drive;
pub mod history;
pub mod linear;
pub mod model;
pub mod planted;
pub mod watches;

/// What a checker found wrong.
#[derive(Debug, Clone)]
pub struct Wrong {
    /// The guarantee that does not hold: `linearizable`, `ordered`, `unique`, `atomic`, `reliable`, `bookmarkable`,
    /// `acknowledged` or `once`.
    pub guarantee: &'static str,
    pub text: String,
}

impl Wrong {
    pub fn new(guarantee: &'static str, text: impl Into<String>) -> Wrong {
        Wrong { guarantee, text: text.into() }
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not {}: {}", self.guarantee, self.text)
    }
}

/// Random numbers from a seed, the same on every machine (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// A number below `bound`, which must not be 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
