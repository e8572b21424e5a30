//! Which checks a node must run.

use regrow_model::observed::{Endpoint, EndpointState, Phase};
use regrow_model::plan::CheckTarget;
use regrow_model::spec::Check;
use regrow_model::{InstanceId, Name, View, desired, observed};

/// The endpoints that this node must check, in the order of services and ids.
///
/// Only running processes are checked, and only while it matters: not what has left or is leaving. Services whose
/// only check is `process` have none to run: the kernel reports the end of a process by itself.
pub fn targets(view: &View, node: &Name) -> Vec<CheckTarget> {
    let mut targets = Vec::new();
    for (service, wanted) in &view.services {
        let checks: Vec<Check> = wanted.spec.checks.iter().filter(|check| !is_process(check)).cloned().collect();
        if checks.is_empty() {
            continue;
        }
        for (id, endpoint) in view.endpoints.get(service).into_iter().flatten() {
            let Some((assignment, _)) = checkable(view, node, id, endpoint) else { continue };
            targets.push(CheckTarget {
                service: service.clone(),
                instance: id.clone(),
                incarnation: endpoint.incarnation,
                address: endpoint.address.clone(),
                port: endpoint.port,
                starting: endpoint.state == EndpointState::Starting,
                checks: checks.clone(),
                directory: match &view.cluster {
                    Some(cluster) => cluster.root.clone(),
                    None => assignment.process.directory.clone(),
                },
            });
        }
    }
    targets
}

/// The records behind an endpoint, when its checks count.
pub(super) fn checkable<'a>(
    view: &'a View,
    node: &Name,
    id: &InstanceId,
    endpoint: &Endpoint,
) -> Option<(&'a desired::Assignment, &'a observed::Instance)> {
    let counts = matches!(endpoint.state, EndpointState::Starting | EndpointState::Passing | EndpointState::Failing);
    if !counts || endpoint.node != *node {
        return None;
    }
    let assignment = view.assignments.get(id).filter(|wanted| wanted.incarnation == endpoint.incarnation)?;
    let instance = view.instances.get(id).filter(|seen| seen.incarnation == endpoint.incarnation)?;
    (instance.phase == Phase::Running).then_some((&*assignment.value, &*instance.value))
}

/// It is answered by the life of the process, and never run.
pub(crate) fn is_process(check: &Check) -> bool {
    check.http.is_none() && check.script.is_empty() && !check.tcp
}
