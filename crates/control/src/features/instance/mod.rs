//! The instance planner: starts and stops what is assigned to a node, and leads the endpoint's life.
//!
//! Flow: [`plan`] compares assignments with what was last seen of the instances; [`outcome`] and [`exited`] turn what
//! came of it, and what the kernel reports, into one transaction each.
//!
//! Guarantees: nothing is started before its intent is in the store, so a crash in between neither leaks nor doubles a
//! process; while the intent stands without an outcome the action is simply done again. An endpoint is written with
//! its service's index, always. What is said about another life than the recorded one changes nothing.
//!
//! Assumptions: one action in flight for each instance; the doer finds a process that is there already.
//!
//! Errors: a failed start ends the life with the reason in the record, and the group planner decides on the next one;
//! a failed stop changes nothing and is done again.

mod hooks;
mod outcome;
mod start;
mod stop;

pub use hooks::{Hooked, Wanted, hooked, wanted};
pub use outcome::{exited, outcome};
pub(crate) use stop::superseded;

use super::service::{endpoint, is_process};
use super::{Member, Roster, record};
use regrow_model::desired::Goal;
use regrow_model::event::{Draft, EventKind};
use regrow_model::observed::{CheckStatus, Endpoint, EndpointState, Phase};
use regrow_model::{Name, Plan, Planned, Ref, Standing, Time, View};

/// What this node should do about the instances that are assigned to it, and about those that no longer are.
pub fn plan(view: &View, node: &Name, now: Time) -> Plan {
    let roster = Roster::of(view);
    let mut plan = Plan::default();
    let mut starts = Vec::new();
    let mut stops = Vec::new();
    for (_, members) in roster.groups() {
        for member in members {
            if let Some(instance) = strayed(member, node) {
                stops.push(stop::stray(view, member.id, instance, now));
            } else if member.assignment.node == *node {
                match step(view, member, now) {
                    Step::Nothing => {}
                    Step::Record(planned) => plan.actions.push(planned),
                    Step::Start(planned) => starts.push(planned),
                    Step::Stop(planned) => stops.push(planned),
                    Step::Wait(until) => plan.recheck(until),
                }
            }
        }
    }
    let left = roster.orphans.iter().filter(|(_, seen)| seen.node == *node && seen.phase != Phase::Exited);
    stops.extend(left.map(|(id, instance)| stop::stray(view, id, instance, now)));
    plan.actions.extend(starts);
    plan.actions.extend(stops);
    plan
}

/// What comes next for one instance.
enum Step {
    Nothing,
    Record(Planned),
    Start(Planned),
    Stop(Planned),
    Wait(Time),
}

fn step(view: &View, member: &Member<'_>, now: Time) -> Step {
    let phase = member.life().map(|life| life.phase);
    match (member.assignment.goal, phase) {
        (Goal::Stop, Some(Phase::Running)) if hooks::stops_at(view, member).is_some_and(|at| at > now) => {
            hooks::stops_at(view, member).map_or(Step::Nothing, Step::Wait)
        }
        (_, Some(Phase::Stopping)) | (Goal::Stop, Some(Phase::Starting | Phase::Running)) => {
            Step::Stop(stop::assigned(view, member, now))
        }
        (Goal::Run, None | Some(Phase::Starting)) if view.halt.is_some() => Step::Nothing,
        (Goal::Run, None) if member.assignment.not_before > now => Step::Wait(member.assignment.not_before),
        (Goal::Run, None | Some(Phase::Starting)) => {
            start::assigned(view, member, now).map_or(Step::Nothing, Step::Start)
        }
        (Goal::Run, Some(Phase::Running)) => {
            let next = hooks::moot(view, member, now).or_else(|| taken_back(view, member, now));
            let next = next.or_else(|| unchecked(view, member, now));
            next.map_or(Step::Nothing, Step::Record)
        }
        (Goal::Drain, Some(_)) => draining(member, now).map_or(Step::Nothing, Step::Record),
        (Goal::Run, Some(Phase::Exited)) | (Goal::Drain | Goal::Stop, _) => Step::Nothing,
    }
}

