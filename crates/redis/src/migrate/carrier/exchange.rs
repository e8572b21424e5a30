//! One exchange with one server: what is sent for each job, and what the answers mean.

use bytes::Bytes;

use crate::address::Address;
use crate::connection::{Connection, Error};
use crate::resp::{Command, Value};
use crate::router::{Redirection, redirection};

use super::{Answer, Job, Link, Mark};

/// A job on its way.
pub(super) struct Attempt {
    pub(super) index: usize,
    pub(super) job: Job,
    /// Where it is to be asked for, once.
    pub(super) ask: Option<Address>,
    /// Whether it was sent before, and its fate is not known.
    pub(super) unsure: bool,
}

/// What came of an attempt.
pub(super) enum Step {
    Done(Answer),
    Moved(Address),
    Ask(Address),
    Again(String),
}

/// Sends attempts to a server, after a look at the marks of those that need it.
pub(super) async fn send(
    address: Address,
    mut link: Link,
    attempts: Vec<Attempt>,
    check: Vec<bool>,
    asking: bool,
) -> (Address, Link, Vec<Attempt>, Result<Vec<Step>, Error>) {
    let steps = exchange(&mut link.connection, &attempts, &check, asking).await;
    (address, link, attempts, steps)
}

async fn exchange(
    connection: &mut Connection,
    attempts: &[Attempt],
    check: &[bool],
    asking: bool,
) -> Result<Vec<Step>, Error> {
    let from = connection.address().clone();
    let looks: Vec<Command> = attempts
        .iter()
        .zip(check)
        .filter(|(_, check)| **check)
        .filter_map(|(attempt, _)| Some(Command::new("GET").arg(&attempt.job.mark.as_ref()?.key)))
        .collect();
    let mut found = connection.pipeline(&looks).await?.into_iter();
    let mut steps: Vec<Option<Step>> =
        attempts
            .iter()
            .zip(check)
            .map(|(attempt, check)| {
                if *check {
                    looked(attempt.job.mark.as_ref()?, found.next().unwrap_or(Value::Null), &from)
                } else {
                    None
                }
            })
            .collect();
    let mut commands = Vec::new();
    let mut sizes = Vec::new();
    for (attempt, step) in attempts.iter().zip(&steps) {
        let before = commands.len();
        if step.is_none() {
            if asking {
                commands.push(Command::new("ASKING"));
            }
            if let Some(mark) = &attempt.job.mark {
                commands.push(Command::new("MULTI"));
                commands.extend(attempt.job.commands.iter().cloned());
                commands.push(Command::new("SET").arg(&mark.key).arg(&mark.value));
                commands.push(Command::new("EXEC"));
            } else {
                // Each of several commands must be asked for itself.
                for (index, command) in attempt.job.commands.iter().enumerate() {
                    if asking && index > 0 {
                        commands.push(Command::new("ASKING"));
                    }
                    commands.push(command.clone());
                }
            }
        }
        sizes.push(commands.len() - before);
    }
    let mut values = connection.pipeline(&commands).await?.into_iter();
    for ((attempt, step), size) in attempts.iter().zip(&mut steps).zip(sizes) {
        let mut values: Vec<Value> = values.by_ref().take(size).collect();
        if step.is_some() {
            continue;
        }
        if asking && attempt.job.mark.is_none() {
            let mut index = 0;
            values.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        } else if asking && !values.is_empty() {
            values.remove(0);
        }
        *step = Some(if attempt.job.mark.is_some() { transacted(values, &from) } else { plain(values, &from) });
    }
    Ok(steps.into_iter().map(|step| step.unwrap_or(Step::Done(Answer::Done))).collect())
}

/// What the mark says about a job whose fate is not known, or whose lane has another server.
fn looked(mark: &Mark, found: Value, from: &Address) -> Option<Step> {
    match found {
        Value::Error(message) => Some(refusal(&message, from).unwrap_or_else(|| Step::Again(lossy(&message)))),
        found => {
            let found = found.bytes().cloned().unwrap_or_default();
            if found == mark.value {
                Some(Step::Done(Answer::Done))
            } else {
                (mark.before.as_ref().is_some_and(|before| *before != found)).then_some(Step::Done(Answer::Behind))
            }
        }
    }
}

fn plain(values: Vec<Value>, from: &Address) -> Step {
    let waits =
        values.iter().find_map(|value| if let Value::Error(message) = value { refusal(message, from) } else { None });
    waits.unwrap_or(Step::Done(Answer::Values(values)))
}

