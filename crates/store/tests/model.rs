//! The engine against a model that keeps a whole copy of the store for each revision: random operations, each answer
//! compared, with compaction, leases, watches and restarts in between.

mod reference;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reference::Model;
use regrow_store::{
    AutoCompaction, CompactRequest, Compare, CompareOp, CompareTarget, DeleteRangeRequest, Engine, Error, Event,
    HashRequest, LeaseGrantRequest, LeaseId, LeaseTimeToLiveRequest, Op, Options, PutRequest, RangeRequest, Revision,
    SortOrder, SortTarget, Status, Store, TxnRequest, Watch, WatchItem, WatchRequest,
    clock::ManualClock,
    disk::sim::{Random, SimDisk},
    prefix_end,
};

const LEASES: u64 = 4;

/// Makes random requests about few keys, so that they meet.
struct Maker(Random);

impl Maker {
    fn one_in(&mut self, count: u64) -> bool {
        self.0.below(count) == 0
    }

    fn key(&mut self) -> Bytes {
        let keys = ["a", "b", "c", "ca", "cb", "d", "\u{1}"];
        keys[self.0.below(keys.len() as u64) as usize].into()
    }

    /// A key and a range end of every kind.
    fn range(&mut self) -> (Bytes, Bytes) {
        let key = self.key();
        let end = match self.0.below(6) {
            0..3 => Bytes::new(),
            3 => "\0".into(),
            4 => self.key(),
            _ => prefix_end(&key),
        };
        (key, end)
    }

    fn value(&mut self) -> Bytes {
        let len = if self.one_in(4) { 40 } else { 3 };
        vec![b'a' + self.0.below(4) as u8; self.0.below(len) as usize].into()
    }

    fn lease(&mut self) -> LeaseId {
        if self.one_in(3) { LeaseId(1 + self.0.below(LEASES) as i64) } else { LeaseId::NONE }
    }

    fn revision(&mut self, now: Revision) -> Revision {
        match self.0.below(8) {
            0..4 => Revision(0),
            4 => Revision(now.0 + 1),
            _ => Revision(now.0 - self.0.below(12) as i64),
        }
    }

    fn put(&mut self) -> PutRequest {
        PutRequest {
            key: self.key(),
            value: self.value(),
            lease: self.lease(),
            prev_kv: self.one_in(2),
            ignore_value: self.one_in(8),
            ignore_lease: self.one_in(8),
        }
    }

    fn delete(&mut self) -> DeleteRangeRequest {
        let (key, range_end) = self.range();
        DeleteRangeRequest { key, range_end, prev_kv: self.one_in(2) }
    }

    fn read(&mut self, now: Revision) -> RangeRequest {
        let (key, range_end) = self.range();
        let orders = [SortOrder::None, SortOrder::None, SortOrder::Ascend, SortOrder::Descend];
        let targets = [SortTarget::Key, SortTarget::Version, SortTarget::Create, SortTarget::Mod, SortTarget::Value];
        let mut bound = |of| if self.0.below(of) == 0 { self.revision(now) } else { Revision(0) };
        let bounds = [bound(8), bound(8), bound(8), bound(8)];
        RangeRequest {
            key,
            range_end,
            limit: self.0.below(5) as i64 - 1,
            revision: self.revision(now),
            sort_order: orders[self.0.below(4) as usize],
            sort_target: targets[self.0.below(5) as usize],
            serializable: self.one_in(2),
            keys_only: self.one_in(4),
            count_only: self.one_in(6),
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        }
    }

    fn compare(&mut self, now: Revision) -> Compare {
        let (key, range_end) = self.range();
        let ops = [CompareOp::Equal, CompareOp::Greater, CompareOp::Less, CompareOp::NotEqual];
        let target = match self.0.below(5) {
            0 => CompareTarget::Version(self.0.below(4) as i64),
            1 => CompareTarget::CreateRevision(self.revision(now)),
            2 => CompareTarget::ModRevision(self.revision(now)),
            3 => CompareTarget::Value(self.value()),
            _ => CompareTarget::Lease(self.lease()),
        };
        Compare { key, range_end, op: ops[self.0.below(4) as usize], target }
    }

