//! Evaluating operations: reads of a transaction see its own writes; a failure undoes them all.

use bytes::Bytes;

use super::{
    index::{Index, Key, Pushed, Version},
    places::Place,
    scan::{Found, Scan, get},
    shared::{Pin, Shared},
    signal::{lock, read, write},
};
use crate::{
    Compare, CompareTarget, DeleteRangeRequest, DeleteRangeResponse, Error, Event, EventKind, KeyValue, LeaseId, Op,
    OpResponse, PutRequest, PutResponse, RangeRequest, RangeResponse, Result, Revision, TxnRequest, TxnResponse,
    limits::SCAN_KEYS,
};

/// One change of one key.
pub(crate) struct Change {
    pub(crate) key: Key,
    pub(crate) place: Place,
    /// As watchers see it, without the key as it was.
    pub(crate) event: Event,
    /// Its place in the revision.
    pub(crate) sub: u32,
}

/// Operations that are evaluated together: one revision if they change anything.
pub(crate) struct Evaluation<'a> {
    shared: &'a Shared,
    /// Where the store was before.
    base: i64,
    pub(crate) changes: Vec<Change>,
    /// Old revisions that are read.
    pins: Vec<Pin<'a>>,
}

/// Which way a transaction goes. Decided before anything is done, for those within as well, as in etcd.
struct Plan {
    succeeded: bool,
    within: Vec<Plan>,
}

impl<'a> Evaluation<'a> {
    /// For the writer, `base` is where the store is with all that is being written. A reader passes a pinned
    /// revision, and only operations that change nothing.
    pub(crate) fn new(shared: &'a Shared, base: i64) -> Self {
        Self { shared, base, changes: Vec::new(), pins: Vec::new() }
    }

    /// Does an operation. After an error `changes` are to be undone.
    pub(crate) fn run(&mut self, op: &Op) -> Result<OpResponse> {
        let plan = if let Op::Txn(txn) = op { Some(self.plan(txn)?) } else { None };
        self.check(op, plan.as_ref())?;
        self.execute(op, plan.as_ref())
    }

    /// Deletes the keys that were attached to a lease.
    pub(crate) fn delete_keys(&mut self, keys: impl Iterator<Item = Key>) {
        let mut index = write(&self.shared.index);
        for key in keys {
            // A key can have been attached more than once only if it was put in between; it is there once.
            if index.get(&key).is_some_and(|history| !history.last.is_deletion()) {
                let change = delete(&mut index, &key, self.base + 1, self.changes.len());
                self.changes.push(change.0);
            }
        }
    }

    /// Takes all changes back.
    pub(crate) fn undo(shared: &Shared, changes: Vec<Change>) {
        for change in changes.into_iter().rev() {
            let (from, to) = write(&shared.index).pop(&change.key);
            lock(&shared.leases).attach(&change.key, from, to);
        }
    }

    fn current(&self) -> i64 {
        self.base + i64::from(!self.changes.is_empty())
    }

