//! What is refused before anything touches the disk: recorded once, told once.

use super::Step;
use crate::features::template::outcome;
use crate::features::template::render::RenderedSet;
use regrow_model::observed::{self, Inputs, Problem, Stage};
use regrow_model::{Digest, Kind, Plan, Ref};

impl Step<'_> {
    /// Whether this very set failed before and is not to be tried now.
    pub(super) fn known_bad(&self, set: &RenderedSet, plan: &mut Plan) -> bool {
        let Some(bad) = self.status.bad.iter().rev().find(|bad| bad.version == set.digest) else { return false };
        let problem = self.status.problem.as_ref().filter(|problem| problem.digest == Some(set.digest));
        let passes_by_itself = bad.stage != Stage::Check;
        if passes_by_itself && problem.is_none_or(|problem| problem.retry_at <= self.now) {
            return false;
        }
        self.refuse(bad.stage, &bad.reason, set.inputs.clone(), Some(set.digest), plan);
        true
    }

    /// Records a refusal: with an event when it is a new one, without when only the inputs have moved on.
    pub(super) fn refuse(&self, stage: Stage, reason: &str, inputs: Inputs, digest: Option<Digest>, plan: &mut Plan) {
        let reason = outcome::shortened(reason);
        let change = self.change(&inputs);
        let cause = self.cause(&change);
        let before = self.status.problem.as_ref();
        let same = before.filter(|before| before.stage == stage && before.reason == reason && before.digest == digest);
        if same.is_some_and(|before| before.inputs == inputs) {
            return;
        }
        let problem = Problem {
            stage,
            input: same.map_or(change.input, |before| before.input.clone()),
            since: same.map_or(self.now, |before| before.since),
            failures: same.map_or(1, |before| before.failures),
            retry_at: same.map_or(outcome::retry_at(self.now, 1), |before| before.retry_at),
            cause: same.map_or(cause.clone(), |before| before.cause.clone()),
            reason,
            inputs,
            digest,
        };
        let mut planned = self.record(
            observed::Template { problem: Some(problem.clone()), pending_since: None, ..self.status.clone() },
            problem.reason.clone(),
            cause,
        );
        if same.is_none() {
            let object = Ref::new(Kind::Template, self.name);
            planned.events.push(outcome::told(&problem, &object, &problem.cause));
        }
        plan.actions.push(planned);
    }
}
