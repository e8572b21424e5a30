//! One migration through everything that may happen to it, of a data set that has everything. With `REGROW_FULL=1`: five million keys,
//! values of 512 MiB and of five million members, 5,000 writes a second.

#![allow(clippy::print_stdout, reason = "what a full run has done is told")]

mod world;

use std::io::Write;
use std::process::{Child, Command as Program, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use regrow_redis::resp::Command;
use world::data::{every_kind, largest, numbered};
use world::digest::same;
use world::migrator::{Migrator, alone, cluster, fail_over, masters, server, size};
use world::relay::Relay;
use world::writers::{Dice, Writers};
use world::{Server, need_redis, open, send};

/// `redis-cli` as a client that writes all over the data set, one command after another.
struct Cli {
    child: Child,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    lines: JoinHandle<std::io::Result<()>>,
}

impl Cli {
    /// `a_second`: commands, at most.
    fn start(server: &Server, keys: u64, a_second: u64) -> Result<Self> {
        let mut child = Program::new("redis-cli")
            .args(["-p", &server.address.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut input = child.stdin.take().context("its input")?;
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let lines = std::thread::spawn(move || {
            let mut dice = Dice::new(99);
            while !stopped.load(Ordering::Relaxed) {
                for _ in 0..a_second.div_ceil(50) {
                    let (key, n) = (format!("key:{}", dice.roll(keys)), dice.roll(1000));
                    let line = match dice.roll(16) {
                        0 => format!("SET {key} {n}"),
                        1 => format!("SET {key} \"text \\x00 {n}\" EX {}", 5 + n),
                        2 => format!("DEL {key}"),
                        3 => format!("PERSIST {key}"),
                        4 => format!("PEXPIRE {key} {}", 100 + n * n),
                        5 => format!("APPEND {key} {n}"),
                        6 => format!("INCRBY {key} {n}"),
                        7 => format!("HSET {key} field {n}"),
                        8 => format!("HINCRBY {key} count {n}"),
                        9 => format!("LPUSH {key} {n} {n}"),
                        10 => format!("RPOP {key}"),
                        11 => format!("SADD {key} {n} \"member {n}\""),
                        12 => format!("ZINCRBY {key} 0.5 \"member {n}\""),
                        13 => format!("XADD {key} * field {n}"),
                        14 => format!("RENAME {key} key:{}", dice.roll(keys)),
                        _ => format!("COPY {key} key:{} REPLACE", dice.roll(keys)),
                    };
                    writeln!(input, "{line}")?;
                    count.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            Ok(())
        });
        Ok(Self { child, stop, written, lines })
    }

    /// Ends when all that was given to it is answered; how many commands there were.
    fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.lines.join().map_err(|_| anyhow::anyhow!("the lines broke off"))??;
        anyhow::ensure!(self.child.wait()?.success(), "redis-cli failed");
        Ok(self.written.load(Ordering::Relaxed))
    }
}

/// Keys whose expiries are renewed in each way.
const RENEWED: u64 = 200;
const WAYS: [&str; 4] = ["PEXPIRE", "GETEX", "SET", "PERSIST"];

/// The migrator is killed ten times, a replica of the source dies, the target is full, one of its masters dies for good, the link to the
/// source is cut, expiries are renewed in every way while their keys are on the way: at the end both sides are the same, key by key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_everything() -> Result<()> {
    need_redis!("through_everything");
    let source = server(&["--repl-backlog-size", "256mb"])?;
    let keys = size(10_000, 5_000_000);
    let mut link = open(&source).await?;
    let all = every_kind();
    // The last three are of another database.
    send(&mut link, &all[..all.len() - 3]).await?;
    for command in largest(size(4 << 20, 512 << 20) as usize, size(20_000, 5_000_000)) {
        link.call(&command).await?;
    }
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    for some in (0..keys).collect::<Vec<_>>().chunks(500) {
        let commands: Vec<Command> = some.iter().flat_map(|index| numbered(*index, now_ms)).collect();
        send(&mut link, &commands).await?;
    }
    let mut replica = server(&["--replicaof", "127.0.0.1", &source.address.port.to_string()])?;
    let mut target = cluster(3, 1)?;
    for node in &target {
        node.cli(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"])?;
    }
    let relay = Relay::start(&source.address).await?;
    let entry = format!("redis-cluster://{}", target[0].address);
    let from = format!("redis://{}", relay.address);
    let mut migrator = Migrator::new(&from, &entry, if keys < 1_000_000 { &["--rate", "1000"] } else { &[] })?;

    let renewed = |name: &str, index: u64| format!("renewed:{name}:{index}");
    for name in WAYS {
        let set = |index| Command::new("SET").arg(renewed(name, index)).arg("v").arg("PX").number(size(15_000, 60_000));
        send(&mut link, &(0..RENEWED).map(set).collect::<Vec<_>>()).await?;
    }
    let writers = Writers::start(&source.address, size(2, 8), true, size(40, 20));
    let cli = Cli::start(&source, keys, size(200, 1500))?;
    migrator.start()?;
    migrator.until("keys/s").await?;
    for index in 0..RENEWED {
        let renew = [
            Command::new("PEXPIRE").arg(renewed("PEXPIRE", index)).number(6_000_000 + index),
            Command::new("GETEX").arg(renewed("GETEX", index)).arg("PX").number(6_000_000 + index),
            Command::new("SET").arg(renewed("SET", index)).arg("w").arg("PX").number(6_000_000),
            Command::new("PERSIST").arg(renewed("PERSIST", index)),
        ];
        send(&mut link, &renew).await?;
    }

    let mut dice = Dice::new(5);
    let again = async |migrator: &mut Migrator, dice: &mut Dice| {
        for _ in 0..size(2, 5) {
            migrator.kill()?;
            migrator.start()?;
            // The fault itself: at any moment.
            tokio::time::sleep(Duration::from_millis(200 + dice.roll(size(800, 15_000)))).await;
        }
        anyhow::Ok(())
    };
    again(&mut migrator, &mut dice).await?;
    replica.kill()?;
    for node in &target {
        node.cli(&["CONFIG", "SET", "maxmemory", "1mb"])?;
    }
    migrator.until("OOM").await?;
    replica.restart()?;
    for node in &target {
        node.cli(&["CONFIG", "SET", "maxmemory", "0"])?;
    }
    migrator.until("in step").await?;
    again(&mut migrator, &mut dice).await?;

    fail_over(&mut target).await?;
    relay.cut();
    tokio::time::sleep(Duration::from_secs(size(1, 60))).await;
    relay.mend();
    migrator.kill()?;
    migrator.start()?;
    migrator.until("in step").await?;
    let (written, by_cli) = (writers.end().await?, cli.end()?);
    migrator.cut_over().await?;
    // A node that takes seconds for the digest of a huge value must not be held for dead.
    for node in &target {
        node.cli(&["CONFIG", "SET", "cluster-node-timeout", "600000"])?;
    }
    let found = same(&alone(&source), &masters(&target).await?).await.with_context(|| migrator.said())?;
    assert!(found as u64 > keys / 2 && written > 500 && by_cli > 200, "{found} keys, {written} and {by_cli} writes");
    for name in WAYS {
        let there = Command::new("EXISTS").args((0..RENEWED).map(|index| renewed(name, index)));
        assert_eq!(link.int(&there).await?.unsigned_abs(), RENEWED, "{name}");
    }
    println!("{found} keys the same after {written} and {by_cli} writes");
    Ok(())
}
