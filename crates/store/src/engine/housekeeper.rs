//! What is done beside the writer, in small steps: giving up old versions, renewing the base, and filling the next
//! log segment with zeros.

use std::{sync::Arc, thread, time::Duration};

use super::{base, log::Spare, shared::Shared, signal::write};
use crate::limits::{SCAN_KEYS, STEP_PAUSE};

/// How long a base that could not be written waits.
const RETRY: Duration = Duration::from_secs(5);

/// Works until the signal says stop. What was compacted before the last stop may have left work, so it starts at once.
pub(crate) fn run(shared: &Arc<Shared>, spare: &Spare) {
    let signal = &shared.housekeeping;
    let pause = || {
        spare.prepare(&*shared.disk, shared.options.segment_bytes);
        // A lock that is let go and taken at once would not be seen free by a writer that waits for it.
        thread::sleep(STEP_PAUSE);
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
        let more = write(&shared.index).prune(limit, SCAN_KEYS);
        if !more {
            shared.pruned.send_replace(limit);
            return Some(limit);
        }
    }
}
