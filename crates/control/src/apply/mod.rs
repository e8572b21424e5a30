//! What users ask for, turned into records: apply, scale, replace, restart, pause, resume, halt.
//!
//! Each is a function of the view and the wish; it returns the writes and events of one transaction, or a refusal that
//! changes nothing.

mod difference;
mod order;
mod resolve;
#[cfg(test)]
mod tests;

pub use difference::{Difference, Verb};
pub use order::{OrderError, halt, pause, replace, restart, resume, scale};

pub use resolve::{ResolveErrors, resolve};

use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::spec::Spec;
use regrow_model::{CauseId, Digest, Key, Kind, Name, Recorded, Ref, Time, View, desired};
use std::collections::BTreeMap;

/// A spec with everything that it names: ready to become records.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Resolved {
    /// The validated spec.
    pub spec: Spec,
    /// The folder that its relative paths start from, absolute.
    pub root: String,
    /// Each template's sources, in the order of its files.
    pub sources: BTreeMap<Name, Vec<desired::Source>>,
}

/// What applying a spec changes, for people and as writes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// Object by object; empty when everything is so already.
    pub differences: Vec<Difference>,
    /// The transaction.
    pub recorded: Recorded,
}

/// Makes the desired half of the store say what the spec says. What the spec no longer names is removed.
pub fn apply(view: &View, resolved: &Resolved, cause: &CauseId, now: Time) -> Applied {
    let mut applied = Applied::default();
    cluster(view, resolved, cause, now, &mut applied);
    services(view, resolved, cause, &mut applied);
    groups(view, resolved, cause, &mut applied);
    templates(view, resolved, cause, &mut applied);
    jobs(view, resolved, cause, &mut applied);
    schedules(view, resolved, cause, now, &mut applied);
    if !applied.differences.is_empty() {
        let count = applied.differences.len();
        let message = format!("spec applied, {count} {}", if count == 1 { "change" } else { "changes" });
        let object = Ref::new(Kind::Cluster, &resolved.spec.cluster);
        applied.recorded.events.insert(0, Draft::new(EventKind::Applied, object, message, cause));
    }
    applied
}

impl Applied {
    fn put(&mut self, difference: Difference, record: Record) {
        self.differences.push(difference);
        self.recorded.changes.push(Change::Put(record));
    }

    fn remove(&mut self, kind: Kind, name: &Name, key: Key, cause: &CauseId) {
        let object = Ref::new(kind, name);
        let message = "removed: it is no longer in the spec";
        self.recorded.events.push(Draft::new(EventKind::Removed, object.clone(), message, cause));
        self.differences.push(Difference { object, verb: Verb::Remove, fields: Vec::new() });
        self.recorded.changes.push(Change::Delete(key));
    }
}

fn cluster(view: &View, resolved: &Resolved, cause: &CauseId, now: Time, applied: &mut Applied) {
    let wanted = desired::Cluster {
        name: resolved.spec.cluster.clone(),
        root: resolved.root.clone(),
        governor: resolved.spec.governor.clone(),
        cause: cause.clone(),
        at: now,
    };
    let old = view.cluster.as_deref();
    let same =
        old.is_some_and(|old| old.name == wanted.name && old.root == wanted.root && old.governor == wanted.governor);
    if !same {
        let object = Ref::new(Kind::Cluster, &wanted.name);
        let fields =
            |cluster: &desired::Cluster| (cluster.name.clone(), cluster.root.clone(), cluster.governor.clone());
        let difference = Difference::between(object, old.map(fields).as_ref(), &fields(&wanted));
        applied.put(difference, Record::Cluster(wanted));
    }
}

fn services(view: &View, resolved: &Resolved, cause: &CauseId, applied: &mut Applied) {
    for (name, spec) in &resolved.spec.services {
        let old = view.services.get(name).map(|entry| &entry.spec);
        if old != Some(spec) {
            let difference = Difference::between(Ref::new(Kind::Service, name), old, spec);
            let record = desired::Service { spec: spec.clone(), cause: cause.clone() };
            applied.put(difference, Record::DesiredService(name.clone(), record));
        }
    }
    for name in view.services.keys().filter(|name| !resolved.spec.services.contains_key(*name)) {
        applied.remove(Kind::Service, name, Key::DesiredService(name.clone()), cause);
    }
}

