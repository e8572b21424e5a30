//! What mends a cluster.
//!
//! Rule for each slot that is not served by exactly one master or is open: choose the owner; bring keys that lie elsewhere
//! to it; close what is open. A slot of a master that did not answer is left alone, because giving it to another would
//! lose its keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::slot::Slot;
use crate::slot_set::SlotSet;
use crate::topology::{Node, NodeId, Picture, Problem};

/// How many keys of a slot lie where; pairs that are missing count as none.
pub type KeyCounts = BTreeMap<(Slot, NodeId), u64>;

/// One thing to do. Repairs are done in order.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "repair")]
pub enum Repair {
    /// Introduce a node to another.
    Meet {
        /// Who does not know.
        node: NodeId,
        /// Who is not known.
        peer: NodeId,
    },
    /// Give slots that nobody serves to a master.
    Assign {
        /// The slots.
        slots: SlotSet,
        /// Who shall serve them.
        to: NodeId,
    },
    /// Bring keys that lie with another node to the owner of their slot.
    Gather {
        /// The slot.
        slot: Slot,
        /// Where keys lie.
        from: NodeId,
        /// The owner.
        to: NodeId,
    },
    /// Of several that claim a slot, one keeps it.
    Settle {
        /// The slot.
        slot: Slot,
        /// Who keeps it.
        owner: NodeId,
        /// Who gives it up.
        others: Vec<NodeId>,
    },
    /// Carry a move that broke off to its end.
    Finish {
        /// The slot.
        slot: Slot,
        /// Who serves it now.
        from: NodeId,
        /// Who shall.
        to: NodeId,
    },
    /// Close an open slot.
    Close {
        /// The slot.
        slot: Slot,
        /// Who has it open.
        node: NodeId,
    },
}

/// A trouble that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    /// The slots; empty when it is not about slots.
    pub slots: SlotSet,
    /// Why, and what to do.
    pub why: String,
}

/// What to do, and what is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct FixPlan {
    /// In this order.
    pub repairs: Vec<Repair>,
    /// Left alone.
    pub left: Vec<Left>,
}

/// The slots whose keys must be counted on every master before [`fix`] can choose.
pub fn slots_to_count(picture: &Picture) -> SlotSet {
    picture.problems().iter().fold(SlotSet::new(), |mut all, problem| match problem {
        Problem::Uncovered { slots } | Problem::Contested { slots, .. } => all.union(slots),
        Problem::Open { slot, .. } => {
            all.insert(*slot);
            all
        }
        _ => all,
    })
}

