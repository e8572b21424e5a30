//! Measures the embedded store: durable puts and their latency, ranges, watches, memory and start-up.
//!
//! `cargo run --release -p regrow-store --example engine -- [FOLDER] [KEYS] [INLINE]`; default: a new folder in the
//! current one, removed afterwards, 1,000,000 keys of 31 bytes with values of 256 bytes, and values of up to 512 bytes
//! kept in memory.

#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use regrow_store::{
    AutoCompaction, CompactRequest, DeleteRangeRequest, Engine, Error, Op, Options, PutRequest, RangeRequest, Revision,
    Store, TxnRequest, WatchItem, WatchRequest, limits::INLINE_BYTES_MAX,
};

/// Seconds for each measurement of throughput.
const SECONDS: u64 = 3;
/// Puts in one transaction when filling.
const FILL: usize = 100;

fn key(number: usize) -> String {
    format!("/registry/bench/key/{number:011}")
}

fn value(number: usize) -> Vec<u8> {
    (0..256).map(|at| (number * 31 + at * 7) as u8).collect()
}

/// Memory of this process in MiB: now, and at most so far.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) / 1024
    };
    (field("VmRSS"), field("VmHWM"))
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

/// Durable puts by so many clients, each waiting for its answer before the next.
async fn puts(engine: &Engine, clients: usize, keys: usize) -> Result<(), Error> {
    let end = Instant::now() + Duration::from_secs(SECONDS);
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let (mut times, mut number) = (Vec::new(), client);
                while Instant::now() < end {
                    number = (number * 1_103_515_245 + 12_345) % keys;
                    let put = PutRequest::new(key(number), value(number));
                    let start = Instant::now();
                    engine.put(put).await?;
                    times.push(start.elapsed());
                }
                Ok::<_, Error>(times)
            })
        })
        .collect();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("no panic")?);
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    println!(
        "{clients:3} writers: {:7.0} puts/s   p50 {:.3} ms   p99 {:.3} ms",
        times.len() as f64 / seconds,
        percentile(&times, 0.5).as_secs_f64() * 1e3,
        percentile(&times, 0.99).as_secs_f64() * 1e3,
    );
    Ok(())
}

