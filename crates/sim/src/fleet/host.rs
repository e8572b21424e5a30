//! A node: its agent, and the processes that it runs.

use super::network::Opinion;
use super::{BEAT, CHECKS, Fleet, LEASE, Step};
use crate::seam::Deed;
use crate::wish::name;
use regrow_control::reconcile::{CommitError, Input, Output, Reconciler, StoreChange, Ticket, Transaction};
use regrow_model::key::{Change, Record};
use regrow_model::observed::Node;
use regrow_model::plan::CheckTarget;
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, Found, InstanceId, Name, Observation, Outcome, Peers, Revision, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// The last life of a slot on a node.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) incarnation: u64,
    pub(super) process: ProcessId,
    pub(super) exit: Option<Exit>,
    pub(super) alive: bool,
}

#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Name,
    /// The machine has power.
    pub(super) up: bool,
    pub(super) paused: bool,
    pub(super) agent: Option<Reconciler>,
    /// Which of its agents this is.
    pub(super) life: u64,
    pub(super) started: Time,
    pub(super) slots: BTreeMap<InstanceId, Life>,
    pub(super) lease: Option<Time>,
    pub(super) incarnation: u32,
    pub(super) opinions: BTreeMap<usize, Opinion>,
    pub(super) told_members: Option<Peers>,
    led: Option<Revision>,
    undelivered: Vec<StoreChange>,
    delivering: bool,
    wakes_at: Option<Time>,
    targets: Vec<CheckTarget>,
    pids: u32,
}

impl Host {
    pub(super) fn new(number: usize) -> Host {
        Host {
            name: name(&format!("n{}", number + 1)),
            up: true,
            paused: false,
            agent: None,
            life: 0,
            started: Time(0),
            slots: BTreeMap::new(),
            lease: None,
            incarnation: 0,
            opinions: BTreeMap::new(),
            told_members: None,
            led: None,
            undelivered: Vec::new(),
            delivering: false,
            wakes_at: None,
            targets: Vec::new(),
            pids: 0,
        }
    }

    /// Whether it answers gossip.
    pub(super) fn gossips(&self) -> bool {
        self.agent.is_some() && !self.paused
    }
}

