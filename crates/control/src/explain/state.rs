//! What the records say of an object.

use super::text::ago;
use crate::features::{Member, Roster, ending};
use regrow_model::desired::Goal;
use regrow_model::observed::{EndpointState, Phase};
use regrow_model::{CauseId, InstanceId, Kind, Name, Ref, Standing, Time, View, desired, observed};

/// What is known of an object.
pub(super) struct State {
    pub(super) summary: String,
    pub(super) lines: Vec<String>,
    /// Objects that it consists of or stands for: their events and what is held of them concern it.
    pub(super) parts: Vec<Ref>,
    /// The chain that it is in.
    pub(super) cause: Option<CauseId>,
}

pub(super) fn of(view: &View, object: &Ref, now: Time) -> State {
    let state = match object.kind {
        Kind::Instance => object.instance_id().and_then(|id| instance(view, &id, now)),
        Kind::Group => group(view, &object.name, now),
        Kind::Service => service(view, &object.name, now),
        Kind::Template => template(view, &object.name, now),
        Kind::Node => node(view, &object.name, now),
        Kind::Cluster => cluster(view, now),
        Kind::Job => job(view, &object.name),
        Kind::Schedule => schedule(view, &object.name, now),
    };
    state.unwrap_or_else(|| State {
        summary: "is not there".to_owned(),
        lines: Vec::new(),
        parts: Vec::new(),
        cause: None,
    })
}

fn job(view: &View, name: &Name) -> Option<State> {
    let job = view.jobs.get(name)?;
    let schedules = view.schedules.iter().filter(|(_, schedule)| schedule.spec.job == *name);
    let parts: Vec<Ref> = schedules.map(|(name, _)| Ref::new(Kind::Schedule, name)).collect();
    let lines = parts.iter().map(|schedule| format!("started by {schedule}")).collect();
    let summary = format!("is known; `regrow job runs {name}` lists its runs");
    Some(State { summary, lines, parts, cause: Some(job.cause.clone()) })
}

fn schedule(view: &View, name: &Name, now: Time) -> Option<State> {
    let schedule = view.schedules.get(name)?;
    let job = Ref::new(Kind::Job, &schedule.spec.job);
    let summary = match crate::features::job::schedule::next_after(&schedule.spec, now) {
        _ if schedule.spec.paused => format!("is at rest, for {job}"),
        Some(next) => format!("starts {job} again in {}", ago(now, next)),
        None => format!("never starts {job} again"),
    };
    Some(State { summary, lines: Vec::new(), parts: vec![job], cause: Some(schedule.cause.clone()) })
}

fn instance(view: &View, id: &InstanceId, now: Time) -> Option<State> {
    let roster = Roster::of(view);
    let member = roster.members(&id.group).iter().find(|member| member.id == id);
    let Some(member) = member else {
        let seen = view.instances.get(id)?;
        return Some(State {
            summary: format!("is wanted by nobody and {}", phase(seen, now)),
            lines: Vec::new(),
            parts: Vec::new(),
            cause: Some(seen.cause.clone()),
        });
    };
    let assignment = member.assignment;
    let goal = match assignment.goal {
        Goal::Run => "is to run",
        Goal::Drain => "is to leave its pools",
        Goal::Stop => "is to stop",
    };
    let mut lines = vec![
        format!("{goal} on {}, life {}, for {}", assignment.node, assignment.incarnation, ago(assignment.at, now)),
        format!("address {}:{}, version {}", assignment.address, assignment.port, assignment.version.short()),
    ];
    if assignment.crashes > 1 {
        lines.push(match assignment.crashes {
            1 => "ended once before it was healthy for long".to_owned(),
            crashes => format!("ended {crashes} times in a row"),
        });
    }
    if assignment.not_before > now {
        lines.push(format!("not started for another {}", ago(now, assignment.not_before)));
    }
    lines.extend(member.instance.map(|seen| format!("life {} {}", seen.incarnation, phase(seen, now))));
    if let Some(gone) = view.members.get(&assignment.node).filter(|node| node.standing != Standing::Alive) {
        let (state, since) = (gone.standing.as_str(), ago(gone.since, now));
        lines.push(format!("its node {} has {state} {since} ago: {}", assignment.node, gone.why));
    }
    for (_, service, endpoint) in roster.endpoints_of(id) {
        lines.push(format!("in service {service}: {} for {}", endpoint_state(endpoint), ago(endpoint.since, now)));
        for (label, status) in &endpoint.checks {
            let passing = if status.passing { "passes" } else { "fails" };
            let said = status.output.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
            lines.push(format!("check {label} {passing} for {}{said}", ago(status.since, now)));
        }
    }
    let seen = member.instance.map(|seen| &seen.cause);
    let endpoint = member.endpoint.map(|(_, endpoint)| &endpoint.cause);
    let cause = endpoint.or(seen).filter(|_| !member.is_healthy()).unwrap_or(&assignment.cause);
    let group = Ref::new(Kind::Group, &id.group);
    Some(State { summary: standing(member, now), lines, parts: vec![group], cause: Some(cause.clone()) })
}

