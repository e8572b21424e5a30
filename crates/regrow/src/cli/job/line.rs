//! A line of a run's log as people read it.

use super::text::plain;
use crate::cli::store;
use regrow_model::run::{HostOutcome, Line, Recap, RunEvent, RunResult, StepState, Stream};

/// How an outcome is called, and its colour.
fn outcome(outcome: HostOutcome) -> (&'static str, &'static str) {
    match outcome {
        HostOutcome::Ok => ("ok", "32"),
        HostOutcome::Changed => ("changed", "33"),
        HostOutcome::Failed => ("failed", "31"),
        HostOutcome::Ignored => ("ignored", "31"),
        HostOutcome::Unreachable => ("unreachable", "35"),
        HostOutcome::Skipped => ("skipped", "36"),
    }
}

fn painted(text: &str, colour: &str, colours: bool) -> String {
    if colours && !text.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
}

/// The line as text, with its end; nothing for one that says nothing to people.
pub(super) fn shown(line: &Line, colours: bool) -> String {
    let Some(event) = &line.event else {
        let text = plain(line.line.as_deref().unwrap_or_default());
        let mark = match line.stream {
            Stream::Stdout => "",
            Stream::Stderr => "! ",
            Stream::Regrow | Stream::Event => "regrow: ",
        };
        return match &line.host {
            Some(host) => format!("{} | {mark}{text}\n", plain(host)),
            None => format!("{mark}{text}\n"),
        };
    };
    match event {
        RunEvent::Try { attempt: 0 | 1, .. } => String::new(),
        RunEvent::Try { attempt, worker } => format!("try {attempt} on {}\n", plain(worker)),
        RunEvent::Step { step, state } => match state {
            StepState::Begun => painted(&format!("STEP {step}"), "1", colours) + "\n",
            StepState::Succeeded => String::new(),
            StepState::Failed => painted(&format!("step {step} failed"), "31", colours) + "\n",
            StepState::Skipped => painted(&format!("step {step} skipped"), "36", colours) + "\n",
        },
        RunEvent::Play { play } => painted(&format!("PLAY {}", plain(play)), "1", colours) + "\n",
        RunEvent::Task { task } => format!("  TASK {}\n", plain(task)),
        RunEvent::Host { host, outcome: ended, message, diff, .. } => {
            let (word, colour) = outcome(*ended);
            let mut text = painted(&format!("    {word:<11}  {}", plain(host)), colour, colours);
            let mut lines = message.lines();
            match lines.next() {
                // What went well says it in a word.
                Some(first) if !matches!(ended, HostOutcome::Ok | HostOutcome::Changed | HostOutcome::Skipped) => {
                    text.push_str(&format!(": {}\n", plain(first)));
                    lines.for_each(|line| text.push_str(&format!("      {}\n", plain(line))));
                }
                _ => text.push('\n'),
            }
            for line in diff.lines() {
                let colour = match line.as_bytes().first() {
                    Some(b'+') => "32",
                    Some(b'-') => "31",
                    _ => "2",
                };
                text.push_str(&format!("      {}\n", painted(&plain(line), colour, colours)));
            }
            text
        }
        RunEvent::Artefact { name, size, at: 0, .. } => format!("artefact {}, {}\n", plain(name), store::size(*size)),
        RunEvent::Artefact { .. } => String::new(),
    }
}

