//! A store as simple as can be: one whole copy of all keys for each revision.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventKind, KeyValue,
    LeaseGrantRequest, LeaseId, LeaseTimeToLiveResponse, Op, OpResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Revision, SortOrder, SortTarget, TxnRequest, TxnResponse, WatchRequest,
    limits::LEASE_TTL_SECONDS_MIN,
};

type Keys = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
struct Lease {
    ttl: i64,
    ends: Duration,
}

/// The model.
pub(crate) struct Model {
    /// The keys at each revision; the index is the revision.
    states: Vec<Keys>,
    events: Vec<Event>,
    leases: BTreeMap<LeaseId, Lease>,
    compacted: Revision,
    now: Duration,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            states: vec![Keys::new(), Keys::new()],
            events: Vec::new(),
            leases: BTreeMap::new(),
            compacted: Revision(0),
            now: Duration::ZERO,
        }
    }
}

/// Changes that are being made: they become a revision if there are any.
struct Change<'a> {
    model: &'a Model,
    keys: Keys,
    events: Vec<Event>,
}

impl Model {
    pub(crate) fn revision(&self) -> Revision {
        Revision(self.states.len() as i64 - 1)
    }

    pub(crate) fn compacted(&self) -> Revision {
        self.compacted
    }

    fn now(&self) -> &Keys {
        self.states.last().expect("never empty")
    }

    pub(crate) fn keys(&self) -> u64 {
        self.now().len() as u64
    }

