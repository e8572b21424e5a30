//! Bursts coalesce: a change is taken up when it has been quiet for a while, with a bound.

use super::Step;
use regrow_model::Plan;
use regrow_model::observed::{self, Inputs};

impl Step<'_> {
    /// Whether the change may be taken up now; else writes down since when it waits, and when to look again.
    ///
    /// Quiet is counted from the newest change of a service that was read; of a key or a record nobody knows when it
    /// was changed, so there it is counted from when the change was first seen.
    pub(super) fn settled(&self, inputs: &Inputs, plan: &mut Plan) -> bool {
        let wait = &self.template.spec.wait;
        if wait.min.0.is_zero() || self.status.written.is_none() && self.status.problem.is_none() {
            return true;
        }
        let before = self.tried();
        let change = super::inputs::newest_change(self.view, self.name, self.template, before, inputs);
        // Another node's clock may be ahead of ours.
        let changed_at = change.at.map(|at| at.min(self.now));
        let since = self.status.pending_since;
        let newest = changed_at.or(since).unwrap_or(self.now);
        let first = since.unwrap_or(newest.min(self.now));
        let due = newest.after(wait.min.0).min(first.after(wait.max.0));
        if due <= self.now {
            return true;
        }
        if since.is_none() {
            let cause = self.cause(&change);
            let status = observed::Template { pending_since: Some(first), ..self.status.clone() };
            plan.actions.push(self.record(status, format!("{} changed; it waits for more", change.input), cause));
        }
        plan.recheck(due);
        false
    }
}
