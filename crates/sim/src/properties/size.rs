//! *Size converges.*

use super::Truth;
use crate::program::Program;
use crate::world::Flaw;
use regrow_model::Name;
use regrow_model::desired::{self, Goal};
use regrow_model::observed::EndpointState;

impl Truth<'_> {
    /// In the end every group has exactly as many slots as are wanted, all of one version, each with one live, healthy
    /// process of the assigned life, in its pool if it has one; and nothing runs that nobody wants.
    ///
    /// The version is the wanted one. It may be the last good one instead if the wanted one is recorded as bad: faults
    /// can make a good version look bad, and bad ones are not tried again until they change; in a run without faults
    /// only a version that truly is bad may be left. A version that cannot stay healthy need not be so, where there is no
    /// other to return to or where it looked good for a while: its slots must be there, and one that can never be healthy
    /// must be known to be bad; what it was to take the place of may stay in a pool that would be empty without.
    ///
    /// While a template that reads a group's pool is broken by its own text nobody can leave the pool without a loss, so
    /// the group need not change: it keeps its floor. And a group that comes after a template which is so and was never
    /// written does not begin.
    pub(crate) fn size(&self) -> Result<(), String> {
        let view = self.store.truth();
        for (name, wanted) in &view.groups {
            self.group(name, wanted)?;
        }
        for process in self.world.processes() {
            let id = &process.instance;
            let wanted = view.assignments.get(id).filter(|wanted| wanted.incarnation == process.incarnation);
            let held = view.groups.get(&id.group).is_some_and(|group| {
                self.is_pooled_by_a_broken_one(group) || !Program::of_words(&group.spec.command).is_good()
            });
            if wanted.is_none_or(|wanted| wanted.goal != Goal::Run && !held) {
                return Err(format!("{} life {} runs, and nobody wants it", process.instance, process.incarnation));
            }
        }
        if let Some(id) = view.assignments.keys().find(|id| !view.groups.contains_key(&id.group)) {
            return Err(format!("{id} is assigned, and its group is gone"));
        }
        Ok(())
    }

    /// Whether a template that reads the group's pool is broken by its own text.
    fn is_pooled_by_a_broken_one(&self, group: &desired::Group) -> bool {
        let mut sources = self.store.truth().templates.values().flat_map(|template| &template.sources);
        group.spec.service.is_some() && sources.any(|source| Flaw::ALL.iter().any(|flaw| flaw.is_in(&source.text)))
    }

    /// Whether the group comes after a template that is broken by its own text and was never written.
    fn waits_for_a_broken_one(&self, group: &desired::Group) -> bool {
        let view = self.store.truth();
        group.spec.after.iter().any(|object| {
            let broken = view.templates.get(&object.name).is_some_and(|template| {
                template.sources.iter().any(|source| Flaw::ALL.iter().any(|flaw| flaw.is_in(&source.text)))
            });
            let mut statuses = view.template_status.iter().filter(|((name, _), _)| *name == object.name);
            broken && statuses.all(|(_, status)| status.written.is_none())
        })
    }

    fn group(&self, name: &Name, wanted: &desired::Group) -> Result<(), String> {
        let view = self.store.truth();
        let members: Vec<_> = view.assignments_of(name).collect();
        if self.is_pooled_by_a_broken_one(wanted) {
            let healthy = members.iter().filter(|(id, assignment)| {
                let process = self.world.process(id, assignment.incarnation);
                process.is_some_and(|process| process.is_healthy(self.now))
            });
            let (healthy, floor) = (healthy.count(), wanted.spec.floor() as usize);
            let program = Program::of_words(&wanted.spec.command);
            return match healthy < floor && program.is_good() {
                true => Err(format!("group {name} has {healthy} healthy, and its floor is {floor}")),
                false => Ok(()),
            };
        }
        if members.is_empty() && self.waits_for_a_broken_one(wanted) {
            return Ok(());
        }
        let version = wanted.version();
        let status = view.group_status.get(name);
        let bad = status.is_some_and(|status| status.bad.iter().any(|bad| bad.version == version));
        let good = status.and_then(|status| status.good.as_ref());
        let newest = Program::of_words(&wanted.spec.command);
        let (target, program) = match good.filter(|good| bad && good.version != version) {
            Some(_) if self.calm && newest.is_good() => {
                return Err(format!("group {name} has given up a good version"));
            }
            Some(good) => (good.version, Program::of_words(&good.group.spec.command)),
            None => (version, newest),
        };
        // Where there is nothing to return to, a change to a version that cannot work stays under way.
        let stuck = bad && target == version && !program.is_good();
        let run = members.iter().filter(|(_, assignment)| assignment.goal == Goal::Run || !stuck).count();
        let surge = if stuck { wanted.spec.update.max_surge } else { 0 };
        let size = wanted.spec.size as usize;
        if members.len() < size || run > size + surge as usize {
            return Err(format!("group {name} has {} slots and is to have {size}", members.len()));
        }
        if stuck {
            return Ok(());
        }
        let is_good = good.is_some_and(|good| good.version == target);
        if wanted.spec.size > 0 && !program.can_be_healthy() && (is_good || !bad) {
            return Err(format!("group {name} has a version that can never be healthy, and nobody knows"));
        }
        for (id, assignment) in members {
            if assignment.version != target || assignment.goal != Goal::Run {
                return Err(format!("{id} is not of the version that is wanted, or not to run"));
            }
            if !program.is_good() {
                continue;
            }
            let process = self.world.process(id, assignment.incarnation);
            let Some(process) = process else { return Err(format!("{id} is to run, and no process is there")) };
            if !process.is_healthy(self.now) {
                return Err(format!("{id} is not healthy"));
            }
            if let Some(service) = &wanted.spec.service {
                let endpoint = view.endpoints.get(service).and_then(|all| all.get(id));
                let passing = endpoint.is_some_and(|endpoint| {
                    endpoint.incarnation == assignment.incarnation
                        && endpoint.state == EndpointState::Passing
                        && Some(endpoint.port) == process.port
                });
                if !passing {
                    return Err(format!("{id} is healthy and not in the pool of {service}: {endpoint:?}"));
                }
            }
        }
        Ok(())
    }
}
