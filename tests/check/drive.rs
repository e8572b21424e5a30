//! Clients that work on a store, and the record of it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, Error, KeyValue, LeaseGrantRequest, LeaseId, Op, OpResponse,
    PutRequest, RangeRequest, Store, TxnRequest,
};
use tokio::task::JoinSet;

use super::{
    Random,
    history::{Answer, Call, Cell, KEYS, Operation, bytes, name, number, value},
};

/// Seconds of the leases that are left to end by themselves.
const SHORT: i64 = 2;

/// Seconds of those that are revoked by hand; none of them ends in a test.
const LONG: i64 = 3600;

/// How often it is asked which leases are over.
const LOOK: Duration = Duration::from_millis(50);

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    pub clients: usize,
    pub groups: usize,
    pub operations: usize,
}

/// What a client last saw of each key, by group and number: what its swaps expect.
type Memory = BTreeMap<(usize, usize), Option<u64>>;

/// What all clients share.
#[derive(Default)]
pub struct Record {
    clock: AtomicU64,
    started: AtomicUsize,
    answered: AtomicUsize,
    operations: Mutex<Vec<Operation>>,
    /// When the server was surely dead.
    deaths: Mutex<Vec<u64>>,
    leases: AtomicU64,
    /// Leases that will end by themselves: group, and when they began at the earliest.
    short: Mutex<BTreeMap<i64, (usize, Instant)>>,
    over: AtomicBool,
}

impl Record {
    fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    /// Operations answered so far.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// The server is dead: what it was asked has happened or never will.
    pub fn died(&self) {
        let now = self.tick();
        lock(&self.deaths).push(now);
    }

    /// All operations, once the clients are done.
    pub fn history(&self) -> Vec<Operation> {
        let deaths = lock(&self.deaths);
        let mut all = lock(&self.operations).clone();
        for operation in all.iter_mut().filter(|operation| operation.answer == Answer::Unknown) {
            operation.end = deaths.iter().copied().find(|death| *death > operation.end).unwrap_or(u64::MAX);
        }
        all
    }

    /// Returns whether the call was answered.
    async fn note(
        &self,
        client: usize,
        group: usize,
        call: Call,
        told: impl Future<Output = Result<Answer, Error>>,
    ) -> bool {
        let begin = self.tick();
        let answer = match told.await {
            Ok(answer) => answer,
            Err(Error::LeaseNotFound(_)) => Answer::NoLease,
            Err(Error::Unavailable { .. } | Error::Closed) => Answer::Unknown,
            Err(error) => panic!("{call:?}: {error}"),
        };
        let end = self.tick();
        self.answered.fetch_add(1, Ordering::SeqCst);
        let answered = answer != Answer::Unknown;
        // A read that was not answered says nothing.
        if answered || !matches!(call, Call::ReadAll | Call::Read { .. }) {
            self.push(Operation { client, group, call, answer, begin, end });
        }
        answered
    }

