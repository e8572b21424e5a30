//! What every node does: records members that come, verdicts on those that go, and its own return.

use super::{Doubt, OWN_BUSINESS, TURN, is_away, object, unlist, withdraw};
use crate::features::{record, span};
use regrow_model::event::{Draft, EventKind};
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{Listing, Member};
use regrow_model::plan::{Held, Rule};
use regrow_model::{CauseId, Digest, Name, Peer, Plan, Planned, Standing, Time, View, limits};
use std::net::SocketAddr;
use std::time::Duration;

/// Nodes that a verdict is left to at most, one [`TURN`] each.
const TURNS_MAX: usize = 10;

/// How long this node must have been up before a member that its gossip has never heard of counts as gone.
const HEARD_BY: Duration = Duration::from_secs(60);

/// What this node should record of the members. Its gossip is `view.local.peers`.
pub fn plan(view: &View, node: &Name, leads: bool, now: Time) -> Plan {
    let mut round = Round { view, node, leads, now, doubt: Doubt::of(view, now), plan: Plan::default() };
    let peers = &view.local.peers.by_name;
    // Off, or not begun.
    let Some(me) = peers.get(node) else { return round.plan };
    round.own(me);
    let counted = view.members.get(node).is_some_and(|record| record.standing == Standing::Alive);
    if !counted {
        return round.plan;
    }
    for (name, peer) in peers.iter().filter(|(name, _)| *name != node) {
        round.other(name, peer);
    }
    if leads {
        for (name, member) in view.members.iter().filter(|(name, _)| !peers.contains_key(*name)) {
            round.unheard(name, member);
        }
    }
    if let Some(until) = round.doubt.until {
        round.plan.recheck(until);
    }
    round.plan
}

struct Round<'a> {
    view: &'a View,
    node: &'a Name,
    leads: bool,
    now: Time,
    doubt: Doubt,
    plan: Plan,
}

