//! The generator that every random choice comes from, so that a seed replays a run.

use std::time::Duration;

/// xoshiro256** by Blackman and Vigna. Its choices need to be even, not secret; nonces of encryption need
/// to be unique under one key, which 96 bits of a generator seeded with 256 bits of entropy are.
#[derive(Debug, Clone)]
pub struct Rng {
    state: [u64; 4],
}

impl Rng {
    /// A generator from a seed.
    ///
    /// `seed`: 32 bytes from the system's entropy source; a simulation repeats one. With encryption every
    /// start of every node needs its own, or nonces repeat.
    pub fn new(seed: [u8; 32]) -> Self {
        let mut state = [0; 4];
        for (word, bytes) in state.iter_mut().zip(seed.chunks_exact(8)) {
            *word = bytes.iter().fold(0, |word, byte| (word << 8) | u64::from(*byte));
        }
        // All zeros is the one state that the generator cannot leave.
        if state == [0; 4] {
            state = [0x9e37_79b9_7f4a_7c15, 1, 2, 3];
        }
        let mut rng = Self { state };
        for _ in 0..8 {
            rng.next_u64();
        }
        rng
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let result = self.state[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = self.state[1] << 17;
        self.state[2] ^= self.state[0];
        self.state[3] ^= self.state[1];
        self.state[1] ^= self.state[2];
        self.state[0] ^= self.state[3];
        self.state[2] ^= shifted;
        self.state[3] = self.state[3].rotate_left(45);
        result
    }

    /// A number below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: usize) -> usize {
        // The bias of the multiplication is under 2^-32 for any bound that is used here.
        ((u128::from(self.next_u64()) * bound as u128) >> 64) as usize
    }

    /// A number from 0 to below 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A time from zero to below `bound`.
    pub fn within(&mut self, bound: Duration) -> Duration {
        bound.mul_f64(self.fraction())
    }

    /// Fills bytes.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_be_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// Puts a slice in random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.below(at + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that a seed repeats itself, that two seeds differ, and that numbers keep to their bounds.
    #[test]
    fn seeds_repeat() {
        let draw = |seed: [u8; 32]| {
            let mut rng = Rng::new(seed);
            (0..100).map(|_| rng.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw([1; 32]), draw([1; 32]));
        assert_ne!(draw([1; 32]), draw([2; 32]));
        assert_ne!(draw([0; 32])[0], draw([0; 32])[1]);
        let mut rng = Rng::new([3; 32]);
        let mut seen = [0; 10];
        for _ in 0..10_000 {
            seen[rng.below(10)] += 1;
            assert!((0.0..1.0).contains(&rng.fraction()));
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }
}
