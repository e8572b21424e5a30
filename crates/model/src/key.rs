//! Where each record lives in the store, and its typed form.
//!
//! ```text
//! /regrow/desired/cluster                      desired::Cluster
//! /regrow/desired/pause                        desired::Pause
//! /regrow/desired/halt                         desired::Halt
//! /regrow/desired/service/<name>               desired::Service
//! /regrow/desired/group/<name>                 desired::Group
//! /regrow/desired/template/<name>              desired::Template
//! /regrow/desired/job/<name>                   desired::Job
//! /regrow/desired/schedule/<name>              desired::Schedule
//! /regrow/desired/instance/<id>                desired::Assignment
//! /regrow/observed/node/<name>                 observed::Node
//! /regrow/observed/member/<name>               observed::Member
//! /regrow/observed/service/<name>              observed::Service
//! /regrow/observed/endpoint/<service>/<id>     observed::Endpoint
//! /regrow/observed/group/<name>                observed::Group
//! /regrow/observed/instance/<id>               observed::Instance
//! /regrow/observed/template/<name>/<node>      observed::Template
//! /regrow/observed/governor                    observed::Governor
//! /regrow/events/<id>                          Event
//! /regrow/access/…                             who may enter: the doors' own, see `serve::access`
//! ```
//!
//! The queue of runs has records of its own, under [`JOBS`]: its protocol is `regrow-jobs`.
//!
//! Living members are listed for everybody at a prefix of the users' own choice ([`Key::Listing`]).
//!
//! Values are JSON, so that any etcd client can read them.
//!
//! Beside the records, for agents among themselves and in no view:
//!
//! ```text
//! /regrow/leader                               who plans for the cluster; under its agent's lease
//! /regrow/agent/<name>                         whose the name is; under its agent's lease
//! /regrow/desired/removed                      written with every removal of a desired record
//! /regrow/staged/<id>/<rest of a key>          a change that waits for its decision; empty is a removal
//! /regrow/decided                              the staged changes that are in force
//! ```

use crate::{Event, EventId, InstanceId, Name, desired, observed};
use serde::Serialize;
use std::fmt;

/// What every key of Regrow's own begins with.
pub const ROOT: &str = "/regrow/";

/// What the keys about who may enter begin with. No record of the view: no planner and no template sees them.
pub const ACCESS: &str = "/regrow/access/";

/// What the keys of events begin with.
pub const EVENTS: &str = "/regrow/events/";

/// Who plans for the cluster.
pub const LEADER: &str = "/regrow/leader";

/// What the keys of agents' names begin with.
pub const AGENTS: &str = "/regrow/agent/";

/// Written with every removal of a desired record: comparisons of whole ranges do not see what is gone.
pub const REMOVED: &str = "/regrow/desired/removed";

/// What the keys of staged changes begin with.
pub const STAGED: &str = "/regrow/staged/";

/// Which staged changes are in force.
pub const DECIDED: &str = "/regrow/decided";

/// What the keys of the queue of runs begin with. They are not part of the view: a queue has its own.
pub const JOBS: &str = "/regrow/job/";

/// A key of Regrow's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// [`desired::Cluster`].
    Cluster,
    /// [`desired::Pause`].
    Pause,
    /// [`desired::Halt`].
    Halt,
    /// [`desired::Service`].
    DesiredService(Name),
    /// [`desired::Group`].
    DesiredGroup(Name),
    /// [`desired::Template`].
    DesiredTemplate(Name),
    /// [`desired::Job`].
    DesiredJob(Name),
    /// [`desired::Schedule`].
    DesiredSchedule(Name),
    /// [`desired::Assignment`].
    Assignment(InstanceId),
    /// [`observed::Node`].
    Node(Name),
    /// [`observed::Member`].
    Member(Name),
    /// [`observed::Listing`], by its whole key: outside [`ROOT`].
    Listing(String),
    /// [`observed::Service`].
    Service(Name),
    /// [`observed::Endpoint`], by service and instance.
    Endpoint(Name, InstanceId),
    /// [`observed::Group`].
    Group(Name),
    /// [`observed::Instance`].
    Instance(InstanceId),
    /// [`observed::Template`], by template and node.
    Template(Name, Name),
    /// [`observed::Governor`].
    Governor,
    /// [`Event`].
    Event(EventId),
}

