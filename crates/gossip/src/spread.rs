//! Spreading of news: a few random members are told what is new, each piece a limited number of times.

use crate::gossip::Gossip;
use crate::timers::Timer;
use crate::wire::{Bundle, StateCode, swim_type};

impl Gossip {
    /// `retransmit_mult × ceil(log10(n + 1))`. Source: memberlist `retransmitLimit`.
    fn transmit_limit(&self) -> u32 {
        let scale = ((self.members.living() + 1) as f64).log10().ceil().max(1.0);
        self.config.retransmit_mult * scale as u32
    }

    /// Takes news that fits into `room`: of members first, then intents, queries, events.
    pub(crate) fn take_news(&mut self, room: &mut usize, bundle: &mut Bundle) {
        let limit = self.transmit_limit();
        self.news.take(&[], room, limit, bundle);
        for queue in [&mut self.intents, &mut self.queries, &mut self.events] {
            // A Serf message travels in a user message of memberlist.
            queue.take(&[swim_type::USER], room, limit, bundle);
        }
    }

    pub(crate) fn has_news(&self) -> bool {
        !(self.news.is_empty() && self.intents.is_empty() && self.queries.is_empty() && self.events.is_empty())
    }

    /// Sets the timer when there is news and somebody to tell. The first time comes within half an interval,
    /// at random: news is told soon, and not by all at once.
    pub(crate) fn arm_spreading(&mut self) {
        if !self.spreading && self.has_news() && self.members.len() > 1 {
            self.spreading = true;
            let at = self.now + self.rng.within(self.config.gossip_interval / 2);
            self.timers.set(at, Timer::Spread);
        }
    }

    pub(crate) fn on_spread(&mut self) {
        self.spreading = false;
        let (now, dead) = (self.now, self.config.gossip_to_the_dead);
        let targets: Vec<_> = self
            .members
            .pick(self.config.gossip_nodes, &mut self.rng, |record| match record.state {
                StateCode::Alive | StateCode::Suspect => true,
                StateCode::Dead => now.since(record.changed) <= dead,
                StateCode::Left => false,
            })
            .into_iter()
            .map(|record| record.address())
            .collect();
        for to in targets {
            let mut room = self.config.envelope.room();
            let mut bundle = Bundle::new();
            self.take_news(&mut room, &mut bundle);
            if bundle.is_empty() {
                break;
            }
            self.send_bundle(to, bundle);
        }
        if self.has_news() && self.members.len() > 1 {
            self.spreading = true;
            self.timers.set(self.now + self.config.gossip_interval, Timer::Spread);
        }
    }
}
