//! Every assigned instance with all that is known of it, put together in one pass.
//!
//! The view keeps assignments, instances and endpoints in maps of their own. Looking each up for each instance would
//! cost most of a planner's time at 10,000 instances; all three are in the order of ids, so one merge does it.

use regrow_model::observed::{EndpointState, Phase};
use regrow_model::{Entry, InstanceId, Name, Time, View, desired, observed};
use std::collections::BTreeMap;

/// An assigned instance with what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member<'a> {
    /// The slot.
    pub(crate) id: &'a InstanceId,
    /// What is wanted of it.
    pub(crate) assignment: &'a Entry<desired::Assignment>,
    /// What was last seen of it, of whichever life.
    pub(crate) instance: Option<&'a Entry<observed::Instance>>,
    /// Its endpoint and the service that it is in; of the assigned life only.
    pub(crate) endpoint: Option<(&'a Name, &'a Entry<observed::Endpoint>)>,
    /// Its version has a service: without an endpoint it is not healthy.
    pub(crate) serves: bool,
    /// What was last seen of it was seen on a node that is dead by two sources.
    pub(crate) lost: bool,
    /// Gossip's verdict on the node that it is assigned to is that it is gone.
    pub(crate) unreachable: bool,
}

impl<'a> Member<'a> {
    /// What is known of the assigned life.
    pub(crate) fn life(&self) -> Option<&'a Entry<observed::Instance>> {
        self.instance.filter(|instance| instance.incarnation == self.assignment.incarnation)
    }

    /// There is, or may be, a process of some life.
    pub(crate) fn is_live(&self) -> bool {
        !self.lost && self.instance.is_some_and(|instance| instance.phase != Phase::Exited)
    }

    /// The assigned life has ended.
    pub(crate) fn is_dead(&self) -> bool {
        self.life().is_some_and(|life| self.lost || life.phase == Phase::Exited)
    }

    /// Since when it serves: its endpoint is in the pool, or it runs, has booted, and its version has no service.
    pub(crate) fn healthy_since(&self) -> Option<Time> {
        let life = self.life().filter(|life| life.phase == Phase::Running && !self.lost)?;
        match self.endpoint {
            Some((_, endpoint)) => (endpoint.state == EndpointState::Passing).then_some(endpoint.since),
            None => (!self.serves && !life.is_booting()).then_some(life.since),
        }
    }

    /// It serves.
    pub(crate) fn is_healthy(&self) -> bool {
        self.healthy_since().is_some()
    }

    /// It serves and is meant to go on: what a floor counts.
    pub(crate) fn is_available(&self) -> bool {
        self.assignment.goal == desired::Goal::Run && self.is_healthy()
    }

    /// When its process was seen to run.
    pub(crate) fn running_since(&self) -> Option<Time> {
        self.life().filter(|life| life.phase == Phase::Running).map(|life| life.since)
    }
}

/// An endpoint with its place: instance, service, record.
pub(crate) type Placed<'a> = (&'a InstanceId, &'a Name, &'a Entry<observed::Endpoint>);

/// All members, and what is left of instances that nobody wants any more.
#[derive(Debug, Default)]
pub(crate) struct Roster<'a> {
    groups: BTreeMap<&'a Name, Vec<Member<'a>>>,
    /// Instances without an assignment.
    pub(crate) orphans: Vec<(&'a InstanceId, &'a Entry<observed::Instance>)>,
    /// Endpoints of instances without an assignment.
    pub(crate) leftovers: Vec<Placed<'a>>,
    /// Endpoints of all services in the order of ids.
    endpoints: Vec<Placed<'a>>,
}

