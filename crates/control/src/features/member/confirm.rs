//! What the leader does: a node that gossip calls gone is dead when its lease has ended too.

use super::{Doubt, FRESH, is_away, object, serving, withdraw};
use crate::features::record;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::Member;
use regrow_model::plan::{Held, Rule};
use regrow_model::{Entry, Name, Plan, Standing, Time, View};

/// What the leader should record of nodes that are gone.
pub fn confirm(view: &View, now: Time) -> Plan {
    let mut plan = Plan::default();
    let mut doubt = None;
    for (name, member) in view.members.iter().filter(|(_, member)| member.standing != Standing::Alive) {
        let doubt = doubt.get_or_insert_with(|| Doubt::of(view, now));
        step(view, name, member, doubt, now, &mut plan);
    }
    if let Some(until) = doubt.and_then(|doubt| doubt.until) {
        plan.recheck(until);
    }
    plan
}

fn step(view: &View, name: &Name, member: &Entry<Member>, doubt: &Doubt, now: Time, plan: &mut Plan) {
    let peer = view.local.peers.by_name.get(name);
    let seen = peer.is_some_and(|peer| peer.standing == Standing::Alive);
    let leased = view.nodes.contains_key(name);
    let failed = member.standing == Standing::Failed;
    let instances = view.assignments.values().filter(|assignment| assignment.node == *name).count();
    let mut hold = |what: String, rule, why| {
        plan.held.push(Held { object: object(name), what, rule, why, until: None });
    };
    let replace = || format!("replace {instances} instances of {name}");
    let gone = failed || !leased && member.confirmed.is_some();
    if gone && !seen && !is_away(view, name) && serving(view, name).next().is_some() {
        match doubt.why() {
            Some(why) => hold(format!("take what {name} serves out of the catalog"), Rule::Freeze, why),
            None => {
                let mut changes = Vec::new();
                withdraw(view, name, &member.cause, now, &mut changes);
                let why = format!("{name} is gone, and some of what it serves is still in the catalog");
                plan.actions.push(record(object(name), changes, why, &member.cause));
            }
        }
        return;
    }
    let forgotten = peer.is_none() && instances == 0 && !leased && !view.local.peers.by_name.is_empty();
    let due = member.since.after(FRESH);
    if forgotten && (member.confirmed.is_some() || !member.agent) {
        if due > now {
            return plan.recheck(due);
        }
        let changes = vec![Change::Delete(Key::Member(name.clone()))];
        let why = format!("{name} has been gone for long, and gossip has forgotten it");
        plan.actions.push(record(object(name), changes, why, &member.cause));
        return;
    }
    if leased || seen || !member.agent {
        if failed && leased && instances > 0 {
            let why = "gossip says that it is dead, and its lease in the store is alive: one source is not enough";
            hold(replace(), Rule::SecondSource, why.to_owned());
        }
        return;
    }
    if member.confirmed.is_none() {
        if failed && peer.is_some_and(|peer| peer.quarantined) {
            let why = format!(
                "it comes and goes, and is in quarantine (`regrow force-leave {name}` says that it is truly gone)"
            );
            return hold(replace(), Rule::Quarantine, why);
        }
        if let Some(why) = doubt.why() {
            return hold(replace(), Rule::Freeze, why);
        }
        let next = Member { confirmed: Some(now), ..Member::clone(member) };
        let changes = vec![Change::Put(Record::Member(name.clone(), Box::new(next)))];
        let gossip = if failed { "gossip says that it is dead" } else { "it has left gossip" };
        let follows = if instances > 0 { format!("; {instances} instances are replaced") } else { String::new() };
        let message = format!("dead by two sources: {gossip}, and its lease in the store has ended{follows}");
        let mut planned = record(object(name), changes, format!("{name} is {message}"), &member.cause);
        planned.events.push(Draft::new(EventKind::NodeDead, object(name), message, &member.cause));
        // It may be back in this moment.
        planned.given.push(Key::Node(name.clone()));
        plan.actions.push(planned);
    }
}