impl Key {
    /// Reads a key; `None` for one that is not Regrow's own.
    pub fn parse(text: &str) -> Option<Key> {
        let mut parts = text.strip_prefix(ROOT)?.split('/');
        let mut next = || parts.next();
        let name = |part: Option<&str>| Name::new(part?).ok();
        let key = match (next()?, next()?) {
            ("events", id) => Key::Event(EventId::parse(id)?),
            ("desired", "cluster") => Key::Cluster,
            ("desired", "pause") => Key::Pause,
            ("desired", "halt") => Key::Halt,
            ("desired", "service") => Key::DesiredService(name(next())?),
            ("desired", "group") => Key::DesiredGroup(name(next())?),
            ("desired", "template") => Key::DesiredTemplate(name(next())?),
            ("desired", "job") => Key::DesiredJob(name(next())?),
            ("desired", "schedule") => Key::DesiredSchedule(name(next())?),
            ("desired", "instance") => Key::Assignment(next()?.parse().ok()?),
            ("observed", "governor") => Key::Governor,
            ("observed", "node") => Key::Node(name(next())?),
            ("observed", "member") => Key::Member(name(next())?),
            ("observed", "service") => Key::Service(name(next())?),
            ("observed", "endpoint") => Key::Endpoint(name(next())?, next()?.parse().ok()?),
            ("observed", "group") => Key::Group(name(next())?),
            ("observed", "instance") => Key::Instance(next()?.parse().ok()?),
            ("observed", "template") => Key::Template(name(next())?, name(next())?),
            _ => return None,
        };
        next().is_none().then_some(key)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Key::Listing(key) = self {
            return f.write_str(key);
        }
        f.write_str(ROOT)?;
        match self {
            Key::Cluster => write!(f, "desired/cluster"),
            Key::Pause => write!(f, "desired/pause"),
            Key::Halt => write!(f, "desired/halt"),
            Key::DesiredService(name) => write!(f, "desired/service/{name}"),
            Key::DesiredGroup(name) => write!(f, "desired/group/{name}"),
            Key::DesiredTemplate(name) => write!(f, "desired/template/{name}"),
            Key::DesiredJob(name) => write!(f, "desired/job/{name}"),
            Key::DesiredSchedule(name) => write!(f, "desired/schedule/{name}"),
            Key::Assignment(id) => write!(f, "desired/instance/{id}"),
            Key::Node(name) => write!(f, "observed/node/{name}"),
            Key::Member(name) => write!(f, "observed/member/{name}"),
            Key::Listing(_) => Ok(()),
            Key::Service(name) => write!(f, "observed/service/{name}"),
            Key::Endpoint(service, id) => write!(f, "observed/endpoint/{service}/{id}"),
            Key::Group(name) => write!(f, "observed/group/{name}"),
            Key::Instance(id) => write!(f, "observed/instance/{id}"),
            Key::Template(name, node) => write!(f, "observed/template/{name}/{node}"),
            Key::Governor => write!(f, "observed/governor"),
            Key::Event(id) => write!(f, "events/{}", id.as_str()),
        }
    }
}

/// A record with its key.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// See [`Key::Cluster`].
    Cluster(desired::Cluster),
    /// See [`Key::Pause`].
    Pause(desired::Pause),
    /// See [`Key::Halt`].
    Halt(desired::Halt),
    /// See [`Key::DesiredService`].
    DesiredService(Name, desired::Service),
    /// See [`Key::DesiredGroup`].
    DesiredGroup(Name, Box<desired::Group>),
    /// See [`Key::DesiredTemplate`].
    DesiredTemplate(Name, Box<desired::Template>),
    /// See [`Key::DesiredJob`].
    DesiredJob(Name, Box<desired::Job>),
    /// See [`Key::DesiredSchedule`].
    DesiredSchedule(Name, Box<desired::Schedule>),
    /// See [`Key::Assignment`].
    Assignment(InstanceId, Box<desired::Assignment>),
    /// See [`Key::Node`].
    Node(Name, observed::Node),
    /// See [`Key::Member`].
    Member(Name, Box<observed::Member>),
    /// See [`Key::Listing`].
    Listing(String, observed::Listing),
    /// See [`Key::Service`].
    Service(Name, observed::Service),
    /// See [`Key::Endpoint`].
    Endpoint(Name, InstanceId, Box<observed::Endpoint>),
    /// See [`Key::Group`].
    Group(Name, Box<observed::Group>),
    /// See [`Key::Instance`].
    Instance(InstanceId, Box<observed::Instance>),
    /// See [`Key::Template`].
    Template(Name, Name, Box<observed::Template>),
    /// See [`Key::Governor`].
    Governor(observed::Governor),
    /// See [`Key::Event`].
    Event(EventId, Box<Event>),
}

/// A record's value that does not fit its type.
#[derive(Debug, thiserror::Error)]
#[error("the value of {key} is not a record of its kind")]
pub struct BadRecord {
    /// Where it is.
    pub key: String,
    /// What is wrong with it.
    #[source]
    pub source: serde_json::Error,
}

