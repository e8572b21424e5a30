//! One template on one node: which step is next.

mod guard;
mod refuse;
mod settle;
mod tell;

use super::inputs::{self, Change, Reads};
use super::render::{self, RenderedSet, World};
use regrow_model::key::{Change as Write, Record};
use regrow_model::observed::{self, Inputs, Rendered, Stage};
use regrow_model::plan::Rule;
use regrow_model::{Action, CauseId, Digest, Entry, Held, Key, Kind, Name, Plan, Planned, Ref, Time, View, desired};
use std::cell::OnceCell;
use std::sync::Arc;

/// Everything that one template's step is decided from.
struct Step<'a> {
    view: &'a View,
    node: &'a Name,
    name: &'a Name,
    template: &'a Entry<desired::Template>,
    status: observed::Template,
    now: Time,
    world: &'a OnceCell<Arc<World>>,
}

/// What every template of this node needs next. See the feature's page for the order of the steps.
pub(super) fn plan(view: &View, node: &Name, now: Time) -> Plan {
    let mut plan = Plan::default();
    if view.halt.is_some() {
        return plan;
    }
    let world = OnceCell::new();
    for (name, template) in &view.templates {
        let status = view.template_status.get(&(name.clone(), node.clone()));
        let status = status.map(|status| (*status.value).clone()).unwrap_or_default();
        Step { view, node, name, template, status, now, world: &world }.next(&mut plan);
    }
    for (name, at) in view.template_status.keys() {
        if at == node && !view.templates.contains_key(name) {
            plan.actions.push(forget(view, name, node, now));
        }
    }
    plan
}

/// The record of a template that has left the spec goes; its files stay, because what reads them may still run.
fn forget(view: &View, name: &Name, node: &Name, now: Time) -> Planned {
    let cause = view.cluster.as_ref().map(|cluster| cluster.cause.clone());
    Planned {
        object: Ref::new(Kind::Template, name),
        action: Action::Record { changes: vec![Write::Delete(Key::Template(name.clone(), node.clone()))] },
        why: "it is no longer in the spec".to_owned(),
        cause: cause.unwrap_or_else(|| CauseId::new(now, 0)),
        disrupts: None,
        given: Vec::new(),
        intent: Vec::new(),
        events: Vec::new(),
    }
}