/// How an instance stands, in one clause.
fn standing(member: &Member<'_>, now: Time) -> String {
    if let Some(since) = member.healthy_since() {
        let leaving = if member.assignment.goal == Goal::Run { "" } else { ", and is to go" };
        return format!("healthy for {}{leaving}", ago(since, now));
    }
    let Some(life) = member.life() else {
        let until = member.assignment.not_before;
        return match until > now {
            true => format!("waits another {} in a crash loop", ago(now, until)),
            false => "not started yet".to_owned(),
        };
    };
    if life.is_booting() && life.phase == Phase::Running {
        return format!("runs for {}, and waits for the job of its boot", ago(life.since, now));
    }
    match member.endpoint {
        Some((service, endpoint)) if life.phase == Phase::Running => {
            let failing = endpoint.checks.iter().find(|(_, status)| !status.passing);
            let why = failing.map(|(label, status)| {
                format!(": {label} fails: {}", status.output.lines().next().unwrap_or_default().trim())
            });
            let state = endpoint_state(endpoint);
            format!(
                "runs, but {state} in service {service} for {}{}",
                ago(endpoint.since, now),
                why.unwrap_or_default()
            )
        }
        _ => phase(life, now),
    }
}

fn phase(seen: &observed::Instance, now: Time) -> String {
    let for_long = ago(seen.since, now);
    match seen.phase {
        Phase::Starting => format!("is being started for {for_long}"),
        Phase::Running => match seen.process {
            Some(process) => format!("runs as pid {} for {for_long}", process.pid),
            None => format!("runs for {for_long}"),
        },
        Phase::Stopping => format!("has been told to stop {for_long} ago"),
        Phase::Exited => match (&seen.error, &seen.exit) {
            (Some(error), _) => format!("could not be started {for_long} ago: {}", error.text),
            (None, Some(exit)) => format!("{} {for_long} ago", ending(exit)),
            (None, None) => format!("ended {for_long} ago"),
        },
    }
}

fn endpoint_state(endpoint: &observed::Endpoint) -> &'static str {
    match endpoint.state {
        EndpointState::Starting => "not yet healthy",
        EndpointState::Passing => "in the pool",
        EndpointState::Failing => "failing",
        EndpointState::Draining => "draining",
        EndpointState::Down => "down",
    }
}

