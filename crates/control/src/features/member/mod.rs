//! Members: what gossip knows of the nodes becomes records, a verdict on a node takes what it serves out of the
//! catalog, and a second source decides that what it ran is replaced.
//!
//! Flow: each node's gossip is an input ([`regrow_model::Peers`]). [`plan`] runs on every node and compares it with the
//! records: members that are new are recorded and listed, a verdict is one transaction (record, key, endpoints, event).
//! [`confirm`] is the leader's: when the lease of a node that gossip calls dead has ended as well, the record says so, and
//! the group planner makes its groups whole elsewhere.
//!
//! Guarantees:
//! - A verdict is recorded once: its transaction compares the member's record, so whoever comes second changes nothing.
//! - A verdict needs nobody's permission, so that a dead leader costs no more than [`TURN`]; it is guarded by what it was
//!   decided on and not by the leader's fence. Who is recorded as dead itself records none.
//! - On one source nothing is replaced: gossip alone takes endpoints out, which can be undone in a second; the end of a
//!   lease alone does nothing.
//! - While more than `freeze.share` of the nodes look dead from here, no endpoint is taken out and nothing is replaced:
//!   that is a partition ([`Doubt`]).
//! - A wrong verdict is overruled by the member itself, if it sees anybody alive, and is then not repeated while its lease
//!   lives.
//!
//! Why so: `docs/design/0053-death-of-a-node.md`.

mod confirm;
mod doubt;
mod verdict;

pub use confirm::confirm;
pub(crate) use doubt::Doubt;
pub use verdict::plan;

use super::service::endpoint;
use regrow_model::key::{Change, Key, Record};
use regrow_model::observed::{Endpoint, EndpointState};
use regrow_model::{CauseId, Kind, Name, Ref, Time, View};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long each node leaves a verdict to the one before it; the leader comes first and waits for nobody.
pub const TURN: Duration = Duration::from_millis(200);

/// How long others leave it to a member to record itself.
pub const OWN_BUSINESS: Duration = Duration::from_secs(1);

/// How long a death counts as one of those that happen at once, if what the node ran has its place elsewhere since.
pub const FRESH: Duration = Duration::from_secs(600);

/// Endpoints taken out in one transaction: with their indexes, the record, the key and the event below etcd's 128
/// operations. What is over that follows.
pub const ENDPOINTS_AT_ONCE: usize = 60;

/// Takes endpoints of a node out of the catalog, as many as one transaction takes; how many.
fn withdraw(view: &View, node: &Name, cause: &CauseId, now: Time, changes: &mut Vec<Change>) -> usize {
    let mut services = BTreeSet::new();
    let mut count = 0;
    for (service, id, current) in serving(view, node).take(ENDPOINTS_AT_ONCE) {
        let state = EndpointState::Down;
        let next = Endpoint { state, since: now, cause: cause.clone(), ..current.clone() };
        changes.push(Change::Put(Record::Endpoint(service.clone(), id.clone(), Box::new(next))));
        services.insert(service);
        count += 1;
    }
    for service in services {
        changes.push(endpoint::index(service, cause, now));
    }
    count
}

/// Endpoints of a node that are not out of the catalog yet.
fn serving<'a>(
    view: &'a View,
    node: &'a Name,
) -> impl Iterator<Item = (&'a Name, &'a regrow_model::InstanceId, &'a Endpoint)> {
    let all =
        view.endpoints.iter().flat_map(|(service, all)| all.iter().map(move |(id, one)| (service, id, &*one.value)));
    all.filter(move |(_, _, one)| one.node == *node && one.state != EndpointState::Down)
}

/// Whether the agent of a node has ended in order: what it ran serves on until its lease ends.
fn is_away(view: &View, node: &Name) -> bool {
    view.nodes.get(node).is_some_and(|node| node.away)
}

fn object(node: &Name) -> Ref {
    Ref::new(Kind::Node, node)
}

/// The removal of the key that lists a member.
fn unlist(member: &regrow_model::observed::Member) -> Option<Change> {
    member.listing.clone().map(|key| Change::Delete(Key::Listing(key)))
}

#[cfg(test)]
mod tests;
