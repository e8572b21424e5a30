//! Which slots go where.

use std::collections::BTreeMap;

use crate::slot::{SLOTS, Slot};
use crate::slot_set::SlotSet;
use crate::topology::{Node, NodeId, Picture};

/// Slots to go from one master to another.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Move {
    /// Who serves them now.
    pub from: NodeId,
    /// Who shall.
    pub to: NodeId,
    /// The slots, at least one.
    pub slots: SlotSet,
}

/// A wish that cannot be planned; the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MovesError {
    /// A node that serves no slots and cannot: a replica, or one that is not there.
    #[error("{0} is not a master of this cluster")]
    NotMaster(NodeId),
    /// A node on both sides.
    #[error("{0} cannot be source and target at once")]
    ToItself(NodeId),
    /// More slots wished than there are.
    #[error("{wanted} slots are wished, but the sources serve {available}")]
    TooMany {
        /// Wished.
        wanted: usize,
        /// There.
        available: usize,
    },
    /// Nobody is left to take slots.
    #[error("no other master is left to take the slots")]
    NoTarget,
}

/// Moves `count` slots to `to`, from each of `from` in proportion to what it serves. Empty `from`: all other masters.
pub fn reshard(picture: &Picture, from: &[NodeId], to: &NodeId, count: usize) -> Result<Vec<Move>, MovesError> {
    let master = |id: &NodeId| {
        picture.node(id).filter(|node| node.flags.master).ok_or_else(|| MovesError::NotMaster(id.clone()))
    };
    master(to)?;
    if from.contains(to) {
        return Err(MovesError::ToItself(to.clone()));
    }
    let mut sources: Vec<&Node> = if from.is_empty() {
        picture.masters().filter(|node| node.id != *to).collect()
    } else {
        from.iter().map(master).collect::<Result<_, _>>()?
    };
    sources.sort_by(|a, b| a.id.cmp(&b.id));
    sources.dedup_by(|a, b| a.id == b.id);
    let available: usize = sources.iter().map(|node| node.slots.len()).sum();
    if count > available {
        return Err(MovesError::TooMany { wanted: count, available });
    }
    let sizes: Vec<_> = sources.iter().map(|node| (node.slots.len() as u64, node.slots.len())).collect();
    let takes = divide(count, &sizes);
    let moves = sources.iter().zip(takes).map(|(node, take)| Move {
        from: node.id.clone(),
        to: to.clone(),
        slots: node.slots.iter().take(take).collect(),
    });
    Ok(moves.filter(|one| !one.slots.is_empty()).collect())
}

/// Moves as few slots as possible so that masters serve shares in proportion to their weights.
///
/// `weights`: 1 where none is given; 0 empties a master. `include_empty`: whether masters without slots take part (those
/// with a weight always do). `threshold_percent`: when no master is further than this from its share, nothing is moved.
pub fn rebalance(
    picture: &Picture,
    weights: &BTreeMap<NodeId, u32>,
    include_empty: bool,
    threshold_percent: f64,
) -> Result<Vec<Move>, MovesError> {
    if let Some(stranger) = weights.keys().find(|id| picture.node(id).is_none_or(|node| !node.flags.master)) {
        return Err(MovesError::NotMaster(stranger.clone()));
    }
    let masters: Vec<&Node> = picture
        .masters()
        .filter(|node| include_empty || !node.slots.is_empty() || weights.contains_key(&node.id))
        .collect();
    let shares: Vec<_> =
        masters.iter().map(|node| (u64::from(weights.get(&node.id).copied().unwrap_or(1)), node.slots.len())).collect();
    if shares.iter().all(|(weight, _)| *weight == 0) {
        return Err(MovesError::NoTarget);
    }
    let goals = divide(shares.iter().map(|(_, have)| have).sum(), &shares);
    let off = |(goal, (_, have)): (&usize, &(u64, usize))| {
        let distance = goal.abs_diff(*have);
        distance > 1 && distance as f64 * 100.0 > threshold_percent * (*goal).max(1) as f64
    };
    // A share of one slot more or less is the rounding itself; a master to be emptied is always worth the move.
    let emptied = goals.iter().zip(&shares).any(|(goal, (_, have))| *goal == 0 && *have > 0);
    if !emptied && !goals.iter().zip(&shares).any(off) {
        return Ok(Vec::new());
    }
    Ok(level(&masters, &goals))
}

/// Moves all slots of `node` to the other masters, most to those that serve least. A master without slots takes part only
/// if no other is there: it is more likely on its way out than in.
pub fn drain(picture: &Picture, node: &NodeId) -> Result<Vec<Move>, MovesError> {
    let leaving =
        picture.node(node).filter(|node| node.flags.master).ok_or_else(|| MovesError::NotMaster(node.clone()))?;
    let mut others: Vec<&Node> =
        picture.masters().filter(|other| other.id != *node && !other.slots.is_empty()).collect();
    if others.is_empty() {
        others = picture.masters().filter(|other| other.id != *node).collect();
    }
    if leaving.slots.is_empty() {
        return Ok(Vec::new());
    }
    let mut sizes: Vec<usize> = others.iter().map(|other| other.slots.len()).collect();
    for _ in 0..leaving.slots.len() {
        *sizes.iter_mut().min().ok_or(MovesError::NoTarget)? += 1;
    }
    others.push(leaving);
    sizes.push(0);
    Ok(level(&others, &sizes))
}

