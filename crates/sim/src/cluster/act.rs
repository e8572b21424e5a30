//! Actions: begun, done by the world, and told of, with whatever goes wrong in between.

use super::{Cluster, Doing, Step};
use crate::properties::Property;
use crate::seam::Deed;
use crate::world::error;
use regrow_control::reconcile::{Input, Ticket};
use regrow_model::observed::{Stage, WorldErrorKind};
use regrow_model::process::{Exit, ProcessId};
use regrow_model::{Action, InstanceId, Observation, Outcome};
use std::time::Duration;

impl Cluster<'_> {
    /// The agent has an action done.
    pub(super) fn begin(&mut self, agent: u64, ticket: Ticket, action: Action) {
        match self.seam.act(action) {
            Deed::Do(actions) => {
                for (at, action) in actions.into_iter().enumerate() {
                    self.next_doing += 1;
                    let number = self.next_doing;
                    self.doing.insert(number, Doing { ticket: (at == 0).then_some(ticket), action });
                    let slow = self.rng.chance(self.faults.action_slow);
                    let delay = if slow { self.rng.millis(500, 15_000) } else { self.rng.millis(1, 30) };
                    self.timeline.plan(delay, Step::Act { agent, number });
                }
            }
            Deed::Claim(outcome) => self.tell_outcome(agent, ticket, outcome),
        }
    }

    /// The world does an action.
    pub(super) fn carry_out(&mut self, agent: u64, number: u64) {
        let Some(Doing { ticket, action }) = self.doing.remove(&number) else { return };
        if self.rng.chance(self.faults.action_fails) {
            let failed = Outcome::Failed { stage: None, error: error(WorldErrorKind::Other, "it failed this time") };
            return self.done(agent, ticket, failed);
        }
        self.note(|| format!("done {ticket:?} {}", super::agent::acted(&action)));
        let now = self.timeline.now();
        let outcome = match &action {
            Action::Start { instance, incarnation, process, listen } => {
                let port = listen.as_ref().map(|(_, port)| *port);
                let outcome = self.world.start(instance, *incarnation, process, port, now);
                if let Outcome::Started { adopted: false, .. } = outcome {
                    self.born(instance, *incarnation);
                }
                outcome
            }
            Action::Stop { instance, incarnation, grace, .. } => {
                let traffic = self.properties.traffic(self.truth(), &action);
                let floor = self.truth().may_stop(&action);
                self.judge(Property::Traffic, traffic);
                self.judge(Property::Floor, floor);
                match self.stop(agent, ticket, instance, *incarnation, *grace) {
                    Some(outcome) => outcome,
                    None => return,
                }
            }
            Action::Install { template, digest, files, last_good, check, .. } => {
                if !check.is_empty() && self.rng.chance(self.faults.tool_flakes) {
                    let error = error(WorldErrorKind::Timeout, "the check took too long");
                    return self.done(agent, ticket, Outcome::Failed { stage: Some(Stage::Check), error });
                }
                self.world.install(template, *digest, files, *last_good, !check.is_empty())
            }
            Action::Load { template, digest, tell, probe, .. } => {
                let fails = self.tool();
                self.world.load(template, *digest, tell, probe.is_some(), fails)
            }
            Action::Restore { template, digest, tell, .. } => match self.world.restore(template, *digest) {
                Ok(()) => {
                    let fails = self.tool().filter(|stage| *stage == Stage::Reload);
                    self.world.load(template, *digest, tell, false, fails)
                }
                Err(error) => Outcome::Failed { stage: Some(Stage::Write), error },
            },
            Action::Record { .. } => panic!("records are written to the store, not to the world"),
        };
        self.done(agent, ticket, outcome);
    }

    /// Where the tools of templates fail this time, if they do.
    fn tool(&mut self) -> Option<Stage> {
        let fails = self.rng.chance(self.faults.tool_flakes);
        fails.then(|| if self.rng.chance(500) { Stage::Reload } else { Stage::Probe })
    }

    /// An action was done: its outcome comes at once, late, or never.
    fn done(&mut self, agent: u64, ticket: Option<Ticket>, outcome: Outcome) {
        let Some(ticket) = ticket else { return };
        if self.rng.chance(self.faults.outcome_lost) {
            self.note(|| format!("lost {ticket:?}: {outcome:?}"));
            return;
        }
        self.tell_outcome(agent, ticket, outcome);
    }

    fn tell_outcome(&mut self, agent: u64, ticket: Ticket, outcome: Outcome) {
        let late = self.rng.chance(self.faults.outcome_late);
        let delay = if late { self.rng.millis(1_000, 120_000) } else { self.rng.millis(0, 3) };
        self.timeline.plan(delay, Step::Tell { agent, input: Box::new(Input::Ended { ticket, outcome }) });
    }

    /// A process has just been started.
    fn born(&mut self, instance: &InstanceId, incarnation: u64) {
        let slot = self.truth().slot();
        self.judge(Property::Slot, slot);
        let Some(process) = self.world.process(instance, incarnation) else { return };
        if let Some(after) = process.program.ends_after {
            let exit = Exit { code: Some(1), signal: None, at: self.timeline.now().after(after), tail: String::new() };
            self.timeline.plan(after, Step::End { process: process.id, exit });
        }
    }

    /// Begins a stop: signal, then SIGKILL after the grace. Gives back the outcome when there is nothing to wait for.
    fn stop(
        &mut self,
        agent: u64,
        ticket: Option<Ticket>,
        instance: &InstanceId,
        incarnation: u64,
        grace: Duration,
    ) -> Option<Outcome> {
        let now = self.timeline.now();
        let process = match self.world.begin_stop(instance, incarnation, now) {
            Ok(process) => process,
            Err(outcome) => return Some(outcome),
        };
        if let Some(ticket) = ticket {
            self.stops.entry(process.id).or_default().push((agent, ticket));
        }
        let exit = |signal, after| Exit { code: None, signal: Some(signal), at: now.after(after), tail: String::new() };
        match process.program.stops_after.filter(|after| *after < grace) {
            Some(after) => self.timeline.plan(after, Step::End { process: process.id, exit: exit(15, after) }),
            // An agent that dies meanwhile kills nobody.
            None if ticket.is_some() => {
                self.timeline.plan(grace, Step::Strike(super::fault::Fault::Kill { agent, process: process.id }));
            }
            None => {}
        }
        None
    }

    /// A process ends: whoever waits for it is told, else it is seen.
    pub(super) fn end(&mut self, id: ProcessId, exit: &Exit) {
        let Some(process) = self.world.end(id, exit) else { return };
        self.note(|| format!("{} life {} ends: {exit}", process.instance, process.incarnation));
        let waiting = self.stops.remove(&id).unwrap_or_default();
        for (agent, ticket) in waiting {
            self.done(agent, Some(ticket), Outcome::Stopped { exit: exit.clone() });
        }
        let Some(agent) = self.agent.as_ref().map(|agent| agent.number).filter(|_| !process.stopping) else { return };
        let delay = self.rng.millis(0, 5);
        let (instance, incarnation) = (process.instance, process.incarnation);
        let exited = Observation::Exited { instance, incarnation, process: Some(id), exit: exit.clone() };
        let input = Input::Seen(exited);
        self.timeline.plan(delay, Step::Tell { agent, input: Box::new(input) });
    }
}
