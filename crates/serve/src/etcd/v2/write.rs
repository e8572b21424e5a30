//! Writing nodes: read, decide, do it in one transaction if what was read still holds; else again.
//!
//! Source of the rules: etcd's `v2store/store.go`.

use std::sync::Arc;

use bytes::Bytes;
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, KeyValue, LeaseId, Op, OpResponse, PutRequest,
    Revision, Store, TxnRequest,
};

use super::{
    Shared,
    hold::{Hold, Holder, release},
    ledger::{Entry, Ticket},
    node::{Action, Event, Node},
    path::Path,
    read::{missing, own_life},
    refused::{Code, Failed, Refused},
    request::{Content, Expected, Verb, Write},
    state::{Kind, State, absent, empty, equal},
    subtree,
};
use crate::etcd::limits::V2_TRIES_MAX;

/// Does a write. Returns what was done, and at which revision.
pub(super) async fn write(store: &dyn Store, shared: &Shared, write: &Write) -> Result<(Event, Revision), Refused> {
    let mut holder = Holder::default();
    let mut alone = None;
    for _ in 0..V2_TRIES_MAX {
        match attempt(store, shared, write, &mut holder).await {
            Ok(None) => {}
            // A lease has just ended: that of a directory above, or of the node.
            Err(Failed::Store(Error::LeaseNotFound(_))) => std::mem::take(&mut holder).give_back(store).await,
            done => {
                holder.give_back(store).await;
                return Ok(done?.expect("something was done"));
            }
        }
        // New names in one directory get in each other's way: those that come late go one after the other.
        if alone.is_none() && matches!(write.verb, Verb::Append(_)) {
            alone = Some(shared.appends.lock().await);
        }
    }
    holder.give_back(store).await;
    let cause = format!("{} is changed by others all the time: nothing was done in {V2_TRIES_MAX} tries", write.path);
    Err(Refused::request(Code::Internal, cause))
}

/// What is to be done with a node.
enum Step {
    /// Put a file; without a value it keeps the one it has.
    File(Action, Option<Bytes>),
    /// Make a directory, in place of a file or of nothing.
    Dir(Action),
    /// Give a directory a new time.
    Renew,
    /// Take away a file.
    RemoveFile(Action),
    /// Take away a directory, with all beneath or only if there is nothing.
    RemoveDir { recursive: bool },
}

/// Tries a write. Nothing: what it was decided on has changed.
async fn attempt(
    store: &dyn Store,
    shared: &Shared,
    write: &Write,
    holder: &mut Holder,
) -> Result<Option<(Event, Revision)>, Failed> {
    let mut state = State::read(store, &write.path).await?;
    if matches!(write.verb, Verb::Append(_)) {
        let name = format!("{:020}", state.revision.next().0);
        state = state.child(name.as_bytes());
    }
    let Some(step) = decide(write, &state)? else {
        return Err(missing(store, &state.path, state.revision).await?.into());
    };
    let prev = match state.kind() {
        Kind::Missing => None,
        Kind::File(kv) => own_life(store, &state.path, kv.lease, state.revision).await?,
        Kind::Dir => match &state.here.marker {
            Some(kv) => own_life(store, &state.path, kv.lease, state.revision).await?,
            None => None,
        },
    };
    let ticket = shared.ledger.open(&write.path);
    let work = Work { store, write, state: &state, ticket: &ticket };
    let hold = match step {
        Step::File(..) | Step::Dir(_) | Step::Renew => {
            Some(holder.hold(store, &shared.lease_ids, write.ttl, &state).await?)
        }
        Step::RemoveFile(_) | Step::RemoveDir { .. } => None,
    };
    let done = match (step, &hold) {
        (Step::File(action, value), Some(hold)) => work.put_file(action, value, hold).await?,
        (Step::Dir(action), Some(hold)) => work.make_dir(action, hold).await?,
        (Step::Renew, Some(hold)) => work.renew(hold).await?,
        (Step::RemoveFile(action), _) => work.remove_file(action).await?,
        (Step::RemoveDir { recursive }, _) => work.remove_dir(recursive).await?,
        (_, None) => unreachable!("what is put has a lease to hang on, or none by name"),
    };
    let Some((mut event, revision, had)) = done else { return Ok(None) };
    event.prev = event.prev.map(|node| node.living(prev));
    let entry = match write.refresh {
        true => Entry::Quiet,
        false => Entry::Told(state.path.clone(), Arc::new(event.clone())),
    };
    ticket.done(revision, entry);
    drop(ticket);
    let lease = hold.as_ref().map_or(LeaseId::NONE, |hold| hold.lease);
    if hold.is_some_and(|hold| hold.is_kept) {
        match store.lease_keep_alive(lease).await {
            // It ended between the write and now, and took the node with it.
            Err(Error::LeaseNotFound(_)) => return Ok(None),
            other => drop(other?),
        }
    } else if had != lease && !state.leases_above().contains(&had) {
        release(store, had).await;
    }
    Ok(Some((event, revision)))
}

