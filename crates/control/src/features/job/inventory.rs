//! Ansible's inventory, from the catalog.

use regrow_model::run::{AnsibleTask, Inventory};
use regrow_model::{Standing, View};
use std::collections::{BTreeMap, BTreeSet};

/// The name that stands for every host.
const ALL: &str = "all";

/// The nodes, and a group for each service with the nodes that its healthy endpoints are on. A member that has died is
/// still a host, at the address where gossip reached it: whether it is tried, left out or waited for is the job's to
/// say.
pub fn catalog(view: &View) -> Inventory {
    let dead = view.members.iter().filter(|(_, member)| member.standing == Standing::Failed);
    let dead = dead.map(|(name, member)| (name.to_string(), host_of(&member.address).to_owned()));
    let mut hosts: BTreeMap<String, String> = dead.collect();
    hosts.extend(view.nodes.iter().map(|(name, node)| (name.to_string(), node.address.clone())));
    let mut groups = BTreeMap::new();
    for service in view.services.keys() {
        let members: BTreeSet<String> =
            view.healthy(service).filter_map(|(id, _)| Some(view.assignments.get(id)?.node.to_string())).collect();
        // Ansible's groups are named like variables.
        groups.insert(service.as_str().replace('-', "_"), members.into_iter().collect());
    }
    Inventory::Catalog { hosts, groups }
}

/// `IP:PORT` without the port.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The hosts that a limit leaves of an inventory, as far as they are known; no limit leaves all.
pub(super) fn hosts(inventory: &Inventory, limit: &[String]) -> Vec<String> {
    let Inventory::Catalog { hosts, groups } = inventory else { return limit.to_vec() };
    if limit.is_empty() {
        return hosts.keys().cloned().collect();
    }
    let named = limit.iter().flat_map(|name| match groups.get(name) {
        Some(members) => members.clone(),
        None if name == ALL => hosts.keys().cloned().collect(),
        None => vec![name.clone()],
    });
    named.collect()
}

/// Takes hosts out of a playbook's inventory and limit. `false`: nothing is left of what it was to work on, so it must
/// not be played, as an empty limit would mean all.
pub(super) fn leave_out(task: &mut AnsibleTask, dead: &BTreeSet<String>) -> bool {
    let limited = !task.limit.is_empty();
    task.limit.retain(|name| !dead.contains(name));
    if let Inventory::Catalog { hosts, groups } = &mut task.inventory {
        hosts.retain(|host, _| !dead.contains(host));
        for (group, members) in groups.iter_mut() {
            let had = !members.is_empty();
            members.retain(|host| !dead.contains(host));
            if had && members.is_empty() {
                task.limit.retain(|name| name != group);
            }
        }
        if hosts.is_empty() {
            return false;
        }
    }
    !(limited && task.limit.is_empty())
}
