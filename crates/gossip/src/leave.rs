//! Leaving: say so, wait until it is told, say that we are gone, stay a little to answer probes.

use crate::broadcast::BroadcastId;
use crate::event::{Change, Event, Status};
use crate::gossip::Gossip;
use crate::io::CommandError;
use crate::time::Time;
use crate::timers::Timer;
use crate::wire::{Dead, LeaveIntent};

/// Where we are between being a member and not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A member.
    Running,
    /// The intent to leave is being told.
    Intending { message: BroadcastId, deadline: Time },
    /// The leave is being told.
    Departing { message: BroadcastId, deadline: Time },
    /// All is told; probes are still answered.
    Lingering,
    /// Stopped.
    Gone,
}

impl Phase {
    pub(crate) fn is_running(self) -> bool {
        self == Self::Running
    }
}

impl Gossip {
    pub(crate) fn is_running(&self) -> bool {
        self.phase.is_running()
    }

    fn is_alone(&self) -> bool {
        self.members.living() <= 1
    }

    pub(crate) fn on_leave(&mut self) {
        if !self.is_running() {
            return self.reject(CommandError::Left);
        }
        let leave = LeaveIntent { ltime: self.clock.tick(), node: self.config.name.clone(), prune: false };
        let encoded = leave.encode();
        if let Some(me) = self.members.get_mut(&leave.node) {
            me.status = Status::Leaving;
            me.status_ltime = leave.ltime;
        }
        let message = self.intents.push(None, encoded);
        let deadline = self.now + self.config.broadcast_timeout;
        self.phase = Phase::Intending { message, deadline };
        self.changed();
        self.on_leave_due();
    }

    /// Looks whether the present step is done. Comes back each gossip interval until it is, or its time is up.
    pub(crate) fn on_leave_due(&mut self) {
        match self.phase {
            Phase::Intending { message, deadline } => {
                if self.is_alone() || self.now >= deadline || !self.intents.contains(message) {
                    self.depart();
                }
            }
            Phase::Departing { message, deadline } => {
                if self.is_alone() || self.now >= deadline || !self.news.contains(message) {
                    self.phase = Phase::Lingering;
                    let lasts = if self.is_alone() { std::time::Duration::ZERO } else { self.config.leave_delay };
                    self.timers.set(self.now + lasts, Timer::Leave);
                    return;
                }
            }
            Phase::Lingering => {
                self.emit(Event::Left);
                self.changed();
                return self.stop();
            }
            Phase::Running | Phase::Gone => return,
        }
        self.timers.set(self.now + self.config.gossip_interval, Timer::Leave);
    }

    fn depart(&mut self) {
        let Some(me) = self.members.get_mut(&self.config.name) else { return };
        me.status = Status::Left;
        let dead = Dead { incarnation: me.incarnation, node: me.name.clone(), from: me.name.clone() };
        let message = self.news.push(Some(&dead.node), dead.encode());
        self.tell_change(&dead.node, Change::Leave, None, None);
        self.phase = Phase::Departing { message, deadline: self.now + self.config.broadcast_timeout };
    }
}
