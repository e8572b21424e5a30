//! A small world for the tests of this crate: one node whose processes, checks and templates do as they are told.
//! Every plan goes through the governor and is carried out at once, or as much of it as a test lets through.

use crate::features::service::{Checked, Health, targets};
use crate::features::{group, instance};
use crate::governor::admit;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{EndpointState, Inputs, Phase, Rendered, WorldError, WorldErrorKind};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{
    Action, CauseId, Digest, Event, EventId, InstanceId, Name, Outcome, Plan, Planned, Recorded, Revision, Time, View,
    desired, observed, spec,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// More rounds than any change of these tests needs: whoever does not settle plans in circles.
const ROUNDS_MAX: usize = 500;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

pub(crate) fn id(text: &str) -> InstanceId {
    text.parse().expect("an instance's id")
}

/// What becomes of one action of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing: the transaction did not go through, or its turn does not come.
    Left,
    /// It is done, and the agent ends before it has recorded so.
    Lost,
    /// It is done and recorded.
    Done,
}

pub(crate) struct World {
    pub(crate) view: View,
    pub(crate) now: Time,
    pub(crate) events: Vec<(EventId, Event)>,
    /// Pid and life of each process that is there.
    pub(crate) processes: BTreeMap<InstanceId, (u64, u32)>,
    /// Instances whose checks fail.
    pub(crate) sick: BTreeSet<InstanceId>,
    /// Programs that cannot be started, and why.
    pub(crate) refused: BTreeMap<String, WorldErrorKind>,
    /// Ports that somebody else has.
    pub(crate) foreign_ports: BTreeSet<u16>,
    /// Programs whose checks fail.
    pub(crate) broken: BTreeSet<String>,
    /// Programs that end as soon as they have started.
    pub(crate) crashing: BTreeSet<String>,
    /// Templates load what is there.
    pub(crate) loading: bool,
    health: Health,
    salt: u64,
}

impl World {
    pub(crate) fn new() -> World {
        let mut world = World {
            view: View::default(),
            now: Time(1_000_000),
            events: Vec::new(),
            processes: BTreeMap::new(),
            sick: BTreeSet::new(),
            refused: BTreeMap::new(),
            foreign_ports: BTreeSet::new(),
            broken: BTreeSet::new(),
            crashing: BTreeSet::new(),
            loading: true,
            health: Health::default(),
            salt: 0,
        };
        let node =
            observed::Node { address: "127.0.0.1".into(), version: "0.1.0".into(), since: world.now, away: false };
        world.put(Record::Node(name("n1"), node));
        world
    }

    /// A service `web` with one check, and a group `web` of `sleep` in it, as `changes` says otherwise.
    pub(crate) fn web(changes: Value) -> World {
        let mut world = World::new();
        world.service("web", json!({"checks": [{"http": "/", "fall": 1}]}));
        world.group("web", changes);
        world
    }

    pub(crate) fn cause(&mut self) -> CauseId {
        self.salt += 1;
        CauseId::new(self.now, self.salt)
    }

    pub(crate) fn put(&mut self, record: Record) {
        let revision = Revision(self.view.revision.0 + 1);
        self.view.put(record, revision);
    }

    pub(crate) fn service(&mut self, service: &str, spec: Value) {
        let spec = serde_json::from_value(spec).expect("a service's spec");
        let cause = self.cause();
        self.put(Record::DesiredService(name(service), desired::Service { spec, cause }));
    }

    pub(crate) fn group(&mut self, group: &str, changes: Value) {
        let mut spec = json!({
            "service": group, "size": 3, "provider": "process", "command": ["v1", "${PORT}"], "drain": "0s",
        });
        let fields = changes.as_object().expect("an object").clone();
        spec.as_object_mut().expect("an object").extend(fields);
        if spec["service"].is_null() {
            spec.as_object_mut().expect("an object").remove("service");
        }
        let spec: spec::Group = serde_json::from_value(spec).expect("a group's spec");
        let cause = self.cause();
        let group = (name(group), Box::new(desired::Group { spec, root: "/srv".into(), replace: 0, cause }));
        self.put(Record::DesiredGroup(group.0, group.1));
    }

