//! Watches, from another node, how the cluster takes a node's death.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::connection::Dialer;
use crate::resp::Command;
use crate::slot_set::SlotSet;
use crate::topology::{NodeId, View};

/// When another node saw what. Instants, so that they can be set against the fault.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    /// It did not answer that node.
    pub(super) suspected: Option<Instant>,
    /// Most masters gave it up.
    pub(super) failed: Option<Instant>,
    /// Another served its slots.
    pub(super) replaced: Option<Instant>,
}

/// How long between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until stopped (or until nobody listens). Each new sight is sent. A watcher that loses its node goes on trying.
pub(super) async fn look(dialer: Dialer, from: Address, node: NodeId, slots: SlotSet, seen: watch::Sender<Seen>) {
    let mut link = None;
    while !seen.is_closed() {
        if link.is_none() {
            link = dialer.connect(&from).await.ok();
        }
        if let Some(open) = &mut link {
            match open.text(&Command::new("CLUSTER NODES")).await {
                Ok(text) => {
                    if let Ok(view) = View::parse(&text, "", &from) {
                        note(&view, &node, &slots, &seen);
                    }
                }
                Err(_) => link = None,
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn note(view: &View, node: &NodeId, slots: &SlotSet, seen: &watch::Sender<Seen>) {
    let flags = view.nodes.get(node).map(|node| node.flags).unwrap_or_default();
    let replaced = view.nodes.values().any(|other| other.id != *node && !other.slots.intersection(slots).is_empty());
    let now = Instant::now();
    seen.send_if_modified(|seen| {
        let before = (seen.suspected, seen.failed, seen.replaced);
        // The step to `failed` may be so quick that nobody sees the suspicion.
        if flags.suspect || flags.failed {
            seen.suspected.get_or_insert(now);
        }
        if flags.failed {
            seen.failed.get_or_insert(now);
        }
        if replaced {
            seen.replaced.get_or_insert(now);
        }
        before != (seen.suspected, seen.failed, seen.replaced)
    });
}