/// What the rules say. Nothing: the node is not there, and should be.
fn decide(write: &Write, state: &State) -> Result<Option<Step>, Refused> {
    let refused = |code, path: &Path| Err(Refused::node(code, path, state.revision));
    let kind = state.kind();
    if state.path.is_root() {
        let code = if matches!(write.verb, Verb::CompareDelete(_)) { Code::NotFile } else { Code::RootReadOnly };
        return refused(code, &state.path);
    }
    if let Some(path) = state.file_above() {
        return refused(Code::NotDir, path);
    }
    let kept = |value: &Bytes| if write.refresh { None } else { Some(value.clone()) };
    Ok(Some(match (&write.verb, kind) {
        (Verb::Set(_), Kind::Missing) if write.refresh => return Ok(None),
        (Verb::Set(_), Kind::Dir) => return refused(Code::NotFile, &state.path),
        (Verb::Set(Content::File(value)), Kind::File(_)) => Step::File(Action::Set, kept(value)),
        (Verb::Set(Content::File(value)), Kind::Missing) => Step::File(Action::Set, Some(value.clone())),
        (Verb::Set(Content::Dir), _) => Step::Dir(Action::Set),
        (Verb::Create(Content::File(value)) | Verb::Append(Content::File(value)), Kind::Missing) => {
            Step::File(Action::Create, Some(value.clone()))
        }
        (Verb::Create(Content::Dir) | Verb::Append(Content::Dir), Kind::Missing) => Step::Dir(Action::Create),
        (Verb::Create(_) | Verb::Append(_), _) => return refused(Code::NodeExist, &state.path),
        (_, Kind::Missing) => return Ok(None),
        (Verb::Update(value), Kind::File(_)) => Step::File(Action::Update, kept(value)),
        (Verb::Update(value), Kind::Dir) if value.is_empty() => Step::Renew,
        (Verb::Swap(expected, value), Kind::File(kv)) => {
            check(expected, kv, state.revision)?;
            Step::File(Action::CompareAndSwap, kept(value))
        }
        (Verb::Delete { .. }, Kind::File(_)) => Step::RemoveFile(Action::Delete),
        (Verb::Delete { dir, recursive }, Kind::Dir) if *dir || *recursive => Step::RemoveDir { recursive: *recursive },
        (Verb::CompareDelete(expected), Kind::File(kv)) => {
            check(expected, kv, state.revision)?;
            Step::RemoveFile(Action::CompareAndDelete)
        }
        (_, Kind::Dir) => return refused(Code::NotFile, &state.path),
    }))
}

/// Whether a file is as expected; the cause shows what is not, as etcd shows it.
fn check(expected: &Expected, kv: &KeyValue, index: Revision) -> Result<(), Refused> {
    let modified = u64::try_from(kv.mod_revision.0).unwrap_or(0);
    let value_is = expected.value.as_ref().is_none_or(|value| *value == kv.value);
    let index_is = expected.index.is_none_or(|index| index == modified);
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let values = format!("[{} != {}]", text(expected.value.as_deref().unwrap_or(b"")), text(&kv.value));
    let indexes = format!("[{} != {modified}]", expected.index.unwrap_or(0));
    let cause = match (value_is, index_is) {
        (true, true) => return Ok(()),
        (true, false) => indexes,
        (false, true) => values,
        (false, false) => format!("{values} {indexes}"),
    };
    Err(Refused { code: Code::TestFailed, cause, index })
}

/// What was done, the revision, and the lease that the node had.
type Done = (Event, Revision, LeaseId);

/// One try.
struct Work<'a> {
    store: &'a dyn Store,
    write: &'a Write,
    state: &'a State,
    ticket: &'a Ticket<'a>,
}

