//! Makes a cluster of empty servers.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::address::Address;
use crate::connection::{Connection, Dialer};
use crate::plan::CreatePlan;
use crate::resp::Command;
use crate::slot::Slot;
use crate::topology::NodeId;

use super::cluster::{Cluster, view};
use super::error::{AdminError, Unfit, chain};

/// Looks whether each server can take part: it answers, has its cluster mode on, holds no keys and knows no other node.
/// All that cannot are named at once.
pub async fn examine(dialer: &Dialer, servers: &[Address]) -> Result<(), AdminError> {
    let mut unfit = Vec::new();
    let mut silent = Vec::new();
    for address in servers {
        match objection(dialer, address).await {
            Ok(None) => {}
            Ok(Some(why)) => unfit.push(Unfit { address: address.clone(), why }),
            Err(error) => silent.push(Unfit { address: address.clone(), why: chain(&error) }),
        }
    }
    if !silent.is_empty() {
        return Err(AdminError::Unreachable(silent));
    }
    if unfit.is_empty() { Ok(()) } else { Err(AdminError::Unfit(unfit)) }
}

async fn objection(dialer: &Dialer, address: &Address) -> Result<Option<String>, AdminError> {
    let mut link = dialer.connect(address).await?;
    let info = link.info().await?;
    if !info.flag("cluster_enabled") {
        return Ok(Some("its cluster mode is off: set cluster-enabled yes and start it again".to_owned()));
    }
    let keys = link.int(&Command::new("DBSIZE")).await?;
    if keys > 0 {
        return Ok(Some(format!("it holds {keys} keys")));
    }
    let view = view(&mut link).await?;
    if view.nodes.len() > 1 {
        return Ok(Some(format!(
            "it already knows {} other node(s): take it out of its cluster, or reset it with CLUSTER RESET",
            view.nodes.len() - 1
        )));
    }
    if !view.myself().slots.is_empty() {
        return Ok(Some(format!("it already serves slots {}: reset it with CLUSTER RESET", view.myself().slots)));
    }
    Ok(None)
}

/// Makes the cluster and waits until all nodes agree and every replica has its data. `say` is told each step.
///
/// Order: slots and epochs first, while the servers are alone and nobody can object; then they meet; then replicas
/// choose their masters, which they must know by then.
pub async fn create(
    dialer: &Dialer,
    plan: &CreatePlan,
    within: Duration,
    say: &mut dyn FnMut(&str),
) -> Result<Cluster, AdminError> {
    let mut links: BTreeMap<&Address, (Connection, NodeId, u16)> = BTreeMap::new();
    let servers = plan.masters.iter().flat_map(|master| std::iter::once(&master.address).chain(&master.replicas));
    say("giving out slots");
    for (index, address) in servers.enumerate() {
        let mut link = dialer.connect(address).await?;
        let me = view(&mut link).await?.myself().clone();
        // Epochs that differ from the start spare the nodes from settling conflicts. A server that was reset keeps its
        // epoch, which does no harm.
        if me.epoch == 0 {
            link.ok(&Command::new("CLUSTER SET-CONFIG-EPOCH").number(index as u64 + 1)).await?;
        }
        links.insert(address, (link, me.id, me.bus_port));
    }
    let known = |address: &Address| links.get(address).map(|(link, id, bus)| (link.peer_ip(), id.clone(), *bus));
    let introductions: Vec<Command> = plan
        .masters
        .iter()
        .flat_map(|master| std::iter::once(&master.address).chain(&master.replicas))
        .skip(1)
        .filter_map(|address| {
            known(address)
                .map(|(ip, _, bus)| Command::new("CLUSTER MEET").arg(ip.to_string()).number(address.port).number(bus))
        })
        .collect();
    let ids: BTreeMap<Address, NodeId> =
        links.iter().map(|(address, (_, id, _))| ((*address).clone(), id.clone())).collect();
    for master in &plan.masters {
        if let Some((link, ..)) = links.get_mut(&master.address) {
            let (first, last) = (master.slots.0.number(), master.slots.1.number());
            // ADDSLOTSRANGE came with version 7.
            let slots = (first..=last).filter_map(Slot::new).map(|slot| slot.to_string());
            link.ok(&Command::new("CLUSTER ADDSLOTS").args(slots)).await?;
        }
    }
    say("introducing the servers to each other");
    if let Some((link, ..)) = plan.masters.first().and_then(|first| links.get_mut(&first.address)) {
        for meet in &introductions {
            link.ok(meet).await?;
        }
    }
    drop(links);
    let seeds: Vec<Address> = ids.keys().cloned().collect();
    let mut cluster = Cluster::open(dialer, &seeds).await?;
    cluster.settle(within, |picture| picture.views.len() == ids.len()).await?;

    say("assigning replicas");
    let mut replicas = Vec::new();
    for master in &plan.masters {
        for replica in &master.replicas {
            cluster.link(&ids[replica])?.ok(&Command::new("CLUSTER REPLICATE").arg(&ids[&master.address])).await?;
            replicas.push((ids[replica].clone(), ids[&master.address].clone()));
        }
    }
    say("waiting until all nodes agree");
    let obeyed = |picture: &crate::topology::Picture| {
        replicas.iter().all(|(replica, master)| {
            picture
                .views
                .values()
                .all(|view| view.nodes.get(replica).is_some_and(|node| node.master.as_ref() == Some(master)))
        })
    };
    cluster.settle(within, obeyed).await?;
    let names: Vec<NodeId> = replicas.iter().map(|(replica, _)| replica.clone()).collect();
    cluster.in_step(&names, within).await?;
    Ok(cluster)
}
