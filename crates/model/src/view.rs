//! The whole cluster at one revision: all that a planner may know.

use crate::key::{BadRecord, Key, Record};
use crate::observed::EndpointState;
use crate::{EventId, InstanceId, Name, Peers, Revision, Standing, desired, observed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A record and the revision that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    /// The revision of its last change.
    pub revision: Revision,
    /// The record.
    pub value: Arc<T>,
}

impl<T> std::ops::Deref for Entry<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// A user's own key that a template reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserKey {
    /// The revision of its last change.
    pub revision: Revision,
    /// Its value.
    pub value: Arc<[u8]>,
}

/// What this node alone knows, and planners of this node may use. Not in the store.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Local {
    /// The agent's environment, for `getenv`.
    pub environment: BTreeMap<String, String>,
    /// For each template the contents of the set that its reading program has loaded, in the order of its files.
    pub loaded: BTreeMap<Name, SetContents>,
    /// For each template the contents of the set that is in place on disk.
    pub written: BTreeMap<Name, SetContents>,
    /// For each template the servers that its running HAProxy knows beyond the loaded configuration, in maintenance
    /// since they were taken out through its socket: `backend/server` to the options that it was made with. None for a
    /// template of which this agent does not know what HAProxy runs with: it has just started, or an outcome was lost.
    pub parked: BTreeMap<Name, BTreeMap<String, String>>,
    /// The members as this node's gossip sees them.
    pub peers: Peers,
}

/// The contents of a rendered set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetContents {
    /// The set's digest.
    pub digest: crate::Digest,
    /// Contents in the order of the template's files.
    pub contents: Vec<Arc<str>>,
}

/// The whole cluster at one revision. Cloning shares the records.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Everything up to this revision is in it.
    pub revision: Revision,
    /// The cluster's own record; `None` before the first spec was applied.
    pub cluster: Option<Entry<desired::Cluster>>,
    /// The governor's pause.
    pub pause: Option<Entry<desired::Pause>>,
    /// The wish that everything stops.
    pub halt: Option<Entry<desired::Halt>>,
    /// Services as wanted.
    pub services: BTreeMap<Name, Entry<desired::Service>>,
    /// Groups as wanted.
    pub groups: BTreeMap<Name, Entry<desired::Group>>,
    /// Templates as wanted.
    pub templates: BTreeMap<Name, Entry<desired::Template>>,
    /// Jobs as wanted.
    pub jobs: BTreeMap<Name, Entry<desired::Job>>,
    /// Schedules as wanted.
    pub schedules: BTreeMap<Name, Entry<desired::Schedule>>,
    /// Instances as assigned.
    pub assignments: BTreeMap<InstanceId, Entry<desired::Assignment>>,
    /// Nodes.
    pub nodes: BTreeMap<Name, Entry<observed::Node>>,
    /// Members of gossip as they are recorded.
    pub members: BTreeMap<Name, Entry<observed::Member>>,
    /// Service indexes.
    pub service_index: BTreeMap<Name, Entry<observed::Service>>,
    /// Endpoints by service.
    pub endpoints: BTreeMap<Name, BTreeMap<InstanceId, Entry<observed::Endpoint>>>,
    /// Groups as observed.
    pub group_status: BTreeMap<Name, Entry<observed::Group>>,
    /// Instances as observed.
    pub instances: BTreeMap<InstanceId, Entry<observed::Instance>>,
    /// Templates as observed, by template and node.
    pub template_status: BTreeMap<(Name, Name), Entry<observed::Template>>,
    /// The governor's memory.
    pub governor: Option<Entry<observed::Governor>>,
    /// Ids of all events kept; the events themselves stay in the store.
    pub events: BTreeSet<EventId>,
    /// The users' own keys that templates read.
    pub keys: BTreeMap<String, UserKey>,
    /// What this node alone knows.
    pub local: Local,
}