async fn gets(engine: &Engine, keys: usize) -> Result<(), Error> {
    let (start, mut done, mut number) = (Instant::now(), 0_u64, 1);
    while start.elapsed() < Duration::from_secs(SECONDS) {
        number = (number * 1_103_515_245 + 12_345) % keys;
        engine.range(RangeRequest::key(key(number))).await?;
        done += 1;
    }
    println!("one reader: {:.0} gets/s", done as f64 / start.elapsed().as_secs_f64());
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(SECONDS) {
        number = (number * 1_103_515_245 + 12_345) % (keys - 1000).max(1);
        let request =
            RangeRequest { key: key(number).into(), range_end: key(number + 1000).into(), ..Default::default() };
        done += engine.range(request).await?.kvs.len();
    }
    println!("ranges of 1,000: {:.0} keys/s", done as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

/// Replays history to one watch.
async fn replay(engine: &Engine) -> Result<(), Error> {
    let status = engine.status().await?;
    let from = status.compact_revision.max(Revision(2));
    let mut watch = engine.watch(WatchRequest::prefix("").from(from)).await?;
    let (start, mut events, mut seen) = (Instant::now(), 0, Revision(0));
    while seen < status.revision {
        if let Some(WatchItem::Events { events: some, .. }) = watch.next().await.transpose()? {
            events += some.len();
            seen = some.last().map_or(seen, |event| event.kv.mod_revision);
        }
    }
    println!("watch from the past: {:.0} events/s", f64::from(events as u32) / start.elapsed().as_secs_f64());
    Ok(())
}

async fn fill(engine: &Engine, keys: usize) -> Result<(), Error> {
    let start = Instant::now();
    for first in (0..keys).step_by(FILL) {
        let put = |number| Op::Put(PutRequest::new(key(number), value(number)));
        let success = (first..keys.min(first + FILL)).map(put).collect();
        engine.txn(TxnRequest { success, ..TxnRequest::default() }).await?;
    }
    println!("filled {keys} keys in {:.1} s, memory {} MiB", start.elapsed().as_secs_f64(), memory().0);
    Ok(())
}

/// The longest time a put took while compaction and the base were under way.
async fn compaction(engine: &Engine) -> Result<(), Error> {
    let status = engine.status().await?;
    let start = Instant::now();
    let compacting = {
        let engine = engine.clone();
        let request = CompactRequest { revision: status.revision, physical: true };
        tokio::spawn(async move { engine.compact(request).await })
    };
    let mut times = Vec::new();
    let mut pruned = None;
    while start.elapsed() < Duration::from_secs(2 * SECONDS) {
        let begin = Instant::now();
        engine.put(PutRequest::new(key(times.len() % 1000), value(1))).await?;
        times.push(begin.elapsed());
        if pruned.is_none() && compacting.is_finished() {
            pruned = Some(start.elapsed());
        }
    }
    compacting.await.expect("no panic")?;
    times.sort_unstable();
    let after = engine.status().await?;
    println!(
        "compaction: versions given up in {:.2} s; files {} -> {} MiB; one writer beside it p50 {:.3} p99 {:.3} longest {:.1} ms",
        pruned.unwrap_or_default().as_secs_f64(),
        status.db_size >> 20,
        after.db_size >> 20,
        percentile(&times, 0.5).as_secs_f64() * 1e3,
        percentile(&times, 0.99).as_secs_f64() * 1e3,
        percentile(&times, 1.0).as_secs_f64() * 1e3,
    );
    Ok(())
}

fn reopen(folder: &Path, options: &Options) -> Result<Engine, Error> {
    let start = Instant::now();
    let engine = Engine::open(folder, options.clone())?;
    println!("opened in {:.2} s, memory {} MiB", start.elapsed().as_secs_f64(), memory().0);
    Ok(engine)
}

async fn run(folder: &Path, keys: usize, inline: usize, step: &str) -> Result<(), Error> {
    let options = Options { compaction: AutoCompaction::Off, inline_bytes_max: inline, ..Options::default() };
    let engine = reopen(folder, &options)?;
    match step {
        "write" => {
            for clients in [1, 16, 64] {
                puts(&engine, clients, keys).await?;
            }
            replay(&engine).await?;
            engine.delete_range(DeleteRangeRequest::prefix("")).await?;
        }
        "fill" => fill(&engine, keys).await?,
        "read" => gets(&engine, keys).await?,
        "compact" => {
            puts(&engine, 64, keys).await?;
            compaction(&engine).await?;
        }
        _ => println!("{:?}", engine.status().await?),
    }
    engine.close();
    println!("memory at most {} MiB", memory().1);
    Ok(())
}

/// Each step is a process of its own, so that its memory is its own.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map(PathBuf::from);
    let keys = arguments.next().map_or(Ok(1_000_000), |keys| keys.parse())?;
    let inline = arguments.next().map_or(Ok(INLINE_BYTES_MAX), |bytes| bytes.parse())?;
    if let Some(step) = arguments.next() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build()?;
        return Ok(runtime.block_on(run(&folder.expect("four arguments"), keys, inline, &step))?);
    }
    let own = folder.is_none();
    let folder = folder.unwrap_or_else(|| format!("measure-{}", std::process::id()).into());
    for step in ["write", "fill", "status", "read", "compact", "status"] {
        println!("-- {step}");
        let program = std::env::current_exe()?;
        let numbers = [keys, inline].map(|number| number.to_string());
        let status = std::process::Command::new(program).arg(&folder).args(numbers).arg(step).status()?;
        if !status.success() {
            return Err(format!("step {step} failed").into());
        }
    }
    if own {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(())
}