/// Divides `total` in proportion to weights, to whole numbers (largest remainder; of equal ones, who has more keeps more,
/// so that fewer slots move). Each entry is a weight and what is had now.
fn divide(total: usize, shares: &[(u64, usize)]) -> Vec<usize> {
    let sum: u64 = shares.iter().map(|(weight, _)| weight).sum();
    if sum == 0 {
        return vec![0; shares.len()];
    }
    let exact = |weight: u64| weight as u128 * total as u128;
    let mut parts: Vec<usize> = shares.iter().map(|(weight, _)| (exact(*weight) / u128::from(sum)) as usize).collect();
    let mut order: Vec<usize> = (0..shares.len()).collect();
    order.sort_by_key(|index| {
        let (weight, have) = shares[*index];
        (std::cmp::Reverse((exact(weight) % u128::from(sum), have)), *index)
    });
    let missing = total - parts.iter().sum::<usize>();
    for index in order.into_iter().take(missing) {
        parts[index] += 1;
    }
    parts
}

/// Pairs those above their goal with those below.
fn level(masters: &[&Node], goals: &[usize]) -> Vec<Move> {
    let mut moves = Vec::new();
    let mut takers: Vec<(&Node, usize)> = masters
        .iter()
        .zip(goals)
        .filter(|(node, goal)| **goal > node.slots.len())
        .map(|(node, goal)| (*node, goal - node.slots.len()))
        .collect();
    takers.reverse();
    for (node, goal) in masters.iter().zip(goals) {
        let mut spare: Vec<Slot> = node.slots.iter().take(node.slots.len().saturating_sub(*goal)).collect();
        while let (false, Some((taker, room))) = (spare.is_empty(), takers.last_mut()) {
            let slots: SlotSet = spare.drain(..spare.len().min(*room)).collect();
            *room -= slots.len();
            moves.push(Move { from: node.id.clone(), to: taker.id.clone(), slots });
            if *room == 0 {
                takers.pop();
            }
        }
    }
    debug_assert!(moves.iter().map(|one| one.slots.len()).sum::<usize>() <= usize::from(SLOTS));
    moves
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::tests::{id, picture};

    fn three() -> Picture {
        picture(&[
            ("aa", "master", "-", "0-5460"),
            ("bb", "master", "-", "5461-10922"),
            ("cc", "master", "-", "10923-16383"),
            ("dd", "master", "-", ""),
            ("ee", "slave", "aa", ""),
        ])
    }

    fn shown(moves: Result<Vec<Move>, MovesError>) -> Vec<String> {
        match moves {
            Ok(moves) => moves
                .iter()
                .map(|one| format!("{}>{} {}", &one.from.as_str()[..2], &one.to.as_str()[..2], one.slots))
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn reshards() {
        let p = three();
        assert_eq!(shown(reshard(&p, &[], &id("dd"), 3000)), ["aa>dd 0-999", "bb>dd 5461-6460", "cc>dd 10923-11922"]);
        assert_eq!(shown(reshard(&p, &[id("aa")], &id("bb"), 2)), ["aa>bb 0-1"]);
        assert_eq!(shown(reshard(&p, &[id("aa"), id("aa")], &id("bb"), 5461)), ["aa>bb 0-5460"]);
        assert_eq!(shown(reshard(&p, &[], &id("dd"), 0)), Vec::<String>::new());
        assert_eq!(
            shown(reshard(&p, &[id("aa")], &id("bb"), 5462)),
            ["5462 slots are wished, but the sources serve 5461"]
        );
        assert_eq!(
            shown(reshard(&p, &[id("aa")], &id("aa"), 1)),
            [format!("{} cannot be source and target at once", id("aa"))]
        );
        assert_eq!(shown(reshard(&p, &[], &id("ee"), 1)), [format!("{} is not a master of this cluster", id("ee"))]);
    }

    #[test]
    fn rebalances() {
        let p = three();
        let none = BTreeMap::new();
        assert_eq!(shown(rebalance(&p, &none, false, 2.0)), Vec::<String>::new());
        assert_eq!(shown(rebalance(&p, &none, true, 2.0)), ["aa>dd 0-1364", "bb>dd 5461-6826", "cc>dd 10923-12287"]);
        assert_eq!(shown(rebalance(&p, &[(id("aa"), 0)].into(), false, 2.0)), ["aa>bb 0-2729", "aa>cc 2730-5460"]);
        assert_eq!(shown(rebalance(&p, &[(id("aa"), 2)].into(), false, 2.0)), ["bb>aa 5461-6826", "cc>aa 10923-12287"]);
        assert_eq!(shown(rebalance(&p, &[(id("aa"), 2)].into(), false, 60.0)), Vec::<String>::new());
        let zero = [(id("aa"), 0), (id("bb"), 0), (id("cc"), 0)].into();
        assert_eq!(shown(rebalance(&p, &zero, false, 2.0)), ["no other master is left to take the slots"]);
        // A plan carried out leaves nothing to do.
        let even = picture(&[
            ("aa", "master", "-", "0-4095"),
            ("bb", "master", "-", "4096-8191"),
            ("cc", "master", "-", "8192-12287"),
            ("dd", "master", "-", "12288-16383"),
        ]);
        assert_eq!(shown(rebalance(&even, &none, true, 0.0)), Vec::<String>::new());
    }

    #[test]
    fn drains() {
        let p = three();
        assert_eq!(shown(drain(&p, &id("aa"))), ["aa>bb 0-2729", "aa>cc 2730-5460"]);
        assert_eq!(shown(drain(&p, &id("dd"))), Vec::<String>::new());
        let uneven =
            picture(&[("aa", "master", "-", "0-9"), ("bb", "master", "-", "10-19"), ("cc", "master", "-", "20-24")]);
        assert_eq!(shown(drain(&uneven, &id("aa"))), ["aa>bb 0-2", "aa>cc 3-9"]);
        let last = picture(&[("aa", "master", "-", "0-9")]);
        assert_eq!(shown(drain(&last, &id("aa"))), ["no other master is left to take the slots"]);
    }
}