/// Host by host, at the end; nothing where there are no hosts.
pub(super) fn recap(result: &RunResult, colours: bool) -> String {
    if result.recap.is_empty() {
        return String::new();
    }
    let width = result.recap.keys().map(|host| host.chars().count()).max().unwrap_or(0);
    let mut text = painted("RECAP", "1", colours) + "\n";
    for (host, counts) in &result.recap {
        let Recap { ok, changed, unreachable, failures, skipped } = counts;
        let colour = match counts {
            Recap { failures: 1.., .. } => "31",
            Recap { unreachable: 1.., .. } => "35",
            Recap { changed: 1.., .. } => "33",
            _ => "32",
        };
        let host = painted(&format!("{:<width$}", plain(host)), colour, colours);
        text.push_str(&format!(
            "  {host}  ok={ok} changed={changed} unreachable={unreachable} failed={failures} skipped={skipped}\n"
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_model::{Name, Time};

    fn host(outcome: HostOutcome, message: &str, diff: &str) -> RunEvent {
        let (host, task) = ("web1".to_owned(), "install".to_owned());
        RunEvent::Host { host, task, outcome, message: message.to_owned(), diff: diff.to_owned() }
    }

    fn all(events: Vec<RunEvent>, colours: bool) -> String {
        events.into_iter().map(|event| shown(&Line::event(Time(0), event), colours)).collect()
    }

    /// A playbook as it is told without colours: tasks under plays, hosts under tasks, and what failed with its message.
    #[test]
    fn a_playbook() {
        let step = |state| RunEvent::Step { step: Name::new("code").expect("a name"), state };
        let events = vec![
            RunEvent::Try { attempt: 1, worker: "n1-0".into() },
            step(StepState::Begun),
            RunEvent::Play { play: "web".to_owned() },
            RunEvent::Task { task: "install \x1b[31mred".to_owned() },
            host(HostOutcome::Ok, "unused", ""),
            host(HostOutcome::Changed, "", "-a\n+b\n c"),
            host(HostOutcome::Failed, "no such package\nsee the log", ""),
            host(HostOutcome::Ignored, "it does not matter", ""),
            host(HostOutcome::Unreachable, "no route", ""),
            host(HostOutcome::Skipped, "", ""),
            step(StepState::Failed),
            RunEvent::Try { attempt: 2, worker: "n2-0".into() },
        ];
        assert_eq!(
            all(events, false),
            "STEP code\nPLAY web\n  TASK install \u{fffd}[31mred\n    ok           web1\n    changed      web1\n      -a\n      +b\n       c\n    \
             failed       web1: no such package\n      see the log\n    ignored      web1: it does not matter\n    \
             unreachable  web1: no route\n    skipped      web1\nstep code failed\ntry 2 on n2-0\n"
        );
    }

    /// Each outcome has its colour.
    #[test]
    fn colours() {
        let events = [
            (HostOutcome::Ok, "32"),
            (HostOutcome::Changed, "33"),
            (HostOutcome::Failed, "31"),
            (HostOutcome::Unreachable, "35"),
            (HostOutcome::Skipped, "36"),
        ];
        for (outcome, colour) in events {
            let text = all(vec![host(outcome, "", "")], true);
            assert!(text.starts_with(&format!("\x1b[{colour}m")) && text.ends_with("web1\x1b[0m\n"), "{text:?}");
        }
    }

    /// Output as it comes, with the host where there is one.
    #[test]
    fn output() {
        let at = |stream, host: Option<&str>| {
            let line = Line { host: host.map(str::to_owned), ..Line::text(Time(0), stream, "up\x07") };
            shown(&line, true)
        };
        assert_eq!(at(Stream::Stdout, None), "up\u{fffd}\n");
        assert_eq!(at(Stream::Stderr, Some("web1")), "web1 | ! up\u{fffd}\n");
        assert_eq!(at(Stream::Regrow, None), "regrow: up\u{fffd}\n");
    }

    /// The recap is a row for each host.
    #[test]
    fn recaps() {
        let good = Recap { ok: 3, changed: 1, ..Recap::default() };
        let bad = Recap { ok: 1, failures: 1, skipped: 2, ..Recap::default() };
        let recaps = [("database1".to_owned(), bad), ("web1".to_owned(), good)].into();
        assert_eq!(
            recap(&RunResult { code: None, recap: recaps }, false),
            "RECAP\n  database1  ok=1 changed=0 unreachable=0 failed=1 skipped=2\n  \
             web1       ok=3 changed=1 unreachable=0 failed=0 skipped=0\n"
        );
        assert_eq!(recap(&RunResult::default(), false), "");
    }
}
