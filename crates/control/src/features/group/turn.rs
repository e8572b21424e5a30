//! One group's turn: each of its slots one step on.

use super::assign::{Life, assignment, end, wait};
use super::target::{Target, returned};
use super::{Cluster, leave, status};
use crate::features::service::endpoint;
use crate::features::{Member, ending, record, span};
use regrow_model::desired::{self, Assignment, Goal};
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{self, EndpointState};
use regrow_model::plan::{Held, Rule};
use regrow_model::{CauseId, InstanceId, Kind, Name, Ref, Time};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// One group during one plan.
pub(super) struct Turn<'t, 'a> {
    cluster: &'t mut Cluster<'a>,
    name: &'a Name,
    wanted: &'a desired::Group,
    status: Option<&'a observed::Group>,
    target: Target<'a>,
    members: &'a [Member<'a>],
    /// Why the first instance may not start yet, by node; `None` where it may.
    gate: BTreeMap<Name, Option<String>>,
    begun: bool,
}

impl<'t, 'a> Turn<'t, 'a> {
    pub(super) fn of(cluster: &'t mut Cluster<'a>, name: &'a Name, wanted: &'a desired::Group) -> Turn<'t, 'a> {
        let status = cluster.view.group_status.get(name).map(|status| &*status.value);
        let members = cluster.roster.members(name);
        let begun = cluster.ready.has_begun(name);
        let target = Target::of(wanted, status);
        Turn { cluster, name, wanted, status, target, members, gate: BTreeMap::new(), begun }
    }

    /// Everything that this group needs now.
    pub(super) fn take(mut self) {
        let size = self.wanted.spec.size as usize;
        let changing = self.rollout().is_some();
        let surge = if changing { self.wanted.spec.update.max_surge as usize } else { 0 };
        let surge = if self.cluster.paused { surge.min(self.members.len().saturating_sub(size)) } else { surge };
        let kept = &self.members[..self.members.len().min(size + surge)];
        let extra = &self.members[kept.len()..];
        status::update(self.cluster, self.name, self.wanted, &self.target, kept);

        let others =
            u32::try_from(self.members.iter().filter(|member| member.is_available()).count()).unwrap_or(u32::MAX);
        let mut steady = Vec::new();
        for member in kept {
            if !self.settle(member, others) {
                steady.push(member);
            }
        }
        for member in extra {
            let size = self.wanted.spec.size;
            let why = if size == 0 { "its group has size 0".to_owned() } else { format!("its group has size {size}") };
            leave::remove(self.cluster, member, others, &why, Some(&self.wanted.cause));
        }
        self.create(size + surge - kept.len());
        let retired = self.exchange(kept, changing);
        for member in steady.iter().filter(|member| !retired.contains(member.id)) {
            self.forgive(member);
        }
    }

