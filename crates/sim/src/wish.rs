//! What the users of a run want: a small cluster whose specs change.

use crate::program::Program;
use crate::rng::Rng;
use crate::world::{Flaw, READ};
use regrow_control::apply::Resolved;
use regrow_model::desired::Source;
use regrow_model::duration::Span;
use regrow_model::spec::{
    Backoff, Check, Governor, Group, Guard, Limits, Logs, Ports, Probe, Provider, Reload, Service, Spec, Stop,
    Template, Update, Wait,
};
use regrow_model::{Kind, Name, Ref};
use std::collections::BTreeMap;
use std::time::Duration;

/// One spec as its user thinks of it.
#[derive(Clone, Debug)]
pub struct Wish {
    version: u64,
    /// Backends, with checks and in the pool.
    web: Part,
    /// Workers without a service; not in every spec.
    jobs: Option<Part>,
    /// Reading programs; not in every spec.
    proxy: Option<Part>,
    /// They are told through a runtime socket.
    socket: bool,
    /// What is wrong with the template that they read.
    flaw: Option<Flaw>,
    /// A number in the template's text.
    option: u64,
    /// A second template, told by a command.
    notes: bool,
}

/// One group.
#[derive(Clone, Debug)]
struct Part {
    /// Makes its command differ from those before it.
    version: u64,
    size: u32,
    program: Program,
    max_unavailable: u32,
    max_surge: u32,
    drain: Duration,
    grace: Duration,
}

impl Wish {
    /// The first spec of a run: everything in it is good.
    pub fn first(rng: &mut Rng) -> Wish {
        let wide = rng.chance(300);
        let mut proxy = Part::draw(rng, 1);
        proxy.program.reader = true;
        proxy.size = if rng.chance(200) { 2 } else { 1 };
        Wish {
            version: 1,
            web: Part::draw(rng, if wide { 5 } else { 3 }),
            jobs: rng.chance(500).then(|| Part::draw(rng, 2)),
            socket: proxy.size == 1 && rng.chance(500),
            proxy: rng.chance(850).then_some(proxy),
            flaw: None,
            option: 0,
            notes: rng.chance(500),
        }
    }

    /// One group of so many good instances, and nothing else: for a cluster of several nodes.
    pub fn fleet(rng: &mut Rng, size: u32) -> Wish {
        let program = Program::GOOD;
        let web = Part { size, program, max_unavailable: 1, max_surge: 0, drain: Duration::ZERO, ..Part::draw(rng, 1) };
        Wish { version: 1, web, jobs: None, proxy: None, socket: false, flaw: None, option: 0, notes: false }
    }

    /// Another spec, one change away. `may_be_bad`: what it brings may be worth nothing.
    pub fn change(&mut self, rng: &mut Rng, may_be_bad: bool) {
        self.version += 1;
        match rng.between(0, 9) {
            0..=2 => self.web.renew(program(rng, may_be_bad), self.version),
            3 => self.web.size = u32::try_from(rng.between(0, 5)).unwrap_or(3),
            4 => self.web = Part { program: self.web.program, version: self.web.version, ..Part::draw(rng, 4) },
            5 | 6 => {
                self.option += 1;
                self.flaw = may_be_bad.then(|| rng.pick(&Flaw::ALL).copied()).flatten().filter(|_| rng.chance(700));
            }
            7 => self.jobs = if self.jobs.is_some() && rng.chance(300) { None } else { Some(Part::draw(rng, 2)) },
            8 => {
                if let Some(proxy) = &mut self.proxy {
                    proxy.renew(Program { reader: true, ..program(rng, false) }, self.version);
                }
            }
            _ => self.notes = !self.notes,
        }
    }

    /// Everything bad is taken back.
    pub fn mend(&mut self) {
        self.version += 1;
        self.flaw = None;
        self.option += 1;
        let parts = [Some(&mut self.web), self.jobs.as_mut(), self.proxy.as_mut()];
        for part in parts.into_iter().flatten().filter(|part| !part.program.is_good()) {
            part.renew(Program { reader: part.program.reader, ..Program::GOOD }, self.version);
        }
    }

    /// The names of its groups.
    pub fn groups(&self) -> Vec<Name> {
        let parts = [("web", true), ("jobs", self.jobs.is_some()), ("proxy", self.proxy.is_some())];
        parts.into_iter().filter(|(_, there)| *there).map(|(text, _)| name(text)).collect()
    }