    fn push(&self, operation: Operation) {
        lock(&self.operations).push(operation);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets clients work, each on the store it is given, until so many operations are done, and short leases are over.
pub async fn run(size: Size, seed: u64, record: Arc<Record>, store: impl Fn(usize) -> Arc<dyn Store>) {
    let mut clients = JoinSet::new();
    for client in 0..size.clients {
        clients.spawn(work(size, seed, client, record.clone(), store(client)));
    }
    let reaper = tokio::spawn(reap(record.clone(), store(size.clients)));
    while let Some(done) = clients.join_next().await {
        done.expect("a client does not panic");
    }
    record.over.store(true, Ordering::SeqCst);
    reaper.await.expect("it does not panic");
}

async fn work(size: Size, seed: u64, client: usize, record: Arc<Record>, store: Arc<dyn Store>) {
    let mut random = Random::new(seed << 16 | client as u64);
    let mut seen = Memory::new();
    let mut lease = (0, 0);
    let mut written = 0;
    while record.started.fetch_add(1, Ordering::SeqCst) < size.operations {
        let (group, key) = (random.below(size.groups as u64) as usize, random.below(KEYS as u64) as usize);
        let mut fresh = || {
            written += 1;
            (client as u64) << 32 | written
        };
        match random.below(100) {
            0..15 => {
                let told = read(&*store, RangeRequest::prefix(format!("lin/{group}/")), &mut seen, group);
                record.note(client, group, Call::ReadAll, told).await;
            }
            15..35 => {
                let told = read(&*store, RangeRequest::key(name(group, key)), &mut seen, group);
                record.note(client, group, Call::Read { key }, told).await;
            }
            35..60 => {
                let value = fresh();
                let id = if lease.0 == group && random.below(2) == 0 { lease.1 } else { 0 };
                let put =
                    PutRequest { lease: LeaseId(id), prev_kv: true, ..PutRequest::new(name(group, key), bytes(value)) };
                let told = async {
                    let done = store.put(put).await?;
                    Ok(Answer::Done { revision: done.revision.0, before: done.prev_kv.as_ref().map(cell) })
                };
                record.note(client, group, Call::Put { key, value, lease: id }, told).await;
            }
            60..68 => {
                let request = DeleteRangeRequest { prev_kv: true, ..DeleteRangeRequest::key(name(group, key)) };
                let told = async {
                    let done = store.delete_range(request).await?;
                    Ok(Answer::Done { revision: done.revision.0, before: done.prev_kvs.first().map(cell) })
                };
                record.note(client, group, Call::Delete { key }, told).await;
            }
            68..94 => {
                let expect = seen.get(&(group, key)).copied().flatten();
                let other = (key + 1 + random.below(KEYS as u64 - 1) as usize) % KEYS;
                let puts: Vec<_> = [key, other].into_iter().map(|key| (key, fresh())).collect();
                let told = swap(&*store, group, key, expect, &puts, &mut seen);
                record.note(client, group, Call::Swap { key, expect, puts: puts.clone() }, told).await;
            }
            94..97 => {
                let id = 1 + record.leases.fetch_add(1, Ordering::SeqCst) as i64;
                let short = random.below(2) == 0;
                lease = (group, id);
                let began = Instant::now();
                let request = LeaseGrantRequest { id: LeaseId(id), ttl: if short { SHORT } else { LONG } };
                let told = async {
                    let granted = store.lease_grant(request).await?;
                    if short {
                        lock(&record.short).insert(id, (group, began));
                    }
                    Ok(Answer::Succeeded { revision: granted.revision.0 })
                };
                if !record.note(client, group, Call::Grant { lease: id }, told).await && short {
                    // It may be in force, and end by itself.
                    let (call, answer, begin) = (Call::Revoke { lease: id }, Answer::Unknown, record.tick());
                    record.push(Operation { client, group, call, answer, begin, end: u64::MAX });
                    lease = (0, 0);
                }
            }
            _ => {
                let (group, id) = std::mem::take(&mut lease);
                if id != 0 && !lock(&record.short).contains_key(&id) {
                    let told = async {
                        let revoked = store.lease_revoke(LeaseId(id)).await?;
                        Ok(Answer::Succeeded { revision: revoked.revision.0 })
                    };
                    record.note(client, group, Call::Revoke { lease: id }, told).await;
                }
            }
        }
    }
}

async fn read(store: &dyn Store, request: RangeRequest, seen: &mut Memory, group: usize) -> Result<Answer, Error> {
    let all = !request.range_end.is_empty();
    let one = number(&request.key);
    let found = store.range(request).await?;
    Ok(told(found.revision.0, &found.kvs, seen, group, if all { None } else { one }))
}

/// The answer to a read, which is also kept as seen.
fn told(revision: i64, kvs: &[KeyValue], seen: &mut Memory, group: usize, one: Option<(usize, usize)>) -> Answer {
    let keys = one.map_or(0..KEYS, |(_, key)| key..key + 1);
    seen.extend(keys.map(|key| ((group, key), None)));
    let cells: Vec<(usize, Cell)> =
        kvs.iter().map(|kv| (number(&kv.key).expect("a key of ours").1, cell(kv))).collect();
    seen.extend(cells.iter().map(|(key, cell)| ((group, *key), Some(cell.value))));
    Answer::Found { revision, cells }
}

async fn swap(
    store: &dyn Store,
    group: usize,
    key: usize,
    expect: Option<u64>,
    puts: &[(usize, u64)],
    seen: &mut Memory,
) -> Result<Answer, Error> {
    let target = match expect {
        Some(value) => CompareTarget::Value(bytes(value).into()),
        None => CompareTarget::Version(0),
    };
    let put = |(key, value): &(usize, u64)| Op::Put(PutRequest::new(name(group, *key), bytes(*value)));
    let request = TxnRequest {
        compare: vec![Compare::new(name(group, key), CompareOp::Equal, target)],
        success: puts.iter().map(put).collect(),
        failure: vec![Op::Range(RangeRequest::prefix(format!("lin/{group}/")))],
    };
    let done = store.txn(request).await?;
    let revision = done.revision.0;
    if done.succeeded {
        seen.extend(puts.iter().map(|(key, value)| ((group, *key), Some(*value))));
        return Ok(Answer::Succeeded { revision });
    }
    match done.responses.first() {
        Some(OpResponse::Range(found)) => Ok(told(revision, &found.kvs, seen, group, None)),
        other => panic!("a read is answered with {other:?}"),
    }
}

fn cell(kv: &KeyValue) -> Cell {
    Cell {
        value: value(&kv.value),
        version: kv.version,
        created: kv.create_revision.0,
        modified: kv.mod_revision.0,
        lease: kv.lease.0,
    }
}

/// Notes the ends of short leases: not before their time, and not after the store lists them no more. What it lists may
/// be ahead of what is durable, so a write behind it makes sure.
async fn reap(record: Arc<Record>, store: Arc<dyn Store>) {
    let mut moments = vec![(Instant::now(), record.tick())];
    loop {
        tokio::time::sleep(LOOK).await;
        moments.push((Instant::now(), record.tick()));
        let waiting: Vec<_> = lock(&record.short).iter().map(|(id, lease)| (*id, *lease)).collect();
        if waiting.is_empty() && record.over.load(Ordering::SeqCst) {
            return;
        }
        let Ok(listed) = store.leases().await else { continue };
        if store.delete_range(DeleteRangeRequest::key("lin/none")).await.is_err() {
            continue;
        }
        let end = record.tick();
        for (lease, (group, began)) in waiting {
            if listed.leases.contains(&LeaseId(lease)) {
                continue;
            }
            let due = began + Duration::from_secs(SHORT as u64);
            let before = moments.partition_point(|(at, _)| *at <= due) - 1;
            let begin = moments[before].1;
            lock(&record.short).remove(&lease);
            let (call, answer) = (Call::Revoke { lease }, Answer::Over);
            record.push(Operation { client: usize::MAX, group, call, answer, begin, end });
        }
    }
}
