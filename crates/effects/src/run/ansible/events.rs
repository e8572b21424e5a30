//! What the plugin tells, among the lines of the output.

use super::super::limits::{DIFF_BYTES_MAX, MESSAGE_BYTES_MAX, NAME_BYTES_MAX, RECAP_HOSTS_MAX};
use super::super::sink::Sink;
use super::Recaps;
use crate::output::cut;
use regrow_model::run::{HostOutcome, Line, Recap, RunEvent, Stream};
use serde::Deserialize;

/// Reads the output.
pub(super) struct Events<'a> {
    mark: String,
    sink: &'a Sink,
    recap: Option<Recaps>,
    /// What was counted on the way, for a playbook that did not come to its end.
    counted: Recaps,
}

/// What the plugin writes behind the mark.
#[derive(Deserialize)]
#[serde(untagged)]
enum Told {
    Recap { hosts: Recaps },
    Event(RunEvent),
}

impl<'a> Events<'a> {
    /// `mark`: what a line of the plugin begins with.
    pub(super) fn new(mark: String, sink: &'a Sink) -> Events<'a> {
        Events { mark, sink, recap: None, counted: Recaps::new() }
    }

    /// A line of the output; what is told of it.
    pub(super) fn line(&mut self, line: &str) -> Option<Line> {
        let told = line.strip_prefix(&self.mark).and_then(|text| serde_json::from_str(text).ok());
        let event = match told {
            Some(Told::Recap { hosts }) => {
                self.recap = Some(hosts);
                return None;
            }
            // What else there is to tell of a run is not the plugin's, whoever wrote the line.
            Some(Told::Event(event @ (RunEvent::Play { .. } | RunEvent::Task { .. } | RunEvent::Host { .. }))) => event,
            Some(Told::Event(_)) | None => return Some(self.sink.text(Stream::Stdout, line)),
        };
        // Secrets go first: a part of one would not be known again.
        let line = self.sink.event(event);
        let event = line.event.map(bounded);
        if let Some(RunEvent::Host { host, outcome, .. }) = &event {
            self.count(host, *outcome);
        }
        Some(Line { event, ..line })
    }

    fn count(&mut self, host: &str, outcome: HostOutcome) {
        if self.counted.len() >= RECAP_HOSTS_MAX && !self.counted.contains_key(host) {
            return;
        }
        let recap: &mut Recap = self.counted.entry(host.to_owned()).or_default();
        match outcome {
            HostOutcome::Ok | HostOutcome::Ignored => recap.ok += 1,
            HostOutcome::Changed => {
                recap.ok += 1;
                recap.changed += 1;
            }
            HostOutcome::Failed => recap.failures += 1,
            HostOutcome::Unreachable => recap.unreachable += 1,
            HostOutcome::Skipped => recap.skipped += 1,
        }
    }

    /// Host by host: as Ansible counted, or as far as it came.
    pub(super) fn recap(self) -> Recaps {
        self.recap.unwrap_or(self.counted)
    }
}

/// An event with texts of a bounded length: what a module says is nobody's promise.
fn bounded(event: RunEvent) -> RunEvent {
    match event {
        RunEvent::Play { play } => RunEvent::Play { play: cut(play, NAME_BYTES_MAX) },
        RunEvent::Task { task } => RunEvent::Task { task: cut(task, NAME_BYTES_MAX) },
        RunEvent::Host { host, task, outcome, message, diff } => RunEvent::Host {
            host: cut(host, NAME_BYTES_MAX),
            task: cut(task, NAME_BYTES_MAX),
            outcome,
            message: cut(message, MESSAGE_BYTES_MAX),
            diff: cut(diff, DIFF_BYTES_MAX),
        },
        other => other,
    }
}
