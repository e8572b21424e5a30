//! The views of all nodes, side by side.

use std::collections::BTreeMap;

use crate::address::Address;
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::node::{Node, NodeId, View};

/// A node that others know but that did not answer us.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unheard {
    /// Where it should be.
    pub address: Address,
    /// Why there is no view of it.
    pub why: String,
}

/// A cluster: what each node that answered says, and the nodes that did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picture {
    /// The views, by the name of the node asked.
    pub views: BTreeMap<NodeId, View>,
    /// Known to somebody, silent to us.
    pub unheard: BTreeMap<NodeId, Unheard>,
}

impl Picture {
    /// Each node as it describes itself; nodes that did not answer are left out.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.views.values().map(View::myself)
    }

    /// A node as it describes itself.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.views.get(id).map(View::myself)
    }

    /// The masters that answered, in order of name.
    pub fn masters(&self) -> impl Iterator<Item = &Node> {
        self.nodes().filter(|node| node.flags.master)
    }

    /// The replicas of a master that answered.
    pub fn replicas<'a>(&'a self, master: &'a NodeId) -> impl Iterator<Item = &'a Node> {
        self.nodes().filter(move |node| node.master.as_ref() == Some(master))
    }

    /// Who serves a slot, by the nodes' own words; more than one only while a conflict is being settled.
    pub fn owners(&self, slot: Slot) -> impl Iterator<Item = &Node> {
        self.masters().filter(move |node| node.slots.contains(slot))
    }

    /// The slots that some master that answered serves.
    pub fn covered(&self) -> SlotSet {
        self.masters().fold(SlotSet::new(), |covered, node| covered.union(&node.slots))
    }

    /// Finds a node by its name, the start of its name (four digits or more), or its address. `Err`: the names of all
    /// that fit, when there is not exactly one.
    pub fn find(&self, text: &str) -> Result<&Node, Vec<String>> {
        let fits =
            |node: &&Node| node.address.to_string() == text || (text.len() >= 4 && node.id.as_str().starts_with(text));
        let found: Vec<&Node> = self.nodes().filter(fits).collect();
        match found.as_slice() {
            [node] => Ok(node),
            several => Err(several.iter().map(|node| format!("{} ({})", node.id, node.address)).collect()),
        }
    }
}
