//! Clients that write all kinds of things.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::Result;
use regrow_redis::address::Address;
use regrow_redis::connection::{Connection, Dialer};
use regrow_redis::resp::{Command, Value};
use tokio::task::JoinSet;

use super::Patience;

/// A small generator of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Writers at work.
pub(crate) struct Writers {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    tasks: JoinSet<Result<()>>,
}

impl Writers {
    /// Starts some clients of one server. `across`: whether commands with several keys take any keys, as a server that is no
    /// cluster allows. `pause_ms`: between two pipelines of a client.
    pub(crate) fn start(server: &Address, clients: u64, across: bool, pause_ms: u64) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for client in 0..clients {
            let (server, stop, written) = (server.clone(), Arc::clone(&stop), Arc::clone(&written));
            tasks.spawn(async move {
                let mut link = Dialer::default().connect(&server).await?;
                let mut dice = Dice::new(client + 1);
                while !stop.load(Ordering::Relaxed) {
                    let count = write(&mut link, &mut dice, across).await?;
                    written.fetch_add(count, Ordering::Relaxed);
                    tokio::time::sleep(std::time::Duration::from_millis(pause_ms)).await;
                }
                Ok(())
            });
        }
        Self { stop, written, tasks }
    }

    /// Writes that were acknowledged so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits until so many more were acknowledged.
    pub(crate) async fn until_more(&self, count: u64) -> Result<()> {
        let (before, patience) = (self.written(), Patience::new("more writes"));
        while self.written() < before + count {
            patience.or_fail()?;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops them. How many writes there were.
    pub(crate) async fn end(mut self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        Ok(self.written())
    }
}

/// A pipeline of writes.
async fn write(link: &mut Connection, dice: &mut Dice, across: bool) -> Result<u64> {
    let commands: Vec<Command> = (0..10).flat_map(|_| some(dice, across)).collect();
    let answers = link.pipeline(&commands).await?;
    // A refusal is an answer, too: an index out of range, a member that is not there.
    for (command, answer) in commands.iter().zip(&answers) {
        if let Value::Error(message) = answer {
            let text = String::from_utf8_lossy(message);
            let known = [
                "ERR no such key",
                "ERR index out",
                "BUSYGROUP",
                "NOGROUP",
                "ERR The ID",
                "ERR value is not",
                "ERR The XGROUP",
                "ERR source and dest",
            ];
            anyhow::ensure!(known.iter().any(|start| text.starts_with(start)), "{command:?}: {text}");
        }
    }
    Ok(commands.len() as u64)
}

/// Keys of one kind.
const KEYS: u64 = 40;

/// One write, or a few that belong together, of any family of commands.
fn some(dice: &mut Dice, across: bool) -> Vec<Command> {
    // Several keys in one command: any, or of one hash tag.
    let tag = if across { String::new() } else { format!("{{{}}}", dice.roll(KEYS)) };
    let key = |dice: &mut Dice, kind: &str| format!("{tag}{kind}:{}", dice.roll(KEYS));
    let member = |dice: &mut Dice| format!("m{}", dice.roll(30));
    let on = |name: &'static str, key: String| Command::new(name).arg(key);
    let n = |dice: &mut Dice| (dice.roll(1000) as i128) - 500;
    let word: String = "x".repeat(dice.roll(40) as usize);
    let d = dice;
    vec![match d.roll(72) {
        0 => on("SET", key(d, "s")).arg(&word),
        1 => on("SET", key(d, "s")).arg(&word).arg("EX").number(100 + d.roll(1000)),
        2 => on("SET", key(d, "s")).arg(&word).arg("PX").number(50 + d.roll(400)),
        3 => on("SET", key(d, "s")).arg(&word).arg("KEEPTTL"),
        4 => on("APPEND", key(d, "s")).arg("ab"),
        5 => on("SETRANGE", key(d, "s")).number(d.roll(50)).arg("cd"),
        6 => on("SETBIT", key(d, "s")).number(d.roll(300)).number(1),
        7 => on("GETSET", key(d, "s")).arg(&word),
        8 => on("GETDEL", key(d, "s")),
        9 => on("GETEX", key(d, "s")).arg("PX").number(100 + d.roll(100_000)),
        10 => on("SETEX", key(d, "s")).number(1 + d.roll(100)).arg(&word),
        11 => on("PEXPIRE", key(d, "s")).number(50 + d.roll(300)),
        12 => on("EXPIRE", key(d, "h")).number(1 + d.roll(5)),
        13 => on("PEXPIRE", key(d, "l")).number(100 + d.roll(2000)),
        14 => on("PERSIST", key(d, "l")),
        15 => on("PERSIST", key(d, "h")),
        16 | 17 => on("INCR", key(d, "n")),
        18 => on("INCRBY", key(d, "n")).number(n(d)),
        19 => on("DECR", key(d, "n")),
        20 => on("INCRBYFLOAT", key(d, "f")).arg("0.25"),
        21 => on("BITFIELD", key(d, "s")).args(["INCRBY", "u8", "0", "3"]),
        22 => on("MSET", key(d, "s")).arg(&word).arg(key(d, "s")).arg("1").arg(key(d, "s")).arg("2"),
        23 => on("MSETNX", key(d, "nx")).arg(&word).arg(key(d, "nx")).arg("1"),
        24 => on("DEL", key(d, "nx")).arg(key(d, "nx")).arg(key(d, "s")),
        25 => on("UNLINK", key(d, "nx")).arg(key(d, "nx")),
        26 => on("RENAME", key(d, "s")).arg(key(d, "s")),
        27 => on("RENAMENX", key(d, "s")).arg(key(d, "nx")),
        28 => on("COPY", key(d, "s")).arg(key(d, "s")).arg("REPLACE"),
        29 => on("LPUSH", key(d, "l")).arg(member(d)).arg(&word),
        30 => on("RPUSH", key(d, "l")).arg(member(d)),
        31 => on("LPOP", key(d, "l")).number(1 + d.roll(2)),
        32 => on("RPOP", key(d, "l")),
        33 => on("LINSERT", key(d, "l")).arg("BEFORE").arg(member(d)).arg("new"),
        34 => on("LSET", key(d, "l")).number(d.roll(3)).arg("set"),
        35 => on("LTRIM", key(d, "l")).args(["0", "20"]),
        36 => on("LREM", key(d, "l")).arg("1").arg(member(d)),
        37 => {
            on("LMOVE", key(d, "l")).arg(key(d, "l")).args([["LEFT", "RIGHT"], ["RIGHT", "LEFT"]][d.roll(2) as usize])
        }
        38 => on("RPOPLPUSH", key(d, "l")).arg(key(d, "l")),
        39 | 40 => on("SADD", key(d, "set")).arg(member(d)).arg(member(d)),
        41 => on("SREM", key(d, "set")).arg(member(d)),
        42 => on("SPOP", key(d, "set")),
        43 => on("SMOVE", key(d, "set")).arg(key(d, "set")).arg(member(d)),
        44 => on("SUNIONSTORE", key(d, "set")).arg(key(d, "set")).arg(key(d, "set")),
        45 => on("SINTERSTORE", key(d, "set")).arg(key(d, "set")).arg(key(d, "set")),
        46 => on("SDIFFSTORE", key(d, "set")).arg(key(d, "set")).arg(key(d, "set")),
        47 | 48 => on("ZADD", key(d, "z")).number(n(d)).arg(member(d)),
        49 => on("ZINCRBY", key(d, "z")).arg("0.5").arg(member(d)),
        50 => on("ZREM", key(d, "z")).arg(member(d)),
        51 => on("ZPOPMIN", key(d, "z")),
        52 => on("ZUNIONSTORE", key(d, "z")).arg("2").arg(key(d, "z")).arg(key(d, "z")),
        53 => on("ZRANGESTORE", key(d, "z")).arg(key(d, "z")).args(["0", "10"]),
        54 => on("ZREMRANGEBYRANK", key(d, "z")).args(["20", "-1"]),
        55 | 56 => on("HSET", key(d, "h")).arg(member(d)).arg(&word),
        57 => on("HINCRBY", key(d, "hn")).arg(member(d)).number(n(d)),
        58 => on("HINCRBYFLOAT", key(d, "hf")).arg(member(d)).arg("0.5"),
        59 => on("HDEL", key(d, "h")).arg(member(d)),
        60 => on("XADD", key(d, "x")).args(["MAXLEN", "50", "*", "f"]).arg(&word),
        61 => on("XGROUP CREATE", key(d, "x")).args(["g", "0", "MKSTREAM"]),
        62 => Command::new("XREADGROUP GROUP").args(["g", "c", "COUNT", "3", "STREAMS"]).arg(key(d, "x")).arg(">"),
        63 => on("XAUTOCLAIM", key(d, "x")).args(["g", "c2", "0", "0", "COUNT", "2"]),
        64 => on("XTRIM", key(d, "x")).args(["MAXLEN", "20"]),
        65 => on("PFADD", key(d, "pf")).arg(member(d)),
        66 => on("PFMERGE", key(d, "pf")).arg(key(d, "pf")),
        67 => on("GEOADD", key(d, "geo")).number(d.roll(80)).number(d.roll(80)).arg(member(d)),
        68 => on("GEOSEARCHSTORE", key(d, "z2")).arg(key(d, "geo")).args([
            "FROMLONLAT",
            "10",
            "10",
            "BYRADIUS",
            "9000",
            "km",
        ]),
        69 => Command::new("BITOP").arg("OR").arg(key(d, "bits")).arg(key(d, "s")).arg(key(d, "bits")),
        70 => {
            return vec![
                Command::new("MULTI"),
                on("INCR", key(d, "n")),
                on("RPUSH", key(d, "l")).arg("in a transaction"),
                on("SADD", key(d, "set")).arg("in a transaction"),
                Command::new("EXEC"),
            ];
        }
        _ => Command::new("EVAL")
            .arg("redis.call('INCR', KEYS[1]); return redis.call('RPUSH', KEYS[2], ARGV[1])")
            .arg("2")
            .arg(key(d, "n"))
            .arg(key(d, "l"))
            .arg(&word),
    }]
}
