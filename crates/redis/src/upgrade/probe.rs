//! How long a shard takes no writes.

use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::connection::Dialer;
use crate::resp::{Command, Value};
use crate::router::Router;
use crate::slot::Slot;

/// How long between two writes.
const EVERY: Duration = Duration::from_millis(5);
/// How long one write may take until it is tried elsewhere.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long after the end a write may still take, before its wait is counted as it is.
const LAST: Duration = Duration::from_secs(5);

/// Writes to a slot again and again, and remembers the longest time in which none was taken. The write is `UNLINK` of a key
/// that is not there: servers treat it as any write, and it changes nothing.
pub(super) struct Probe {
    stop: watch::Sender<bool>,
    task: JoinHandle<Option<Duration>>,
}

impl Probe {
    /// Starts.
    pub(super) fn start(dialer: &Dialer, seeds: Vec<Address>, slot: Slot) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut dialer = dialer.clone();
        dialer.timeout = dialer.timeout.min(PATIENCE);
        let task = tokio::spawn(measure(Router::new(dialer, seeds), slot, stopped));
        Self { stop, task }
    }

    /// The longest time without a write, after one more was taken. `None`: no write was ever taken, so nothing is known.
    pub(super) async fn stop(self) -> Option<Duration> {
        self.stop.send_replace(true);
        self.task.await.ok().flatten()
    }
}

async fn measure(mut router: Router, slot: Slot, stopped: watch::Receiver<bool>) -> Option<Duration> {
    let write = [Command::new("UNLINK").arg(key(slot))];
    let (mut last, mut longest) = (None::<Instant>, None::<Duration>);
    let mut end = None;
    loop {
        let taken = matches!(router.call(slot, &write).await.as_deref(), Ok([Value::Int(_)]));
        let now = Instant::now();
        if let Some(last) = last {
            longest = longest.max(Some(now - last));
        }
        if taken {
            last = Some(now);
        }
        if *stopped.borrow() && (taken || now >= *end.get_or_insert(now + LAST)) {
            return longest;
        }
        sleep(EVERY).await;
    }
}

/// A key of a slot that nobody uses.
fn key(slot: Slot) -> String {
    let mut word = 0u32;
    loop {
        let key = format!("regrow:upgrade:probe:{{{word}}}");
        // Consecutive numbers reach every slot within a few times their count.
        if Slot::of_key(key.as_bytes()) == slot || word == u32::MAX {
            return key;
        }
        word += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every slot has a key.
    #[test]
    fn keys() {
        for slot in Slot::all().step_by(97).chain(Slot::new(16_383)) {
            assert_eq!(Slot::of_key(key(slot).as_bytes()), slot);
        }
    }
}
