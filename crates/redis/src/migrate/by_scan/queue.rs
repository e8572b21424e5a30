//! Keys that are to be copied, and how far that is. Pure.
//!
//! Each key that is put in gets a number, one higher than the last. Property: once [`Queue::reached`] is `n`, every key that was
//! put in before or with number `n` was read after it was put in, and is on the target. A key is always of the same part, and a
//! part is worked on by one task, so that an older value never comes after a newer one.

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;

use crate::slot::Slot;

/// Database of the source, and name.
pub(super) type Key = (u32, Bytes);

/// The queue of a feed.
#[derive(Debug)]
pub(super) struct Queue {
    parts: Vec<Part>,
    last: u64,
}

#[derive(Debug, Default)]
struct Part {
    waiting: VecDeque<(u64, Key)>,
    /// What waits.
    known: HashSet<Key>,
    /// The lowest number of what is being copied.
    taken: Option<u64>,
}

impl Queue {
    /// With so many parts.
    pub(super) fn new(parts: usize) -> Self {
        Self { parts: (0..parts.max(1)).map(|_| Part::default()).collect(), last: 0 }
    }

    /// The part of a key.
    fn part(&self, name: &[u8]) -> usize {
        usize::from(Slot::of_key(name).number()) % self.parts.len()
    }

    /// Puts a key in. One that waits already is not put in twice: it will be read later than now.
    pub(super) fn put(&mut self, key: Key) {
        let index = self.part(&key.1);
        let part = &mut self.parts[index];
        if part.known.insert(key.clone()) {
            self.last += 1;
            part.waiting.push_back((self.last, key));
        }
    }

    /// Takes keys of a part to copy them, until [`Self::done`] is told.
    pub(super) fn take(&mut self, part: usize, most: usize) -> Vec<Key> {
        let Some(part) = self.parts.get_mut(part) else { return Vec::new() };
        let count = most.min(part.waiting.len());
        part.taken = part.waiting.front().map(|(number, _)| *number);
        let keys: Vec<Key> = part.waiting.drain(..count).map(|(_, key)| key).collect();
        for key in &keys {
            part.known.remove(key);
        }
        keys
    }

    /// What was taken of a part is on the target.
    pub(super) fn done(&mut self, part: usize) {
        if let Some(part) = self.parts.get_mut(part) {
            part.taken = None;
        }
    }

    /// The last number that was given.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Up to this number all is on the target.
    pub(super) fn reached(&self) -> u64 {
        let open = |part: &Part| part.taken.or(part.waiting.front().map(|(number, _)| *number));
        self.parts.iter().filter_map(open).min().map_or(self.last, |number| number - 1)
    }

    /// Keys that wait.
    pub(super) fn len(&self) -> usize {
        self.parts.iter().map(|part| part.waiting.len()).sum()
    }

    /// Forgets what waits and what was taken: all is read again. Numbers go on.
    pub(super) fn clear(&mut self) {
        self.parts.iter_mut().for_each(|part| *part = Part::default());
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// A generator of numbers that is the same each time.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % below
        }
    }

    /// The property, over what may happen in any order: keys change, are put in, taken, read and written.
    #[test]
    fn what_is_reached_is_there() {
        for seed in 0..200 {
            let mut dice = Dice(seed);
            let mut queue = Queue::new(3);
            let (mut source, mut target) = (HashMap::<Key, u64>::new(), HashMap::<Key, u64>::new());
            // What must be on the target once a number is reached: key, value or newer.
            let mut promised: Vec<(u64, Key, u64)> = Vec::new();
            let mut held: Vec<Option<Vec<(Key, u64)>>> = vec![None; 3];
            for step in 1..500 {
                match dice.roll(5) {
                    0 | 1 => {
                        let key: Key = (0, format!("k{}", dice.roll(12)).into());
                        source.insert(key.clone(), step);
                        queue.put(key.clone());
                        promised.push((queue.last(), key, step));
                    }
                    2 | 3 => {
                        let part = dice.roll(3) as usize;
                        if held[part].is_none() {
                            let keys = queue.take(part, 1 + dice.roll(4) as usize);
                            held[part] = Some(keys.into_iter().map(|key| (key.clone(), source[&key])).collect());
                        }
                    }
                    _ => {
                        let part = dice.roll(3) as usize;
                        if let Some(read) = held[part].take() {
                            target.extend(read);
                            queue.done(part);
                        }
                    }
                }
                let reached = queue.reached();
                for (number, key, value) in promised.iter().filter(|(number, ..)| *number <= reached) {
                    assert!(target.get(key) >= Some(value), "seed {seed}, step {step}, {number} of {reached}");
                }
            }
        }
    }

    /// An empty queue has reached all; one that was cleared goes on counting.
    #[test]
    fn ends() {
        let key = || (0, Bytes::from_static(b"k"));
        let mut queue = Queue::new(2);
        assert_eq!((queue.reached(), queue.len()), (0, 0));
        queue.put(key());
        queue.put(key());
        assert_eq!((queue.last(), queue.reached(), queue.len()), (1, 0, 1));
        queue.clear();
        assert_eq!((queue.last(), queue.reached(), queue.len()), (1, 1, 0));
        queue.put(key());
        assert_eq!((queue.last(), queue.reached()), (2, 1));
    }
}
