//! Migrations from servers that refuse replication, as hosted ones do: by `SCAN`, `DUMP` and keyspace events, under live writes, with
//! things killed and cut in the middle.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod world;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use world::client::Client;
use world::content::{contents, differences, values};
use world::data::{every_kind, every_kind_of_six, largest};
use world::digest::same;
use world::migrator::{Migrator, alone, cluster, equal, fail_over, fill, masters, server, size, url};
use world::relay::Relay;
use world::writers::Writers;
use world::{Patience, Server, need_redis, open, regrow, send};

/// Where `make test` puts Redis 6.2.
const OLD: &str = "/usr/local/lib/regrow-tests/redis-6.2/redis-server";

/// What a provider takes away.
const HOSTED: [&str; 9] =
    ["--rename-command", "PSYNC", "", "--rename-command", "SYNC", "", "--rename-command", "REPLCONF", ""];

/// A server without replication, which tells all events.
fn hosted(more: &[&str]) -> Result<Server> {
    let mut settings = HOSTED.to_vec();
    settings.extend(["--notify-keyspace-events", "AE"]);
    settings.extend(more);
    server(&settings)
}

/// What is not possible is refused before anything is changed, and the way that is possible is named.
#[tokio::test]
async fn refusals() -> Result<()> {
    need_redis!("refusals");
    let (source, target) = (server(&HOSTED)?, server(&[])?);
    fill(&source, 10).await?;
    let state = tempfile::tempdir()?;
    let (from, to, state) = (url(&source), url(&target), state.path().join("s").display().to_string());
    let base = ["migrate", "--from", &from, "--to", &to, "--yes", "--state", &state];
    for (more, says) in [
        (&["--once"][..], "give --by scan"),
        (&["--once", "--by", "scan"], "set its notify-keyspace-events from \"\" to \"AE\""),
        (&["--by", "scan", "--cut-over", "--way-back", "--proxy", "/none"], "no way back from a migration by scan"),
    ] {
        let ran = regrow(&[&base[..], more].concat())?;
        ensure!(ran.code == 3 && ran.err.contains(says), "{more:?}: {ran:?}");
    }
    // No library is left behind in silence, because it may not be read.
    source.cli(&["CONFIG", "SET", "notify-keyspace-events", "AE"])?;
    source.cli(&["ACL", "SETUSER", "default", "-function|dump"])?;
    let ran = regrow(&[&base[..], &["--by", "scan", "--once"]].concat())?;
    ensure!(ran.code == 3 && ran.err.contains("right to FUNCTION DUMP"), "{ran:?}");
    ensure!(open(&target).await?.call(&Command::new("DBSIZE")).await? == Value::Int(0));
    // One that has begun by scan does not go on by replication, although this source allows it.
    let free = server(&["--notify-keyspace-events", "AE"])?;
    let mut migrator = Migrator::new(&url(&free), &to, &["--by", "scan"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    migrator.kill()?;
    let place = migrator.state().display().to_string();
    let words = ["migrate", "--from", &url(&free), "--to", &to, "--yes", "--once", "--state", &place];
    let ran = regrow(&words)?;
    ensure!(ran.code == 3 && ran.err.contains("began by scan, and cannot go on by replication"), "{ran:?}");
    Ok(())
}

/// Once, without live writes: every type and encoding, values in pieces and several databases arrive, with functions and expiries.
#[tokio::test]
async fn once() -> Result<()> {
    need_redis!("once");
    let (source, target) = (hosted(&[])?, server(&[])?);
    let mut link = open(&source).await?;
    send(&mut link, &every_kind()).await?;
    for command in largest(size(20 << 20, 512 << 20) as usize, size(200_000, 5_000_000)) {
        link.call(&command).await?;
    }
    let big = |n: u64| {
        let fields = (0..1000).map(|field| (format!("{n}:{field}"), "x".repeat(400)));
        fields.fold(Command::new("HSET").arg("big hash"), |command, (field, value)| command.arg(field).arg(value))
    };
    send(&mut link, &(0..60).map(big).collect::<Vec<_>>()).await?;
    let big =
        |n: u64| Command::new("RPUSH").arg("big list").args((0..1000).map(|item| format!("{n}:{item}").repeat(20)));
    send(&mut link, &(0..200).map(big).collect::<Vec<_>>()).await?;
    send(&mut link, &[Command::new("PEXPIRE").arg("big list").number(7_654_321)]).await?;
    let state = tempfile::tempdir()?;
    let (from, to, state) = (url(&source), url(&target), state.path().join("s").display().to_string());
    let words = ["migrate", "--by", "scan", "--from", &from, "--to", &to, "--db", "0=0", "--db", "3=3", "--once"];
    let ran = regrow(&[&words[..], &["--yes", "--json", "--state", &state]].concat())?;
    assert_eq!(ran.code, 0, "{ran:?}");
    let outcome = ran.json();
    assert_eq!((&outcome["done"], &outcome["verdict"]["different"]), (&true.into(), &0.into()));
    assert_eq!(outcome["status"]["silent"]["count"], 0, "{outcome}");
    same(&alone(&source), &alone(&target)).await?;
    let keys = equal(&alone(&source), &alone(&target), &[3]).await?;
    assert!(keys > 0);
    assert!(target.cli(&["FUNCTION", "LIST"])?.contains("lib"));
    assert!(!target.cli(&["KEYS", "*"])?.contains("regrow"), "our own keys are gone");
    Ok(())
}

/// Writes of every family go on while the migrator is killed, the link is cut, a master of the target dies, and a database is
/// emptied: at the end both sides are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_trouble() -> Result<()> {
    need_redis!("through_trouble");
    let source = hosted(&[])?;
    fill(&source, size(5000, 500_000)).await?;
    let mut target = cluster(3, 1)?;
    let relay = Relay::start(&source.address).await?;
    let (from, to) = (format!("redis://{}", relay.address), url(&target[0]));
    let writers = Writers::start(&source.address, 2, true, 30);
    let mut migrator = Migrator::new(&from, &to, &["--by", "scan", "--rate", &size(4000, 100_000).to_string()])?;
    for pause in [400, 900] {
        migrator.start()?;
        // The fault itself: at any moment.
        tokio::time::sleep(Duration::from_millis(pause)).await;
        migrator.kill()?;
    }
    migrator.start()?;
    migrator.until("in step").await?;
    relay.cut();
    let mut link = open(&source).await?;
    let gone: Vec<Command> = (0..500).map(|index| Command::new("DEL").arg(format!("small:{index}"))).collect();
    send(&mut link, &gone).await?;
    relay.mend();
    fail_over(&mut target).await?;
    migrator.until("reading all again").await?;
    writers.until_more(500).await?;
    send(&mut link, &[Command::new("FLUSHDB")]).await?;
    let fresh = |index| Command::new("SET").arg(format!("fresh:{index}")).arg("v").arg("PX").number(5_000_000 + index);
    send(&mut link, &(0..500u64).map(fresh).collect::<Vec<_>>()).await?;
    writers.end().await?;
    migrator.cut_over().await?;
    let keys = equal(&alone(&source), &masters(&target).await?, &[0]).await.with_context(|| migrator.said())?;
    assert!(keys >= 500, "{keys}");
    Ok(())
}

/// What tells no event is carried over as well: what is acknowledged, claimed and given out of a stream, a library, and databases that are
/// exchanged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_events() -> Result<()> {
    need_redis!("without_events");
    let (source, target) = (hosted(&[])?, server(&[])?);
    let mut link = open(&source).await?;
    let on = |name: &'static str| Command::new(name).arg("stream");
    let mut commands: Vec<Command> = (1..50).map(|n| on("XADD").arg(format!("{n}-1")).args(["f", "v"])).collect();
    commands.push(Command::new("XGROUP CREATE").args(["stream", "group", "0"]));
    commands.push(Command::new("PFADD").arg("hll").args(["a", "b", "c"]));
    commands.extend([Command::new("SELECT 1"), Command::new("SET").args(["in one", "1"]), Command::new("SELECT 0")]);
    send(&mut link, &commands).await?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &["--by", "scan", "--db", "0=0", "--db", "1=1"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let silent = [
        Command::new("XREADGROUP GROUP").args(["group", "one", "COUNT", "20", "STREAMS", "stream", ">"]),
        on("XACK").args(["group", "1-1", "2-1", "3-1"]),
        on("XCLAIM").args(["group", "one", "0", "5-1", "RETRYCOUNT", "9", "JUSTID"]),
        Command::new("PFCOUNT").arg("hll"),
        Command::new("FUNCTION LOAD")
            .arg("#!lua name=later\nredis.register_function('later', function() return 1 end)"),
    ];
    send(&mut link, &silent).await?;
    migrator.ask(&["--cut-over", "--switch-with", "false"]).await?;
    migrator.end().await?;
    // The migration is not over, so the target has keys of its own.
    let mut there = contents(&alone(&target), &[0, 1]).await?;
    there.retain(|(_, key), _| !key.starts_with(b"regrow:"));
    let found = differences(&contents(&alone(&source), &[0, 1]).await?, &there);
    ensure!(found.is_empty(), "{}\n{}", found.join("\n"), migrator.said());
    assert!(target.cli(&["FUNCTION", "LIST"])?.contains("later"));
    // Again, from what is remembered.
    migrator.start()?;
    migrator.until("in step").await?;
    send(&mut link, &[Command::new("SWAPDB").args(["0", "1"]), Command::new("SET").args(["after", "1"])]).await?;
    migrator.cut_over().await?;
    let keys = equal(&alone(&source), &alone(&target), &[0, 1]).await.with_context(|| migrator.said())?;
    assert_eq!(keys, 4);
    Ok(())
}

/// A key whose expiry is renewed in each way while it is on its way is not lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_expiries() -> Result<()> {
    need_redis!("renewed_expiries");
    let source = hosted(&[])?;
    let target = cluster(3, 0)?;
    let mut link = open(&source).await?;
    let key = |way: u64, index: u64| format!("renewed:{way}:{index}");
    let all = || (0..4u64).flat_map(|way| (0..100u64).map(move |index| (way, index)));
    let set = |(way, index)| Command::new("SET").arg(key(way, index)).arg("v").arg("PX").number(3000);
    send(&mut link, &all().map(set).collect::<Vec<_>>()).await?;
    let mut migrator = Migrator::new(&url(&source), &url(&target[0]), &["--by", "scan"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    let renew = |(way, index)| match way {
        0 => Command::new("PEXPIRE").arg(key(way, index)).number(6_000_000 + index),
        1 => Command::new("GETEX").arg(key(way, index)).arg("PX").number(6_000_000 + index),
        2 => Command::new("SET").arg(key(way, index)).arg("w").arg("PX").number(6_000_000),
        _ => Command::new("PERSIST").arg(key(way, index)),
    };
    send(&mut link, &all().map(renew).collect::<Vec<_>>()).await?;
    migrator.cut_over().await?;
    assert_eq!(equal(&alone(&source), &masters(&target).await?, &[0]).await?, 400, "{}", migrator.said());
    Ok(())
}

/// From a cluster, whose master fails over meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_cluster() -> Result<()> {
    need_redis!("from_a_cluster");
    // Its own nodes replicate; that we could is not used.
    let mut source = cluster(3, 1)?;
    for node in &source {
        node.cli(&["CONFIG", "SET", "notify-keyspace-events", "AE"])?;
    }
    let target = cluster(3, 0)?;
    let to = url(&target[0]);
    let from: Vec<String> = source.iter().map(|node| node.address.to_string()).collect();
    let mut client = Client::new(&source[0].address);
    for index in 0..2000 {
        let key = format!("key:{index}");
        client.call(&key, Command::new("SET").arg(&key).arg("v")).await?;
    }
    let mut migrator = Migrator::new(&format!("redis-cluster://{}", from.join(",")), &to, &["--by", "scan"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    fail_over(&mut source).await?;
    let patience = Patience::new("the source is whole again");
    for address in masters(&source).await? {
        let mut link = Dialer::default().connect(&address).await?;
        while !link.text(&Command::new("CLUSTER INFO")).await?.contains("cluster_state:ok") {
            patience.or_fail()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let mut client = Client::new(&source[0].address);
    for index in 1000..3000 {
        let key = format!("key:{index}");
        client.call(&key, Command::new("APPEND").arg(&key).arg("w")).await?;
    }
    migrator.cut_over().await?;
    let keys = equal(&masters(&source).await?, &masters(&target).await?, &[0]).await?;
    assert_eq!(keys, 3000, "{}", migrator.said());
    Ok(())
}

/// From Redis 6.2, which tells what is left of a life only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_six() -> Result<()> {
    need_redis!("from_six");
    if !Path::new(OLD).exists() {
        eprintln!("SKIPPED: from_six: no Redis 6.2 at {OLD}");
        return Ok(());
    }
    let settings = [&HOSTED[..], &["--notify-keyspace-events", "AE"]].concat();
    let source = Server::start_as(Path::new(OLD), "127.0.0.1", &settings)?;
    let target = server(&[])?;
    let mut link = open(&source).await?;
    send(&mut link, &every_kind_of_six()).await?;
    let writers = Writers::start(&source.address, 2, true, 20);
    let mut migrator = Migrator::new(&url(&source), &url(&target), &["--by", "scan"])?;
    migrator.start()?;
    migrator.until("in step").await?;
    writers.until_more(1000).await?;
    writers.end().await?;
    migrator.cut_over().await?;
    let patience = Patience::new("both sides the same");
    loop {
        let (a, b) = (values(&alone(&source), &[0]).await?, values(&alone(&target), &[0]).await?);
        let found = differences(&a, &b);
        if found.is_empty() {
            return Ok(());
        }
        patience.or_fail().with_context(|| found[..found.len().min(10)].join("\n"))?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
