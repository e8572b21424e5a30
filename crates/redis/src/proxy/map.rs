//! Who serves which slot. Pure.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::slot::{SLOTS, Slot};
use crate::topology::View;

/// Who serves which slot, and whom else to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Map {
    owners: Vec<u16>,
    nodes: Vec<Address>,
    /// Every node that was ever told of, masters and replicas: any may know who is master now.
    known: Vec<Address>,
}

/// No owner.
const NOBODY: u16 = u16::MAX;
/// Nodes kept in mind.
const KNOWN_MAX: usize = 4096;

impl Map {
    /// One server with everything.
    pub(crate) fn single(address: Address) -> Self {
        Self { owners: vec![0; usize::from(SLOTS)], nodes: vec![address.clone()], known: vec![address] }
    }

    /// As one node of a cluster sees it.
    pub(crate) fn of_view(view: &View, seeds: &[Address]) -> Self {
        let mut map = Self { owners: vec![NOBODY; usize::from(SLOTS)], nodes: Vec::new(), known: Vec::new() };
        for node in view.nodes.values().filter(|node| !node.flags.noaddr && !node.flags.handshake) {
            if node.flags.master && !node.slots.is_empty() {
                let index = map.index(&node.address);
                node.slots.iter().for_each(|slot| map.owners[usize::from(slot.number())] = index);
            }
            map.know(&node.address);
        }
        seeds.iter().for_each(|seed| map.know(seed));
        map
    }

    /// The owner of a slot.
    pub(crate) fn owner(&self, slot: Slot) -> Option<&Address> {
        self.nodes.get(usize::from(self.owners[usize::from(slot.number())]))
    }

    /// The place of a slot's owner among [`Self::nodes`].
    pub(crate) fn owner_index(&self, slot: Slot) -> usize {
        usize::from(self.owners[usize::from(slot.number())])
    }

    /// All that serve slots or did; places stay the same for the life of this map.
    pub(crate) fn nodes(&self) -> &[Address] {
        &self.nodes
    }

    /// Whom to ask, all that are known.
    pub(crate) fn known(&self) -> &[Address] {
        &self.known
    }

    /// Takes in a redirection.
    pub(crate) fn moved(&mut self, slot: Slot, to: &Address) {
        let index = self.index(to);
        self.owners[usize::from(slot.number())] = index;
        self.know(to);
    }

    /// One slot of each master, its first, in order: whoever speaks to that slot speaks to that master, also after it has
    /// been replaced.
    pub(crate) fn shards(&self) -> Vec<Slot> {
        let mut first: BTreeMap<u16, Slot> = BTreeMap::new();
        for slot in Slot::all() {
            let owner = self.owners[usize::from(slot.number())];
            if owner != NOBODY {
                first.entry(owner).or_insert(slot);
            }
        }
        let mut shards: Vec<Slot> = first.into_values().collect();
        shards.sort_unstable();
        shards
    }

    fn index(&mut self, address: &Address) -> u16 {
        let index = self.nodes.iter().position(|node| node == address).unwrap_or_else(|| {
            self.nodes.push(address.clone());
            self.nodes.len() - 1
        });
        u16::try_from(index).unwrap_or(NOBODY)
    }

    fn know(&mut self, address: &Address) {
        if self.known.len() < KNOWN_MAX && !self.known.contains(address) {
            self.known.push(address.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::picture;

    /// Owners, one slot of each, and what a redirection changes.
    #[test]
    fn owners() {
        let picture =
            picture(&[("aa", "master", "-", "0-5460"), ("bb", "master", "-", "5461-16383"), ("cc", "slave", "aa", "")]);
        let view = picture.views.values().next().unwrap();
        let mut map = Map::of_view(view, &[Address::new("seed", 1)]);
        let slot = |number| Slot::new(number).unwrap();
        assert_eq!(map.owner(slot(0)).unwrap().port, 7001);
        assert_eq!(map.owner(slot(16383)).unwrap().port, 7002);
        assert_eq!(map.shards(), [slot(0), slot(5461)]);
        assert_eq!(map.known().len(), 4);
        map.moved(slot(0), &Address::new("10.0.0.3", 7003));
        assert_eq!(map.owner(slot(0)).unwrap().port, 7003);
        assert_eq!(map.shards(), [slot(0), slot(1), slot(5461)]);
        assert_eq!(Map::single(Address::new("h", 1)).shards(), [slot(0)]);
    }
}
