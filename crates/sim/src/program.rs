//! What the programs of the virtual world do: their commands say so.

use regrow_model::process::Process;
use std::time::Duration;

/// How a program behaves. Written into the words of a command ([`Program::words`]) and read from there by the world, so
/// that a new version of a group is simply another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Program {
    /// Healthy so long after its start; `None`: never.
    pub healthy_after: Option<Duration>,
    /// Ends by itself so long after its start.
    pub ends_after: Option<Duration>,
    /// Ends so long after its stop signal; `None`: it ignores it.
    pub stops_after: Option<Duration>,
    /// There is no such program.
    pub missing: bool,
    /// It reads the files of the template `lb` when it starts and when it is told to.
    pub reader: bool,
}

impl Program {
    /// One that is soon healthy, stays so, and stops when it is told to.
    pub const GOOD: Program = Program {
        healthy_after: Some(Duration::from_millis(300)),
        ends_after: None,
        stops_after: Some(Duration::from_millis(50)),
        missing: false,
        reader: false,
    };

    /// Whether a version of it becomes healthy and stays so.
    pub fn is_good(&self) -> bool {
        self.healthy_after.is_some() && self.ends_after.is_none() && !self.missing
    }

    /// Whether it is healthy for a moment at least.
    pub fn can_be_healthy(&self) -> bool {
        let healthy = self.healthy_after.filter(|_| !self.missing);
        healthy.is_some_and(|healthy| self.ends_after.is_none_or(|ends| healthy < ends))
    }

    /// The command that means it. `version` makes one command differ from the next.
    pub fn words(&self, version: u64) -> Vec<String> {
        let mut words = vec!["serve".to_owned(), format!("version={version}"), "port=${PORT}".to_owned()];
        let mut span = |key: &str, value: Option<Duration>| {
            words.extend(value.map(|value| format!("{key}={}", value.as_millis())));
        };
        span("healthy", self.healthy_after);
        span("ends", self.ends_after);
        span("stops", self.stops_after);
        words.extend(self.missing.then(|| "missing".to_owned()));
        words.extend(self.reader.then(|| "reader".to_owned()));
        words
    }

    /// What a resolved process does.
    pub(crate) fn of(process: &Process) -> Program {
        Program::of_words(&process.command)
    }

    /// What a command means.
    pub(crate) fn of_words(words: &[String]) -> Program {
        let value = |key: &str| {
            let word = words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            word.and_then(|word| word.parse().ok()).map(Duration::from_millis)
        };
        let has = |word: &str| words.iter().any(|known| known == word);
        Program {
            healthy_after: value("healthy"),
            ends_after: value("ends"),
            stops_after: value("stops"),
            missing: has("missing"),
            reader: has("reader"),
        }
    }
}
