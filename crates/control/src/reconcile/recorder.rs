//! Gives drafts their time, node and id, and chains their names.

use regrow_model::event::Draft;
use regrow_model::key::{Change, Record};
use regrow_model::{CauseId, Digest, Event, EventId, Name, Time};

/// Stamps events and begins chains of causes.
#[derive(Debug)]
pub(super) struct Recorder {
    node: Name,
    counter: u32,
    salt: u64,
}

impl Recorder {
    pub(super) fn new(node: Name) -> Recorder {
        let salt = Digest::of([node.as_str().as_bytes()]).number() & 0x3ff;
        Recorder { node, counter: 0, salt }
    }

    /// Begins a chain. The low 22 bits are ten of the node's and twelve of a counter.
    pub(super) fn cause(&mut self, now: Time) -> CauseId {
        self.counter = self.counter.wrapping_add(1);
        CauseId::new(now, (self.salt << 12) | u64::from(self.counter & 0xfff))
    }

    /// The writes that record `drafts`.
    pub(super) fn stamp(&mut self, drafts: &[Draft], now: Time) -> Vec<Change> {
        drafts
            .iter()
            .map(|draft| {
                self.counter = self.counter.wrapping_add(1);
                let id = EventId::new(now, self.counter, &self.node);
                let event = Event {
                    at: now,
                    node: self.node.clone(),
                    kind: draft.kind,
                    object: draft.object.clone(),
                    message: draft.message.clone(),
                    detail: draft.detail.clone(),
                    cause: draft.cause.clone(),
                };
                Change::Put(Record::Event(id, Box::new(event)))
            })
            .collect()
    }
}
