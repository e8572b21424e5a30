//! Clients that each wait for an answer before they ask again.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use regrow_store::proto::etcdserverpb as pb;

use super::{
    connection::{Connection, Failed},
    operation, put,
};

/// Puts of one transaction when filling.
const FILL: u64 = 100;

/// Transactions under way at once when filling.
const FILLERS: u64 = 16;

pub(crate) const RANGE: &str = "/etcdserverpb.KV/Range";
pub(crate) const PUT: &str = "/etcdserverpb.KV/Put";
pub(crate) const TXN: &str = "/etcdserverpb.KV/Txn";

/// How a load is.
pub(crate) struct Load {
    /// The numbers of those that ask.
    pub(crate) clients: Range<u64>,
    pub(crate) keys: u64,
    pub(crate) time: Duration,
}

/// A number that looks random, from one before.
fn next(number: &mut u64) -> u64 {
    *number ^= *number << 13;
    *number ^= *number >> 7;
    *number ^= *number << 17;
    *number
}

/// What clients found.
pub(crate) struct Calls {
    /// How long each took, those of the first tenth of the time left out.
    pub(crate) times: Vec<Duration>,
    /// All of them.
    pub(crate) count: u64,
}

/// Lets clients ask until the time is over.
pub(crate) async fn repeat(
    load: &Load,
    connections: &[Connection],
    ask: impl AsyncFn(&Connection, u64) -> Result<(), Failed>,
) -> Result<Calls, Failed> {
    let begin = Instant::now() + load.time / 10;
    let end = begin + load.time;
    let client = async |number: u64| {
        let connection = &connections[number as usize % connections.len()];
        let (mut times, mut calls, mut random) = (Vec::new(), 0, (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        loop {
            let key = next(&mut random) % load.keys;
            let start = Instant::now();
            if start >= end {
                return Ok::<_, Failed>((times, calls));
            }
            ask(connection, key).await?;
            calls += 1;
            if start >= begin {
                times.push(start.elapsed());
            }
        }
    };
    let clients = load.clients.clone().map(client);
    let (times, calls): (Vec<_>, Vec<u64>) = futures_util::future::try_join_all(clients).await?.into_iter().unzip();
    Ok(Calls { times: times.into_iter().flatten().collect(), count: calls.iter().sum() })
}

/// Prints a line of JSON.
pub(crate) fn report(name: &str, mut times: Vec<Duration>, time: Duration) {
    times.sort_unstable();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let rate = times.len() as f64 / time.as_secs_f64();
    println!(
        "{{{name},\"rate\":{rate:.1},\"p50_ms\":{:.4},\"p99_ms\":{:.4},\"max_ms\":{:.4}}}",
        at(0.5),
        at(0.99),
        times.last().map_or(0.0, |time| time.as_secs_f64() * 1e3)
    );
}

/// Puts all keys.
pub(crate) async fn fill(connections: &[Connection], keys: u64, value: &[u8]) -> Result<(), Failed> {
    let begin = Instant::now();
    let filler = async |filler: u64| {
        let connection = &connections[filler as usize % connections.len()];
        let mut first = filler * FILL;
        while first < keys {
            let puts = (first..keys.min(first + FILL)).map(|number| put(number, value));
            let success = puts.map(|put| operation(pb::request_op::Request::RequestPut(put))).collect();
            let txn = pb::TxnRequest { success, ..Default::default() };
            let _: pb::TxnResponse = connection.call(TXN, &txn).await?;
            first += FILLERS * FILL;
        }
        Ok::<_, Failed>(())
    };
    futures_util::future::try_join_all((0..FILLERS).map(filler)).await?;
    println!("{{\"what\":\"fill\",\"keys\":{keys},\"seconds\":{:.2}}}", begin.elapsed().as_secs_f64());
    Ok(())
}
