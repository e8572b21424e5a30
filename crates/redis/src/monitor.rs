//! The health and the numbers of a cluster, or of one server, for Prometheus and for checks.

use std::fmt::Write;

use crate::address::Address;
use crate::admin::{AdminError, Cluster, NodeStatus, Status};
use crate::connection::{Dialer, Error};
use crate::info::Info;

/// What was found at one look.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Report {
    /// Whether nothing is wrong: every slot has a master that serves it, all nodes answer and agree, every replica is linked.
    pub healthy: bool,
    /// What is wrong, in words; worst first.
    pub problems: Vec<String>,
    /// Slots that somebody serves, of 16384; 16384 for a server without a cluster.
    pub slots_served: usize,
    /// The servers.
    pub nodes: Vec<NodeReport>,
    /// Known to others, but silent.
    pub silent: Vec<Address>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct NodeReport {
    /// Where it is.
    pub address: Address,
    /// `master` or `replica`.
    pub role: &'static str,
    /// For a replica: where its master is, if that answers.
    pub master: Option<Address>,
    /// Version of the server.
    pub version: String,
    /// Slots it serves.
    pub slots: usize,
    /// Keys it holds.
    pub keys: u64,
    /// Memory it uses, in bytes.
    pub memory_bytes: u64,
    /// Clients connected.
    pub clients: u64,
    /// Configuration epoch; 0 without a cluster.
    pub epoch: u64,
    /// For a replica: whether the link to its master stands.
    pub linked: Option<bool>,
    /// For a replica: bytes of the replication stream that it has not got.
    pub lag_bytes: Option<u64>,
}

/// Looks at the cluster that some nodes lead to, or at the one server that is no cluster.
///
/// Errors: nobody answers, or a server refuses.
pub async fn look(dialer: &Dialer, seeds: &[Address]) -> Result<Report, AdminError> {
    match Cluster::open(dialer, seeds).await {
        Ok(mut cluster) => Ok(of_cluster(&cluster.status().await?)),
        Err(error) => match seeds {
            [address] => alone(dialer, address).await?.ok_or(error),
            _ => Err(error),
        },
    }
}

/// `None`: it is a node of a cluster after all.
async fn alone(dialer: &Dialer, address: &Address) -> Result<Option<Report>, Error> {
    let info = dialer.connect(address).await?.info().await?;
    Ok((!info.flag("cluster_enabled")).then(|| of_server(address, &info)))
}

fn of_server(address: &Address, info: &Info) -> Report {
    let count = |name: &str| info.number(name).and_then(|number| u64::try_from(number).ok()).unwrap_or(0);
    let replica = info.text("role") == Some("slave");
    let linked = replica.then(|| info.text("master_link_status") == Some("up"));
    let mut problems = Vec::new();
    if linked == Some(false) {
        problems.push(format!("{address} is cut off from its master"));
    }
    if info.flag("loading") {
        problems.push(format!("{address} is still loading its data"));
    }
    // Without a cluster there may be several databases.
    let keys = (0..DATABASES_MAX)
        .filter_map(|db| info.text(&format!("db{db}"))?.strip_prefix("keys=")?.split(',').next()?.parse::<u64>().ok())
        .sum();
    Report {
        healthy: problems.is_empty(),
        problems,
        slots_served: usize::from(crate::slot::SLOTS),
        nodes: vec![NodeReport {
            address: address.clone(),
            role: if replica { "replica" } else { "master" },
            master: None,
            version: info.text("redis_version").unwrap_or("?").to_owned(),
            slots: usize::from(crate::slot::SLOTS),
            keys,
            memory_bytes: count("used_memory"),
            clients: count("connected_clients"),
            epoch: 0,
            linked,
            lag_bytes: None,
        }],
        silent: Vec::new(),
    }
}

/// Databases whose keys are counted; servers have 16 where nothing is said.
const DATABASES_MAX: u32 = 1024;

