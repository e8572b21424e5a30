//! An upgrade from beginning to end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::admin::{AdminError, Cluster, Force};
use crate::connection::{Dialer, Error};
use crate::info::Info;
use crate::plan::{self, UpgradeStep, UpgradeWish};
use crate::resp::{Command, Value};
use crate::slot::Slot;
use crate::topology::{NodeId, Picture};

use super::error::{StepError, UpgradeError};
use super::hand::{Hand, Node};
use super::journal::{Current, Journal, State};
use super::probe::Probe;

/// How an upgrade goes about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgrade {
    /// What restarts a node.
    pub hand: Hand,
    /// Whether we end the server first (`SHUTDOWN SAVE`), so that the command only has to start it.
    pub shutdown: bool,
    /// The version that each node must have then; nodes that have it are passed over.
    pub expect: Option<String>,
    /// Whether the masters of the beginning get their roles back.
    pub keep_masters: bool,
    /// Whether masters without replica may be restarted, and their slots be away meanwhile.
    pub allow_downtime: bool,
    /// How long the nodes may take to agree.
    pub settle: Duration,
    /// How long a node may take to be back and to have all of its master's data.
    pub back_within: Duration,
    /// How long the command may take for one node.
    pub command_within: Duration,
}

/// What is still to be done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct UpgradePlan {
    /// The node that was in hand when an upgrade broke off and is away; it comes first, and the rest is planned after it.
    pub away: Option<Address>,
    /// The steps, in order.
    pub steps: Vec<UpgradeStep>,
    /// Nodes that need none, with their versions.
    pub done: BTreeMap<NodeId, String>,
}

/// A step that was done.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StepReport {
    /// The step.
    #[serde(flatten)]
    pub step: UpgradeStep,
    /// Where the node is that was restarted, or became the master.
    pub address: Address,
    /// Milliseconds from its first check to its last.
    pub took_ms: u64,
    /// Of a restart: the version before; unknown for a node that was away.
    pub version_before: Option<String>,
    /// Of a restart: the version now.
    pub version: Option<String>,
    /// The longest time, in milliseconds, in which no write to the shard was taken; where the master changed or was away.
    pub writes_waited_ms: Option<u64>,
}

