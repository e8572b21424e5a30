//! What is wrong with a cluster.

use std::fmt;

use crate::address::Address;
use crate::slot::Slot;
use crate::slot_set::SlotSet;

use super::node::{Node, NodeId};
use super::picture::Picture;

/// Something that keeps a cluster from being whole.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// Nobody serves these slots.
    Uncovered {
        /// The slots.
        slots: SlotSet,
    },
    /// More than one master says that it serves these slots.
    Contested {
        /// The slots.
        slots: SlotSet,
        /// Who says so.
        by: Vec<Address>,
    },
    /// A slot is being moved, or a move broke off.
    Open {
        /// The slot.
        slot: Slot,
        /// The node that has it open.
        node: Address,
        /// On its way out (true) or in (false).
        out: bool,
        /// The other end.
        peer: NodeId,
    },
    /// This node has another idea of who serves what than most have, or of whom a node follows than that node itself.
    Disagrees {
        /// The node.
        node: Address,
    },
    /// This node does not know another that belongs here.
    Unknown {
        /// The node that does not know.
        node: Address,
        /// The one not known.
        peer: Address,
    },
    /// A node that others know did not answer.
    Unheard {
        /// Its name.
        node: NodeId,
        /// Where it should be.
        address: Address,
        /// Why not.
        why: String,
    },
    /// A node refuses clients, because it holds the cluster for down or has just come back.
    NotServing {
        /// The node.
        node: Address,
    },
    /// A node holds another for dead, or for likely dead.
    Down {
        /// Who is held for dead.
        node: Address,
        /// By how many.
        votes: usize,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uncovered { slots } => {
                write!(f, "{} slots are served by nobody: {slots}", slots.len())
            }
            Self::Contested { slots, by } => {
                let by: Vec<_> = by.iter().map(Address::to_string).collect();
                write!(f, "slots {slots} are claimed by more than one master: {}", by.join(", "))
            }
            Self::Open { slot, node, out: true, peer } => {
                write!(f, "slot {slot} is open: {node} is moving it to {}", peer.short())
            }
            Self::Open { slot, node, out: false, peer } => {
                write!(f, "slot {slot} is open: {node} is taking it from {}", peer.short())
            }
            Self::Disagrees { node } => {
                write!(f, "{node} has another idea of who serves what, or who follows whom, than the others")
            }
            Self::Unknown { node, peer } => write!(f, "{node} does not know {peer}"),
            Self::Unheard { node, address, why } => {
                write!(f, "node {} at {address} did not answer: {why}", node.short())
            }
            Self::NotServing { node } => write!(f, "{node} refuses clients, because it holds the cluster for down"),
            Self::Down { node, votes } => write!(f, "{node} is held for dead by {votes} node(s)"),
        }
    }
}