    fn plan(&self, txn: &TxnRequest) -> Result<Plan> {
        let mut succeeded = true;
        for compare in &txn.compare {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        let within = branch(txn, succeeded).iter().filter_map(|op| match op {
            Op::Txn(inner) => Some(self.plan(inner)),
            _ => None,
        });
        Ok(Plan { succeeded, within: within.collect::<Result<_>>()? })
    }

    fn holds(&self, compare: &Compare) -> Result<bool> {
        let range = compare.range();
        if range.is_point() {
            let index = read(&self.shared.index);
            let version = index.get(&compare.key).and_then(|history| history.live_at(self.base));
            if !matches!(compare.target, CompareTarget::Value(_)) {
                let none = KeyValue::default();
                return Ok(side(compare, &version.map_or(none, meta)));
            }
            let Some(version) = version else {
                return Ok(false);
            };
            let found = Found::new(&index, &compare.key, version, true);
            drop(index);
            return Ok(side(compare, &found.load()?));
        }
        let keys_only = !matches!(compare.target, CompareTarget::Value(_));
        let request = RangeRequest {
            key: compare.key.clone(),
            range_end: compare.range_end.clone(),
            keys_only,
            ..RangeRequest::default()
        };
        let kvs = self.scan(request, self.base)?.kvs;
        if kvs.is_empty() {
            return Ok(keys_only && side(compare, &KeyValue::default()));
        }
        Ok(kvs.iter().all(|kv| side(compare, kv)))
    }

    /// What etcd checks of all operations before it does the first.
    fn check(&mut self, op: &Op, plan: Option<&Plan>) -> Result<()> {
        match op {
            Op::Range(request) => {
                if request.revision.0 > 0 {
                    self.pins.push(self.shared.hold(request.revision.0));
                }
                self.shared.readable(request.revision.0, self.base).map(drop)
            }
            Op::Put(request) => {
                if request.ignore_value || request.ignore_lease {
                    let index = read(&self.shared.index);
                    index.get(&request.key).and_then(|history| history.live_at(self.base)).ok_or(Error::KeyNotFound)?;
                }
                if request.lease != LeaseId::NONE && !lock(&self.shared.leases).all.contains_key(&request.lease.0) {
                    return Err(Error::LeaseNotFound(request.lease));
                }
                Ok(())
            }
            Op::DeleteRange(_) => Ok(()),
            Op::Txn(txn) => {
                let plan = plan.expect("a transaction has a plan");
                each(txn, plan, |op, within| self.check(op, within))
            }
        }
    }

    fn execute(&mut self, op: &Op, plan: Option<&Plan>) -> Result<OpResponse> {
        Ok(match op {
            Op::Range(request) => {
                let rev = if request.revision.0 <= 0 { self.current() } else { request.revision.0 };
                OpResponse::Range(self.scan(request.clone(), rev)?)
            }
            Op::Put(request) => OpResponse::Put(self.put(request)?),
            Op::DeleteRange(request) => OpResponse::DeleteRange(self.delete_range(request)?),
            Op::Txn(txn) => {
                let plan = plan.expect("a transaction has a plan");
                let mut responses = Vec::new();
                each(txn, plan, |op, within| {
                    responses.push(self.execute(op, within)?);
                    Ok(())
                })?;
                let revision = Revision(self.current());
                OpResponse::Txn(TxnResponse { revision, succeeded: plan.succeeded, responses })
            }
        })
    }

    fn scan(&self, request: RangeRequest, rev: i64) -> Result<RangeResponse> {
        let mut scan = Scan::new(request, rev);
        while !scan.step(self.shared) {}
        scan.finish(self.current())
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse> {
        let prev = if request.prev_kv || request.ignore_value {
            get(self.shared, &request.key, self.current())?
        } else {
            None
        };
        let value = match (&prev, request.ignore_value) {
            (_, false) => request.value.clone(),
            (Some(prev), true) => prev.value.clone(),
            (None, true) => return Err(Error::KeyNotFound),
        };
        let (rev, sub) = (self.base + 1, self.changes.len() as u32);
        let mut kv = KeyValue {
            key: request.key.clone(),
            value,
            create_revision: Revision(rev),
            mod_revision: Revision(rev),
            version: 1,
            lease: request.lease,
        };
        let own = Some(kv.value[..].into());
        let pushed = |last: Option<&Version>| {
            if let Some(last) = last {
                kv.create_revision = Revision(last.create);
                kv.version = last.version + 1;
            }
            if request.ignore_lease {
                kv.lease = LeaseId(last.ok_or(Error::KeyNotFound)?.lease);
            }
            Ok(Version {
                rev,
                create: kv.create_revision.0,
                version: kv.version,
                lease: kv.lease.0,
                offset: 0,
                file: 0,
                len: kv.value.len() as u32,
                sub,
                value: own,
            })
        };
        let Pushed { key, place, lease } = write(&self.shared.index).push_after(&request.key, pushed)?;
        if lease != kv.lease.0 {
            lock(&self.shared.leases).attach(&key, lease, kv.lease.0);
        }
        self.changes.push(Change { key, place, event: Event { kind: EventKind::Put, kv, prev_kv: None }, sub });
        Ok(PutResponse { revision: Revision(self.current()), prev_kv: prev.filter(|_| request.prev_kv) })
    }

    fn delete_range(&mut self, request: &DeleteRangeRequest) -> Result<DeleteRangeResponse> {
        let found = self.scan(
            RangeRequest {
                key: request.key.clone(),
                range_end: request.range_end.clone(),
                keys_only: !request.prev_kv,
                ..RangeRequest::default()
            },
            self.current(),
        )?;
        for some in found.kvs.chunks(SCAN_KEYS) {
            let mut detach = Vec::new();
            let mut index = write(&self.shared.index);
            for kv in some {
                let (change, lease) = delete(&mut index, &kv.key, self.base + 1, self.changes.len());
                if lease != 0 {
                    detach.push((change.key.clone(), lease));
                }
                self.changes.push(change);
            }
            drop(index);
            let mut leases = lock(&self.shared.leases);
            detach.iter().for_each(|(key, lease)| leases.attach(key, *lease, 0));
        }
        Ok(DeleteRangeResponse {
            revision: Revision(self.current()),
            deleted: found.count,
            prev_kvs: if request.prev_kv { found.kvs } else { Vec::new() },
        })
    }
}

/// Puts a deletion of a key into the index; also returns the lease it had.
fn delete(index: &mut Index, key: &[u8], rev: i64, sub: usize) -> (Change, i64) {
    let sub = sub as u32;
    let deletion = Version { rev, create: 0, version: 0, lease: 0, offset: 0, file: 0, len: 0, sub, value: None };
    let Pushed { key, place, lease } = index.push(key, deletion);
    let kv = KeyValue { key: Bytes::copy_from_slice(&key), mod_revision: Revision(rev), ..KeyValue::default() };
    (Change { key, place, event: Event { kind: EventKind::Delete, kv, prev_kv: None }, sub }, lease)
}

fn branch(txn: &TxnRequest, succeeded: bool) -> &[Op] {
    if succeeded { &txn.success } else { &txn.failure }
}

/// Visits the operations of the branch taken, transactions with their plan.
fn each(txn: &TxnRequest, plan: &Plan, mut visit: impl FnMut(&Op, Option<&Plan>) -> Result<()>) -> Result<()> {
    let mut within = plan.within.iter();
    branch(txn, plan.succeeded).iter().try_for_each(|op| match op {
        Op::Txn(_) => visit(op, within.next()),
        _ => visit(op, None),
    })
}

fn meta(version: &Version) -> KeyValue {
    KeyValue {
        key: Bytes::new(),
        value: Bytes::new(),
        create_revision: Revision(version.create),
        mod_revision: Revision(version.rev),
        version: version.version,
        lease: LeaseId(version.lease),
    }
}

fn side(compare: &Compare, kv: &KeyValue) -> bool {
    compare.op.holds(match &compare.target {
        CompareTarget::Version(version) => kv.version.cmp(version),
        CompareTarget::CreateRevision(revision) => kv.create_revision.cmp(revision),
        CompareTarget::ModRevision(revision) => kv.mod_revision.cmp(revision),
        CompareTarget::Value(value) => kv.value.cmp(value),
        CompareTarget::Lease(lease) => kv.lease.cmp(lease),
    })
}
