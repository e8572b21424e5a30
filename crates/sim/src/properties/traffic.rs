//! *A drained instance is in no loaded set when it is stopped.*

use super::{Properties, Truth};
use crate::wish::name;
use crate::world::{Process, READ};
use regrow_control::reconcile::Transaction;
use regrow_model::desired::Goal;
use regrow_model::key::{Change, Record};
use regrow_model::observed::{Phase, Stage};
use regrow_model::{Action, View};

/// Whether a guard keeps pools as they are, or everything is to stop, as an agent sees it when it makes a transaction.
pub(crate) fn guarded(view: &View) -> bool {
    if view.halt.is_some() {
        return true;
    }
    let stages = view.template_status.values().filter_map(|status| status.problem.as_ref());
    stages.into_iter().any(|problem| problem.stage == Stage::Guard)
}

impl Properties {
    /// Forgets who may stop although it is still in a pool, because a guard will never let it go.
    pub(crate) fn excuse(&mut self, transaction: &Transaction) {
        for change in &transaction.changes {
            if let Change::Put(Record::Assignment(id, next)) = change
                && next.goal == Goal::Stop
            {
                self.drained.remove(&(id.clone(), next.incarnation));
            }
        }
    }

    /// When the stop signal goes out to an instance that was in a pool when it was told to go, no program that has
    /// loaded its pools' files sends traffic to it any more.
    ///
    /// Excepted: while everything is to stop nobody drains; what fails its checks takes no traffic and is stopped at
    /// once; a program that is itself being stopped takes no new traffic; a template that is no longer in the spec holds nobody; and where a guard refuses the set without it, the
    /// group's floor may let it go all the same (a group of one could never change otherwise).
    pub(crate) fn traffic(&self, truth: Truth<'_>, action: &Action) -> Result<(), String> {
        let Action::Stop { instance, incarnation, .. } = action else { return Ok(()) };
        let (view, read) = (truth.store.truth(), name(READ));
        let drained = self.drained.contains(&(instance.clone(), *incarnation));
        let lives = truth.world.process(instance, *incarnation).is_some();
        if !drained || !lives || view.halt.is_some() || !view.templates.contains_key(&read) {
            return Ok(());
        }
        let text = instance.to_string();
        let stops = |reader: &Process| {
            let seen = view.instances.get(&reader.instance).filter(|seen| seen.incarnation == reader.incarnation);
            reader.told_to_stop || seen.is_some_and(|seen| seen.phase == Phase::Stopping)
        };
        let sends =
            |reader: &&Process| !stops(reader) && reader.loaded.as_ref().is_some_and(|loaded| loaded.names(&text));
        match truth.world.processes().iter().find(sends) {
            Some(reader) => Err(format!("{instance} is stopped while {} still sends traffic to it", reader.instance)),
            None => Ok(()),
        }
    }
}
