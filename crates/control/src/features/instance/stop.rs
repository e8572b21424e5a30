//! Stopping a life.

use crate::features::Member;
use crate::features::service::endpoint;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{Endpoint, EndpointState, Instance, Phase};
use regrow_model::{Action, CauseId, InstanceId, Name, Planned, Ref, Time, View, spec};

/// Stops the assigned life.
pub(super) fn assigned(view: &View, member: &Member<'_>, now: Time) -> Planned {
    let cause = &member.assignment.cause;
    let why = format!("{} is to stop", member.id);
    let instance = member.life().expect("only a life that is there is stopped");
    stop(view, member.id, instance, why, cause, now)
}

/// Stops a process that no assignment means.
pub(super) fn stray(view: &View, id: &InstanceId, instance: &Instance, now: Time) -> Planned {
    let why = format!("nobody wants life {} of {id} on {}", instance.incarnation, instance.node);
    let cause = view.assignments.get(id).map_or(&instance.cause, |assignment| &assignment.cause);
    stop(view, id, instance, why, cause, now)
}

/// Stops a process whose slot has its life elsewhere: no record is about it any more.
pub(crate) fn superseded(view: &View, id: &InstanceId, incarnation: u64, cause: &CauseId) -> Planned {
    let rules = rules(view, &id.group);
    let elsewhere = view.assignments.get(id).map(|assignment| (&assignment.node, assignment.incarnation));
    let why = match elsewhere {
        Some((node, life)) => format!("life {incarnation} of {id} is over: life {life} is on {node}"),
        None => format!("life {incarnation} of {id} is over: its slot is gone"),
    };
    let cause = view.assignments.get(id).map_or(cause, |assignment| &assignment.cause);
    Planned {
        object: Ref::instance(id),
        action: Action::Stop { instance: id.clone(), incarnation, signal: rules.signal, grace: rules.grace.0 },
        events: vec![Draft::new(EventKind::Stopping, Ref::instance(id), why.clone(), cause)],
        why,
        cause: cause.clone(),
        disrupts: None,
        given: Vec::new(),
        intent: Vec::new(),
    }
}

fn stop(view: &View, id: &InstanceId, instance: &Instance, why: String, cause: &CauseId, now: Time) -> Planned {
    let rules = rules(view, &id.group);
    let mut intent = Vec::new();
    let mut events = Vec::new();
    if instance.phase != Phase::Stopping {
        let next = Instance { phase: Phase::Stopping, since: now, cause: cause.clone(), ..instance.clone() };
        intent.push(Change::Put(Record::Instance(id.clone(), Box::new(next))));
        down(view, id, instance.incarnation, cause, now, &mut intent);
        let message = format!("told to stop by SIG{}", rules.signal);
        events.push(Draft::new(EventKind::Stopping, Ref::instance(id), message, cause));
    }
    Planned {
        object: Ref::instance(id),
        action: Action::Stop {
            instance: id.clone(),
            incarnation: instance.incarnation,
            signal: rules.signal,
            grace: rules.grace.0,
        },
        why,
        cause: cause.clone(),
        disrupts: None,
        given: Vec::new(),
        intent,
        events,
    }
}

/// Marks every endpoint of a life as down.
pub(super) fn down(
    view: &View,
    id: &InstanceId,
    incarnation: u64,
    cause: &CauseId,
    now: Time,
    changes: &mut Vec<Change>,
) {
    for (service, endpoints) in &view.endpoints {
        let Some(current) = endpoints.get(id).filter(|endpoint| endpoint.incarnation == incarnation) else { continue };
        if current.state != EndpointState::Down {
            let state = EndpointState::Down;
            let next = Endpoint { state, since: now, cause: cause.clone(), ..Endpoint::clone(current) };
            endpoint::put(changes, service, id, next, now);
        }
    }
}

/// How instances of a group are stopped: as the newest spec says, for a removed group as its last good one said.
fn rules(view: &View, group: &Name) -> spec::Stop {
    let newest = view.groups.get(group).map(|group| &group.spec.stop);
    let good = || view.group_status.get(group).and_then(|status| status.good.as_ref());
    newest.or_else(|| good().map(|good| &good.group.spec.stop)).cloned().unwrap_or_default()
}