/// What an upgrade tells while it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told<'a> {
    /// Something begins or is done.
    Step(&'a str),
    /// What is being waited for, now.
    Wait(&'a str),
}

/// How long between two looks at a node that should come or go.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Steps tried, for each node. Three are enough; roles may change behind our back.
const STEPS_MAX: usize = 6;

/// The version of a server. Valkey says there which one it is compatible with, and its own beside it.
pub fn version(info: &Info) -> String {
    info.text("valkey_version").or(info.text("redis_version")).unwrap_or("?").to_owned()
}

/// A step as people read it.
pub fn title(picture: &Picture, step: &UpgradeStep) -> String {
    let name = |id: &NodeId| match picture.node(id) {
        Some(node) => format!("{} ({})", node.address, id.short()),
        None => id.to_string(),
    };
    match step {
        UpgradeStep::Restart { node, of: Some(of) } => format!("restart {}, replica of {}", name(node), name(of)),
        UpgradeStep::Restart { node, of: None } => format!("restart {}, master", name(node)),
        UpgradeStep::HandOver { from, to } => format!("hand the role of {} to {}", name(from), name(to)),
        UpgradeStep::GiveBack { from, to } => format!("give the role back from {} to {}", name(from), name(to)),
    }
}

impl Upgrade {
    /// What is still to be done. `journal`: of an upgrade that broke off.
    pub async fn plan(&self, cluster: &mut Cluster, journal: Option<&Journal>) -> Result<UpgradePlan, UpgradeError> {
        if let Some(journal) = journal {
            let known = |id| cluster.picture().views.values().any(|view| view.nodes.contains_key(id));
            if !journal.masters.iter().any(known) {
                return Err(UpgradeError::State {
                    why: "the state folder holds an upgrade of another cluster that is not over".to_owned(),
                    hint: "give another --state, or forget that one with --anew",
                });
            }
            if journal.command != self.hand.print() {
                return Err(UpgradeError::State {
                    why: "the state folder holds an upgrade that is not over, with another command".to_owned(),
                    hint: "give the same command as then to go on, or begin anew with --anew (which restarts all nodes)",
                });
            }
            if let Some(current) = &journal.current
                && cluster.picture().unheard.contains_key(&current.node)
            {
                let (steps, done) = (Vec::new(), journal.done.clone());
                return Ok(UpgradePlan { away: Some(current.address.clone()), steps, done });
            }
        }
        // After a break the servers may still be settling; otherwise a cluster that is not whole is none to begin with.
        let patience = if journal.is_some() { self.settle } else { Duration::ZERO };
        match cluster.settle(patience, |_| true).await {
            Err(AdminError::NotSettled { problems, .. }) => return Err(UpgradeError::NotWhole(problems)),
            done => done?,
        }
        let infos = cluster.infos().await?;
        let done = self.done(journal, &infos);
        let steps = plan::upgrade(cluster.picture(), &self.wish(journal, &done, cluster.picture()))?;
        Ok(UpgradePlan { away: None, steps, done })
    }

    fn done(&self, journal: Option<&Journal>, infos: &[(crate::topology::Node, Info)]) -> BTreeMap<NodeId, String> {
        match &self.expect {
            Some(expected) => {
                let versions = infos.iter().map(|(node, info)| (node.id.clone(), version(info)));
                versions.filter(|(_, version)| version == expected).collect()
            }
            None => journal.map(|journal| journal.done.clone()).unwrap_or_default(),
        }
    }

    fn wish(&self, journal: Option<&Journal>, done: &BTreeMap<NodeId, String>, picture: &Picture) -> UpgradeWish {
        let masters = match journal {
            _ if !self.keep_masters => BTreeSet::new(),
            Some(journal) => journal.masters.clone(),
            None => masters(picture),
        };
        UpgradeWish { done: done.keys().cloned().collect(), masters, allow_downtime: self.allow_downtime }
    }

    /// Does what is still to be done. `reports` is given each step that was done, also when a later one fails. `tell` is told
    /// how it goes.
    pub async fn run(
        &self,
        cluster: &mut Cluster,
        state: &State,
        journal: Option<Journal>,
        reports: &mut Vec<StepReport>,
        tell: &mut (dyn FnMut(Told<'_>) + Send),
    ) -> Result<(), UpgradeError> {
        let journal = journal.unwrap_or_else(|| Journal::new(self.hand.print(), masters(cluster.picture())));
        state.save(&journal)?;
        let dialer = cluster.dialer().clone();
        let mut run =
            Run { plan: self, cluster, dialer, state, journal, processes: BTreeMap::new(), meant: None, reports, tell };
        run.go().await?;
        state.clear()?;
        Ok(())
    }
}

fn masters(picture: &Picture) -> BTreeSet<NodeId> {
    picture.masters().map(|node| node.id.clone()).collect()
}

struct Run<'a> {
    plan: &'a Upgrade,
    cluster: &'a mut Cluster,
    dialer: Dialer,
    state: &'a State,
    journal: Journal,
    /// The processes that the nodes were at the last look.
    processes: BTreeMap<NodeId, String>,
    /// The node that was restarted since then.
    meant: Option<(NodeId, Address)>,
    reports: &'a mut Vec<StepReport>,
    tell: &'a mut (dyn FnMut(Told<'_>) + Send),
}

