//! Taking an instance away: out of its pools, stopped, and its records removed.

use super::Cluster;
use super::pool::Hold;
use crate::features::service::endpoint;
use crate::features::{Member, record};
use regrow_model::desired::{Assignment, Goal};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::EndpointState;
use regrow_model::plan::{Disruption, Held, Rule};
use regrow_model::{CauseId, Plan, Planned, Ref, spec};
use std::time::Duration;

/// Takes an instance away for good, one step: tell it to leave, wait, remove what is left of it. `others`: how many
/// others of its group serve.
pub(super) fn remove(cluster: &mut Cluster<'_>, member: &Member<'_>, others: u32, why: &str, cause: Option<&CauseId>) {
    match member.assignment.goal {
        _ if !member.is_live() => {
            let planned = deleted(cluster, member);
            cluster.plan.actions.push(planned);
        }
        Goal::Run => {
            let cause = cause.unwrap_or(&member.assignment.cause);
            let planned = retire(cluster, member, why, cause, false);
            cluster.plan.actions.push(planned);
        }
        Goal::Drain => drain(cluster, member, others),
        Goal::Stop => {}
    }
}

/// Tells an instance to go. Through its pools when it is in any; an instance that takes no traffic is stopped without
/// further ado: waiting for a template that refuses to change would keep what is broken for ever.
///
/// `doubted`: it is alive, and the only thing against it is that its checks fail.
pub(super) fn retire(cluster: &Cluster<'_>, member: &Member<'_>, why: &str, cause: &CauseId, doubted: bool) -> Planned {
    let pooled = member.endpoint.is_some_and(|(_, endpoint)| endpoint.state == EndpointState::Passing);
    let goal = if pooled { Goal::Drain } else { Goal::Stop };
    let next = Assignment { goal, cause: cause.clone(), at: cluster.now, ..Assignment::clone(member.assignment) };
    let verb = if pooled { "drain" } else { "stop" };
    let mut planned = put(member, next, format!("{verb} {}: {why}", member.id));
    planned.disrupts =
        Some(Disruption { group: member.id.group.clone(), instance: member.id.clone(), destroys_alive: doubted });
    planned
}

/// Leads an instance that drains to its stop.
///
/// Two writes, so that `drain` is counted from when the last pool let go and not from the last reload of a template
/// that changes all the time: first the assignment is written again, then, `drain` later, the goal becomes stop. An
/// assignment that is newer than the endpoint's `draining` is the one of the first write.
///
/// A guard that refuses to empty a pool would make a group of one unchangeable; where the group's floor allows its
/// absence the guard is waited for no longer than `drain`. Nor is it by the first of a group all of whose instances
/// leave: they were told to when fewer were wanted.
pub(super) fn drain(cluster: &mut Cluster<'_>, member: &Member<'_>, others: u32) {
    let group = cluster.view.groups.get(&member.id.group);
    let spec = group.map(|group| &group.spec).or_else(|| {
        let status = cluster.view.group_status.get(&member.id.group);
        status.and_then(|status| status.good.as_ref()).map(|good| &good.group.spec)
    });
    let linger = spec.map_or(Duration::ZERO, |spec| spec.drain.0);
    let floor = group.map_or(0, |group| spec::Group::floor(&group.spec));
    let Some((service, endpoint)) = member.endpoint.filter(|(_, endpoint)| endpoint.state != EndpointState::Down)
    else {
        return stop(cluster, member, "it is in no pool");
    };
    if endpoint.state != EndpointState::Draining {
        return hold(&mut cluster.plan, member, format!("its node has still to take it out of {service}"), None);
    }
    let left_at = match cluster.pools.hold(service, endpoint.revision) {
        Hold::Unread => endpoint.since,
        Hold::Guarded(_) if others >= floor || is_first_of_leavers(cluster, member) => endpoint.since,
        Hold::Guarded(why) | Hold::Held(why) => {
            return hold(&mut cluster.plan, member, why, None);
        }
        Hold::LetGo if member.assignment.revision > endpoint.revision => member.assignment.at,
        Hold::LetGo => {
            let next = Assignment { at: cluster.now, ..Assignment::clone(member.assignment) };
            let planned = put(member, next, format!("{} has left every pool", member.id));
            cluster.plan.actions.push(planned);
            return;
        }
    };
    let until = left_at.after(linger);
    if cluster.now >= until {
        return stop(cluster, member, "it has left every pool");
    }
    let why = format!("requests in flight may take {}", crate::features::span(linger));
    hold(&mut cluster.plan, member, why, Some(until));
    cluster.plan.recheck(until);
}

/// Whether all of a group leave, and this is the first of them. A guard then waits for somebody to take their place, and
/// nobody can come before one of them has gone.
fn is_first_of_leavers(cluster: &Cluster<'_>, member: &Member<'_>) -> bool {
    let members = cluster.roster.members(&member.id.group);
    members.iter().all(|member| member.assignment.goal == Goal::Drain)
        && members.first().is_some_and(|first| first.id == member.id)
}

fn stop(cluster: &mut Cluster<'_>, member: &Member<'_>, why: &str) {
    let next = Assignment { goal: Goal::Stop, at: cluster.now, ..Assignment::clone(member.assignment) };
    let planned = put(member, next, format!("stop {}: {why}", member.id));
    cluster.plan.actions.push(planned);
}

fn hold(plan: &mut Plan, member: &Member<'_>, why: String, until: Option<regrow_model::Time>) {
    plan.held.push(Held {
        object: Ref::instance(member.id),
        what: format!("stop {}", member.id),
        rule: Rule::Drain,
        why,
        until,
    });
}

/// Writes an assignment.
pub(super) fn put(member: &Member<'_>, next: Assignment, why: String) -> Planned {
    let cause = next.cause.clone();
    let changes = vec![Change::Put(Record::Assignment(member.id.clone(), Box::new(next)))];
    record(Ref::instance(member.id), changes, why, &cause)
}

/// Removes every record of an instance whose process is gone.
fn deleted(cluster: &Cluster<'_>, member: &Member<'_>) -> Planned {
    let cause = &member.assignment.cause;
    let mut changes = vec![Change::Delete(Key::Assignment(member.id.clone()))];
    if member.instance.is_some() {
        changes.push(Change::Delete(Key::Instance(member.id.clone())));
    }
    for (id, service, _) in cluster.roster.endpoints_of(member.id) {
        endpoint::delete(&mut changes, service, id, cause, cluster.now);
    }
    record(Ref::instance(member.id), changes, format!("{} is gone", member.id), cause)
}
