//! Joins under way: who asked for which addresses, and what came of each.

use regrow_serve::membership::Joining;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use tokio::sync::oneshot;

/// Joins that are waited for.
#[derive(Default)]
pub(super) struct Joins {
    waiting: Vec<Waiting>,
}

struct Waiting {
    left: BTreeSet<SocketAddr>,
    so_far: Joining,
    answer: oneshot::Sender<Joining>,
}

impl Joins {
    pub(super) fn add(&mut self, addresses: &[SocketAddr], answer: oneshot::Sender<Joining>) {
        let left: BTreeSet<SocketAddr> = addresses.iter().copied().collect();
        self.waiting.push(Waiting { left, so_far: Joining::default(), answer });
        self.settle();
    }

    pub(super) fn joined(&mut self, address: SocketAddr) {
        self.tell(address, |joining| joining.joined.push(address.to_string()));
    }

    pub(super) fn failed(&mut self, address: SocketAddr, why: &str) {
        self.tell(address, |joining| joining.failed.push((address.to_string(), why.to_owned())));
    }

    fn tell(&mut self, address: SocketAddr, note: impl Fn(&mut Joining)) {
        for waiting in &mut self.waiting {
            if waiting.left.remove(&address) {
                note(&mut waiting.so_far);
            }
        }
        self.settle();
    }

    /// Answers those that have nothing more to wait for, and forgets those that nobody waits for.
    fn settle(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.left.is_empty() {
                let _ = waiting.answer.send(waiting.so_far);
            } else if !waiting.answer.is_closed() {
                self.waiting.push(waiting);
            }
        }
    }
}
