//! The virtual store: etcd's transactions over one map, without a disk.

use regrow_control::reconcile::{CommitError, StoreChange, Transaction};
use regrow_model::event::EventKind;
use regrow_model::key::{Change, Record};
use regrow_model::{CauseId, Event, EventId, Key, Revision, View};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The content of the store at its newest revision, and the ledger of all events that were ever in it.
#[derive(Debug, Default)]
pub struct Store {
    values: BTreeMap<String, (Arc<[u8]>, Revision)>,
    revision: Revision,
    truth: View,
    /// Every event, pruned ones too.
    events: BTreeMap<EventId, Event>,
    /// The first event of every chain.
    roots: BTreeMap<CauseId, EventKind>,
    /// Changes that no watch has delivered yet, oldest first.
    undelivered: Vec<StoreChange>,
}

impl Store {
    /// The records as they are, whoever has been told of them.
    pub fn truth(&self) -> &View {
        &self.truth
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The first event of a chain, if there is any.
    pub fn root_of(&self, cause: &CauseId) -> Option<EventKind> {
        self.roots.get(cause).copied()
    }

    /// Every event that was ever recorded, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.values()
    }

    /// Whether every comparison of a transaction holds.
    pub(crate) fn holds(&self, transaction: &Transaction) -> bool {
        transaction
            .expect
            .iter()
            .all(|(key, revision)| self.values.get(&key.to_string()).map_or(Revision::ZERO, |(_, at)| *at) == *revision)
    }

    /// Commits whole, or not at all.
    pub(crate) fn commit(&mut self, transaction: Transaction) -> Result<Revision, CommitError> {
        if !self.holds(&transaction) {
            return Err(CommitError::Conflict);
        }
        let mut revision = Revision(self.revision.0 + 1);
        let mut changed = false;
        for change in transaction.changes {
            let key = change.key().to_string();
            match change {
                Change::Put(record) => {
                    let value: Arc<[u8]> = record.to_json().into();
                    self.values.insert(key.clone(), (value.clone(), revision));
                    self.undelivered.push(StoreChange { key, value: Some(value), revision });
                    if let Record::Event(id, event) = &record {
                        self.roots.entry(event.cause.clone()).or_insert(event.kind);
                        self.events.insert(id.clone(), (**event).clone());
                    }
                    self.truth.put(record, revision);
                    changed = true;
                }
                Change::Delete(deleted) => {
                    if self.values.remove(&key).is_some() {
                        self.undelivered.push(StoreChange { key, value: None, revision });
                        self.truth.delete(&deleted);
                        changed = true;
                    }
                }
            }
        }
        if changed {
            self.revision = revision;
            self.truth.revision = revision;
        } else {
            // A transaction that changes nothing makes no revision.
            revision = self.revision;
        }
        Ok(revision)
    }

    /// Writes a record again as it is: another client's business, seen here only as a new revision.
    ///
    /// Endpoints and assignments are left alone: their revisions carry meaning (the service's index moves with each
    /// change of an endpoint; the second write of a draining assignment says that the pools have let go), so a client
    /// that writes one breaks the model's rules.
    pub(crate) fn touch(&mut self, number: u64) {
        let apart = ["/regrow/events/", "/regrow/observed/endpoint/", "/regrow/desired/instance/"];
        let touchable: Vec<&String> =
            self.values.keys().filter(|key| !apart.iter().any(|prefix| key.starts_with(prefix))).collect();
        if touchable.is_empty() {
            return;
        }
        let key = touchable[usize::try_from(number).unwrap_or(0) % touchable.len()].clone();
        let record = Key::parse(&key).and_then(|parsed| {
            let (value, _) = self.values.get(&key)?;
            Record::from_json(&parsed, value).ok()
        });
        if let Some(record) = record {
            let transaction = Transaction { changes: vec![Change::Put(record)], ..Transaction::default() };
            let _ = self.commit(transaction);
        }
    }

    /// What a watch has still to deliver.
    pub(crate) fn deliver(&mut self) -> (Vec<StoreChange>, Revision) {
        (std::mem::take(&mut self.undelivered), self.revision)
    }

    /// The whole content, for one of several agents.
    pub(crate) fn content(&self) -> (Vec<StoreChange>, Revision) {
        let content = self.values.iter().map(|(key, (value, revision))| StoreChange {
            key: key.clone(),
            value: Some(value.clone()),
            revision: *revision,
        });
        (content.collect(), self.revision)
    }

    /// The whole content, for an agent that starts; its watch goes on from there.
    pub(crate) fn load(&mut self) -> (Vec<StoreChange>, Revision) {
        self.undelivered.clear();
        self.content()
    }
}
