//! The cases that every implementation of [`Store`] must pass.
//!
//! A case uses keys of its own and revisions relative to where it starts, so cases may follow each other on one
//! store, such as a real etcd. Each runs alone on its store while it runs: nobody else may write.

mod compact;
mod lease;
mod put;
mod range;
mod txn;
mod watch;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    BoxFuture, Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, Event, EventKind, KeyValue, Op,
    PutRequest, RangeRequest, RangeResponse, Revision, Store, TxnRequest, TxnResponse, Watch, WatchItem, prefix_end,
};

/// Where the cases run.
pub trait Harness: Sync {
    /// A store; it may be the same each time, and hold keys of earlier cases.
    fn open(&self) -> Arc<dyn Store>;

    /// Lets time pass for the leases of the stores opened.
    fn pass(&self, time: Duration) -> BoxFuture<'_, ()>;
}

/// One case. It panics if the store is wrong.
pub struct Case {
    /// What it shows; also where its keys are.
    pub name: &'static str,
    run: for<'a> fn(Trial<'a>) -> BoxFuture<'a, ()>,
}

impl Case {
    /// Runs the case.
    pub async fn run(&self, harness: &dyn Harness) {
        let store = harness.open();
        (self.run)(Trial { harness, store, name: self.name }).await;
    }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [put::CASES, range::CASES, txn::CASES, lease::CASES, watch::CASES, compact::CASES]
        .concat()
        .into_iter()
        .map(|(name, run)| Case { name, run })
        .collect()
}

/// Runs all cases, one after the other; panics at the first that fails, naming it.
pub async fn run(harness: &dyn Harness) {
    for case in cases() {
        tracing::info!(case = case.name, "runs");
        case.run(harness).await;
    }
}

type Entry = (&'static str, for<'a> fn(Trial<'a>) -> BoxFuture<'a, ()>);

/// A case under way.
struct Trial<'a> {
    harness: &'a dyn Harness,
    store: Arc<dyn Store>,
    name: &'static str,
}

impl Trial<'_> {
    fn key(&self, key: &str) -> Bytes {
        format!("{}/{key}", self.name).into()
    }

    fn end(&self) -> Bytes {
        prefix_end(format!("{}/", self.name).as_bytes())
    }

    /// A range of all keys of the case.
    fn all(&self) -> RangeRequest {
        RangeRequest { key: self.key(""), range_end: self.end(), ..RangeRequest::default() }
    }

    async fn put(&self, key: &str, value: &'static str) -> Revision {
        self.store.put(PutRequest::new(self.key(key), value)).await.expect("put").revision
    }

    async fn delete(&self, key: &str) -> Revision {
        self.store.delete_range(DeleteRangeRequest::key(self.key(key))).await.expect("delete").revision
    }

    async fn range(&self, request: RangeRequest) -> RangeResponse {
        self.store.range(request).await.expect("range")
    }

    async fn get(&self, key: &str) -> Option<KeyValue> {
        self.range(RangeRequest::key(self.key(key))).await.kvs.pop()
    }

    async fn revision(&self) -> Revision {
        self.store.status().await.expect("status").revision
    }

    async fn txn(&self, compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> TxnResponse {
        self.store.txn(TxnRequest { compare, success, failure }).await.expect("txn")
    }

    fn put_op(&self, key: &str, value: &'static str) -> Op {
        Op::Put(PutRequest::new(self.key(key), value))
    }

    fn delete_op(&self, key: &str) -> Op {
        Op::DeleteRange(DeleteRangeRequest::key(self.key(key)))
    }

    fn get_op(&self, key: &str) -> Op {
        Op::Range(RangeRequest::key(self.key(key)))
    }

    fn when(&self, key: &str, op: CompareOp, target: CompareTarget) -> Compare {
        Compare::new(self.key(key), op, target)
    }

    /// What a range answers, as short text: keys without the case's prefix, and values.
    fn text(&self, response: &RangeResponse) -> String {
        let kvs = response.kvs.iter().map(|kv| format!("{}={}", self.short(&kv.key), text(&kv.value)));
        kvs.collect::<Vec<_>>().join(" ")
    }

    fn short(&self, key: &[u8]) -> String {
        text(key).strip_prefix(&format!("{}/", self.name)).expect("a key of this case").to_owned()
    }

    /// Events as short text: `+key=value` and `-key`, each with its revision less `from`.
    fn events(&self, events: &[Event], from: Revision) -> String {
        let one = |event: &Event| {
            let (key, at) = (self.short(&event.kv.key), event.kv.mod_revision.0 - from.0);
            match event.kind {
                EventKind::Put => format!("+{key}={}@{at}", text(&event.kv.value)),
                EventKind::Delete => format!("-{key}@{at}"),
            }
        };
        events.iter().map(one).collect::<Vec<_>>().join(" ")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The next events of a watch, progress left out.
async fn next_events(watch: &mut Watch) -> Vec<Event> {
    loop {
        match next_item(watch).await {
            WatchItem::Events { events, .. } => return events,
            WatchItem::Progress { .. } => {}
        }
    }
}

async fn next_item(watch: &mut Watch) -> WatchItem {
    watch.next().await.expect("the watch goes on").expect("no error")
}

/// Collects events until there are `count`.
async fn collect(watch: &mut Watch, count: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(next_events(watch).await);
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, expect: impl Fn(&Error) -> bool) {
    let error = result.expect_err("refused");
    assert!(expect(&error), "{error:?}");
}