    fn txn(&mut self, now: Revision, depth: u64) -> TxnRequest {
        let compare = (0..self.0.below(3)).map(|_| self.compare(now)).collect();
        let success = (0..self.0.below(4)).map(|_| self.op(now, depth)).collect();
        let failure = (0..self.0.below(4)).map(|_| self.op(now, depth)).collect();
        TxnRequest { compare, success, failure }
    }

    fn op(&mut self, now: Revision, depth: u64) -> Op {
        match self.0.below(if depth == 0 { 7 } else { 9 }) {
            0..3 => Op::Put(self.put()),
            3..5 => Op::DeleteRange(self.delete()),
            // A read of old revisions mostly fails the whole transaction, so they are rare here.
            5..7 => {
                let revision = if self.one_in(6) { self.revision(now) } else { Revision(0) };
                Op::Range(RangeRequest { revision, ..self.read(now) })
            }
            _ => Op::Txn(self.txn(now, depth - 1)),
        }
    }
}

/// The engine beside the model.
struct Pair {
    disk: SimDisk,
    clock: ManualClock,
    engine: Option<Engine>,
    model: Model,
    what: String,
}

impl Pair {
    fn options(&self) -> Options {
        Options {
            segment_bytes: 4096,
            inline_bytes_max: 8,
            compaction: AutoCompaction::Off,
            clock: Arc::new(self.clock.clone()),
            ..Options::default()
        }
    }

    fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("open")
    }

    fn reopen(&mut self) {
        self.engine = None;
        let engine = Engine::open_on(Arc::new(self.disk.clone()), self.options());
        self.engine = Some(engine.unwrap_or_else(|error| panic!("{}: {error}", self.what)));
        self.model.restart();
    }

    #[track_caller]
    fn same<T: PartialEq + std::fmt::Debug>(&self, engine: Result<T, Error>, model: Result<T, Error>, op: &str) {
        let text = |result: Result<T, Error>| result.map_err(|error| error.to_string());
        assert_eq!(text(engine), text(model), "{}: {op}", self.what);
    }

    async fn step(&mut self, make: &mut Maker) {
        let now = self.model.revision();
        match make.0.below(40) {
            0..12 => {
                let request = make.put();
                let answer = self.engine().put(request.clone()).await;
                let expect = self.model.put(request.clone());
                self.same(answer, expect, &format!("{request:?}"));
            }
            12..16 => {
                let request = make.delete();
                let answer = self.engine().delete_range(request.clone()).await;
                let expect = self.model.delete_range(request.clone());
                self.same(answer, expect, &format!("{request:?}"));
            }
            16..26 => {
                let request = make.txn(now, 2);
                let answer = self.engine().txn(request.clone()).await;
                let expect = self.model.txn(&request);
                self.same(answer, expect, &format!("{request:?}"));
            }
            26..33 => {
                let request = make.read(now);
                let answer = self.engine().range(request.clone()).await;
                let expect = self.model.range(&request);
                self.same(answer, expect, &format!("{request:?}"));
            }
            33 => {
                let revision = Revision(now.0 + 1 - make.0.below(15) as i64);
                let physical = make.one_in(2);
                let answer = self.engine().compact(CompactRequest { revision, physical }).await.map(|_| ());
                let expect = self.model.compact(revision);
                self.same(answer, expect, "compact");
            }
            34..36 => {
                let request =
                    LeaseGrantRequest { id: LeaseId(1 + make.0.below(LEASES) as i64), ttl: make.0.below(10) as i64 };
                let answer = self.engine().lease_grant(request).await.map(|granted| granted.ttl);
                let expect = self.model.grant(request);
                self.same(answer, expect, "grant");
            }
            36 => {
                let id = LeaseId(1 + make.0.below(LEASES) as i64);
                let answer = self.engine().lease_revoke(id).await.map(|response| response.revision);
                let expect = self.model.revoke(id);
                self.same(answer, expect, "revoke");
            }
            37 => {
                let id = LeaseId(1 + make.0.below(LEASES) as i64);
                let answer = self.engine().lease_keep_alive(id).await.map(|response| response.ttl);
                let expect = self.model.keep_alive(id);
                self.same(answer, expect, "keep alive");
            }
            38 => self.pass(Duration::from_millis(make.0.below(4000))).await,
            _ => {
                let before = self.engine().hash(HashRequest::default()).await;
                self.reopen();
                let after = self.engine().hash(HashRequest::default()).await;
                self.same(after, before, "hash after opening again");
            }
        }
    }

    /// Lets time pass; the engine ends leases by itself, which is waited for.
    async fn pass(&mut self, time: Duration) {
        let ended = self.model.pass(time);
        let before = self.engine().status().await.expect("status").revision;
        self.clock.advance(time);
        let expect = Revision(before.0 + ended as i64);
        let mut watch = self.engine().watch(WatchRequest::prefix("").from(before.next())).await.expect("watch");
        while self.engine().status().await.expect("status").revision < expect {
            watch.next().await.expect("goes on").expect("no error");
        }
        // A lease without keys ends without a revision.
        while self.leases().await.expect("leases") != self.model.leases() {
            tokio::task::yield_now().await;
        }
    }

    /// The leases by their ids.
    async fn leases(&self) -> Result<Vec<LeaseId>, Error> {
        let mut leases = self.engine().leases().await?.leases;
        leases.sort_unstable();
        Ok(leases)
    }

    async fn check(&self, make: &mut Maker) {
        let status = self.engine().status().await.expect("status");
        let expect = Status {
            revision: self.model.revision(),
            compact_revision: self.model.compacted(),
            keys: self.model.keys(),
            ..status
        };
        assert_eq!(status, expect, "{}", self.what);
        self.same(self.leases().await, Ok(self.model.leases()), "leases");
        for id in self.model.leases() {
            let request = LeaseTimeToLiveRequest { id, keys: true };
            let answer = self.engine().lease_time_to_live(request).await;
            self.same(answer, self.model.time_to_live(id), "time to live");
        }
        // A watch from anywhere gives what the model has from there.
        let from = Revision((status.revision.0 - make.0.below(20) as i64).max(1));
        let (key, range_end) = make.range();
        let request = WatchRequest {
            key,
            range_end,
            start_revision: from,
            no_put: make.one_in(6),
            no_delete: make.one_in(6),
            prev_kv: make.one_in(2),
            progress_notify: false,
        };
        let answer = drain(self.engine().watch(request.clone()).await.expect("watch"), status.revision).await;
        self.same(answer, self.model.watch(&request), &format!("{request:?}"));
    }
}

/// All events of a watch up to a revision.
async fn drain(mut watch: Watch, until: Revision) -> Result<Vec<Event>, Error> {
    let mut all = Vec::new();
    watch.request_progress();
    loop {
        match watch.next().await.expect("goes on")? {
            WatchItem::Events { events, .. } => all.extend(events),
            WatchItem::Progress { revision } if revision >= until => return Ok(all),
            WatchItem::Progress { .. } => watch.request_progress(),
        }
    }
}

/// 120 runs of 300 operations; a failure names seed and step. `REGROW_STORE_SEED` is the first seed.
#[test]
fn the_engine_does_what_the_model_does() {
    let first = std::env::var("REGROW_STORE_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    for seed in first..first + 120 {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut make = Maker(Random::new(seed));
            let mut pair = Pair {
                disk: SimDisk::default(),
                clock: ManualClock::default(),
                engine: None,
                model: Model::default(),
                what: String::new(),
            };
            pair.reopen();
            for step in 0..300 {
                pair.what = format!("seed {seed}, step {step}");
                pair.step(&mut make).await;
                if step % 5 == 0 {
                    pair.check(&mut make).await;
                }
            }
        });
    }
}
