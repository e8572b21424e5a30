//! The group planner: keeps groups at their size, and changes them a step at a time.
//!
//! Flow: for each group the target version is found (`target`), its status is brought up to date (`status`), and
//! each of its instances is taken one step on (`turn`). It writes assignments, group statuses and removals; the
//! instance planner of the node does what the assignments say.
//!
//! Guarantees: at most one assignment a slot; a slot keeps its port from life to life; a planned change takes at most
//! `max_unavailable` out of service, counting what is out already, and waits until what it brought is healthy; an
//! instance is told to stop only when every template that reads its service has loaded a set without it and `drain`
//! has passed; what is dead is replaced, held by nothing but its backoff.
//!
//! Assumptions: the records of an instance are written by one transaction at a time, and nothing is planned for it
//! while one is under way. Two instances may be; so each decision is one that holds whichever of the others of the
//! same plan come about.
//!
//! Caveats: an instance that has been told to drain is not taken back when the reason goes away; it is stopped and
//! its slot starts afresh.

mod assign;
mod halt;
mod leave;
mod place;
mod pool;
mod ready;
mod status;
mod substitute;
mod target;
mod turn;

pub(crate) use substitute::uses_port;

use super::service::endpoint;
use super::{Roster, record};
use place::Places;
use pool::Pools;
use ready::Ready;
use regrow_model::key::{Change, Key};
use regrow_model::observed::Phase;
use regrow_model::{CauseId, InstanceId, Kind, Plan, Planned, Ref, Time, View, observed};
use std::collections::BTreeMap;
use turn::Turn;

/// What should become of the groups: records only.
pub fn plan(view: &View, now: Time) -> Plan {
    let roster = Roster::of(view);
    if let Some(halt) = &view.halt {
        return halt::plan(view, &roster, halt, now);
    }
    let mut cluster = Cluster {
        view,
        now,
        roster: &roster,
        places: Places::of(view),
        pools: Pools::of(view),
        ready: Ready::of(view, &roster),
        paused: view.pause.as_ref().filter(|pause| pause.until.is_none_or(|until| until > now)).is_some(),
        urgent: Vec::new(),
        plan: Plan::default(),
    };
    for (name, wanted) in &view.groups {
        Turn::of(&mut cluster, name, wanted).take();
    }
    let removed = roster.groups().filter(|(name, _)| !view.groups.contains_key(*name));
    for (_, members) in removed {
        for member in members {
            leave::remove(&mut cluster, member, 0, "its group was removed", None);
        }
    }
    forget(&mut cluster);
    let mut plan = cluster.plan;
    cluster.urgent.append(&mut plan.actions);
    plan.actions = cluster.urgent;
    plan
}

/// What the parts of this planner share during one plan.
struct Cluster<'a> {
    view: &'a View,
    now: Time,
    roster: &'a Roster<'a>,
    places: Places<'a>,
    pools: Pools<'a>,
    ready: Ready<'a>,
    paused: bool,
    /// Replacements of the dead: they come first.
    urgent: Vec<Planned>,
    plan: Plan,
}

/// Removes what is left of objects that nobody wants any more: statuses of groups that are gone, and records of
/// instances that lost their assignment while a process of theirs was still there.
fn forget(cluster: &mut Cluster<'_>) {
    let (view, now, roster) = (cluster.view, cluster.now, cluster.roster);
    for (name, status) in &view.group_status {
        if !view.groups.contains_key(name) && roster.members(name).is_empty() {
            let object = Ref::new(Kind::Group, name);
            let Some(cause) = last_cause(status) else { continue };
            let changes = vec![Change::Delete(Key::Group(name.clone()))];
            cluster.plan.actions.push(record(object, changes, format!("group {name} is gone"), cause));
        }
    }
    let mut left: BTreeMap<&InstanceId, (&CauseId, Vec<Change>)> = BTreeMap::new();
    for (id, instance) in &roster.orphans {
        if instance.phase == Phase::Exited || view.is_lost(&instance.node) {
            let changes = vec![Change::Delete(Key::Instance((*id).clone()))];
            left.insert(id, (&instance.cause, changes));
        }
    }
    for (id, service, found) in &roster.leftovers {
        let process =
            view.instances.get(*id).is_some_and(|seen| seen.phase != Phase::Exited && !view.is_lost(&seen.node));
        if !process {
            let (_, changes) = left.entry(id).or_insert((&found.cause, Vec::new()));
            endpoint::delete(changes, service, id, &found.cause, now);
        }
    }
    for (id, (cause, changes)) in left {
        cluster.plan.actions.push(record(Ref::instance(id), changes, format!("{id} is gone"), cause));
    }
}

/// The chain that a group's status belongs to.
fn last_cause(status: &observed::Group) -> Option<&CauseId> {
    let rollout = status.rollout.as_ref().map(|rollout| &rollout.cause);
    let good = || status.good.as_ref().map(|good| &good.group.cause);
    rollout.or_else(good).or_else(|| status.bad.last().map(|bad| &bad.cause))
}

#[cfg(test)]
mod tests;
