//! What a set was rendered from, and whether that has changed: without rendering anything.

use super::render::keys;
use regrow_model::observed::Inputs;
use regrow_model::{CauseId, Digest, Entry, Key, Name, Ref, Revision, Time, View, desired, key, observed};
use std::collections::BTreeSet;

/// Stands for the list of services as a whole in [`Reads::others`].
pub(super) const ALL_SERVICES: &str = "/regrow/desired/service";

/// What a rendering looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// Services, also those that are not there.
    pub(super) services: BTreeSet<Name>,
    /// Other records by key, [`ALL_SERVICES`], and `env:NAME`.
    pub(super) others: BTreeSet<String>,
}

impl Reads {
    /// What a recorded set had looked at.
    pub(super) fn of(inputs: &Inputs) -> Reads {
        let other = |key: &&String| key.starts_with(key::ROOT) || key.starts_with("env:");
        Reads {
            services: inputs.services.keys().cloned().collect(),
            others: inputs.keys.keys().filter(other).cloned().collect(),
        }
    }
}

/// The inputs as they are now. `known` saves counting endpoints of services whose index has not moved since.
pub(super) fn current(
    view: &View,
    template: &Entry<desired::Template>,
    reads: &Reads,
    known: Option<&Inputs>,
) -> Inputs {
    let mut inputs = Inputs { template: template.revision, ..Inputs::default() };
    for service in reads.services.iter().chain(template.spec.guard.min.keys()) {
        let index = index(view, service);
        let counted = known.and_then(|known| {
            let same = index > Revision::ZERO && known.services.get(service) == Some(&index);
            same.then(|| known.healthy.get(service)).flatten()
        });
        let healthy = counted.copied().unwrap_or_else(|| healthy(view, service));
        inputs.services.insert(service.clone(), index);
        inputs.healthy.insert(service.clone(), healthy);
    }
    for prefix in keys::watched(&template.spec) {
        let entry = keys::below(view, &prefix)
            .fold((Revision::ZERO, 0), |(newest, count), (_, entry)| (newest.max(entry.revision), count + 1));
        inputs.keys.insert(prefix, entry);
    }
    for other in &reads.others {
        inputs.keys.insert(other.clone(), other_input(view, other));
    }
    inputs
}

/// How many endpoints of a service may be sent traffic.
pub(super) fn healthy(view: &View, service: &Name) -> u32 {
    u32::try_from(view.healthy(service).count()).unwrap_or(u32::MAX)
}

fn index(view: &View, service: &Name) -> Revision {
    view.service_index.get(service).map_or(Revision::ZERO, |index| index.revision)
}

fn other_input(view: &View, other: &str) -> (Revision, u64) {
    if other == ALL_SERVICES {
        let newest = view.services.values().map(|service| service.revision).max();
        return (newest.unwrap_or_default(), view.services.len() as u64);
    }
    if let Some(variable) = other.strip_prefix("env:") {
        return match view.local.environment.get(variable) {
            Some(value) => {
                let hash = Digest::of([value.as_bytes()]).number() >> 1;
                (Revision(i64::try_from(hash).unwrap_or(i64::MAX)), 1)
            }
            None => (Revision::ZERO, 0),
        };
    }
    let revision = Key::parse(other).map_or(Revision::ZERO, |key| view.revision_of(&key));
    (revision, u64::from(revision > Revision::ZERO))
}

/// The newest of the inputs that differ: what is to blame, and what is to be waited for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// As an object or key: `service/web`, `template/haproxy`, `/proxy`.
    pub(super) input: String,
    /// The chain that it belongs to; `None` for what carries none, such as a user's key.
    pub(super) cause: Option<CauseId>,
    /// When, where that is recorded.
    pub(super) at: Option<Time>,
}

/// What changed last between the inputs of a recorded set and those of now; the template itself when nothing was
/// recorded or the difference has no revision to compare.
pub(super) fn newest_change(
    view: &View,
    name: &Name,
    template: &Entry<desired::Template>,
    before: Option<&Inputs>,
    now: &Inputs,
) -> Change {
    let own = Change {
        input: Ref::new(regrow_model::Kind::Template, name).to_string(),
        cause: Some(template.cause.clone()),
        at: None,
    };
    let Some(before) = before else { return own };
    let mut newest: Option<(Revision, Change)> = None;
    let mut take = |revision: Revision, change: Change| {
        if newest.as_ref().is_none_or(|(known, _)| revision > *known) {
            newest = Some((revision, change));
        }
    };
    if before.template != now.template {
        take(now.template, own.clone());
    }
    for (service, revision) in &now.services {
        if before.services.get(service) != Some(revision) {
            take(*revision, of_service(service, view.service_index.get(service).map(|index| &*index.value)));
        }
    }
    for (key, entry) in &now.keys {
        // A variable has a hash where others have a revision.
        if before.keys.get(key) != Some(entry) && !key.starts_with("env:") {
            take(entry.0, of_key(view, key));
        }
    }
    newest.map_or(own, |(_, change)| change)
}

fn of_service(name: &Name, index: Option<&observed::Service>) -> Change {
    Change {
        input: Ref::new(regrow_model::Kind::Service, name).to_string(),
        cause: index.map(|index| index.cause.clone()),
        at: index.map(|index| index.at),
    }
}

fn of_key(view: &View, key: &str) -> Change {
    let named = |input: &str, cause: Option<CauseId>| Change { input: input.to_owned(), cause, at: None };
    match Key::parse(key) {
        Some(Key::DesiredService(name)) => {
            let cause = view.services.get(&name).map(|service| service.cause.clone());
            named(&Ref::new(regrow_model::Kind::Service, &name).to_string(), cause)
        }
        Some(Key::Node(name)) => named(&Ref::new(regrow_model::Kind::Node, &name).to_string(), None),
        Some(Key::Cluster) => named("cluster", view.cluster.as_ref().map(|cluster| cluster.cause.clone())),
        _ => named(key, None),
    }
}
