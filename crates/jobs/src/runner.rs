//! What carries runs out, as the worker sees it.

use crate::BoxFuture;
use crate::limits::{LINE_BYTES_MAX, LINES_WAITING};
use regrow_control::features::job::policy::End;
use regrow_model::run::Run;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Carries runs out.
pub trait Runner: Send + Sync + 'static {
    /// Carries one out to its end and says how it ended. When `stop` says so it ends early: politely for a cancel,
    /// at once when the worker is lost. Nothing that it began is left when it returns.
    fn run(&self, run: Arc<Run>, history: Vec<String>, output: Output, stop: Stop) -> BoxFuture<'_, End>;
}

/// One line of a run's log.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// `stdout`, `stderr`, `event` or `regrow`.
    pub stream: &'static str,
    /// The host that it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// What happened, for `event`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<serde_json::Value>,
}

/// Where a run's output goes: by line, within a bound. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Output {
    lines: mpsc::Sender<String>,
}

impl Output {
    /// An output, and what comes out of it: lines of JSON.
    pub fn new() -> (Output, mpsc::Receiver<String>) {
        let (lines, taken) = mpsc::channel(LINES_WAITING);
        (Output { lines }, taken)
    }

    /// Gives out a line; waits while too many wait.
    pub async fn send(&self, mut line: Line) {
        if let Some(text) = &mut line.line
            && text.len() > LINE_BYTES_MAX
        {
            let mut end = LINE_BYTES_MAX;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
            text.push_str(" […]");
        }
        let text = serde_json::to_string(&line).unwrap_or_default();
        // Nobody listens any more when the run was lost.
        let _ = self.lines.send(text).await;
    }
}

/// Why a run is to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Halt {
    /// It is not.
    #[default]
    No,
    /// Somebody asks for it.
    Cancelled(String),
    /// The worker is lost, or gives up: nothing may be left at once.
    Lost,
}

/// Tells a run when it is to end, and that its worker still has the right to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Why it is to end.
    pub halt: watch::Receiver<Halt>,
    /// When the worker's last good beat began.
    pub beat: watch::Receiver<Instant>,
}

impl Stop {
    /// Waits until the run is to end; for ever when it never is.
    pub async fn asked(&mut self) -> Halt {
        match self.halt.wait_for(|halt| *halt != Halt::No).await {
            Ok(halt) => halt.clone(),
            // Whoever could ask is gone, and with it the right to the run.
            Err(_) => Halt::Lost,
        }
    }
}