    /// The spec, as an agent is asked to apply it.
    pub fn resolved(&self) -> Resolved {
        let mut spec = Spec {
            cluster: name("shop"),
            services: BTreeMap::from([(name("web"), service())]),
            groups: BTreeMap::from([(name("web"), self.web.group(Some("web"), (20_000, 20_040)))]),
            templates: BTreeMap::new(),
            jobs: BTreeMap::new(),
            schedules: BTreeMap::new(),
            governor: Governor::default(),
        };
        let mut sources = BTreeMap::new();
        if let Some(jobs) = &self.jobs {
            spec.groups.insert(name("jobs"), jobs.group(None, (21_000, 21_040)));
        }
        if let Some(proxy) = &self.proxy {
            let mut group = proxy.group(None, (22_000, 22_040));
            group.after = vec![Ref::new(Kind::Template, &name(READ))];
            spec.groups.insert(name("proxy"), group);
            let mut template = template("haproxy.cfg.j2", "run/haproxy.cfg");
            template.check = vec!["haproxy".to_owned(), "-c".to_owned(), "{staged}".to_owned()];
            template.reload = Some(reload(Some(name("proxy")), self.socket));
            template.probe = Some(probe());
            spec.templates.insert(name(READ), template);
            sources.insert(name(READ), vec![self.source("haproxy.cfg.j2", self.flaw)]);
        }
        if self.notes {
            let mut template = template("notes.j2", "run/notes");
            template.reload = Some(reload(None, false));
            template.wait = Wait { min: Span::millis(500), max: Span::secs(2) };
            template.guard = Guard { refuse_empty: false, ..Guard::default() };
            spec.templates.insert(name("notes"), template);
            sources.insert(name("notes"), vec![self.source("notes.j2", None)]);
        }
        Resolved { spec, root: "/srv/shop".to_owned(), sources }
    }

    fn source(&self, file: &str, flaw: Option<Flaw>) -> Source {
        let flaw = flaw.map_or(String::new(), |flaw| format!("{}\n", flaw.line()));
        let text = format!(
            "backend web\n    balance roundrobin\n    option {}\n{flaw}{}",
            self.option,
            "{% for e in services.web %}\n    server {{ e.id }} {{ e.address }}:{{ e.port }} check\n{% endfor %}\n"
        );
        Source { name: file.to_owned(), text }
    }
}

impl Part {
    fn draw(rng: &mut Rng, most: u64) -> Part {
        let size = u32::try_from(rng.between(1, most)).unwrap_or(1);
        let max_unavailable = u32::try_from(rng.between(0, 2)).unwrap_or(1);
        let max_surge = if max_unavailable == 0 { 1 } else { u32::from(rng.chance(300)) };
        Part {
            version: rng.between(1, 1_000_000),
            size,
            program: program(rng, false),
            max_unavailable,
            max_surge,
            drain: rng.millis(0, 1_500),
            grace: rng.millis(500, 4_000),
        }
    }

    fn renew(&mut self, program: Program, version: u64) {
        (self.program, self.version) = (program, version);
    }

    fn group(&self, service: Option<&str>, ports: (u16, u16)) -> Group {
        Group {
            service: service.map(name),
            size: self.size,
            provider: Provider::Process,
            command: self.program.words(self.version),
            directory: None,
            environment: BTreeMap::new(),
            user: None,
            limits: Limits::default(),
            port: Ports { first: ports.0, last: ports.1 },
            after: Vec::new(),
            update: Update {
                max_unavailable: self.max_unavailable,
                max_surge: self.max_surge,
                health_within: Span::secs(8),
                rollback: true,
            },
            min_healthy: None,
            drain: Span(self.drain),
            stop: Stop { signal: "TERM".to_owned(), grace: Span(self.grace) },
            backoff: Backoff { first: Span::secs(1), max: Span::secs(5), reset: Span::secs(5) },
            grace: Span::secs(3),
            replace_failing: Span::secs(10),
            hooks: Default::default(),
            logs: Logs::default(),
        }
    }
}

/// A program for a new version.
fn program(rng: &mut Rng, may_be_bad: bool) -> Program {
    let good = Program {
        healthy_after: Some(rng.millis(50, 2_000)),
        stops_after: rng.chance(850).then(|| rng.millis(5, 3_000)),
        ..Program::GOOD
    };
    if !may_be_bad || rng.chance(400) {
        return good;
    }
    match rng.between(0, 3) {
        0 => Program { ends_after: Some(rng.millis(5, 300)), ..good },
        1 => Program { ends_after: Some(rng.millis(2_000, 12_000)), ..good },
        2 => Program { healthy_after: None, ..good },
        _ => Program { missing: true, ..good },
    }
}

fn service() -> Service {
    let check = Check {
        http: Some("/healthz".to_owned()),
        tcp: false,
        script: Vec::new(),
        process: false,
        interval: Span::secs(2),
        timeout: Span::millis(500),
        rise: 1,
        fall: 2,
    };
    Service { checks: vec![check], tags: Vec::new() }
}

fn template(source: &str, destination: &str) -> Template {
    Template {
        source: Some(source.to_owned()),
        destination: Some(destination.to_owned()),
        mode: None,
        owner: None,
        files: Vec::new(),
        vars: BTreeMap::new(),
        keys: Vec::new(),
        prefix: None,
        check: Vec::new(),
        reload: None,
        probe: None,
        guard: Guard::default(),
        wait: Wait::default(),
    }
}

fn reload(group: Option<Name>, socket: bool) -> Reload {
    Reload {
        signal: group.as_ref().map(|_| "USR2".to_owned()),
        command: if group.is_none() { vec!["tell-notes".to_owned()] } else { Vec::new() },
        group,
        haproxy_socket: socket.then(|| "run/haproxy.sock".to_owned()),
        timeout: Span::secs(30),
    }
}

fn probe() -> Probe {
    Probe { http: None, tcp: None, command: vec!["prove".to_owned()], within: Span::secs(5) }
}

/// A name that is known to be one.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text).expect("a name of this crate")
}
