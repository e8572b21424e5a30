//! What must hold in a fleet, on the truth of the store and the machines.

use super::Fleet;
use regrow_control::reconcile::Transaction;
use regrow_model::desired::Goal;
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{EndpointState, Phase};
use regrow_model::{InstanceId, Standing};
use std::collections::BTreeMap;

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A key that lists a member is removed once for each time that it was put there by a join or a return.
    OneRemoval,
    /// A node is dead only when its lease has ended and gossip's verdict is recorded.
    TwoSources,
    /// No node is dead while more than the freeze's share of the nodes are recorded as failed and are not back in the
    /// leader's gossip.
    Freeze,
    /// A slot is filled elsewhere only when what was there is out of the catalog, and its node is dead.
    NoTwins,
    /// In the end every slot has one healthy process, where it is assigned, and nothing else runs; every member is alive
    /// and listed.
    Whole,
}

impl Fleet<'_> {
    /// Looks at a transaction with the eyes of the agent that has made it.
    pub(super) fn judge_decision(&mut self, host: usize, transaction: &Transaction) {
        let Some(agent) = &self.hosts[host].agent else { return };
        let view = agent.view();
        let mut wrong = Vec::new();
        for change in &transaction.changes {
            let Change::Put(Record::Assignment(id, next)) = change else { continue };
            let Some(before) = view.assignments.get(id).filter(|before| before.node != next.node) else { continue };
            let seen = view.instances.get(id);
            let lives = seen.is_some_and(|seen| seen.incarnation == before.incarnation && seen.phase != Phase::Exited);
            self.tally.relocations += u32::from(lives);
            if lives && !view.is_lost(&before.node) {
                wrong.push(format!("{id} goes from {} to {}, and {} is not dead", before.node, next.node, before.node));
            }
            let endpoint = view.endpoints.values().find_map(|all| all.get(id));
            let serves = endpoint.is_some_and(|one| one.node == before.node && one.state == EndpointState::Passing);
            if lives && serves {
                wrong.push(format!("{id} goes to {}, and is in the catalog on {}", next.node, before.node));
            }
        }
        for what in wrong {
            self.breaks(Rule::NoTwins, what);
        }
    }

    /// Looks at a transaction just before it is committed.
    pub(super) fn judge_commit(&mut self, host: usize, transaction: &Transaction) {
        for change in &transaction.changes {
            match change {
                Change::Delete(Key::Listing(key)) => {
                    let was_there = self.listed.remove(key);
                    if !was_there {
                        self.breaks(Rule::OneRemoval, format!("{key} is removed, and is not there"));
                    }
                }
                Change::Put(Record::Listing(key, _)) => drop(self.listed.insert(key.clone())),
                Change::Put(Record::Member(name, next)) => {
                    let before = self.store.truth().members.get(name).map(|before| (**before).clone());
                    let was = before.as_ref().map(|before| before.standing);
                    self.tally.verdicts += u32::from(next.standing == Standing::Failed && was == Some(Standing::Alive));
                    self.tally.returns +=
                        u32::from(next.standing == Standing::Alive && was.is_some_and(|was| was != Standing::Alive));
                    let newly = next.confirmed.is_some() && before.is_none_or(|before| before.confirmed.is_none());
                    if newly {
                        self.tally.deaths += 1;
                        self.judge_death(host, name, next.standing);
                    }
                }
                Change::Put(Record::Event(_, event)) if event.message.contains("is over: life") => {
                    self.tally.superseded += 1;
                }
                _ => {}
            }
        }
    }

    fn judge_death(&mut self, host: usize, name: &regrow_model::Name, standing: Standing) {
        let truth = self.store.truth();
        let leased = truth.nodes.contains_key(name);
        if leased || standing == Standing::Alive {
            return self.breaks(Rule::TwoSources, format!("{name} is called dead, and its lease lives: {leased}"));
        }
        let (mut all, mut failed) = (0u32, 0u32);
        let returned = |name: &regrow_model::Name| {
            let seen = |other: &usize| self.hosts[*other].name == *name;
            let opinion = self.hosts[host].opinions.iter().find(|(other, _)| seen(other));
            opinion.is_some_and(|(_, opinion)| opinion.standing == Standing::Alive)
        };
        for (name, member) in &truth.members {
            let gone = member.standing == Standing::Failed && !returned(name);
            let unconfirmed = gone && member.confirmed.is_none();
            all += u32::from(!gone || unconfirmed);
            failed += u32::from(unconfirmed);
        }
        // Those that were confirmed before only make the share larger; here they are left out on both sides.
        let everybody = u32::try_from(truth.members.len()).unwrap_or(u32::MAX);
        if failed * 2 > everybody && all == everybody {
            self.breaks(Rule::Freeze, format!("{name} is called dead while {failed} of {everybody} look so"));
        }
    }

    /// Whether everything is as it is to be in the end.
    pub(super) fn is_whole(&self) -> Result<(), String> {
        let truth = self.store.truth();
        for host in &self.hosts {
            let member = truth.members.get(&host.name).map(|member| member.standing);
            if member != Some(Standing::Alive) {
                return Err(format!("{} is recorded as {member:?}", host.name));
            }
            if !self.listed.contains(&format!("/members/{}", host.name)) || !truth.nodes.contains_key(&host.name) {
                return Err(format!("{} has no key", host.name));
            }
        }
        let mut running: BTreeMap<&InstanceId, Vec<(&regrow_model::Name, u64)>> = BTreeMap::new();
        for host in &self.hosts {
            for (id, slot) in host.slots.iter().filter(|(_, slot)| slot.alive) {
                running.entry(id).or_default().push((&host.name, slot.incarnation));
            }
        }
        let wanted: Vec<_> = truth.assignments.iter().filter(|(_, wanted)| wanted.goal == Goal::Run).collect();
        if wanted.len() != self.size as usize || truth.assignments.len() != wanted.len() {
            return Err(format!("{} of {} slots are assigned", wanted.len(), self.size));
        }
        for (id, wanted) in wanted {
            let there = running.remove(id).unwrap_or_default();
            if there != [(&wanted.node, wanted.incarnation)] {
                return Err(format!(
                    "{id} is to be on {} in life {}, and runs {there:?}",
                    wanted.node, wanted.incarnation
                ));
            }
            if !truth.is_healthy(id) {
                return Err(format!("{id} is not healthy"));
            }
        }
        match running.keys().next() {
            Some(id) => Err(format!("{id} runs, and nobody wants it")),
            None => Ok(()),
        }
    }
}
