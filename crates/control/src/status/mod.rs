//! The cluster at a glance: what `regrow status`, the API and the page show.

mod text;

pub use text::render;

use regrow_model::observed::{EndpointState, Inputs, Phase};
use regrow_model::{Digest, Entry, Held, InstanceId, Name, Revision, Standing, Time, View, desired, observed};
use serde::{Deserialize, Serialize};

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The cluster's name; `None` before the first spec was applied.
    pub cluster: Option<Name>,
    /// The store's revision that this is of.
    pub revision: Revision,
    /// When this was made.
    pub at: Time,
    /// One word for the whole.
    pub health: Overall,
    /// Why planned changes are paused, when they are.
    pub paused: Option<String>,
    /// Everything is being stopped.
    pub halting: bool,
    /// Nodes.
    pub nodes: Vec<NodeStatus>,
    /// Members of gossip as the store has them; empty where gossip is off.
    #[serde(default)]
    pub members: Vec<MemberStatus>,
    /// Services.
    pub services: Vec<ServiceStatus>,
    /// Groups with their instances.
    pub groups: Vec<GroupStatus>,
    /// Templates, by node.
    pub templates: Vec<TemplateStatus>,
    /// What rules hold back now.
    pub waiting: Vec<Waiting>,
}

/// One word for the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overall {
    /// Nothing was applied yet.
    Empty,
    /// Everything is as wanted.
    Healthy,
    /// Something is on its way.
    Changing,
    /// Something is not as wanted.
    Degraded,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: Name,
    /// The address that its instances serve on.
    pub address: String,
    /// Regrow's version there.
    pub version: String,
    /// When its agent started.
    pub since: Time,
    /// Instances assigned to it.
    pub instances: usize,
}

/// A member of gossip.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Its name.
    pub name: Name,
    /// Where gossip reaches it.
    pub address: String,
    /// `alive`, `left`, `failed`, or `dead`: by two sources.
    pub state: String,
    /// Since when.
    pub since: Time,
    /// Why, when it is not alive.
    pub reason: Option<String>,
}

/// A service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its name.
    pub name: Name,
    /// Endpoints in the pool.
    pub healthy: usize,
    /// All its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// An endpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// The instance behind it.
    pub instance: InstanceId,
    /// Where it serves, as `address:port`.
    pub address: String,
    /// Whether it may be sent traffic.
    pub state: EndpointState,
    /// Since when.
    pub since: Time,
    /// What a failing check said.
    pub reason: Option<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Its name.
    pub name: Name,
    /// How many are wanted.
    pub size: u32,
    /// How many serve.
    pub healthy: usize,
    /// The wanted version, short.
    pub version: String,
    /// A rolling replacement under way or the version that was refused, for people.
    pub rollout: Option<String>,
    /// Its instances.
    pub instances: Vec<InstanceStatus>,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id.
    pub id: InstanceId,
    /// Which life of the slot.
    pub incarnation: u64,
    /// The node that runs it.
    pub node: Name,
    /// What it should be doing.
    pub goal: desired::Goal,
    /// Where it is in its life.
    pub phase: Option<Phase>,
    /// Whether it serves.
    pub healthy: bool,
    /// One word for people: `healthy`, `starting`, `failing`, `draining`, `stopping`, `backing off`, `exited`, `unreachable`, `lost`.
    pub state: String,
    /// Its process id.
    pub pid: Option<u32>,
    /// The start of the process that runs, for identity.
    pub start_ticks: Option<u64>,
    /// Where it serves.
    pub port: u16,
    /// Since when it is in this phase.
    pub since: Option<Time>,
    /// The version that it is of, short.
    pub version: String,
    /// Starts in a row that ended early.
    pub crashes: u32,
    /// Why it is not running, when it is not.
    pub reason: Option<String>,
}

/// A template on a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TemplateStatus {
    /// Its name.
    pub name: Name,
    /// The node.
    pub node: Option<Name>,
    /// One word for people: `loaded`, `written`, `changing` (its inputs have changed since), `waiting`, `refused`.
    pub state: String,
    /// The set in place, short.
    pub digest: Option<String>,
    /// Since when.
    pub since: Option<Time>,
    /// Why the newest inputs are not in place.
    pub problem: Option<String>,
}

/// Something held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What it is about, as `kind/name`.
    pub object: String,
    /// What would be done.
    pub what: String,
    /// Why not now.
    pub why: String,
    /// Until when, where it is known.
    pub until: Option<Time>,
}