fn group(view: &View, name: &Name, now: Time) -> Option<State> {
    let roster = Roster::of(view);
    let members = roster.members(name);
    let wanted = view.groups.get(name);
    if wanted.is_none() && members.is_empty() {
        return None;
    }
    let healthy = members.iter().filter(|member| member.is_available()).count();
    let size = wanted.map_or(0, |wanted| wanted.spec.size);
    let status = view.group_status.get(name);
    let mut summary = format!("{healthy} of {size} are healthy");
    let mut lines = Vec::new();
    lines.extend(wanted.map(|wanted| format!("wanted version {}", wanted.version().short())));
    if let Some(status) = status {
        if let Some(good) = &status.good {
            lines.push(format!("last good version {}, for {}", good.version.short(), ago(good.at, now)));
        }
        if let Some(rollout) = &status.rollout {
            let changing = format!("changing to version {} for {}", rollout.version.short(), ago(rollout.since, now));
            summary = format!("{summary}, {changing}");
            lines.push(changing);
        }
        let failed = wanted
            .map(|wanted| desired::Group::version(wanted))
            .filter(|version| status.bad.iter().any(|bad| bad.version == *version));
        if failed.is_some() {
            summary = format!("{summary}, but the newest version failed");
        }
        for bad in &status.bad {
            lines.push(format!("version {} failed {} ago: {}", bad.version.short(), ago(bad.since, now), bad.reason));
        }
    }
    lines.extend(members.iter().map(|member| format!("{}: {}", member.id, standing(member, now))));
    let troubled = members.iter().find(|member| !member.is_healthy()).and_then(|member| member.instance);
    let cause = troubled.map(|seen| &seen.cause).or(wanted.map(|wanted| &wanted.cause));
    let parts = members.iter().map(|member| Ref::instance(member.id)).collect();
    Some(State { summary, lines, parts, cause: cause.cloned() })
}

fn service(view: &View, name: &Name, now: Time) -> Option<State> {
    let endpoints = view.endpoints.get(name);
    let wanted = view.services.get(name);
    if endpoints.is_none() && wanted.is_none() {
        return None;
    }
    let all = endpoints.map_or(0, |endpoints| endpoints.len());
    let healthy = view.healthy(name).count();
    let mut lines = Vec::new();
    let mut parts = Vec::new();
    for (id, endpoint) in endpoints.into_iter().flatten() {
        let (address, port, state) = (&endpoint.address, endpoint.port, endpoint_state(endpoint));
        lines.push(format!("{id} at {address}:{port}: {state} for {}", ago(endpoint.since, now)));
        parts.push(Ref::instance(id));
    }
    for (group, _) in view.groups.iter().filter(|(_, group)| group.spec.service.as_ref() == Some(name)) {
        parts.push(Ref::new(Kind::Group, group));
    }
    let cause = view.service_index.get(name).map(|index| index.cause.clone());
    Some(State { summary: format!("{healthy} of {all} endpoints are healthy"), lines, parts, cause })
}

fn template(view: &View, name: &Name, now: Time) -> Option<State> {
    let statuses: Vec<_> = view.template_status.iter().filter(|((template, _), _)| template == name).collect();
    let wanted = view.templates.get(name);
    if wanted.is_none() && statuses.is_empty() {
        return None;
    }
    let mut summary = "has not been rendered".to_owned();
    let mut lines = Vec::new();
    let mut cause = wanted.map(|wanted| wanted.cause.clone());
    let mut parts = Vec::new();
    for ((_, node), status) in statuses {
        for (what, set) in [("written", &status.written), ("loaded", &status.loaded)] {
            let Some(set) = set else { continue };
            lines.push(format!("{what} on {node}: set {} for {}", set.digest.short(), ago(set.at, now)));
            parts.extend(set.inputs.services.keys().map(|service| Ref::new(Kind::Service, service)));
        }
        match (&status.problem, &status.loaded, &status.written) {
            (Some(problem), ..) => {
                let (stage, since) = (stage(problem.stage), ago(problem.since, now));
                summary = format!("{stage} on {node} for {since}, because of {}: {}", problem.input, problem.reason);
                cause = Some(problem.cause.clone());
                if matches!(problem.stage, observed::Stage::Render | observed::Stage::Guard | observed::Stage::Check) {
                    lines.push(format!("tried again on {node} when an input changes"));
                } else if problem.retry_at > now {
                    lines.push(format!("tried again on {node} in {}", ago(now, problem.retry_at)));
                }
            }
            (None, Some(loaded), Some(written)) if loaded.digest == written.digest => {
                summary = format!("set {} is loaded", loaded.digest.short());
                cause = Some(loaded.cause.clone());
            }
            (None, _, Some(written)) => {
                summary = format!("set {} is written and not loaded", written.digest.short());
                cause = Some(written.cause.clone());
            }
            (None, _, None) => {}
        }
        for bad in &status.bad {
            lines.push(format!("set {} was refused {} ago: {}", bad.version.short(), ago(bad.since, now), bad.reason));
        }
        if let Some(since) = status.pending_since {
            lines.push(format!("a change settles on {node} for {}", ago(since, now)));
        }
    }
    Some(State { summary, lines, parts, cause })
}

