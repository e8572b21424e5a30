//! The driver of a reconciler: as dull as the real one. Feeds what has arrived, polls, does what it is told.

use super::{Cluster, Decided, Doing, Step};
use crate::properties::{self, Property};
use crate::wish::name;
use regrow_control::reconcile::{CommitError, Input, Output, Reconciler, Ticket, Transaction};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::Node;
use regrow_model::view::SetContents;
use regrow_model::{Observation, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// An agent that is alive.
pub(super) struct Agent {
    pub(super) number: u64,
    pub(super) reconciler: Reconciler,
    /// The earliest time for which it is planned to be polled.
    wakes_at: Option<Time>,
    delivering: bool,
}

impl Cluster<'_> {
    /// Starts an agent: it takes back the order to stop everything, loads what is in the store and finds what lives in
    /// the world. Where the store cannot take that, it does not start, and is started again.
    pub(super) fn start_agent(&mut self) {
        if self.store.truth().halt.is_some() {
            if self.spells.is_full() {
                return self.timeline.plan(Duration::from_secs(1), Step::Start);
            }
            let changes = vec![Change::Delete(Key::Halt)];
            let _ = self.store.commit(Transaction { changes, ..Transaction::default() });
        }
        self.agents += 1;
        let now = self.timeline.now();
        let record = Node { address: "127.0.0.1".to_owned(), version: "0.1.0".to_owned(), since: now, away: false };
        let mut reconciler = Reconciler::new(name("n1"), record, BTreeMap::new());
        let (changes, revision) = self.store.load();
        reconciler.input(Input::Changed { changes, revision }, now);
        // The only agent of the cluster.
        reconciler.input(Input::Led(Some(revision)), now);
        let found = self.world.found();
        let (mut loaded, mut written) = (BTreeMap::new(), BTreeMap::new());
        let disk = self.world.disk();
        for ((template, _), status) in &reconciler.view().template_status {
            let set = |digest| Some(SetContents { digest, contents: disk.kept(template, digest)? });
            if let Some(set) = status.loaded.as_ref().and_then(|loaded| set(loaded.digest)) {
                loaded.insert(template.clone(), set);
            }
            if let Some(set) = disk.placed(template).and_then(set) {
                written.insert(template.clone(), set);
            }
        }
        self.note(|| format!("agent starts at revision {revision}, finds {found:?}"));
        reconciler.input(Input::Adopted { found, loaded, written }, now);
        self.agent = Some(Agent { number: self.agents, reconciler, wakes_at: None, delivering: false });
        self.checks.clear();
        self.poll();
    }

    /// The agent dies. What it was doing has been done, or has not.
    pub(super) fn kill_agent(&mut self) {
        let Some(agent) = self.agent.take() else { return };
        self.note(|| "agent dies".to_owned());
        self.stops.clear();
        for (number, doing) in std::mem::take(&mut self.doing) {
            if self.rng.chance(500) {
                self.doing.insert(number, Doing { ticket: None, ..doing });
                self.carry_out(agent.number, number);
            }
        }
        self.asking.agent_died(&mut self.timeline);
    }

    /// Tells the agent something, if it is the one that is meant.
    pub(super) fn tell(&mut self, number: u64, input: Input) {
        if self.agent.as_ref().is_none_or(|agent| agent.number != number) {
            return;
        }
        if !matches!(&input, Input::Seen(Observation::Checked { .. })) {
            // Checks say most and mean least.
            self.note(|| told(&input));
        }
        let Some(input) = self.seam.tell(input) else { return };
        if let Some(agent) = &mut self.agent {
            agent.reconciler.input(input, self.timeline.now());
        }
        self.poll();
    }

    pub(super) fn deliver(&mut self, number: u64) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.number == number) else { return };
        agent.delivering = false;
        let (changes, revision) = self.store.deliver();
        self.tell(number, Input::Changed { changes, revision });
    }

    pub(super) fn wake(&mut self, number: u64) {
        let Some(agent) = self.agent.as_mut().filter(|agent| agent.number == number) else { return };
        agent.wakes_at = None;
        self.poll();
    }

    pub(super) fn poll(&mut self) {
        let now = self.timeline.now();
        let Some(agent) = &mut self.agent else { return };
        let number = agent.number;
        for output in agent.reconciler.poll(now) {
            self.follow(number, output);
        }
        let Some(agent) = &mut self.agent else { return };
        if agent.reconciler.is_halted() {
            self.note(|| "everything is stopped, the agent ends".to_owned());
            self.kill_agent();
            let away = self.rng.millis(10, 5_000);
            self.timeline.plan(away, Step::Start);
            return;
        }
        if let Some(at) = agent.reconciler.wake_at().map(|at| at.max(now.after(Duration::from_millis(1))))
            && agent.wakes_at.is_none_or(|planned| at < planned)
        {
            agent.wakes_at = Some(at);
            self.timeline.plan_at(at, Step::Wake { agent: number });
        }
    }

    fn follow(&mut self, agent: u64, output: Output) {
        match output {
            Output::Commit { ticket, transaction } => self.send_commit(ticket, transaction),
            Output::Act { ticket, action, cause } => {
                self.note(|| format!("act {ticket:?} {} ({cause})", acted(&action)));
                let wrong = self.truth().caused(&action, &cause);
                self.judge(Property::Cause, wrong);
                self.begin(agent, ticket, action);
            }
            Output::Check(targets) => self.replace_checks(agent, targets),
            Output::Answer { ticket, result } => self.answered(ticket, result),
            Output::BadRecord(error) => panic!("the reconciler cannot read a record of its own: {error}"),
        }
    }

    /// A commit on its way to the store.
    fn send_commit(&mut self, ticket: Ticket, transaction: Transaction) {
        let Some(agent) = &self.agent else { return };
        let transaction = self.seam.commit(self.store.truth(), transaction);
        let view = agent.reconciler.view();
        let decided = Decided { leaving: properties::leaving(view, &transaction), guarded: properties::guarded(view) };
        let mut delay = self.rng.millis(0, 3);
        if self.rng.chance(self.faults.commit_slow) {
            delay = self.rng.millis(100, 4_000);
        }
        self.timeline.plan(delay, Step::Commit { agent: agent.number, ticket, transaction, decided });
    }

    /// The store takes a commit in, or refuses it.
    pub(super) fn take_in(&mut self, agent: u64, ticket: Ticket, transaction: Transaction, decided: &Decided) {
        // The last words of an agent that has died may get through, or not; once the next one has read the store they
        // do not.
        let last_words = self.agent.is_none() && agent == self.agents && self.rng.chance(500);
        let alive = self.agent.as_ref().is_some_and(|known| known.number == agent);
        if !alive && !last_words {
            return;
        }
        let result = if self.spells.is_full() {
            Err(CommitError::Unavailable("no space left on device".to_owned()))
        } else if !self.store.holds(&transaction) {
            Err(CommitError::Conflict)
        } else {
            self.judge_commit(&transaction, decided);
            self.note(|| committed(ticket, &transaction));
            self.store.commit(transaction)
        };
        if let Err(error) = &result {
            self.note(|| format!("commit {ticket:?}: {error}"));
        }
        if result.is_ok() {
            self.plan_delivery();
        }
        let delay = self.rng.millis(0, 3);
        let input = Box::new(Input::Committed { ticket, result });
        self.timeline.plan(delay, Step::Tell { agent, input });
    }

    fn judge_commit(&mut self, transaction: &Transaction, decided: &Decided) {
        let truth = self.truth();
        let (floor, rooted, honest) =
            (truth.floor(&decided.leaving), truth.rooted(transaction), truth.honest(transaction));
        self.judge(Property::Floor, floor);
        self.judge(Property::Cause, rooted);
        self.judge(Property::Loaded, honest);
        self.properties.remember(transaction, &decided.leaving);
        if decided.guarded {
            self.properties.excuse(transaction);
        }
    }

    /// Has the store's changes reach the agent.
    pub(super) fn plan_delivery(&mut self) {
        let mut delay = self.rng.millis(0, 3);
        if self.rng.chance(self.faults.watch_slow) {
            delay = self.rng.millis(50, 3_000);
        }
        let Some(agent) = self.agent.as_mut().filter(|agent| !agent.delivering) else { return };
        agent.delivering = true;
        self.timeline.plan(delay, Step::Deliver { agent: agent.number });
    }
}

