//! The cluster as the loop sees it, for the tender and for doors.

use crate::runtime::Handle;
use regrow_control::features::job::order::{self, OrderError, Wish};
use regrow_jobs::BoxFuture;
use regrow_jobs::tend::Cluster;
use regrow_model::run::Order;
use regrow_model::{Entry, Name, Standing, View, desired};
use std::collections::{BTreeMap, BTreeSet};

/// Hosts that gossip says are dead: members by their names, and by their addresses where nobody alive has the same one.
/// What the cluster has on record holds until this node's own gossip sees the member alive.
pub(super) fn dead(view: &View) -> BTreeSet<String> {
    let mut dead: BTreeMap<&Name, &str> = BTreeMap::new();
    let mut alive: BTreeSet<&str> = BTreeSet::new();
    for (name, member) in &view.members {
        match member.standing {
            Standing::Failed => drop(dead.insert(name, &member.address)),
            Standing::Alive => drop(alive.insert(host_of(&member.address))),
            Standing::Left => {}
        }
    }
    for (name, peer) in &view.local.peers.by_name {
        match peer.standing {
            Standing::Failed => drop(dead.insert(name, &peer.address)),
            Standing::Alive => {
                dead.remove(name);
                alive.insert(host_of(&peer.address));
            }
            Standing::Left => drop(dead.remove(name)),
        }
    }
    let addresses = dead.values().map(|address| host_of(address)).filter(|host| !alive.contains(host));
    dead.keys().map(|name| name.as_str()).chain(addresses).map(str::to_owned).collect()
}

/// `IP:PORT` without the port.
fn host_of(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Cluster for Handle {
    fn schedules(&self) -> BoxFuture<'_, BTreeMap<Name, Entry<desired::Schedule>>> {
        Box::pin(async { self.look(|reconciler| reconciler.view().schedules.clone()).await.unwrap_or_default() })
    }

    fn order(&self, job: Name, wish: Wish, by: String) -> BoxFuture<'_, Option<Result<Order, OrderError>>> {
        Box::pin(async move {
            let now = crate::runtime::now();
            self.look(move |reconciler| order::order(reconciler.view(), &job, &wish, &by, now)).await.ok()
        })
    }

    fn dead(&self) -> BoxFuture<'_, Option<BTreeSet<String>>> {
        Box::pin(async { self.look(|reconciler| dead(reconciler.view())).await.ok() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regrow_model::key::Record;
    use regrow_model::{CauseId, Peer, Revision, Time};

    /// Shows that the record counts until gossip sees the member alive, and that a shared address is not dead.
    #[test]
    fn the_dead() {
        let name = |text: &str| Name::new(text).expect("a name");
        let mut view = View::default();
        for (node, standing, address) in
            [("a", "alive", "10.0.0.1:7946"), ("b", "failed", "10.0.0.2:7946"), ("c", "failed", "10.0.0.1:7947")]
        {
            let member = serde_json::json!({
                "standing": standing, "incarnation": 1, "address": address, "tags": {}, "agent": true, "listing": null,
                "by": "a", "why": "", "since": 0, "confirmed": null, "cause": CauseId::new(Time(1), 1),
            });
            let member = serde_json::from_value(member).expect("a member");
            view.put(Record::Member(name(node), Box::new(member)), Revision(1));
        }
        let texts = |view: &View| dead(view).into_iter().collect::<Vec<_>>();
        assert_eq!(texts(&view), ["10.0.0.2", "b", "c"]);
        let peer = |standing, address: &str| Peer {
            standing,
            suspect: false,
            quarantined: false,
            incarnation: 2,
            address: address.to_owned(),
            tags: BTreeMap::new(),
            since: Time(0),
            why: String::new(),
            trail: Vec::new(),
        };
        view.local.peers.by_name.insert(name("b"), peer(Standing::Alive, "10.0.0.2:7946"));
        assert_eq!(texts(&view), ["c"]);
        view.local.peers.by_name.insert(name("d"), peer(Standing::Failed, "10.0.0.4:7946"));
        assert_eq!(texts(&view), ["10.0.0.4", "c", "d"]);
    }
}