    pub(crate) fn template(&mut self, template: &str, services: &[&str]) {
        let spec = serde_json::from_value(json!({"source": "a", "destination": "b"})).expect("a template's spec");
        let cause = self.cause();
        let wanted = desired::Template { spec, root: "/srv".into(), sources: Vec::new(), cause };
        self.put(Record::DesiredTemplate(name(template), Box::new(wanted)));
        let services = services.iter().map(|service| (name(service), Revision::ZERO)).collect();
        let inputs = Inputs { services, ..Inputs::default() };
        self.load(&name(template), inputs);
    }

    fn load(&mut self, template: &Name, inputs: Inputs) {
        let digest = Digest::of([format!("{inputs:?}").as_bytes()]);
        let cause = self.cause();
        let set = Rendered { digest, inputs, at: self.now, cause };
        let status = observed::Template { written: Some(set.clone()), loaded: Some(set), ..Default::default() };
        self.put(Record::Template(template.clone(), name("n1"), Box::new(status)));
    }

    /// The template's guard refuses the newest state of a service.
    pub(crate) fn refuse(&mut self, template: &str, service: &str) {
        let key = (name(template), name("n1"));
        let mut status = observed::Template::clone(&self.view.template_status[&key]);
        let index = self.view.revision_of(&Key::Service(name(service)));
        status.problem = Some(observed::Problem {
            stage: observed::Stage::Guard,
            reason: "would be empty".into(),
            input: format!("service/{service}"),
            since: self.now,
            failures: 1,
            retry_at: self.now,
            inputs: Inputs { services: [(name(service), index)].into(), ..Inputs::default() },
            digest: None,
            cause: self.cause(),
        });
        self.put(Record::Template(key.0, key.1, Box::new(status)));
    }

    pub(crate) fn governor(&mut self, governor: Value) {
        let cause = self.cause();
        self.put(Record::Cluster(desired::Cluster {
            name: name("shop"),
            root: "/srv".into(),
            governor: serde_json::from_value(governor).expect("a governor's spec"),
            cause,
            at: self.now,
        }));
    }

    pub(crate) fn pause(&mut self, until: Option<Time>) {
        let cause = self.cause();
        self.put(Record::Pause(desired::Pause { why: "night".into(), until, cause, at: self.now }));
    }

    pub(crate) fn halt(&mut self) {
        let cause = self.cause();
        self.put(Record::Halt(desired::Halt { cause, at: self.now }));
    }

    /// What both planners want now, after the governor.
    pub(crate) fn plan(&self) -> Plan {
        let mut plan = group::plan(&self.view, self.now);
        plan.merge(instance::plan(&self.view, &name("n1"), self.now));
        admit(&self.view, self.now, plan)
    }

    /// Carries out one plan, one action an object, as `fate` says of each, and gives back whether any was.
    pub(crate) fn round(&mut self, mut fate: impl FnMut(&Planned) -> Fate) -> (Plan, bool) {
        let plan = self.plan();
        let mut busy = BTreeSet::new();
        let mut moved = false;
        for planned in &plan.actions {
            let fate = if busy.insert(planned.object.clone()) { fate(planned) } else { Fate::Left };
            if fate != Fate::Left {
                self.carry_out(planned, fate);
                moved = true;
            }
        }
        (plan, moved)
    }

    fn carry_out(&mut self, planned: &Planned, fate: Fate) {
        self.check_disruption(planned);
        let outcome = match &planned.action {
            Action::Record { changes } => {
                let (changes, events) = (changes.clone(), planned.events.clone());
                return self.commit(Recorded { changes, events });
            }
            Action::Start { instance, incarnation, process, listen } => {
                self.commit(Recorded { changes: planned.intent.clone(), events: planned.events.clone() });
                self.start(instance, *incarnation, &process.command[0], listen)
            }
            Action::Stop { instance, incarnation, .. } => {
                self.commit(Recorded { changes: planned.intent.clone(), events: planned.events.clone() });
                if self.processes.get(instance).is_some_and(|(life, _)| life == incarnation) {
                    self.processes.remove(instance);
                }
                Outcome::Stopped { exit: self.exit(15) }
            }
            other => panic!("these planners never want to {}", other.verb()),
        };
        if fate == Fate::Done {
            let recorded = instance::outcome(&self.view, &name("n1"), planned, &outcome, self.now);
            self.commit(recorded);
        }
    }

