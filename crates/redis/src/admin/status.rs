//! A cluster at one glance.

use crate::info::Info;
use crate::slot_set::SlotSet;
use crate::topology::{Node, NodeId, Problem, Unheard};

use super::cluster::Cluster;
use super::error::AdminError;

/// A cluster: its masters with their replicas, and what is wrong.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Status {
    /// Masters in order of their first slot; those without slots last.
    pub masters: Vec<MasterStatus>,
    /// Replicas whose master did not answer.
    pub orphans: Vec<NodeStatus>,
    /// Nodes that did not answer.
    pub unheard: Vec<Unheard>,
    /// Slots that somebody serves, of 16384.
    pub covered: usize,
    /// All that is wrong.
    pub problems: Vec<Problem>,
}

/// A master and its replicas.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct MasterStatus {
    /// The master.
    #[serde(flatten)]
    pub node: NodeStatus,
    /// The slots it serves.
    pub slots: SlotSet,
    /// Its replicas.
    pub replicas: Vec<NodeStatus>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeStatus {
    /// Its name.
    pub id: NodeId,
    /// Where it is.
    pub address: crate::address::Address,
    /// Version of the server.
    pub version: String,
    /// Configuration epoch.
    pub epoch: u64,
    /// Keys it holds.
    pub keys: u64,
    /// Memory it uses, in bytes.
    pub memory_bytes: u64,
    /// Clients connected.
    pub clients: u64,
    /// For a replica: whether the link to the master stands.
    pub linked: Option<bool>,
    /// For a replica: bytes of the replication stream that the master has and it has not. The two are asked one after the
    /// other, so a few bytes mean nothing.
    pub lag_bytes: Option<u64>,
}

impl Cluster {
    /// Asks every node how it is.
    pub async fn status(&mut self) -> Result<Status, AdminError> {
        let infos = self.infos().await?;
        let status = |node: &Node, info: &Info| NodeStatus {
            id: node.id.clone(),
            address: node.address.clone(),
            version: info.text("redis_version").unwrap_or("?").to_owned(),
            epoch: node.epoch,
            keys: keys(info),
            memory_bytes: count(info, "used_memory"),
            clients: count(info, "connected_clients"),
            linked: (!node.flags.master).then(|| info.text("master_link_status") == Some("up")),
            lag_bytes: None,
        };
        let mut masters = Vec::new();
        let mut orphans: Vec<&(Node, Info)> = infos.iter().filter(|(node, _)| !node.flags.master).collect();
        for (node, info) in infos.iter().filter(|(node, _)| node.flags.master) {
            let written = count(info, "master_repl_offset");
            let mut replicas = Vec::new();
            orphans.retain(|(replica, info)| {
                let mine = replica.master.as_ref() == Some(&node.id);
                if mine {
                    let lag_bytes = Some(written.saturating_sub(count(info, "slave_repl_offset")));
                    replicas.push(NodeStatus { lag_bytes, ..status(replica, info) });
                }
                !mine
            });
            masters.push(MasterStatus { node: status(node, info), slots: node.slots.clone(), replicas });
        }
        masters.sort_by_key(|master| {
            (master.slots.iter().next().map_or(u16::MAX, |slot| slot.number()), master.node.address.clone())
        });
        let picture = self.picture();
        Ok(Status {
            orphans: orphans.into_iter().map(|(node, info)| status(node, info)).collect(),
            masters,
            unheard: picture.unheard.values().cloned().collect(),
            covered: picture.covered().len(),
            problems: picture.problems(),
        })
    }
}

fn count(info: &Info, name: &str) -> u64 {
    info.number(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
}

/// `db0:keys=5,expires=0,avg_ttl=0`: a cluster has database 0 only.
fn keys(info: &Info) -> u64 {
    info.text("db0").and_then(|line| line.strip_prefix("keys=")?.split(',').next()?.parse().ok()).unwrap_or(0)
}
