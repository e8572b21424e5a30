//! What the results of checks make of endpoints.

use super::endpoint;
use super::target::{checkable, is_process};
use regrow_model::event::{Draft, EventKind};
use regrow_model::observed::{CheckStatus, Endpoint, EndpointState};
use regrow_model::spec::Check;
use regrow_model::{CauseId, InstanceId, Name, Recorded, Ref, Time, View, limits};
use std::collections::BTreeMap;

/// Counters that may be gone are looked for when there are this many, and then at each doubling.
const FORGET_FROM: usize = 64;

/// One result of one check: the fields of [`regrow_model::Observation::Checked`].
#[derive(Clone, Copy, Debug)]
pub struct Checked<'a> {
    /// The service.
    pub service: &'a Name,
    /// The slot.
    pub instance: &'a InstanceId,
    /// The life.
    pub incarnation: u64,
    /// The check's label.
    pub check: &'a str,
    /// Whether it passed.
    pub passing: bool,
    /// What it said.
    pub output: &'a str,
}

/// The counters of rise and fall, for the checks of one node.
///
/// Bound: an entry for each checked endpoint of the view and each of its checks; entries of lives that are gone are
/// forgotten when the number has doubled.
#[derive(Clone, Debug, Default)]
pub struct Health {
    lives: BTreeMap<(Name, InstanceId), Life>,
    forget_at: usize,
}

/// The counters of one endpoint in one life.
#[derive(Clone, Debug, Default)]
struct Life {
    incarnation: u64,
    streaks: BTreeMap<String, Streak>,
}

/// Equal results in a row.
#[derive(Clone, Copy, Debug, Default)]
struct Streak {
    passing: bool,
    length: u32,
}

impl Health {
    /// Counts one result, and gives back what it changes: usually nothing.
    ///
    /// `new_cause`: the chain that begins here when a healthy endpoint begins to fail. Becoming healthy belongs to
    /// the chain that the endpoint is in.
    pub fn checked(
        &mut self,
        view: &View,
        node: &Name,
        result: &Checked<'_>,
        now: Time,
        new_cause: &CauseId,
    ) -> Recorded {
        let key = (result.service.clone(), result.instance.clone());
        let endpoint = view.endpoints.get(result.service).and_then(|all| all.get(result.instance));
        let current = endpoint
            .filter(|endpoint| endpoint.incarnation == result.incarnation)
            .filter(|endpoint| checkable(view, node, result.instance, endpoint).is_some());
        let checks = view.services.get(result.service).map_or(&[][..], |service| &service.spec.checks);
        let check = checks.iter().find(|check| !is_process(check) && check.label() == result.check);
        let (Some(current), Some(check)) = (current, check) else { return Recorded::default() };
        let streak = self.count(view, key, result);
        let known = current.checks.get(result.check).map(|status| status.passing);
        let enough = streak.length >= if result.passing { check.rise } else { check.fall }.max(1);
        let turned = enough && known != Some(result.passing);
        let mut next = Endpoint::clone(current);
        if turned {
            let status = CheckStatus { passing: result.passing, output: cut(result.output), since: now };
            next.checks.insert(result.check.to_owned(), status);
        }
        next.checks.retain(|label, _| checks.iter().any(|check| check.label() == *label));
        next.state = state(current.state, &next.checks, checks);
        let life = view.instances.get(result.instance).filter(|life| life.incarnation == result.incarnation);
        if life.is_some_and(|life| life.is_booting()) && current.state == EndpointState::Starting {
            next.state = EndpointState::Starting;
        }
        if !turned && next.state == current.state {
            return Recorded::default();
        }
        let mut recorded = Recorded::default();
        if next.state != current.state {
            next.since = now;
            let (kind, message) = match next.state {
                EndpointState::Passing => (EventKind::Passing, passed(current, now)),
                _ => (EventKind::Failing, failed(result, streak.length)),
            };
            if next.state == EndpointState::Failing {
                next.cause = new_cause.clone();
            }
            let mut event = Draft::new(kind, Ref::instance(result.instance), message, &next.cause);
            let more = next.state == EndpointState::Failing && result.output.trim().lines().count() > 1;
            event.detail = more.then(|| cut(result.output));
            recorded.events.push(event);
        }
        endpoint::put(&mut recorded.changes, result.service, result.instance, next, now);
        recorded
    }