fn stage(stage: observed::Stage) -> &'static str {
    match stage {
        observed::Stage::Render => "does not render",
        observed::Stage::Guard => "is held by a guard",
        observed::Stage::Check => "is refused by its check",
        observed::Stage::Write => "cannot be written",
        observed::Stage::Reload => "is written, but its reload fails",
        observed::Stage::Probe => "was loaded, but its probe fails",
        observed::Stage::Health => "did not become healthy",
    }
}

fn node(view: &View, name: &Name, now: Time) -> Option<State> {
    let Some(node) = view.nodes.get(name) else {
        return member(view, name, now);
    };
    let mine: Vec<_> = view.assignments.iter().filter(|(_, assignment)| assignment.node == *name).collect();
    let summary = format!("runs regrow {} at {} for {}", node.version, node.address, ago(node.since, now));
    let lines = vec![format!("{} instances are assigned to it", mine.len())];
    let parts = mine.iter().map(|(id, _)| Ref::instance(id)).collect();
    let known = member(view, name, now);
    let Some(known) = known else { return Some(State { summary, lines, parts, cause: None }) };
    let alive = view.members.get(name).is_some_and(|member| member.standing == Standing::Alive);
    let summary = if alive { summary } else { format!("{}, and its lease in the store is alive", known.summary) };
    Some(State { summary, lines: [lines, known.lines].concat(), parts, cause: known.cause })
}

/// What is recorded of a member of gossip.
fn member(view: &View, name: &Name, now: Time) -> Option<State> {
    let member = view.members.get(name)?;
    let (state, since) = (member.standing.as_str(), ago(member.since, now));
    let mut summary = format!("{state} for {since}: {}", member.why);
    let mut lines = vec![format!("gossip at {}: {state} for {since}, recorded by {}", member.address, member.by)];
    if let Some(confirmed) = member.confirmed {
        summary = format!("dead for {since}: {}", member.why);
        lines.push(format!("second source: its lease in the store had ended {} ago", ago(confirmed, now)));
    }
    if member.overruled {
        lines.push("an earlier verdict on it was wrong: the next one waits for the end of its lease".to_owned());
    }
    let mine = view.assignments.iter().filter(|(_, assignment)| assignment.node == *name);
    let parts: Vec<Ref> = mine.map(|(id, _)| Ref::instance(id)).collect();
    if !view.nodes.contains_key(name) {
        lines.push(format!("{} instances are assigned to it", parts.len()));
    }
    Some(State { summary, lines, parts, cause: Some(member.cause.clone()) })
}

fn cluster(view: &View, now: Time) -> Option<State> {
    let cluster = view.cluster.as_ref()?;
    let mut summary =
        format!("{} groups, {} services, {} templates", view.groups.len(), view.services.len(), view.templates.len());
    let mut lines = vec![format!("{}, applied {} ago", cluster.name, ago(cluster.at, now))];
    if let Some(pause) = view.pause.as_ref().filter(|pause| pause.until.is_none_or(|until| until > now)) {
        summary = format!("paused for {}: {}", ago(pause.at, now), pause.why);
        lines.extend(pause.until.map(|until| format!("goes on by itself in {}", ago(now, until))));
    }
    if let Some(halt) = &view.halt {
        summary = format!("everything is to stop, asked {} ago", ago(halt.at, now));
    }
    let all = [view.groups.keys().map(|name| Ref::new(Kind::Group, name)).collect::<Vec<_>>()];
    Some(State { summary, lines, parts: all.concat(), cause: Some(cluster.cause.clone()) })
}
