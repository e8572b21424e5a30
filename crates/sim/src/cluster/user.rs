//! Commands on their way to the agent: asked until they are answered for good.

use super::{Cluster, Step};
use crate::timeline::Timeline;
use regrow_control::reconcile::{Answer, Command, CommandError, Input, Ticket};
use std::collections::BTreeMap;
use std::time::Duration;

/// Users try again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Commands without an answer.
#[derive(Debug, Default)]
pub(super) struct Asking {
    next: u64,
    commands: BTreeMap<u64, Command>,
    stopped: bool,
}

impl Asking {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// The users ask for nothing new.
    pub(super) fn stop_asking(&mut self) {
        self.stopped = true;
    }

    /// Nobody answers any more: everything is asked again.
    pub(super) fn agent_died(&mut self, timeline: &mut Timeline<Step>) {
        for number in self.commands.keys() {
            timeline.plan(AGAIN, Step::Command { number: *number });
        }
    }
}

impl Cluster<'_> {
    /// Asks for something, now. One at a time and in order: a user waits for an answer before the next wish.
    pub(super) fn ask(&mut self, command: Command) {
        self.asking.next += 1;
        let number = self.asking.next;
        self.asking.commands.insert(number, command);
        self.timeline.plan(Duration::ZERO, Step::Command { number });
    }

    pub(super) fn ask_next(&mut self) {
        if self.asking.stopped {
            return;
        }
        let (wait, command) = self.users.next();
        if self.asking.commands.len() < 4 && self.now() > crate::timeline::BEGIN {
            self.ask(command);
        }
        self.timeline.plan(wait, Step::Ask);
    }

    pub(super) fn put_command(&mut self, number: u64) {
        let first = self.asking.commands.keys().next() == Some(&number);
        let Some(command) = self.asking.commands.get(&number).cloned() else { return };
        match self.agent.as_ref().map(|agent| agent.number).filter(|_| first) {
            Some(agent) => self.tell(agent, Input::Asked { ticket: Ticket(number), command: Box::new(command) }),
            None => self.timeline.plan(AGAIN, Step::Command { number }),
        }
    }

    pub(super) fn answered(&mut self, ticket: Ticket, result: Result<Answer, CommandError>) {
        self.note(|| format!("answer {ticket:?}: {result:?}"));
        match result {
            Ok(_) | Err(CommandError::Order(_)) => drop(self.asking.commands.remove(&ticket.0)),
            Err(CommandError::Store(_) | CommandError::Contention(_)) => {
                self.timeline.plan(AGAIN, Step::Command { number: ticket.0 });
            }
        }
    }
}
