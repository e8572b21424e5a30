//! A small cluster that tests change by hand, standing in for the store and for whoever carries plans out.

use crate::features::template;
use regrow_model::desired::{self, Assignment, Goal, Source};
use regrow_model::key::Record;
use regrow_model::observed::{self, Endpoint, EndpointState, Phase, Stage, WorldError, WorldErrorKind};
use regrow_model::process::{LogKeep, Process};
use regrow_model::{
    Action, CauseId, Digest, InstanceId, Key, Name, Outcome, Plan, Planned, Revision, Time, View, key, spec,
};
use std::collections::BTreeMap;

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn id(text: &str) -> InstanceId {
    text.parse().unwrap()
}

/// One node, `n1`, at a time that the test moves.
pub(super) struct Cluster {
    pub(super) view: View,
    pub(super) now: Time,
    /// Events as `kind: message`, in order.
    pub(super) events: Vec<String>,
}

impl Cluster {
    pub(super) fn new() -> Cluster {
        let mut cluster = Cluster { view: View::default(), now: Time(1_000_000), events: Vec::new() };
        let cause = cluster.cause();
        let record = desired::Cluster {
            name: name("shop"),
            root: "/srv".to_owned(),
            governor: spec::Governor::default(),
            cause,
            at: cluster.now,
        };
        cluster.put(Record::Cluster(record));
        cluster
    }

    pub(super) fn put(&mut self, record: Record) {
        let revision = Revision(self.view.revision.0 + 1);
        self.view.put(record, revision);
    }

    pub(super) fn cause(&self) -> CauseId {
        CauseId::new(self.now, self.view.revision.0 as u64)
    }

    pub(super) fn later(&mut self, ms: u64) {
        self.now = Time(self.now.0 + ms);
    }

