//! The reconciler itself.

use super::busy::{Busy, Cooling, Origin, Stage, backoff, own_time};
use super::command::{Answer, Command, CommandError};
use super::recorder::Recorder;
use super::{CommitError, Input, Output, StoreChange, Ticket, Transaction, boot, limits};
use crate::apply::{self, Difference, Resolved};
use crate::features::{group, instance, member, service, template};
use crate::governor;
use regrow_model::key::{Change, Record};
use regrow_model::observed::{Node, Phase};
use regrow_model::plan::CheckTarget;
use regrow_model::process::{Exit, ProcessId};
use regrow_model::view::Local;
use regrow_model::{
    Action, CauseId, Found, Held, InstanceId, Key, Kind, Name, Observation, Outcome, Plan, Planned, Recorded, Ref,
    Revision, Time, View,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// The rules of the runtime; see the module's documentation.
#[derive(Debug)]
pub struct Reconciler {
    node: Name,
    record: Node,
    view: View,
    recorder: Recorder,
    health: service::Health,
    busy: BTreeMap<Ref, Busy>,
    tickets: BTreeMap<Ticket, Whose>,
    next_ticket: u64,
    waiting: BTreeMap<Ref, Vec<Observation>>,
    asked: Vec<Asked>,
    cooling: Cooling,
    held: Vec<Held>,
    targets: Vec<CheckTarget>,
    adopted: bool,
    /// Where the leader's record of this node was created, while it leads.
    lead: Option<Revision>,
    /// What tells of this agent's start, until the store has it.
    arrival: Option<Planned>,
    /// Processes of this node whose records another node has taken over, and the chains in which that happened: to be
    /// stopped.
    superseded: BTreeMap<(InstanceId, u64), CauseId>,
    pruning: Option<Revision>,
    dirty: bool,
    recheck_at: Option<Time>,
    out: Vec<Output>,
}

/// Who waits for the answer to a commit or an action.
#[derive(Debug)]
enum Whose {
    Object(Ref),
    Asked(Asked, Vec<Difference>),
    Prune,
}

/// A command on its way.
#[derive(Debug)]
struct Asked {
    ticket: Ticket,
    command: Box<Command>,
    cause: CauseId,
    tries: u32,
    /// Worked out again when the view is newer than this.
    base: Option<Revision>,
}

/// What the keys of observed instances begin with.
const INSTANCES: &str = "/regrow/observed/instance/";

/// How often a command is worked out again when the records change in between.
const COMMAND_TRIES_MAX: u32 = 16;

impl Reconciler {
    /// A reconciler for the node `name`, described by `record`, which knows nothing yet.
    pub fn new(name: Name, record: Node, environment: BTreeMap<String, String>) -> Reconciler {
        let local = Local { environment, ..Local::default() };
        Reconciler {
            recorder: Recorder::new(name.clone()),
            node: name,
            record,
            view: View { local, ..View::default() },
            health: service::Health::default(),
            busy: BTreeMap::new(),
            tickets: BTreeMap::new(),
            next_ticket: 0,
            waiting: BTreeMap::new(),
            asked: Vec::new(),
            cooling: Cooling::default(),
            held: Vec::new(),
            targets: Vec::new(),
            adopted: false,
            lead: None,
            arrival: None,
            superseded: BTreeMap::new(),
            pruning: None,
            dirty: false,
            recheck_at: None,
            out: Vec::new(),
        }
    }

    /// The cluster as this node knows it.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The node that this is.
    pub fn node(&self) -> &Name {
        &self.node
    }

    /// What rules held back when it last planned.
    pub fn held(&self) -> &[Held] {
        &self.held
    }

    /// When to poll again even if nothing happens.
    pub fn wake_at(&self) -> Option<Time> {
        let stages = self.busy.values().filter_map(|busy| match &busy.stage {
            Stage::Acting { deadline } => Some(*deadline),
            Stage::Waiting { at, .. } => Some(*at),
            Stage::Intending | Stage::Recording { .. } | Stage::Settling { .. } => None,
        });
        stages.chain(self.recheck_at).min()
    }

    /// Whether everything of this node has stopped after a halt.
    pub fn is_halted(&self) -> bool {
        let ours = |node: &Name| *node == self.node;
        self.view.halt.is_some()
            && self.busy.is_empty()
            && !self.view.instances.values().any(|instance| ours(&instance.node) && instance.phase != Phase::Exited)
    }

    /// What applying a spec would change, and what would be done first.
    pub fn preview(&self, resolved: &Resolved, now: Time) -> (Vec<Difference>, Plan) {
        let cause = CauseId::new(now, 0);
        let applied = apply::apply(&self.view, resolved, &cause, now);
        let mut view = self.view.clone();
        let revision = Revision(view.revision.0 + 1);
        for change in applied.recorded.changes {
            match change {
                Change::Put(record) => view.put(record, revision),
                Change::Delete(key) => view.delete(&key),
            }
        }
        (applied.differences, Plans::of(&view, &self.node, self.leads(), now).merged())
    }

    /// What would be done now.
    pub fn plan(&self, now: Time) -> Plan {
        Plans::of(&self.view, &self.node, self.leads(), now).merged()
    }

    /// Whether this node plans for the cluster.
    pub fn leads(&self) -> bool {
        self.lead.is_some()
    }

    /// What a template renders to now; `None` when there is no such template.
    pub fn render(&self, name: &Name) -> Option<Result<template::RenderedSet, template::RenderError>> {
        self.view.templates.contains_key(name).then(|| template::render(&self.view, &self.node, name))
    }

    /// Takes in what happened. What is to be done comes from [`Reconciler::poll`].
    pub fn input(&mut self, input: Input, now: Time) {
        match input {
            Input::Changed { changes, revision } => self.changed(changes, revision),
            Input::Adopted { found, loaded, written } => {
                (self.view.local.loaded, self.view.local.written) = (loaded, written);
                self.booted(&found, now);
            }
            Input::Ended { ticket, outcome } => self.ended(ticket, outcome, now),
            Input::Seen(observation) => self.seen(observation, now),
            Input::Committed { ticket, result } => self.committed(ticket, result, now),
            Input::Members(peers) => {
                self.dirty |= peers != self.view.local.peers;
                self.view.local.peers = peers;
            }
            Input::Led(lead) => {
                self.dirty |= lead != self.lead;
                self.lead = lead;
            }
            Input::Asked { ticket, command } => {
                let cause = self.recorder.cause(now);
                let asked = Asked { ticket, command, cause, tries: 0, base: None };
                self.work_out(asked, now);
            }
        }
    }

    /// What is to be done now.
    pub fn poll(&mut self, now: Time) -> Vec<Output> {
        self.settle(now);
        let due = self.recheck_at.is_some_and(|at| at <= now);
        if self.adopted && (self.dirty || due) {
            self.dirty = false;
            self.recheck_at = None;
            self.cooling.tidy(now);
            let plans = Plans::of(&self.view, &self.node, self.leads(), now);
            self.carry_out(plans, now);
            // Afterwards: when to look again for it is added to what the plans ask for.
            self.stop_superseded(now);
            let targets = service::targets(&self.view, &self.node);
            if targets != self.targets {
                self.targets = targets.clone();
                self.out.push(Output::Check(targets));
            }
            self.prune();
        }
        std::mem::take(&mut self.out)
    }

    fn changed(&mut self, changes: Vec<StoreChange>, revision: Revision) {
        // A revision that changed nothing of the view is none to plan for; what waited for it is freed all the same.
        self.dirty |= !changes.is_empty();
        for change in changes {
            let ours = self.ours(&change.key);
            if let Err(error) = self.view.apply(&change.key, change.value.as_deref(), change.revision) {
                self.out.push(Output::BadRecord(format!(
                    "{error}: {}",
                    std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
                )));
            }
            if let Some((id, incarnation, cause)) = ours {
                let taken = self.view.instances.get(&id).is_none_or(|seen| seen.node != self.node);
                if taken {
                    self.superseded.insert((id, incarnation), cause);
                }
            }
        }
        self.view.revision = self.view.revision.max(revision);
    }

    /// The life of this node that the record at a key is about, if it may have a process.
    fn ours(&self, key: &str) -> Option<(InstanceId, u64, CauseId)> {
        let Key::Instance(id) = key.starts_with(INSTANCES).then(|| Key::parse(key))?? else { return None };
        let seen = self.view.instances.get(&id)?;
        let ours = seen.node == self.node && seen.phase != Phase::Exited;
        ours.then(|| (id, seen.incarnation, seen.cause.clone()))
    }

    /// Stops processes that were replaced while this node could not know.
    fn stop_superseded(&mut self, now: Time) {
        for ((id, incarnation), cause) in self.superseded.clone() {
            let object = Ref::instance(&id);
            if self.busy.contains_key(&object) {
                continue;
            }
            if let Some(until) = self.cooling.until(&object, now) {
                self.recheck_at = Some(self.recheck_at.map_or(until, |sooner| sooner.min(until)));
                continue;
            }
            let planned = instance::superseded(&self.view, &id, incarnation, &cause);
            self.dispatch(planned, None, now);
        }
    }

    fn booted(&mut self, found: &[Found], now: Time) {
        let cause = self.recorder.cause(now);
        let unseen = || Exit { code: None, signal: None, at: now, tail: String::new() };
        let boot = boot::compare(&self.view, &self.node, found, &cause, unseen);
        self.adopted = true;
        self.dirty = true;
        let object = Ref::new(Kind::Node, &self.node);
        let record = Record::Node(self.node.clone(), self.record.clone());
        let planned = Planned {
            object,
            action: Action::Record { changes: vec![Change::Put(record)] },
            why: "the agent has started".to_owned(),
            cause: cause.clone(),
            disrupts: None,
            given: Vec::new(),
            intent: Vec::new(),
            events: boot.events,
        };
        self.arrival = Some(planned.clone());
        self.dispatch(planned, None, now);
        for observation in boot.ended {
            self.seen(observation, now);
        }
        for (instance, incarnation) in boot.orphans {
            let signal = "TERM".to_owned();
            let action =
                Action::Stop { instance: instance.clone(), incarnation, signal, grace: Duration::from_secs(10) };
            let why = "nothing in the store asks for this process".to_owned();
            let (object, cause) = (Ref::instance(&instance), cause.clone());
            let (given, intent, events) = (Vec::new(), Vec::new(), Vec::new());
            let planned = Planned { object, action, why, cause, disrupts: None, given, intent, events };
            self.dispatch(planned, None, now);
        }
        for (instance, incarnation) in boot.superseded {
            self.superseded.insert((instance, incarnation), cause.clone());
        }
    }

    fn ended(&mut self, ticket: Ticket, outcome: Outcome, now: Time) {
        let Some(Whose::Object(object)) = self.tickets.remove(&ticket) else { return };
        let Some(busy) = self.busy.get_mut(&object).filter(|busy| busy.ticket == ticket) else { return };
        if let Some(planned) = &busy.planned {
            template::remember(&mut self.view.local, planned, &outcome);
        }
        if let (Some(Action::Stop { instance, incarnation, .. }), Outcome::Stopped { .. }) =
            (busy.planned.as_ref().map(|planned| &planned.action), &outcome)
        {
            self.superseded.remove(&(instance.clone(), *incarnation));
        }
        match &outcome {
            Outcome::Failed { .. } => self.cooling.failed(&object, now),
            _ => self.cooling.succeeded(&object),
        }
        if self.view.revision < busy.floor {
            let revision = busy.floor;
            let at = now.after(limits::RETRY_MAX);
            busy.stage = Stage::Waiting { origin: Origin::Outcome(outcome), failures: 0, revision, at };
        } else {
            self.record(&object, Origin::Outcome(outcome), 0, now);
        }
    }

    fn seen(&mut self, observation: Observation, now: Time) {
        let object = Ref::instance(instance_of(&observation));
        if self.busy.contains_key(&object) {
            let waiting = self.waiting.entry(object).or_default();
            waiting.retain(|old| !same_question(old, &observation));
            if waiting.len() < limits::OBSERVATIONS_WAITING_MAX {
                waiting.push(observation);
            }
            return;
        }
        let cause = self.recorder.cause(now);
        let origin = Origin::Seen(observation, cause);
        let (ticket, base) = (Ticket(0), self.view.revision);
        let stage = Stage::Recording { origin: origin.clone(), failures: 0 };
        self.busy.insert(object.clone(), Busy { ticket, stage, base, floor: Revision::ZERO, planned: None });
        self.record(&object, origin, 0, now);
    }

    /// Computes what an outcome or observation changes, and commits it.
    fn record(&mut self, object: &Ref, origin: Origin, failures: u32, now: Time) {
        let Some(busy) = self.busy.get_mut(object) else { return };
        let recorded = match (&origin, &busy.planned) {
            (Origin::Outcome(outcome), Some(planned)) => match planned.action {
                Action::Start { .. } | Action::Stop { .. } => {
                    instance::outcome(&self.view, &self.node, planned, outcome, now)
                }
                Action::Install { .. } | Action::Load { .. } | Action::Restore { .. } => {
                    template::outcome(&self.view, &self.node, planned, outcome, now)
                }
                Action::Record { .. } => Recorded::default(),
            },
            (Origin::Seen(Observation::Exited { instance, process, .. }, _), _)
                if is_another(&self.view, instance, *process) =>
            {
                Recorded::default()
            }
            (Origin::Seen(Observation::Exited { instance, incarnation, exit, .. }, cause), _) => {
                instance::exited(&self.view, &self.node, instance, *incarnation, exit, now, cause)
            }
            (
                Origin::Seen(Observation::Checked { service, instance, incarnation, check, passing, output }, cause),
                _,
            ) => {
                let (incarnation, passing) = (*incarnation, *passing);
                let result = service::Checked { service, instance, incarnation, check, passing, output };
                self.health.checked(&self.view, &self.node, &result, now, cause)
            }
            (Origin::Seen(Observation::Hooked { instance, incarnation, moment, succeeded, why }, _), _) => {
                let hooked = instance::Hooked { moment: *moment, succeeded: *succeeded, why };
                instance::hooked(&self.view, &self.node, instance, *incarnation, hooked, now)
            }
            (Origin::Outcome(_), None) => Recorded::default(),
        };
        if recorded.changes.is_empty() && recorded.events.is_empty() {
            self.dirty |= matches!(origin, Origin::Outcome(_));
            self.free(object, now);
            return;
        }
        busy.base = self.view.revision;
        busy.stage = Stage::Recording { origin, failures };
        self.commit_for(object, recorded, None, now);
    }

    fn commit_for(&mut self, object: &Ref, recorded: Recorded, fence: Option<Revision>, now: Time) {
        let planned = self.busy.get(object).filter(|busy| matches!(busy.stage, Stage::Intending));
        let given = planned.and_then(|busy| busy.planned.as_ref()).map_or(&[][..], |planned| &planned.given);
        let given: Vec<(Key, Revision)> = given.iter().map(|key| (key.clone(), self.view.revision_of(key))).collect();
        let ticket = self.ticket(Whose::Object(object.clone()));
        if let Some(busy) = self.busy.get_mut(object) {
            busy.ticket = ticket;
        }
        let mut transaction = Transaction { fence, ..self.transaction(recorded, now) };
        transaction.expect.extend(given);
        self.out.push(Output::Commit { ticket, transaction });
    }

    /// Compares every key that is written with the view, except those that only say "something changed" or are new.
    fn transaction(&mut self, recorded: Recorded, now: Time) -> Transaction {
        let base = self.view.revision;
        let mut transaction = Transaction { base, fence: None, expect: Vec::new(), changes: recorded.changes };
        for change in &transaction.changes {
            let key = change.key();
            if !matches!(key, Key::Service(_) | Key::Governor | Key::Event(_) | Key::Node(_) | Key::Listing(_)) {
                let revision = self.view.revision_of(&key);
                transaction.expect.push((key, revision));
            }
        }
        transaction.expect.dedup();
        transaction.changes.extend(self.recorder.stamp(&recorded.events, now));
        transaction
    }

    fn committed(&mut self, ticket: Ticket, result: Result<Revision, CommitError>, now: Time) {
        match self.tickets.remove(&ticket) {
            Some(Whose::Object(object)) => self.object_committed(&object, ticket, result, now),
            Some(Whose::Asked(asked, differences)) => self.asked_committed(asked, differences, result, now),
            Some(Whose::Prune) => self.pruning = result.ok(),
            None => {}
        }
    }

    fn object_committed(&mut self, object: &Ref, ticket: Ticket, result: Result<Revision, CommitError>, now: Time) {
        let Some(busy) = self.busy.get_mut(object).filter(|busy| busy.ticket == ticket) else { return };
        match (std::mem::replace(&mut busy.stage, Stage::Intending), result) {
            (Stage::Intending, Ok(revision)) => {
                if self.arrival.is_some() && busy.planned == self.arrival {
                    self.arrival = None;
                }
                let action = busy.planned.as_ref().map(|planned| planned.action.clone());
                match action {
                    None | Some(Action::Record { .. }) => busy.stage = Stage::Settling { revision },
                    Some(_) => {
                        busy.floor = revision;
                        self.act(object, now);
                    }
                }
            }
            (Stage::Intending, Err(error)) => {
                // Nothing was done yet: it is planned again, from a newer view or after a wait.
                let revision = Revision(busy.base.0 + 1);
                if error == CommitError::Conflict {
                    busy.stage = Stage::Settling { revision };
                } else {
                    self.cooling.failed(object, now);
                    self.free(object, now);
                    self.dirty = true;
                }
            }
            (Stage::Recording { .. }, Ok(revision)) => busy.stage = Stage::Settling { revision },
            (Stage::Recording { origin, failures }, Err(error)) => {
                let (revision, at) = match error {
                    CommitError::Conflict => (Revision(busy.base.0 + 1), now.after(limits::RETRY_MAX)),
                    CommitError::Unavailable(_) => (Revision(i64::MAX), now.after(backoff(failures))),
                };
                busy.stage = Stage::Waiting { origin, failures: failures.saturating_add(1), revision, at };
            }
            (stage @ (Stage::Acting { .. } | Stage::Waiting { .. } | Stage::Settling { .. }), _) => busy.stage = stage,
        }
    }

    fn act(&mut self, object: &Ref, now: Time) {
        let ticket = self.ticket(Whose::Object(object.clone()));
        let Some(busy) = self.busy.get_mut(object) else { return };
        let Some(planned) = &busy.planned else { return };
        let limit = own_time(&planned.action).saturating_add(limits::ACTION_TIME_MAX);
        busy.ticket = ticket;
        busy.stage = Stage::Acting { deadline: now.after(limit) };
        self.out.push(Output::Act { ticket, action: planned.action.clone(), cause: planned.cause.clone() });
    }

    /// Frees what the view has caught up with, tries again what is due, gives up on outcomes that do not come.
    fn settle(&mut self, now: Time) {
        let revision = self.view.revision;
        let ready = |busy: &Busy| match &busy.stage {
            Stage::Settling { revision: at } => *at <= revision,
            Stage::Waiting { revision: wanted, at, .. } => *wanted <= revision || *at <= now,
            Stage::Acting { deadline } => *deadline <= now,
            Stage::Intending | Stage::Recording { .. } => false,
        };
        let due: Vec<Ref> =
            self.busy.iter().filter(|(_, busy)| ready(busy)).map(|(object, _)| object.clone()).collect();
        for object in due {
            let Some(busy) = self.busy.get(&object) else { continue };
            match busy.stage.clone() {
                Stage::Waiting { origin, failures, .. } => self.record(&object, origin, failures, now),
                _ => {
                    self.tickets.remove(&busy.ticket);
                    if let (Stage::Acting { .. }, Some(planned)) = (&busy.stage, &busy.planned) {
                        template::forget(&mut self.view.local, planned);
                    }
                    self.dirty = true;
                    self.free(&object, now);
                }
            }
        }
        self.pruning = self.pruning.filter(|at| *at > revision);
        for asked in std::mem::take(&mut self.asked) {
            if asked.base.is_none_or(|base| base < revision) {
                self.work_out(asked, now);
            } else {
                self.asked.push(asked);
            }
        }
    }

    /// The object can be worked on again; what was seen meanwhile comes first.
    fn free(&mut self, object: &Ref, now: Time) {
        self.busy.remove(object);
        for observation in self.waiting.remove(object).unwrap_or_default() {
            self.seen(observation, now);
        }
    }

    /// The node's own plan, and the cluster's where this node leads. What rules hold back is told on every node.
    fn carry_out(&mut self, plans: Plans, now: Time) {
        let lead = self.lead;
        let own = self.arrival.clone().into_iter().chain(plans.node.actions).map(|planned| (planned, None));
        let cluster = plans.cluster.actions.into_iter().filter_map(|planned| Some((planned, Some(lead?))));
        let actions: Vec<(Planned, Option<Revision>)> = own.chain(cluster).collect();
        let mut rest = Plan { held: plans.node.held, recheck_at: plans.node.recheck_at, actions: Vec::new() };
        rest.merge(Plan { actions: Vec::new(), ..plans.cluster });
        self.held = rest.held;
        self.recheck_at = rest.recheck_at;
        // The governor weighed this plan against the view; a disruption that the view does not show yet would be
        // weighed twice.
        let unsettled = self.busy.values().any(|busy| busy.planned.as_ref().is_some_and(|p| p.disrupts.is_some()));
        for (planned, fence) in actions {
            if self.busy.contains_key(&planned.object) || unsettled && planned.disrupts.is_some() {
                continue;
            }
            if let Some(until) = self.cooling.until(&planned.object, now) {
                self.recheck_at = Some(self.recheck_at.map_or(until, |sooner| sooner.min(until)));
                continue;
            }
            self.dispatch(planned, fence, now);
        }
    }

    fn dispatch(&mut self, planned: Planned, fence: Option<Revision>, now: Time) {
        let object = planned.object.clone();
        let first = match &planned.action {
            Action::Record { changes } => Recorded { changes: changes.clone(), events: planned.events.clone() },
            _ => Recorded { changes: planned.intent.clone(), events: planned.events.clone() },
        };
        let (base, floor) = (self.view.revision, Revision::ZERO);
        let busy = Busy { ticket: Ticket(0), stage: Stage::Intending, base, floor, planned: Some(planned) };
        self.busy.insert(object.clone(), busy);
        if first.changes.is_empty() && first.events.is_empty() {
            self.act(&object, now);
        } else {
            self.commit_for(&object, first, fence, now);
        }
    }

    fn work_out(&mut self, mut asked: Asked, now: Time) {
        let base = self.view.revision;
        match asked.command.work_out(&self.view, &asked.cause, now) {
            Err(error) => self.answer(&asked, Err(error.into())),
            Ok((differences, recorded)) if recorded.changes.is_empty() => {
                self.answer(&asked, Ok(Answer { differences, revision: None, cause: asked.cause.clone() }));
            }
            Ok((differences, recorded)) => {
                asked.base = Some(base);
                asked.tries += 1;
                let transaction = self.transaction(recorded, now);
                let ticket = self.ticket(Whose::Asked(asked, differences));
                self.out.push(Output::Commit { ticket, transaction });
            }
        }
    }

    fn asked_committed(
        &mut self,
        asked: Asked,
        differences: Vec<Difference>,
        result: Result<Revision, CommitError>,
        now: Time,
    ) {
        match result {
            Ok(revision) => {
                let answer = Answer { differences, revision: Some(revision), cause: asked.cause.clone() };
                self.answer(&asked, Ok(answer));
            }
            Err(CommitError::Conflict) if asked.tries < COMMAND_TRIES_MAX => {
                self.asked.push(asked);
                self.settle(now);
            }
            Err(CommitError::Conflict) => self.answer(&asked, Err(CommandError::Contention(asked.tries))),
            Err(error @ CommitError::Unavailable(_)) => {
                self.answer(&asked, Err(CommandError::Store(error.to_string())));
            }
        }
    }

    fn answer(&mut self, asked: &Asked, result: Result<Answer, CommandError>) {
        self.out.push(Output::Answer { ticket: asked.ticket, result });
    }

    /// Removes the oldest events when there are too many, a bounded number at a time. The leader's business.
    fn prune(&mut self) {
        let Some(lead) = self.lead else { return };
        let most = regrow_model::limits::EVENTS_KEPT + limits::EVENTS_PRUNED_AT_ONCE;
        if self.pruning.is_some() || self.view.events.len() <= most {
            return;
        }
        let oldest = self.view.events.iter().take(limits::EVENTS_PRUNED_AT_ONCE);
        let changes = oldest.map(|id| Change::Delete(Key::Event(id.clone()))).collect();
        self.pruning = Some(Revision(i64::MAX));
        let ticket = self.ticket(Whose::Prune);
        let (base, fence) = (self.view.revision, Some(lead));
        self.out.push(Output::Commit { ticket, transaction: Transaction { base, fence, expect: Vec::new(), changes } });
    }

    fn ticket(&mut self, whose: Whose) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, whose);
        ticket
    }
}

