//! Drills on real clusters: what they report is what happened.

mod world;

use std::process::Command as Process;

use anyhow::{Context, Result};
use world::{Server, need_redis, regrow, regrow_ok, whole};

const HOSTS: [&str; 3] = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];

/// A cluster of three masters with a replica each.
fn cluster() -> Result<Vec<Server>> {
    let servers: Vec<Server> = HOSTS.iter().chain(&HOSTS).map(|host| Server::node(host)).collect::<Result<_>>()?;
    let addresses: Vec<String> = servers.iter().map(|server| server.address.to_string()).collect();
    let mut words = vec!["create", "--replicas", "1", "--yes"];
    words.extend(addresses.iter().map(String::as_str));
    regrow_ok(&words)?;
    Ok(servers)
}

/// Ends a server that a drill has started, however the test ends.
struct Restarted<'a>(&'a Server);

impl Drop for Restarted<'_> {
    fn drop(&mut self) {
        let address = &self.0.address;
        let _ = Process::new("redis-cli")
            .args(["-h", &address.host, "-p", &address.port.to_string(), "SHUTDOWN", "NOSAVE", "NOW", "FORCE"])
            .output();
    }
}

/// No key of a drill is left behind on any master.
fn clean(servers: &[Server]) -> Result<()> {
    for server in servers {
        let left = server.cli(&["--scan", "--pattern", "regrow:drill:*"])?;
        assert_eq!(left, "", "{}", server.address);
    }
    Ok(())
}

/// A broken master is replaced; the drill sees when, and that the old one comes back as a replica.
fn break_a_master(fault: &str) -> Result<()> {
    let servers = cluster()?;
    let asked = &servers[1].address;
    let status = regrow_ok(&["status", "--json", &asked.to_string()])?.json();
    let master = status["masters"][0]["address"].as_str().context("a master")?.to_owned();
    let server = servers.iter().find(|server| server.address.to_string() == master).context("its server")?;
    assert_ne!(server.address, *asked, "the first plan puts the first slots on the first server");
    let _restarted = Restarted(server);
    let page = server.folder().join("drill.html");
    let (start, page_text) = (server.start_command(), page.display().to_string());
    let mut words = vec!["drill", "--fault", fault, "--node", &master, "--start-with", &start, "--html", &page_text];
    let entry = asked.to_string();
    words.extend(["--yes", "--json", "--rate", "400", &entry]);
    let ran = regrow_ok(&words)?;
    let report = &ran.json()["drills"][0];
    let number = |name: &str| report[name].as_u64().with_context(|| format!("{name} in {report}"));
    let text = |name: &str| report[name].as_str();
    assert_eq!(
        (text("fault"), text("role"), text("rejoined_as")),
        (Some(fault), Some("master"), Some("replica")),
        "{report}"
    );
    let (detected, promoted) = (number("detected_ms")?, number("promoted_ms")?);
    assert!(number("suspected_ms")? <= detected && detected <= promoted, "{report}");
    assert!(
        number("unavailable_ms")? > 0 && number("first_good_write_ms")? > 0 && number("writes_failed")? > 0,
        "{report}"
    );
    assert!(number("redundant_ms")? >= promoted && number("writes_acknowledged")? > 200, "{report}");
    assert!(number("lost")? + number("lost_with_wait")? <= number("writes_acknowledged")?, "{report}");
    assert!(std::fs::read_to_string(&page)?.contains("promoted after"));
    whole(asked)?;
    clean(&servers)
}

#[test]
fn kill_a_master() -> Result<()> {
    need_redis!("kill_a_master");
    break_a_master("kill")
}

#[test]
fn stop_a_master() -> Result<()> {
    need_redis!("stop_a_master");
    break_a_master("stop")
}

/// A paused replica costs no write; limits that are broken make the drill fail; hands that are missing are asked for before
/// anything is broken.
#[test]
fn pause_and_limits() -> Result<()> {
    need_redis!("pause_and_limits");
    let servers = cluster()?;
    let entry = servers[0].address.to_string();
    let status = regrow_ok(&["status", "--json", &entry])?.json();
    let replica = status["masters"][0]["replicas"][0]["address"].as_str().context("a replica")?.to_owned();
    let calm = regrow_ok(&[
        "drill",
        &entry,
        "--fault",
        "pause",
        "--node",
        &replica,
        "--yes",
        "--json",
        "--max-lost",
        "0",
        "--max-unavailable-ms",
        "1000",
    ])?;
    let report = &calm.json()["drills"][0];
    assert_eq!(
        (report["role"].as_str(), report["lost"].as_u64(), report["promoted_ms"].as_u64()),
        (Some("replica"), Some(0), None),
        "{report}"
    );
    assert!(report["detected_ms"].as_u64().is_some() && report["redundant_ms"].as_u64().is_some(), "{report}");
    whole(&servers[0].address)?;

    // One acknowledged write is taken away behind the drill's back, on its own master: exactly one is found to be lost.
    let master = &servers[0].address;
    let cli = format!("redis-cli -h {} -p {}", master.host, master.port);
    let resume = format!("kill -CONT {{pid}} && {cli} DEL $({cli} --scan --pattern 'regrow:drill:*' | head -1)");
    let robbed = regrow(&[
        "drill",
        &entry,
        "--fault",
        "pause",
        "--node",
        &replica,
        "--resume-with",
        &resume,
        "--yes",
        "--json",
        "--max-lost",
        "0",
    ])?;
    assert_eq!(robbed.code, 1, "{robbed:?}");
    let report = &robbed.json()["drills"][0];
    assert_eq!(report["role"].as_str(), Some("replica"), "{report}");
    assert_eq!(report["lost"].as_u64().zip(report["lost_with_wait"].as_u64()).map(|(a, b)| a + b), Some(1), "{report}");

    // Without a name it is always the master of the first slot, whoever that is by then.
    let strict = regrow(&["drill", &entry, "--fault", "pause,pause", "--yes", "--json", "--max-unavailable-ms", "1"])?;
    assert_eq!(strict.code, 1, "{strict:?}");
    let (drills, exceeded) = (&strict.json()["drills"], &strict.json()["exceeded"]);
    assert_eq!((drills[0]["role"].as_str(), drills[1]["role"].as_str()), (Some("master"), Some("master")), "{drills}");
    assert_ne!(drills[0]["node"], drills[1]["node"], "the first drill has made another the master");
    assert!(exceeded[1].as_str().context("two are beyond")?.starts_with("no write was acknowledged for"), "{exceeded}");
    whole(&servers[0].address)?;
    clean(&servers)?;

    let handless = regrow(&["drill", &entry, "--fault", "kill", "--yes"])?;
    assert_eq!(handless.code, 3, "{handless:?}");
    assert!(handless.err.contains("say how to start it"), "{handless:?}");
    let unasked = regrow(&["drill", &entry])?;
    assert_eq!(unasked.code, 3, "{unasked:?}");
    whole(&servers[0].address)
}