impl Fleet<'_> {
    /// Starts an agent, if the machine has power and the store is there.
    pub(super) fn start_agent(&mut self, host: usize) {
        if !self.hosts[host].up || self.hosts[host].agent.is_some() {
            return;
        }
        if !self.network.store[host] || self.hosts[host].paused {
            return self.timeline.plan(Duration::from_secs(1), Step::Start { host });
        }
        let now = self.timeline.now();
        let (changes, revision) = self.store.content();
        let one = &mut self.hosts[host];
        one.life += 1;
        (one.started, one.wakes_at, one.delivering, one.told_members, one.led) = (now, None, false, None, None);
        one.undelivered.clear();
        one.opinions.clear();
        one.incarnation += 1;
        one.lease = Some(now.after(LEASE));
        let record = Node { address: format!("10.0.0.{}", host + 1), version: "1".to_owned(), since: now, away: false };
        let mut reconciler = Reconciler::new(one.name.clone(), record, BTreeMap::new());
        reconciler.input(Input::Changed { changes, revision }, now);
        let found = one.slots.iter().map(|(instance, life)| Found {
            instance: instance.clone(),
            incarnation: life.incarnation,
            process: life.alive.then_some(life.process),
            exit: life.exit.clone(),
        });
        let found = found.collect();
        reconciler.input(Input::Adopted { found, loaded: BTreeMap::new(), written: BTreeMap::new() }, now);
        one.agent = Some(reconciler);
        let (life, name) = (one.life, one.name.clone());
        self.note(|| format!("the agent of {name} starts"));
        self.timeline.plan(Duration::ZERO, Step::Beat { host, life });
        self.timeline.plan(CHECKS, Step::Check { host, life });
        self.poll(host);
    }

    /// The agent dies; what it ran goes on.
    pub(super) fn kill_agent(&mut self, host: usize) {
        self.hosts[host].agent = None;
        self.hosts[host].targets.clear();
    }

    fn is(&self, host: usize, life: u64) -> bool {
        self.hosts[host].life == life && self.hosts[host].agent.is_some()
    }

    pub(super) fn tell(&mut self, host: usize, life: u64, input: Input) {
        if !self.is(host, life) {
            return;
        }
        let Some(input) = self.seam.tell(input) else { return };
        let now = self.timeline.now();
        if let Some(agent) = &mut self.hosts[host].agent {
            agent.input(input, now);
        }
        self.poll(host);
    }

    pub(super) fn wake(&mut self, host: usize, life: u64) {
        if self.is(host, life) {
            self.hosts[host].wakes_at = None;
            self.poll(host);
        }
    }

    fn poll(&mut self, host: usize) {
        let now = self.timeline.now();
        let Some(agent) = &mut self.hosts[host].agent else { return };
        let outputs = agent.poll(now);
        let frozen = agent.held().iter().any(|held| held.rule == regrow_model::plan::Rule::Freeze);
        self.tally.frozen += u32::from(frozen);
        for output in outputs {
            self.follow(host, output);
        }
        let life = self.hosts[host].life;
        let Some(agent) = &self.hosts[host].agent else { return };
        if let Some(at) = agent.wake_at().map(|at| at.max(now.after(Duration::from_millis(1))))
            && self.hosts[host].wakes_at.is_none_or(|planned| at < planned)
        {
            self.hosts[host].wakes_at = Some(at);
            self.timeline.plan_at(at, Step::Wake { host, life });
        }
    }

    fn follow(&mut self, host: usize, output: Output) {
        let life = self.hosts[host].life;
        match output {
            Output::Commit { ticket, transaction } => {
                self.judge_decision(host, &transaction);
                let transaction = self.seam.commit(self.store.truth(), transaction);
                let delay = self.rng.millis(0, 8);
                self.timeline.plan(delay, Step::Commit { host, life, ticket, transaction });
            }
            Output::Act { ticket, action, .. } => {
                let delay = self.rng.millis(1, 60);
                match self.seam.act(action) {
                    Deed::Do(actions) => {
                        for action in actions {
                            self.timeline.plan(delay, Step::Act { host, life, ticket, action });
                        }
                    }
                    Deed::Claim(outcome) => {
                        let input = Box::new(Input::Ended { ticket, outcome });
                        self.timeline.plan(delay, Step::Tell { host, life, input });
                    }
                }
            }
            Output::Check(targets) => self.hosts[host].targets = targets,
            Output::Answer { result, .. } => assert!(result.is_ok(), "the spec is good: {result:?}"),
            Output::BadRecord(error) => panic!("the reconciler cannot read a record of its own: {error}"),
        }
    }

    /// The store takes a commit in, or refuses it.
    pub(super) fn take_in(&mut self, host: usize, life: u64, ticket: Ticket, transaction: Transaction) {
        let fenced = transaction.fence.is_none_or(|term| self.leader == Some((host, term)));
        // What is put under a lease that has ended is refused.
        let leased = !transaction.changes.iter().any(|change| matches!(change, Change::Put(Record::Node(..))))
            || self.hosts[host].lease.is_some();
        let result = if !self.network.store[host] || !leased {
            Err(CommitError::Unavailable("the store does not answer".to_owned()))
        } else if !fenced || !self.store.holds(&transaction) {
            Err(CommitError::Conflict)
        } else {
            self.judge_commit(host, &transaction);
            let name = self.hosts[host].name.clone();
            self.note(|| format!("{name} commits {}", said(&transaction)));
            Ok(self.write(transaction))
        };
        let delay = self.rng.millis(0, 8);
        let input = Box::new(Input::Committed { ticket, result });
        self.timeline.plan(delay, Step::Tell { host, life, input });
    }

    /// Writes, and has every agent told.
    pub(super) fn write(&mut self, transaction: Transaction) -> Revision {
        let Ok(revision) = self.store.commit(transaction) else { return self.store.revision() };
        let (changes, _) = self.store.deliver();
        for host in 0..self.hosts.len() {
            self.hosts[host].undelivered.extend(changes.iter().cloned());
            self.plan_delivery(host);
        }
        revision
    }

    fn plan_delivery(&mut self, host: usize) {
        if self.hosts[host].delivering || self.hosts[host].agent.is_none() {
            return;
        }
        self.hosts[host].delivering = true;
        let delay = self.rng.millis(0, 15);
        let life = self.hosts[host].life;
        self.timeline.plan(delay, Step::Deliver { host, life });
    }

    pub(super) fn deliver(&mut self, host: usize, life: u64) {
        if !self.is(host, life) {
            return;
        }
        if !self.network.store[host] {
            return self.timeline.plan(Duration::from_millis(500), Step::Deliver { host, life });
        }
        self.hosts[host].delivering = false;
        let changes = std::mem::take(&mut self.hosts[host].undelivered);
        let revision = self.store.revision();
        self.tell(host, life, Input::Changed { changes, revision });
    }

    /// Keeps the lease alive, takes a new one where it has ended, and runs for leader.
    pub(super) fn beat(&mut self, host: usize, life: u64) {
        if !self.is(host, life) {
            return;
        }
        self.timeline.plan(BEAT, Step::Beat { host, life });
        if !self.network.store[host] {
            return;
        }
        let now = self.timeline.now();
        let lost = self.hosts[host].lease.is_none();
        self.hosts[host].lease = Some(now.after(LEASE));
        if lost {
            let address = format!("10.0.0.{}", host + 1);
            let node = Node { address, version: "1".to_owned(), since: self.hosts[host].started, away: false };
            let changes = vec![Change::Put(Record::Node(self.hosts[host].name.clone(), node))];
            self.write(Transaction { changes, ..Transaction::default() });
        }
        if self.leader.is_none() {
            self.terms += 1;
            self.leader = Some((host, Revision(self.terms)));
        }
        let led = self.leader.filter(|(leader, _)| *leader == host).map(|(_, term)| term);
        if self.hosts[host].led != led {
            self.hosts[host].led = led;
            let name = self.hosts[host].name.clone();
            self.note(|| format!("{name} leads: {led:?}"));
            self.tell(host, life, Input::Led(led));
        }
    }

    pub(super) fn act(&mut self, host: usize, life: u64, ticket: Ticket, action: &Action) {
        let now = self.timeline.now();
        if !self.hosts[host].up || self.hosts[host].life != life {
            return;
        }
        let one = &mut self.hosts[host];
        let outcome = match action {
            Action::Start { instance, incarnation, .. } => {
                let there = one.slots.get(instance).filter(|slot| slot.alive && slot.incarnation == *incarnation);
                let (process, adopted) = match there {
                    Some(slot) => (slot.process, true),
                    None => {
                        one.pids += 1;
                        (ProcessId { pid: one.pids, start_ticks: u64::from(one.pids) }, false)
                    }
                };
                let slot = Life { incarnation: *incarnation, process, exit: None, alive: true };
                one.slots.insert(instance.clone(), slot);
                Outcome::Started { process, adopted }
            }
            Action::Stop { instance, incarnation, .. } => {
                let exit = Exit { code: None, signal: Some(15), at: now, tail: String::new() };
                if let Some(slot) = one.slots.get_mut(instance).filter(|slot| slot.incarnation == *incarnation) {
                    (slot.alive, slot.exit) = (false, Some(exit.clone()));
                }
                Outcome::Stopped { exit }
            }
            other => panic!("a fleet has no templates, and is to {}", other.verb()),
        };
        let name = one.name.clone();
        self.note(|| format!("{name} does {}", crate::cluster::acted(action)));
        self.tell(host, life, Input::Ended { ticket, outcome });
    }

    pub(super) fn check(&mut self, host: usize, life: u64) {
        if !self.is(host, life) {
            return;
        }
        self.timeline.plan(CHECKS, Step::Check { host, life });
        for target in self.hosts[host].targets.clone() {
            let slot = self.hosts[host].slots.get(&target.instance);
            let passing = slot.is_some_and(|slot| slot.alive && slot.incarnation == target.incarnation);
            for check in &target.checks {
                let (service, instance, incarnation) =
                    (target.service.clone(), target.instance.clone(), target.incarnation);
                let (check, output) = (check.label(), if passing { "200" } else { "refused" }.to_owned());
                let seen = Observation::Checked { service, instance, incarnation, check, passing, output };
                self.tell(host, life, Input::Seen(seen));
            }
        }
    }
}

fn said(transaction: &Transaction) -> String {
    let line = |change: &Change| match change {
        Change::Put(Record::Event(_, event)) => format!("[{} {}: {}]", event.kind, event.object, event.message),
        Change::Put(Record::Member(name, next)) => {
            let (confirmed, overruled) = (next.confirmed.is_some(), next.overruled);
            format!("member {name} {:?} life {} {confirmed} {overruled}", next.standing, next.incarnation)
        }
        Change::Put(Record::Assignment(id, next)) => {
            format!("assign {id} life {} {:?} to {}", next.incarnation, next.goal, next.node)
        }
        Change::Put(Record::Instance(id, next)) => {
            format!("instance {id} life {} {:?} on {}", next.incarnation, next.phase, next.node)
        }
        Change::Put(Record::Endpoint(_, id, next)) => {
            format!("endpoint {id} life {} {:?} on {}", next.incarnation, next.state, next.node)
        }
        Change::Put(record) => format!("put {}", record.key()),
        Change::Delete(key) => format!("delete {key}"),
    };
    transaction.changes.iter().map(line).collect::<Vec<_>>().join("; ")
}
