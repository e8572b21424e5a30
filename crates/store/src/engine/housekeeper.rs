//! What is done beside the writer, in small steps: giving up old versions, renewing the base, and filling the next
//! log segment with zeros.

use std::{sync::Arc, time::Duration};

use super::{base, log::Spare, shared::Shared, signal::write};
use crate::limits::SCAN_KEYS;

/// How long a base that could not be written waits.
const RETRY: Duration = Duration::from_secs(5);

/// Works until the signal says stop.
pub(crate) fn run(shared: &Arc<Shared>, spare: &Spare) {
    let signal = &shared.housekeeping;
    let mut retry = None;
    // What was compacted before the last stop may have left a base to be written.
    let mut going_on = !signal.is_stopped();
    while going_on {
        let pause = || {
            spare.prepare(&*shared.disk, shared.options.segment_bytes);
            !signal.is_stopped()
        };
        retry = None;
        if pause() && prune(shared, &pause) {
            match base::renew(shared, pause) {
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "space not given back yet");
                    retry = Some(RETRY);
                }
            }
        }
        going_on = signal.wait(retry);
    }
    let _ = retry;
}

/// Gives up versions below what is compacted; `true` when none are left.
fn prune(shared: &Shared, pause: &impl Fn() -> bool) -> bool {
    loop {
        let limit = shared.prune_limit();
        let more = write(&shared.index).prune(limit, SCAN_KEYS);
        if !more {
            let done = limit >= shared.compacted();
            if done {
                shared.pruned.send_replace(limit);
            }
            return done;
        }
        if !pause() {
            return false;
        }
    }
}
