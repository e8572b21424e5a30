//! What came of an action, as records: *written* and *loaded* are two observations.

use regrow_model::action::Tell;
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::observed::{self, Bad, Inputs, Phase, Problem, Rendered, Stage, WorldError, WorldErrorKind};
use regrow_model::view::{Local, SetContents};
use regrow_model::{Action, CauseId, Digest, Name, Outcome, Planned, Recorded, Ref, Time, View, limits};
use std::collections::BTreeMap;
use std::time::Duration;

use super::{haproxy, inputs};

/// Wait before the second attempt of something that may pass by itself; doubled with each failure in a row.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// What an outcome changes in this node's record of the template, with the events that tell it.
///
/// Outcomes of other actions, of templates that have left the spec, and of sets that are no longer in place change
/// nothing.
pub fn outcome(view: &View, node: &Name, planned: &Planned, outcome: &Outcome, now: Time) -> Recorded {
    let (Action::Install { template, .. } | Action::Load { template, .. } | Action::Restore { template, .. }) =
        &planned.action
    else {
        return Recorded::default();
    };
    if !view.templates.contains_key(template) {
        return Recorded::default();
    }
    let status = view.template_status.get(&(template.clone(), node.clone()));
    let status = status.map(|status| (*status.value).clone()).unwrap_or_default();
    let mut after = After { view, node, template, planned, status, events: Vec::new(), now };
    let known = match (&planned.action, outcome) {
        (Action::Install { digest, files, inputs, .. }, Outcome::Installed) => {
            after.installed(*digest, files.len(), inputs);
            true
        }
        (Action::Install { digest, inputs, .. }, Outcome::Failed { stage, error }) => {
            after.failed(stage.unwrap_or(Stage::Write), error, *digest, inputs);
            true
        }
        (Action::Load { digest, .. }, Outcome::Loaded { how }) => after.loaded(*digest, how),
        (Action::Load { digest, tell, .. }, Outcome::Failed { stage, error }) => {
            after.not_loaded(*digest, tell, stage.unwrap_or(Stage::Reload), &error.text)
        }
        (Action::Restore { digest, .. }, Outcome::Loaded { how }) => after.restored(*digest, how),
        (Action::Restore { digest, .. }, Outcome::Failed { stage, error }) => {
            after.not_restored(*digest, stage.unwrap_or(Stage::Reload), &error.text)
        }
        _ => false,
    };
    if !known {
        return Recorded::default();
    }
    let record = Record::Template(template.clone(), node.clone(), Box::new(after.status));
    Recorded { changes: vec![Change::Put(record)], events: after.events }
}

/// Keeps what the next change of HAProxy's servers is compared with: what is in place, what is loaded, and which
/// servers the process knows in maintenance. Contents are shared, never copied.
pub fn remember(local: &mut Local, planned: &Planned, outcome: &Outcome) {
    match (&planned.action, outcome) {
        (Action::Install { template, digest, files, .. }, Outcome::Installed) => {
            let contents = files.iter().map(|file| file.content.clone()).collect();
            local.written.insert(template.clone(), SetContents { digest: *digest, contents });
        }
        (Action::Load { template, digest, tell, .. }, Outcome::Loaded { .. }) => {
            let written = local.written.get(template).filter(|set| set.digest == *digest).cloned();
            match tell {
                Tell::Haproxy { commands, .. } => {
                    let loaded = local.loaded.get(template);
                    let parked = local.parked.entry(template.clone()).or_default();
                    haproxy::park(parked, commands, loaded.map_or(&[][..], |set| &set.contents));
                }
                Tell::Nobody | Tell::Signal { .. } | Tell::Command { .. } => {
                    local.parked.insert(template.clone(), BTreeMap::new());
                }
            }
            match written {
                Some(written) => drop(local.loaded.insert(template.clone(), written)),
                None => drop(local.loaded.remove(template)),
            }
        }
        // It may have come to the swap, or not.
        (Action::Restore { .. }, Outcome::Failed { .. }) => forget(local, planned),
        // How far a socket's commands came is not known: the reload that follows makes it known.
        (Action::Load { .. }, Outcome::Failed { .. }) => forget(local, planned),
        (Action::Restore { template, digest, .. }, Outcome::Loaded { .. }) => {
            local.parked.insert(template.clone(), BTreeMap::new());
            match local.loaded.get(template).filter(|set| set.digest == *digest).cloned() {
                Some(loaded) => drop(local.written.insert(template.clone(), loaded)),
                None => {
                    local.written.remove(template);
                    local.loaded.remove(template);
                }
            }
        }
        _ => {}
    }
}

