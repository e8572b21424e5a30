//! User events.

use crate::event::Event;
use crate::gossip::Gossip;
use crate::io::CommandError;
use crate::news::News;
use crate::wire::{SlotEvent, UserEvent};

impl Gossip {
    /// Says whether to pass it on.
    pub(crate) fn on_user_event(&mut self, event: UserEvent) -> bool {
        self.event_clock.witness(event.ltime);
        let UserEvent { ltime, name, payload, coalesce } = event;
        let kept = SlotEvent { name: name.clone(), payload: payload.clone() };
        if !self.recent_events.take(self.event_clock, ltime, kept) {
            return false;
        }
        self.emit(Event::User { ltime, name, payload, coalesce });
        self.changed();
        true
    }

    pub(crate) fn on_fire(&mut self, name: String, payload: Vec<u8>, coalesce: bool) {
        if !self.is_running() {
            return self.reject(CommandError::Left);
        }
        let event = UserEvent { ltime: self.event_clock.time(), name, payload, coalesce };
        let message = event.encode();
        let limit = self.config.user_event_bytes_max;
        if message.len() > limit {
            return self.reject(CommandError::TooLong { what: "user event", length: message.len(), limit });
        }
        self.event_clock.tick();
        self.on_user_event(event);
        self.events.push(News::Plain(message.into()));
    }
}
