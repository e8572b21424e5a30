//! What came of starts and stops, and the ends that nobody asked for, as transactions.

use super::has_checks;
use super::stop::down;
use crate::features::service::{endpoint, is_process};
use crate::features::span;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{CheckStatus, Endpoint, EndpointState, Instance, Phase, WorldError};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, CauseId, InstanceId, Name, Outcome, Planned, Recorded, Ref, Time, View, limits};

/// What the outcome of a start or a stop changes. Nothing when it is about another life than the recorded one, about
/// another node's, or comes a second time.
pub fn outcome(view: &View, node: &Name, planned: &Planned, outcome: &Outcome, now: Time) -> Recorded {
    let (id, incarnation, start) = match &planned.action {
        Action::Start { instance, incarnation, .. } => (instance, *incarnation, true),
        Action::Stop { instance, incarnation, .. } => (instance, *incarnation, false),
        _ => return Recorded::default(),
    };
    let Some(instance) = recorded(view, node, id, incarnation) else { return Recorded::default() };
    match outcome {
        Outcome::Started { process, adopted } if start && instance.phase == Phase::Starting => {
            started(view, id, instance, *process, *adopted, now)
        }
        Outcome::Failed { error, .. } if start && instance.phase == Phase::Starting => {
            // Done again because the outcome of the first attempt was lost: that one may have gone through.
            let perhaps_there = planned.intent.is_empty();
            start_failed(view, id, instance, error, now, perhaps_there)
        }
        Outcome::Stopped { exit } if !start => ended(view, id, instance, exit, now, &instance.cause, true),
        _ => Recorded::default(),
    }
}

/// What the end of a process changes that nobody asked for. A new chain of causes begins here: `cause` is its id.
///
/// The end of a process that was told to stop is its stop, and stays in that chain.
pub fn exited(
    view: &View,
    node: &Name,
    instance: &InstanceId,
    incarnation: u64,
    exit: &Exit,
    now: Time,
    cause: &CauseId,
) -> Recorded {
    match recorded(view, node, instance, incarnation) {
        None => Recorded::default(),
        Some(seen) if seen.phase == Phase::Stopping => ended(view, instance, seen, exit, now, &seen.cause, true),
        Some(seen) => ended(view, instance, seen, exit, now, cause, false),
    }
}

/// The record of this life, unless it has ended.
pub(super) fn recorded<'a>(view: &'a View, node: &Name, id: &InstanceId, incarnation: u64) -> Option<&'a Instance> {
    let instance = view.instances.get(id)?;
    let current = instance.incarnation == incarnation && instance.node == *node && instance.phase != Phase::Exited;
    current.then_some(&*instance.value)
}

fn started(view: &View, id: &InstanceId, seen: &Instance, process: ProcessId, adopted: bool, now: Time) -> Recorded {
    let mut recorded = Recorded::default();
    let next = Instance { phase: Phase::Running, process: Some(process), since: now, ..seen.clone() };
    recorded.changes.push(Change::Put(Record::Instance(id.clone(), Box::new(next))));
    let (kind, verb) = match adopted {
        true => (EventKind::Adopted, "found running"),
        false => (EventKind::Started, "started"),
    };
    let message = format!("{verb} as pid {}", process.pid);
    recorded.events.push(Draft::new(kind, Ref::instance(id), message, &seen.cause));
    for (service, endpoints) in &view.endpoints {
        let Some(current) = endpoints.get(id).filter(|endpoint| endpoint.incarnation == seen.incarnation) else {
            continue;
        };
        if current.state != EndpointState::Starting || has_checks(view, service) || seen.is_booting() {
            continue;
        }
        let mut next = Endpoint { state: EndpointState::Passing, since: now, ..Endpoint::clone(current) };
        let checks = view.services.get(service).map_or(&[][..], |wanted| &wanted.spec.checks);
        for check in checks.iter().filter(|check| is_process(check)) {
            let status = CheckStatus { passing: true, output: format!("pid {}", process.pid), since: now };
            next.checks.insert(check.label(), status);
        }
        endpoint::put(&mut recorded.changes, service, id, next, now);
        let message = format!("healthy, {service} needs no more than a process");
        recorded.events.push(Draft::new(EventKind::Passing, Ref::instance(id), message, &seen.cause));
    }
    recorded
}

/// `perhaps_there`: a process may be there all the same, so it is stopped before the slot gets its next life.
fn start_failed(
    view: &View,
    id: &InstanceId,
    seen: &Instance,
    error: &WorldError,
    now: Time,
    perhaps_there: bool,
) -> Recorded {
    let mut recorded = Recorded::default();
    let phase = if perhaps_there { Phase::Stopping } else { Phase::Exited };
    let next = Instance { phase, error: Some(error.clone()), since: now, ..seen.clone() };
    recorded.changes.push(Change::Put(Record::Instance(id.clone(), Box::new(next))));
    down(view, id, seen.incarnation, &seen.cause, now, &mut recorded.changes);
    let message = error.text.clone();
    recorded.events.push(Draft::new(EventKind::StartFailed, Ref::instance(id), message, &seen.cause));
    recorded
}

/// The process is gone; `asked` when it was told to go.
fn ended(
    view: &View,
    id: &InstanceId,
    seen: &Instance,
    exit: &Exit,
    now: Time,
    cause: &CauseId,
    asked: bool,
) -> Recorded {
    let mut recorded = Recorded::default();
    let mut exit = exit.clone();
    exit.tail.truncate(exit.tail.floor_char_boundary(limits::OUTPUT_BYTES_MAX));
    let ran = (seen.phase == Phase::Running).then(|| span(exit.at.since(seen.since)));
    let (kind, message) = match (asked, ran) {
        (true, _) => (EventKind::Stopped, exit.to_string()),
        (false, Some(ran)) => (EventKind::Exited, format!("{exit} after {ran}")),
        (false, None) => (EventKind::Exited, exit.to_string()),
    };
    let mut event = Draft::new(kind, Ref::instance(id), message, cause);
    event.detail = (!asked && !exit.tail.is_empty()).then(|| exit.tail.clone());
    recorded.events.push(event);
    let next = Instance { phase: Phase::Exited, exit: Some(exit), since: now, cause: cause.clone(), ..seen.clone() };
    recorded.changes.push(Change::Put(Record::Instance(id.clone(), Box::new(next))));
    down(view, id, seen.incarnation, cause, now, &mut recorded.changes);
    recorded
}
