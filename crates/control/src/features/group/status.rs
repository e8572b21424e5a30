//! A group's status: which version is good, which is coming, which failed.

use super::Cluster;
use super::target::Target;
use crate::features::instance::has_checks;
use crate::features::{Member, record, span};
use regrow_model::desired::{self, Goal};
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{self, Bad, EndpointState, GoodGroup, Phase, Rollout, Stage};
use regrow_model::plan::{Held, Rule};
use regrow_model::{CauseId, Kind, Name, Ref, limits};
use std::time::Duration;

/// Crashes in a row after which a version that has never been good has failed.
const CRASHES_MAX: u32 = 3;

/// An instance that nothing checks has arrived when it has run this long: a program that cannot run ends sooner.
const UNCHECKED_ARRIVES: Duration = Duration::from_secs(1);

/// Brings a group's status up to date, and reports what keeps it from its newest version.
///
/// `all`: the members that fill the group's size, and behind them those of a surge: a new version often shows first in
/// a surge that it is bad.
pub(super) fn update(
    cluster: &mut Cluster<'_>,
    name: &Name,
    wanted: &desired::Group,
    target: &Target<'_>,
    all: &[Member<'_>],
) {
    let object = Ref::new(Kind::Group, name);
    let current = cluster.view.group_status.get(name).map(|status| &*status.value);
    let mut next = current.cloned().unwrap_or_default();
    let mut events = Vec::new();
    let mut tell = |kind, message: String, cause: &CauseId| {
        events.push(Draft::new(kind, object.clone(), message, cause));
    };
    let version = target.version;
    let short = version.short();
    let size = wanted.spec.size as usize;
    let kept = &all[..all.len().min(size)];
    let good = next.good.as_ref().is_some_and(|good| good.version == version);
    let known_bad = next.bad.iter().any(|bad| bad.version == version);
    let mut cause = target.cause.clone();
    let mut arrived = |member: &Member<'_>| member.assignment.version == version && has_arrived(cluster, member);
    if size > 0 && kept.len() == size && kept.iter().all(&mut arrived) {
        if next.rollout.take().is_some() || !good {
            let message = format!("version {short} is healthy on all {size}");
            tell(EventKind::RolloutDone, message, &cause);
        }
        next.bad.retain(|bad| bad.version != version);
        match &mut next.good {
            Some(known) if known.version == version => {
                // A change of size or of the rules of change makes no new version, but whoever stops the group after
                // its removal needs the newest rules.
                if target.refused.is_none() && known.group != *wanted {
                    known.group = wanted.clone();
                }
            }
            _ => next.good = Some(GoodGroup { version, group: target.group.clone().into_owned(), at: cluster.now }),
        }
    } else if let Some((reason, since)) = failure(cluster, target, all).filter(|_| !good && !known_bad) {
        cause = since;
        let bad = Bad { version, stage: Stage::Health, reason, since: cluster.now, cause: cause.clone() };
        match next.good.as_ref().filter(|_| wanted.spec.update.rollback) {
            Some(good) => {
                let message = format!("version {short} failed: {}; back to {}", bad.reason, good.version.short());
                tell(EventKind::RolledBack, message, &cause);
                next.rollout = Some(Rollout { version: good.version, since: cluster.now, cause: cause.clone() });
            }
            None => {
                let message = format!("version {short} failed: {}; nothing to return to", bad.reason);
                tell(EventKind::Held, message, &cause);
            }
        }
        next.bad.push(bad);
        let excess = next.bad.len().saturating_sub(limits::BAD_VERSIONS_KEPT);
        next.bad.drain(..excess);
    } else if kept.iter().any(|member| member.assignment.version != version) {
        let begun = next.rollout.as_ref().is_some_and(|rollout| rollout.version == version);
        if !begun && cluster.paused {
            hold_pause(cluster, &object, &short);
        } else if !begun {
            next.rollout = Some(Rollout { version, since: cluster.now, cause: cause.clone() });
            tell(EventKind::RolloutStarted, format!("to version {short}"), &cause);
        }
    } else if kept.is_empty() && size == 0 {
        next.rollout = None;
    }
    report(cluster, &object, target, &next);
    if current.map_or(next != observed::Group::default(), |current| *current != next) {
        let changes = vec![Change::Put(Record::Group(name.clone(), Box::new(next)))];
        let mut planned = record(object, changes, format!("the state of group {name} has changed"), &cause);
        planned.events = events;
        cluster.plan.actions.push(planned);
    }
}

/// Whether an instance serves, so that a change may go on to the next.
pub(super) fn has_arrived(cluster: &mut Cluster<'_>, member: &Member<'_>) -> bool {
    let Some(since) = member.healthy_since().filter(|_| member.is_available()) else { return false };
    let checked = member.endpoint.is_some_and(|(service, _)| has_checks(cluster.view, service));
    let due = since.after(if checked { Duration::ZERO } else { UNCHECKED_ARRIVES });
    if cluster.now < due {
        cluster.plan.recheck(due);
    }
    cluster.now >= due
}

/// Why the target version has failed, when it has, and the chain that showed it.
fn failure(cluster: &mut Cluster<'_>, target: &Target<'_>, all: &[Member<'_>]) -> Option<(String, CauseId)> {
    let within = target.group.spec.update.health_within.0;
    let coming = all.iter().filter(|member| {
        // That its node is gone says nothing of the version.
        !(member.lost || member.unreachable)
            && member.assignment.version == target.version
            && member.assignment.goal == Goal::Run
            && !member.is_healthy()
    });
    for member in coming {
        let crashes = member.assignment.crashes;
        if crashes >= CRASHES_MAX {
            let last = ending(member).map(|how| format!(": {how}")).unwrap_or_default();
            return Some((
                format!("{} ended {crashes} times in a row{last}", member.id),
                member.assignment.cause.clone(),
            ));
        }
        // One that was healthy and fails is counted from when it began to fail.
        let failing = member.endpoint.filter(|(_, endpoint)| endpoint.state == EndpointState::Failing);
        let since = failing.map_or(member.assignment.at, |(_, endpoint)| endpoint.since);
        let due = since.max(member.assignment.not_before).after(within);
        if cluster.now >= due {
            let how = ailing(member).map(|how| format!(": {how}")).unwrap_or_default();
            let reason = format!("{} is not healthy after {}{how}", member.id, span(within));
            return Some((reason, member.assignment.cause.clone()));
        }
        cluster.plan.recheck(due);
    }
    None
}

/// How the last life ended, for people.
fn ending(member: &Member<'_>) -> Option<String> {
    let instance = member.instance.filter(|instance| instance.phase == Phase::Exited)?;
    let error = instance.error.as_ref().map(|error| error.text.clone());
    error.or_else(|| instance.exit.as_ref().map(ToString::to_string))
}

/// What is wrong with it, for people: the first check that fails, or how it ended.
fn ailing(member: &Member<'_>) -> Option<String> {
    let failing = member.endpoint.and_then(|(_, endpoint)| {
        let (label, status) = endpoint.checks.iter().find(|(_, status)| !status.passing)?;
        Some(format!("{label}: {}", status.output.lines().next().unwrap_or_default().trim()))
    });
    failing.or_else(|| ending(member))
}

fn hold_pause(cluster: &mut Cluster<'_>, object: &Ref, short: &str) {
    let Some(pause) = &cluster.view.pause else { return };
    cluster.plan.held.push(Held {
        object: object.clone(),
        what: format!("begin the change to version {short}"),
        rule: Rule::Pause,
        why: format!("paused: {}", pause.why),
        until: pause.until,
    });
    if let Some(until) = pause.until {
        cluster.plan.recheck(until);
    }
}

/// Says that a version is not tried again, or that it has failed and there is nothing to return to.
fn report(cluster: &mut Cluster<'_>, object: &Ref, target: &Target<'_>, status: &observed::Group) {
    let stuck = || status.bad.iter().find(|bad| bad.version == target.version);
    let Some(bad) = target.refused.or_else(stuck) else { return };
    cluster.plan.held.push(Held {
        object: object.clone(),
        what: format!("go on to version {}", bad.version.short()),
        rule: Rule::KnownBad,
        why: bad.reason.clone(),
        until: None,
    });
}
