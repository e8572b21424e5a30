//! Intents: Serf's word on who means to be a member and who means to leave, in Lamport time.

use crate::event::{Change, Status};
use crate::gossip::Gossip;
use crate::io::CommandError;
use crate::limits::INTENTS_MAX;
use crate::news::News;
use crate::time::Time;
use crate::wire::LeaveIntent;

/// An intent of somebody who is not a member yet.
#[derive(Debug, Clone)]
pub(crate) struct RecentIntent {
    pub(crate) ltime: u64,
    pub(crate) leaving: bool,
    pub(crate) since: Time,
}

impl Gossip {
    /// Keeps the intent of one who is not a member. Says whether it was news.
    fn keep_intent(&mut self, name: &str, ltime: u64, leaving: bool) -> bool {
        let known = self.recent_intents.get(name).map(|intent| intent.ltime);
        let full = known.is_none() && self.recent_intents.len() >= INTENTS_MAX;
        if full || known.is_some_and(|known| ltime <= known) {
            return false;
        }
        self.recent_intents.insert(name.to_owned(), RecentIntent { ltime, leaving, since: self.now });
        true
    }

    /// Says whether to pass it on.
    pub(crate) fn on_join_intent(&mut self, node: &str, ltime: u64) -> bool {
        self.clock.witness(ltime);
        let Some(record) = self.members.get_mut(node) else {
            return self.keep_intent(node, ltime, false);
        };
        if ltime <= record.status_ltime {
            return false;
        }
        record.status_ltime = ltime;
        if record.status == Status::Leaving {
            // The leave was of an earlier time.
            record.status = Status::Alive;
        }
        true
    }

    /// Says whether to pass it on.
    pub(crate) fn on_leave_intent(&mut self, leave: &LeaveIntent) -> bool {
        self.clock.witness(leave.ltime);
        let Some(record) = self.members.get_mut(&leave.node) else {
            return self.keep_intent(&leave.node, leave.ltime, true);
        };
        if leave.ltime <= record.status_ltime {
            return false;
        }
        if leave.node == self.config.name && self.phase.is_running() {
            // Somebody heard of a leave from an earlier life, or forces us out though we live.
            self.announce_join();
            return false;
        }
        record.status_ltime = leave.ltime;
        record.set_prune(record.is_pruned() || leave.prune);
        let id = record.id();
        match record.status {
            Status::Alive => record.status = Status::Leaving,
            Status::Failed => {
                record.status = Status::Left;
                self.tell_change(id, Change::Leave, None, None);
                self.changed();
            }
            Status::Leaving | Status::Left => {}
        }
        if leave.prune && self.members.at(id).is_some_and(|record| record.status == Status::Left) {
            self.erase(id);
        }
        true
    }

    /// Tells everybody that we mean to be a member, now.
    pub(crate) fn announce_join(&mut self) {
        let (me, ltime) = (self.me(), self.clock.tick());
        self.on_join_intent(me.as_str(), ltime);
        self.intents.push(News::Join(me, ltime));
    }

    pub(crate) fn on_force_leave(&mut self, name: String, prune: bool) {
        let Some(about) = self.members.get(&name).map(|record| record.profile.name.clone()) else {
            return self.reject(CommandError::UnknownMember(name));
        };
        let leave = LeaveIntent { ltime: self.clock.tick(), node: name, prune };
        self.on_leave_intent(&leave);
        self.intents.push(News::Leave(about, leave.ltime, prune));
    }
}
