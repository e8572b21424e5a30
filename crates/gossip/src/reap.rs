//! Clean-up: what is old or too many is forgotten.

use crate::config::check_tags;
use crate::event::{Change, Event, Status};
use crate::gossip::{Gossip, VERSIONS};
use crate::io::CommandError;
use crate::limits::{TOMBSTONES_MIN, TOMBSTONES_PER_ALIVE};
use crate::timers::Timer;
use crate::wire::{Tags, encode_tags};

impl Gossip {
    pub(crate) fn on_reap(&mut self) {
        self.timers.set(self.now + self.config.reap_interval, Timer::Reap);
        self.members.mark_superseded();
        let (now, config) = (self.now, &self.config);
        let mut gone: Vec<_> = self.members.gone().map(|m| (m.changed, m.name(), m)).collect();
        gone.sort_unstable_by_key(|(changed, name, _)| (*changed, *name));
        let kept = TOMBSTONES_MIN.max(self.members.living() * TOMBSTONES_PER_ALIVE);
        let surplus = gone.len().saturating_sub(kept);
        let old: Vec<u32> = gone
            .iter()
            .enumerate()
            .filter(|(at, (changed, _, record))| {
                let limit = match record.status {
                    Status::Left => config.left_kept,
                    _ if record.is_superseded() => config.superseded_kept,
                    _ => config.failed_kept,
                };
                *at < surplus || now.since(*changed) > limit
            })
            .map(|(_, (_, _, record))| record.id())
            .collect();
        for id in old {
            self.erase(id);
        }
        let kept = self.config.intents_kept;
        self.recent_intents.retain(|_, intent| now.since(intent.since) <= kept);
        self.waiting.retain(|_, waiting| waiting.deadline() > now);
        for name in self.members.release(&self.config, now) {
            self.emit(Event::Released { name });
        }
    }

    /// Forgets a member; its address stays among the seeds.
    pub(crate) fn erase(&mut self, id: u32) {
        self.tell_change(id, Change::Reap, None, None);
        self.position.forget(id);
        self.members.remove(id);
        self.changed();
    }

    pub(crate) fn on_set_tags(&mut self, tags: Tags) {
        if !self.is_running() {
            return self.reject(CommandError::Left);
        }
        if let Err(length) = check_tags(&tags) {
            let limit = crate::limits::META_BYTES_MAX;
            return self.reject(CommandError::TooLong { what: "tags", length, limit });
        }
        let me = self.me();
        let profile = self.config.directory.profile(&me, self.config.address, &encode_tags(&tags), VERSIONS);
        self.members.set_profile(me.id(), profile);
        self.config.tags = tags;
        self.raise_incarnation(0);
        self.tell_change(me.id(), Change::Update, None, None);
    }
}
