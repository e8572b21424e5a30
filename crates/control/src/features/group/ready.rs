//! `after`: what must be ready before a group's first instance starts.

use crate::features::Roster;
use regrow_model::desired::Goal;
use regrow_model::{Kind, Name, Ref, Time, View};

/// Answers whether objects are ready.
pub(super) struct Ready<'a> {
    view: &'a View,
    roster: &'a Roster<'a>,
}

impl<'a> Ready<'a> {
    pub(super) fn of(view: &'a View, roster: &'a Roster<'a>) -> Ready<'a> {
        Ready { view, roster }
    }

    /// Whether a group has still to begin, and so must wait for what it comes after. Replacements of a group that is
    /// under way wait for nobody: the death of a backend must not keep a dead proxy down.
    ///
    /// It has begun when an instance is to run, or has ended since the agent of its node started. The latter tells a
    /// rolling replacement of a single instance from the start after a halt.
    pub(super) fn has_begun(&self, group: &Name) -> bool {
        self.roster.members(group).iter().any(|member| {
            let started = self.view.nodes.get(&member.assignment.node).map_or(Time::default(), |node| node.since);
            let ended = || member.instance.is_some_and(|seen| member.is_live() || seen.since >= started);
            member.assignment.goal == Goal::Run || ended()
        })
    }

    /// The first of `after` that is not ready for an instance on `node`, and why.
    pub(super) fn waits_for(&self, after: &[Ref], node: &Name) -> Option<String> {
        after.iter().find_map(|object| match object.kind {
            Kind::Template => {
                let status = self.view.template_status.get(&(object.name.clone(), node.clone()));
                let written = status.is_some_and(|status| status.written.is_some());
                (!written).then(|| format!("{object} is not written on {node}"))
            }
            Kind::Group => {
                let Some(group) = self.view.groups.get(&object.name) else {
                    return Some(format!("{object} is not there"));
                };
                let healthy = self.roster.members(&object.name).iter().filter(|member| member.is_available()).count();
                let size = group.spec.size;
                (healthy < size as usize).then(|| format!("{healthy} of {size} of {object} are healthy"))
            }
            Kind::Service => {
                let none = self.view.healthy(&object.name).next().is_none();
                none.then(|| format!("{object} has no healthy endpoint"))
            }
            Kind::Cluster | Kind::Node | Kind::Instance | Kind::Job | Kind::Schedule => None,
        })
    }
}