/// What all planners want, by who may have it done.
struct Plans {
    /// This node's own objects.
    node: Plan,
    /// The cluster's, which only the leader carries out: what disrupts is here, so the governor weighs it.
    cluster: Plan,
}

impl Plans {
    fn of(view: &View, node: &Name, leads: bool, now: Time) -> Plans {
        // Verdicts on nodes come first: what they change is what the others wait for.
        let mut own = member::plan(view, node, leads, now);
        own.merge(template::plan(view, node, now));
        own.merge(instance::plan(view, node, now));
        let mut cluster = member::confirm(view, now);
        cluster.merge(group::plan(view, now));
        Plans { node: own, cluster: governor::admit(view, now, cluster) }
    }

    fn merged(mut self) -> Plan {
        self.node.merge(self.cluster);
        self.node
    }
}

fn instance_of(observation: &Observation) -> &InstanceId {
    match observation {
        Observation::Exited { instance, .. }
        | Observation::Hooked { instance, .. }
        | Observation::Checked { instance, .. } => instance,
    }
}

/// Whether an instance is recorded with another process than this one.
fn is_another(view: &View, instance: &InstanceId, process: Option<ProcessId>) -> bool {
    let known = view.instances.get(instance).and_then(|instance| instance.process);
    known.zip(process).is_some_and(|(known, seen)| known != seen)
}

/// Whether a newer observation makes an older one moot.
fn same_question(old: &Observation, new: &Observation) -> bool {
    match (old, new) {
        (Observation::Checked { check: a, service: s, .. }, Observation::Checked { check: b, service: t, .. }) => {
            a == b && s == t
        }
        (Observation::Exited { incarnation: a, .. }, Observation::Exited { incarnation: b, .. }) => a == b,
        (
            Observation::Hooked { incarnation: a, moment: m, .. },
            Observation::Hooked { incarnation: b, moment: n, .. },
        ) => a == b && m == n,
        _ => false,
    }
}
