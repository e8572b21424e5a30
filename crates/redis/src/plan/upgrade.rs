//! In which order the nodes of a cluster are restarted with another version.

use std::collections::{BTreeMap, BTreeSet};

use crate::address::Address;
use crate::topology::{Node, NodeId, Picture};

/// One step of an upgrade. Steps are done one after the other, each to its end.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "step")]
pub enum UpgradeStep {
    /// A node is restarted.
    Restart {
        /// Which.
        node: NodeId,
        /// The master whose replica it is by then; `None`: it is a master, and what it serves is away meanwhile.
        of: Option<NodeId>,
    },
    /// A replica, restarted before, becomes the master, so that the old one can be restarted.
    HandOver {
        /// The master until then.
        from: NodeId,
        /// The master from then on.
        to: NodeId,
    },
    /// A node that was a master at the beginning becomes it again.
    GiveBack {
        /// The master until then.
        from: NodeId,
        /// The master from then on.
        to: NodeId,
    },
}

/// What is wanted of an upgrade, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpgradeWish {
    /// Nodes that need no restart any more.
    pub done: BTreeSet<NodeId>,
    /// Nodes that shall be masters at the end. Empty: the roles are left as they come.
    pub masters: BTreeSet<NodeId>,
    /// Whether slots of a master without a replica may be away while it is restarted.
    pub allow_downtime: bool,
}

/// Masters with slots that no replica can take over; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no replica can take over from {}", .0.iter().map(Address::to_string).collect::<Vec<_>>().join(", "))]
pub struct NoReplica(pub Vec<Address>);

/// What is still to be done, from the picture as it is now. A pure function of what is: planning anew after a step gives the
/// rest of the plan before, so an upgrade that broke off anywhere is gone on with by planning.
///
/// Order: replicas and masters without slots first, because nobody misses them; then one master after the other: its role
/// goes to a replica, it is restarted, and it gets the role back; masters without replica last. Shards that are not as
/// they were at the beginning go before others.
pub fn upgrade(picture: &Picture, wish: &UpgradeWish) -> Result<Vec<UpgradeStep>, NoReplica> {
    let todo = |node: &&Node| !wish.done.contains(&node.id);
    let mut shards: Vec<&Node> = picture.masters().filter(|node| !node.slots.is_empty()).collect();
    shards.sort_by_key(|master| {
        let as_was = wish.masters.is_empty() || wish.masters.contains(&master.id);
        (as_was, master.slots.iter().next().map(|slot| slot.number()))
    });
    let mut steps = Vec::new();
    for master in &shards {
        let mut replicas: Vec<&Node> = picture.replicas(&master.id).filter(todo).collect();
        replicas.sort_by(|a, b| a.address.cmp(&b.address));
        let restart = |node: &Node| UpgradeStep::Restart { node: node.id.clone(), of: Some(master.id.clone()) };
        steps.extend(replicas.into_iter().map(restart));
    }
    let idle = picture.masters().filter(|node| node.slots.is_empty()).filter(todo);
    steps.extend(idle.map(|node| UpgradeStep::Restart { node: node.id.clone(), of: None }));
    let (mut bare, mut last) = (Vec::new(), Vec::new());
    for master in shards {
        let mut now = &master.id;
        if todo(&master) {
            match successor(picture, master) {
                Some(next) => {
                    steps.push(UpgradeStep::HandOver { from: master.id.clone(), to: next.id.clone() });
                    steps.push(UpgradeStep::Restart { node: master.id.clone(), of: Some(next.id.clone()) });
                    now = &next.id;
                }
                None => {
                    bare.push(master.address.clone());
                    last.push(UpgradeStep::Restart { node: master.id.clone(), of: None });
                }
            }
        }
        // After a hand-over the old master is one of the replicas.
        let others = std::iter::once(&master.id).chain(picture.replicas(&master.id).map(|node| &node.id));
        if !wish.masters.contains(now)
            && let Some(before) = others.filter(|id| *id != now).find(|id| wish.masters.contains(*id))
        {
            steps.push(UpgradeStep::GiveBack { from: now.clone(), to: before.clone() });
        }
    }
    if !bare.is_empty() && !wish.allow_downtime {
        return Err(NoReplica(bare));
    }
    steps.extend(last);
    Ok(steps)
}

