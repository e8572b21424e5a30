//! Two nodes with one name: the majority's view decides which one stays.

use std::net::SocketAddr;

use crate::event::Event;
use crate::gossip::Gossip;
use crate::io::QueryRequest;
use crate::query::Asker;
use crate::wire::{ConflictMember, decode_tags};

impl Gossip {
    /// Another living node has our name: ask where the others know it.
    pub(crate) fn on_twin_found(&mut self, other: SocketAddr) {
        if self.running.values().any(|running| running.is_name_vote()) {
            return;
        }
        let (name, known) = (self.config.name.clone(), self.config.address);
        self.emit(Event::NameClaimed { name: name.clone(), known, claimed: other });
        let request = QueryRequest {
            token: 0,
            name: "_serf_conflict".to_owned(),
            payload: name.into_bytes(),
            filters: Vec::new(),
            ack: false,
            relay_factor: 0,
            timeout: None,
        };
        // When as many queries run as may, the next word of the twin asks again.
        let _ = self.ask(request, Asker::Name { other, answers: 0, ours: 0 });
    }

    /// Where we know a member to be, unless it is about ourselves.
    pub(crate) fn answer_conflict(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let name = std::str::from_utf8(payload).ok().filter(|name| !self.is_me(name))?;
        let member = self.members.get(name).map(|record| ConflictMember {
            name: name.to_owned(),
            address: record.address(),
            tags: decode_tags(&record.profile.meta).unwrap_or_default(),
            status: record.status.code(),
            versions: record.profile.versions,
        });
        Some(ConflictMember::encode(member.as_ref()))
    }

    /// The others have told where they know our name.
    pub(crate) fn on_name_vote(&mut self, other: SocketAddr, answers: usize, ours: usize) {
        // Source: Serf `resolveNodeConflict`. Without an answer from anybody nothing is decided.
        if answers > 0 && ours < answers / 2 + 1 {
            self.emit(Event::NameLost { other });
            self.stop();
        }
    }
}
