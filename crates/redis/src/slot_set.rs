//! A set of slots, small and quick to combine.

use std::fmt;

use crate::slot::{SLOTS, Slot};

const WORDS: usize = SLOTS as usize / 64;

/// A set of slots. Shape: one bit a slot, 2 KiB. Written as `0-5460,9000`; empty as `-`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SlotSet(Box<[u64; WORDS]>);

impl SlotSet {
    /// No slot.
    pub fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Every slot.
    pub fn full() -> Self {
        Self(Box::new([u64::MAX; WORDS]))
    }

    /// Adds a slot; false when it was there.
    pub fn insert(&mut self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    /// Takes a slot out; false when it was not there.
    pub fn remove(&mut self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        let there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        there
    }

    /// Whether a slot is in.
    pub fn contains(&self, slot: Slot) -> bool {
        let (word, bit) = place(slot);
        self.0[word] & bit != 0
    }

    /// How many slots are in, 0 to 16384.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether no slot is in.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The slots, in order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        Slot::all().filter(|slot| self.contains(*slot))
    }

    /// The slots as inclusive ranges, in order, as few as possible.
    pub fn ranges(&self) -> Vec<(Slot, Slot)> {
        let mut ranges: Vec<(Slot, Slot)> = Vec::new();
        for slot in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if last.number() + 1 == slot.number() => *last = slot,
                _ => ranges.push((slot, slot)),
            }
        }
        ranges
    }

    /// What is in either.
    pub fn union(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// What is in both.
    pub fn intersection(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// What is in this one only.
    pub fn difference(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    fn zip(&self, other: &Self, combine: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = Box::new([0; WORDS]);
        for (word, (a, b)) in words.iter_mut().zip(self.0.iter().zip(other.0.iter())) {
            *word = combine(*a, *b);
        }
        Self(words)
    }
}

fn place(slot: Slot) -> (usize, u64) {
    (usize::from(slot.number() / 64), 1 << (slot.number() % 64))
}

impl Default for SlotSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<Slot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = Slot>>(slots: I) -> Self {
        let mut set = Self::new();
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

impl fmt::Display for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (index, (first, last)) in self.ranges().into_iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            if first == last { write!(f, "{first}")? } else { write!(f, "{first}-{last}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotSet({self})")
    }
}

impl serde::Serialize for SlotSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(numbers: impl IntoIterator<Item = u16>) -> SlotSet {
        numbers.into_iter().filter_map(Slot::new).collect()
    }

    /// Sets are written as the fewest ranges, also at the borders of words and of the whole.
    #[test]
    fn ranges() {
        for (numbers, text) in [
            (vec![], "-"),
            (vec![0], "0"),
            ((60..70).collect(), "60-69"),
            (vec![1, 3, 4, 16383], "1,3-4,16383"),
            ((0..16384).collect(), "0-16383"),
        ] {
            let slots = set(numbers.clone());
            assert_eq!(slots.to_string(), text);
            assert_eq!(slots.len(), numbers.len());
        }
        assert_eq!(SlotSet::full(), set(0..16384));
    }

    #[test]
    fn algebra() {
        let (a, b) = (set(0..100), set(50..150));
        assert_eq!(a.union(&b), set(0..150));
        assert_eq!(a.intersection(&b), set(50..100));
        assert_eq!(a.difference(&b), set(0..50));
        let mut c = set([7]);
        assert!(
            !c.insert(Slot::new(7).unwrap()) && c.remove(Slot::new(7).unwrap()) && !c.remove(Slot::new(7).unwrap())
        );
        assert!(c.is_empty());
    }
}
