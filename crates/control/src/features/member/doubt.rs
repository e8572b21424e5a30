//! Whether so many nodes look dead at once that it is more likely the network than the nodes.

use super::FRESH;
use regrow_model::{Name, Standing, Time, View, observed};

/// How many of the cluster's nodes look dead from here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Doubt {
    /// Those that look dead.
    pub(crate) dead: u32,
    /// All that are counted.
    pub(crate) all: u32,
    /// The share above which it is a partition.
    pub(crate) share: f64,
    /// When a death that is counted is counted no more.
    pub(crate) until: Option<Time>,
}

impl Doubt {
    /// Counts members with an agent of ours. One looks dead that is recorded as failed, or that gossip here suspects or
    /// calls failed, or that gossip here does not know and whose lease has ended. Not counted are those that have left,
    /// and deaths of long ago whose instances have their place elsewhere.
    pub(crate) fn of(view: &View, now: Time) -> Doubt {
        let share = view.cluster.as_ref().map(|cluster| cluster.governor.freeze.share);
        let share = share.unwrap_or_else(|| regrow_model::spec::Freeze::default().share);
        let mut doubt = Doubt { dead: 0, all: 0, share, until: None };
        for (name, record) in view.members.iter().filter(|(_, record)| record.agent) {
            let Some(dead) = doubt.looks_dead(view, name, record, now) else { continue };
            doubt.all += 1;
            doubt.dead += u32::from(dead);
        }
        doubt
    }

    /// Why nothing may be taken away now, when it may not.
    pub(crate) fn why(&self) -> Option<String> {
        let much = f64::from(self.dead) > self.share * f64::from(self.all);
        much.then(|| {
            format!(
                "{} of {} nodes look dead at once: more likely a partition than deaths (`regrow force-leave NODE` says \
                 that one is)",
                self.dead, self.all
            )
        })
    }

    /// `None`: it is not counted.
    fn looks_dead(&mut self, view: &View, name: &Name, record: &observed::Member, now: Time) -> Option<bool> {
        let peer = view.local.peers.by_name.get(name);
        let standing = peer.map(|peer| peer.standing);
        match record.standing {
            Standing::Left => None,
            _ if standing == Some(Standing::Left) => None,
            Standing::Alive => Some(match peer {
                Some(peer) => peer.suspect || peer.standing == Standing::Failed,
                // Gossip is off here, or has forgotten it.
                None => !view.local.peers.by_name.is_empty() && !view.nodes.contains_key(name),
            }),
            Standing::Failed => {
                let returned = peer.is_some_and(|peer| {
                    peer.standing == Standing::Alive && peer.incarnation > record.incarnation && !peer.suspect
                });
                let fresh_until = record.since.after(FRESH);
                let placed =
                    record.confirmed.is_some() && !view.assignments.values().any(|assignment| assignment.node == *name);
                if placed && !returned {
                    if fresh_until <= now {
                        return None;
                    }
                    self.until = Some(self.until.map_or(fresh_until, |sooner| sooner.min(fresh_until)));
                }
                Some(!returned)
            }
        }
    }
}
