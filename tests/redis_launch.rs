//! `regrow redis create --launch`: the servers of a Redis cluster as a group that the agent keeps (`redis-server` and `redis-cli` on
//! Debian).

mod support;

use serde_json::Value;
use std::process::Command;
use support::{Cluster, signal, until};

fn cli(port: &str, words: &[&str]) -> String {
    let done = Command::new("redis-cli").args(["-c", "-p", port]).args(words).output().expect("redis-cli");
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Ports of the group's instances.
fn ports(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status();
    let service = status["services"].as_array().expect("services").iter().find(|service| service["name"] == "redis");
    let endpoints = service.and_then(|service| service["endpoints"].as_array()).cloned().unwrap_or_default();
    let port = |endpoint: &Value| Some(endpoint["address"].as_str()?.rsplit_once(':')?.1.to_owned());
    endpoints.iter().filter_map(port).collect()
}

/// Six servers are started and become a cluster, which `redis-cli` finds whole; one that is killed grows back with its data. What would
/// change anything else is refused, and `--dry-run` writes nothing.
#[test]
fn servers_become_a_cluster() {
    let mut cluster = Cluster::with_spec("cluster: shop\n");
    cluster.start(&["up"]);
    until("the agent answers", || cluster.try_status());
    let range = cluster.ports.range(12);
    let base = ["redis", "create", "--launch", "6", "--replicas", "1", "--ports", &range];
    let with = |more: &[&'static str]| -> Vec<String> {
        base.iter().copied().chain(more.iter().copied()).map(str::to_owned).collect()
    };
    let words = |all: &[String]| -> Vec<&'static str> {
        all.iter().map(|word| &*Box::leak(word.clone().into_boxed_str())).collect()
    };

    let shown = cluster.ok(&words(&with(&["--spec", ".", "--dry-run"])));
    assert!(shown.contains("+ group/redis") && !cluster.path("redis.yaml").exists(), "{shown}");
    cluster.write("more.yaml", "services: {web: {}}\n");
    let told = cluster.fails(3, &words(&with(&["--spec", ".", "--yes"])));
    assert!(told.contains("would change more than the new group: service/web"), "{told}");
    assert!(!cluster.path("redis.yaml").exists());
    std::fs::remove_file(cluster.path("more.yaml")).expect("it was written");

    let made = cluster.ok(&words(&with(&["--spec", ".", "--yes"])));
    assert!(made.contains("all slots are served"), "{made}");
    let all = ports(&cluster);
    assert_eq!(all.len(), 6);
    let node = format!("127.0.0.1:{}", all[0]);
    let check = Command::new("redis-cli").args(["--cluster", "check", &node]).output().expect("redis-cli");
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains("All 16384 slots covered"), "{check}");

    for key in 0..100 {
        assert_eq!(cli(&all[0], &["SET", &format!("key:{key}"), "v"]), "OK");
    }
    for (_, pid, _) in cluster.pids("redis").into_iter().take(2) {
        signal(u32::try_from(pid).expect("a pid"), "KILL");
    }
    cluster.until_healthy();
    until("the cluster is whole again", || cluster.run(&["redis", "check", &node]).status.success().then_some(()));
    for key in 0..100 {
        assert_eq!(cli(&all[0], &["GET", &format!("key:{key}")]), "v");
    }
    assert_eq!(ports(&cluster), all);
    // The file says the same, but the servers are a cluster already.
    let told = cluster.fails(3, &words(&with(&["--spec", ".", "--yes"])));
    assert!(told.contains("cluster"), "{told}");
    cluster.edit("redis.yaml", "size: 6", "size: 7");
    let told = cluster.fails(3, &words(&with(&["--spec", ".", "--yes"])));
    assert!(told.contains("says something else"), "{told}");
}
