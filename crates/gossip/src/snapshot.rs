//! What a restart needs: who was there, and how far the clocks had come.

use std::net::SocketAddr;

use crate::gossip::Gossip;

/// State that outlives the process. The driver writes it in whatever form.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Last incarnation of ours.
    pub incarnation: u32,
    /// Last Lamport times: membership, events, queries. Those up to them are not taken again.
    pub clocks: [u64; 3],
    /// Living members: name and address.
    pub alive: Vec<(String, SocketAddr)>,
    /// Addresses to find the cluster by.
    pub seeds: Vec<SocketAddr>,
    /// Whether we had left; then the members are not joined again.
    pub left: bool,
}

impl Gossip {
    /// What to hand to [`Gossip::new`] after a restart; new whenever [`crate::Output::Persist`] says so.
    pub fn snapshot(&self) -> Snapshot {
        let others = self.members.iter().filter(|record| record.is_living() && !self.is_me(record.name()));
        Snapshot {
            incarnation: self.members.get(&self.config.name).map_or(0, |me| me.incarnation),
            clocks: [self.clock.time(), self.event_clock.time(), self.query_clock.time()].map(|time| time - 1),
            alive: others.map(|record| (record.name().to_owned(), record.address())).collect(),
            seeds: self.seeds.addresses().collect(),
            left: !self.is_running(),
        }
    }

    /// Goes on from an earlier life.
    pub(crate) fn restore(&mut self, snapshot: Snapshot) {
        let [members, events, queries] = snapshot.clocks;
        self.clock.witness(members);
        self.event_clock.witness(events);
        self.query_clock.witness(queries);
        self.recent_events.min_ltime = events + 1;
        self.recent_queries.min_ltime = queries + 1;
        if let Some(me) = self.members.get(&self.config.name)
            && me.incarnation <= snapshot.incarnation
        {
            self.raise_incarnation(snapshot.incarnation);
        }
        let ours = self.config.address;
        let known: Vec<SocketAddr> =
            snapshot.alive.iter().map(|(_, address)| *address).filter(|address| *address != ours).collect();
        for address in known.iter().chain(&snapshot.seeds).filter(|address| **address != ours) {
            self.seeds.insert(*address, &mut self.rng);
        }
        if !snapshot.left {
            self.rejoin(known);
        }
    }

    /// Meets a few of those that were there; the reconnects go on with the rest.
    fn rejoin(&mut self, mut known: Vec<SocketAddr>) {
        const AT_ONCE: usize = 3;
        self.rng.shuffle(&mut known);
        known.truncate(AT_ONCE);
        for address in known {
            self.reconnect_to(address);
        }
    }
}
