//! Which writes can go at once. Pure: writes in their order in, some of them out.
//!
//! Most writes are of one lane, and those of a lane go together in one transaction. A write that reads other lanes, or changes two,
//! has to see them as they were at its place in the order. So it goes at once only with writes that do not touch its lanes; the others
//! wait for the next wave. The order within each lane never changes, and nothing more than that is promised of the order between lanes.

use std::collections::BTreeSet;

use super::super::deed::Deed;
use super::super::lane::{Lane, Lanes};

/// Writes of several lanes in one wave: the values that they read are held at the same time.
const GATHERED_AT_ONCE: usize = 64;

/// A write to be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Its number among the writes of its window.
    pub number: usize,
    /// What is to be done.
    pub deed: Deed,
    /// What it reads or writes.
    lanes: Vec<Lane>,
    /// Whether nothing else may touch its lanes meanwhile.
    apart: bool,
}

impl Item {
    /// `Err`: a deed that cannot go together with any other.
    pub(super) fn new(number: usize, deed: Deed, lanes: &Lanes) -> Result<Self, Deed> {
        let (touched, apart) = match &deed {
            Deed::Lane(lane, _) => (vec![*lane], false),
            Deed::Split(parts) => (parts.iter().map(|(lane, _)| *lane).collect(), false),
            Deed::Gather { lane, words, reads } => {
                let read = reads.iter().filter_map(|index| Some(lanes.of(words.get(*index)?)));
                ([*lane].into_iter().chain(read).collect(), true)
            }
            Deed::Rename { from, to } | Deed::ListMove { from, to, .. } => (vec![lanes.of(from), lanes.of(to)], true),
            _ => return Err(deed),
        };
        Ok(Self { number, deed, lanes: touched, apart })
    }
}

/// Takes what can go at once.
pub(super) fn next_wave(items: &mut Vec<Item>) -> Vec<Item> {
    // Lanes that are written as they come, and lanes that are another's until the next wave.
    let (mut shared, mut closed) = (BTreeSet::new(), BTreeSet::new());
    let (mut wave, mut rest, mut gathered) = (Vec::new(), Vec::new(), 0);
    for item in items.drain(..) {
        let touches = |lanes: &BTreeSet<Lane>| item.lanes.iter().any(|lane| lanes.contains(lane));
        let waits = touches(&closed) || (item.apart && (touches(&shared) || gathered >= GATHERED_AT_ONCE));
        if waits || item.apart {
            closed.extend(item.lanes.iter().copied());
        } else {
            shared.extend(item.lanes.iter().copied());
        }
        gathered += usize::from(item.apart && !waits);
        if waits { rest.push(item) } else { wave.push(item) }
    }
    *items = rest;
    wave
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(number: usize, (lanes, apart): (Vec<Lane>, bool)) -> Item {
        Item { number, deed: Deed::Nothing, lanes, apart }
    }

    /// Lanes 0 and 1: what touches none of a gathering write's lanes goes with it, what does waits, and all after that in its lanes.
    #[test]
    fn what_waits() {
        let numbers = |wave: &[Item]| wave.iter().map(|item| item.number).collect::<Vec<_>>();
        let mut items: Vec<Item> = [
            (vec![0], false),
            (vec![1, 2], true),
            (vec![1], false),
            (vec![0], false),
            (vec![0, 1], false),
            (vec![0], false),
            (vec![3, 4], true),
            (vec![5], false),
        ]
        .into_iter()
        .enumerate()
        .map(|(number, item_of)| item(number, item_of))
        .collect();
        assert_eq!(numbers(&next_wave(&mut items)), [0, 1, 3, 6, 7]);
        assert_eq!(numbers(&next_wave(&mut items)), [2, 4, 5]);
        assert!(items.is_empty());
    }

    proptest! {
        /// Each write goes once; two that touch the same lane go in their order; and who wants to be apart shares no lane in its wave.
        #[test]
        fn order_within_lanes(all in prop::collection::vec((prop::collection::vec(0u16..6, 1..4), any::<bool>()), 0..200)) {
            let mut items: Vec<Item> = all.iter().cloned().enumerate().map(|(number, of)| item(number, of)).collect();
            let mut place = vec![None; all.len()];
            let mut waves = 0;
            while !items.is_empty() {
                let wave = next_wave(&mut items);
                prop_assert!(!wave.is_empty());
                for (within, item) in wave.iter().enumerate() {
                    prop_assert_eq!(place[item.number].replace((waves, within)), None);
                    for other in wave.iter().filter(|other| other.number != item.number) {
                        let meet = item.lanes.iter().any(|lane| other.lanes.contains(lane));
                        prop_assert!(!(meet && item.apart), "{:?} beside {:?}", item, other);
                    }
                }
                waves += 1;
            }
            for later in 0..all.len() {
                for earlier in 0..later {
                    if all[earlier].0.iter().any(|lane| all[later].0.contains(lane)) {
                        prop_assert!(place[earlier] < place[later]);
                    }
                }
            }
        }
    }
}