impl Round<'_> {
    /// This node's own record.
    fn own(&mut self, me: &Peer) {
        let Some(before) = self.view.members.get(self.node) else {
            if me.standing == Standing::Alive {
                self.joined(self.node, me);
            }
            return;
        };
        match (me.standing, before.standing) {
            (Standing::Alive, Standing::Alive) => self.update(self.node, me, before),
            (Standing::Alive, _) => {
                // Nobody hears one who hears nobody: it is not for it to say that it is back, unless nobody else is there.
                // Nor while its lease is gone: whom it takes for alive it has not heard of since.
                let leased = self.view.nodes.contains_key(self.node);
                let alone = !self.view.nodes.keys().any(|other| other != self.node);
                if leased && (alone || self.view.local.peers.sees_others_than(self.node)) {
                    self.returned(self.node, me, before);
                }
            }
            (Standing::Left, Standing::Alive) => self.gone(self.node, me, before),
            _ => {}
        }
    }

    fn other(&mut self, name: &Name, peer: &Peer) {
        let Some(before) = self.view.members.get(name) else {
            if peer.standing == Standing::Alive && self.is_due(peer.since.after(OWN_BUSINESS), name) {
                self.joined(name, peer);
            }
            return;
        };
        match (peer.standing, before.standing) {
            (Standing::Alive, Standing::Alive) if !before.agent && self.leads => self.update(name, peer, before),
            // That another has met it is what makes gossip's silence about it mean anything.
            (Standing::Alive, Standing::Alive)
                if before.by == *name && self.is_due(peer.since.max(before.since).after(OWN_BUSINESS), name) =>
            {
                let next = Member { by: self.node.clone(), ..Member::clone(before) };
                self.alive(name, peer, next, format!("{name} was met"), None);
            }
            (Standing::Alive, Standing::Alive) => {}
            (Standing::Alive, Standing::Left | Standing::Failed)
                if peer.incarnation > before.incarnation && self.is_due(peer.since.after(OWN_BUSINESS), name) =>
            {
                self.returned(name, peer, before);
            }
            (Standing::Failed, Standing::Alive)
                if peer.incarnation >= before.incarnation
                    && self.may_judge(name, peer, before)
                    && self.is_due(peer.since, name) =>
            {
                self.gone(name, peer, before);
            }
            // One that has come back is still called gone by those who have not heard of it.
            (Standing::Left, Standing::Alive) if peer.incarnation < before.incarnation => {}
            (Standing::Left, Standing::Alive | Standing::Failed) if self.is_due(peer.since, name) => {
                self.gone(name, peer, before);
            }
            _ => {}
        }
    }

    /// A member that is recorded as alive, whose lease has ended, and that gossip here has never heard of: it died while
    /// everybody else was away too. Only of one that was met before: where gossip reaches nobody it says nothing.
    fn unheard(&mut self, name: &Name, before: &Member) {
        let up = self.view.nodes.get(self.node).map(|me| me.since.after(HEARD_BY));
        let unknown = before.standing == Standing::Alive && !self.view.nodes.contains_key(name);
        if !unknown || before.by == *name {
            return;
        }
        match up {
            Some(due) if due <= self.now => {
                let peer = Peer {
                    standing: Standing::Failed,
                    suspect: false,
                    quarantined: false,
                    incarnation: before.incarnation,
                    address: before.address.clone(),
                    tags: before.tags.clone(),
                    since: self.now,
                    why: "gossip has not heard of it, and its lease in the store has ended".to_owned(),
                    trail: Vec::new(),
                };
                self.gone(name, &peer, before);
            }
            Some(due) => self.plan.recheck(due),
            None => {}
        }
    }

    /// Whether gossip's word is enough to record a death; says so when it is not.
    fn may_judge(&mut self, name: &Name, peer: &Peer, before: &Member) -> bool {
        if !self.view.nodes.contains_key(name) {
            // The end of its lease agrees, or it has none and never had.
            return true;
        }
        let refusal = match self.doubt.why() {
            Some(why) => Some((Rule::Freeze, why)),
            None if before.overruled && peer.incarnation <= before.incarnation => Some((
                Rule::SecondSource,
                "an earlier verdict on it was wrong: this one waits for the end of its lease".to_owned(),
            )),
            None => None,
        };
        let Some((rule, why)) = refusal else { return true };
        self.plan.held.push(Held {
            object: object(name),
            what: format!("record that {name} has failed"),
            rule,
            why,
            until: None,
        });
        false
    }

    /// Whether it is this node's turn; looks again when it comes.
    fn is_due(&mut self, from: Time, about: &Name) -> bool {
        let due = if self.leads { from } else { from.after(self.turn(about)) };
        if due > self.now {
            self.plan.recheck(due);
        }
        due <= self.now
    }

    /// How long this node leaves it to others: to the leader, and to those before it by name.
    fn turn(&self, about: &Name) -> Duration {
        let before = self.view.local.peers.by_name.iter().filter(|(name, peer)| {
            *name < self.node && *name != about && peer.standing == Standing::Alive && !peer.suspect
        });
        let agents = before.filter(|(name, _)| self.view.members.get(*name).is_some_and(|record| record.agent));
        TURN * u32::try_from(1 + agents.count().min(TURNS_MAX)).unwrap_or(u32::MAX)
    }

    fn joined(&mut self, name: &Name, peer: &Peer) {
        let cause = self.chain(name, peer);
        let why = format!("at {}", peer.address);
        let next = Member {
            standing: Standing::Alive,
            incarnation: peer.incarnation,
            address: peer.address.clone(),
            tags: peer.tags.clone(),
            agent: name == self.node || self.view.nodes.contains_key(name),
            listing: self.listing(name),
            by: self.node.clone(),
            why: why.clone(),
            since: self.now,
            confirmed: None,
            overruled: false,
            cause: cause.clone(),
        };
        self.alive(name, peer, next, format!("{name} is a member"), Some((EventKind::MemberJoined, why)));
    }

    /// Brings the record of a living member up to date.
    fn update(&mut self, name: &Name, peer: &Peer, before: &Member) {
        let next = Member {
            incarnation: before.incarnation.max(peer.incarnation),
            address: peer.address.clone(),
            tags: peer.tags.clone(),
            agent: before.agent || name == self.node,
            listing: self.listing(name),
            overruled: before.overruled && peer.incarnation <= before.incarnation,
            ..before.clone()
        };
        // Each refutation makes a new incarnation: that alone is no news.
        let same = Member { incarnation: before.incarnation, ..next.clone() } == *before;
        if !same {
            self.alive(name, peer, next, format!("what is known of {name} has changed"), None);
        }
    }

    /// A member that had failed or left is back. It stays in the chain that its going began.
    fn returned(&mut self, name: &Name, peer: &Peer, before: &Member) {
        let message = format!("back after {}: it had {}", span(self.now.since(before.since)), past(before));
        let next = Member {
            standing: Standing::Alive,
            incarnation: before.incarnation.max(peer.incarnation),
            address: peer.address.clone(),
            tags: peer.tags.clone(),
            agent: before.agent || name == self.node,
            listing: self.listing(name),
            by: self.node.clone(),
            why: message.clone(),
            since: self.now,
            confirmed: None,
            overruled: before.standing == Standing::Failed && peer.incarnation <= before.incarnation,
            cause: before.cause.clone(),
        };
        self.alive(name, peer, next, format!("{name} is back"), Some((EventKind::MemberReturned, message)));
    }

    /// Writes the record of a living member, and its key.
    fn alive(&mut self, name: &Name, peer: &Peer, next: Member, why: String, event: Option<(EventKind, String)>) {
        let cause = next.cause.clone();
        let mut changes = Vec::new();
        let before = self.view.members.get(name);
        let listed = before.is_some_and(|before| {
            let shown = |member: &Member| {
                (member.standing, member.address.clone(), member.tags.clone(), member.listing.clone())
            };
            shown(before) == shown(&next)
        });
        let before = before.and_then(|before| before.listing.clone());
        changes.extend(
            before.filter(|key| next.listing.as_ref() != Some(key)).map(|key| Change::Delete(Key::Listing(key))),
        );
        if let (Some(key), Ok(at), false) = (next.listing.clone(), peer.address.parse::<SocketAddr>(), listed) {
            let listing = Listing {
                name: name.to_string(),
                address: at.ip().to_string(),
                port: at.port(),
                tags: peer.tags.clone(),
                status: Standing::Alive,
            };
            changes.push(Change::Put(Record::Listing(key, listing)));
        }
        changes.push(Change::Put(Record::Member(name.clone(), Box::new(next))));
        let mut planned = record(object(name), changes, why, &cause);
        planned.events.extend(event.map(|(kind, message)| Draft::new(kind, object(name), message, &cause)));
        self.plan.actions.push(planned);
    }

    /// A member has failed or left: its record says so, its key goes, and what a dead one served leaves the catalog. One
    /// transaction.
    fn gone(&mut self, name: &Name, peer: &Peer, before: &Member) {
        let cause = if before.standing == Standing::Alive { self.chain(name, peer) } else { before.cause.clone() };
        let next = Member {
            standing: peer.standing,
            incarnation: before.incarnation.max(peer.incarnation),
            by: self.node.clone(),
            why: peer.why.clone(),
            since: self.now,
            cause: cause.clone(),
            listing: None,
            ..before.clone()
        };
        let mut changes = vec![Change::Put(Record::Member(name.clone(), Box::new(next)))];
        changes.extend(unlist(before));
        let failed = peer.standing == Standing::Failed;
        let mut message = peer.why.clone();
        if failed && is_away(self.view, name) {
            message.push_str("; its agent has ended in order, and what it runs goes on until its lease ends");
        } else if let Some(doubt) = self.doubt.why().filter(|_| failed) {
            message.push_str(&format!("; what it serves stays in the catalog: {doubt}"));
        } else if failed {
            let count = withdraw(self.view, name, &cause, self.now, &mut changes);
            if count > 0 {
                message.push_str(&format!("; {count} of its endpoints leave the catalog"));
            }
        }
        let kind = if failed { EventKind::MemberFailed } else { EventKind::MemberLeft };
        let why = format!("{name} has {}: {}", if failed { "failed" } else { "left" }, peer.why);
        let mut event = Draft::new(kind, object(name), message, &cause);
        let trail = peer.trail.join("\n");
        event.detail = (failed && !trail.is_empty())
            .then(|| trail[..trail.floor_char_boundary(limits::OUTPUT_BYTES_MAX)].to_owned());
        let mut planned: Planned = record(object(name), changes, why, &cause);
        planned.events.push(event);
        if name != self.node {
            planned.given.push(Key::Member(self.node.clone()));
            if !self.view.nodes.contains_key(name) {
                // That its lease has ended is a part of the verdict.
                planned.given.push(Key::Node(name.clone()));
            }
        }
        self.plan.actions.push(planned);
    }

    /// The chain that begins with what this node has seen of a member. The same, however often it is planned.
    fn chain(&self, name: &Name, peer: &Peer) -> CauseId {
        let parts = [self.node.as_str().as_bytes(), name.as_str().as_bytes(), &peer.incarnation.to_le_bytes()];
        CauseId::new(peer.since, Digest::of(parts).number())
    }

    fn listing(&self, name: &Name) -> Option<String> {
        self.view.local.peers.listed_under.as_ref().map(|prefix| format!("{prefix}{name}"))
    }
}

/// What became of a member, as what is said of it.
fn past(before: &Member) -> String {
    match before.standing {
        Standing::Left => "left".to_owned(),
        _ => format!("failed ({})", before.why),
    }
}