impl View {
    /// Takes in one change of the store: `value` is `None` for a removal. Keys outside [`crate::key::ROOT`] become
    /// [`View::keys`]; unknown ones inside it are passed over, so that an older agent lives with a newer one.
    ///
    /// Errors: a value that does not fit its key; the view then keeps what it had for that key.
    pub fn apply(&mut self, key: &str, value: Option<&[u8]>, revision: Revision) -> Result<(), BadRecord> {
        self.revision = self.revision.max(revision);
        if !key.starts_with(crate::key::ROOT) {
            // A range that was read later than the watch stands may have brought a newer value already.
            if self.keys.get(key).is_none_or(|known| known.revision <= revision) {
                match value {
                    Some(value) => self.keys.insert(key.to_owned(), UserKey { revision, value: value.into() }),
                    None => self.keys.remove(key),
                };
            }
            return Ok(());
        }
        let Some(key) = Key::parse(key) else { return Ok(()) };
        match (key, value) {
            (Key::Event(id), Some(_)) => {
                self.events.insert(id);
            }
            (key, Some(value)) => self.put(Record::from_json(&key, value)?, revision),
            (key, None) => self.delete(&key),
        }
        Ok(())
    }

    /// Takes in a record.
    pub fn put(&mut self, record: Record, revision: Revision) {
        fn entry<T>(revision: Revision, value: T) -> Entry<T> {
            Entry { revision, value: Arc::new(value) }
        }
        self.revision = self.revision.max(revision);
        match record {
            Record::Cluster(value) => self.cluster = Some(entry(revision, value)),
            Record::Pause(value) => self.pause = Some(entry(revision, value)),
            Record::Halt(value) => self.halt = Some(entry(revision, value)),
            Record::DesiredService(name, value) => {
                self.services.insert(name, entry(revision, value));
            }
            Record::DesiredGroup(name, value) => {
                self.groups.insert(name, entry(revision, *value));
            }
            Record::DesiredTemplate(name, value) => {
                self.templates.insert(name, entry(revision, *value));
            }
            Record::DesiredJob(name, value) => {
                self.jobs.insert(name, entry(revision, *value));
            }
            Record::DesiredSchedule(name, value) => {
                self.schedules.insert(name, entry(revision, *value));
            }
            Record::Assignment(id, value) => {
                self.assignments.insert(id, entry(revision, *value));
            }
            Record::Node(name, value) => {
                self.nodes.insert(name, entry(revision, value));
            }
            Record::Member(name, value) => {
                self.members.insert(name, entry(revision, *value));
            }
            Record::Listing(..) => {}
            Record::Service(name, value) => {
                self.service_index.insert(name, entry(revision, value));
            }
            Record::Endpoint(service, id, value) => {
                self.endpoints.entry(service).or_default().insert(id, entry(revision, *value));
            }
            Record::Group(name, value) => {
                self.group_status.insert(name, entry(revision, *value));
            }
            Record::Instance(id, value) => {
                self.instances.insert(id, entry(revision, *value));
            }
            Record::Template(name, node, value) => {
                self.template_status.insert((name, node), entry(revision, *value));
            }
            Record::Governor(value) => self.governor = Some(entry(revision, value)),
            Record::Event(id, _) => {
                self.events.insert(id);
            }
        }
    }

    /// Forgets a record.
    pub fn delete(&mut self, key: &Key) {
        match key {
            Key::Cluster => self.cluster = None,
            Key::Pause => self.pause = None,
            Key::Halt => self.halt = None,
            Key::Governor => self.governor = None,
            Key::DesiredService(name) => drop(self.services.remove(name)),
            Key::DesiredGroup(name) => drop(self.groups.remove(name)),
            Key::DesiredTemplate(name) => drop(self.templates.remove(name)),
            Key::DesiredJob(name) => drop(self.jobs.remove(name)),
            Key::DesiredSchedule(name) => drop(self.schedules.remove(name)),
            Key::Assignment(id) => drop(self.assignments.remove(id)),
            Key::Node(name) => drop(self.nodes.remove(name)),
            Key::Member(name) => drop(self.members.remove(name)),
            Key::Listing(_) => {}
            Key::Service(name) => drop(self.service_index.remove(name)),
            Key::Endpoint(service, id) => {
                if let Some(endpoints) = self.endpoints.get_mut(service) {
                    endpoints.remove(id);
                    if endpoints.is_empty() {
                        self.endpoints.remove(service);
                    }
                }
            }
            Key::Group(name) => drop(self.group_status.remove(name)),
            Key::Instance(id) => drop(self.instances.remove(id)),
            Key::Template(name, node) => drop(self.template_status.remove(&(name.clone(), node.clone()))),
            Key::Event(id) => drop(self.events.remove(id)),
        }
    }

