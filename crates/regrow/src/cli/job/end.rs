//! How a run's end becomes a command's.

use crate::exit::{Code, Failure};
use regrow_model::run::{Run, State};

/// Nothing for a run that succeeded, else why it did not: 6 for one that took too long or did not begin in time, 1 for others.
pub(super) fn of(run: &Run) -> Result<(), Failure> {
    let why = if run.why.is_empty() { String::new() } else { format!(": {}", super::text::plain(&run.why)) };
    let text = format!("run {} of {} {}{why}", run.id, run.order.job, words(run.state));
    match run.state {
        State::Succeeded => Ok(()),
        State::TimedOut | State::Expired => Err(Failure::new(Code::TimedOut, text)),
        _ => Err(Failure::failed(text)),
    }
}

fn words(state: State) -> &'static str {
    match state {
        State::Queued | State::Parked | State::Running => "has not ended",
        State::Succeeded => "succeeded",
        State::Failed => "failed",
        State::Cancelled => "was cancelled",
        State::TimedOut => "took too long and was stopped",
        State::Lost => "was lost with its worker",
        State::Expired => "had not started by its deadline",
        State::Skipped => "was skipped, because all of its hosts are dead",
    }
}
