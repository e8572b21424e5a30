//! What is done beside the writer, in small steps: giving up old versions, renewing the base, and filling the next
//! log segment with zeros.
//!
//! A pause is as long as the step before it, within [`STEP_PAUSE`] and [`STEP_PAUSE_MAX`], so that the writer has half of the
//! time: a lock that is let go for a moment only is taken again before who waits for it has woken up.

use std::{
    cell::Cell,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use super::{base, log::Spare, shared::Shared, signal::write};
use crate::limits::{SCAN_KEYS, STEP_KEYS, STEP_PAUSE, STEP_PAUSE_MAX};

/// How long a base that could not be written waits.
const RETRY: Duration = Duration::from_secs(5);

/// Works until the signal says stop. What was compacted before the last stop may have left work, so it starts at once.
pub(crate) fn run(shared: &Arc<Shared>, spare: &Spare) {
    let signal = &shared.housekeeping;
    let began = Cell::new(Instant::now());
    let pause = || {
        let step = began.get().elapsed();
        spare.prepare(&*shared.disk, shared.options.segment_bytes);
        thread::sleep(step.clamp(STEP_PAUSE, STEP_PAUSE_MAX));
        began.set(Instant::now());
        !signal.is_stopped()
    };
    loop {
        let renewed = match prune(shared, &pause) {
            Some(pruned) => base::renew(shared, pruned, pause),
            None => return,
        };
        let retry = renewed.err().map(|error| {
            tracing::warn!(%error, "space not given back yet");
            RETRY
        });
        if !signal.wait(retry) {
            return;
        }
    }
}

/// Gives up versions that only revisions below what is compacted, and below what is being read, show. Returns that
/// revision; `None` when told to stop.
fn prune(shared: &Shared, pause: &impl Fn() -> bool) -> Option<i64> {
    loop {
        if !pause() {
            return None;
        }
        let limit = shared.prune_limit();
        let mut index = write(&shared.index);
        let some = (index.due(limit) / STEP_KEYS).clamp(STEP_KEYS, SCAN_KEYS);
        let more = index.prune(limit, some);
        drop(index);
        if !more {
            shared.pruned.send_replace(limit);
            return Some(limit);
        }
    }
}
