//! Stopping everything, in order: what comes after others stops before them.

use super::leave::put;
use crate::features::Roster;
use regrow_model::desired::{Assignment, Goal, Halt};
use regrow_model::plan::{Disruption, Held, Rule};
use regrow_model::{Kind, Name, Plan, Ref, Time, View};
use std::collections::{BTreeMap, BTreeSet};

/// Sets goals to stop, deepest groups first. Nobody drains: everything that could send traffic goes as well.
pub(super) fn plan(view: &View, roster: &Roster<'_>, halt: &Halt, now: Time) -> Plan {
    let mut plan = Plan::default();
    let depths = depths(view);
    let depth = |group: &Name| depths.get(group).copied().unwrap_or(0);
    let live = roster.groups().filter(|(_, members)| members.iter().any(|member| member.is_live()));
    let Some((turn, first)) = live.map(|(group, _)| (depth(group), group)).max_by_key(|(depth, _)| *depth) else {
        return plan;
    };
    for (group, members) in roster.groups() {
        let mut live = members.iter().filter(|member| member.is_live()).peekable();
        if live.peek().is_some() && depth(group) < turn {
            plan.held.push(Held {
                object: Ref::new(Kind::Group, group),
                what: format!("stop group {group}"),
                rule: Rule::After,
                why: format!("group {first} stops before it"),
                until: None,
            });
            continue;
        }
        for member in live.filter(|member| member.assignment.goal != Goal::Stop) {
            let cause = halt.cause.clone();
            let next = Assignment { goal: Goal::Stop, cause, at: now, ..Assignment::clone(member.assignment) };
            let mut planned = put(member, next, format!("stop {}: everything is to stop", member.id));
            planned.disrupts = member.is_healthy().then(|| Disruption {
                group: group.clone(),
                instance: member.id.clone(),
                destroys_alive: false,
            });
            plan.actions.push(planned);
        }
    }
    plan
}

/// How many groups each group comes after, one after the other: the longest chain. Groups on a circle, which applying
/// a spec refuses, are left at the depth that was found before it.
fn depths(view: &View) -> BTreeMap<&Name, usize> {
    let mut by_service: BTreeMap<&Name, Vec<&Name>> = BTreeMap::new();
    for (name, group) in &view.groups {
        if let Some(service) = &group.value.spec.service {
            by_service.entry(service).or_default().push(name);
        }
    }
    let mut read: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    for (name, template) in &view.templates {
        read.entry(name).or_default().extend(template.value.spec.guard.min.keys());
    }
    for ((name, _), status) in &view.template_status {
        let sets = status.value.written.iter().chain(&status.value.loaded);
        read.entry(name).or_default().extend(sets.flat_map(|set| set.inputs.services.keys()));
    }
    let mut followers: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    let mut open: BTreeMap<&Name, usize> = view.groups.keys().map(|name| (name, 0)).collect();
    for (name, group) in &view.groups {
        let mut before: BTreeSet<&Name> = BTreeSet::new();
        for object in &group.value.spec.after {
            let services: Vec<&Name> = match object.kind {
                Kind::Service => vec![&object.name],
                Kind::Template => read.get(&object.name).into_iter().flatten().copied().collect(),
                _ => Vec::new(),
            };
            before.extend(services.iter().filter_map(|service| by_service.get(service)).flatten());
            before.extend((object.kind == Kind::Group).then_some(&object.name));
        }
        before.retain(|other| *other != name && view.groups.contains_key(*other));
        open.insert(name, before.len());
        for other in before {
            followers.entry(other).or_default().insert(name);
        }
    }
    let mut depths: BTreeMap<&Name, usize> = view.groups.keys().map(|name| (name, 0)).collect();
    let mut next: Vec<&Name> = open.iter().filter(|(_, open)| **open == 0).map(|(name, _)| *name).collect();
    while let Some(group) = next.pop() {
        let depth = depths.get(group).copied().unwrap_or(0) + 1;
        for follower in followers.get(group).into_iter().flatten() {
            let known = depths.entry(follower).or_default();
            *known = depth.max(*known);
            let left = open.entry(follower).or_default();
            *left -= 1;
            if *left == 0 {
                next.push(follower);
            }
        }
    }
    depths
}
