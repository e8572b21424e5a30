//! Start-up: what the world has kept while there was no agent.

use regrow_model::event::{Draft, EventKind};
use regrow_model::observed::Phase;
use regrow_model::process::Exit;
use regrow_model::{CauseId, Found, InstanceId, Key, Kind, Name, Observation, Ref, View};

/// What follows from what was found.
#[derive(Debug, Default)]
pub(super) struct Boot {
    /// Instances that ended while nobody watched.
    pub(super) ended: Vec<Observation>,
    /// Events about those that are alive as recorded.
    pub(super) events: Vec<Draft>,
    /// Processes that nobody has assigned: to be stopped.
    pub(super) orphans: Vec<(InstanceId, u64)>,
    /// Processes whose slots have got another life, here or elsewhere: to be stopped.
    pub(super) superseded: Vec<(InstanceId, u64)>,
}

/// Compares what was found with what is recorded for `node`.
pub(super) fn compare(view: &View, node: &Name, found: &[Found], cause: &CauseId, unseen: impl Fn() -> Exit) -> Boot {
    let mut boot = Boot::default();
    // First: it begins the chain that the others belong to.
    boot.events.push(Draft::new(
        EventKind::AgentStarted,
        Ref::new(Kind::Node, node),
        format!("agent started, {} instances found alive", found.iter().filter(|f| f.process.is_some()).count()),
        cause,
    ));
    for (id, instance) in view.instances.iter().filter(|(_, instance)| instance.node == *node) {
        if !matches!(instance.phase, Phase::Running | Phase::Stopping) {
            continue;
        }
        let same = found.iter().find(|found| found.instance == *id && found.incarnation == instance.incarnation);
        match same {
            // One that was told to stop while it started is recorded without its process.
            Some(Found { process: Some(process), .. }) if instance.process.is_none_or(|known| known == *process) => {
                let message = format!("still running as pid {} after the agent's restart", process.pid);
                boot.events.push(Draft::new(EventKind::Adopted, Ref::instance(id), message, cause));
            }
            other => boot.ended.push(Observation::Exited {
                instance: id.clone(),
                incarnation: instance.incarnation,
                process: None,
                exit: other.and_then(|found| found.exit.clone()).unwrap_or_else(&unseen),
            }),
        }
    }
    let known = |found: &Found| {
        view.revision_of(&Key::Assignment(found.instance.clone())) != regrow_model::Revision::ZERO
            || view.instances.contains_key(&found.instance)
    };
    // A life that is not recorded as this node's, and is not to be, was replaced while the node was away.
    let is_superseded = |found: &&Found| {
        let recorded = view.instances.get(&found.instance);
        let wanted = view.assignments.get(&found.instance);
        let is_ours = recorded.is_some_and(|seen| seen.node == *node && seen.incarnation == found.incarnation)
            || wanted.is_some_and(|wanted| wanted.node == *node && wanted.incarnation == found.incarnation);
        known(found) && !is_ours
    };
    let living = found.iter().filter(|found| found.process.is_some());
    boot.superseded = living.filter(is_superseded).map(|found| (found.instance.clone(), found.incarnation)).collect();
    boot.orphans = found
        .iter()
        .filter(|found| found.process.is_some() && !known(found))
        .map(|found| (found.instance.clone(), found.incarnation))
        .collect();
    boot
}