impl Run<'_> {
    async fn go(&mut self) -> Result<(), UpgradeError> {
        if let Some(current) = self.journal.current.clone() {
            let step = format!("bring {} back, which was in hand before", current.address);
            let begun = Instant::now();
            match self.go_on(current.clone()).await {
                Ok(None) => {}
                Ok(Some(version)) => {
                    let step = UpgradeStep::Restart { node: current.node, of: current.of };
                    self.report(step, current.address, begun, (None, Some(version)), None);
                }
                Err(source) => return Err(UpgradeError::Stopped { step, source }),
            }
        }
        let nodes = self.cluster.picture().views.len() + self.cluster.picture().unheard.len();
        let mut tries = nodes.saturating_mul(STEPS_MAX);
        loop {
            let looked = self.next().await;
            let stopped = |source| UpgradeError::Stopped { step: "look at the cluster".to_owned(), source };
            let (step, left) = match looked.map_err(stopped)? {
                Some(next) => next,
                None => return Ok(()),
            };
            let title = title(self.cluster.picture(), &step);
            (self.tell)(Told::Step(&format!("{} of {}: {title}", self.reports.len() + 1, self.reports.len() + left)));
            tries = match tries.checked_sub(1) {
                Some(tries) => tries,
                None => {
                    let source = StepError::Restless(nodes * STEPS_MAX);
                    return Err(UpgradeError::Stopped { step: title, source });
                }
            };
            self.step(step).await.map_err(|source| UpgradeError::Stopped { step: title, source })?;
        }
    }

    /// Looks at the cluster, which must be whole, and says what is next, and how many steps are left with it. At the end all
    /// replicas have what their masters have.
    async fn next(&mut self) -> Result<Option<(UpgradeStep, usize)>, StepError> {
        (self.tell)(Told::Wait("until all nodes agree"));
        self.cluster.settle(self.plan.settle, |_| true).await?;
        let infos = self.cluster.infos().await?;
        let processes: BTreeMap<NodeId, String> =
            infos.iter().map(|(node, info)| (node.id.clone(), process(info))).collect();
        if let Some((meant, wanted)) = self.meant.take() {
            let other = |(node, _): &&(crate::topology::Node, Info)| {
                let before = self.processes.get(&node.id);
                node.id != meant && before.is_some_and(|before| processes.get(&node.id) != Some(before))
            };
            let others: Vec<Address> = infos.iter().filter(other).map(|(node, _)| node.address.clone()).collect();
            if !others.is_empty() {
                return Err(StepError::Others { wanted, others });
            }
        }
        self.processes = processes;
        let done = self.plan.done(Some(&self.journal), &infos);
        let wish = self.plan.wish(Some(&self.journal), &done, self.cluster.picture());
        let steps = plan::upgrade(self.cluster.picture(), &wish)?;
        // The replica that is restarted next needs nothing from its master first: it may be too old to get it.
        let spared = match steps.first() {
            Some(UpgradeStep::Restart { node, .. }) => Some(node),
            _ => None,
        };
        let replicas = self.replicas(spared);
        (self.tell)(Told::Wait("until all replicas have what their masters have"));
        self.cluster.in_sync(&replicas, self.plan.back_within).await?;
        Ok(steps.first().map(|step| (step.clone(), steps.len())))
    }

    fn replicas(&self, but: Option<&NodeId>) -> Vec<NodeId> {
        let replicas = self.cluster.picture().nodes().filter(|node| !node.flags.master && Some(&node.id) != but);
        replicas.map(|node| node.id.clone()).collect()
    }

    async fn step(&mut self, step: UpgradeStep) -> Result<(), StepError> {
        let begun = Instant::now();
        match &step {
            UpgradeStep::Restart { node, of } => {
                let address = self.cluster.node(node)?.address.clone();
                let probe = match of {
                    None => self.probe(node),
                    Some(_) => None,
                };
                let restarted = self.restart(node, of.as_ref(), &address).await;
                let waited = stop(probe).await;
                if let Some((before, now)) = restarted? {
                    self.report(step, address, begun, (Some(before), Some(now)), waited);
                }
            }
            UpgradeStep::HandOver { from, to } | UpgradeStep::GiveBack { from, to } => {
                let address = self.cluster.node(to)?.address.clone();
                let probe = self.probe(from);
                let promoted = self.cluster.promote(to, Force::No, self.plan.settle).await;
                let waited = stop(probe).await;
                promoted?;
                self.report(step, address, begun, (None, None), waited);
            }
        }
        Ok(())
    }

    /// Measures writes to what a master serves.
    fn probe(&self, master: &NodeId) -> Option<Probe> {
        let slot: Slot = self.cluster.picture().node(master)?.slots.iter().next()?;
        let seeds = self.cluster.picture().nodes().map(|node| node.address.clone()).collect();
        Some(Probe::start(&self.dialer, seeds, slot))
    }

    fn report(
        &mut self,
        step: UpgradeStep,
        address: Address,
        begun: Instant,
        (version_before, version): (Option<String>, Option<String>),
        waited: Option<Duration>,
    ) {
        let took_ms = ms(begun.elapsed());
        let writes_waited_ms = waited.map(ms);
        let mut text = format!("   done in {:.1} s", took_ms as f64 / 1000.0);
        match (&version_before, &version) {
            (Some(before), Some(now)) if before != now => text += &format!(", version {before} before, {now} now"),
            (_, Some(now)) => text += &format!(", version {now}"),
            _ => {}
        }
        if let Some(waited) = writes_waited_ms {
            text += &format!(", writes waited up to {waited} ms");
        }
        (self.tell)(Told::Step(&text));
        self.reports.push(StepReport { step, address, took_ms, version_before, version, writes_waited_ms });
    }

    /// Restarts a node: its version before and after. `None`: its role has changed meanwhile, and nothing was done.
    async fn restart(
        &mut self,
        node: &NodeId,
        of: Option<&NodeId>,
        address: &Address,
    ) -> Result<Option<(String, String)>, StepError> {
        let mut link = self.dialer.connect(address).await.map_err(AdminError::from)?;
        let info = link.info().await.map_err(AdminError::from)?;
        if (info.text("role") == Some("master")) != of.is_none() {
            return Ok(None);
        }
        let slots = &self.cluster.node(node)?.slots;
        let keys = if of.is_none() && !slots.is_empty() { keys(&info) } else { false };
        if keys && !self.plan.shutdown && !info.flag("aof_enabled") && !saves(&mut link).await {
            let why = "has no replica and does not save what it holds: it would come back empty";
            return Err(StepError::Bare { address: address.clone(), why });
        }
        let current = Current {
            node: node.clone(),
            address: address.clone(),
            of: of.cloned(),
            run_id: process(&info),
            failed: false,
        };
        self.journal.current = Some(current.clone());
        self.state.save(&self.journal)?;
        if self.plan.shutdown {
            self.shut_down(&current).await?;
        }
        self.run_hand(&current).await?;
        let now = self.back(&current).await?;
        if keys && !crate::upgrade::run::keys(&now) {
            return Err(StepError::Bare { address: address.clone(), why: "came back without the keys that it had" });
        }
        self.set_done(&current, version(&now))?;
        Ok(Some((version(&info), version(&now))))
    }

    /// Goes on with the node in hand. Its version; `None`: it is up as it was before, so it is planned with the others.
    async fn go_on(&mut self, current: Current) -> Result<Option<String>, StepError> {
        let looked = look(&self.dialer, &current.address).await;
        match looked {
            Ok(info) if process(&info) == current.run_id || current.failed => {
                self.journal.current = None;
                self.state.save(&self.journal)?;
                return Ok(None);
            }
            Ok(_) => {}
            Err(_) => {
                self.cluster.refresh().await?;
                let picture = self.cluster.picture();
                if !picture.views.values().any(|view| view.nodes.contains_key(&current.node)) {
                    // It was taken out of the cluster meanwhile.
                    self.journal.current = None;
                    self.state.save(&self.journal)?;
                    return Ok(None);
                }
                let others = picture.unheard.keys().filter(|id| **id != current.node).count();
                let its_master = current.of.as_ref().is_none_or(|of| picture.views.contains_key(of));
                if others > 0 || !its_master {
                    return Err(StepError::MoreAway(others.max(1)));
                }
                (self.tell)(Told::Step(&format!("{} is away; it was in hand when this broke off", current.address)));
                self.run_hand(&current).await?;
            }
        }
        let info = self.back(&current).await?;
        self.set_done(&current, version(&info))?;
        Ok(Some(version(&info)))
    }

    fn set_done(&mut self, current: &Current, version: String) -> Result<(), StepError> {
        self.meant = Some((current.node.clone(), current.address.clone()));
        self.journal.done.insert(current.node.clone(), version);
        self.journal.current = None;
        Ok(self.state.save(&self.journal)?)
    }

    async fn run_hand(&mut self, current: &Current) -> Result<(), StepError> {
        (self.tell)(Told::Wait(&format!("for the command for {}", current.address)));
        let node = Node { id: &current.node, address: &current.address, master: current.of.is_none() };
        let ran = self.plan.hand.run(&node, self.plan.command_within).await;
        if ran.is_err() {
            self.failed(current)?;
        }
        Ok(ran?)
    }

    /// Ends a server, which saves what it holds, and waits until it is gone.
    async fn shut_down(&mut self, current: &Current) -> Result<(), StepError> {
        let end = Instant::now() + self.plan.back_within;
        let mut link = self.dialer.connect(&current.address).await.map_err(AdminError::from)?;
        link.set_timeout(self.plan.back_within);
        (self.tell)(Told::Wait(&format!("until {} has saved and ended", current.address)));
        match link.call(&Command::new("SHUTDOWN SAVE")).await {
            Err(Error::Lost { .. }) | Ok(_) => {}
            Err(error) => return Err(AdminError::from(error).into()),
        }
        loop {
            match look(&self.dialer, &current.address).await {
                Err(Error::Connect { .. }) => return Ok(()),
                // Something keeps it running, and has started it again.
                Ok(info) if process(&info) != current.run_id => return Ok(()),
                _ if Instant::now() >= end => {
                    let why = "it was told to end, and is still there".to_owned();
                    let (address, after) = (current.address.clone(), self.plan.back_within);
                    return Err(StepError::NotBack { address, after, why });
                }
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }

    /// Waits until a node is back. If what came back is not what was wanted, the command is run again next time.
    async fn back(&mut self, current: &Current) -> Result<Info, StepError> {
        let back = self.wait_for(current).await;
        if matches!(back, Err(StepError::Version { .. } | StepError::Stranger { .. })) {
            self.failed(current)?;
        }
        back
    }

    fn failed(&mut self, current: &Current) -> Result<(), StepError> {
        self.journal.current = Some(Current { failed: true, ..current.clone() });
        Ok(self.state.save(&self.journal)?)
    }

    /// Waits until a node is back as another process, under its name, loaded, with its master's data, and all agree.
    async fn wait_for(&mut self, current: &Current) -> Result<Info, StepError> {
        let (address, begun) = (&current.address, Instant::now());
        let info = loop {
            let (seen, error) = match self.seen(current).await {
                Ok(Seen::Back(info)) => break info,
                Ok(Seen::Waits(why)) => (why, None),
                Ok(Seen::SameProcess) => {
                    let after = self.plan.settle;
                    let error = StepError::NotRestarted { address: address.clone(), after };
                    ("still the process that it was".to_owned(), (begun.elapsed() >= after).then_some(error))
                }
                Err(error) => (String::new(), Some(error)),
            };
            if let Some(error) = error {
                return Err(error);
            }
            if begun.elapsed() >= self.plan.back_within {
                let after = self.plan.back_within;
                return Err(StepError::NotBack { address: address.clone(), after, why: seen });
            }
            (self.tell)(Told::Wait(&format!("for {address}: {seen}")));
            sleep(LOOK_EVERY).await;
        };
        let node = &current.node;
        (self.tell)(Told::Wait(&format!("until all nodes agree that {address} is back")));
        self.cluster.settle(self.plan.settle, |picture| picture.views.contains_key(node)).await?;
        if !self.cluster.node(node)?.flags.master {
            let left = self.plan.back_within.saturating_sub(begun.elapsed());
            self.cluster.in_sync(std::slice::from_ref(node), left.max(self.plan.settle)).await?;
        }
        Ok(info)
    }

    async fn seen(&self, current: &Current) -> Result<Seen, StepError> {
        let waits = |error: Error| Seen::Waits(crate::admin::chain(&error));
        let mut link = match self.dialer.connect(&current.address).await {
            Ok(link) => link,
            Err(error) => return Ok(waits(error)),
        };
        let info = match link.info().await {
            Ok(info) => info,
            Err(error) => return Ok(waits(error)),
        };
        if process(&info) == current.run_id {
            return Ok(Seen::SameProcess);
        }
        if let Some(expected) = &self.plan.expect
            && version(&info) != *expected
        {
            let (found, expected) = (version(&info), expected.clone());
            return Err(StepError::Version { address: current.address.clone(), found, expected });
        }
        if info.flag("loading") {
            let percent = info.text("loading_loaded_perc").unwrap_or("?");
            return Ok(Seen::Waits(format!("it is loading, {percent} %")));
        }
        match link.text(&Command::new("CLUSTER MYID")).await {
            Ok(id) if id == current.node.as_str() => {}
            Ok(_) => return Err(StepError::Stranger { address: current.address.clone() }),
            Err(error) => return Ok(waits(error)),
        }
        if info.text("role") == Some("slave") && info.text("master_link_status") != Some("up") {
            let left = info.number("master_sync_left_bytes").filter(|left| *left > 0);
            let left = left.map(|left| format!(", {} MiB to come", left >> 20)).unwrap_or_default();
            return Ok(Seen::Waits(format!("it does not have its master's data yet{left}")));
        }
        Ok(Seen::Back(info))
    }
}

/// How a node that should come back looks.
enum Seen {
    SameProcess,
    Waits(String),
    Back(Info),
}

async fn look(dialer: &Dialer, address: &Address) -> Result<Info, Error> {
    dialer.connect(address).await?.info().await
}

async fn stop(probe: Option<Probe>) -> Option<Duration> {
    match probe {
        Some(probe) => probe.stop().await,
        None => None,
    }
}

/// Which process a server is: another after each start.
fn process(info: &Info) -> String {
    info.text("run_id").unwrap_or_default().to_owned()
}

/// Whether a node of a cluster holds keys.
fn keys(info: &Info) -> bool {
    info.text("db0").is_some()
}

/// Whether a server saves snapshots when it ends. One that does not tell counts as one that does not.
async fn saves(link: &mut crate::connection::Connection) -> bool {
    let answer = link.call(&Command::new("CONFIG GET").arg("save")).await;
    let points = |value: &Value| value.array()?.get(1)?.text().map(|points| !points.is_empty());
    answer.ok().as_ref().and_then(points).unwrap_or(false)
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Valkey's own version goes before the one that it is compatible with.
    #[test]
    fn versions() {
        let of = |text| version(&Info::parse(text));
        assert_eq!(of("redis_version:7.0.15\r\n"), "7.0.15");
        assert_eq!(of("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.1.1\r\n"), "8.1.1");
        assert_eq!(of(""), "?");
    }
}