    /// Adds one result to its streak.
    fn count(&mut self, view: &View, key: (Name, InstanceId), result: &Checked<'_>) -> Streak {
        if !self.lives.contains_key(&key) && self.lives.len() >= self.forget_at.max(FORGET_FROM) {
            self.lives.retain(|(service, id), life| {
                let endpoint = view.endpoints.get(service).and_then(|all| all.get(id));
                endpoint.is_some_and(|endpoint| endpoint.incarnation == life.incarnation)
            });
            self.forget_at = self.lives.len() * 2;
        }
        let life = self.lives.entry(key).or_default();
        if life.incarnation != result.incarnation {
            *life = Life { incarnation: result.incarnation, streaks: BTreeMap::new() };
        }
        let streak = life.streaks.entry(result.check.to_owned()).or_default();
        if streak.passing != result.passing {
            *streak = Streak { passing: result.passing, length: 0 };
        }
        streak.length = streak.length.saturating_add(1);
        *streak
    }
}

/// What its checks make of an endpoint. One that has not yet said anything keeps an endpoint from its first entry into
/// the pool, and throws none out: it may have been added to a running service.
fn state(before: EndpointState, known: &BTreeMap<String, CheckStatus>, checks: &[Check]) -> EndpointState {
    let starting = before == EndpointState::Starting;
    let passes = |check: &Check| known.get(&check.label()).map_or(!starting, |status| status.passing);
    match checks.iter().filter(|check| !is_process(check)).all(passes) {
        true => EndpointState::Passing,
        false if starting => EndpointState::Starting,
        false => EndpointState::Failing,
    }
}

/// How it became healthy, for people.
fn passed(before: &Endpoint, now: Time) -> String {
    let took = crate::features::span(now.since(before.since));
    match before.state {
        EndpointState::Starting => format!("healthy {took} after the start"),
        _ => format!("healthy again after {took}"),
    }
}

/// How it failed, for people: the first line of what the check said is the reason.
fn failed(result: &Checked<'_>, times: u32) -> String {
    let reason = result.output.lines().next().unwrap_or_default().trim();
    let times = if times == 1 { "failed".to_owned() } else { format!("failed {times} times in a row") };
    if reason.is_empty() { format!("{} {times}", result.check) } else { format!("{} {times}: {reason}", result.check) }
}

/// At most [`limits::OUTPUT_BYTES_MAX`] bytes of a text, cut between characters.
fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(limits::OUTPUT_BYTES_MAX)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::{Checked, FORGET_FROM, Health};
    use crate::world::{Fate, World, id, name};
    use regrow_model::{CauseId, Time};
    use serde_json::json;

    /// Shows that the counters of lives that are gone do not pile up.
    #[test]
    fn lives_that_are_gone_are_forgotten() {
        let mut world = World::web(json!({"size": 1}));
        let mut health = Health::default();
        let mut most = 0;
        for slot in 0..1_000 {
            let other = id(&format!("web-{slot}"));
            health.lives.insert((name("gone"), other), Default::default());
            while world.round(|_| Fate::Done).1 {}
            let life = world.view.assignments[&id("web-0")].incarnation;
            let (service, instance) = (name("web"), id("web-0"));
            let (check, output) = ("http /", "");
            let result =
                Checked { service: &service, instance: &instance, incarnation: life, check, passing: true, output };
            health.lives.remove(&(name("web"), id("web-0")));
            health.checked(&world.view, &name("n1"), &result, world.now, &CauseId::new(Time(1), 1));
            most = most.max(health.lives.len());
        }
        assert!(most <= FORGET_FROM + 1, "{most}");
    }
}
