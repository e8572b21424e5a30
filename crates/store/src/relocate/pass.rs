//! One pass over both stores, key by key: what differs is made the same. A pass that finds nothing has verified all.

use futures_util::stream::{FuturesUnordered, StreamExt};

use super::{
    MoveError,
    target::{BYTES_MAX, Change, OPS_MAX, Target, is_reserved},
};
use crate::{KeyValue, Pages, RangeRequest, Remote, Revision};

/// Transactions in flight.
const IN_FLIGHT: usize = 4;

/// What a pass found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Passed {
    /// Keys that the source has.
    pub(super) keys: u64,
    /// Keys that were not the same.
    pub(super) changed: u64,
}

/// Makes the target's keys those of the source at one revision: same keys, values and leases, each put above `above`.
/// `report` is told keys done.
pub(super) async fn pass(
    source: &Remote,
    at: Revision,
    target: &Target,
    above: Revision,
    report: &mut (dyn FnMut(u64) + Send),
) -> Result<Passed, MoveError> {
    let all = RangeRequest::prefix("");
    let mut ours = Pages::over(source, RangeRequest { revision: at, ..all.clone() });
    let mut theirs = Pages::over(&target.store, all);
    let (mut one, mut other) = (wanted(&mut ours, true).await?, wanted(&mut theirs, false).await?);
    let mut passed = Passed::default();
    let (mut batch, mut bytes) = (Vec::new(), 0);
    let mut flying = FuturesUnordered::new();
    loop {
        let change = match (one.take(), other.take()) {
            (None, None) => break,
            (Some(kv), Some(found)) if found.key < kv.key => {
                one = Some(kv);
                other = wanted(&mut theirs, false).await?;
                Some(Change::Delete(found.key))
            }
            (None, Some(found)) => {
                other = wanted(&mut theirs, false).await?;
                Some(Change::Delete(found.key))
            }
            (Some(kv), found) => {
                one = wanted(&mut ours, true).await?;
                passed.keys += 1;
                report(passed.keys);
                let same = match found {
                    Some(found) if found.key == kv.key => {
                        other = wanted(&mut theirs, false).await?;
                        (&found.value, found.lease) == (&kv.value, kv.lease) && found.mod_revision > above
                    }
                    found => {
                        other = found;
                        false
                    }
                };
                (!same).then_some(Change::Put(kv))
            }
        };
        let Some(change) = change else { continue };
        passed.changed += 1;
        if batch.len() >= OPS_MAX || (!batch.is_empty() && bytes + change.bytes() > BYTES_MAX) {
            if flying.len() >= IN_FLIGHT {
                flying.next().await.transpose()?;
            }
            flying.push(target.apply(std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes += change.bytes();
        batch.push(change);
    }
    flying.push(target.apply(batch));
    while let Some(done) = flying.next().await {
        done?;
    }
    Ok(passed)
}

async fn wanted(pages: &mut Pages<'_>, source: bool) -> Result<Option<KeyValue>, MoveError> {
    let side = if source { MoveError::Source } else { MoveError::Target };
    loop {
        match pages.next().await.map_err(side)? {
            Some(kv) if is_reserved(&kv.key) => {}
            found => return Ok(found),
        }
    }
}
