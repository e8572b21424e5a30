//! Orders that change a few records: scale, replace, restart, pause, resume, halt.

use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Record};
use regrow_model::{CauseId, Digest, InstanceId, Key, Kind, Name, Recorded, Ref, Time, View, desired, limits};
use std::time::Duration;

/// Why an order is refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such group; the caller's fault.
    #[error("there is no group `{name}`{}", known(.groups))]
    NoGroup {
        /// What was asked for.
        name: String,
        /// Those that are there.
        groups: Vec<String>,
    },
    /// There is no such instance; the caller's fault.
    #[error("there is no instance `{0}`: `regrow status` lists them")]
    NoInstance(InstanceId),
    /// Too many, or fewer than planned changes may leave.
    #[error("a group has 0 to {max} instances, not {size}", max = limits::GROUP_SIZE_MAX)]
    Size {
        /// What was asked for.
        size: u32,
    },
    /// `min_healthy` is above the new size.
    #[error(
        "group `{group}` is to keep min_healthy = {floor} instances, so its size cannot be {size}: lower min_healthy in the spec first"
    )]
    Floor {
        /// The group.
        group: Name,
        /// Its `min_healthy`.
        floor: u32,
        /// What was asked for.
        size: u32,
    },
    /// A fixed port serves one instance only.
    #[error(
        "group `{group}` has the fixed port {port}, so it cannot have {size} instances on one node: give it a range, as port: 21000-21999"
    )]
    FixedPort {
        /// The group.
        group: Name,
        /// Its port.
        port: u16,
        /// What was asked for.
        size: u32,
    },
    /// There is no pause to end.
    #[error("planned changes are not paused")]
    NotPaused,
}

fn known(groups: &[String]) -> String {
    if groups.is_empty() {
        ": no spec was applied yet".to_owned()
    } else {
        format!(": there are {}", groups.join(", "))
    }
}

fn group<'a>(view: &'a View, name: &Name) -> Result<&'a desired::Group, OrderError> {
    view.groups.get(name).map(|entry| &**entry).ok_or_else(|| OrderError::NoGroup {
        name: name.to_string(),
        groups: view.groups.keys().map(Name::to_string).collect(),
    })
}

/// Sets a group's size. It stays so until the spec is applied again.
pub fn scale(view: &View, name: &Name, size: u32, cause: &CauseId) -> Result<Recorded, OrderError> {
    let old = group(view, name)?;
    if size > limits::GROUP_SIZE_MAX {
        return Err(OrderError::Size { size });
    }
    if let Some(floor) = old.spec.min_healthy.filter(|floor| *floor > size) {
        return Err(OrderError::Floor { group: name.clone(), floor, size });
    }
    if let Some(port) = old.spec.port.fixed().filter(|_| size > 1) {
        return Err(OrderError::FixedPort { group: name.clone(), port, size });
    }
    if old.spec.size == size {
        return Ok(Recorded::default());
    }
    let message = format!("scaled from {} to {size}", old.spec.size);
    let mut new = old.clone();
    new.spec.size = size;
    new.cause = cause.clone();
    Ok(Recorded {
        changes: vec![Change::Put(Record::DesiredGroup(name.clone(), Box::new(new)))],
        events: vec![Draft::new(EventKind::Scaled, Ref::new(Kind::Group, name), message, cause)],
    })
}

/// Rolls out a new version of an unchanged group: every instance is replaced, with health gates and roll-back.
pub fn replace(view: &View, name: &Name, cause: &CauseId) -> Result<Recorded, OrderError> {
    let mut new = group(view, name)?.clone();
    new.replace += 1;
    new.cause = cause.clone();
    let message = "rolling replacement of every instance asked for";
    Ok(Recorded {
        changes: vec![Change::Put(Record::DesiredGroup(name.clone(), Box::new(new)))],
        events: vec![Draft::new(EventKind::ReplaceAsked, Ref::new(Kind::Group, name), message, cause)],
    })
}

/// Gives these instances a next life of the same version, under the group's rules of change: an assignment of no
/// version is what the group planner replaces.
pub fn restart(view: &View, instances: &[InstanceId], cause: &CauseId) -> Result<Recorded, OrderError> {
    let mut recorded = Recorded::default();
    for id in instances {
        let old = view.assignments.get(id).ok_or_else(|| OrderError::NoInstance(id.clone()))?;
        let new = desired::Assignment { version: Digest::of([]), cause: cause.clone(), ..(**old).clone() };
        recorded.changes.push(Change::Put(Record::Assignment(id.clone(), Box::new(new))));
        recorded.events.push(Draft::new(EventKind::ReplaceAsked, Ref::instance(id), "restart asked for", cause));
    }
    Ok(recorded)
}

/// Holds planned changes back.
pub fn pause(view: &View, why: &str, length: Option<Duration>, cause: &CauseId, now: Time) -> Recorded {
    let until = length.map(|length| now.after(length));
    let pause = desired::Pause { why: why.to_owned(), until, cause: cause.clone(), at: now };
    Recorded {
        changes: vec![Change::Put(Record::Pause(pause))],
        events: vec![Draft::new(EventKind::Paused, cluster(view), format!("planned changes paused: {why}"), cause)],
    }
}

/// Lets planned changes go on.
pub fn resume(view: &View, cause: &CauseId) -> Result<Recorded, OrderError> {
    if view.pause.is_none() {
        return Err(OrderError::NotPaused);
    }
    Ok(Recorded {
        changes: vec![Change::Delete(Key::Pause)],
        events: vec![Draft::new(EventKind::Resumed, cluster(view), "planned changes go on", cause)],
    })
}

/// Stops everything, in order.
pub fn halt(view: &View, cause: &CauseId, now: Time) -> Recorded {
    if view.halt.is_some() {
        return Recorded::default();
    }
    let halt = desired::Halt { cause: cause.clone(), at: now };
    Recorded {
        changes: vec![Change::Put(Record::Halt(halt))],
        events: vec![Draft::new(EventKind::Halted, cluster(view), "everything is to stop", cause)],
    }
}

fn cluster(view: &View) -> Ref {
    let fallback = || Name::new("cluster").expect("a name");
    Ref { kind: Kind::Cluster, name: view.cluster.as_ref().map_or_else(fallback, |cluster| cluster.name.clone()) }
}
