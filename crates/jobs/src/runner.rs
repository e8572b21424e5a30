//! What carries runs out, as the worker sees it.

use crate::BoxFuture;
use crate::limits::LINES_WAITING;
use regrow_control::features::job::policy::{End, Halt};
use regrow_model::run::{Line, Run};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, watch};

/// Carries runs out.
pub trait Runner: Send + Sync + 'static {
    /// Carries one out to its end and says how it ended. When `stop` says so it ends early: politely for a cancel,
    /// at once when the worker is lost. Nothing that it began is left when it returns. `history`: what earlier tries
    /// told of their steps, for one that resumes.
    fn run(&self, run: Arc<Run>, history: Vec<Line>, output: Output, stop: Stop) -> BoxFuture<'_, End>;
}

/// Where a run's output goes: by line, within a bound; who writes too fast is held up.
pub type Output = mpsc::Sender<Line>;

/// An output, and what comes out of it.
pub(crate) fn output() -> (Output, mpsc::Receiver<Line>) {
    mpsc::channel(LINES_WAITING)
}

/// Tells a run when it is to end, and that its worker still has the right to it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop {
    /// Why it is to end.
    pub halt: watch::Receiver<Halt>,
    /// When the worker's last good beat began.
    pub beat: watch::Receiver<Instant>,
}
