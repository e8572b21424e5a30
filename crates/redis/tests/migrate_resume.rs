//! Where a migration goes on after it was killed, and what it believes of a target that came back with less than it had.

mod world;

use std::fs::File;
use std::io::BufReader;

use std::path::Path;
use std::process::Command as Program;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::rdb::{Reader, Record, Value};
use regrow_redis::resp::Command;
use world::migrator::{Migrator, alone, cluster, equal, masters, server, url};
use world::writers::Dice;
use world::{Patience, Server, need_redis, open, send};

/// Killed right after a long value: the key after it is not taken for one that is there already.
#[tokio::test]
async fn right_after_a_long_value() -> Result<()> {
    need_redis!("right_after_a_long_value");
    let source = server(&[])?;
    let mut link = open(&source).await?;
    let mut dice = Dice::new(1);
    for index in 0..5 {
        // What a snapshot cannot make short.
        let items: Vec<String> = (0..100_000).map(|_| format!("{:016x}", dice.roll(u64::MAX))).collect();
        let push = Command::new("RPUSH").arg(format!("long:{index}")).args(&items);
        send(&mut link, &[push]).await?;
    }
    let set = |n| Command::new("SET").arg(format!("short:{n}")).arg("value");
    send(&mut link, &(0..1000).map(set).collect::<Vec<_>>()).await?;
    let target = server(&[])?;
    let mut migrator = Migrator::new(&url(&source), &url(&target), &["--rate", "200"])?;
    migrator.start()?;
    migrator.until("keys/s").await?;
    migrator.kill()?;

    let folder = migrator.state().join("feed-0");
    let mut reader = Reader::new(BufReader::new(File::open(folder.join("snapshot.rdb"))?))?;
    let (mut keys, mut place) = (0, None);
    let (bytes, loaded, next) = loop {
        let Record::Key(key) = reader.next_record()?.context("no key after a long one")? else { continue };
        if let Some((bytes, loaded)) = place {
            break (bytes, loaded, key.name);
        }
        keys += 1;
        reader.pass_over()?;
        place = (key.value == Value::Long).then(|| (reader.offset(), keys));
    };
    let journal = folder.join("journal.json");
    let mut read: serde_json::Value = serde_json::from_slice(&std::fs::read(&journal)?)?;
    assert_eq!(read["stage"], "loading");
    (read["loaded"], read["loaded_keys"]) = (bytes.into(), loaded.into());
    std::fs::write(&journal, serde_json::to_vec(&read)?)?;

    // What comes before that place is not looked at any more; so all that is there afterwards was loaded from there on.
    let mut there = open(&target).await?;
    let all: Vec<String> = (0..5).map(|n| format!("long:{n}")).chain((0..1000).map(|n| format!("short:{n}"))).collect();
    send(&mut there, &[Command::new("UNLINK").args(&all)]).await?;
    migrator.words.truncate(migrator.words.len() - 2);
    migrator.start()?;
    migrator.until("in step").await?;
    assert_eq!(there.int(&Command::new("EXISTS").arg(&next)).await?, 1, "{next:?}");
    assert_eq!(there.int(&Command::new("EXISTS").args(&all)).await?, 1005 - loaded);
    Ok(())
}

/// A master of a target, and its replica, which is held still so that it gets nothing more.
struct Stale {
    target: Vec<Server>,
    master: usize,
    replica: usize,
    /// A hash tag of the master's keys, and one of another master's.
    here: String,
    elsewhere: String,
}

impl Stale {
    async fn new(target: Vec<Server>) -> Result<Self> {
        let entry = open(&target[0]).await?.info().await?;
        let master = usize::from(entry.text("role") != Some("master"));
        let mut replica = None;
        for (index, node) in target.iter().enumerate() {
            let port = open(node).await?.info().await?.number("master_port");
            if port == Some(target[master].address.port.into()) {
                replica = Some(index);
            }
        }
        let mut link = open(&target[master]).await?;
        let (mut here, mut elsewhere) = (None, None);
        for tag in (0..100).map(|n| format!("{{{n}}}")) {
            let place =
                if link.call(&Command::new("GET").arg(&tag)).await.is_ok() { &mut here } else { &mut elsewhere };
            place.get_or_insert(tag);
        }
        let (here, elsewhere) = (here.context("a tag here")?, elsewhere.context("a tag elsewhere")?);
        let replica = replica.context("a replica")?;
        let stale = Self { target, master, replica, here, elsewhere };
        stale.signal("-STOP")?;
        Ok(stale)
    }

    fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.target[self.replica].pid().to_string();
        ensure!(Program::new("kill").args([signal, &pid]).status()?.success(), "kill {signal}");
        Ok(())
    }

    /// Waits until the master has a key.
    async fn has(&self, key: &str) -> Result<()> {
        let patience = Patience::new("the key");
        let mut link = open(&self.target[self.master]).await?;
        while link.int(&Command::new("EXISTS").arg(key)).await? == 0 {
            patience.or_fail()?;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// The master dies, and its replica is made master, with what it had.
    async fn promoted(&mut self) -> Result<()> {
        self.target[self.master].kill()?;
        self.signal("-CONT")?;
        let patience = Patience::new("promotion");
        while open(&self.target[self.replica]).await?.info().await?.text("role") != Some("master")
            || masters(&self.target).await?.len() < 3
        {
            patience.or_fail()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// A migration in step, from a server to a cluster of which a replica is held still.
async fn in_step() -> Result<(Server, Migrator, Stale)> {
    let source = server(&["--repl-backlog-size", "64mb"])?;
    let target = cluster(3, 1)?;
    let mut migrator = Migrator::new(&url(&source), &entries(&target), &[])?;
    migrator.start()?;
    migrator.until("in step").await?;
    Ok((source, migrator, Stale::new(target).await?))
}

fn entries(nodes: &[Server]) -> String {
    let addresses: Vec<String> = nodes.iter().map(|node| node.address.to_string()).collect();
    format!("redis-cluster://{}", addresses.join(","))
}

fn base(state: &Path) -> Result<i64> {
    let journal: serde_json::Value = serde_json::from_slice(&std::fs::read(state.join("feed-0/journal.json"))?)?;
    journal["base"].as_i64().context("its base")
}

/// A replica that missed the last writes is made master while keys are copied from it to another master: the copies are not made
/// from what it has, but again when it has what it should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_are_not_made_from_a_stale_replica() -> Result<()> {
    need_redis!("copies_are_not_made_from_a_stale_replica");
    let (source, mut migrator, mut stale) = in_step().await?;
    let (here, elsewhere) = (stale.here.clone(), stale.elsewhere.clone());
    // More than the system's buffers hold on the way to it: the rest dies with the master.
    let filler = "x".repeat(1 << 20);
    let mut link = open(&source).await?;
    let fill = |n| Command::new("SET").arg(format!("{here}filler:{n}")).arg(&filler);
    send(&mut link, &(0..40).map(fill).collect::<Vec<_>>()).await?;
    const COPIED: usize = 4000;
    let set = |n| Command::new("SET").arg(format!("{here}from:{n}")).arg("value");
    send(&mut link, &(0..COPIED).map(set).collect::<Vec<_>>()).await?;
    stale.has(&format!("{here}from:{}", COPIED - 1)).await?;
    let mut copying: Connection = Dialer::default().connect(&source.address).await?;
    let copies = tokio::spawn(async move {
        for n in 0..COPIED {
            let copy = Command::new("COPY").arg(format!("{here}from:{n}")).arg(format!("{elsewhere}to:{n}"));
            copying.call(&copy).await?;
            if n % 10 == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        anyhow::Ok(())
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    stale.promoted().await?;
    copies.await??;
    migrator.cut_over().await?;
    equal(&alone(&source), &masters(&stale.target).await?, &[0]).await?;
    Ok(())
}

/// A master that had no replica connected confirms alone. When it dies with the migrator, and its replica of before is made master,
/// what is missing is noticed, though the writes were given up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_master_confirmed_alone_is_missed() -> Result<()> {
    need_redis!("what_a_master_confirmed_alone_is_missed");
    let (source, mut migrator, mut stale) = in_step().await?;
    stale.target[stale.master].cli(&["CLIENT", "KILL", "TYPE", "replica"])?;
    let mut link = open(&source).await?;
    let set = |n| Command::new("SET").arg(format!("{}lost:{n}", stale.here)).arg("value");
    send(&mut link, &(0..100).map(set).collect::<Vec<_>>()).await?;
    let written = link.info().await?.number("master_repl_offset").context("its position")?;
    let patience = Patience::new("confirmed");
    while base(&migrator.state())? < written {
        patience.or_fail()?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    migrator.kill()?;
    stale.promoted().await?;
    migrator.start()?;
    migrator.cut_over().await?;
    equal(&alone(&source), &masters(&stale.target).await?, &[0]).await?;
    Ok(())
}