fn told(input: &Input) -> String {
    match input {
        Input::Changed { revision, changes } => format!("told: {} changes up to {revision}", changes.len()),
        Input::Ended { ticket, outcome } => format!("told: {ticket:?} ended: {outcome:?}"),
        Input::Seen(observation) => format!("told: {observation:?}"),
        Input::Committed { ticket, result } => format!("told: {ticket:?} committed: {result:?}"),
        Input::Asked { ticket, command } => format!("told: {ticket:?} asks {command:?}"),
        Input::Members(peers) => format!("told: {} members", peers.by_name.len()),
        Input::Led(lead) => format!("told: leads {lead:?}"),
        Input::Adopted { .. } => "told: adopted".to_owned(),
    }
}

pub(crate) fn acted(action: &regrow_model::Action) -> String {
    use regrow_model::Action;
    match action {
        Action::Start { instance, incarnation, .. } => format!("start {instance} life {incarnation}"),
        Action::Stop { instance, incarnation, .. } => format!("stop {instance} life {incarnation}"),
        Action::Install { template, digest, .. } => format!("install {template} {}", digest.short()),
        Action::Load { template, digest, tell, .. } => format!("load {template} {} {tell:?}", digest.short()),
        Action::Restore { template, digest, tell, .. } => format!("restore {template} {} {tell:?}", digest.short()),
        Action::Record { .. } => "record".to_owned(),
    }
}

fn committed(ticket: Ticket, transaction: &Transaction) -> String {
    let mut line = format!("commit {ticket:?}:");
    for change in &transaction.changes {
        line.push_str("\n            ");
        match change {
            Change::Put(Record::Event(_, event)) => {
                line.push_str(&format!("event {} {} {} ({})", event.kind, event.object, event.message, event.cause));
            }
            Change::Put(Record::Assignment(id, next)) => line.push_str(&format!(
                "assign {id} life {} {:?} {} port {} ({})",
                next.incarnation,
                next.goal,
                next.version.short(),
                next.port,
                next.cause
            )),
            Change::Put(Record::Instance(id, next)) => {
                line.push_str(&format!("instance {id} life {} {:?}", next.incarnation, next.phase));
            }
            Change::Put(Record::Endpoint(_, id, next)) => {
                line.push_str(&format!("endpoint {id} life {} {:?}", next.incarnation, next.state));
            }
            Change::Put(Record::Template(name, _, next)) => {
                let digest = |set: &Option<regrow_model::observed::Rendered>| {
                    set.as_ref()
                        .map_or("-".to_owned(), |set| format!("{} {:?}", set.digest.short(), set.inputs.services))
                };
                line.push_str(&format!(
                    "template {name} written {} loaded {} problem {:?}",
                    digest(&next.written),
                    digest(&next.loaded),
                    next.problem.as_ref().map(|problem| (problem.stage, &problem.reason))
                ));
            }
            Change::Put(record) => line.push_str(&format!("put {}", record.key())),
            Change::Delete(key) => line.push_str(&format!("delete {key}")),
        }
    }
    line
}
