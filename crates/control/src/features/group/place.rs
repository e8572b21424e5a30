//! Where instances go: nodes and ports.

use regrow_model::spec::Ports;
use regrow_model::{Name, View};
use std::collections::{BTreeMap, BTreeSet};

/// Load and taken ports of each node.
pub(super) struct Places<'a> {
    view: &'a View,
    /// Nodes by how many instances they have.
    by_load: BTreeSet<(u32, &'a Name)>,
    load: BTreeMap<&'a Name, u32>,
    taken: BTreeMap<&'a Name, BTreeSet<u16>>,
    /// Where the search for a free port of a range goes on: below it everything is taken. Without it, a group of
    /// ten thousand would look at fifty million ports.
    searched: BTreeMap<(&'a Name, u16), u16>,
}

/// A place for one instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: Name,
    pub(super) address: String,
    pub(super) port: u16,
}

impl<'a> Places<'a> {
    pub(super) fn of(view: &'a View) -> Places<'a> {
        // Nobody is sent where gossip says that nobody is, or where nobody looks after it.
        let fit = view.nodes.iter().filter(|(name, node)| !view.is_unreachable(name) && !node.away);
        let mut load: BTreeMap<&Name, u32> = fit.map(|(node, _)| (node, 0)).collect();
        let mut ports: BTreeMap<&Name, Vec<u16>> = BTreeMap::new();
        for assignment in view.assignments.values() {
            if let Some(load) = load.get_mut(&assignment.node) {
                *load += 1;
            }
            ports.entry(&assignment.value.node).or_default().push(assignment.port);
        }
        let by_load = load.iter().map(|(node, load)| (*load, *node)).collect();
        let taken = ports.into_iter().map(|(node, ports)| (node, ports.into_iter().collect())).collect();
        Places { view, by_load, load, taken, searched: BTreeMap::new() }
    }

    /// A place for a new slot on a node that is there and that gossip does not call dead: the least loaded node that has a port of the range free, its lowest.
    pub(super) fn draw(&mut self, ports: Ports) -> Result<Place, String> {
        if self.by_load.is_empty() {
            return Err("no node is there".to_owned());
        }
        let (taken, searched) = (&mut self.taken, &mut self.searched);
        let found = self.by_load.iter().find_map(|(_, node)| {
            let taken = taken.entry(node).or_default();
            let from = *searched.get(&(*node, ports.first)).unwrap_or(&ports.first);
            let port = (from..=ports.last).find(|port| !taken.contains(port))?;
            searched.insert((node, ports.first), port);
            Some((*node, port))
        });
        let (node, port) = found.ok_or_else(|| match ports.fixed() {
            Some(port) => format!("port {port} is taken on every node"),
            None => format!("no port of {ports} is free on any node"),
        })?;
        let load = self.load.entry(node).or_default();
        self.by_load.remove(&(*load, node));
        *load += 1;
        self.by_load.insert((*load, node));
        Ok(self.take(node, port))
    }

    /// The place that a slot has, for its next life. `refused`: its port turned out to be taken by somebody else, so
    /// that the next free one above it is drawn, from the first again at the end of the range.
    ///
    /// The slot keeps its node while that is there, and its port while the range has it.
    pub(super) fn again(&mut self, node: &Name, port: u16, ports: Ports, refused: bool) -> Result<Place, String> {
        let Some((node, _)) = self.view.nodes.get_key_value(node) else { return self.draw(ports) };
        let in_range = (ports.first..=ports.last).contains(&port);
        if in_range && !refused {
            return Ok(self.take(node, port));
        }
        let taken = self.taken.entry(node).or_default();
        let free = |port: &u16| !taken.contains(port);
        let above = if in_range { port.saturating_add(1).max(ports.first) } else { ports.first };
        let found = (above..=ports.last).find(free).or_else(|| (ports.first..=ports.last).find(free));
        let found = found.ok_or_else(|| format!("no other port of {ports} is free on {node}"))?;
        Ok(self.take(node, found))
    }

    fn take(&mut self, node: &'a Name, port: u16) -> Place {
        self.taken.entry(node).or_default().insert(port);
        let address = self.view.nodes.get(node).map(|node| node.address.clone()).unwrap_or_default();
        Place { node: node.clone(), address, port }
    }
}