impl Work<'_> {
    async fn put_file(&self, action: Action, value: Option<Bytes>, hold: &Hold) -> Result<Option<Done>, Error> {
        let (state, path) = (self.state, &self.state.path);
        let (mut compare, mut ops) = match state.kind() {
            Kind::Missing => state.way_here(hold.inherited),
            _ => (state.same_leases(), Vec::new()),
        };
        match (state.kind(), &self.write.verb) {
            (Kind::File(kv), Verb::Swap(..)) => {
                compare.push(equal(path.key(), CompareTarget::ModRevision(kv.mod_revision)));
            }
            (Kind::File(_), _) => {
                compare.push(Compare::new(path.key(), CompareOp::Greater, CompareTarget::Version(0)));
            }
            (_, verb) => {
                compare.push(empty(&path.beneath()));
                if !matches!(verb, Verb::Set(_)) {
                    compare.push(absent(path.key()));
                }
            }
        }
        if hold.is_kept {
            compare.push(equal(path.key(), CompareTarget::Lease(hold.lease)));
        }
        if let Verb::Append(_) = self.write.verb {
            // No name that comes after this one has been given since the revision was read.
            let end = self.write.path.child(b"1").key();
            let target = CompareTarget::ModRevision(state.revision.next());
            compare.push(Compare { key: path.key(), range_end: end, op: CompareOp::Less, target });
        }
        ops.push(Op::Put(PutRequest {
            ignore_value: value.is_none(),
            lease: hold.lease,
            prev_kv: true,
            ..PutRequest::new(path.key(), value.clone().unwrap_or_default())
        }));
        let Some((revision, responses)) = self.commit(compare, ops).await? else { return Ok(None) };
        let prev = responses.into_iter().find_map(|response| match response {
            OpResponse::Put(put) => put.prev_kv,
            _ => None,
        });
        let kept = prev.as_ref().map(|kv| kv.value.clone()).unwrap_or_default();
        let kv = KeyValue {
            value: value.unwrap_or(kept),
            create_revision: prev.as_ref().map_or(revision, |kv| kv.create_revision),
            mod_revision: revision,
            ..KeyValue::default()
        };
        let node = Node::file(path, &kv).living(hold.life.clone());
        let had = prev.as_ref().map_or(LeaseId::NONE, |kv| kv.lease);
        let prev = prev.map(|kv| Node::file(path, &kv));
        Ok(Some((Event { action, node: Some(node), prev }, revision, had)))
    }

    async fn make_dir(&self, action: Action, hold: &Hold) -> Result<Option<Done>, Error> {
        let (state, path) = (self.state, &self.state.path);
        let (mut compare, mut ops) = state.way_here(hold.inherited);
        let mut had = LeaseId::NONE;
        let mut prev = None;
        match state.kind() {
            Kind::File(kv) => {
                compare.push(equal(path.key(), CompareTarget::ModRevision(kv.mod_revision)));
                ops.push(Op::DeleteRange(DeleteRangeRequest::key(path.key())));
                (had, prev) = (kv.lease, Some(Node::file(path, kv)));
            }
            _ => compare.push(absent(path.key())),
        }
        compare.push(empty(&path.beneath()));
        ops.push(Op::Put(PutRequest { lease: hold.lease, ..PutRequest::new(path.marker(), "") }));
        let Some((revision, _)) = self.commit(compare, ops).await? else { return Ok(None) };
        let kv = KeyValue { create_revision: revision, ..KeyValue::default() };
        let node = Node::dir(path, Some(&kv)).living(hold.life.clone());
        Ok(Some((Event { action, node: Some(node), prev }, revision, had)))
    }

    /// What hung on the directory's lease before hangs on its new one after. So few keys that they fit into one
    /// transaction are moved with the marker; of more, the most are moved before it, so that none is left behind
    /// should this end halfway.
    async fn renew(&self, hold: &Hold) -> Result<Option<Done>, Failed> {
        let (store, state, path) = (self.store, self.state, &self.state.path);
        let had = state.here.marker.as_ref().map_or(LeaseId::NONE, |kv| kv.lease);
        let mut ops = vec![Op::Put(PutRequest { lease: hold.lease, ..PutRequest::new(path.marker(), "") })];
        if had != hold.lease {
            let hanging = subtree::hanging(store, path, had).await?;
            let (before, with) = hanging.split_at(hanging.len().saturating_sub(subtree::MOVED_AT_ONCE));
            if had != LeaseId::NONE && !before.is_empty() {
                // It must not end while its keys are moved to the new one. If it has, there is nothing to move.
                match store.lease_keep_alive(had).await {
                    Ok(_) | Err(Error::LeaseNotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            subtree::move_all(store, before, hold.lease, self.ticket).await?;
            ops.extend(subtree::moves(with, hold.lease));
        }
        let mut compare = state.same_leases();
        match &state.here.marker {
            Some(kv) => {
                compare.push(equal(path.marker(), CompareTarget::CreateRevision(kv.create_revision)));
                compare.push(equal(path.marker(), CompareTarget::Lease(had)));
            }
            None => compare.push(absent(path.marker())),
        }
        let Some((revision, _)) = self.commit(compare, ops).await? else { return Ok(None) };
        if had != hold.lease {
            // What was put between the two, and hung on the old one.
            let late = subtree::hanging(store, path, had).await?;
            subtree::move_all(store, &late, hold.lease, self.ticket).await?;
        }
        let prev = self.prev_dir();
        let node = Node { modified: revision.0, ..prev.clone() }.living(hold.life.clone());
        Ok(Some((Event { action: Action::Update, node: Some(node), prev: Some(prev) }, revision, had)))
    }

    async fn remove_file(&self, action: Action) -> Result<Option<Done>, Error> {
        let path = &self.state.path;
        let Kind::File(kv) = self.state.kind() else { return Ok(None) };
        let compare = match self.write.verb {
            Verb::CompareDelete(_) => vec![equal(path.key(), CompareTarget::ModRevision(kv.mod_revision))],
            _ => Vec::new(),
        };
        let request = DeleteRangeRequest { prev_kv: true, ..DeleteRangeRequest::key(path.key()) };
        let Some((revision, responses)) = self.commit(compare, vec![Op::DeleteRange(request)]).await? else {
            return Ok(None);
        };
        let prev = responses.into_iter().find_map(|response| match response {
            OpResponse::DeleteRange(mut deleted) => deleted.prev_kvs.pop(),
            _ => None,
        });
        // Somebody was faster: nothing was deleted.
        let Some(prev) = prev else { return Ok(None) };
        let (had, prev) = (prev.lease, Node::file(path, &prev));
        let node = Node::gone(&prev, revision.0);
        Ok(Some((Event { action, node: Some(node), prev: Some(prev) }, revision, had)))
    }

    async fn remove_dir(&self, recursive: bool) -> Result<Option<Done>, Failed> {
        let (state, path) = (self.state, &self.state.path);
        let had = state.here.marker.as_ref().map_or(LeaseId::NONE, |kv| kv.lease);
        let mut compare = Vec::new();
        if let Some(kv) = &state.here.marker {
            compare.push(equal(path.marker(), CompareTarget::CreateRevision(kv.create_revision)));
        }
        if !recursive {
            let is_empty = state.here.marker.is_some() && !subtree::has_any(self.store, path, state.revision).await?;
            if !is_empty {
                return Err(Refused::node(Code::DirNotEmpty, path, state.revision).into());
            }
            compare.push(empty(&path.inside()));
        }
        let request = DeleteRangeRequest { key: path.marker(), range_end: path.after(), prev_kv: false };
        let Some((revision, responses)) = self.commit(compare, vec![Op::DeleteRange(request)]).await? else {
            return Ok(None);
        };
        if !responses.iter().any(|response| matches!(response, OpResponse::DeleteRange(deleted) if deleted.deleted > 0))
        {
            return Ok(None);
        }
        let prev = self.prev_dir();
        let node = Node::gone(&prev, revision.0);
        Ok(Some((Event { action: Action::Delete, node: Some(node), prev: Some(prev) }, revision, had)))
    }

    fn prev_dir(&self) -> Node {
        let first = self.state.here.marker.as_ref().or(self.state.first.as_ref());
        Node::dir(&self.state.path, first)
    }

    /// Nothing: a condition does not hold.
    async fn commit(&self, compare: Vec<Compare>, ops: Vec<Op>) -> Result<Option<(Revision, Vec<OpResponse>)>, Error> {
        let answer = self.store.txn(TxnRequest { compare, success: ops, failure: Vec::new() }).await?;
        Ok(answer.succeeded.then_some((answer.revision, answer.responses)))
    }
}
