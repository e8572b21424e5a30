//! The settings of the queue and the worker.

use crate::config::{Masked, Work};
use crate::exit::Failure;
use regrow_jobs::RedisQueue;
use regrow_jobs::limits::ROOM_MAX;
use regrow_model::Name;
use std::sync::Arc;
use std::time::Duration;

/// Runs at a time of an agent that hosts its store.
const ROOM_DEFAULT: u32 = 8;

/// How long runs may go on when the worker is to end.
const DRAIN_DEFAULT: Duration = Duration::from_secs(30);

/// Longest drain: whoever stops the agent waits for it.
const DRAIN_MAX: Duration = Duration::from_secs(24 * 3600);

/// Most labels of a worker.
const LABELS_MAX: usize = 64;

/// Longest URL of a queue.
const PLACE_BYTES_MAX: usize = 2_048;

/// The settings that the queue is opened and the worker runs with.
#[derive(Clone, Debug)]
pub(crate) struct JobSettings {
    /// Runs at a time; 0: no worker.
    pub(crate) room: u32,
    /// What the worker has.
    pub(crate) labels: Vec<Name>,
    /// Where the queue is.
    pub(crate) place: Place,
    /// How long runs may go on when the worker is to end.
    pub(crate) drain: Duration,
}

/// Where the queue is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the agent's store.
    Store,
    /// In a Redis, by its URL.
    Redis(Masked),
}

impl Work {
    /// Checks what was said. `room`: runs at a time, where that is said; `hosted`: the store is.
    pub(crate) fn settle(self, room: Option<u32>, hosted: bool) -> Result<JobSettings, Failure> {
        let room = room.unwrap_or(if hosted { ROOM_DEFAULT } else { 0 });
        if room > ROOM_MAX {
            return Err(Failure::usage(format!("--jobs {room}: a worker runs at most {ROOM_MAX} at a time")));
        }
        if self.label.len() > LABELS_MAX {
            return Err(Failure::usage(format!("--label: a worker has at most {LABELS_MAX} labels")));
        }
        let label = |text: &String| Name::new(text).map_err(|error| Failure::usage(format!("--label: {error}")));
        let mut labels = self.label.iter().map(label).collect::<Result<Vec<_>, _>>()?;
        labels.sort();
        labels.dedup();
        let drain = self.drain.map_or(DRAIN_DEFAULT, |drain| drain.0);
        if drain > DRAIN_MAX {
            return Err(Failure::usage("--drain: at most 24h"));
        }
        Ok(JobSettings { room, labels, place: self.place()?, drain })
    }

    fn place(&self) -> Result<Place, Failure> {
        let said = match (&self.queue, &self.queue_file) {
            (Some(_), Some(_)) => {
                return Err(Failure::usage("both --queue and --queue-file say where the queue is: choose one"));
            }
            (Some(queue), None) => queue.0.clone(),
            (None, Some(file)) => {
                let text = std::fs::read_to_string(file)
                    .map_err(|error| Failure::usage(format!("--queue-file {}: {error}", file.display())))?;
                text.trim().to_owned()
            }
            (None, None) => return Ok(Place::Store),
        };
        if said == "store" {
            return Ok(Place::Store);
        }
        if said.len() > PLACE_BYTES_MAX {
            return Err(Failure::usage(format!("--queue: a URL has at most {PLACE_BYTES_MAX} bytes")));
        }
        if said.contains('@') && is_an_argument(&said) {
            return Err(Failure::usage(
                "--queue: `ps` would show the password to everybody on this machine\n  write the URL to a file that is \
                 yours alone and name it with --queue-file, or set the variable REGROW_QUEUE",
            ));
        }
        match RedisQueue::new(&said, Arc::new(crate::runtime::now)) {
            Ok(_) => Ok(Place::Redis(Masked(said))),
            Err(error) => Err(Failure::usage(format!("--queue: {error}; write `store` or redis://HOST:PORT[/DB]"))),
        }
    }
}

/// Whether a text is on this process's own command line.
fn is_an_argument(text: &str) -> bool {
    std::env::args_os().any(|argument| argument.to_str().is_some_and(|argument| argument.ends_with(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(queue: &str) -> Result<JobSettings, String> {
        let work = Work { queue: Some(Masked(queue.to_owned())), ..Work::default() };
        work.settle(None, true).map_err(|failure| failure.message)
    }

    /// Shows where a queue can be, and that a password is in no message and no debug text.
    #[test]
    fn places() {
        assert_eq!(settled("store").expect("a place").place, Place::Store);
        let redis = settled("redis://:hunter2@127.0.0.1:6379/3").expect("a place");
        assert!(matches!(redis.place, Place::Redis(_)) && !format!("{redis:?}").contains("hunter2"));
        for wrong in
            ["", "etcd://x", "rediss://:hunter2@127.0.0.1", "redis+cluster://:hunter2@a,b", "redis://:hunter2@x:y"]
        {
            let message = settled(wrong).expect_err(wrong);
            assert!(!message.contains("hunter2") && message.contains("redis://HOST:PORT"), "{message}");
        }
    }

    /// Shows the keys of the settings' file, and that what is no key is refused among them.
    #[test]
    fn the_file() {
        let read = |text: &str| serde_saphyr::from_str::<crate::config::Flags>(text).map_err(|error| error.to_string());
        let flags = read("jobs: 3\nlabel: [gpu]\nqueue: redis://10.0.0.1\ndrain: 5s\n").expect("settings");
        let settings = flags.work.settle(flags.jobs, false).expect("settled");
        assert_eq!((settings.room, settings.labels.len(), settings.drain), (3, 1, Duration::from_secs(5)));
        assert!(matches!(settings.place, Place::Redis(_)));
        assert!(read("queue-file: /etc/regrow/queue\n").is_ok());
        assert!(read("queues: store\n").is_err());
    }

    /// Shows the defaults, and what is refused.
    #[test]
    fn workers() {
        let room = |hosted| Work::default().settle(None, hosted).expect("settled").room;
        assert_eq!((room(true), room(false)), (8, 0));
        assert!(Work::default().settle(Some(5_000), true).is_err());
        assert!(Work { label: vec!["no label".into()], ..Work::default() }.settle(None, true).is_err());
    }
}
