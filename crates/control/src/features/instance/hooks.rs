//! Jobs that accompany an instance's life: `on_boot` and `before_stop` of its group.
//!
//! Who carries runs out asks [`wanted`] what is to be run, and tells by [`hooked`] how it ended. A life begins with its boot
//! in the record if its group had a hook then, so a hook that is added later boots nothing that runs already.

use super::outcome::recorded;
use super::stop::down;
use crate::features::{Member, Roster, record};
use regrow_model::desired::Goal;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{HookState, Instance, Moment, Phase, WorldError, WorldErrorKind};
use regrow_model::spec::command::expand;
use regrow_model::spec::{Hook, Hooks};
use regrow_model::{CauseId, InstanceId, Name, Planned, Recorded, Ref, Time, View};
use serde_json::Value;
use std::collections::BTreeMap;

/// A run that an instance's life wants now.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The slot.
    pub instance: InstanceId,
    /// The life.
    pub incarnation: u64,
    /// When in it.
    pub moment: Moment,
    /// The job.
    pub job: Name,
    /// What it is given.
    pub parameters: BTreeMap<String, Value>,
    /// Too late after that.
    pub until: Time,
    /// The chain that it belongs to.
    pub cause: CauseId,
}

impl Wanted {
    /// The same for each asking, and of this life alone, also when its slot was removed and is there again: a run with
    /// it is submitted once.
    pub fn key(&self) -> String {
        format!("hook/{}/{}/{}/{}", self.instance, self.incarnation, self.moment.as_str(), self.cause)
    }
}

/// How a run ended that an instance's life had wanted.
#[derive(Clone, Copy, Debug)]
pub struct Hooked<'a> {
    /// When in it.
    pub moment: Moment,
    /// Whether it succeeded.
    pub succeeded: bool,
    /// Which run, and why it failed; for people.
    pub why: &'a str,
}

/// The runs that instances of a node want now.
pub fn wanted(view: &View, node: &Name) -> Vec<Wanted> {
    let roster = Roster::of(view);
    let members = roster.groups().flat_map(|(_, members)| members.iter());
    members.filter(|member| member.assignment.node == *node).filter_map(|member| of_member(view, member)).collect()
}

fn of_member(view: &View, member: &Member<'_>) -> Option<Wanted> {
    let life = member.life().filter(|life| life.phase == Phase::Running)?;
    let hooks = hooks(view, &member.id.group)?;
    let (moment, hook, until, cause) = match member.assignment.goal {
        Goal::Run if life.is_booting() => {
            let hook = hooks.on_boot.as_ref()?;
            (Moment::OnBoot, hook, life.since.after(hook.within.0), &life.cause)
        }
        Goal::Stop => {
            let hook = hooks.before_stop.as_ref()?;
            (Moment::BeforeStop, hook, stops_at(view, member)?, &member.assignment.cause)
        }
        Goal::Run | Goal::Drain => return None,
    };
    let parameters = given(hook, member);
    let (instance, incarnation, job) = (member.id.clone(), life.incarnation, hook.job.clone());
    Some(Wanted { instance, incarnation, moment, job, parameters, until, cause: cause.clone() })
}

/// The texts of a hook with what is known of the instance in them. The spec's rules let no other name in.
fn given(hook: &Hook, member: &Member<'_>) -> BTreeMap<String, Value> {
    let known: [(&str, String); 6] = [
        ("INSTANCE", member.id.to_string()),
        ("GROUP", member.id.group.to_string()),
        ("SLOT", member.id.slot.to_string()),
        ("NODE", member.assignment.node.to_string()),
        ("ADDRESS", member.assignment.address.clone()),
        ("PORT", member.assignment.port.to_string()),
    ];
    let lookup = |name: &str| known.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str());
    let one = |value: &Value| match value {
        Value::String(text) => Value::String(expand(text, lookup).unwrap_or_else(|_| text.clone())),
        other => other.clone(),
    };
    hook.parameters.iter().map(|(name, value)| (name.clone(), one(value))).collect()
}

/// A boot that the spec does not ask for any more is over.
pub(super) fn moot(view: &View, member: &Member<'_>, now: Time) -> Option<Planned> {
    let life = member.life().filter(|life| life.is_booting())?;
    if hooks(view, &member.id.group).is_some_and(|hooks| hooks.on_boot.is_some()) {
        return None;
    }
    let mut next = Instance { since: now, ..Instance::clone(life) };
    next.hooks.insert(Moment::OnBoot, HookState::Succeeded);
    let changes = vec![Change::Put(Record::Instance(member.id.clone(), Box::new(next)))];
    let why = format!("nothing is asked of {} at its boot any more", member.id);
    Some(record(Ref::instance(member.id), changes, why, &life.cause))
}

/// When a life that is to stop is told so although its job has not ended; `None`: at once.
pub(super) fn stops_at(view: &View, member: &Member<'_>) -> Option<Time> {
    let life = member.life()?;
    let hook = hooks(view, &member.id.group)?.before_stop.as_ref()?;
    let waits = life.hooks.get(&Moment::BeforeStop).is_none_or(|state| *state == HookState::Waits);
    waits.then(|| member.assignment.at.after(hook.within.0))
}

/// The hooks of a group: as the newest spec says, for a removed group as its last good one said.
fn hooks<'a>(view: &'a View, group: &Name) -> Option<&'a Hooks> {
    let newest = view.groups.get(group).map(|group| &group.spec.hooks);
    let good = || view.group_status.get(group).and_then(|status| status.good.as_ref());
    newest.or_else(|| good().map(|good| &good.group.spec.hooks))
}

/// What the end of a run changes that an instance's life had wanted. Nothing when it is about another life, or is known.
pub fn hooked(view: &View, node: &Name, id: &InstanceId, incarnation: u64, hooked: Hooked<'_>, now: Time) -> Recorded {
    let mut changed = Recorded::default();
    let Some(seen) = recorded(view, node, id, incarnation).filter(|seen| seen.phase == Phase::Running) else {
        return changed;
    };
    let known = seen.hooks.get(&hooked.moment);
    if matches!(known, Some(HookState::Succeeded | HookState::Failed)) {
        return changed;
    }
    let state = if hooked.succeeded { HookState::Succeeded } else { HookState::Failed };
    let mut next = Instance { hooks: seen.hooks.clone(), ..seen.clone() };
    next.hooks.insert(hooked.moment, state);
    if hooked.moment == Moment::OnBoot {
        next.since = now;
    }
    let word = if hooked.succeeded { "succeeded" } else { "failed" };
    let message = format!("{} {word}: {}", hooked.moment.as_str(), hooked.why);
    if hooked.moment == Moment::OnBoot && !hooked.succeeded {
        next.phase = Phase::Stopping;
        next.error = Some(WorldError { kind: WorldErrorKind::Other, text: message.clone() });
        down(view, id, incarnation, &seen.cause, now, &mut changed.changes);
    }
    changed.changes.push(Change::Put(Record::Instance(id.clone(), Box::new(next))));
    changed.events.push(Draft::new(EventKind::Hooked, Ref::instance(id), message, &seen.cause));
    changed
}
