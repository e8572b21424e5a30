//! How the reading program is told, and when it needs no telling.

use super::Step;
use crate::features::template::haproxy;
use crate::features::template::render;
use regrow_model::action::Tell;
use regrow_model::desired::{Assignment, Goal};
use regrow_model::observed::{Instance, Phase, Rendered, Stage};
use regrow_model::spec::Reload;
use regrow_model::{Action, InstanceId, Name, Plan, Time};
use std::time::Duration;

/// How old a process is before it is sent a signal. A younger one may not have its handler yet, and what most signals
/// do without one is kill.
const FRESH: Duration = Duration::from_secs(1);

/// Who reads the files here, and what they need.
enum Readers {
    /// These have to be told; others have read the new files when they started.
    Tell(Vec<(InstanceId, u64)>),
    /// Every one has read them when it started.
    HaveRead,
    /// There are none on this node, and none are to come.
    None,
    /// They are not there yet, or too young.
    Wait,
    /// One is starting, and nobody knows which files it has read.
    Unknown,
}

impl Step<'_> {
    /// Loads the set that is in place. False when its readers have to be waited for.
    pub(super) fn load(&self, written: &Rendered, plan: &mut Plan) -> bool {
        let spec = &self.template.spec;
        let mut probe = spec.probe.clone();
        let tell = match &spec.reload {
            None => Tell::Nobody,
            Some(reload) => {
                let readers = self.readers(reload, Some(written), plan);
                match readers {
                    Readers::Wait | Readers::Unknown => return false,
                    Readers::None => {
                        probe = None;
                        Tell::Nobody
                    }
                    Readers::HaveRead => Tell::Nobody,
                    Readers::Tell(instances) => {
                        self.by_socket(reload, written, &instances).unwrap_or_else(|| self.by_reload(reload, instances))
                    }
                }
            }
        };
        let action = Action::Load {
            template: self.name.clone(),
            digest: written.digest,
            tell,
            probe,
            directory: self.template.root.clone(),
        };
        plan.actions.push(self.planned(action, "its files are in place".to_owned(), written.cause.clone()));
        true
    }

    /// How to tell that the last good files are back: every reader, because any may have read the bad ones. `None`
    /// while it is not known which ones one has read.
    pub(super) fn tell_to_go_back(&self, plan: &mut Plan) -> Option<Tell> {
        let Some(reload) = &self.template.spec.reload else { return Some(Tell::Nobody) };
        match self.readers(reload, None, plan) {
            Readers::Tell(instances) => Some(self.by_reload(reload, instances)),
            // Whoever starts reads what is in place: that comes first, the telling after it.
            Readers::HaveRead | Readers::None | Readers::Wait => Some(Tell::Nobody),
            Readers::Unknown => None,
        }
    }

    /// Who has to be told that the files were swapped at `written`; everyone when that is `None`.
    fn readers(&self, reload: &Reload, written: Option<&Rendered>, plan: &mut Plan) -> Readers {
        let Some(group) = &reload.group else { return Readers::Tell(Vec::new()) };
        let swapped = written.map(|written| written.at);
        let (mut running, mut there) = (Vec::new(), false);
        for (id, instance) in self.view.instances.iter().filter(|(id, _)| id.group == *group) {
            let assigned = self.view.assignments.get(id);
            let current = assigned.is_none_or(|assigned| assigned.incarnation == instance.incarnation);
            if instance.node != *self.node || !current {
                continue;
            }
            let has_read = assigned.is_some_and(|assigned| has_read(assigned, instance, swapped));
            match instance.phase {
                Phase::Running => {
                    there = true;
                    if !has_read {
                        running.push((id.clone(), instance.incarnation, instance.since));
                    }
                }
                // Its program may have read the files before or after the swap, and cannot be told yet.
                Phase::Starting if !has_read => return Readers::Unknown,
                Phase::Starting | Phase::Stopping | Phase::Exited => {}
            }
        }
        if !there {
            return if self.nobody_comes(group) { Readers::None } else { Readers::Wait };
        }
        let ripe = running.iter().map(|(.., since)| since.after(FRESH)).max().unwrap_or_default();
        if ripe > self.now && written.is_some() {
            plan.recheck(ripe);
            return Readers::Wait;
        }
        if running.is_empty() {
            return Readers::HaveRead;
        }
        Readers::Tell(running.into_iter().map(|(id, incarnation, _)| (id, incarnation)).collect())
    }

    /// Whether no instance of the group is or will be on this node.
    fn nobody_comes(&self, group: &Name) -> bool {
        let mut assigned = self.view.assignments_of(group).peekable();
        if assigned.peek().is_none() {
            return self.view.groups.get(group).is_none_or(|group| group.spec.size == 0);
        }
        assigned.all(|(_, assignment)| assignment.node != *self.node || assignment.goal == Goal::Stop)
    }

    fn by_reload(&self, reload: &Reload, instances: Vec<(InstanceId, u64)>) -> Tell {
        if !reload.command.is_empty() {
            return Tell::Command { command: reload.command.clone(), timeout: reload.timeout.0 };
        }
        if instances.is_empty() {
            return Tell::Nobody;
        }
        Tell::Signal {
            instances,
            signal: reload.signal.clone().unwrap_or_else(|| "HUP".to_owned()),
            haproxy_socket: self.socket(reload),
        }
    }

    /// Through HAProxy's socket, when the change is of servers only, the running configuration is known, and the
    /// socket has not just refused this very set.
    fn by_socket(&self, reload: &Reload, written: &Rendered, instances: &[(InstanceId, u64)]) -> Option<Tell> {
        let socket = self.socket(reload)?;
        let refused = self
            .status
            .problem
            .as_ref()
            .is_some_and(|problem| problem.stage == Stage::Reload && problem.digest == Some(written.digest));
        // One socket belongs to one process; of several, which one answers is chance. One that stops still may.
        let live = |group: &Name| {
            let all = self.view.instances.iter().filter(|(id, _)| id.group == *group);
            all.filter(|(_, seen)| seen.node == *self.node && seen.phase != Phase::Exited).count()
        };
        if refused || reload.group.as_ref().is_some_and(|group| instances.len() != 1 || live(group) != 1) {
            return None;
        }
        let local = &self.view.local;
        let loaded = local
            .loaded
            .get(self.name)
            .filter(|set| self.status.loaded.as_ref().is_some_and(|loaded| loaded.digest == set.digest))?;
        let wanted = local.written.get(self.name).filter(|set| set.digest == written.digest)?;
        // Not known: this agent has loaded nothing yet, or does not know how far a load came. The one before it may have
        // given commands whose outcome nobody heard.
        let parked = local.parked.get(self.name)?;
        let commands = haproxy::commands(&loaded.contents, &wanted.contents, Some(parked))?;
        Some(Tell::Haproxy { socket, commands })
    }

    fn socket(&self, reload: &Reload) -> Option<String> {
        reload.haproxy_socket.as_deref().map(|socket| render::absolute(&self.template.root, socket))
    }
}

/// Whether an instance has certainly read the files that were swapped in at `swapped`: it was assigned after that, and so
/// started after it. An assignment that is newer than its instance's state was only written again and says nothing.
fn has_read(assigned: &Assignment, instance: &Instance, swapped: Option<Time>) -> bool {
    swapped.is_some_and(|swapped| swapped <= assigned.at && assigned.at <= instance.since)
}
