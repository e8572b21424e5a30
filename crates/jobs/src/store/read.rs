//! Reads, and what is forgotten.

use super::{Inner, state};
use crate::Error;
use crate::limits::{CHUNKS_MAX, LISTED_MAX, SWEEP_PAGE};
use crate::queue::Chunk;
use bytes::Bytes;
use regrow_control::features::job::policy::forgotten_at;
use regrow_control::features::job::schedule::Fired;
use regrow_model::limits::RUNS_KEPT;
use regrow_model::run::Run;
use regrow_model::{Name, RunId};
use regrow_store::{
    Compare, CompareOp, CompareTarget, DeleteRangeRequest, KeyValue, Op, RangeRequest, SortOrder, TxnRequest,
    prefix_end,
};

fn read(key: &str, value: &[u8]) -> Result<Run, Error> {
    serde_json::from_slice(value).map_err(|source| Error::Record { run: key.to_owned(), source })
}

impl Inner {
    async fn one(&self, key: String) -> Result<Option<KeyValue>, Error> {
        Ok(self.store.range(RangeRequest::key(key)).await?.kvs.pop())
    }

    pub(super) async fn read_live(&self, id: &RunId) -> Result<Option<(Run, i64)>, Error> {
        Ok(self.read_live_at(id).await?.0)
    }

    /// The same, and the revision at which it is so.
    pub(super) async fn read_live_at(&self, id: &RunId) -> Result<(Option<(Run, i64)>, i64), Error> {
        let answer = self.store.range(RangeRequest::key(state::live(id))).await?;
        let found = match answer.kvs.first() {
            Some(kv) => Some((read(id.as_str(), &kv.value)?, kv.mod_revision.0)),
            None => None,
        };
        Ok((found, answer.revision.0))
    }

    pub(super) async fn read_done(&self, id: &RunId) -> Result<Option<Run>, Error> {
        let found = self.one(state::done(id)).await?;
        found.map(|kv| read(id.as_str(), &kv.value)).transpose()
    }

    pub(super) async fn read_fired(&self, schedule: &Name) -> Result<Option<(Fired, i64)>, Error> {
        let found = self.one(state::fired(schedule.as_str())).await?;
        let fired = |kv: KeyValue| {
            let fired = serde_json::from_slice(&kv.value);
            let fired = fired.map_err(|source| Error::Record { run: schedule.to_string(), source })?;
            Ok((fired, kv.mod_revision.0))
        };
        found.map(fired).transpose()
    }

    /// See `Queue::list`.
    pub(super) async fn list(&self, ended: bool, limit: usize) -> Result<Vec<Run>, Error> {
        let limit = limit.min(LISTED_MAX);
        let mut runs: Vec<Run> = self.known().queue.live().map(|run| (**run).clone()).collect();
        runs.reverse();
        runs.truncate(limit);
        if ended {
            let request = RangeRequest {
                limit: i64::try_from(limit).unwrap_or(i64::MAX),
                sort_order: SortOrder::Descend,
                ..RangeRequest::prefix(state::all_done())
            };
            for kv in self.store.range(request).await?.kvs {
                let run = read("", &kv.value)?;
                // One that ended between the two looks is told as ended.
                runs.retain(|known| known.id != run.id);
                runs.push(run);
            }
        }
        Ok(runs)
    }

    /// See `Queue::log`.
    pub(super) async fn log(&self, id: RunId, after: Option<String>) -> Result<Vec<Chunk>, Error> {
        let prefix = state::log(&id);
        let range_end = prefix_end(prefix.as_bytes());
        // The least key behind another has one more byte, 0.
        let key = after.map_or(prefix.clone(), |after| format!("{prefix}{after}\0"));
        let limit = i64::try_from(CHUNKS_MAX).unwrap_or(i64::MAX);
        let request = RangeRequest { key: Bytes::from(key), range_end, limit, ..RangeRequest::default() };
        let chunks = self.store.range(request).await?.kvs.into_iter().filter_map(|kv| {
            let cursor = std::str::from_utf8(&kv.key).ok()?.strip_prefix(&prefix)?.to_owned();
            Some(Chunk { cursor, lines: kv.value })
        });
        Ok(chunks.collect())
    }

    /// See `Queue::sweep`.
    pub(super) async fn sweep(&self) -> Result<(), Error> {
        let now = (self.clock)();
        let count = RangeRequest { count_only: true, ..RangeRequest::prefix(state::all_done()) };
        let count = self.store.range(count).await?.count;
        // Ids sort by birth, so those in excess are the first.
        let mut excess = usize::try_from(count).unwrap_or(0).saturating_sub(RUNS_KEPT);
        let mut from = Bytes::from(state::all_done());
        let range_end = prefix_end(&from);
        loop {
            let request = RangeRequest {
                key: from.clone(),
                range_end: range_end.clone(),
                limit: i64::try_from(SWEEP_PAGE).unwrap_or(i64::MAX),
                ..RangeRequest::default()
            };
            let page = self.store.range(request).await?;
            for kv in &page.kvs {
                let run = read("", &kv.value)?;
                if excess > 0 || forgotten_at(&run) <= now {
                    excess = excess.saturating_sub(1);
                    self.forget(&run.id, kv).await?;
                }
            }
            match page.kvs.last() {
                Some(last) if page.more => from = [last.key.as_ref(), &[0]].concat().into(),
                _ => return Ok(()),
            }
        }
    }

    async fn forget(&self, id: &RunId, kv: &KeyValue) -> Result<(), Error> {
        let same = CompareTarget::ModRevision(kv.mod_revision);
        let compare = vec![Compare::new(state::done(id), CompareOp::Equal, same)];
        let success = vec![
            Op::DeleteRange(DeleteRangeRequest::key(state::done(id))),
            Op::DeleteRange(DeleteRangeRequest::prefix(state::log(id))),
        ];
        self.store.txn(TxnRequest { compare, success, failure: vec![] }).await?;
        Ok(())
    }
}