/// Makes the status of a view.
pub fn status(view: &View, held: &[Held], now: Time) -> Status {
    let groups: Vec<GroupStatus> = groups(view, now);
    let services = services(view);
    let templates = templates(view);
    let waiting: Vec<Waiting> = held
        .iter()
        .map(|held| Waiting {
            object: held.object.to_string(),
            what: held.what.clone(),
            why: held.why.clone(),
            until: held.until,
        })
        .collect();
    let health = overall(view, &groups, &templates);
    Status {
        cluster: view.cluster.as_ref().map(|cluster| cluster.name.clone()),
        revision: view.revision,
        at: now,
        health,
        paused: view.pause.as_ref().map(|pause| pause.why.clone()),
        halting: view.halt.is_some(),
        nodes: nodes(view),
        members: members(view),
        services,
        groups,
        templates,
        waiting,
    }
}

fn overall(view: &View, groups: &[GroupStatus], templates: &[TemplateStatus]) -> Overall {
    if view.cluster.is_none() {
        return Overall::Empty;
    }
    let broken = |group: &GroupStatus| {
        group.instances.iter().any(|instance| {
            matches!(instance.state.as_str(), "failing" | "backing off" | "exited" | "lost" | "unreachable")
        })
    };
    let is_refused = |(name, group): (&Name, &Entry<desired::Group>)| {
        let version = group.version();
        view.group_status.get(name).is_some_and(|status| status.bad.iter().any(|bad| bad.version == version))
    };
    if view.groups.iter().any(is_refused) {
        return Overall::Degraded;
    }
    if groups.iter().any(broken) || templates.iter().any(|template| template.state == "refused") {
        return Overall::Degraded;
    }
    let whole = |group: &GroupStatus| {
        group.rollout.is_none()
            && group.instances.len() == group.size as usize
            && group.healthy == group.size as usize
            && group.instances.iter().all(|instance| {
                // One of another version is still to be replaced, even when that waits or has not begun yet.
                instance.goal == desired::Goal::Run && instance.version == group.version
            })
    };
    if groups.iter().all(whole) && templates.iter().all(|template| template.state == "loaded") {
        Overall::Healthy
    } else {
        Overall::Changing
    }
}

fn nodes(view: &View) -> Vec<NodeStatus> {
    view.nodes
        .iter()
        .map(|(name, node)| NodeStatus {
            name: name.clone(),
            address: node.address.clone(),
            version: node.version.clone(),
            since: node.since,
            instances: view.assignments.values().filter(|assignment| assignment.node == *name).count(),
        })
        .collect()
}

fn members(view: &View) -> Vec<MemberStatus> {
    let status = |(name, member): (&Name, &Entry<observed::Member>)| {
        let alive = member.standing == Standing::Alive;
        let state = if view.is_lost(name) { "dead" } else { member.standing.as_str() };
        MemberStatus {
            name: name.clone(),
            address: member.address.clone(),
            state: state.to_owned(),
            since: member.since,
            reason: (!alive).then(|| member.why.clone()),
        }
    };
    view.members.iter().map(status).collect()
}

fn services(view: &View) -> Vec<ServiceStatus> {
    let endpoints = |name: &Name| -> Vec<EndpointStatus> {
        let all = view.endpoints.get(name).into_iter().flatten();
        all.map(|(id, endpoint)| EndpointStatus {
            instance: id.clone(),
            address: format!("{}:{}", endpoint.address, endpoint.port),
            state: endpoint.state,
            since: endpoint.since,
            reason: endpoint
                .checks
                .iter()
                .find(|(_, check)| !check.passing)
                .map(|(label, check)| format!("{label}: {}", check.output)),
        })
        .collect()
    };
    view.services
        .keys()
        .map(|name| ServiceStatus {
            name: name.clone(),
            healthy: view.healthy(name).count(),
            endpoints: endpoints(name),
        })
        .collect()
}

fn groups(view: &View, now: Time) -> Vec<GroupStatus> {
    let mut all: Vec<GroupStatus> = view
        .groups
        .iter()
        .map(|(name, group)| group_status(view, name, group.spec.size, Some(group.version()), now))
        .collect();
    let leaving = view.assignments.keys().map(|id| &id.group).filter(|group| !view.groups.contains_key(*group));
    let mut leaving: Vec<&Name> = leaving.collect();
    leaving.dedup();
    all.extend(leaving.into_iter().map(|name| group_status(view, name, 0, None, now)));
    all
}

fn group_status(view: &View, name: &Name, size: u32, version: Option<Digest>, now: Time) -> GroupStatus {
    let instances: Vec<InstanceStatus> =
        view.assignments_of(name).map(|(id, assignment)| instance(view, id, assignment, now)).collect();
    let status = view.group_status.get(name);
    let rolling = status.and_then(|status| status.rollout.as_ref()).map(|rollout| {
        let done = instances.iter().filter(|instance| instance.version == rollout.version.short()).count();
        format!("rolling to {}, {done} of {size} replaced", rollout.version.short())
    });
    let bad = status.and_then(|status| status.bad.iter().rfind(|bad| Some(bad.version) == version));
    let goes_back = status.is_some_and(|status| status.good.is_some());
    let refused = bad.map(|bad| {
        let end = if goes_back { "failed and was rolled back" } else { "failed, and there is none to return to" };
        format!("version {} {end}: {}", bad.version.short(), bad.reason)
    });
    GroupStatus {
        name: name.clone(),
        size,
        healthy: instances.iter().filter(|instance| instance.healthy).count(),
        version: version.map_or_else(|| "-".to_owned(), |version| version.short()),
        rollout: refused.or(rolling),
        instances,
    }
}