    fn change(&self) -> Change<'_> {
        Change { model: self, keys: self.now().clone(), events: Vec::new() }
    }

    fn commit(&mut self, keys: Keys, events: Vec<Event>) {
        if !events.is_empty() {
            self.states.push(keys);
            self.events.extend(events);
        }
    }

    fn op(&mut self, op: &Op) -> Result<OpResponse> {
        check(op)?;
        if let Op::Txn(txn) = op {
            changed(&txn.success)?;
            changed(&txn.failure)?;
        }
        let mut change = self.change();
        change.allowed(op)?;
        let response = change.op(op)?;
        let (keys, events) = (change.keys, change.events);
        self.commit(keys, events);
        Ok(response)
    }

    pub(crate) fn put(&mut self, request: PutRequest) -> Result<PutResponse> {
        match self.op(&Op::Put(request))? {
            OpResponse::Put(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn delete_range(&mut self, request: DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        match self.op(&Op::DeleteRange(request))? {
            OpResponse::DeleteRange(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn txn(&mut self, request: &TxnRequest) -> Result<TxnResponse> {
        match self.op(&Op::Txn(request.clone()))? {
            OpResponse::Txn(response) => Ok(response),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let change = self.change();
        change.allowed(&Op::Range(request.clone()))?;
        Ok(change.range(request))
    }

    pub(crate) fn compact(&mut self, revision: Revision) -> Result<()> {
        if revision <= self.compacted {
            return Err(Error::Compacted { requested: revision, compacted: self.compacted });
        }
        if revision > self.revision() {
            return Err(Error::FutureRevision { requested: revision, current: self.revision() });
        }
        self.compacted = revision;
        Ok(())
    }

    pub(crate) fn grant(&mut self, request: LeaseGrantRequest) -> Result<i64> {
        if self.leases.contains_key(&request.id) {
            return Err(Error::LeaseExists(request.id));
        }
        let ttl = request.ttl.max(LEASE_TTL_SECONDS_MIN);
        self.leases.insert(request.id, Lease { ttl, ends: self.now + Duration::from_secs(ttl as u64) });
        Ok(ttl)
    }

    pub(crate) fn revoke(&mut self, id: LeaseId) -> Result<Revision> {
        self.leases.remove(&id).ok_or(Error::LeaseNotFound(id))?;
        let mut change = self.change();
        let attached: Vec<Bytes> = change.keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        attached.iter().for_each(|key| change.delete(key));
        let (keys, events) = (change.keys, change.events);
        self.commit(keys, events);
        Ok(self.revision())
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId) -> Result<i64> {
        let now = self.now;
        let lease = self.leases.get_mut(&id).ok_or(Error::LeaseNotFound(id))?;
        lease.ends = now + Duration::from_secs(lease.ttl as u64);
        Ok(lease.ttl)
    }

    /// Returns how many revisions it took to end leases.
    pub(crate) fn pass(&mut self, time: Duration) -> usize {
        self.now += time;
        let before = self.states.len();
        let mut ended: Vec<(Duration, LeaseId)> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.ends <= self.now)
            .map(|(id, lease)| (lease.ends, *id))
            .collect();
        ended.sort_unstable();
        for (_, id) in ended {
            self.revoke(id).expect("it is there");
        }
        self.states.len() - before
    }

    /// The time of all leases starts over.
    pub(crate) fn restart(&mut self) {
        for lease in self.leases.values_mut() {
            lease.ends = self.now + Duration::from_secs(lease.ttl as u64);
        }
    }

    pub(crate) fn leases(&self) -> Vec<LeaseId> {
        self.leases.keys().copied().collect()
    }

    pub(crate) fn time_to_live(&self, id: LeaseId) -> Result<LeaseTimeToLiveResponse> {
        let lease = &self.leases[&id];
        Ok(LeaseTimeToLiveResponse {
            revision: self.revision(),
            id,
            ttl: (lease.ends - self.now).as_secs() as i64,
            granted_ttl: lease.ttl,
            keys: self.now().values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect(),
        })
    }

    pub(crate) fn watch(&self, request: &WatchRequest) -> Result<Vec<Event>> {
        let from = request.start_revision;
        if from < self.compacted {
            return Err(Error::Compacted { requested: from, compacted: self.compacted });
        }
        let wanted = self.events.iter().filter(|event| {
            let kind = if event.kind == EventKind::Put { !request.no_put } else { !request.no_delete };
            kind && event.kv.mod_revision >= from && inside(&request.key, &request.range_end, &event.kv.key)
        });
        let with_prev = wanted.map(|event| {
            let before = event.kv.mod_revision.0 - 1;
            let known = request.prev_kv && before >= self.compacted.0;
            let prev_kv = known.then(|| self.states[before as usize].get(&event.kv.key).cloned()).flatten();
            Event { prev_kv, ..event.clone() }
        });
        Ok(with_prev.collect())
    }
}

impl Change<'_> {
    fn revision(&self) -> Revision {
        Revision(self.model.revision().0 + i64::from(!self.events.is_empty()))
    }

    /// What must hold before anything is done, for the branches that will be taken.
    fn allowed(&self, op: &Op) -> Result<()> {
        match op {
            Op::Range(request) => {
                let (requested, current) = (request.revision, self.model.revision());
                if requested > current {
                    return Err(Error::FutureRevision { requested, current });
                }
                if requested.0 > 0 && requested < self.model.compacted {
                    return Err(Error::Compacted { requested, compacted: self.model.compacted });
                }
                Ok(())
            }
            Op::Put(request) => {
                if (request.ignore_value || request.ignore_lease) && !self.model.now().contains_key(&request.key) {
                    return Err(Error::KeyNotFound);
                }
                if request.lease != LeaseId::NONE && !self.model.leases.contains_key(&request.lease) {
                    return Err(Error::LeaseNotFound(request.lease));
                }
                Ok(())
            }
            Op::DeleteRange(_) => Ok(()),
            Op::Txn(txn) => self.branch(txn).1.iter().try_for_each(|op| self.allowed(op)),
        }
    }

    fn branch<'t>(&self, txn: &'t TxnRequest) -> (bool, &'t [Op]) {
        let succeeded = txn.compare.iter().all(|compare| holds(self.model.now(), compare));
        (succeeded, if succeeded { &txn.success } else { &txn.failure })
    }

    fn op(&mut self, op: &Op) -> Result<OpResponse> {
        Ok(match op {
            Op::Range(request) => OpResponse::Range(self.range(request)),
            Op::Put(request) => OpResponse::Put(self.put(request)?),
            Op::DeleteRange(request) => OpResponse::DeleteRange(self.delete_range(request)),
            Op::Txn(txn) => {
                let (succeeded, ops) = self.branch(txn);
                let responses = ops.iter().map(|op| self.op(op)).collect::<Result<_>>()?;
                OpResponse::Txn(TxnResponse { revision: self.revision(), succeeded, responses })
            }
        })
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse> {
        let prev = self.keys.get(&request.key).cloned();
        if prev.is_none() && (request.ignore_value || request.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let mod_revision = Revision(self.model.revision().0 + 1);
        let old = prev.clone().unwrap_or_default();
        let kv = KeyValue {
            key: request.key.clone(),
            value: if request.ignore_value { old.value } else { request.value.clone() },
            create_revision: if prev.is_some() { old.create_revision } else { mod_revision },
            mod_revision,
            version: old.version + 1,
            lease: if request.ignore_lease { old.lease } else { request.lease },
        };
        self.keys.insert(request.key.clone(), kv.clone());
        self.events.push(Event { kind: EventKind::Put, kv, prev_kv: None });
        Ok(PutResponse { revision: self.revision(), prev_kv: prev.filter(|_| request.prev_kv) })
    }

    fn delete(&mut self, key: &Bytes) {
        self.keys.remove(key);
        let mod_revision = Revision(self.model.revision().0 + 1);
        let kv = KeyValue { key: key.clone(), mod_revision, ..KeyValue::default() };
        self.events.push(Event { kind: EventKind::Delete, kv, prev_kv: None });
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> DeleteRangeResponse {
        let gone: Vec<KeyValue> =
            self.keys.values().filter(|kv| inside(&request.key, &request.range_end, &kv.key)).cloned().collect();
        gone.iter().for_each(|kv| self.delete(&kv.key));
        DeleteRangeResponse {
            revision: self.revision(),
            deleted: gone.len() as i64,
            prev_kvs: if request.prev_kv { gone } else { Vec::new() },
        }
    }

    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let keys = if request.revision.0 <= 0 { &self.keys } else { &self.model.states[request.revision.0 as usize] };
        let mut kvs: Vec<KeyValue> =
            keys.values().filter(|kv| inside(&request.key, &request.range_end, &kv.key)).cloned().collect();
        let count = kvs.len() as i64;
        if request.count_only {
            return RangeResponse { revision: self.revision(), kvs: Vec::new(), more: false, count };
        }
        let min = |rev: Revision, bound: Revision| bound.0 == 0 || rev >= bound;
        let max = |rev: Revision, bound: Revision| bound.0 == 0 || rev <= bound;
        let bounds = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        kvs.retain(|kv| min(kv.mod_revision, bounds[0]) && max(kv.mod_revision, bounds[1]));
        kvs.retain(|kv| min(kv.create_revision, bounds[2]) && max(kv.create_revision, bounds[3]));
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let more = kvs.len() > limit;
        // etcd's way: with a limit, a target without an order sorts only the first keys, and one more.
        if request.sort_order == SortOrder::None && bounds.iter().all(|bound| bound.0 == 0) {
            kvs.truncate(limit.saturating_add(1));
        }
        match request.sort_target {
            SortTarget::Key => {}
            SortTarget::Version => kvs.sort_by_key(|kv| kv.version),
            SortTarget::Create => kvs.sort_by_key(|kv| kv.create_revision),
            SortTarget::Mod => kvs.sort_by_key(|kv| kv.mod_revision),
            SortTarget::Value => kvs.sort_by_key(|kv| kv.value.clone()),
        }
        if request.sort_order == SortOrder::Descend {
            // Equal ones stay in the order of their keys.
            kvs.reverse();
            match request.sort_target {
                SortTarget::Key | SortTarget::Create | SortTarget::Mod => {}
                SortTarget::Version => restore(&mut kvs, |a, b| a.version == b.version),
                SortTarget::Value => restore(&mut kvs, |a, b| a.value == b.value),
            }
            if matches!(request.sort_target, SortTarget::Create | SortTarget::Mod) {
                let create = request.sort_target == SortTarget::Create;
                restore(&mut kvs, |a, b| {
                    if create { a.create_revision == b.create_revision } else { a.mod_revision == b.mod_revision }
                });
            }
        }
        kvs.truncate(limit);
        if request.keys_only {
            kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResponse { revision: self.revision(), kvs, more, count }
    }
}

/// Puts runs of equals into the order of their keys.
fn restore(kvs: &mut [KeyValue], equal: impl Fn(&KeyValue, &KeyValue) -> bool) {
    kvs.chunk_by_mut(equal).for_each(|run| run.sort_by(|a, b| a.key.cmp(&b.key)));
}

fn inside(start: &Bytes, end: &Bytes, key: &Bytes) -> bool {
    match &end[..] {
        b"" => key == start,
        b"\0" => key >= start,
        _ => key >= start && key < end,
    }
}

fn holds(keys: &Keys, compare: &Compare) -> bool {
    let found: Vec<KeyValue> =
        keys.values().filter(|kv| inside(&compare.key, &compare.range_end, &kv.key)).cloned().collect();
    if found.is_empty() {
        let value = matches!(compare.target, CompareTarget::Value(_));
        return !value && one(&KeyValue::default(), compare);
    }
    found.iter().all(|kv| one(kv, compare))
}

fn one(kv: &KeyValue, compare: &Compare) -> bool {
    let ordering = match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::CreateRevision(revision) => kv.create_revision.cmp(revision),
        CompareTarget::ModRevision(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
    };
    match compare.op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
        CompareOp::NotEqual => ordering.is_ne(),
    }
}

/// What a request may not say, whatever the store holds.
fn check(op: &Op) -> Result<()> {
    match op {
        Op::Put(request) if request.ignore_value && !request.value.is_empty() => Err(Error::ValueProvided),
        Op::Put(request) if request.ignore_lease && request.lease != LeaseId::NONE => Err(Error::LeaseProvided),
        Op::Put(_) | Op::Range(_) | Op::DeleteRange(_) => Ok(()),
        Op::Txn(txn) => txn.success.iter().chain(&txn.failure).try_for_each(check),
    }
}

/// A key that cannot be put because it was, or is deleted.
type Deleted = Vec<(Bytes, Bytes)>;

/// The keys a list may put and the ranges it may delete; an error if they meet. Deletions to the end do not count.
fn changed(ops: &[Op]) -> Result<(BTreeSet<Bytes>, Deleted)> {
    let mut puts = BTreeSet::new();
    let mut deletes: Deleted = Vec::new();
    for op in ops {
        if let Op::DeleteRange(request) = op
            && request.range_end != "\0"
        {
            deletes.push((request.key.clone(), request.range_end.clone()));
        }
    }
    let deleted = |deletes: &Deleted, key: &Bytes| deletes.iter().any(|(start, end)| inside(start, end, key));
    for op in ops {
        if let Op::Txn(txn) = op {
            let (then, then_deletes) = changed(&txn.success)?;
            let (otherwise, other_deletes) = changed(&txn.failure)?;
            let both: BTreeSet<Bytes> = then.union(&otherwise).cloned().collect();
            if let Some(key) = both.iter().find(|key| puts.contains(*key) || deleted(&deletes, key)) {
                return Err(Error::DuplicateKey { key: key.clone() });
            }
            puts.extend(both);
            deletes.extend(then_deletes.into_iter().chain(other_deletes));
        }
    }
    for op in ops {
        if let Op::Put(request) = op
            && (deleted(&deletes, &request.key) || !puts.insert(request.key.clone()))
        {
            return Err(Error::DuplicateKey { key: request.key.clone() });
        }
    }
    Ok((puts, deletes))
}
