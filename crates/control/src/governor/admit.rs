//! Letting actions through.

use super::freeze::frozen;
use crate::features::Roster;
use crate::features::member::Doubt;
use regrow_model::key::{Change, Record};
use regrow_model::observed::Governor;
use regrow_model::plan::{Disruption, Held, Rule};
use regrow_model::{Action, Name, Plan, Planned, Time, View, spec};
use std::collections::BTreeMap;

/// Most disruptions that one plan lets through; the rest follow when these are recorded. Each carries the whole list of
/// what was spent, which would otherwise grow with the square of the plan.
pub const DISRUPTIONS_PER_PLAN_MAX: usize = 128;

/// Lets through what the rules allow and moves the rest to [`Plan::held`]. What is let through carries the governor's
/// new record in its own transaction: with the intent, or among the changes of a record.
pub fn admit(view: &View, now: Time, plan: Plan) -> Plan {
    if view.halt.is_some() || plan.actions.iter().all(|planned| planned.disrupts.is_none()) {
        return plan;
    }
    let roster = Roster::of(view);
    let rules = view.cluster.as_ref().map(|cluster| cluster.governor.clone()).unwrap_or_default();
    let mut gate = Gate::of(view, &roster, &rules, now);
    let mut admitted = Plan { actions: Vec::new(), ..plan };
    for mut planned in plan.actions {
        let refusal = planned.disrupts.as_ref().and_then(|disruption| gate.refusal(disruption));
        match (refusal, &planned.disrupts) {
            (Some(refusal), _) => {
                if let Some(until) = refusal.until {
                    admitted.recheck(until);
                }
                admitted.held.push(Held {
                    object: planned.object,
                    what: planned.why,
                    rule: refusal.rule,
                    why: refusal.why,
                    until: refusal.until,
                });
            }
            (None, Some(disruption)) => {
                gate.spend(&disruption.clone());
                pay(&mut planned, &gate);
                admitted.actions.push(planned);
            }
            (None, None) => admitted.actions.push(planned),
        }
    }
    admitted
}

/// Puts the governor's record into an action's own transaction.
fn pay(planned: &mut Planned, gate: &Gate<'_>) {
    let payment = Change::Put(Record::Governor(Governor { spent: gate.spent.clone() }));
    match &mut planned.action {
        Action::Record { changes } => changes.push(payment),
        _ => planned.intent.push(payment),
    }
}

/// Why something may not happen now.
struct Refusal {
    rule: Rule,
    why: String,
    until: Option<Time>,
}

/// The state of the rules while a plan goes through.
struct Gate<'a> {
    view: &'a View,
    roster: &'a Roster<'a>,
    budget: &'a spec::Budget,
    now: Time,
    paused: Option<(String, Option<Time>)>,
    frozen: Option<String>,
    /// Why so many nodes look dead that nothing at all is taken away.
    partitioned: Option<String>,
    /// Healthy instances of each group that are to go on, less what this plan takes away.
    healthy: BTreeMap<Name, u32>,
    /// Disruptions of the window, oldest first, with this plan's.
    spent: Vec<Time>,
    admitted: usize,
}

impl<'a> Gate<'a> {
    fn of(view: &'a View, roster: &'a Roster<'a>, rules: &'a spec::Governor, now: Time) -> Gate<'a> {
        let pause = view.pause.as_ref().filter(|pause| pause.until.is_none_or(|until| until > now));
        let opened = now.0.saturating_sub(u64::try_from(rules.budget.per.0.as_millis()).unwrap_or(u64::MAX));
        let mut spent = view.governor.as_ref().map(|governor| governor.spent.clone()).unwrap_or_default();
        spent.retain(|at| at.0 > opened);
        Gate {
            view,
            roster,
            budget: &rules.budget,
            now,
            paused: pause.map(|pause| (pause.why.clone(), pause.until)),
            frozen: frozen(view, roster, &rules.freeze),
            partitioned: Doubt::of(view, now).why(),
            healthy: BTreeMap::new(),
            spent,
            admitted: 0,
        }
    }

    fn refusal(&mut self, disruption: &Disruption) -> Option<Refusal> {
        if let Some((why, until)) = &self.paused {
            return Some(Refusal { rule: Rule::Pause, why: format!("paused: {why}"), until: *until });
        }
        if let Some(why) = &self.partitioned {
            return Some(Refusal { rule: Rule::Freeze, why: why.clone(), until: None });
        }
        if let Some(why) = self.frozen.as_ref().filter(|_| disruption.destroys_alive) {
            return Some(Refusal { rule: Rule::Freeze, why: why.clone(), until: None });
        }
        let floor = self.view.groups.get(&disruption.group).map_or(0, |group| group.spec.floor());
        let healthy = self.healthy(&disruption.group);
        if self.costs(disruption) && healthy <= floor {
            let why = format!("{healthy} of group {} are healthy and {floor} must stay so", disruption.group);
            return Some(Refusal { rule: Rule::MinHealthy, why, until: None });
        }
        if self.spent.len() >= self.budget.changes as usize {
            // The place of the oldest that must fall out for one more.
            let oldest = self.spent.len().saturating_sub(self.budget.changes.max(1) as usize);
            let until = self.spent.get(oldest).map(|at| at.after(self.budget.per.0));
            let why = format!("{} changes in {} are spent", self.spent.len(), self.budget.per);
            return Some(Refusal { rule: Rule::Budget, why, until });
        }
        if self.admitted >= DISRUPTIONS_PER_PLAN_MAX {
            let why = format!("{DISRUPTIONS_PER_PLAN_MAX} go first");
            return Some(Refusal { rule: Rule::Budget, why, until: None });
        }
        None
    }

    fn spend(&mut self, disruption: &Disruption) {
        if self.costs(disruption) {
            let left = self.healthy(&disruption.group).saturating_sub(1);
            self.healthy.insert(disruption.group.clone(), left);
        }
        self.spent.push(self.now);
        self.admitted += 1;
    }

    /// It takes away one that the floor counts.
    fn costs(&self, disruption: &Disruption) -> bool {
        let members = self.roster.members(&disruption.group);
        let found = members.binary_search_by(|member| member.id.cmp(&disruption.instance));
        found.is_ok_and(|at| members[at].is_available())
    }

    fn healthy(&mut self, group: &Name) -> u32 {
        *self.healthy.entry(group.clone()).or_insert_with(|| {
            let available = self.roster.members(group).iter().filter(|member| member.is_available()).count();
            u32::try_from(available).unwrap_or(u32::MAX)
        })
    }
}
