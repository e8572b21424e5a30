//! One drill from beginning to end.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::address::Address;
use crate::admin::{AdminError, Cluster};
use crate::connection::{self, Dialer};
use crate::resp::{Command, Value};
use crate::router::Router;
use crate::slot::Slot;
use crate::slot_set::SlotSet;
use crate::topology::{NodeId, Problem};

use super::hands::{Fault, Grip, Hands, HandsError};
use super::ledger::Ledger;
use super::load::{Load, LoadPlan, key};
use super::report::DrillReport;
use super::watch::{Seen, look};

/// What can go wrong in a drill, apart from what it is meant to find. The node may still be broken.
#[derive(Debug, thiserror::Error)]
pub enum DrillError {
    /// The cluster is not whole; nothing was done.
    #[error("the cluster is not whole: {}", .0.first().map(Problem::to_string).unwrap_or_default())]
    NotWhole(Vec<Problem>),
    /// On the cluster.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A command that breaks or mends.
    #[error(transparent)]
    Hands(#[from] HandsError),
    /// Nothing gets through, before anything was broken.
    #[error("the cluster acknowledges no writes; nothing was broken")]
    NoLoad,
}

/// A drill to be done.
#[derive(Debug, Clone)]
pub struct Drill {
    /// To which node.
    pub node: NodeId,
    /// What.
    pub fault: Fault,
    /// How.
    pub hands: Hands,
    /// Under how much load.
    pub load: LoadPlan,
    /// A word that no other drill has; it is in the keys.
    pub run: String,
    /// How long to wait for each: a promotion, and full redundancy.
    pub within: Duration,
}

/// Acknowledged writes before the fault, so that the first connections are no part of what is measured.
const WARM_UP_WRITES: u64 = 200;
/// How long between two looks at the load.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long the load goes on after redundancy is back.
const AFTER: Duration = Duration::from_millis(500);
/// Times a write is looked for at the end.
const LOOKS_MAX: usize = 20;

impl Drill {
    /// Does the drill. `say` is told each step.
    pub async fn run(
        &self,
        cluster: &mut Cluster,
        dialer: &Dialer,
        say: &mut dyn FnMut(&str),
    ) -> Result<DrillReport, DrillError> {
        cluster.refresh().await?;
        let problems = cluster.picture().problems();
        if !problems.is_empty() {
            return Err(DrillError::NotWhole(problems));
        }
        let node = cluster.picture().node(&self.node).cloned().ok_or_else(|| AdminError::NoNode(self.node.clone()))?;
        let grip = grip(dialer, &node.address).await?;
        self.hands.ready(self.fault, &grip)?;
        let has_replica = cluster.picture().replicas(&node.id).next().is_some();
        // The load measures the slots that the node serves, or that its master does.
        let master = node.master.clone().unwrap_or_else(|| node.id.clone());
        let slots = cluster.picture().node(&master).map(|node| node.slots.clone()).unwrap_or_default();
        let own_slots = if node.flags.master { slots.clone() } else { SlotSet::new() };
        let others: Vec<Address> =
            cluster.picture().nodes().filter(|other| other.id != node.id).map(|other| other.address.clone()).collect();
        let watcher = cluster.picture().masters().find(|other| other.id != node.id).map(|other| other.address.clone());
        let watcher = watcher.ok_or_else(|| AdminError::NoNode(node.id.clone()))?;

        say("starting the load");
        let load = Load::start(dialer, &others, &self.run, self.load);
        if !self.warm(&load).await {
            self.clean(&load.stop().await, dialer, &others).await;
            return Err(DrillError::NoLoad);
        }
        let (sender, mut seen) = watch::channel(Seen::default());
        let looking = tokio::spawn(look(dialer.clone(), watcher, node.id.clone(), own_slots.clone(), sender));

        say(&format!("fault: {:?} of {}", self.fault, node.address).to_lowercase());
        let (fault_at, fault_since) = (Instant::now(), load.now());
        self.break_it(dialer, &grip).await?;
        let awaits_promotion = !own_slots.is_empty() && has_replica;
        let settled = |seen: &Seen| if awaits_promotion { seen.replaced.is_some() } else { seen.failed.is_some() };
        let _ = timeout(self.within, seen.wait_for(settled)).await;

        say("bringing the node back");
        self.hands.act(if self.fault == Fault::Pause { "resume" } else { "start" }, &grip).await?;
        let back = self.back(cluster).await;
        let redundant = back.is_ok().then(Instant::now);
        sleep(AFTER).await;
        let ledger = load.stop().await;
        let last = *seen.borrow();
        drop(seen);
        looking.abort();
        match back {
            Ok(()) | Err(AdminError::NotSettled { .. } | AdminError::NotInStep { .. }) => {}
            Err(error) => return Err(error.into()),
        }

        say("looking for every acknowledged write");
        let (lost, lost_with_wait) = self.clean(&ledger, dialer, &others).await;
        let since = |at: Option<Instant>| at.map(|at| ms(at.saturating_duration_since(fault_at)));
        let outage = ledger.outage(&slots, fault_since);
        let acknowledged = ledger.acknowledged();
        Ok(DrillReport {
            fault: self.fault,
            role: role(node.flags.master),
            suspected_ms: since(last.suspected),
            detected_ms: since(last.failed),
            promoted_ms: since(last.replaced).filter(|_| !own_slots.is_empty()),
            first_good_write_ms: outage.map(|outage| ms(outage.to.saturating_sub(fault_since))),
            unavailable_ms: outage.map_or(0, |outage| ms(outage.to - outage.from)),
            redundant_ms: since(redundant),
            rejoined_as: cluster.picture().node(&node.id).map(|node| role(node.flags.master)),
            writes_acknowledged: acknowledged,
            writes_failed: ledger.writes.len() as u64 - acknowledged,
            lost,
            lost_with_wait,
            wait_unfulfilled: ledger
                .writes
                .iter()
                .filter(|write| write.acknowledged && write.replicas == Some(0))
                .count() as u64,
            reads_failed: ledger.reads_failed,
            reads: ledger.reads,
            node: node.id,
            address: node.address,
        })
    }