/// The replica that takes over: not on the master's own host where that can be had, then on the host with the fewest masters,
/// then the first by address.
fn successor<'a>(picture: &'a Picture, master: &'a Node) -> Option<&'a Node> {
    let mut masters: BTreeMap<&str, usize> = BTreeMap::new();
    picture.masters().for_each(|node| *masters.entry(&node.address.host).or_default() += 1);
    picture.replicas(&master.id).min_by_key(|node| {
        let host = node.address.host.as_str();
        (host == master.address.host, masters.get(host).copied().unwrap_or(0), node.address.clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::{id, picture};
    use proptest::prelude::*;

    /// A cluster that steps can be done to: for each node its master (its own number for a master), and the slots of
    /// each shard, which go where the role goes.
    #[derive(Debug, Clone)]
    struct Model {
        follows: Vec<usize>,
        slots: Vec<String>,
        done: BTreeSet<usize>,
    }

    fn pair(index: usize) -> String {
        format!("{:02x}", 0xa0 + index)
    }

    fn index(id: &NodeId) -> usize {
        usize::from_str_radix(&id.as_str()[..2], 16).unwrap() - 0xa0
    }

    impl Model {
        fn picture(&self) -> Picture {
            let pairs: Vec<String> = (0..self.follows.len()).map(pair).collect();
            let nodes: Vec<(&str, &str, &str, &str)> = (0..self.follows.len())
                .map(|node| match self.follows[node] {
                    master if master == node => (pairs[node].as_str(), "master", "-", self.slots[node].as_str()),
                    master => (pairs[node].as_str(), "slave", pairs[master].as_str(), ""),
                })
                .collect();
            picture(&nodes)
        }

        fn ids(nodes: impl IntoIterator<Item = usize>) -> BTreeSet<NodeId> {
            nodes.into_iter().map(|node| id(&pair(node))).collect()
        }

        fn promote(&mut self, from: usize, to: usize) {
            for follows in &mut self.follows {
                if *follows == from {
                    *follows = to;
                }
            }
            self.slots.swap(from, to);
        }

        fn replicas(&self, master: usize) -> Vec<usize> {
            (0..self.follows.len()).filter(|node| *node != master && self.follows[*node] == master).collect()
        }

        fn plan(&self, masters: &BTreeSet<usize>, allow_downtime: bool) -> Result<Vec<UpgradeStep>, NoReplica> {
            let wish = UpgradeWish {
                done: Self::ids(self.done.iter().copied()),
                masters: Self::ids(masters.iter().copied()),
                allow_downtime,
            };
            upgrade(&self.picture(), &wish)
        }
    }

    /// Shards of the given numbers of replicas; a master without slots for each `None`.
    fn model(shards: &[Option<usize>]) -> Model {
        let mut model = Model { follows: Vec::new(), slots: Vec::new(), done: BTreeSet::new() };
        for (shard, replicas) in shards.iter().enumerate() {
            let master = model.follows.len();
            for node in 0..=replicas.unwrap_or(0) {
                model.follows.push(master);
                let slots = replicas.filter(|_| node == 0).map(|_| format!("{}-{}", shard * 100, shard * 100 + 99));
                model.slots.push(slots.unwrap_or_default());
            }
        }
        model
    }

    fn shown(steps: &[UpgradeStep]) -> String {
        let name = |id: &NodeId| id.as_str()[..2].to_owned();
        let step = |step: &UpgradeStep| match step {
            UpgradeStep::Restart { node, of: Some(of) } => format!("{} of {}", name(node), name(of)),
            UpgradeStep::Restart { node, of: None } => name(node),
            UpgradeStep::HandOver { from, to } => format!("{}->{}", name(from), name(to)),
            UpgradeStep::GiveBack { from, to } => format!("{}=>{}", name(from), name(to)),
        };
        steps.iter().map(step).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn orders() {
        let check = |model: &Model, masters: &[usize], expect: &str| {
            assert_eq!(shown(&model.plan(&masters.iter().copied().collect(), true).unwrap()), expect);
        };
        // Masters a0, a2, a4 with a replica each.
        let three = model(&[Some(1), Some(1), Some(1)]);
        check(
            &three,
            &[0, 2, 4],
            "a1 of a0, a3 of a2, a5 of a4, a0->a1, a0 of a1, a1=>a0, a2->a3, a2 of a3, a3=>a2, a4->a5, a4 of a5, a5=>a4",
        );
        check(&three, &[], "a1 of a0, a3 of a2, a5 of a4, a0->a1, a0 of a1, a2->a3, a2 of a3, a4->a5, a4 of a5");
        // Broken off after the second hand-over.
        let mut begun = three.clone();
        begun.promote(2, 3);
        begun.done = BTreeSet::from([0, 1, 3, 5]);
        check(&begun, &[0, 2, 4], "a2 of a3, a3=>a2, a4->a5, a4 of a5, a5=>a4");
        begun.done.extend([2, 4]);
        check(&begun, &[0, 2, 4], "a3=>a2");
        check(&begun, &[], "");
        // Without slots, without replica.
        check(&model(&[Some(0), None, Some(1)]), &[0, 1, 2], "a3 of a2, a1, a2->a3, a2 of a3, a3=>a2, a0");
        let refused = model(&[Some(0), Some(1)]).plan(&BTreeSet::new(), false).unwrap_err();
        assert_eq!(refused.to_string(), "no replica can take over from 10.0.0.1:7001");
    }

    /// Who takes over is not on the master's host, and where few masters are.
    #[test]
    fn successors() {
        let mut picture = model(&[Some(3), Some(0)]).picture();
        for (node, host) in [(0, "A"), (1, "A"), (2, "B"), (3, "C"), (4, "B")] {
            let name = id(&pair(node));
            let view = picture.views.get_mut(&name).unwrap();
            view.nodes.get_mut(&name).unwrap().address.host = host.to_owned();
        }
        let master = picture.node(&id("a0")).unwrap();
        assert_eq!(successor(&picture, master).unwrap().id, id("a3"));
    }

    proptest! {
        /// For any cluster, broken off and gone on with after every step: planning anew gives the rest of the plan; a node
        /// is restarted once, and only while its master is another that is up, or where no replica is and that is allowed; a
        /// master hands over to a replica of its own that was restarted before, as all its replicas were; at the end
        /// all are done and the masters are those that were.
        #[test]
        fn holds_for_any_cluster(
            shards in prop::collection::vec(prop::option::weighted(0.9, 0usize..3), 1..5),
            done in prop::collection::btree_set(0usize..15, 0..6),
            allow_downtime: bool,
            keep: bool,
        ) {
            let mut model = model(&shards);
            model.done = done.into_iter().filter(|node| *node < model.follows.len()).collect();
            let before = model.clone();
            let is_master = |model: &Model, node: usize| model.follows[node] == node;
            let masters: BTreeSet<usize> = (0..model.follows.len()).filter(|node| is_master(&model, *node)).collect();
            let wanted = if keep { masters.clone() } else { BTreeSet::new() };
            let bare = masters.iter().any(|master| !model.slots[*master].is_empty() && model.replicas(*master).is_empty() && !model.done.contains(master));
            let plan = model.plan(&wanted, allow_downtime);
            prop_assert_eq!(plan.is_err(), bare && !allow_downtime);
            let Ok(mut plan) = plan else { return Ok(()) };
            let mut restarted = BTreeSet::new();
            while !plan.is_empty() {
                match plan.remove(0) {
                    UpgradeStep::Restart { node, of } => {
                        let node = index(&node);
                        match of {
                            Some(of) => prop_assert_eq!(model.follows[node], index(&of)),
                            None => prop_assert!(is_master(&model, node) && (model.slots[node].is_empty() || model.replicas(node).is_empty())),
                        }
                        prop_assert!(model.done.insert(node) && restarted.insert(node));
                    }
                    UpgradeStep::HandOver { from, to } => {
                        let (from, to) = (index(&from), index(&to));
                        prop_assert!(!model.done.contains(&from) && model.replicas(from).contains(&to));
                        prop_assert!(model.replicas(from).iter().all(|replica| model.done.contains(replica)));
                        model.promote(from, to);
                    }
                    UpgradeStep::GiveBack { from, to } => {
                        let (from, to) = (index(&from), index(&to));
                        prop_assert!(masters.contains(&to) && model.replicas(from).contains(&to));
                        prop_assert!(model.done.contains(&from) && model.done.contains(&to));
                        model.promote(from, to);
                    }
                }
                prop_assert_eq!(&model.plan(&wanted, allow_downtime).unwrap(), &plan);
            }
            prop_assert_eq!(model.done.len(), model.follows.len());
            let untouched = (0..model.follows.len()).filter(|node| !before.done.contains(node)).collect();
            prop_assert_eq!(restarted, untouched);
            if keep {
                prop_assert_eq!(&model.follows, &before.follows);
            }
        }
    }
}