fn instance(view: &View, id: &InstanceId, assignment: &desired::Assignment, now: Time) -> InstanceStatus {
    let seen = view.instances.get(id).filter(|seen| seen.incarnation == assignment.incarnation);
    let endpoint = view
        .groups
        .get(&id.group)
        .and_then(|group| group.spec.service.as_ref())
        .and_then(|service| view.endpoints.get(service)?.get(id))
        .filter(|endpoint| endpoint.incarnation == assignment.incarnation);
    let phase = seen.map(|seen| seen.phase);
    let healthy = view.is_healthy(id);
    let state = match (phase, endpoint.map(|endpoint| endpoint.state)) {
        (Some(_), _) if view.is_lost(&assignment.node) => "lost",
        (Some(_), _) if !healthy && view.is_unreachable(&assignment.node) => "unreachable",
        (Some(Phase::Running), Some(EndpointState::Draining)) => "draining",
        (Some(Phase::Running), Some(EndpointState::Failing)) => "failing",
        (Some(Phase::Running), _) if healthy => "healthy",
        (Some(Phase::Running | Phase::Starting), _) => "starting",
        (Some(Phase::Stopping), _) => "stopping",
        (Some(Phase::Exited), _) if assignment.goal != desired::Goal::Run => "stopped",
        (Some(Phase::Exited), _) => "exited",
        (None, _) if assignment.not_before > now => "backing off",
        (None, _) => "waiting",
    };
    let node = view.members.get(&assignment.node).filter(|node| node.standing != Standing::Alive && !healthy);
    let node =
        node.map(|member| format!("its node {} has {}: {}", assignment.node, member.standing.as_str(), member.why));
    let last = view.instances.get(id);
    let ended = last.filter(|last| last.phase == Phase::Exited).map(|last| match (&last.error, &last.exit) {
        (Some(error), _) => error.text.clone(),
        (None, Some(exit)) => exit.to_string(),
        (None, None) => "ended".to_owned(),
    });
    let failing = endpoint
        .filter(|endpoint| endpoint.state != EndpointState::Passing)
        .and_then(|endpoint| endpoint.checks.iter().find(|(_, check)| !check.passing))
        .map(|(label, check)| format!("{label}: {}", check.output));
    InstanceStatus {
        id: id.clone(),
        incarnation: assignment.incarnation,
        node: assignment.node.clone(),
        goal: assignment.goal,
        phase,
        healthy,
        state: state.to_owned(),
        pid: seen.filter(|seen| seen.phase == Phase::Running).and_then(|seen| seen.process).map(|process| process.pid),
        start_ticks: seen.and_then(|seen| seen.process).map(|process| process.start_ticks),
        port: assignment.port,
        since: seen.map(|seen| seen.since),
        version: assignment.version.short(),
        crashes: assignment.crashes,
        reason: if healthy { None } else { node.or(ended).or(failing) },
    }
}

/// Whether a template and the services that it reads are as they were when it was loaded.
fn is_current(view: &View, template: Revision, loaded: &Inputs) -> bool {
    let index = |service| view.service_index.get(service).map_or(Revision::ZERO, |index| index.revision);
    loaded.template == template && loaded.services.iter().all(|(service, revision)| index(service) == *revision)
}

fn templates(view: &View) -> Vec<TemplateStatus> {
    let mut all = Vec::new();
    for (name, template) in &view.templates {
        let of = view.template_status.iter().filter(|((template, _), _)| template == name);
        let before = all.len();
        all.extend(of.map(|((name, node), status)| {
            let state = match (&status.problem, &status.written, &status.loaded) {
                (Some(_), _, _) => "refused",
                (None, Some(written), Some(loaded)) if written.digest == loaded.digest => {
                    if is_current(view, template.revision, &loaded.inputs) { "loaded" } else { "changing" }
                }
                (None, Some(_), _) => "written",
                (None, None, _) => "waiting",
            };
            TemplateStatus {
                name: name.clone(),
                node: Some(node.clone()),
                state: state.to_owned(),
                digest: status.written.as_ref().map(|written| written.digest.short()),
                since: status.loaded.as_ref().or(status.written.as_ref()).map(|set| set.at),
                problem: status.problem.as_ref().map(|problem| problem.reason.clone()),
            }
        }));
        if all.len() == before {
            let state = "waiting".to_owned();
            all.push(TemplateStatus {
                name: name.clone(),
                node: None,
                state,
                digest: None,
                since: None,
                problem: None,
            });
        }
    }
    all
}
