//! Ansible's inventory, from the catalog.

use regrow_model::View;
use regrow_model::run::Inventory;
use std::collections::{BTreeMap, BTreeSet};

/// The nodes, and a group for each service with the nodes that its healthy endpoints are on.
pub fn catalog(view: &View) -> Inventory {
    let hosts: BTreeMap<String, String> =
        view.nodes.iter().map(|(name, node)| (name.to_string(), node.address.clone())).collect();
    let mut groups = BTreeMap::new();
    for service in view.services.keys() {
        let members: BTreeSet<String> =
            view.healthy(service).filter_map(|(id, _)| Some(view.assignments.get(id)?.node.to_string())).collect();
        // Ansible's groups are named like variables.
        groups.insert(service.as_str().replace('-', "_"), members.into_iter().collect());
    }
    Inventory::Catalog { hosts, groups }
}
