//! The agent's place in the cluster: its lease, its name, and whether it leads.
//!
//! Flow: [`Tenure::begin`] takes a lease, claims the node's name and runs for leader; [`Tenure::keep`] keeps the lease
//! alive and runs again whenever there is no leader. What is put under the lease (the name, the node's record, the
//! leader's record) goes when the agent has been dead, or cut off, for [`LEASE_SECONDS`].
//!
//! Guarantees: at most one agent has a name, and at most one leads, as far as the store can tell: whoever believes to
//! lead still has each of its commits compared with the leader's record (`Transaction::fence`).

use super::driver::Message;
use super::shelf::Lease;
use super::stage;
use regrow_control::reconcile::Input;
use regrow_model::key::{AGENTS, LEADER, Record};
use regrow_model::observed::Node;
use regrow_model::{Name, Revision};
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, KeyValue, LeaseGrantRequest, LeaseId, Op, OpResponse,
    PutRequest, RangeRequest, Store, TxnRequest, Watch, WatchRequest,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

/// How long an agent's records outlive it: long enough for a restart and for an election of etcd (1–2 s), and three
/// beats.
pub(super) const LEASE_SECONDS: i64 = 10;

/// How often the lease is kept alive: a third of it, as etcd's clients do.
const BEAT: Duration = Duration::from_millis(LEASE_SECONDS as u64 * 1000 / 3);

/// How long an agent that ends waits for the store to take its lease back.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who holds a record under a lease.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    /// The node.
    node: String,
    /// The data folder's own id: tells a restart of an agent from another one of the same name.
    agent: String,
}

/// Why an agent has no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum TenureError {
    /// Another agent, on another data folder, is alive under this name. Nothing was changed.
    #[error(
        "another agent is alive as node `{0}` on this store\n  give this one another name with --node; if that agent \
         is dead, its claim ends {LEASE_SECONDS} s after it: start this one again then"
    )]
    NameTaken(Name),
    /// The store cannot be asked. Retryable, as its own error says.
    #[error(transparent)]
    Store(#[from] Error),
}

/// See the module.
pub(super) struct Tenure {
    store: Arc<dyn Store>,
    node: Name,
    holder: Vec<u8>,
    record: Node,
    lease: Lease,
    lead: Option<Revision>,
}

impl Tenure {
    /// `agent`: the data folder's id. `lease`: where whoever writes the node's record finds the lease.
    pub(super) fn new(store: Arc<dyn Store>, node: Name, agent: &str, record: Node, lease: Lease) -> Tenure {
        let holder = Holder { node: node.to_string(), agent: agent.to_owned() };
        let holder = serde_json::to_vec(&holder).expect("two texts always serialise");
        Tenure { store, node, holder, record, lease, lead: None }
    }

    /// Takes a lease and the name, and runs for leader. The answer is where the leader's record was created, if this
    /// agent leads.
    pub(super) async fn begin(&mut self) -> Result<Option<Revision>, TenureError> {
        self.lead = None;
        let granted = self.store.lease_grant(LeaseGrantRequest { id: LeaseId::NONE, ttl: LEASE_SECONDS }).await?;
        self.lease.set(granted.id);
        let name = format!("{AGENTS}{}", self.node);
        if self.take(&name, false).await?.is_none() {
            Tenure::end(&*self.store, &self.lease).await;
            return Err(TenureError::NameTaken(self.node.clone()));
        }
        self.lead = self.take(LEADER, true).await?;
        Ok(self.lead)
    }

    /// Until the inbox is gone.
    pub(super) async fn keep(mut self, inbox: mpsc::Sender<Message>, mut moved: tokio::sync::watch::Receiver<u64>) {
        let mut watch: Option<Watch> = None;
        let mut lost = false;
        loop {
            let next = Instant::now() + BEAT;
            if watch.is_none() {
                watch = self.store.watch(WatchRequest::key(LEADER)).await.ok();
            }
            tokio::select! {
                () = sleep_until(next) => {}
                () = inbox.closed() => return,
                // The leader's record has another creation now.
                Ok(()) = moved.changed() => {}
                item = async { match &mut watch { Some(watch) => watch.next().await, None => std::future::pending().await } } => {
                    if !matches!(item, Some(Ok(_))) {
                        watch = None;
                        sleep_until(next).await;
                    }
                }
            }
            let before = self.lead;
            let result = tokio::select! {
                result = self.beat() => result,
                () = inbox.closed() => return,
            };
            match result {
                Ok(()) if lost => {
                    tracing::info!("the store answers again");
                    lost = false;
                }
                Ok(()) => {}
                Err(TenureError::Store(Error::Closed)) => return,
                Err(TenureError::Store(error)) => {
                    if !lost {
                        tracing::warn!("the store does not answer: {error}; what runs goes on");
                    }
                    lost = true;
                }
                Err(error @ TenureError::NameTaken(_)) => {
                    tracing::error!("{error}");
                    let _ = inbox.send(Message::Leave).await;
                    return;
                }
            }
            if self.lead != before && inbox.send(Message::Input(Input::Led(self.lead))).await.is_err() {
                return;
            }
        }
    }