/// Plans the repair of all that [`Picture::problems`] finds and that can be repaired from outside.
pub fn fix(picture: &Picture, keys: &KeyCounts) -> FixPlan {
    let mut plan = FixPlan::default();
    for view in picture.views.values() {
        for peer in picture.nodes().filter(|peer| view.nodes.get(&peer.id).is_none_or(|seen| seen.flags.handshake)) {
            plan.repairs.push(Repair::Meet { node: view.myself().id.clone(), peer: peer.id.clone() });
        }
    }
    let lost = unheard_slots(picture, &mut plan.left);
    let mut assigned: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    let mut sizes: BTreeMap<NodeId, usize> =
        picture.masters().map(|node| (node.id.clone(), node.slots.len())).collect();
    let mut after = Vec::new();
    for slot in slots_to_count(picture).difference(&lost).iter() {
        let count = |id: &NodeId| keys.get(&(slot, id.clone())).copied().unwrap_or(0);
        let owners: Vec<&Node> = picture.owners(slot).collect();
        let owner = match owners.as_slice() {
            [owner] => owner.id.clone(),
            // Who has most keys needs least moving; of equals, who serves least.
            [] => match picture
                .masters()
                .max_by_key(|node| (count(&node.id), std::cmp::Reverse((sizes[&node.id], &node.id))))
            {
                Some(node) => {
                    let to = node.id.clone();
                    assigned.entry(to.clone()).or_default().insert(slot);
                    *sizes.entry(to.clone()).or_default() += 1;
                    to
                }
                None => continue,
            },
            // Gossip would let the highest epoch win; agree with it, but bring the keys first.
            several => several
                .iter()
                .max_by_key(|node| (node.epoch, &node.id))
                .map(|node| node.id.clone())
                .unwrap_or_else(|| several[0].id.clone()),
        };
        let target = picture.node(&owner).and_then(|node| node.migrating.get(&slot));
        let finish = target.filter(|to| {
            owners.len() == 1 && picture.node(to).is_some_and(|to| to.importing.get(&slot) == Some(&owner))
        });
        for node in picture.masters().filter(|node| node.id != owner && Some(&node.id) != finish && count(&node.id) > 0)
        {
            after.push(Repair::Gather { slot, from: node.id.clone(), to: owner.clone() });
        }
        if owners.len() > 1 {
            let others = owners.iter().filter(|node| node.id != owner).map(|node| node.id.clone()).collect();
            after.push(Repair::Settle { slot, owner: owner.clone(), others });
        }
        let open: BTreeSet<&NodeId> = picture
            .nodes()
            .filter(|node| node.migrating.contains_key(&slot) || node.importing.contains_key(&slot))
            .map(|node| &node.id)
            .collect();
        for node in open.into_iter().filter(|id| finish.is_none_or(|to| *id != to && **id != owner)) {
            after.push(Repair::Close { slot, node: node.clone() });
        }
        if let Some(to) = finish {
            after.push(Repair::Finish { slot, from: owner, to: to.clone() });
        }
    }
    plan.repairs.extend(assigned.into_iter().map(|(to, slots)| Repair::Assign { slots, to }));
    plan.repairs.extend(after);
    plan
}