impl<'a> Roster<'a> {
    /// Puts it together: one pass over each map.
    pub(crate) fn of(view: &'a View) -> Roster<'a> {
        let mut endpoints: Vec<Placed<'a>> = view
            .endpoints
            .iter()
            .flat_map(|(service, all)| all.iter().map(move |(id, endpoint)| (id, service, endpoint)))
            .collect();
        endpoints.sort_by(|left, right| left.0.cmp(right.0));
        let mut roster = Roster { endpoints, ..Roster::default() };
        let mut instances = view.instances.iter().peekable();
        let mut next = 0;
        let mut group: Option<(&Name, Served, Vec<Member<'a>>)> = None;
        for (id, assignment) in &view.assignments {
            while let Some(orphan) = instances.next_if(|(other, _)| *other < id) {
                roster.orphans.push(orphan);
            }
            let instance = instances.next_if(|(other, _)| *other == id).map(|(_, instance)| instance);
            while let Some(left) = roster.endpoints.get(next).filter(|(other, ..)| *other < id) {
                roster.leftovers.push(*left);
                next += 1;
            }
            let mut endpoint = None;
            while let Some((_, service, found)) = roster.endpoints.get(next).filter(|(other, ..)| *other == id) {
                if found.incarnation == assignment.incarnation {
                    endpoint = Some((*service, *found));
                }
                next += 1;
            }
            if group.as_ref().is_none_or(|(name, ..)| **name != id.group) {
                roster.groups.extend(group.map(|(name, _, members)| (name, members)));
                group = Some((&id.group, Served::of(view, &id.group), Vec::new()));
            }
            if let Some((_, served, members)) = &mut group {
                let serves = served.by(assignment);
                let lost = instance.is_some_and(|seen| view.is_lost(&seen.node));
                let unreachable = view.is_unreachable(&assignment.node);
                members.push(Member { id, assignment, instance, endpoint, serves, lost, unreachable });
            }
        }
        roster.groups.extend(group.map(|(name, _, members)| (name, members)));
        roster.orphans.extend(instances);
        roster.leftovers.extend_from_slice(&roster.endpoints[next..]);
        roster
    }

    /// The members of a group in the order of their slots.
    pub(crate) fn members(&self, group: &Name) -> &[Member<'a>] {
        self.groups.get(group).map_or(&[], Vec::as_slice)
    }

    /// Every group that has members, wanted or not.
    pub(crate) fn groups(&self) -> impl Iterator<Item = (&'a Name, &[Member<'a>])> {
        self.groups.iter().map(|(name, members)| (*name, members.as_slice()))
    }

    /// Every endpoint of an instance, of whichever service and life.
    pub(crate) fn endpoints_of(&self, id: &InstanceId) -> impl Iterator<Item = &Placed<'a>> {
        let first = self.endpoints.partition_point(|(other, ..)| *other < id);
        self.endpoints[first..].iter().take_while(move |(other, ..)| *other == id)
    }
}

/// Which versions of a group have a service: a change may add or take away the service, and instances of the version
/// before are judged by theirs.
struct Served {
    newest: bool,
    good: Option<(regrow_model::Digest, bool)>,
}

impl Served {
    fn of(view: &View, group: &Name) -> Served {
        let good = view.group_status.get(group).and_then(|status| status.good.as_ref());
        let good = good.map(|good| (good.version, good.group.spec.service.is_some()));
        let newest = view.groups.get(group).map(|group| group.spec.service.is_some());
        Served { newest: newest.or(good.map(|(_, serves)| serves)).unwrap_or(false), good }
    }

    fn by(&self, assignment: &desired::Assignment) -> bool {
        match self.good {
            Some((version, serves)) if version == assignment.version => serves,
            _ => self.newest,
        }
    }
}

#[cfg(test)]
mod tests {
    //! Shows whose records count for an instance.

    use super::Roster;
    use crate::world::{Fate, World, id, name};
    use regrow_model::desired::Assignment;
    use regrow_model::key::Record;
    use regrow_model::observed::Instance;
    use serde_json::json;

    fn healthy(world: &World) -> Vec<bool> {
        Roster::of(&world.view).members(&name("web")).iter().map(|member| member.is_healthy()).collect()
    }

    #[test]
    fn the_endpoint_of_another_life_is_none_of_this() {
        let mut world = World::web(json!({"size": 1}));
        world.settle();
        assert_eq!(healthy(&world), [true]);
        let mut instance = Instance::clone(&world.view.instances[&id("web-0")]);
        let mut assignment = Assignment::clone(&world.view.assignments[&id("web-0")]);
        (instance.incarnation, assignment.incarnation) = (2, 2);
        world.put(Record::Instance(id("web-0"), Box::new(instance)));
        world.put(Record::Assignment(id("web-0"), Box::new(assignment)));
        assert_eq!(healthy(&world), [false]);
    }

    #[test]
    fn a_version_is_judged_by_the_service_that_it_had() {
        let mut world = World::web(json!({"service": null, "size": 2}));
        world.pass(std::time::Duration::from_secs(1));
        world.group("web", json!({"size": 2}));
        assert_eq!(healthy(&world), [true, true]);
        while healthy(&world) == [true, true] {
            world.round(|_| Fate::Done);
        }
        world.settle();
        assert_eq!((healthy(&world), world.view.endpoints[&name("web")].len()), (vec![true, true], 2));
    }

    #[test]
    fn what_nobody_wants_is_an_orphan_or_left_over() {
        let mut world = World::web(json!({"size": 3}));
        world.settle();
        world.view.assignments.remove(&id("web-0"));
        world.view.assignments.remove(&id("web-2"));
        let roster = Roster::of(&world.view);
        let ids = |found: Vec<String>| found.join(" ");
        assert_eq!(ids(roster.orphans.iter().map(|(id, _)| id.to_string()).collect()), "web-0 web-2");
        assert_eq!(ids(roster.leftovers.iter().map(|(id, ..)| id.to_string()).collect()), "web-0 web-2");
        assert_eq!(roster.members(&name("web")).len(), 1);
    }
}
