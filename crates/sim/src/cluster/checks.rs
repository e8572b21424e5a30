//! Checks: run at their intervals, faster while an endpoint starts, as the real world runs them.

use super::{Cluster, Step};
use regrow_control::reconcile::Input;
use regrow_model::plan::CheckTarget;
use regrow_model::{InstanceId, Name, Observation};
use std::collections::BTreeMap;
use std::time::Duration;

/// An endpoint that has not been healthy yet is checked this often.
const STARTING_INTERVAL: Duration = Duration::from_millis(100);

/// One check of one life of one endpoint.
pub(super) type Id = (Name, InstanceId, u64, String);

/// The checks that the agent wants to be run.
#[derive(Debug, Default)]
pub(super) struct Checks {
    running: BTreeMap<Id, Running>,
}

#[derive(Debug)]
struct Running {
    port: u16,
    interval: Duration,
    starting: bool,
}

impl Checks {
    pub(super) fn clear(&mut self) {
        self.running.clear();
    }
}

impl Cluster<'_> {
    /// Runs these checks from now on, and no others.
    pub(super) fn replace_checks(&mut self, agent: u64, targets: Vec<CheckTarget>) {
        let mut before = std::mem::take(&mut self.checks.running);
        for target in targets {
            for check in &target.checks {
                let id = (target.service.clone(), target.instance.clone(), target.incarnation, check.label());
                let (port, interval, starting) = (target.port, check.interval.0, target.starting);
                if before.remove(&id).is_none() {
                    self.timeline.plan(Duration::ZERO, Step::Check { agent, check: id.clone() });
                }
                self.checks.running.insert(id, Running { port, interval, starting });
            }
        }
    }

    /// One check runs, and is planned again.
    pub(super) fn check(&mut self, agent: u64, check: Id) {
        if self.agent.as_ref().is_none_or(|known| known.number != agent) {
            return;
        }
        let Some(running) = self.checks.running.get(&check) else { return };
        let (port, next) = (running.port, if running.starting { STARTING_INTERVAL } else { running.interval });
        let (service, instance, incarnation, label) = check.clone();
        let truly = self.world.check(&instance, incarnation, port, self.timeline.now());
        let disturbed = self.spells.is_partition() || self.rng.chance(self.faults.check_flakes);
        let passing = truly && !disturbed;
        let output = if passing { "200".to_owned() } else { "connection refused".to_owned() };
        let seen = Observation::Checked { service, instance, incarnation, check: label, passing, output };
        let delay = self.rng.millis(0, 5);
        self.timeline.plan(delay, Step::Tell { agent, input: Box::new(Input::Seen(seen)) });
        self.timeline.plan(next, Step::Check { agent, check });
    }
}
