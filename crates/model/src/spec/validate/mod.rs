//! The rules that a spec of the right shape must still keep: values in range, names that exist, an order that ends.

mod field;
mod group;
mod job;
mod order;
mod port;
mod schedule;
mod service;
mod template;

use super::diagnostic::Wrongs;
use super::tree::At;
use super::{Governor, Spec};

/// Applies every rule. `whole`: nothing was left out of `spec`, so that rules between objects can be applied too.
pub(super) fn check(spec: &Spec, root: &At<'_>, whole: bool, wrong: &mut Wrongs) {
    let (services, groups, templates) = (root.get("services"), root.get("groups"), root.get("templates"));
    let (jobs, schedules) = (root.get("jobs"), root.get("schedules"));
    let written = Written {
        services: services.entries(),
        groups: groups.entries(),
        templates: templates.entries(),
        jobs: jobs.entries(),
        schedules: schedules.entries(),
    };
    for (name, object) in &spec.services {
        if let Some(at) = written.services.get(name.as_str()) {
            service::check(object, at, wrong);
        }
    }
    for (name, object) in &spec.groups {
        if let Some(at) = written.groups.get(name.as_str()) {
            group::check(name, object, at, &written, wrong);
        }
    }
    for (name, object) in &spec.templates {
        if let Some(at) = written.templates.get(name.as_str()) {
            template::check(object, at, &written, wrong);
        }
    }
    for (name, object) in &spec.jobs {
        if let Some(at) = written.jobs.get(name.as_str()) {
            job::check(object, at, wrong);
        }
    }
    for (name, object) in &spec.schedules {
        if let Some(at) = written.schedules.get(name.as_str()) {
            schedule::check(spec, object, at, &written, wrong);
        }
    }
    template::destinations(spec, &written, wrong);
    port::check(spec, &written, wrong);
    governor(&spec.governor, &root.get("governor"), wrong);
    if whole {
        order::check(spec, &written, wrong);
    }
}

/// The objects as written, those included that were left out of the spec because something in them is wrong: a
/// reference to one of them is right.
struct Written<'a> {
    services: Entries<'a>,
    groups: Entries<'a>,
    templates: Entries<'a>,
    jobs: Entries<'a>,
    schedules: Entries<'a>,
}

type Entries<'a> = std::collections::BTreeMap<&'a str, At<'a>>;

fn governor(governor: &Governor, at: &At<'_>, wrong: &mut Wrongs) {
    field::positive(&at.get("budget").get("per"), governor.budget.per, wrong);
}
