//! *Planned changes never go below `min_healthy`.*

use super::{Properties, Truth};
use regrow_control::reconcile::Transaction;
use regrow_model::desired::Goal;
use regrow_model::key::{Change, Record};
use regrow_model::observed::{EndpointState, Phase};
use regrow_model::{Action, InstanceId, Key, View};
use std::collections::BTreeMap;

/// The instances that a transaction takes away on purpose, with what its agent had been told of their group.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    instance: InstanceId,
    incarnation: u64,
    /// It counted as healthy.
    healthy: bool,
    /// It was in a pool.
    pooled: bool,
    floor: u32,
    /// Healthy others of its group that were to go on.
    others: BTreeMap<InstanceId, u64>,
    /// The group is checked: it is in a service.
    checked: bool,
    halted: bool,
}

/// Whether a life is recorded as healthy.
fn is_healthy(view: &View, id: &InstanceId, incarnation: u64) -> bool {
    let runs =
        view.instances.get(id).is_some_and(|seen| seen.incarnation == incarnation && seen.phase == Phase::Running);
    let endpoint = view.endpoints.values().find_map(|all| all.get(id)).filter(|one| one.incarnation == incarnation);
    let checked = is_checked(view, id);
    runs && endpoint.map_or(!checked, |endpoint| endpoint.state == EndpointState::Passing)
}

fn is_checked(view: &View, id: &InstanceId) -> bool {
    view.groups.get(&id.group).is_some_and(|group| group.spec.service.is_some())
}

/// The deliberate removals in a transaction, as its agent saw them when it made it. An instance is removed on purpose
/// when it is to run no longer, when its slot gets another life while a process of it is there, or when its assignment
/// goes while it is there.
pub(crate) fn leaving(view: &View, transaction: &Transaction) -> Vec<Leaving> {
    let gone = |change: &Change| -> Option<InstanceId> {
        let (id, next) = match change {
            Change::Put(Record::Assignment(id, next)) => (id, Some(next)),
            Change::Delete(Key::Assignment(id)) => (id, None),
            _ => return None,
        };
        let before = view.assignments.get(id).filter(|before| before.goal == Goal::Run)?;
        let lives = view.instances.get(id).is_some_and(|seen| seen.phase != Phase::Exited);
        let stays =
            next.is_some_and(|next| next.goal == Goal::Run && (next.incarnation == before.incarnation || !lives));
        (!stays).then(|| id.clone())
    };
    let removals = transaction.changes.iter().filter_map(gone).map(|id| {
        let incarnation = view.assignments.get(&id).map_or(0, |assignment| assignment.incarnation);
        let others = view.assignments_of(&id.group).filter(|(other, assignment)| {
            **other != id && assignment.goal == Goal::Run && is_healthy(view, other, assignment.incarnation)
        });
        Leaving {
            healthy: is_healthy(view, &id, incarnation),
            pooled: view
                .endpoints
                .values()
                .filter_map(|all| all.get(&id))
                .any(|endpoint| endpoint.incarnation == incarnation && endpoint.state == EndpointState::Passing),
            floor: view.groups.get(&id.group).map_or(0, |group| group.spec.floor()),
            others: others.map(|(other, assignment)| (other.clone(), assignment.incarnation)).collect(),
            checked: is_checked(view, &id),
            halted: view.halt.is_some(),
            instance: id,
            incarnation,
        }
    });
    removals.collect()
}

impl Truth<'_> {
    /// Whenever the removal of a healthy instance begins, at least `floor` others of its group are healthy and are to
    /// go on. It begins with the commit that writes that it is to run no longer.
    ///
    /// Others count when the agent had been told that they are healthy and they truly were, once, in that life; those
    /// that were told to go in the meantime, or in the same transaction, do not. So a fault that the agent could not
    /// know of when it decided is not held against it (deaths by fault are excepted), while two removals at once are.
    /// The floor is that of the spec that the agent knew. Not counted: removals of instances that are not healthy, and
    /// everything while all is to stop.
    pub(crate) fn floor(&self, leaving: &[Leaving]) -> Result<(), String> {
        let view = self.store.truth();
        if view.halt.is_some() {
            return Ok(());
        }
        for (at, one) in leaving.iter().enumerate().filter(|(_, one)| one.healthy && !one.halted) {
            let stays = |other: &InstanceId| {
                let runs = view.assignments.get(other).is_some_and(|assignment| assignment.goal == Goal::Run);
                runs && !leaving[..at].iter().any(|before| before.instance == *other)
            };
            let left = one.others.iter().filter(|(other, incarnation)| {
                stays(other) && self.world.was_healthy(other, **incarnation, one.checked)
            });
            let left = left.count();
            if left < one.floor as usize {
                return Err(format!(
                    "{} is taken away and leaves {left} healthy of group {}, whose floor is {}",
                    one.instance, one.instance.group, one.floor
                ));
            }
        }
        Ok(())
    }

    /// Nothing is told to stop that is to run, but what is recorded as one whose start failed: whether a process is
    /// there is not known then.
    pub(crate) fn may_stop(&self, action: &Action) -> Result<(), String> {
        let Action::Stop { instance, incarnation, .. } = action else { return Ok(()) };
        let view = self.store.truth();
        let failed = view.instances.get(instance).is_some_and(|seen| seen.error.is_some());
        let wanted = view.assignments.get(instance).filter(|_| !failed);
        match wanted.filter(|wanted| wanted.incarnation == *incarnation && wanted.goal == Goal::Run) {
            Some(_) => Err(format!("{instance} life {incarnation} is told to stop, and is to run")),
            None => Ok(()),
        }
    }
}

impl Properties {
    /// Remembers who was in a pool when told to go.
    pub(crate) fn remember(&mut self, transaction: &Transaction, leaving: &[Leaving]) {
        for change in &transaction.changes {
            // A slot that is made anew counts its lives from one again.
            if let Change::Delete(Key::Assignment(id)) = change {
                self.drained.retain(|(drained, _)| drained != id);
            }
        }
        for one in leaving.iter().filter(|one| one.pooled && !one.halted) {
            self.drained.insert((one.instance.clone(), one.incarnation));
        }
    }
}
