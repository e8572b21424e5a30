//! Leaving: say so, wait until it is told, say that we are gone, stay a little to answer probes.

use crate::broadcast::BroadcastId;
use crate::event::{Change, Event, Status};
use crate::gossip::Gossip;
use crate::io::CommandError;
use crate::news::News;
use crate::time::Time;
use crate::timers::Timer;

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
        let ltime = self.clock.tick();
        let me = self.me();
        if let Some(me) = self.members.at_mut(me.id()) {
            me.status = Status::Leaving;
            me.status_ltime = ltime;
        }
        let message = self.intents.push(News::Leave(me, ltime, false));
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
        let name = self.me();
        let Some(me) = self.members.at_mut(name.id()) else { return };
        me.status = Status::Left;
        let incarnation = me.incarnation;
        let message = self.news.push(News::Dead { about: name.clone(), from: name.clone(), incarnation });
        self.tell_change(name.id(), Change::Leave, None, None);
        self.phase = Phase::Departing { message, deadline: self.now + self.config.broadcast_timeout };
    }
}