    fn start(&mut self, id: &InstanceId, life: u64, program: &str, listen: &Option<(String, u16)>) -> Outcome {
        let taken = listen.as_ref().is_some_and(|(_, port)| self.foreign_ports.contains(port));
        let kind = self.refused.get(program).copied().or(taken.then_some(WorldErrorKind::PortInUse));
        if let Some(kind) = kind {
            let text = format!("{program}: {kind:?}");
            return Outcome::Failed { stage: None, error: WorldError { kind, text } };
        }
        let there = self.processes.get(id).copied();
        assert!(there.is_none_or(|(old, _)| old == life), "two lives of {id} at once");
        let pid = there.map_or(self.salt as u32 + 100, |(_, pid)| pid);
        self.salt += 1;
        self.processes.insert(id.clone(), (life, pid));
        Outcome::Started { process: ProcessId { pid, start_ticks: 1 }, adopted: there.is_some() }
    }

    fn exit(&self, signal: i32) -> Exit {
        Exit { code: None, signal: Some(signal), at: self.now, tail: String::new() }
    }

    /// The property that comes first: what is taken away on purpose leaves the floor.
    fn check_disruption(&self, planned: &Planned) {
        let Some(disruption) = planned.disrupts.as_ref().filter(|_| self.view.halt.is_none()) else { return };
        let Some(group) = self.view.groups.get(&disruption.group) else { return };
        assert!(self.view.pause.is_none(), "{} while paused", planned.why);
        let serving = |id: &InstanceId| self.view.assignments[id].goal == desired::Goal::Run && self.serves(id);
        if serving(&disruption.instance) {
            let left = self.view.assignments_of(&disruption.group).filter(|(id, _)| serving(id)).count() - 1;
            let floor = group.spec.floor();
            assert!(left >= floor as usize, "{} leaves {left} of {floor}", planned.why);
        }
    }

    /// It serves as the records say it, by the rules of whichever version it is of.
    pub(crate) fn serves(&self, id: &InstanceId) -> bool {
        let endpoint = self.view.endpoints.values().find_map(|all| all.get(id));
        let running = self.view.instances.get(id).is_some_and(|instance| instance.phase == Phase::Running);
        running && endpoint.is_none_or(|endpoint| endpoint.state == EndpointState::Passing)
    }

    pub(crate) fn commit(&mut self, recorded: Recorded) {
        let revision = Revision(self.view.revision.0 + 1);
        let mut touched = BTreeSet::new();
        let mut indexed = BTreeSet::new();
        for change in &recorded.changes {
            match change.key() {
                Key::Endpoint(service, _) => drop(touched.insert(service)),
                Key::Service(service) => drop(indexed.insert(service)),
                _ => {}
            }
        }
        assert_eq!(touched, indexed, "an endpoint is written with its service's index");
        for change in recorded.changes {
            match change {
                // Through JSON, as in the store.
                Change::Put(record) => {
                    let key = record.key().to_string();
                    self.view.apply(&key, Some(&record.to_json()), revision).expect("a record fits its key");
                }
                Change::Delete(key) => self.view.delete(&key),
            }
        }
        recorded.events.into_iter().for_each(|event| self.tell(event));
    }

    /// A start of the agent: it goes on after a halt, and sees what has ended in between.
    pub(crate) fn restart(&mut self) {
        self.view.halt = None;
        let before = &self.view.nodes[&name("n1")].value;
        let node = observed::Node { since: self.now, ..observed::Node::clone(before) };
        self.put(Record::Node(name("n1"), node));
        for (id, seen) in self.view.instances.clone() {
            let there = self.processes.get(&id).is_some_and(|(life, _)| *life == seen.incarnation);
            if seen.phase == Phase::Running && !there {
                let (exit, cause) = (self.exit(9), self.cause());
                let recorded =
                    instance::exited(&self.view, &name("n1"), &id, seen.incarnation, &exit, self.now, &cause);
                self.commit(recorded);
            }
        }
    }

    fn tell(&mut self, draft: Draft) {
        let event_id = EventId::new(self.now, self.events.len() as u32, &name("n1"));
        let Draft { kind, object, message, detail, cause } = draft;
        let event = Event { at: self.now, node: name("n1"), kind, object, message, detail, cause };
        self.events.push((event_id, event));
    }