fn of_cluster(status: &Status) -> Report {
    let mut problems: Vec<String> = status.problems.iter().map(ToString::to_string).collect();
    let mut nodes = Vec::new();
    for master in &status.masters {
        nodes.push(NodeReport { slots: master.slots.len(), ..node(&master.node, "master", None) });
        nodes.extend(master.replicas.iter().map(|replica| node(replica, "replica", Some(&master.node.address))));
    }
    nodes.extend(status.orphans.iter().map(|orphan| node(orphan, "replica", None)));
    problems.extend(
        nodes
            .iter()
            .filter(|node| node.linked == Some(false))
            .map(|node| format!("{} is cut off from its master", node.address)),
    );
    Report {
        healthy: problems.is_empty(),
        problems,
        slots_served: status.covered,
        nodes,
        silent: status.unheard.iter().map(|unheard| unheard.address.clone()).collect(),
    }
}

fn node(status: &NodeStatus, role: &'static str, master: Option<&Address>) -> NodeReport {
    NodeReport {
        address: status.address.clone(),
        role,
        master: master.cloned(),
        version: status.version.clone(),
        slots: 0,
        keys: status.keys,
        memory_bytes: status.memory_bytes,
        clients: status.clients,
        epoch: status.epoch,
        linked: status.linked,
        lag_bytes: status.lag_bytes,
    }
}

/// The text format of Prometheus. `Err`: why nothing could be found out, which makes the backend unhealthy and leaves the
/// rest out, so that no old number is taken for a new one.
pub fn metrics(report: Result<&Report, &str>) -> String {
    let mut out = String::new();
    let mut family = |name: &str, help: &str, values: Vec<(String, u64)>| {
        if values.is_empty() {
            return;
        }
        let _ = writeln!(out, "# HELP regrow_redis_{name} {help}\n# TYPE regrow_redis_{name} gauge");
        for (labels, value) in values {
            let _ = writeln!(out, "regrow_redis_{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let Ok(report) = report else {
        family("reachable", "Whether any server answers.", one(0));
        family("healthy", "Whether nothing is wrong.", one(0));
        return out;
    };
    family("reachable", "Whether any server answers.", one(1));
    family("healthy", "Whether nothing is wrong.", one(report.healthy.into()));
    family("problems", "What is wrong, counted.", one(report.problems.len() as u64));
    family("slots_served", "Slots that a master serves, of 16384.", one(report.slots_served as u64));
    family("nodes_silent", "Nodes that others know and that do not answer.", one(report.silent.len() as u64));
    let labels =
        |node: &NodeReport| format!("{{node=\"{}\",role=\"{}\"}}", label(&node.address.to_string()), node.role);
    let mut each = |name: &str, help: &str, value: &dyn Fn(&NodeReport) -> Option<u64>| {
        let values = report.nodes.iter().filter_map(|node| Some((labels(node), value(node)?))).collect();
        family(name, help, values);
    };
    each("node_slots", "Slots served.", &|node| Some(node.slots as u64));
    each("node_keys", "Keys held.", &|node| Some(node.keys));
    each("node_memory_bytes", "Memory used.", &|node| Some(node.memory_bytes));
    each("node_clients", "Clients connected.", &|node| Some(node.clients));
    each("node_epoch", "Configuration epoch.", &|node| Some(node.epoch));
    each("replica_linked", "Whether the link to the master stands.", &|node| node.linked.map(u64::from));
    each("replica_lag_bytes", "Bytes of the replication stream that are missing.", &|node| node.lag_bytes);
    out
}

/// A label's value, escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let info = Info::parse(
            "redis_version:7.0.15\r\nrole:slave\r\nmaster_link_status:down\r\nused_memory:5\r\ndb0:keys=2,expires=0\r\ndb3:keys=4,expires=0\r\n",
        );
        of_server(&Address::new("h", 1), &info)
    }

    #[test]
    fn one_server() {
        let report = report();
        assert_eq!((report.healthy, report.nodes[0].keys, report.nodes[0].role), (false, 6, "replica"));
        assert_eq!(report.problems, ["h:1 is cut off from its master"]);
    }

    #[test]
    fn text() {
        let text = metrics(Ok(&report()));
        assert!(text.contains("\nregrow_redis_healthy 0\n"), "{text}");
        assert!(text.contains("\nregrow_redis_node_keys{node=\"h:1\",role=\"replica\"} 6\n"), "{text}");
        assert!(!text.contains("lag_bytes"), "{text}");
        let silent = metrics(Err("nobody"));
        assert!(silent.contains("regrow_redis_reachable 0\n") && !silent.contains("keys"), "{silent}");
    }
}
