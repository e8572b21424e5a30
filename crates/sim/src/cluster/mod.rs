//! The cluster of a run: an agent, a store, a world, and what is still to happen to them.

mod act;
mod agent;
mod checks;
mod fault;
mod user;

use crate::faults::Faults;
use crate::properties::{Leaving, Properties, Property, Truth, Violation};
use crate::rng::Rng;
use crate::seam::Seam;
use crate::store::Store;
use crate::timeline::Timeline;
use crate::workload::Users;
use crate::world::World;
use agent::Agent;
pub(crate) use agent::acted;
use checks::Checks;
use regrow_control::reconcile::{Input, Ticket, Transaction};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, Time};
use std::collections::BTreeMap;
use user::Asking;

/// Something that is to happen.
#[derive(Debug)]
enum Step {
    /// The store takes in a commit.
    Commit { agent: u64, ticket: Ticket, transaction: Transaction, decided: Decided },
    /// The agent is told something. Of an agent that has died meanwhile nobody is told.
    Tell { agent: u64, input: Box<Input> },
    /// The store's changes reach the agent.
    Deliver { agent: u64 },
    /// The agent asked to be polled.
    Wake { agent: u64 },
    /// The world does an action.
    Act { agent: u64, number: u64 },
    /// A process ends.
    End { process: ProcessId, exit: Exit },
    /// A check runs.
    Check { agent: u64, check: checks::Id },
    /// The users ask for the next thing.
    Ask,
    /// A command is asked, or asked again.
    Command { number: u64 },
    /// A fault strikes.
    Strike(fault::Fault),
    /// A spell of trouble is over.
    Over(fault::Fault),
    /// The agent starts.
    Start,
}

/// What an agent knew when it made a transaction, as far as properties ask for it.
#[derive(Debug)]
struct Decided {
    leaving: Vec<Leaving>,
    guarded: bool,
}

/// An action on its way to the world.
#[derive(Debug)]
struct Doing {
    ticket: Option<Ticket>,
    action: Action,
}

/// See the module.
pub(crate) struct Cluster<'s> {
    timeline: Timeline<Step>,
    rng: Rng,
    faults: Faults,
    /// Nothing ever goes wrong by itself in this run.
    calm: bool,
    spells: fault::Spells,
    store: Store,
    world: World,
    agent: Option<Agent>,
    /// Agents that have been started.
    agents: u64,
    doing: BTreeMap<u64, Doing>,
    next_doing: u64,
    /// Who waits for the end of a process.
    stops: BTreeMap<ProcessId, Vec<(u64, Ticket)>>,
    checks: Checks,
    users: Users,
    asking: Asking,
    properties: Properties,
    seam: &'s mut dyn Seam,
    violation: Option<Violation>,
    steps: u64,
    trace: Option<Vec<String>>,
}

impl<'s> Cluster<'s> {
    /// A cluster that has never been started.
    pub(crate) fn new(mut rng: Rng, faults: Faults, seam: &'s mut dyn Seam, traced: bool) -> Cluster<'s> {
        let users = Users::new(rng.fork());
        let mut cluster = Cluster {
            timeline: Timeline::new(),
            rng,
            calm: faults == Faults::default(),
            faults,
            spells: fault::Spells::default(),
            store: Store::default(),
            world: World::default(),
            agent: None,
            agents: 0,
            doing: BTreeMap::new(),
            next_doing: 0,
            stops: BTreeMap::new(),
            checks: Checks::default(),
            users,
            asking: Asking::default(),
            properties: Properties::default(),
            seam,
            violation: None,
            steps: 0,
            trace: traced.then(Vec::new),
        };
        cluster.start_agent();
        let first = cluster.users.first();
        cluster.ask(first);
        cluster.timeline.plan(std::time::Duration::ZERO, Step::Ask);
        cluster.plan_faults();
        cluster
    }

    /// Lets things happen until `last`, or until a property does not hold.
    pub(crate) fn until(&mut self, last: Time) -> Result<(), Violation> {
        while let Some(step) = self.timeline.next(last) {
            self.steps += 1;
            self.step(step);
            if let Some(violation) = self.violation.take() {
                return Err(violation);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Commit { agent, ticket, transaction, decided } => self.take_in(agent, ticket, transaction, &decided),
            Step::Tell { agent, input } => self.tell(agent, *input),
            Step::Deliver { agent } => self.deliver(agent),
            Step::Wake { agent } => self.wake(agent),
            Step::Act { agent, number } => self.carry_out(agent, number),
            Step::End { process, exit } => self.end(process, &exit),
            Step::Check { agent, check } => self.check(agent, check),
            Step::Ask => self.ask_next(),
            Step::Command { number } => self.put_command(number),
            Step::Strike(fault) => self.strike(fault),
            Step::Over(fault) => self.spells.end(fault, &mut self.world),
            Step::Start => self.start_agent(),
        }
    }

    /// From now on nothing goes wrong, and the users want what they want.
    pub(crate) fn clear_up(&mut self) {
        self.faults = Faults::default();
        self.spells = fault::Spells::default();
        self.world.steal(None);
        self.asking.stop_asking();
        for command in self.users.last() {
            self.ask(command);
        }
        self.note(|| "--- nothing goes wrong from here on ---".to_owned());
    }

    /// Whether everything is as it is to be in the end, or what is not yet.
    pub(crate) fn settled(&self) -> Result<(), Violation> {
        let truth = self.truth();
        if !self.asking.is_empty() {
            let wrong = Err(format!("a command was not answered: {:?}", self.asking));
            return truth.violation(Property::Size, wrong).map_or(Ok(()), Err);
        }
        let size = truth.violation(Property::Size, truth.size());
        size.or_else(|| truth.violation(Property::Loaded, truth.loaded())).map_or(Ok(()), Err)
    }

    pub(crate) fn now(&self) -> Time {
        self.timeline.now()
    }

    pub(crate) fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    fn truth(&self) -> Truth<'_> {
        Truth { store: &self.store, world: &self.world, now: self.timeline.now(), calm: self.calm }
    }

    /// Keeps the first violation.
    fn judge(&mut self, property: Property, wrong: Result<(), String>) {
        if self.violation.is_none() {
            self.violation = self.truth().violation(property, wrong);
        }
    }

    /// For whoever reads the run of a seed that failed.
    fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let at = self.timeline.now().since(crate::timeline::BEGIN);
            trace.push(format!("{:>9.3}s  {}", at.as_secs_f64(), line()));
        }
    }
}
