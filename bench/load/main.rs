//! Load on an etcd server, Regrow's or etcd itself, over gRPC: the same for both.
//!
//! `etcd_load URL WHAT [KEY=NUMBER …]`; one line of JSON for each measurement. What is measured:
//!
//! | what | what happens |
//! |---|---|
//! | `put` | each of `clients` puts a random key of `keys` and waits for the answer |
//! | `txn` | the same with a transaction: one comparison, two puts |
//! | `get` | the same with a linearizable read of one key |
//! | `range` | the same with a linearizable read of 1,000 keys |
//! | `watch` | `watchers` watch a prefix each on a stream of its own; `rate` puts a second; from the put to each event |
//! | `fill` | puts `keys` keys, 100 in a transaction |
//!
//! Others: `seconds` of a measurement, `value` bytes, `connections` (default: one for 8 clients, for 50 watchers). 128
//! clients share a thread: more would wait for it and not for the server.

#![expect(clippy::print_stdout, reason = "a measuring program prints what it measured")]

mod connection;
mod measure;
mod watch;

use std::{collections::BTreeMap, ops::Range, sync::Barrier, thread, time::Duration};

use connection::{Connection, Failed};
use measure::{Calls, Load, PUT, RANGE, TXN, fill, repeat, report};
use regrow_store::proto::etcdserverpb as pb;
use tokio::runtime::{Builder, Runtime};

/// Clients of one thread.
const THREAD_CLIENTS_MAX: u64 = 128;

/// Clients of one connection.
const CONNECTION_CLIENTS: u64 = 8;

/// What is asked for on the command line.
struct Wanted(BTreeMap<String, u64>);

impl Wanted {
    fn get(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }
}

fn key(number: u64) -> Vec<u8> {
    format!("/registry/bench/key/{number:011}").into_bytes()
}

fn put(number: u64, value: &[u8]) -> pb::PutRequest {
    pb::PutRequest { key: key(number).into(), value: value.to_vec().into(), ..Default::default() }
}

fn operation(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp { request: Some(request) }
}

/// Clients that ask again and again, in as many threads as they need; prints what all of them found.
fn closed_loop(url: &str, what: &str, wanted: &Wanted) -> Result<(), Failed> {
    let clients = wanted.get("clients", 64);
    let time = Duration::from_secs(wanted.get("seconds", 5));
    let threads = clients.div_ceil(THREAD_CLIENTS_MAX).max(1);
    let ready = Barrier::new(threads as usize);
    let part = |thread: u64| -> Result<Calls, String> {
        let clients = clients * thread / threads..clients * (thread + 1) / threads;
        let load = Load { clients, keys: wanted.get("keys", 100_000), time };
        let said = |error: Failed| error.to_string();
        let opened = runtime().and_then(|runtime| {
            let all = runtime.block_on(connections(url, wanted, load.clients.clone()))?;
            Ok((runtime, all))
        });
        // All wait for all, also for one that failed.
        ready.wait();
        let (runtime, all) = opened.map_err(said)?;
        runtime.block_on(ask(what, &load, &all, wanted.get("value", 256))).map_err(said)
    };
    let calls = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        parts.into_iter().map(|part| part.join().expect("it does not panic")).collect::<Result<Vec<Calls>, String>>()
    })?;
    let count: u64 = calls.iter().map(|calls| calls.count).sum();
    let name = format!("\"what\":\"{what}\",\"clients\":{clients},\"calls\":{count}");
    report(&name, calls.into_iter().flat_map(|calls| calls.times).collect(), time);
    Ok(())
}

async fn connections(url: &str, wanted: &Wanted, clients: Range<u64>) -> Result<Vec<Connection>, Failed> {
    let count = wanted.get("connections", (clients.end - clients.start).div_ceil(CONNECTION_CLIENTS));
    let mut all = Vec::new();
    for _ in 0..count {
        all.push(Connection::open(url).await?);
    }
    Ok(all)
}

async fn ask(what: &str, load: &Load, all: &[Connection], value: u64) -> Result<Calls, Failed> {
    let (keys, value) = (load.keys, vec![b'v'; value as usize]);
    match what {
        "put" => {
            let put = async |connection: &Connection, number| {
                connection.call(PUT, &put(number, &value)).await.map(|_: pb::PutResponse| ())
            };
            repeat(load, all, put).await
        }
        "txn" => {
            let txn = async |connection: &Connection, number| {
                let compare = pb::Compare {
                    key: key(number).into(),
                    result: pb::compare::CompareResult::Greater.into(),
                    target: pb::compare::CompareTarget::Version.into(),
                    target_union: Some(pb::compare::TargetUnion::Version(-1)),
                    ..Default::default()
                };
                let puts = [number, number + keys].map(|number| put(number, &value));
                let success = puts.map(|put| operation(pb::request_op::Request::RequestPut(put))).to_vec();
                let txn = pb::TxnRequest { compare: vec![compare], success, failure: Vec::new() };
                let done: pb::TxnResponse = connection.call(TXN, &txn).await?;
                if done.succeeded { Ok(()) } else { Err("the comparison holds".into()) }
            };
            repeat(load, all, txn).await
        }
        "get" => {
            let get = async |connection: &Connection, number| {
                let request = pb::RangeRequest { key: key(number).into(), ..Default::default() };
                let found: pb::RangeResponse = connection.call(RANGE, &request).await?;
                if found.kvs.len() == 1 { Ok(()) } else { Err("fill first".into()) }
            };
            repeat(load, all, get).await
        }
        "range" => {
            let range = async |connection: &Connection, number: u64| {
                let first = number.min(keys.saturating_sub(1000));
                let range_end = key(first + 1000).into();
                let request = pb::RangeRequest { key: key(first).into(), range_end, ..Default::default() };
                let found: pb::RangeResponse = connection.call(RANGE, &request).await?;
                if found.kvs.len() == 1000 { Ok(()) } else { Err("fill first".into()) }
            };
            repeat(load, all, range).await
        }
        other => Err(format!("`{other}` is nothing to measure").into()),
    }
}

fn runtime() -> Result<Runtime, Failed> {
    Ok(Builder::new_current_thread().enable_all().build()?)
}

fn main() -> Result<(), Failed> {
    let mut words = std::env::args().skip(1);
    let (Some(url), Some(what)) = (words.next(), words.next()) else {
        return Err("etcd_load URL put|txn|get|range|watch|fill [KEY=NUMBER …]".into());
    };
    let wanted = words.map(|word| {
        let (name, number) = word.split_once('=').ok_or(format!("`{word}` is not KEY=NUMBER"))?;
        Ok((name.to_owned(), number.parse().map_err(|_| format!("`{word}` has no number"))?))
    });
    let wanted = Wanted(wanted.collect::<Result<_, String>>()?);
    let value = vec![b'v'; wanted.get("value", 256) as usize];
    match &*what {
        "watch" => {
            let (watchers, rate) = (wanted.get("watchers", 100), wanted.get("rate", 50));
            let connections = wanted.get("connections", watchers.div_ceil(50));
            let time = Duration::from_secs(wanted.get("seconds", 5));
            runtime()?.block_on(watch::run(&url, connections, watchers, rate, time, &value))
        }
        "fill" => runtime()?.block_on(async {
            let all = connections(&url, &wanted, 0..64).await?;
            fill(&all, wanted.get("keys", 100_000), &value).await
        }),
        _ => closed_loop(&url, &what, &wanted),
    }
}