    /// Gives everything back at once, so that others need not wait.
    pub(super) async fn end(store: &dyn Store, lease: &Lease) {
        // Where the store is not there, the lease ends by itself.
        let _ = timeout(FAREWELL, store.lease_revoke(lease.get())).await;
    }

    /// For an agent that ends while its instances go on: others may lead at once, and the node's record says that it is
    /// away and not dead. The next agent takes it from there; without one the lease ends by itself.
    pub(super) async fn rest(store: &dyn Store, lease: &Lease, node: Name, record: Node) {
        let record = Record::Node(node, Node { away: true, ..record });
        let put = PutRequest::new(record.key().to_string(), record.to_json());
        let put = PutRequest { lease: lease.get(), ..put };
        let led = Compare::new(LEADER, CompareOp::Equal, CompareTarget::Lease(lease.get()));
        let request = TxnRequest {
            compare: vec![led],
            success: vec![Op::Put(put.clone()), Op::DeleteRange(DeleteRangeRequest::key(LEADER))],
            failure: vec![Op::Put(put)],
        };
        let _ = timeout(FAREWELL, store.txn(request)).await;
    }

    async fn beat(&mut self) -> Result<(), TenureError> {
        match self.store.lease_keep_alive(self.lease.get()).await {
            Ok(_) => {
                self.lead = self.take(LEADER, true).await?;
            }
            Err(Error::LeaseNotFound(_)) => {
                tracing::warn!("the store has not heard of this agent for {LEASE_SECONDS} s; it comes back");
                self.begin().await?;
                let record = Record::Node(self.node.clone(), self.record.clone());
                let put = PutRequest::new(record.key().to_string(), record.to_json());
                self.store.put(PutRequest { lease: self.lease.get(), ..put }).await?;
            }
            Err(error) => return Err(error.into()),
        }
        if self.lead.is_some() {
            stage::finish(&*self.store).await?;
        }
        Ok(())
    }

    /// Puts this agent's record at `key` under its lease, if nobody else's is there; where it was created, then. What
    /// an agent before this one on the same data folder has left is taken over, `anew` with another creation.
    async fn take(&self, key: &str, anew: bool) -> Result<Option<Revision>, Error> {
        let put =
            Op::Put(PutRequest { lease: self.lease.get(), ..PutRequest::new(key.to_owned(), self.holder.clone()) });
        loop {
            let request = TxnRequest {
                compare: vec![Compare::new(
                    key.to_owned(),
                    CompareOp::Equal,
                    CompareTarget::CreateRevision(regrow_store::Revision(0)),
                )],
                success: vec![put.clone()],
                failure: vec![Op::Range(RangeRequest::key(key.to_owned()))],
            };
            let answer = self.store.txn(request).await?;
            if answer.succeeded {
                return Ok(Some(Revision(answer.revision.0)));
            }
            let Some(found) = first(answer.responses) else { continue };
            if found.lease == self.lease.get() {
                return Ok(Some(Revision(found.create_revision.0)));
            }
            if found.value != self.holder {
                return Ok(None);
            }
            let step = if anew { Op::DeleteRange(DeleteRangeRequest::key(key.to_owned())) } else { put.clone() };
            let target = CompareTarget::ModRevision(found.mod_revision);
            let compare = vec![Compare::new(key.to_owned(), CompareOp::Equal, target)];
            self.store.txn(TxnRequest { compare, success: vec![step], failure: Vec::new() }).await?;
        }
    }
}

fn first(responses: Vec<OpResponse>) -> Option<KeyValue> {
    match responses.into_iter().next()? {
        OpResponse::Range(found) => found.kvs.into_iter().next(),
        OpResponse::Put(_) | OpResponse::DeleteRange(_) | OpResponse::Txn(_) => None,
    }
}
