//! A cluster with a connection to each of its nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::connection::{Connection, Dialer};
use crate::info::Info;
use crate::resp::Command;
use crate::topology::{Node, NodeId, Picture, Unheard, View};

use super::error::{AdminError, Unfit, chain};

/// How long between two looks at a cluster that should settle.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Nodes asked at the same time.
const ASKED_AT_ONCE_MAX: usize = 64;

/// A cluster: its picture, and a connection to each node that answered.
#[derive(Debug)]
pub struct Cluster {
    dialer: Dialer,
    seeds: BTreeSet<Address>,
    links: BTreeMap<NodeId, Connection>,
    picture: Picture,
}

impl Cluster {
    /// Finds a cluster from some of its nodes; one that answers is enough.
    pub async fn open(dialer: &Dialer, seeds: &[Address]) -> Result<Self, AdminError> {
        let mut cluster = Self {
            dialer: dialer.clone(),
            seeds: seeds.iter().cloned().collect(),
            links: BTreeMap::new(),
            picture: Picture::default(),
        };
        cluster.refresh().await?;
        Ok(cluster)
    }

    /// The cluster as of the last [`Self::refresh`].
    pub fn picture(&self) -> &Picture {
        &self.picture
    }

    /// Asks every node anew, also those that only others know.
    pub async fn refresh(&mut self) -> Result<(), AdminError> {
        let mut kept: BTreeMap<Address, Connection> =
            std::mem::take(&mut self.links).into_values().map(|link| (link.address().clone(), link)).collect();
        let mut todo: Vec<Address> = self.seeds.iter().chain(kept.keys()).cloned().collect();
        let mut asked: BTreeSet<Address> = todo.iter().cloned().collect();
        todo.sort();
        todo.dedup();
        let mut views: BTreeMap<NodeId, View> = BTreeMap::new();
        let mut silent: BTreeMap<Address, String> = BTreeMap::new();
        while !todo.is_empty() {
            let batch = todo.split_off(todo.len().saturating_sub(ASKED_AT_ONCE_MAX));
            let mut asking = JoinSet::new();
            for address in batch {
                let (dialer, link) = (self.dialer.clone(), kept.remove(&address));
                asking.spawn(async move {
                    let answer = ask(&dialer, link, &address).await;
                    (address, answer)
                });
            }
            while let Some(done) = asking.join_next().await {
                let Ok((address, answer)) = done else {
                    continue;
                };
                match answer {
                    Ok((link, view)) => {
                        for peer in view
                            .nodes
                            .values()
                            .filter(|peer| !peer.flags.noaddr && !peer.flags.handshake && !peer.flags.myself)
                        {
                            if asked.insert(peer.address.clone()) {
                                todo.push(peer.address.clone());
                            }
                        }
                        let id = view.myself().id.clone();
                        // The same node by a second address: a seed written as a name.
                        self.links.entry(id.clone()).or_insert(link);
                        views.entry(id).or_insert(view);
                    }
                    Err(error) => {
                        silent.insert(address, chain(&error));
                    }
                }
            }
        }
        if views.is_empty() {
            return Err(AdminError::Unreachable(
                silent.into_iter().map(|(address, why)| Unfit { address, why }).collect(),
            ));
        }
        let mut unheard = BTreeMap::new();
        for peer in views
            .values()
            .flat_map(|view| view.nodes.values())
            .filter(|peer| !views.contains_key(&peer.id) && !peer.flags.handshake)
        {
            let why = match silent.get(&peer.address) {
                Some(why) => why.clone(),
                None if peer.flags.noaddr => "its address is not known".to_owned(),
                None => "another node answers at its address".to_owned(),
            };
            unheard.insert(peer.id.clone(), Unheard { address: peer.address.clone(), why });
        }
        self.picture = Picture { views, unheard };
        Ok(())
    }

    /// Takes new pictures until nothing is wrong and `wanted` holds.
    pub async fn settle(&mut self, within: Duration, wanted: impl Fn(&Picture) -> bool) -> Result<(), AdminError> {
        self.agreed(within, |picture| picture.problems().is_empty() && wanted(picture)).await
    }

