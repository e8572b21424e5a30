//! Users: what they ask for, and when.

use crate::rng::Rng;
use crate::wish::Wish;
use regrow_control::reconcile::{Command, Restart};
use regrow_model::{InstanceId, Name};
use std::time::Duration;

/// The users of a run.
#[derive(Debug)]
pub(crate) struct Users {
    rng: Rng,
    wish: Wish,
    /// Seconds between wishes.
    every: u64,
}

impl Users {
    pub(crate) fn new(mut rng: Rng) -> Users {
        let wish = Wish::first(&mut rng);
        let every = rng.pick(&[5, 15, 40]).copied().unwrap_or(15);
        Users { rng, wish, every }
    }

    /// What is asked first.
    pub(crate) fn first(&self) -> Command {
        Command::Apply(self.wish.resolved())
    }

    /// The next wish, and how long after the one before it comes.
    pub(crate) fn next(&mut self) -> (Duration, Command) {
        let rng = &mut self.rng;
        let wait = rng.millis(0, self.every * 2_000);
        let group = rng.pick(&self.wish.groups()).cloned();
        let group = |rng: &mut Rng| group.clone().or_else(|| rng.pick(&self.wish.groups()).cloned());
        let command = match rng.between(0, 19) {
            0..=8 => None,
            9 | 10 => group(rng).map(|group| Command::Scale(group, u32::try_from(rng.between(0, 5)).unwrap_or(1))),
            11 | 12 => group(rng).map(Command::Replace),
            13 => group(rng).map(|group| Command::Restart(Restart::Group(group))),
            14 => group(rng).map(|group| Command::Restart(Restart::Instance(slot(group, rng)))),
            15 => Some(Command::Pause { why: "lunch".to_owned(), length: Some(rng.millis(1_000, 30_000)) }),
            16 => Some(Command::Resume),
            17 => rng.chance(300).then_some(Command::Halt),
            18 => {
                self.wish.mend();
                None
            }
            _ => None,
        };
        let command = command.unwrap_or_else(|| {
            self.wish.change(rng, true);
            Command::Apply(self.wish.resolved())
        });
        (wait, command)
    }

    /// What is asked last, in this order: planned changes may go on, and the last spec stands. It may be a bad one.
    pub(crate) fn last(&mut self) -> Vec<Command> {
        if self.rng.chance(700) {
            self.wish.mend();
        }
        vec![Command::Resume, Command::Apply(self.wish.resolved())]
    }
}

fn slot(group: Name, rng: &mut Rng) -> InstanceId {
    InstanceId { group, slot: u32::try_from(rng.between(0, 3)).unwrap_or(0) }
}
