//! Starting a life.

use crate::features::Member;
use crate::features::group::uses_port;
use crate::features::service::endpoint;
use regrow_model::key::{Change, Record};
use regrow_model::observed::{Endpoint, EndpointState, HookState, Instance, Moment, Phase};
use regrow_model::{Action, Name, Planned, Ref, Time, View, desired};
use std::collections::BTreeMap;

/// Starts the assigned life, with its intent. An intent that is written already is not written again.
///
/// `None` when nobody knows any more what the instance's version is: its group is gone, and so will it be.
pub(super) fn assigned(view: &View, member: &Member<'_>, now: Time) -> Option<Planned> {
    let (id, assignment) = (member.id, member.assignment);
    let group = of_version(view, &id.group, assignment)?;
    let cause = &assignment.cause;
    let mut intent = Vec::new();
    if member.life().is_none() {
        let record = Instance {
            node: assignment.node.clone(),
            incarnation: assignment.incarnation,
            phase: Phase::Starting,
            version: assignment.version,
            process: None,
            exit: None,
            error: None,
            hooks: group.spec.hooks.on_boot.iter().map(|_| (Moment::OnBoot, HookState::Waits)).collect(),
            since: now,
            cause: cause.clone(),
        };
        intent.push(Change::Put(Record::Instance(id.clone(), Box::new(record))));
        if let Some(service) = &group.spec.service {
            let record = Endpoint {
                node: assignment.node.clone(),
                instance: id.clone(),
                incarnation: assignment.incarnation,
                address: assignment.address.clone(),
                port: assignment.port,
                state: EndpointState::Starting,
                checks: BTreeMap::new(),
                since: now,
                cause: cause.clone(),
            };
            endpoint::put(&mut intent, service, id, record, now);
        }
    }
    let listens = group.spec.service.is_some() || uses_port(&group.spec);
    Some(Planned {
        object: Ref::instance(id),
        action: Action::Start {
            instance: id.clone(),
            incarnation: assignment.incarnation,
            process: Box::new(assignment.process.clone()),
            listen: listens.then(|| (assignment.address.clone(), assignment.port)),
        },
        why: match (assignment.incarnation, member.life()) {
            (_, Some(_)) => format!("the start of {id} has no outcome yet"),
            (1, None) => format!("{id} is to run"),
            (life, None) => format!("{id} is to run again, life {life}"),
        },
        cause: cause.clone(),
        disrupts: None,
        given: Vec::new(),
        intent,
        events: Vec::new(),
    })
}

/// The group as its instance's version wants it: the newest, or the last good one during a change.
fn of_version<'a>(view: &'a View, group: &Name, assignment: &desired::Assignment) -> Option<&'a desired::Group> {
    let good = view.group_status.get(group).and_then(|status| status.good.as_ref());
    let good = good.filter(|good| good.version == assignment.version).map(|good| &good.group);
    good.or_else(|| view.groups.get(group).map(|group| &*group.value))
}