/// What an action may have done whose outcome never came: what is in place, or what HAProxy runs with, is not known any
/// more.
pub fn forget(local: &mut Local, planned: &Planned) {
    match &planned.action {
        Action::Install { template, .. } => drop(local.written.remove(template)),
        Action::Load { template, .. } => drop(local.parked.remove(template)),
        Action::Restore { template, .. } => {
            local.written.remove(template);
            local.parked.remove(template);
        }
        Action::Record { .. } | Action::Start { .. } | Action::Stop { .. } => {}
    }
}

/// When a failure that may pass by itself is tried again: after 1 s, doubled with each failure, at most 60 s.
pub(super) fn retry_at(now: Time, failures: u32) -> Time {
    let doubled = RETRY_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16));
    now.after(doubled.min(RETRY_MAX))
}

/// At most [`limits::OUTPUT_BYTES_MAX`] bytes: the beginning, where compilers and checks say what is wrong.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(limits::OUTPUT_BYTES_MAX)].to_owned()
}

/// A problem as its event tells it: the reason's first line in the message, what a command said beyond it as detail.
pub(super) fn told(problem: &Problem, object: &Ref, cause: &CauseId) -> Draft {
    let stage = match problem.stage {
        Stage::Render => "it does not render",
        Stage::Guard => "its guard refuses the change",
        Stage::Check => "its check refuses the files",
        Stage::Write => "its files cannot be written",
        Stage::Reload => "the reload failed",
        Stage::Probe => "the probe failed after the reload",
        Stage::Health => "it is not healthy",
    };
    let (first, rest) = problem.reason.trim_end().split_once('\n').unwrap_or((problem.reason.trim_end(), ""));
    let message = format!("{stage}: {first} (changed by {})", problem.input);
    let detail = (!rest.is_empty()).then(|| rest.to_owned());
    Draft { detail, ..Draft::new(EventKind::Refused, object.clone(), message, cause) }
}

/// A status on its way to the next one.
struct After<'a> {
    view: &'a View,
    node: &'a Name,
    template: &'a Name,
    planned: &'a Planned,
    status: observed::Template,
    events: Vec<Draft>,
    now: Time,
}