    /// The end of a process that nobody asked for.
    pub(crate) fn kill(&mut self, instance: &InstanceId) {
        let Some((life, _)) = self.processes.remove(instance) else { return };
        let (exit, cause) = (self.exit(9), self.cause());
        let recorded = instance::exited(&self.view, &name("n1"), instance, life, &exit, self.now, &cause);
        self.commit(recorded);
    }

    /// Programs end, checks run once, templates load: what the world does between two plans. Gives back whether
    /// anything changed.
    pub(crate) fn live(&mut self) -> bool {
        let before = self.view.revision;
        let command = |world: &World, id: &InstanceId| {
            world.view.assignments.get(id).map(|assignment| assignment.process.command[0].clone()).unwrap_or_default()
        };
        for instance in self.processes.keys().cloned().collect::<Vec<_>>() {
            if self.crashing.contains(&command(self, &instance)) {
                self.kill(&instance);
            }
        }
        for target in targets(&self.view, &name("n1")) {
            let fails = self.sick.contains(&target.instance) || self.broken.contains(&command(self, &target.instance));
            let result = Checked {
                service: &target.service,
                instance: &target.instance,
                incarnation: target.incarnation,
                check: &target.checks[0].label(),
                passing: !fails,
                output: if fails { "500 oh no" } else { "200 OK" },
            };
            let cause = self.cause();
            let recorded = self.health.checked(&self.view, &name("n1"), &result, self.now, &cause);
            self.commit_if_any(recorded);
        }
        for ((template, _), status) in self.view.template_status.clone() {
            let Some(set) = status.loaded.as_ref().filter(|_| self.loading) else { continue };
            let newest = |service: &Name| self.view.revision_of(&Key::Service(service.clone()));
            let services = set.inputs.services.keys().map(|service| (service.clone(), newest(service))).collect();
            if services != set.inputs.services {
                self.load(&template, Inputs { services, ..Inputs::default() });
            }
        }
        self.view.revision != before
    }

    fn commit_if_any(&mut self, recorded: Recorded) {
        if recorded != Recorded::default() {
            self.commit(recorded);
        }
    }

    /// Plans and lives until nothing changes; gives back the last plan.
    pub(crate) fn settle(&mut self) -> Plan {
        for _ in 0..ROUNDS_MAX {
            let (plan, moved) = self.round(|_| Fate::Done);
            if !self.live() && !moved {
                return plan;
            }
        }
        panic!("does not settle:\n{}", lines(&self.plan()));
    }

    /// Lets `length` pass, looking again whenever a plan asks for it.
    pub(crate) fn pass(&mut self, length: Duration) -> Plan {
        let end = self.now.after(length);
        for _ in 0..ROUNDS_MAX {
            let plan = self.settle();
            if self.now >= end {
                return plan;
            }
            self.now = plan.recheck_at.filter(|at| *at > self.now).map_or(end, |at| at.min(end));
        }
        panic!("asks to look again all the time:\n{}", lines(&self.plan()));
    }

    pub(crate) fn told(&self, kind: EventKind) -> Vec<String> {
        let told = self.events.iter().filter(|(_, event)| event.kind == kind);
        told.map(|(_, event)| format!("{}: {}", event.object, event.message)).collect()
    }

    /// Slots with life, first word of the command, and port of what serves.
    pub(crate) fn serving(&self) -> Vec<String> {
        let serving = self.view.assignments.iter().filter(|(id, _)| self.serves(id));
        serving
            .map(|(id, wanted)| format!("{id} {} {} :{}", wanted.incarnation, wanted.process.command[0], wanted.port))
            .collect()
    }
}

/// A plan as lines: what is to be done and why, then what is held.
pub(crate) fn lines(plan: &Plan) -> String {
    let mut out = String::new();
    for planned in &plan.actions {
        let disrupts = if planned.disrupts.is_some() { " (disrupts)" } else { "" };
        out.push_str(&format!("{} {}: {}{disrupts}\n", planned.action.verb(), planned.object, planned.why));
    }
    for held in &plan.held {
        let rule = serde_json::to_value(held.rule).expect("a rule");
        out.push_str(&format!("held {}: {} [{}] {}\n", held.object, held.what, rule.as_str().unwrap_or(""), held.why));
    }
    out
}