    /// A template with one source, changed as the test likes.
    pub(super) fn template(&mut self, text: &str, change: impl FnOnce(&mut spec::Template)) {
        let mut spec: spec::Template =
            serde_json::from_str(r#"{"source": "web.j2", "destination": "run/web.cfg", "wait": {"min": "0s"}}"#)
                .unwrap();
        change(&mut spec);
        let source = Source { name: spec.source.clone().unwrap(), text: text.to_owned() };
        let record = desired::Template { spec, root: "/srv".to_owned(), sources: vec![source], cause: self.cause() };
        self.put(Record::DesiredTemplate(name("web"), Box::new(record)));
    }

    /// A group that runs on this node, with one process that runs since now.
    pub(super) fn reader(&mut self, instance: &str, phase: Phase) {
        let (id, cause) = (id(instance), self.cause());
        let process = Process {
            command: vec!["haproxy".to_owned()],
            directory: "/srv".to_owned(),
            environment: BTreeMap::new(),
            user: None,
            limits: spec::Limits::default(),
            logs: LogKeep { bytes: 1, files: 1 },
        };
        let version = Digest::of([]);
        let assignment = Assignment {
            node: name("n1"),
            incarnation: 1,
            goal: Goal::Run,
            version,
            process,
            address: "127.0.0.1".to_owned(),
            port: 8080,
            not_before: self.now,
            crashes: 0,
            cause: cause.clone(),
            at: self.now,
        };
        self.put(Record::Assignment(id.clone(), Box::new(assignment)));
        let instance = observed::Instance {
            node: name("n1"),
            incarnation: 1,
            phase,
            version,
            process: None,
            exit: None,
            error: None,
            hooks: Default::default(),
            since: self.now,
            cause,
        };
        self.put(Record::Instance(id, Box::new(instance)));
    }

    /// Makes exactly these endpoints of `web` healthy, as `web-0:21000`; the service is there afterwards.
    pub(super) fn endpoints(&mut self, endpoints: &[&str]) {
        let cause = self.cause();
        if !self.view.services.contains_key(&name("web")) {
            let spec = spec::Service::default();
            self.put(Record::DesiredService(name("web"), desired::Service { spec, cause: cause.clone() }));
        }
        let revision = Revision(self.view.revision.0 + 1);
        let before: Vec<InstanceId> =
            self.view.endpoints.get(&name("web")).into_iter().flatten().map(|(id, _)| id.clone()).collect();
        for id in before {
            self.view.delete(&Key::Endpoint(name("web"), id));
        }
        for endpoint in endpoints {
            let (instance, port) = endpoint.split_once(':').unwrap();
            let endpoint = Endpoint {
                node: name("n1"),
                instance: id(instance),
                incarnation: 1,
                address: "127.0.0.1".to_owned(),
                port: port.parse().unwrap(),
                state: EndpointState::Passing,
                checks: BTreeMap::new(),
                since: self.now,
                cause: cause.clone(),
            };
            self.view.put(Record::Endpoint(name("web"), id(instance), Box::new(endpoint)), revision);
        }
        self.view.put(Record::Service(name("web"), observed::Service { cause, at: self.now }), revision);
    }

    /// A user's key.
    pub(super) fn key(&mut self, key: &str, value: Option<&str>) {
        let revision = Revision(self.view.revision.0 + 1);
        self.view.apply(key, value.map(str::as_bytes), revision).unwrap();
    }

    /// What a source of the given name renders to, or its error.
    pub(super) fn render(&mut self, source: &str, text: &str) -> String {
        let keys = vec!["/".to_owned()];
        self.template(text, |spec| {
            spec.source = Some(source.to_owned());
            if spec.keys.is_empty() {
                spec.keys = keys;
            }
        });
        match template::render(&self.view, &name("n1"), &name("web")) {
            Ok(set) => set.files[0].content.to_string(),
            Err(error) => format!("error: {error}"),
        }
    }

    pub(super) fn plan(&self) -> Plan {
        template::plan(&self.view, &name("n1"), self.now)
    }

    /// The only action that is planned.
    pub(super) fn step(&self) -> Planned {
        let plan = self.plan();
        assert_eq!(plan.actions.len(), 1, "one action: {:?}, held {:?}", plan.actions, plan.held);
        plan.actions.into_iter().next().unwrap()
    }

    /// Nothing is planned; what is held, as `rule: why`.
    pub(super) fn held(&self) -> Vec<String> {
        let plan = self.plan();
        assert_eq!(plan.actions, [], "held: {:?}", plan.held);
        plan.held.iter().map(|held| format!("{:?}: {}", held.rule, held.why)).collect()
    }

    /// Does the next action with the given outcome and records what comes of it; returns it.
    pub(super) fn act(&mut self, outcome: Outcome) -> Planned {
        let planned = self.step();
        self.come_of(&planned, &outcome);
        planned
    }

    /// Does the next action, a record.
    pub(super) fn write(&mut self) -> Planned {
        let planned = self.step();
        let Action::Record { changes } = &planned.action else { panic!("a record, not {:?}", planned.action) };
        self.commit(changes);
        self.tell(&planned.events);
        planned
    }

    pub(super) fn come_of(&mut self, planned: &Planned, outcome: &Outcome) {
        let recorded = template::outcome(&self.view, &name("n1"), planned, outcome, self.now);
        template::remember(&mut self.view.local, planned, outcome);
        self.commit(&recorded.changes);
        self.tell(&recorded.events);
    }

    fn commit(&mut self, changes: &[key::Change]) {
        let revision = Revision(self.view.revision.0 + 1);
        for change in changes {
            match change {
                key::Change::Put(record) => {
                    // Through JSON, as through the store.
                    let record = Record::from_json(&record.key(), &record.to_json()).unwrap();
                    self.view.put(record, revision);
                }
                key::Change::Delete(key) => self.view.delete(key),
            }
        }
    }

    fn tell(&mut self, drafts: &[regrow_model::event::Draft]) {
        self.events.extend(drafts.iter().map(|draft| format!("{}: {}", draft.kind, draft.message)));
    }

    /// Installs and loads whatever comes next.
    pub(super) fn install_and_load(&mut self) {
        assert_eq!(self.act(Outcome::Installed).action.verb(), "install");
        assert_eq!(self.act(told()).action.verb(), "load");
    }

    pub(super) fn status(&self) -> observed::Template {
        let status = &self.view.template_status[&(name("web"), name("n1"))];
        (*status.value).clone()
    }
}

pub(super) fn told() -> Outcome {
    Outcome::Loaded { how: "told".to_owned() }
}

pub(super) fn failed(stage: Stage, text: &str) -> Outcome {
    Outcome::Failed { stage: Some(stage), error: WorldError { kind: WorldErrorKind::Refused, text: text.to_owned() } }
}

/// The content of the only file of an installation.
pub(super) fn content(planned: &Planned) -> String {
    let Action::Install { files, .. } = &planned.action else { panic!("an install, not {:?}", planned.action) };
    files[0].content.to_string()
}
