//! Who still sends traffic to an endpoint: the loaded sets of files that were rendered with it.

use regrow_model::observed::Stage;
use regrow_model::{Name, Revision, View};
use std::collections::BTreeMap;

/// The loaded sets of each service that templates read.
pub(super) struct Pools<'a> {
    readers: BTreeMap<&'a Name, Vec<Reader<'a>>>,
}

/// One template on one node that has loaded a set which reads the service.
struct Reader<'a> {
    template: &'a Name,
    /// Index of the service that the loaded set was rendered from.
    loaded: Revision,
    /// Index that a guard has refused to go on to.
    refused: Option<Revision>,
}

/// Whether the pools have let go of an endpoint.
pub(super) enum Hold {
    /// Nobody reads the service.
    Unread,
    /// Every reader has loaded a set without it.
    LetGo,
    /// What readers there are that have not let go have seen it leave, and a guard of theirs will not follow.
    Guarded(String),
    /// This one has still to load a set without it.
    Held(String),
}

impl<'a> Pools<'a> {
    /// Only templates that are wanted, on nodes that are there: what nobody updates any more is not waited for.
    pub(super) fn of(view: &'a View) -> Pools<'a> {
        let mut readers: BTreeMap<&Name, Vec<Reader<'_>>> = BTreeMap::new();
        for ((template, node), status) in &view.template_status {
            // Before the first set was loaded nobody knows which of the written ones a program that started has read.
            let (set, known) = match (&status.value.loaded, &status.value.written) {
                (Some(loaded), _) => (loaded, true),
                (None, Some(written)) => (written, false),
                (None, None) => continue,
            };
            if !view.templates.contains_key(template) || !view.nodes.contains_key(node) {
                continue;
            }
            let problem = status.value.problem.as_ref().filter(|problem| problem.stage == Stage::Guard);
            for (service, index) in &set.inputs.services {
                let loaded = if known { *index } else { Revision::ZERO };
                let refused = problem.and_then(|problem| problem.inputs.services.get(service).copied());
                readers.entry(service).or_default().push(Reader { template, loaded, refused });
            }
        }
        Pools { readers }
    }

    /// Whether an endpoint of `service`, last written at `revision`, is still in a pool.
    pub(super) fn hold(&self, service: &Name, revision: Revision) -> Hold {
        let Some(readers) = self.readers.get(service) else { return Hold::Unread };
        let mut held = readers.iter().filter(|reader| reader.loaded < revision);
        let guarded = |reader: &Reader<'_>| reader.refused.is_some_and(|refused| refused >= revision);
        match held.clone().find(|reader| !guarded(reader)) {
            Some(reader) => Hold::Held(format!("template {} has not loaded a set without it", reader.template)),
            None => match held.next() {
                Some(reader) => Hold::Guarded(format!("a guard of template {} keeps it in the pool", reader.template)),
                None => Hold::LetGo,
            },
        }
    }
}
