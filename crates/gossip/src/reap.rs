//! Clean-up: what is old or too many is forgotten.

use crate::config::check_tags;
use crate::event::{Change, Event, Status};
use crate::gossip::Gossip;
use crate::io::CommandError;
use crate::limits::{TOMBSTONES_MIN, TOMBSTONES_PER_ALIVE};
use crate::timers::Timer;
use crate::wire::{Tags, encode_tags};

impl Gossip {
    pub(crate) fn on_reap(&mut self) {
        self.timers.set(self.now + self.config.reap_interval, Timer::Reap);
        self.members.mark_superseded();
        let (now, config) = (self.now, &self.config);
        let mut gone: Vec<_> = self.members.iter().filter(|m| !m.is_living()).map(|m| (m.changed, &m.name)).collect();
        gone.sort_unstable();
        let kept = TOMBSTONES_MIN.max(self.members.living() * TOMBSTONES_PER_ALIVE);
        let surplus = gone.len().saturating_sub(kept);
        let old: Vec<String> = gone
            .iter()
            .enumerate()
            .filter(|(at, (changed, name))| {
                let Some(record) = self.members.get(name) else { return false };
                let limit = match record.status {
                    Status::Left => config.left_kept,
                    _ if record.superseded => config.superseded_kept,
                    _ => config.failed_kept,
                };
                *at < surplus || now.since(*changed) > limit
            })
            .map(|(_, (_, name))| (*name).clone())
            .collect();
        for name in old {
            self.erase(&name);
        }
        let kept = self.config.intents_kept;
        self.recent_intents.retain(|_, intent| now.since(intent.since) <= kept);
        self.waiting.retain(|_, waiting| waiting.deadline() > now);
        self.release(now);
    }

    /// Ends quarantines whose time is over.
    fn release(&mut self, now: crate::time::Time) {
        let mut released = Vec::new();
        for record in self.members.iter_mut() {
            if record.quarantined_until.is_some_and(|until| until <= now) {
                record.quarantined_until = None;
                released.push(record.name.clone());
            }
        }
        for name in released {
            self.emit(Event::Released { name });
        }
    }

    /// Forgets a member; its address stays among the seeds.
    pub(crate) fn erase(&mut self, name: &str) {
        self.tell_change(name, Change::Reap, None, None);
        self.members.remove(name);
        self.position.forget(name);
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
        if let Some(me) = self.members.get_mut(&self.config.name) {
            me.meta = encode_tags(&tags);
            me.tags.clone_from(&tags);
        }
        self.config.tags = tags;
        self.raise_incarnation(0);
        let name = self.config.name.clone();
        self.tell_change(&name, Change::Update, None, None);
    }
}