impl Picture {
    /// All that is wrong, worst first. Empty: every slot is served by one master, no slot is open, and all nodes answer
    /// and agree. It is at least as strict as `redis-cli --cluster check`.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let uncovered = SlotSet::full().difference(&self.covered());
        if !uncovered.is_empty() {
            problems.push(Problem::Uncovered { slots: uncovered });
        }
        self.contested(&mut problems);
        for node in self.nodes() {
            let open = |slot: &Slot, peer: &NodeId, out| Problem::Open {
                slot: *slot,
                node: node.address.clone(),
                out,
                peer: peer.clone(),
            };
            problems.extend(node.migrating.iter().map(|(slot, peer)| open(slot, peer, true)));
            problems.extend(node.importing.iter().map(|(slot, peer)| open(slot, peer, false)));
        }
        self.disagreement(&mut problems);
        for (id, unheard) in &self.unheard {
            problems.push(Problem::Unheard {
                node: id.clone(),
                address: unheard.address.clone(),
                why: unheard.why.clone(),
            });
        }
        for view in self.views.values().filter(|view| !view.serving) {
            problems.push(Problem::NotServing { node: view.myself().address.clone() });
        }
        for node in self.nodes() {
            let votes = self
                .views
                .values()
                .filter(|view| view.nodes.get(&node.id).is_some_and(|seen| seen.flags.failed || seen.flags.suspect))
                .count();
            if votes > 0 {
                problems.push(Problem::Down { node: node.address.clone(), votes });
            }
        }
        problems
    }

    fn contested(&self, problems: &mut Vec<Problem>) {
        let (mut seen, mut twice) = (SlotSet::new(), SlotSet::new());
        for node in self.masters() {
            twice = twice.union(&seen.intersection(&node.slots));
            seen = seen.union(&node.slots);
        }
        if !twice.is_empty() {
            let by = self
                .masters()
                .filter(|node| !node.slots.intersection(&twice).is_empty())
                .map(|node| node.address.clone())
                .collect();
            problems.push(Problem::Contested { slots: twice, by });
        }
    }

    fn disagreement(&self, problems: &mut Vec<Problem>) {
        let views: Vec<_> = self.views.values().map(|view| (view, view.owners())).collect();
        let most = views.iter().max_by_key(|(_, owners)| views.iter().filter(|(_, other)| other == owners).count());
        let Some((_, most)) = most else { return };
        for (view, owners) in &views {
            let node = &view.myself().address;
            let follows = |peer: &Node| {
                view.nodes.get(&peer.id).is_some_and(|seen| !seen.flags.handshake && seen.master != peer.master)
            };
            if owners != most || self.nodes().any(follows) {
                problems.push(Problem::Disagrees { node: node.clone() });
            }
            for peer in self.nodes().filter(|peer| view.nodes.get(&peer.id).is_none_or(|seen| seen.flags.handshake)) {
                problems.push(Problem::Unknown { node: node.clone(), peer: peer.address.clone() });
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::node::View;
    use super::super::node::tests::id;
    use super::super::picture::Unheard;
    use super::*;

    /// A picture from the own words of each node: pair of its name, flags after `myself,`, master's pair or `-`, slots.
    /// Every node sees the others as they see themselves, without their open slots, as real ones do.
    pub(crate) fn picture(nodes: &[(&str, &str, &str, &str)]) -> Picture {
        let mut picture = Picture::default();
        for (me, ..) in nodes {
            let mut text = String::new();
            for (index, (pair, flags, master, slots)) in nodes.iter().enumerate() {
                let master = if *master == "-" { "-".to_owned() } else { id(master).to_string() };
                let mine = if pair == me { "myself," } else { "" };
                let slots: Vec<_> = slots.split(' ').filter(|word| pair == me || !word.starts_with('[')).collect();
                let port = 7001 + index;
                text += &format!(
                    "{} 10.0.0.{}:{port}@{} {mine}{flags} {master} 0 0 {} connected {}\n",
                    id(pair),
                    index + 1,
                    port + 10000,
                    index + 1,
                    slots.join(" ")
                );
            }
            picture.views.insert(id(me), View::parse(&text, "cluster_state:ok", &Address::new("x", 1)).unwrap());
        }
        picture
    }

    fn texts(picture: &Picture) -> Vec<String> {
        picture.problems().iter().map(Problem::to_string).collect()
    }

    const WHOLE: [(&str, &str, &str, &str); 4] = [
        ("aa", "master", "-", "0-5460"),
        ("bb", "master", "-", "5461-10922"),
        ("cc", "master", "-", "10923-16383"),
        ("dd", "slave", "aa", ""),
    ];

    /// A whole cluster has no problem.
    #[test]
    fn whole() {
        assert_eq!(texts(&picture(&WHOLE)), Vec::<String>::new());
    }

    /// Each kind of problem is found and named.
    #[test]
    fn each_problem() {
        let b = id("bb");
        let mut nodes = WHOLE;
        nodes[0].3 = "0-5459";
        assert_eq!(texts(&picture(&nodes)), ["1 slots are served by nobody: 5460"]);

        let open = format!("0-5460 [7->-{b}]");
        let mut nodes = WHOLE;
        nodes[0].3 = &open;
        assert_eq!(texts(&picture(&nodes)), ["slot 7 is open: 10.0.0.1:7001 is moving it to bbbbbbbb"]);

        let mut nodes = WHOLE;
        nodes[1].3 = "5460-10922";
        assert_eq!(
            texts(&picture(&nodes)),
            ["slots 5460 are claimed by more than one master: 10.0.0.1:7001, 10.0.0.2:7002"]
        );

        let mut down = picture(&WHOLE);
        for me in ["aa", "bb"] {
            let view = down.views.get_mut(&id(me)).unwrap();
            view.nodes.get_mut(&id("dd")).unwrap().flags.failed = true;
        }
        assert_eq!(texts(&down), ["10.0.0.4:7004 is held for dead by 2 node(s)"]);

        let mut split = picture(&WHOLE);
        split.views.get_mut(&id("dd")).unwrap().nodes.get_mut(&b).unwrap().slots = SlotSet::new();
        assert_eq!(
            texts(&split),
            ["10.0.0.4:7004 has another idea of who serves what, or who follows whom, than the others"]
        );

        let mut late = picture(&WHOLE);
        late.views.get_mut(&b).unwrap().nodes.get_mut(&id("dd")).unwrap().master = None;
        assert_eq!(
            texts(&late),
            ["10.0.0.2:7002 has another idea of who serves what, or who follows whom, than the others"]
        );

        let mut stranger = picture(&WHOLE);
        stranger.views.get_mut(&id("aa")).unwrap().nodes.remove(&id("dd"));
        assert_eq!(texts(&stranger), ["10.0.0.1:7001 does not know 10.0.0.4:7004"]);

        let mut refusing = picture(&WHOLE);
        refusing.views.get_mut(&id("aa")).unwrap().serving = false;
        assert_eq!(texts(&refusing), ["10.0.0.1:7001 refuses clients, because it holds the cluster for down"]);

        let mut silent = picture(&WHOLE);
        silent.views.remove(&id("dd"));
        silent.unheard.insert(id("dd"), Unheard { address: Address::new("10.0.0.4", 7004), why: "refused".to_owned() });
        assert_eq!(texts(&silent), ["node dddddddd at 10.0.0.4:7004 did not answer: refused"]);
    }

    #[test]
    fn finds_nodes() {
        let picture = picture(&WHOLE);
        assert_eq!(picture.find("aaaa").unwrap().id, id("aa"));
        assert_eq!(picture.find("10.0.0.2:7002").unwrap().id, id("bb"));
        assert!(picture.find("aaa").is_err() && picture.find("ffff").is_err());
    }
}
