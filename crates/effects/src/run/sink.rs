//! Where a run's lines go: without its secrets.

use super::limits::SECRET_BYTES_MIN;
use crate::instance::record::now;
use regrow_model::run::{Line, RunEvent, Stream};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What is put where a secret was.
const MASK: &str = "***";

/// Takes lines, masks secrets in them, passes them on; who sends too fast is held up.
pub(super) struct Sink {
    lines: mpsc::Sender<Line>,
    /// The longest first: one may be a part of another.
    secrets: Arc<[String]>,
}

impl Sink {
    pub(super) fn new(lines: mpsc::Sender<Line>, secrets: &BTreeMap<String, String>) -> Sink {
        // A secret of several lines, as a key, comes out line by line.
        let parts = secrets.values().flat_map(|value| value.lines().chain([value.as_str()])).map(str::trim);
        let mut secrets: Vec<String> = parts.filter(|part| part.len() >= SECRET_BYTES_MIN).map(str::to_owned).collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.dedup();
        Sink { lines, secrets: secrets.into() }
    }

    /// A text without secrets.
    pub(super) fn masked(&self, mut text: String) -> String {
        for secret in self.secrets.iter() {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        text
    }

    /// What is masked.
    pub(super) fn secrets(&self) -> Arc<[String]> {
        self.secrets.clone()
    }

    /// A line of a stream, as of now.
    pub(super) fn text(&self, stream: Stream, line: &str) -> Line {
        Line::text(now(), stream, self.masked(line.to_owned()))
    }

    /// An event, as of now.
    pub(super) fn event(&self, event: RunEvent) -> Line {
        let event = match event {
            RunEvent::Host { host, task, outcome, message, diff } => {
                RunEvent::Host { host, task, outcome, message: self.masked(message), diff: self.masked(diff) }
            }
            other => other,
        };
        Line::event(now(), event)
    }

    /// Nobody listens any more when the run was lost.
    pub(super) async fn send(&self, line: Line) {
        let _ = self.lines.send(line).await;
    }
}