/// The slots of nodes that did not answer, as the others see them.
fn unheard_slots(picture: &Picture, left: &mut Vec<Left>) -> SlotSet {
    let covered = picture.covered();
    let mut all = SlotSet::new();
    for (id, unheard) in &picture.unheard {
        let seen = picture.views.values().filter_map(|view| view.nodes.get(id));
        let slots = seen.fold(SlotSet::new(), |slots, node| slots.union(&node.slots)).difference(&covered);
        let what = if slots.is_empty() {
            format!(
                "node {} at {} did not answer: start it, or take it out with remove-node",
                id.short(),
                unheard.address
            )
        } else {
            format!(
                "node {} at {} did not answer and alone holds the keys of these slots: start it, or promote a replica of it with failover --takeover",
                id.short(),
                unheard.address
            )
        };
        all = all.union(&slots);
        left.push(Left { slots, why: what });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Unheard;
    use crate::topology::tests::{id, picture};

    fn pair(id: &NodeId) -> &str {
        &id.as_str()[..2]
    }

    fn shown(plan: &FixPlan) -> Vec<String> {
        let line = |repair: &Repair| match repair {
            Repair::Meet { node, peer } => format!("meet {} {}", pair(node), pair(peer)),
            Repair::Assign { slots, to } => format!("assign {slots} {}", pair(to)),
            Repair::Gather { slot, from, to } => {
                format!("gather {slot} {}>{}", pair(from), pair(to))
            }
            Repair::Settle { slot, owner, others } => {
                format!("settle {slot} {} not {}", pair(owner), others.iter().map(pair).collect::<String>())
            }
            Repair::Finish { slot, from, to } => {
                format!("finish {slot} {}>{}", pair(from), pair(to))
            }
            Repair::Close { slot, node } => format!("close {slot} {}", pair(node)),
        };
        plan.repairs.iter().map(line).chain(plan.left.iter().map(|left| format!("left {}", left.slots))).collect()
    }

    fn counts(list: &[(u16, &str, u64)]) -> KeyCounts {
        list.iter().map(|(slot, pair, keys)| ((Slot::new(*slot).unwrap(), id(pair)), *keys)).collect()
    }

    struct Case {
        name: &'static str,
        /// What A (first 0-5), B (6-9) and C (the rest) say they serve.
        says: [String; 3],
        /// Keys that lie where.
        keys: &'static [(u16, &'static str, u64)],
        repairs: &'static [&'static str],
    }

    /// Every way a slot can be broken, and what mends it.
    #[test]
    fn table() {
        let (a, b) = (id("aa"), id("bb"));
        let rest = "10-16383";
        let case = |name, a: &str, b: &str, c: &str, keys, repairs| Case {
            name,
            says: [a.to_owned(), b.to_owned(), c.to_owned()],
            keys,
            repairs,
        };
        let out = format!("0-5 [3->-{b}]");
        let into = format!("6-9 [3-<-{a}]");
        let third = format!("{rest} [3-<-{a}]");
        let claimed = format!("{rest} [5-<-{a}]");
        for Case { name, says: [a, b, c], keys, repairs } in [
            case("whole", "0-5", "6-9", rest, &[], &[]),
            case("both ends of a move", &out, &into, rest, &[(3, "aa", 5), (3, "bb", 2)], &["finish 3 aa>bb"]),
            case(
                "a third has keys",
                &out,
                &into,
                &third,
                &[(3, "cc", 2)],
                &["gather 3 cc>aa", "close 3 cc", "finish 3 aa>bb"],
            ),
            case("only the way out", &out, "6-9", rest, &[(3, "aa", 5)], &["close 3 aa"]),
            case("only the way out, keys went", &out, "6-9", rest, &[(3, "bb", 5)], &["gather 3 bb>aa", "close 3 aa"]),
            case("only the way in, empty", "0-5", &into, rest, &[], &["close 3 bb"]),
            case("only the way in, with keys", "0-5", &into, rest, &[(3, "bb", 1)], &["gather 3 bb>aa", "close 3 bb"]),
            case("nobody's, empty", "0-4", "6-9", rest, &[], &["assign 5 bb"]),
            case(
                "nobody's, with keys",
                "0-4",
                "6-9",
                &claimed,
                &[(5, "cc", 9), (5, "aa", 1)],
                &["assign 5 cc", "gather 5 aa>cc", "close 5 cc"],
            ),
            case("claimed twice", "0-5", "5-9", rest, &[(5, "aa", 9)], &["gather 5 aa>bb", "settle 5 bb not aa"]),
        ] {
            let picture = picture(&[("aa", "master", "-", &a), ("bb", "master", "-", &b), ("cc", "master", "-", &c)]);
            assert_eq!(shown(&fix(&picture, &counts(keys))), repairs, "{name}");
        }
    }

    /// Many slots of nobody go to those that serve least, evenly.
    #[test]
    fn spreads_what_nobody_serves() {
        let picture =
            picture(&[("aa", "master", "-", "0-9"), ("bb", "master", "-", ""), ("cc", "master", "-", "20-16383")]);
        assert_eq!(shown(&fix(&picture, &KeyCounts::new())), ["assign 10-19 bb"]);
    }

    /// Slots of a silent master are never given away.
    #[test]
    fn leaves_silent_masters_alone() {
        let mut picture = picture(&[
            ("aa", "master", "-", "0-9"),
            ("bb", "master", "-", "10-99"),
            ("cc", "master", "-", "101-16383"),
        ]);
        picture.views.remove(&id("bb"));
        picture.unheard.insert(id("bb"), Unheard { address: crate::address::Address::new("h", 1), why: "gone".into() });
        assert_eq!(shown(&fix(&picture, &KeyCounts::new())), ["assign 100 aa", "left 10-99"]);
    }

    #[test]
    fn introduces_strangers() {
        let mut picture = picture(&[("aa", "master", "-", "0-9"), ("bb", "master", "-", "10-16383")]);
        picture.views.get_mut(&id("aa")).unwrap().nodes.remove(&id("bb"));
        assert_eq!(shown(&fix(&picture, &KeyCounts::new())), ["meet aa bb"]);
    }
}
