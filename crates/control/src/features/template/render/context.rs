//! What a source may read, and the record of what it did read.

use super::budget::Budget;
use super::error::hint;
use super::keys::{Keys, Pair};
use crate::features::template::inputs::{ALL_SERVICES, Reads};
use regrow_model::{Entry, InstanceId, Key, Name, Time, View, desired, observed};
use std::collections::BTreeMap;
use std::sync::Arc;
#[expect(
    clippy::disallowed_types,
    reason = "both engines ask for Send and Sync; the lock never leaves one rendering"
)]
use std::sync::Mutex;

/// One endpoint that may be sent traffic.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) id: InstanceId,
    pub(super) endpoint: Arc<observed::Endpoint>,
    pub(super) service: Option<Arc<desired::Service>>,
}

impl Member {
    pub(super) fn tags(&self) -> &[String] {
        self.service.as_ref().map_or(&[], |service| &service.spec.tags)
    }
}

/// What all templates of a node read: the healthy endpoints of the whole view, without the view's lifetime. Copying
/// takes pointers only; it is made once for each plan that renders anything.
#[derive(Debug)]
pub(in crate::features::template) struct World {
    services: BTreeMap<Name, Arc<[Member]>>,
    environment: BTreeMap<String, String>,
    cluster: String,
    node: Name,
    address: String,
    applied: Time,
}

impl World {
    pub(in crate::features::template) fn new(view: &View, node: &Name) -> World {
        let known = view.services.keys().chain(view.service_index.keys()).chain(view.endpoints.keys());
        let members = |name: &Name| {
            let service = view.services.get(name).map(|service| service.value.clone());
            let member = |(id, endpoint): (&InstanceId, &Entry<observed::Endpoint>)| Member {
                id: id.clone(),
                endpoint: endpoint.value.clone(),
                service: service.clone(),
            };
            view.healthy(name).map(member).collect()
        };
        let mut services: BTreeMap<Name, Arc<[Member]>> = BTreeMap::new();
        for name in known {
            services.entry(name.clone()).or_insert_with(|| members(name));
        }
        World {
            services,
            environment: view.local.environment.clone(),
            cluster: view.cluster.as_ref().map(|cluster| cluster.name.to_string()).unwrap_or_default(),
            node: node.clone(),
            address: view.nodes.get(node).map(|node| node.address.clone()).unwrap_or_default(),
            applied: view.cluster.as_ref().map(|cluster| cluster.at).unwrap_or_default(),
        }
    }
}

/// What one template's sources read.
#[derive(Debug)]
pub(super) struct Context {
    world: Arc<World>,
    keys: Arc<Keys>,
    vars: Arc<BTreeMap<String, serde_json::Value>>,
    #[expect(clippy::disallowed_types, reason = "see the import")]
    reads: Mutex<Reads>,
    pub(super) budget: Budget,
}

impl Context {
    pub(super) fn new(world: Arc<World>, view: &View, template: &desired::Template) -> Context {
        Context {
            world,
            keys: Arc::new(Keys::new(view, &template.spec)),
            vars: Arc::new(template.spec.vars.clone()),
            #[expect(clippy::disallowed_types, reason = "see the import")]
            reads: Mutex::new(Reads::default()),
            budget: Budget::new(),
        }
    }

    /// The same for another run, with nothing read or spent yet.
    pub(super) fn again(&self) -> Context {
        Context {
            world: self.world.clone(),
            keys: self.keys.clone(),
            vars: self.vars.clone(),
            #[expect(clippy::disallowed_types, reason = "see the import")]
            reads: Mutex::new(Reads::default()),
            budget: Budget::new(),
        }
    }

    /// The healthy endpoints of a service, in the order of their ids.
    pub(super) fn service(&self, name: &str) -> Result<Arc<[Member]>, String> {
        let known = Name::new(name).ok();
        if let Some(name) = &known {
            self.note(|reads| {
                if reads.services.insert(name.clone()) {
                    reads.others.insert(Key::DesiredService(name.clone()).to_string());
                }
            });
        }
        known.and_then(|name| self.world.services.get(&name)).cloned().ok_or_else(|| {
            let hint = hint(name, self.world.services.keys().map(Name::as_str));
            format!("no service is called `{name}`{hint}")
        })
    }

    /// The names of all services, in order.
    pub(super) fn services(&self) -> Vec<Name> {
        self.note_other(ALL_SERVICES.to_owned());
        self.world.services.keys().cloned().collect()
    }

    pub(super) fn cluster(&self) -> &str {
        self.note_other(Key::Cluster.to_string());
        &self.world.cluster
    }

    pub(super) fn node(&self) -> &Name {
        &self.world.node
    }

    pub(super) fn address(&self) -> &str {
        self.note_other(Key::Node(self.world.node.clone()).to_string());
        &self.world.address
    }

    pub(super) fn vars(&self) -> &BTreeMap<String, serde_json::Value> {
        &self.vars
    }

    /// A variable of the agent's environment.
    pub(super) fn environment(&self, name: &str) -> Option<&str> {
        self.note_other(format!("env:{name}"));
        self.world.environment.get(name).map(String::as_str)
    }

    /// When the spec was last applied: `datetime`. The clock would make equal inputs render unequally, and load a new
    /// file for the sake of the time in its header.
    pub(super) fn applied(&self) -> Time {
        self.note_other(Key::Cluster.to_string());
        self.world.applied
    }

    pub(super) fn value(&self, key: &str) -> Result<Option<String>, String> {
        self.budget.step(1)?;
        let value = self.keys.value(key)?;
        self.paid(value, |value| value.as_ref().map_or(0, String::len))
    }

    /// One value that must be there.
    pub(super) fn value_or(&self, key: &str, default: Option<&str>) -> Result<String, String> {
        match (self.value(key)?, default) {
            (Some(value), _) => Ok(value),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(format!("the key `{key}` does not exist: set it, or give a default")),
        }
    }

    pub(super) fn exists(&self, key: &str) -> Result<bool, String> {
        self.budget.step(1)?;
        self.keys.exists(key)
    }

    pub(super) fn pairs(&self, pattern: &str) -> Result<Vec<Pair>, String> {
        self.budget.step(self.keys.len() as u64 + 1)?;
        let pairs = self.keys.all(pattern)?;
        self.paid(pairs, |pairs| pairs.iter().map(|(key, value)| key.len() + value.len()).sum())
    }

    pub(super) fn folder(&self, folder: &str) -> Result<Vec<Pair>, String> {
        self.budget.step(self.keys.len() as u64 + 1)?;
        let pairs = self.keys.folder(folder)?;
        self.paid(pairs, |pairs| pairs.iter().map(|(key, value)| key.len() + value.len()).sum())
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, String> {
        self.budget.step(self.keys.len() as u64 + 1)?;
        self.keys.list(path)
    }

    pub(super) fn list_folders(&self, path: &str) -> Result<Vec<String>, String> {
        self.budget.step(self.keys.len() as u64 + 1)?;
        self.keys.list_folders(path)
    }

    /// What has been read so far.
    pub(super) fn reads(&self) -> Reads {
        let mut taken = Reads::default();
        self.note(|reads| taken = reads.clone());
        taken
    }

    fn paid<T>(&self, value: T, bytes: impl Fn(&T) -> usize) -> Result<T, String> {
        self.budget.build(bytes(&value) as u64)?;
        Ok(value)
    }

    fn note_other(&self, other: String) {
        self.note(|reads| {
            reads.others.insert(other);
        });
    }

    fn note(&self, write: impl FnOnce(&mut Reads)) {
        write(&mut self.reads.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}
