//! From a put to its event at every watcher.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use regrow_store::proto::etcdserverpb as pb;

use super::{
    connection::{Connection, Failed, Incoming},
    measure::{PUT, report},
};

const PREFIX: &str = "/registry/watched/";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// Lets so many watch, puts at a rate, and prints how long the events took.
pub(crate) async fn run(
    url: &str,
    connections: u64,
    watchers: u64,
    rate: u64,
    time: Duration,
    value: &[u8],
) -> Result<(), Failed> {
    let mut all = Vec::new();
    for _ in 0..connections {
        all.push(Connection::open(url).await?);
    }
    let puts = rate * time.as_secs().max(1);
    let mut streams = Vec::new();
    for watcher in 0..watchers {
        streams.push(open(&all[watcher as usize % all.len()]).await?);
    }
    let begin = Instant::now();
    let told = try_join_all(streams.into_iter().map(|stream| follow(stream, puts, begin)));
    let put = async {
        let connection = Connection::open(url).await?;
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate as u32);
        for number in 0..puts {
            ticks.tick().await;
            let mut bytes = (begin.elapsed().as_nanos() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(value);
            let key = format!("{PREFIX}{number:011}").into();
            let put = pb::PutRequest { key, value: bytes.into(), ..Default::default() };
            let _: pb::PutResponse = connection.call(PUT, &put).await?;
        }
        Ok::<_, Failed>(())
    };
    let (told, ()) = tokio::try_join!(told, put)?;
    let calls = puts * watchers;
    report(
        &format!("\"what\":\"watch\",\"watchers\":{watchers},\"calls\":{calls}"),
        told.into_iter().flatten().collect(),
        time,
    );
    Ok(())
}

async fn open(connection: &Connection) -> Result<Incoming, Failed> {
    let range_end = regrow_store::prefix_end(PREFIX.as_bytes());
    let create = pb::WatchCreateRequest { key: PREFIX.into(), range_end, ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    let mut answers = connection.stream(WATCH, &request).await?;
    let answer: pb::WatchResponse = answers.message().await?;
    if answer.created { Ok(answers) } else { Err(format!("a watch is begun with {answer:?}").into()) }
}

async fn follow(mut answers: Incoming, puts: u64, begin: Instant) -> Result<Vec<Duration>, Failed> {
    let mut times = Vec::new();
    while (times.len() as u64) < puts {
        let answer: pb::WatchResponse = answers.message().await?;
        let now = begin.elapsed();
        for event in answer.events {
            let value = event.kv.unwrap_or_default().value;
            let sent = value.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            times.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
    Ok(times)
}
