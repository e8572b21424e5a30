//! Who reaches whom, and what each member thinks of the others.

use super::{Fleet, LEASE, Step, TICK};
use regrow_control::reconcile::{Input, Transaction};
use regrow_model::key::{Change, Key};
use regrow_model::{Name, Peer, Peers, Standing, Time};
use std::collections::BTreeMap;
use std::time::Duration;

/// Silence after which a member is suspected.
const SUSPECTED: Duration = Duration::from_millis(300);

/// Links, each way.
#[derive(Debug)]
pub(super) struct Network {
    /// `links[from][to]`.
    pub(super) links: Vec<Vec<bool>>,
    /// Who reaches the store.
    pub(super) store: Vec<bool>,
}

impl Network {
    pub(super) fn whole(count: usize) -> Network {
        Network { links: vec![vec![true; count]; count], store: vec![true; count] }
    }

    fn both_ways(&self, one: usize, other: usize) -> bool {
        self.links[one][other] && self.links[other][one]
    }
}

/// What one member thinks of another.
#[derive(Clone, Debug)]
pub(super) struct Opinion {
    pub(super) standing: Standing,
    pub(super) suspect: bool,
    pub(super) incarnation: u32,
    pub(super) since: Time,
    pub(super) silent_since: Option<Time>,
    /// How much silence this one takes for death.
    pub(super) patience: Duration,
}

impl Fleet<'_> {
    /// Gossip looks round, and leases end.
    pub(super) fn tick(&mut self) {
        let now = self.timeline.now();
        self.timeline.plan(TICK, Step::Tick);
        for host in 0..self.hosts.len() {
            if self.hosts[host].lease.is_some_and(|until| until <= now) {
                self.lease_ends(host);
            }
        }
        for host in 0..self.hosts.len() {
            if !self.hosts[host].gossips() {
                continue;
            }
            let mut changed = self.hosts[host].opinions.is_empty();
            for other in 0..self.hosts.len() {
                if other != host {
                    changed |= self.look_at(host, other);
                }
            }
            if changed || self.hosts[host].told_members.is_none() {
                self.tell_members(host);
            }
        }
    }

    fn lease_ends(&mut self, host: usize) {
        let name = self.hosts[host].name.clone();
        self.hosts[host].lease = None;
        if self.leader.is_some_and(|(leader, _)| leader == host) {
            self.leader = None;
        }
        self.note(|| format!("the lease of {name} ends"));
        let changes = vec![Change::Delete(Key::Node(name))];
        self.write(Transaction { changes, ..Transaction::default() });
    }

    /// Whether anything has changed.
    fn look_at(&mut self, host: usize, other: usize) -> bool {
        let now = self.timeline.now();
        let there = self.hosts[other].gossips();
        let through = |by: usize| {
            self.hosts[by].gossips() && self.network.both_ways(host, by) && self.network.both_ways(by, other)
        };
        let others = (0..self.hosts.len()).filter(|by| *by != host && *by != other);
        let answers = there && (self.network.both_ways(host, other) || others.into_iter().any(through));
        let patience = if self.hosts[other].up { (400, 3_000) } else { (2_000, 5_000) };
        let drawn = self.rng.millis(patience.0, patience.1);
        let theirs = self.hosts[other].incarnation;
        let Some(opinion) = self.hosts[host].opinions.get_mut(&other) else {
            if answers {
                let (standing, suspect, silent_since) = (Standing::Alive, false, None);
                let opinion =
                    Opinion { standing, suspect, incarnation: theirs, since: now, silent_since, patience: drawn };
                self.hosts[host].opinions.insert(other, opinion);
            }
            return answers;
        };
        let before = (opinion.standing, opinion.suspect, opinion.incarnation);
        if answers {
            (opinion.silent_since, opinion.suspect, opinion.patience) = (None, false, drawn);
            if opinion.standing == Standing::Failed {
                // It hears of it, and refutes.
                opinion.incarnation = theirs.max(opinion.incarnation + 1);
                (opinion.standing, opinion.since) = (Standing::Alive, now);
            }
            opinion.incarnation = opinion.incarnation.max(theirs);
            let refuted = opinion.incarnation;
            self.hosts[other].incarnation = refuted;
        } else if opinion.standing == Standing::Alive {
            let silent = now.since(*opinion.silent_since.get_or_insert(now));
            opinion.suspect = silent >= SUSPECTED;
            if silent >= opinion.patience {
                (opinion.standing, opinion.suspect, opinion.since) = (Standing::Failed, false, now);
            }
        }
        let opinion = &self.hosts[host].opinions[&other];
        let after = (opinion.standing, opinion.suspect, opinion.incarnation);
        if before.0 != after.0 {
            let (host, other) = (self.hosts[host].name.clone(), self.hosts[other].name.clone());
            self.note(|| format!("{host} sees {other}: {:?}, life {}", after.0, after.2));
        }
        before != after
    }

    /// Tells an agent of the members.
    pub(super) fn tell_members(&mut self, host: usize) {
        let mut by_name: BTreeMap<Name, Peer> = BTreeMap::new();
        let started = self.hosts[host].started;
        let own = Opinion {
            standing: Standing::Alive,
            suspect: false,
            incarnation: self.hosts[host].incarnation,
            since: started,
            silent_since: None,
            patience: LEASE,
        };
        let all = self.hosts[host].opinions.iter().map(|(other, opinion)| (*other, opinion)).chain([(host, &own)]);
        for (other, opinion) in all {
            let peer = Peer {
                standing: opinion.standing,
                suspect: opinion.suspect,
                quarantined: false,
                incarnation: opinion.incarnation,
                address: format!("10.0.0.{}:7946", other + 1),
                tags: BTreeMap::new(),
                since: opinion.since,
                why: if opinion.standing == Standing::Alive { String::new() } else { "no answer came".to_owned() },
                trail: Vec::new(),
            };
            by_name.insert(self.hosts[other].name.clone(), peer);
        }
        let peers = Peers { by_name, listed_under: Some("/members/".to_owned()) };
        if self.hosts[host].told_members.as_ref() == Some(&peers) {
            return;
        }
        self.hosts[host].told_members = Some(peers.clone());
        let delay = self.rng.millis(0, 5);
        let (life, input) = (self.hosts[host].life, Box::new(Input::Members(peers)));
        self.timeline.plan(delay, Step::Tell { host, life, input });
    }
}