    /// The recorded change to the target version.
    fn rollout(&self) -> Option<&'a observed::Rollout> {
        let rollout = self.status.and_then(|status| status.rollout.as_ref());
        rollout.filter(|rollout| rollout.version == self.target.version)
    }

    /// Takes a slot one step on when there is but one: it is dead, waits, or is on its way out. Gives back whether
    /// there was; else a live instance that is to run.
    fn settle(&mut self, member: &Member<'a>, others: u32) -> bool {
        let current = member.assignment.version == self.target.version;
        match member.assignment.goal {
            Goal::Drain if member.is_live() => leave::drain(self.cluster, member, others),
            Goal::Stop if member.is_live() => {}
            Goal::Drain | Goal::Stop => self.follow(member),
            Goal::Run if member.is_dead() => self.replace(member),
            Goal::Run if member.is_live() => return false,
            Goal::Run if self.is_misplaced(member) || !current && !self.cluster.paused => {
                let why = format!("{} has not started, and its node or version is not wanted any more", member.id);
                let life = self.next(member, 0, Time::default(), &self.target.cause.clone());
                self.assign(member.id, Some((member, false)), life, why, Vec::new(), false);
            }
            Goal::Run => {
                let until = member.assignment.not_before;
                if until > self.cluster.now {
                    let crashes = member.assignment.crashes;
                    let why = format!("it ended {crashes} times in a row");
                    self.hold(member.id, Rule::Backoff, format!("start {}", member.id), why, Some(until));
                    self.cluster.plan.recheck(until);
                }
            }
        }
        true
    }

    /// Its node is gone.
    fn is_misplaced(&self, member: &Member<'_>) -> bool {
        !self.cluster.view.nodes.is_empty() && !self.cluster.view.nodes.contains_key(&member.assignment.node)
    }

    /// Fills a slot again whose instance was stopped on purpose.
    fn follow(&mut self, member: &Member<'a>) {
        let current = member.assignment.version == self.target.version;
        let crashes = if current { member.assignment.crashes } else { 0 };
        let cause = if current { member.assignment.cause.clone() } else { self.target.cause.clone() };
        let life = self.next(member, crashes, Time::default(), &cause);
        let why = match current {
            true => format!("{} was stopped and is to run", member.id),
            false => format!("{} changes to version {}", member.id, self.target.version.short()),
        };
        self.assign(member.id, Some((member, false)), life, why, Vec::new(), true);
    }

    /// Gives a slot its next life elsewhere: its node is dead. That is no crash of its own.
    fn relocate(&mut self, member: &Member<'a>) {
        let node = &member.assignment.node;
        let dead = self.cluster.view.members.get(node);
        let cause = dead.map_or(&member.assignment.cause, |dead| &dead.cause).clone();
        let life = self.next(member, member.assignment.crashes, Time::default(), &cause);
        let why = format!("{}: its node {node} is dead", member.id);
        self.assign(member.id, Some((member, false)), life, why, Vec::new(), false);
    }

    /// Fills a slot again whose instance has died, by itself or with its node.
    fn replace(&mut self, member: &Member<'a>) {
        let Some(seen) = member.life() else { return };
        // A pause lets no new version begin; what dies comes back as what it was.
        let good = self.status.and_then(|status| status.good.as_ref());
        let good = good.filter(|good| self.cluster.paused && good.version == member.assignment.version);
        if let Some(good) = good {
            let group = Cow::Owned(returned(self.wanted, &good.group));
            self.target.group = group;
            self.target.version = good.version;
        }
        match member.lost {
            true => self.relocate(member),
            false => self.restart(member, seen),
        }
        if good.is_some() {
            self.target = Target::of(self.wanted, self.status);
        }
    }

    /// Gives a slot its next life after the end of the one before.
    fn restart(&mut self, member: &Member<'a>, seen: &observed::Instance) {
        let why = match (&seen.error, &seen.exit) {
            (Some(error), _) => error.text.clone(),
            (None, Some(exit)) => format!("{} {}", member.id, ending(exit)),
            (None, None) => format!("{} is gone", member.id),
        };
        let backoff = &self.target.group.spec.backoff;
        let same = member.assignment.version == self.target.version;
        let end = end(seen, member.assignment, self.target.group.spec.port);
        let crashes = if same { end.crashes } else { 0 };
        let waits = if end.port_refused && crashes == member.assignment.crashes {
            std::time::Duration::ZERO
        } else {
            wait(backoff, crashes, member.id, member.assignment.incarnation)
        };
        let not_before = if waits.is_zero() { Time::default() } else { seen.since.after(waits) };
        let mut events = Vec::new();
        if crashes == 2 && member.assignment.crashes < 2 {
            let message = format!("ended {crashes} times in a row, the next start waits {}", span(waits));
            events.push(Draft::new(EventKind::BackingOff, Ref::instance(member.id), message, &seen.cause));
        }
        let life = self.next(member, crashes, not_before, &seen.cause);
        self.assign(member.id, Some((member, end.port_refused)), life, why, events, false);
    }

    fn next(&self, member: &Member<'_>, crashes: u32, not_before: Time, cause: &CauseId) -> Life {
        let incarnation = member.assignment.incarnation.saturating_add(1);
        Life { incarnation, crashes, not_before, cause: cause.clone() }
    }

    /// Makes `count` new slots, at the lowest free numbers.
    fn create(&mut self, count: usize) {
        let mut taken = self.members.iter().map(|member| member.id.slot).peekable();
        let mut slots = 0..=u32::MAX;
        for _ in 0..count {
            let free = slots.find(|slot| taken.next_if(|taken| *taken == *slot).is_none());
            let Some(slot) = free else { return };
            let id = InstanceId { group: self.name.clone(), slot };
            let cause = self.target.cause.clone();
            let life = Life { incarnation: 1, crashes: 0, not_before: Time::default(), cause };
            let why = format!("group {} is to have {}", self.name, self.wanted.spec.size);
            if !self.assign(&id, None, life, why, Vec::new(), true) {
                return;
            }
        }
    }

    /// Gives a slot its next life. `gated`: it is the start of the group, if that has not begun. Gives back whether
    /// anything could be done.
    fn assign(
        &mut self,
        id: &InstanceId,
        before: Option<(&Member<'a>, bool)>,
        life: Life,
        why: String,
        events: Vec<Draft>,
        gated: bool,
    ) -> bool {
        let ports = self.target.group.spec.port;
        let place = match before {
            None => self.cluster.places.draw(ports),
            Some((member, refused)) => {
                self.cluster.places.again(&member.assignment.node, member.assignment.port, ports, refused)
            }
        };
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                self.hold(id, Rule::Placement, format!("start {id}"), why, None);
                return false;
            }
        };
        if gated && !self.begun {
            let (ready, after) = (&self.cluster.ready, &self.wanted.spec.after);
            let gate = self.gate.entry(place.node.clone()).or_insert_with(|| ready.waits_for(after, &place.node));
            if let Some(why) = gate.clone() {
                self.hold(id, Rule::After, format!("start {id}"), why, None);
                return true;
            }
        }
        let now = self.cluster.now;
        let cause = life.cause.clone();
        let first = life.incarnation == 1;
        let next = assignment(&self.target, id, place, life, now);
        let message = match first {
            true => format!("to {} port {}", next.node, next.port),
            false => format!("to {} port {}, life {}", next.node, next.port, next.incarnation),
        };
        let service = self.target.group.spec.service.as_ref();
        let mut changes = vec![Change::Put(Record::Assignment(id.clone(), Box::new(next)))];
        for (_, other, _) in self.cluster.roster.endpoints_of(id) {
            // The version before was in another service.
            if Some(*other) != service {
                endpoint::delete(&mut changes, other, id, &cause, now);
            }
        }
        let object = Ref::instance(id);
        let mut planned = record(object.clone(), changes, why, &cause);
        // What was decided because a node is dead does not hold when it is back in this moment.
        let dead = before.filter(|(member, _)| member.lost).map(|(member, _)| member.assignment.node.clone());
        planned.given.extend(dead.map(Key::Member));
        planned.events = events;
        planned.events.push(Draft::new(EventKind::Assigned, object, message, &cause));
        match gated {
            true => self.cluster.plan.actions.push(planned),
            false => self.cluster.urgent.push(planned),
        }
        true
    }

    /// Takes away live instances that must not stay: those whose checks have failed for too long, and those of another
    /// version. No more at a time than the update allows, and none while what came last has not arrived. Gives back
    /// which.
    fn exchange(&mut self, kept: &'a [Member<'a>], changing: bool) -> BTreeSet<&'a InstanceId> {
        let update = &self.wanted.spec.update;
        let most = update.max_unavailable.saturating_add(if changing { update.max_surge } else { 0 }).max(1);
        let floor = self.wanted.spec.size.saturating_sub(update.max_unavailable);
        let mut available = 0u32;
        let (mut under_way, mut looping) = (0u32, 0u32);
        let mut overdue = Vec::new();
        let mut old = Vec::new();
        for member in kept {
            let runs = member.assignment.goal == Goal::Run && member.is_live();
            let current = member.assignment.version == self.target.version;
            available += u32::from(member.is_available());
            if let Some(why) = self.overdue(member).filter(|_| runs) {
                overdue.push((member, why));
            } else if runs && !current {
                old.push(member);
            } else if member.assignment.goal == Goal::Drain && member.is_live() {
                // The floor does not count it, and a guard may hold it until somebody else is healthy: what is not
                // healthy must not wait for it.
            } else if !status::has_arrived(self.cluster, member) {
                under_way += 1;
                looping += u32::from(member.assignment.crashes > 1);
            }
        }
        let mut retired = BTreeSet::new();
        overdue.sort_by_key(|(member, _)| member.assignment.at);
        for (member, why) in overdue {
            // A crash loop beside it is no reason to leave this one as it is.
            if under_way - looping >= most {
                break;
            }
            under_way += 1;
            self.retire(member, &why);
            retired.insert(member.id);
        }
        let short = self.target.version.short();
        old.sort_by_key(|member| member.is_healthy());
        for member in old.into_iter().filter(|_| changing) {
            let healthy = member.is_healthy();
            if under_way >= most || healthy && available <= floor {
                break;
            }
            under_way += 1;
            available -= u32::from(healthy);
            self.retire(member, &format!("change to version {short}"));
            retired.insert(member.id);
        }
        retired
    }

    /// Tells a live instance to go. The chain is that of what is against it: its checks, or else the change.
    fn retire(&mut self, member: &Member<'a>, why: &str) {
        let failing = member.endpoint.filter(|(_, endpoint)| endpoint.state != EndpointState::Passing);
        let current = member.assignment.version == self.target.version;
        let cause = match failing {
            Some((_, endpoint)) if current => endpoint.cause.clone(),
            _ => self.target.cause.clone(),
        };
        let doubted = failing.is_some() && (current || self.target.refused.is_some());
        let planned = leave::retire(self.cluster, member, why, &cause, doubted);
        self.cluster.plan.actions.push(planned);
    }

    /// Why a live instance must go although its version is right: its checks have failed for too long, since it began
    /// to fail or, when it never was healthy, since its grace ended.
    fn overdue(&mut self, member: &Member<'_>) -> Option<String> {
        let (_, endpoint) = member.endpoint?;
        let running = member.running_since().filter(|_| !member.life().is_some_and(|life| life.is_booting()))?;
        let spec = &self.wanted.spec;
        let patience = spec.replace_failing.0;
        let graced = running.after(spec.grace.0);
        let due = match endpoint.state {
            EndpointState::Failing => endpoint.since.after(patience).max(graced),
            EndpointState::Starting => graced.after(patience),
            _ => return None,
        };
        if self.cluster.now < due {
            self.cluster.plan.recheck(due);
            return None;
        }
        Some(format!("its checks have failed for {}", span(patience)))
    }

    /// Forgets the crashes of an instance that has been healthy for long enough.
    fn forgive(&mut self, member: &Member<'_>) {
        let Some(since) = member.healthy_since().filter(|_| member.assignment.crashes > 0) else { return };
        let due = since.after(self.wanted.spec.backoff.reset.0);
        if self.cluster.now < due {
            return self.cluster.plan.recheck(due);
        }
        let next = Assignment { crashes: 0, at: self.cluster.now, ..Assignment::clone(member.assignment) };
        let why = format!("{} has been healthy for {}", member.id, self.wanted.spec.backoff.reset);
        self.cluster.plan.actions.push(leave::put(member, next, why));
    }

    fn hold(&mut self, id: &InstanceId, rule: Rule, what: String, why: String, until: Option<Time>) {
        // One line for the group where every slot would say the same.
        let object = match rule {
            Rule::Backoff => Ref::instance(id),
            _ => Ref::new(Kind::Group, self.name),
        };
        let held = Held { object, what, rule, why, until };
        if self.cluster.plan.held.last().is_none_or(|last| (&last.object, last.rule) != (&held.object, held.rule)) {
            self.cluster.plan.held.push(held);
        }
    }
}