    /// Revision of the last change of a record; [`Revision::ZERO`] when there is none. What a transaction compares.
    pub fn revision_of(&self, key: &Key) -> Revision {
        match key {
            Key::Cluster => self.cluster.as_ref().map(|entry| entry.revision),
            Key::Pause => self.pause.as_ref().map(|entry| entry.revision),
            Key::Halt => self.halt.as_ref().map(|entry| entry.revision),
            Key::Governor => self.governor.as_ref().map(|entry| entry.revision),
            Key::DesiredService(name) => self.services.get(name).map(|entry| entry.revision),
            Key::DesiredGroup(name) => self.groups.get(name).map(|entry| entry.revision),
            Key::DesiredTemplate(name) => self.templates.get(name).map(|entry| entry.revision),
            Key::DesiredJob(name) => self.jobs.get(name).map(|entry| entry.revision),
            Key::DesiredSchedule(name) => self.schedules.get(name).map(|entry| entry.revision),
            Key::Assignment(id) => self.assignments.get(id).map(|entry| entry.revision),
            Key::Node(name) => self.nodes.get(name).map(|entry| entry.revision),
            Key::Member(name) => self.members.get(name).map(|entry| entry.revision),
            Key::Service(name) => self.service_index.get(name).map(|entry| entry.revision),
            Key::Endpoint(service, id) => {
                self.endpoints.get(service).and_then(|all| all.get(id)).map(|entry| entry.revision)
            }
            Key::Group(name) => self.group_status.get(name).map(|entry| entry.revision),
            Key::Instance(id) => self.instances.get(id).map(|entry| entry.revision),
            Key::Template(name, node) => {
                self.template_status.get(&(name.clone(), node.clone())).map(|entry| entry.revision)
            }
            Key::Listing(_) | Key::Event(_) => None,
        }
        .unwrap_or(Revision::ZERO)
    }

    /// Endpoints of a service that may be sent traffic, in the order of their ids.
    pub fn healthy<'a>(
        &'a self,
        service: &Name,
    ) -> impl Iterator<Item = (&'a InstanceId, &'a Entry<observed::Endpoint>)> + use<'a> {
        self.endpoints
            .get(service)
            .into_iter()
            .flatten()
            .filter(|(_, endpoint)| endpoint.state == EndpointState::Passing)
    }

    /// Whether gossip's verdict on a node is that it is gone.
    pub fn is_unreachable(&self, node: &Name) -> bool {
        self.members.get(node).is_some_and(|member| member.standing == Standing::Failed)
    }

    /// Whether a node is dead by two sources: gossip's verdict, and the end of its lease. What it ran is not there any
    /// more, or is not to be.
    pub fn is_lost(&self, node: &Name) -> bool {
        let confirmed = |member: &observed::Member| member.standing != Standing::Alive && member.confirmed.is_some();
        !self.nodes.contains_key(node) && self.members.get(node).is_some_and(|member| confirmed(member))
    }

    /// Assignments of one group, in the order of their slots.
    pub fn assignments_of<'a>(
        &'a self,
        group: &Name,
    ) -> impl Iterator<Item = (&'a InstanceId, &'a Entry<desired::Assignment>)> + use<'a> {
        let first = InstanceId { group: group.clone(), slot: 0 };
        let last = InstanceId { group: group.clone(), slot: u32::MAX };
        self.assignments.range(first..=last)
    }

    /// Whether an instance serves: its endpoint is healthy, or it runs, its boot is over and its group has no service. Only
    /// the life that is assigned counts.
    pub fn is_healthy(&self, id: &InstanceId) -> bool {
        let Some(assignment) = self.assignments.get(id) else { return false };
        let Some(instance) = self.instances.get(id) else { return false };
        if instance.incarnation != assignment.incarnation
            || instance.phase != observed::Phase::Running
            || self.is_lost(&instance.node)
        {
            return false;
        }
        match self.groups.get(&id.group).and_then(|group| group.spec.service.as_ref()) {
            None => !instance.is_booting(),
            Some(service) => self.endpoints.get(service).and_then(|all| all.get(id)).is_some_and(|endpoint| {
                endpoint.incarnation == assignment.incarnation && endpoint.state == EndpointState::Passing
            }),
        }
    }
}
