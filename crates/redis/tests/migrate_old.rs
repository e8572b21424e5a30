//! A migration from a real Redis 6.2, which tells replicas how long a key has left to live, not when it ends.

#![allow(clippy::print_stderr, reason = "a test that is skipped says so")]

mod world;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regrow_redis::address::Address;
use regrow_redis::connection::Dialer;
use regrow_redis::resp::{Command, Value};
use world::content::{differences, values};
use world::data::every_kind_of_six;
use world::migrator::{Migrator, alone, cluster, masters, server, size};
use world::relay::Relay;
use world::writers::Writers;
use world::{Patience, Server, need_redis, open, regrow, send};

/// Where `make test` puts it.
const OLD: &str = "/usr/local/lib/regrow-tests/redis-6.2/redis-server";

/// Milliseconds by which two expiries may differ.
const TOLERANCE_MS: i64 = 5;

/// When a key expires, in milliseconds since 1970, by what is left and the server's clock.
async fn expiry(at: &[Address], key: &[u8]) -> Result<Option<i64>> {
    for address in at {
        let mut link = Dialer::default().connect(address).await?;
        let found = link.pipeline(&[Command::new("PTTL").arg(key), Command::new("TIME")]).await?;
        if let Some(left) = found[0].int() {
            let part = |index: usize| found[1].array()?.get(index)?.text()?.parse::<i64>().ok();
            let now = part(0).context("seconds")? * 1000 + part(1).context("microseconds")? / 1000;
            return Ok((left >= 0).then_some(now + left));
        }
    }
    anyhow::bail!("nobody has {key:?}")
}

/// Every type and encoding, under writes of every family across slots, with the migrator killed; and expiries of a time in which the link
/// was cut, so that what was left of them came seconds late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_six() -> Result<()> {
    need_redis!("from_six");
    if !Path::new(OLD).exists() {
        eprintln!("SKIPPED: from_six: no Redis 6.2 at {OLD}");
        return Ok(());
    }
    let settings = ["--repl-diskless-sync-delay", "0", "--repl-backlog-size", "64mb"];
    let source = Server::start_as(Path::new(OLD), "127.0.0.1", &settings)?;
    let mut link = open(&source).await?;
    send(&mut link, &every_kind_of_six()).await?;
    let with = |n: u64| Command::new("SET").arg(format!("early:{n}")).arg("v").arg("PX").number(3_600_000 + n);
    send(&mut link, &(0..size(5000, 300_000)).map(with).collect::<Vec<_>>()).await?;

    let target = cluster(3, 0)?;
    let relay = Relay::start(&source.address).await?;
    let (from, to) = (format!("redis://{}", relay.address), format!("redis-cluster://{}", target[0].address));
    let mut migrator = Migrator::new(&from, &to, &["--rate", "1000"])?;
    let writers = Writers::start(&source.address, 2, true, 20);
    migrator.start()?;
    migrator.until("keys/s").await?;
    migrator.kill()?;
    migrator.start()?;
    migrator.until("in step").await?;
    relay.cut();
    let late = |n: u64| match n % 3 {
        0 => Command::new("SETEX").arg(format!("late:{n}")).number(1000 + n).arg("v"),
        1 => Command::new("SET").arg(format!("late:{n}")).arg("v").arg("PX").number(1_000_000 + n),
        _ => Command::new("PEXPIRE").arg(format!("early:{n}")).number(2_000_000 + n),
    };
    send(&mut link, &(0..300).map(late).collect::<Vec<_>>()).await?;
    // That what is left comes late is what is tested.
    tokio::time::sleep(Duration::from_secs(3)).await;
    relay.mend();
    writers.end().await?;
    migrator.cut_over().await?;

    let there = masters(&target).await?;
    let patience = Patience::new("both sides the same");
    let compared = loop {
        let (a, b) = (values(&alone(&source), &[0]).await?, values(&there, &[0]).await?);
        let found = differences(&a, &b);
        if found.is_empty() {
            break a;
        }
        // Keys that expire between the two readings.
        patience.or_fail().with_context(|| found[..found.len().min(10)].join("\n"))?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let mut expiring = 0;
    for n in 0..300u64 {
        let key = format!("{}:{n}", if n % 3 == 2 { "early" } else { "late" });
        let (here, there) = (expiry(&alone(&source), key.as_bytes()).await?, expiry(&there, key.as_bytes()).await?);
        let (here, there) = (here.context(key.clone())?, there.context(key.clone())?);
        ensure!((here - there).abs() <= TOLERANCE_MS, "{key}: {here} and {there}");
        expiring += 1;
    }
    ensure!(compared.len() > 5000 && expiring == 300, "{} keys", compared.len());
    Ok(())
}

/// What cannot be carried is refused before anything is changed: such a server as the target, and a way back to it.
#[tokio::test]
async fn not_to_six() -> Result<()> {
    need_redis!("not_to_six");
    if !Path::new(OLD).exists() {
        eprintln!("SKIPPED: not_to_six: no Redis 6.2 at {OLD}");
        return Ok(());
    }
    let (old, new) = (Server::start_as(Path::new(OLD), "127.0.0.1", &[])?, server(&[])?);
    let urls = [&old, &new].map(|server| format!("redis://{}", server.address));
    let state = tempfile::tempdir()?;
    let state = state.path().join("s").display().to_string();
    for (from, to) in [(&urls[1], &urls[0]), (&urls[0], &urls[0])] {
        let ran = regrow(&["migrate", "--from", from, "--to", to, "--once", "--yes", "--state", &state])?;
        ensure!(ran.code == 3 && ran.err.contains("7.0 is the oldest"), "{ran:?}");
    }
    ensure!(open(&old).await?.call(&Command::new("DBSIZE")).await? == Value::Int(0));
    Ok(())
}