    /// Takes new pictures until `wanted` holds, whatever else is wrong.
    pub(super) async fn agreed(
        &mut self,
        within: Duration,
        wanted: impl Fn(&Picture) -> bool,
    ) -> Result<(), AdminError> {
        let end = Instant::now() + within;
        loop {
            self.refresh().await?;
            if wanted(&self.picture) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(AdminError::NotSettled { after: within, problems: self.picture.problems() });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until these replicas have their masters' data and receive what is new.
    pub async fn in_step(&mut self, replicas: &[NodeId], within: Duration) -> Result<(), AdminError> {
        let end = Instant::now() + within;
        for id in replicas {
            while self.link(id)?.info().await?.text("master_link_status") != Some("up") {
                if Instant::now() >= end {
                    return Err(AdminError::NotInStep { replica: self.node(id)?.address.clone(), after: within });
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// Waits until these replicas have all that their masters have had when this began.
    pub async fn in_sync(&mut self, replicas: &[NodeId], within: Duration) -> Result<(), AdminError> {
        let end = Instant::now() + within;
        self.in_step(replicas, within).await?;
        let mut wanted = Vec::with_capacity(replicas.len());
        for id in replicas {
            let Some(master) = self.node(id)?.master.clone() else { continue };
            wanted.push((id, self.link(&master)?.info().await?.number("master_repl_offset").unwrap_or(i64::MAX)));
        }
        for (id, offset) in wanted {
            loop {
                let info = self.link(id)?.info().await?;
                let up = info.text("master_link_status") == Some("up");
                if up && info.number("slave_repl_offset").is_some_and(|at| at >= offset) {
                    break;
                }
                if Instant::now() >= end {
                    return Err(AdminError::NotInStep { replica: self.node(id)?.address.clone(), after: within });
                }
                sleep(LOOK_EVERY).await;
            }
        }
        Ok(())
    }

    /// What every node that answered says about itself.
    pub(crate) async fn infos(&mut self) -> Result<Vec<(Node, Info)>, AdminError> {
        let nodes: Vec<Node> = self.picture.nodes().cloned().collect();
        let mut infos = Vec::with_capacity(nodes.len());
        for node in nodes {
            let info = self.link(&node.id)?.info().await?;
            infos.push((node, info));
        }
        Ok(infos)
    }

    /// The connection to a node.
    pub(super) fn link(&mut self, id: &NodeId) -> Result<&mut Connection, AdminError> {
        self.links.get_mut(id).ok_or_else(|| AdminError::NoNode(id.clone()))
    }

    /// A node as it describes itself.
    pub(crate) fn node(&self, id: &NodeId) -> Result<&Node, AdminError> {
        self.picture.node(id).ok_or_else(|| AdminError::NoNode(id.clone()))
    }

    /// The way connections are made.
    pub(crate) fn dialer(&self) -> &Dialer {
        &self.dialer
    }

    /// Takes in a node that nobody knows yet, so that the next picture shows it.
    pub(super) fn adopt(&mut self, address: Address) {
        self.seeds.insert(address);
    }

    /// Leaves a node out of the pictures to come, unless others still know it.
    pub(super) fn release(&mut self, id: &NodeId) {
        let mut addresses: Vec<Address> =
            self.links.remove(id).map(|link| link.address().clone()).into_iter().collect();
        addresses.extend(self.picture.node(id).map(|node| node.address.clone()));
        addresses.extend(self.picture.unheard.get(id).map(|unheard| unheard.address.clone()));
        self.seeds.retain(|seed| !addresses.contains(seed));
        self.seeds.extend(self.links.values().map(|link| link.address().clone()));
    }

    /// The command by which a node is introduced to another: `MEET` wants an IP, so a name will not do.
    pub(super) fn meet(&self, peer: &NodeId) -> Result<Command, AdminError> {
        let node = self.node(peer)?;
        let link = self.links.get(peer).ok_or_else(|| AdminError::NoNode(peer.clone()))?;
        Ok(Command::new("CLUSTER MEET").arg(link.peer_ip().to_string()).number(node.address.port).number(node.bus_port))
    }
}

/// One node's view, by the connection given or a new one.
async fn ask(dialer: &Dialer, link: Option<Connection>, address: &Address) -> Result<(Connection, View), AdminError> {
    if let Some(mut link) = link
        && let Ok(view) = view(&mut link).await
    {
        return Ok((link, view));
    }
    let mut link = dialer.connect(address).await?;
    let view = view(&mut link).await?;
    Ok((link, view))
}

/// One node's view.
pub(super) async fn view(link: &mut Connection) -> Result<View, AdminError> {
    let nodes = link.text(&Command::new("CLUSTER NODES")).await?;
    let info = link.text(&Command::new("CLUSTER INFO")).await?;
    View::parse(&nodes, &info, link.address())
        .map_err(|source| AdminError::Nodes { address: link.address().clone(), source })
}