fn groups(view: &View, resolved: &Resolved, cause: &CauseId, applied: &mut Applied) {
    for (name, spec) in &resolved.spec.groups {
        let old = view.groups.get(name);
        if old.is_none_or(|old| old.spec != *spec || old.root != resolved.root) {
            let object = Ref::new(Kind::Group, name);
            let difference = Difference::between(object, old.map(|old| &old.spec), spec);
            let record = desired::Group {
                spec: spec.clone(),
                root: resolved.root.clone(),
                replace: old.map_or(0, |old| old.replace),
                cause: cause.clone(),
            };
            applied.put(difference, Record::DesiredGroup(name.clone(), Box::new(record)));
        }
    }
    for name in view.groups.keys().filter(|name| !resolved.spec.groups.contains_key(*name)) {
        applied.remove(Kind::Group, name, Key::DesiredGroup(name.clone()), cause);
    }
}

fn templates(view: &View, resolved: &Resolved, cause: &CauseId, applied: &mut Applied) {
    for (name, spec) in &resolved.spec.templates {
        let sources = resolved.sources.get(name).cloned().unwrap_or_default();
        let old = view.templates.get(name);
        let same = old.is_some_and(|old| old.spec == *spec && old.root == resolved.root && old.sources == sources);
        if !same {
            let texts = |sources: &[desired::Source]| -> BTreeMap<String, Digest> {
                sources.iter().map(|s| (s.name.clone(), Digest::of([s.text.as_bytes()]))).collect()
            };
            let object = Ref::new(Kind::Template, name);
            let was = old.map(|old| (old.spec.clone(), texts(&old.sources)));
            let difference = Difference::between(object, was.as_ref(), &(spec.clone(), texts(&sources)));
            let record =
                desired::Template { spec: spec.clone(), root: resolved.root.clone(), sources, cause: cause.clone() };
            applied.put(difference, Record::DesiredTemplate(name.clone(), Box::new(record)));
        }
    }
    for name in view.templates.keys().filter(|name| !resolved.spec.templates.contains_key(*name)) {
        applied.remove(Kind::Template, name, Key::DesiredTemplate(name.clone()), cause);
    }
}

fn jobs(view: &View, resolved: &Resolved, cause: &CauseId, applied: &mut Applied) {
    for (name, spec) in &resolved.spec.jobs {
        let old = view.jobs.get(name);
        if old.is_none_or(|old| old.spec != *spec || old.root != resolved.root) {
            let difference = Difference::between(Ref::new(Kind::Job, name), old.map(|old| &old.spec), spec);
            let record = desired::Job { spec: spec.clone(), root: resolved.root.clone(), cause: cause.clone() };
            applied.put(difference, Record::DesiredJob(name.clone(), Box::new(record)));
        }
    }
    for name in view.jobs.keys().filter(|name| !resolved.spec.jobs.contains_key(*name)) {
        applied.remove(Kind::Job, name, Key::DesiredJob(name.clone()), cause);
    }
}

fn schedules(view: &View, resolved: &Resolved, cause: &CauseId, now: Time, applied: &mut Applied) {
    for (name, spec) in &resolved.spec.schedules {
        let old = view.schedules.get(name);
        if old.is_none_or(|old| old.spec != *spec) {
            let difference = Difference::between(Ref::new(Kind::Schedule, name), old.map(|old| &old.spec), spec);
            let record = desired::Schedule { spec: spec.clone(), cause: cause.clone(), at: now };
            applied.put(difference, Record::DesiredSchedule(name.clone(), Box::new(record)));
        }
    }
    for name in view.schedules.keys().filter(|name| !resolved.spec.schedules.contains_key(*name)) {
        applied.remove(Kind::Schedule, name, Key::DesiredSchedule(name.clone()), cause);
    }
}