fn transacted(mut values: Vec<Value>, from: &Address) -> Step {
    match values.pop() {
        Some(Value::Array(mut done)) => {
            done.pop();
            Step::Done(Answer::Values(done))
        }
        Some(Value::Error(message)) => {
            let queued = values.iter().enumerate().find_map(|(index, value)| match value {
                Value::Error(message) => Some((index, message)),
                _ => None,
            });
            match queued {
                Some((_, queued)) if refusal(queued, from).is_some() => {
                    refusal(queued, from).unwrap_or_else(|| Step::Again(lossy(queued)))
                }
                // The first answer is that of MULTI.
                Some((index, queued)) if index > 0 => {
                    Step::Done(Answer::Rejected { command: index - 1, message: lossy(queued) })
                }
                _ => refusal(&message, from).unwrap_or_else(|| Step::Again(lossy(&message))),
            }
        }
        other => Step::Again(format!("answered EXEC with {}", other.map_or("nothing", |value| value.kind()))),
    }
}

/// What to do about a refusal that is no fault of the command; `None` for one that is.
fn refusal(message: &Bytes, from: &Address) -> Option<Step> {
    match redirection(Some(&Value::Error(message.clone())), from) {
        Some(Redirection::Moved(place)) => Some(Step::Moved(place)),
        Some(Redirection::Ask(place)) => Some(Step::Ask(place)),
        Some(Redirection::TryAgain) => Some(Step::Again(lossy(message))),
        None => is_wait(message).then(|| Step::Again(lossy(message))),
    }
}

/// Whether a refusal passes.
pub(super) fn is_wait(message: &[u8]) -> bool {
    let cause = message.strip_prefix(b"EXECABORT Transaction discarded because of: ").unwrap_or(message);
    let word = cause.split(|byte| *byte == b' ').next().unwrap_or_default();
    let words: [&[u8]; 11] = [
        b"TRYAGAIN",
        b"CLUSTERDOWN",
        b"LOADING",
        b"OOM",
        b"READONLY",
        b"MASTERDOWN",
        b"MISCONF",
        b"NOREPLICAS",
        b"BUSY",
        b"IOERR",
        b"UNBLOCKED",
    ];
    words.contains(&word)
}

pub(super) fn lossy(message: &[u8]) -> String {
    String::from_utf8_lossy(&message[..message.len().min(200)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(step: Step) -> String {
        match step {
            Step::Done(answer) => format!("{answer:?}"),
            Step::Moved(place) => format!("moved {place}"),
            Step::Ask(place) => format!("ask {place}"),
            Step::Again(why) => format!("again {why}"),
        }
    }

    fn error(text: &'static str) -> Value {
        Value::Error(text.into())
    }

    /// What a transaction's answers mean.
    #[test]
    fn transactions() {
        let queued = || Value::Simple("QUEUED".into());
        let ok = || Value::Simple("OK".into());
        let from = Address::new("h", 1);
        for (values, meaning) in [
            (vec![ok(), queued(), queued(), Value::Array(vec![Value::Int(1), ok()])], "Values([Int(1)])"),
            (vec![ok(), error("MOVED 1 a:2"), queued(), error("EXECABORT Transaction discarded")], "moved a:2"),
            (vec![ok(), queued(), error("ASK 1 a:2"), error("EXECABORT Transaction discarded")], "ask a:2"),
            (vec![ok(), queued(), queued(), error("TRYAGAIN later")], "again TRYAGAIN later"),
            (vec![ok(), error("OOM full"), queued(), error("EXECABORT …")], "again OOM full"),
            (
                vec![ok(), queued(), queued(), error("EXECABORT Transaction discarded because of: OOM full")],
                "again EXECABORT Transaction discarded because of: OOM full",
            ),
            (
                vec![ok(), queued(), error("ERR unknown command"), queued(), error("EXECABORT …")],
                "Rejected { command: 1, message: \"ERR unknown command\" }",
            ),
        ] {
            assert_eq!(shown(transacted(values, &from)), meaning);
        }
    }

    /// What a mark means when the fate of a job is not known.
    #[test]
    fn marks() {
        let mark = |before: Option<&'static str>| Mark {
            key: "k".into(),
            value: "2".into(),
            before: before.map(Bytes::from_static_str),
        };
        let from = Address::new("h", 1);
        let look = |before, found: Value| looked(&mark(before), found, &from).map(shown);
        let bulk = |text: &'static str| Value::Bulk(text.into());
        assert_eq!(look(Some("1"), bulk("2")).as_deref(), Some("Done"));
        assert_eq!(look(Some("1"), bulk("1")), None);
        assert_eq!(look(Some("1"), bulk("0")).as_deref(), Some("Behind"));
        assert_eq!(look(Some("1"), Value::Null).as_deref(), Some("Behind"));
        assert_eq!(look(None, Value::Null), None);
        assert_eq!(look(Some("1"), error("MOVED 5 b:3")).as_deref(), Some("moved b:3"));
    }

    trait Static {
        fn from_static_str(text: &'static str) -> Bytes;
    }
    impl Static for Bytes {
        fn from_static_str(text: &'static str) -> Bytes {
            Bytes::from_static(text.as_bytes())
        }
    }
}