impl Step<'_> {
    fn next(self, plan: &mut Plan) {
        if self.status.written.as_ref().is_some_and(|written| self.is_astray(written)) {
            return self.find(plan);
        }
        if let Some(written) = &self.status.written
            && self.is_to_be_loaded(written)
        {
            let written = written.clone();
            if self.finish(&written, plan) {
                return;
            }
        }
        let tried = self.tried();
        let reads = tried.map(Reads::of).unwrap_or_default();
        let inputs = inputs::current(self.view, self.template, &reads, tried);
        if tried == Some(&inputs) {
            self.unchanged(plan);
        } else if self.settled(&inputs, plan) && self.enough(&inputs, plan) {
            self.render(plan);
        }
    }

    /// Another set is in place than the one that is recorded, or nobody knows which: the outcome of an action that
    /// swapped was lost. A bad set goes back anyway, with the waits of that.
    fn is_astray(&self, written: &Rendered) -> bool {
        let in_place = self.view.local.written.get(self.name).is_some_and(|set| set.digest == written.digest);
        let goes_back = self.is_bad(written.digest) && self.is_to_be_loaded(written);
        !in_place && !goes_back
    }

    /// Puts a known set in place again: the last good one if it is kept, else a new one; a new one too while the last
    /// good one waits because it could not be put back.
    fn find(&self, plan: &mut Plan) {
        let kept =
            |loaded: &&Rendered| self.view.local.loaded.get(self.name).is_some_and(|set| set.digest == loaded.digest);
        let Some(loaded) = self.status.loaded.as_ref().filter(kept) else { return self.render(plan) };
        let retry_at = self.status.problem.as_ref().map_or(self.now, |problem| problem.retry_at);
        if self.is_bad(loaded.digest) && self.now < retry_at {
            plan.recheck(retry_at);
            return self.render(plan);
        }
        self.restore(loaded.digest, plan);
    }

    /// What is in place has still to be loaded. Also when the loaded set is back in place after another that was not:
    /// whoever started in between has read that one.
    fn is_to_be_loaded(&self, written: &Rendered) -> bool {
        let loaded = self.status.loaded.as_ref();
        loaded.is_none_or(|loaded| loaded.digest != written.digest || loaded.at < written.at)
    }

    /// The inputs that were last dealt with: of the failure, if the last attempt failed.
    fn tried(&self) -> Option<&Inputs> {
        let problem = self.status.problem.as_ref().map(|problem| &problem.inputs);
        problem.or(self.status.written.as_ref().map(|written| &written.inputs))
    }

    /// A set is in place that is not loaded: loads it, or goes back from it. False when neither can be done now.
    fn finish(&self, written: &Rendered, plan: &mut Plan) -> bool {
        let failed = self.is_bad(written.digest);
        if failed
            && let Some(problem) = &self.status.problem
            && self.now < problem.retry_at
        {
            plan.recheck(problem.retry_at);
            return false;
        }
        match &self.status.loaded {
            Some(loaded) if failed => {
                self.restore(loaded.digest, plan);
                true
            }
            _ => self.load(written, plan),
        }
    }

    fn is_bad(&self, digest: Digest) -> bool {
        self.status.bad.iter().any(|bad| bad.version == digest)
    }

    /// Nothing has changed since the last attempt: that was good, or it is not tried again yet.
    fn unchanged(&self, plan: &mut Plan) {
        let Some(problem) = &self.status.problem else { return };
        match problem.stage {
            Stage::Guard => self.hold(Rule::Guard, &problem.reason, None, plan),
            // Equal inputs render equally, and equal files are checked equally.
            Stage::Render => self.hold(Rule::KnownBad, &problem.reason, None, plan),
            Stage::Check if problem.digest.is_some_and(|digest| self.is_bad(digest)) => {
                self.hold(Rule::KnownBad, &problem.reason, None, plan)
            }
            _ if self.now < problem.retry_at => self.wait_for_retry(plan),
            _ => self.render(plan),
        }
    }

    fn wait_for_retry(&self, plan: &mut Plan) {
        let Some(problem) = &self.status.problem else { return };
        self.hold(Rule::KnownBad, &problem.reason, Some(problem.retry_at), plan);
        plan.recheck(problem.retry_at);
    }

    /// Renders, and does what the result asks for.
    fn render(&self, plan: &mut Plan) {
        let world = self.world.get_or_init(|| Arc::new(World::new(self.view, self.node)));
        match render::render_with(world, self.view, self.template) {
            Err(failure) => self.refuse(Stage::Render, &failure.error.to_string(), failure.inputs, None, plan),
            Ok(set) => {
                if self.may_be_loaded(&set, plan) {
                    self.take(set, plan);
                }
            }
        }
    }

    fn take(&self, set: RenderedSet, plan: &mut Plan) {
        let change = self.change(&set.inputs);
        let cause = self.cause(&change);
        if self.known_bad(&set, plan) {
            return;
        }
        let written = self.status.written.as_ref().filter(|written| !self.is_astray(written));
        let in_place = written.is_some_and(|written| written.digest == set.digest);
        if in_place && !self.is_bad(set.digest) {
            self.same_again(&set, cause, plan);
            return;
        }
        let spec = &self.template.spec;
        let action = Action::Install {
            template: self.name.clone(),
            digest: set.digest,
            files: set.files,
            inputs: set.inputs,
            last_good: self.status.loaded.as_ref().map(|loaded| loaded.digest),
            check: spec.check.clone(),
            directory: self.template.root.clone(),
        };
        let why = match self.status.written {
            None => "it is not on this node yet".to_owned(),
            Some(_) => format!("{} changed", change.input),
        };
        plan.actions.push(self.planned(action, why, cause));
    }

    /// The inputs changed and the files did not: the record of the inputs goes on, for those who wait for it.
    fn same_again(&self, set: &RenderedSet, cause: CauseId, plan: &mut Plan) {
        let mut status = self.status.clone();
        status.pending_since = None;
        let unloaded = self.status.written.as_ref().is_some_and(|written| self.is_to_be_loaded(written));
        let loaded = status.loaded.as_mut().filter(|_| !unloaded);
        for rendered in status.written.as_mut().into_iter().chain(loaded) {
            if rendered.digest == set.digest {
                rendered.inputs = set.inputs.clone();
            }
        }
        // A failure to load this very set stays known until it is loaded.
        let unsolved = |problem: &observed::Problem| {
            let loaded = status.loaded.as_ref().is_some_and(|loaded| loaded.digest == set.digest);
            problem.digest == Some(set.digest) && !loaded
        };
        status.problem = status.problem.take().filter(unsolved).map(|mut problem| {
            problem.inputs = set.inputs.clone();
            problem
        });
        plan.actions.push(self.record(status, "its inputs changed and its files did not".to_owned(), cause));
    }

    fn restore(&self, digest: Digest, plan: &mut Plan) {
        let Some(tell) = self.tell_to_go_back(plan) else { return };
        let action =
            Action::Restore { template: self.name.clone(), digest, tell, directory: self.template.root.clone() };
        let problem = self.status.problem.as_ref();
        let why = problem.map_or("the set in place is known to be bad", |problem| problem.reason.as_str());
        let cause = problem.map_or(&self.template.cause, |problem| &problem.cause).clone();
        plan.actions.push(self.planned(action, why.to_owned(), cause));
    }

    /// What changed since the last good set, or since the last attempt.
    fn change(&self, inputs: &Inputs) -> Change {
        let before = self.status.loaded.as_ref().or(self.status.written.as_ref()).map(|set| &set.inputs);
        inputs::newest_change(self.view, self.name, self.template, before, inputs)
    }

    /// The chain that a change belongs to; one of its own for a key, which carries none.
    fn cause(&self, change: &Change) -> CauseId {
        change.cause.clone().unwrap_or_else(|| {
            let salt = Digest::of([self.node.as_str().as_bytes(), change.input.as_bytes()]).number();
            CauseId::new(self.now, salt)
        })
    }

    fn hold(&self, rule: Rule, why: &str, until: Option<Time>, plan: &mut Plan) {
        let object = Ref::new(Kind::Template, self.name);
        plan.held.push(Held { what: format!("install {object}"), object, rule, why: why.to_owned(), until });
    }

    fn planned(&self, action: Action, why: String, cause: CauseId) -> Planned {
        Planned {
            object: Ref::new(Kind::Template, self.name),
            action,
            why,
            cause,
            disrupts: None,
            given: Vec::new(),
            intent: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Writes this template's record.
    fn record(&self, status: observed::Template, why: String, cause: CauseId) -> Planned {
        let record = Record::Template(self.name.clone(), self.node.clone(), Box::new(status));
        self.planned(Action::Record { changes: vec![Write::Put(record)] }, why, cause)
    }
}