impl After<'_> {
    fn installed(&mut self, digest: Digest, files: usize, inputs: &Inputs) {
        let cause = self.planned.cause.clone();
        self.status.written = Some(Rendered { digest, inputs: inputs.clone(), at: self.now, cause });
        self.status.pending_since = None;
        // A set that failed before is being tried again: it is not bad until it fails once more.
        self.status.bad.retain(|bad| bad.version != digest);
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        self.tell(EventKind::Installed, format!("{files} in place as {}", digest.short()));
    }

    fn loaded(&mut self, digest: Digest, how: &str) -> bool {
        let Some(written) = self.status.written.clone().filter(|written| written.digest == digest) else {
            return false;
        };
        self.status.loaded = Some(Rendered { at: self.now, ..written });
        self.status.problem = None;
        self.tell(EventKind::Loaded, format!("{} loaded: {how}", digest.short()));
        true
    }

    /// A set that could not be put in place: the one before it stays.
    fn failed(&mut self, stage: Stage, error: &WorldError, digest: Digest, inputs: &Inputs) {
        self.status.pending_since = None;
        self.problem(stage, &error.text, digest, inputs);
        // A check that could not be run, or took too long, has not judged the files.
        if stage == Stage::Check && error.kind == WorldErrorKind::Refused {
            self.remember_bad(digest);
        }
        self.tell_problem();
    }

    fn not_loaded(&mut self, digest: Digest, tell: &Tell, stage: Stage, reason: &str) -> bool {
        let Some(written) = self.status.written.clone().filter(|written| written.digest == digest) else {
            return false;
        };
        if matches!(tell, Tell::Haproxy { .. }) && stage == Stage::Reload {
            // The socket's refusal says nothing against the set: an ordinary reload of it comes next, and at once.
            let reason = format!("HAProxy's socket did not take the change, a reload follows: {reason}");
            self.problem(stage, &reason, digest, &written.inputs);
            if let Some(problem) = &mut self.status.problem {
                problem.retry_at = self.now;
            }
        } else {
            self.problem(stage, reason, digest, &written.inputs);
            self.remember_bad(digest);
            // The way back to a good set does not wait.
            if let (Some(problem), Some(_)) = (&mut self.status.problem, &self.status.loaded) {
                problem.retry_at = self.now;
            }
        }
        self.tell_problem();
        true
    }

    fn restored(&mut self, digest: Digest, how: &str) -> bool {
        let Some(loaded) = self.status.loaded.clone().filter(|loaded| loaded.digest == digest) else {
            return false;
        };
        let back = Rendered { at: self.now, ..loaded };
        self.status.bad.retain(|bad| bad.version != digest);
        if self.told_everybody() {
            self.status.loaded = Some(back.clone());
        }
        // Else a load follows, which tells who started while the bad set was in place.
        self.status.written = Some(back);
        let now = self.now;
        if let Some(problem) = &mut self.status.problem {
            problem.retry_at = retry_at(now, problem.failures);
        }
        self.tell(EventKind::Restored, format!("{} is back in place: {how}", digest.short()));
        true
    }

    /// Whether everybody who may have read other files was told by this action.
    fn told_everybody(&self) -> bool {
        let reload = self.view.templates.get(self.template).and_then(|template| template.spec.reload.as_ref());
        let Some(group) = reload.and_then(|reload| reload.group.as_ref()) else { return true };
        let Action::Restore { tell: Tell::Signal { instances: told, .. }, .. } = &self.planned.action else {
            return false;
        };
        let mut readers = self
            .view
            .instances
            .iter()
            .filter(|(id, seen)| id.group == *group && seen.node == *self.node && seen.phase != Phase::Exited);
        readers.all(|(id, seen)| told.iter().any(|(told, life)| told == id && *life == seen.incarnation))
    }

    /// The good set is not back yet: later again, with the reason that it is needed kept.
    ///
    /// Without such a reason it was only to be put back because nobody knew what is in place. Then it is not so good:
    /// it counted as loaded while nobody was there to read it, and the newest set takes its place.
    fn not_restored(&mut self, digest: Digest, stage: Stage, reason: &str) -> bool {
        let now = self.now;
        let Some(problem) = &mut self.status.problem else {
            let Some(loaded) = self.status.loaded.clone().filter(|loaded| loaded.digest == digest) else {
                return false;
            };
            self.problem(stage, reason, digest, &loaded.inputs);
            self.remember_bad(digest);
            self.tell_problem();
            return true;
        };
        problem.failures = problem.failures.saturating_add(1);
        problem.retry_at = retry_at(now, problem.failures);
        let reason = format!("the last good set could not be put back: {}", shortened(reason));
        self.tell(EventKind::Refused, reason);
        true
    }

    fn problem(&mut self, stage: Stage, reason: &str, digest: Digest, inputs: &Inputs) {
        let same = self.status.problem.take().filter(|before| before.digest == Some(digest));
        let failures = same.as_ref().map_or(1, |before| before.failures.saturating_add(1));
        let input = match &same {
            Some(before) => before.input.clone(),
            None => self.blamed(inputs),
        };
        self.status.problem = Some(Problem {
            stage,
            reason: shortened(reason),
            input,
            since: same.map_or(self.now, |before| before.since),
            failures,
            retry_at: retry_at(self.now, failures),
            inputs: inputs.clone(),
            digest: Some(digest),
            cause: self.planned.cause.clone(),
        });
    }

    /// The newest input that changed since the last good set.
    fn blamed(&self, inputs: &Inputs) -> String {
        let before = self.status.loaded.as_ref().map(|loaded| &loaded.inputs);
        let template = &self.view.templates[self.template];
        inputs::newest_change(self.view, self.template, template, before, inputs).input
    }

    fn remember_bad(&mut self, digest: Digest) {
        let Some(problem) = &self.status.problem else { return };
        let (stage, reason, cause) = (problem.stage, problem.reason.clone(), problem.cause.clone());
        let bad = &mut self.status.bad;
        let known = bad.iter().position(|bad| bad.version == digest).map(|at| bad.remove(at));
        let since = known.map_or(self.now, |known| known.since);
        bad.push(Bad { version: digest, stage, reason, since, cause });
        let surplus = bad.len().saturating_sub(limits::BAD_VERSIONS_KEPT);
        bad.drain(..surplus);
    }

    fn tell_problem(&mut self) {
        if let Some(problem) = &self.status.problem {
            // A failure that only comes again is told once.
            if problem.failures == 1 {
                let event = told(problem, &self.planned.object, &self.planned.cause);
                self.events.push(event);
            }
        }
    }

    fn tell(&mut self, kind: EventKind, message: String) {
        self.events.push(Draft::new(kind, self.planned.object.clone(), message, &self.planned.cause));
    }
}