/// A process of this node that its assignment does not mean: the instance was given to another node, or the life
/// before the assigned one is still there.
fn strayed<'a>(member: &Member<'a>, node: &Name) -> Option<&'a regrow_model::observed::Instance> {
    let instance = member.instance.filter(|seen| seen.node == *node && seen.phase != Phase::Exited)?;
    let meant = member.assignment.node == *node && member.life().is_some();
    (!meant).then_some(&*instance.value)
}

/// Takes the endpoint out of its pools on purpose.
fn draining(member: &Member<'_>, now: Time) -> Option<Planned> {
    let (service, current) = member.endpoint?;
    if matches!(current.state, EndpointState::Draining | EndpointState::Down) {
        return None;
    }
    let cause = &member.assignment.cause;
    let next =
        Endpoint { state: EndpointState::Draining, since: now, cause: cause.clone(), ..Endpoint::clone(current) };
    let mut changes = Vec::new();
    endpoint::put(&mut changes, service, member.id, next, now);
    let object = Ref::instance(member.id);
    let mut planned = record(object.clone(), changes, format!("{} is to leave {service}", member.id), cause);
    let message = format!("leaves {service} before its stop");
    planned.events.push(Draft::new(EventKind::Draining, object, message, cause));
    Some(planned)
}

/// A process that runs, and whose endpoint was taken out when its node was called dead: it is back in its pools when its
/// checks have passed again, each anew.
fn taken_back(view: &View, member: &Member<'_>, now: Time) -> Option<Planned> {
    let (service, current) = member.endpoint.filter(|(_, endpoint)| endpoint.state == EndpointState::Down)?;
    let known = view.members.get(&member.assignment.node)?;
    if known.standing != Standing::Alive {
        return None;
    }
    let checks = view.services.get(service).map_or(&[][..], |wanted| &wanted.spec.checks);
    let unknown = |check: &regrow_model::spec::Check| {
        let output = "has not run since the node came back".to_owned();
        (check.label(), CheckStatus { passing: false, output, since: now })
    };
    let next = Endpoint {
        state: EndpointState::Failing,
        checks: checks.iter().filter(|check| !is_process(check)).map(unknown).collect(),
        since: now,
        cause: known.cause.clone(),
        ..Endpoint::clone(current)
    };
    let mut changes = Vec::new();
    endpoint::put(&mut changes, service, member.id, next, now);
    let why = format!("{} lives, and its node is back", member.id);
    let object = Ref::instance(member.id);
    let mut planned = record(object.clone(), changes, why, &known.cause);
    let message = "still running, its node is back; in its pools again when its checks pass";
    planned.events.push(Draft::new(EventKind::Adopted, object, message, &known.cause));
    Some(planned)
}

/// A running process whose service has no checks to run is healthy; it can be in any other state only when it was
/// booting, or the service lost its last check.
fn unchecked(view: &View, member: &Member<'_>, now: Time) -> Option<Planned> {
    let (service, current) = member.endpoint?;
    let waits = matches!(current.state, EndpointState::Starting | EndpointState::Failing);
    let booting = member.life().is_some_and(|life| life.is_booting());
    if !waits || has_checks(view, service) || booting {
        return None;
    }
    let cause = view.services.get(service).map_or(&current.cause, |wanted| &wanted.cause);
    let next = Endpoint {
        state: EndpointState::Passing,
        checks: Default::default(),
        since: now,
        cause: cause.clone(),
        ..Endpoint::clone(current)
    };
    let mut changes = Vec::new();
    endpoint::put(&mut changes, service, member.id, next, now);
    let object = Ref::instance(member.id);
    let why = match current.state {
        EndpointState::Starting => format!("healthy, {service} needs no more than a process"),
        _ => format!("{service} has no checks any more"),
    };
    let mut planned = record(object.clone(), changes, why.clone(), cause);
    planned.events.push(Draft::new(EventKind::Passing, object, why, cause));
    Some(planned)
}

/// The service has checks that must be run: without any, a running process is healthy.
pub(crate) fn has_checks(view: &View, service: &Name) -> bool {
    view.services.get(service).is_some_and(|wanted| wanted.spec.checks.iter().any(|check| !is_process(check)))
}

#[cfg(test)]
mod tests;