impl Record {
    /// Where it lives.
    pub fn key(&self) -> Key {
        match self {
            Record::Cluster(_) => Key::Cluster,
            Record::Pause(_) => Key::Pause,
            Record::Halt(_) => Key::Halt,
            Record::DesiredService(name, _) => Key::DesiredService(name.clone()),
            Record::DesiredGroup(name, _) => Key::DesiredGroup(name.clone()),
            Record::DesiredTemplate(name, _) => Key::DesiredTemplate(name.clone()),
            Record::DesiredJob(name, _) => Key::DesiredJob(name.clone()),
            Record::DesiredSchedule(name, _) => Key::DesiredSchedule(name.clone()),
            Record::Assignment(id, _) => Key::Assignment(id.clone()),
            Record::Node(name, _) => Key::Node(name.clone()),
            Record::Member(name, _) => Key::Member(name.clone()),
            Record::Listing(key, _) => Key::Listing(key.clone()),
            Record::Service(name, _) => Key::Service(name.clone()),
            Record::Endpoint(service, id, _) => Key::Endpoint(service.clone(), id.clone()),
            Record::Group(name, _) => Key::Group(name.clone()),
            Record::Instance(id, _) => Key::Instance(id.clone()),
            Record::Template(name, node, _) => Key::Template(name.clone(), node.clone()),
            Record::Governor(_) => Key::Governor,
            Record::Event(id, _) => Key::Event(id.clone()),
        }
    }

    /// Its value: JSON.
    pub fn to_json(&self) -> Vec<u8> {
        match self {
            Record::Cluster(record) => serde_json::to_vec(record),
            Record::Pause(record) => serde_json::to_vec(record),
            Record::Halt(record) => serde_json::to_vec(record),
            Record::DesiredService(_, record) => serde_json::to_vec(record),
            Record::DesiredGroup(_, record) => serde_json::to_vec(record),
            Record::DesiredTemplate(_, record) => serde_json::to_vec(record),
            Record::DesiredJob(_, record) => serde_json::to_vec(record),
            Record::DesiredSchedule(_, record) => serde_json::to_vec(record),
            Record::Assignment(_, record) => serde_json::to_vec(record),
            Record::Node(_, record) => serde_json::to_vec(record),
            Record::Member(_, record) => serde_json::to_vec(record),
            Record::Listing(_, record) => serde_json::to_vec(record),
            Record::Service(_, record) => serde_json::to_vec(record),
            Record::Endpoint(_, _, record) => serde_json::to_vec(record),
            Record::Group(_, record) => serde_json::to_vec(record),
            Record::Instance(_, record) => serde_json::to_vec(record),
            Record::Template(_, _, record) => serde_json::to_vec(record),
            Record::Governor(record) => serde_json::to_vec(record),
            Record::Event(_, record) => serde_json::to_vec(record),
        }
        .expect("model types always serialise")
    }

    /// Reads the value of `key`.
    pub fn from_json(key: &Key, value: &[u8]) -> Result<Record, BadRecord> {
        let read = || -> Result<Record, serde_json::Error> {
            Ok(match key {
                Key::Cluster => Record::Cluster(serde_json::from_slice(value)?),
                Key::Pause => Record::Pause(serde_json::from_slice(value)?),
                Key::Halt => Record::Halt(serde_json::from_slice(value)?),
                Key::DesiredService(name) => Record::DesiredService(name.clone(), serde_json::from_slice(value)?),
                Key::DesiredGroup(name) => Record::DesiredGroup(name.clone(), serde_json::from_slice(value)?),
                Key::DesiredTemplate(name) => Record::DesiredTemplate(name.clone(), serde_json::from_slice(value)?),
                Key::DesiredJob(name) => Record::DesiredJob(name.clone(), serde_json::from_slice(value)?),
                Key::DesiredSchedule(name) => Record::DesiredSchedule(name.clone(), serde_json::from_slice(value)?),
                Key::Assignment(id) => Record::Assignment(id.clone(), serde_json::from_slice(value)?),
                Key::Node(name) => Record::Node(name.clone(), serde_json::from_slice(value)?),
                Key::Member(name) => Record::Member(name.clone(), serde_json::from_slice(value)?),
                Key::Listing(key) => Record::Listing(key.clone(), serde_json::from_slice(value)?),
                Key::Service(name) => Record::Service(name.clone(), serde_json::from_slice(value)?),
                Key::Endpoint(service, id) => {
                    Record::Endpoint(service.clone(), id.clone(), serde_json::from_slice(value)?)
                }
                Key::Group(name) => Record::Group(name.clone(), serde_json::from_slice(value)?),
                Key::Instance(id) => Record::Instance(id.clone(), serde_json::from_slice(value)?),
                Key::Template(name, node) => {
                    Record::Template(name.clone(), node.clone(), serde_json::from_slice(value)?)
                }
                Key::Governor => Record::Governor(serde_json::from_slice(value)?),
                Key::Event(id) => Record::Event(id.clone(), serde_json::from_slice(value)?),
            })
        };
        read().map_err(|source| BadRecord { key: key.to_string(), source })
    }
}

/// One write of a transaction.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Writes a record.
    Put(Record),
    /// Removes one; removing what is not there is no error.
    Delete(Key),
}

impl Change {
    /// Where it writes.
    pub fn key(&self) -> Key {
        match self {
            Change::Put(record) => record.key(),
            Change::Delete(key) => key.clone(),
        }
    }
}

impl Serialize for Change {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Change::Put(record) => serializer.collect_str(&format_args!("put {}", record.key())),
            Change::Delete(key) => serializer.collect_str(&format_args!("delete {key}")),
        }
    }
}