    /// Waits until the load runs. False: it does not.
    async fn warm(&self, load: &Load) -> bool {
        let end = Instant::now() + self.within;
        while load.acknowledged() < WARM_UP_WRITES {
            if Instant::now() >= end {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    async fn break_it(&self, dialer: &Dialer, grip: &Grip) -> Result<(), DrillError> {
        match self.fault {
            Fault::Kill => self.hands.act("kill", grip).await?,
            Fault::Pause => self.hands.act("pause", grip).await?,
            Fault::Stop => {
                let mut link = dialer.connect(&grip.address).await.map_err(AdminError::from)?;
                // A server that ends does not answer any more. It may wait ten seconds for its replicas before.
                link.set_timeout(dialer.timeout + Duration::from_secs(10));
                match link.call(&Command::new("SHUTDOWN NOSAVE")).await {
                    Err(connection::Error::Lost { .. }) | Ok(_) => {}
                    Err(error) => return Err(AdminError::from(error).into()),
                }
            }
        }
        Ok(())
    }

    /// Until the node is in again, all agree, and all replicas are in step.
    async fn back(&self, cluster: &mut Cluster) -> Result<(), AdminError> {
        cluster.settle(self.within, |picture| picture.views.contains_key(&self.node)).await?;
        let replicas: Vec<NodeId> =
            cluster.picture().nodes().filter(|node| !node.flags.master).map(|node| node.id.clone()).collect();
        cluster.in_step(&replicas, self.within).await
    }

    /// Looks for every write and removes it. Lost ones: without and with a replica's word.
    async fn clean(&self, ledger: &Ledger, dialer: &Dialer, seeds: &[Address]) -> (u64, u64) {
        let mut router = Router::new(dialer.clone(), seeds.to_vec());
        let (mut lost, mut lost_with_wait) = (0, 0);
        for write in &ledger.writes {
            let key = key(&self.run, write.number);
            let found = find(&mut router, write.slot, &key).await;
            if write.acknowledged && !found {
                match write.replicas {
                    Some(1..) => lost_with_wait += 1,
                    _ => lost += 1,
                }
            }
        }
        (lost, lost_with_wait)
    }
}

/// Whether a key is there; it is not, afterwards. A cluster that does not answer at all counts as one that lost it.
async fn find(router: &mut Router, slot: Slot, key: &str) -> bool {
    for _ in 0..LOOKS_MAX {
        let answers = router.call(slot, &[Command::new("GET").arg(key), Command::new("UNLINK").arg(key)]).await;
        match answers.as_deref() {
            Ok([Value::Bulk(_), _]) => return true,
            Ok([Value::Null, _]) => return false,
            _ => sleep(LOOK_EVERY).await,
        }
    }
    false
}

async fn grip(dialer: &Dialer, address: &Address) -> Result<Grip, AdminError> {
    let mut link = dialer.connect(address).await?;
    let pid = link.info().await?.number("process_id").unwrap_or(0);
    Ok(Grip { address: address.clone(), ip: link.peer_ip(), pid })
}

fn role(master: bool) -> &'static str {
    if master { "master" } else { "replica" }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
