//! From a put to its event at every watcher.

use std::time::{Duration, Instant};

use futures_util::{future::try_join_all, stream};
use regrow_store::proto::etcdserverpb::{self as pb, kv_client::KvClient, watch_client::WatchClient};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use super::{connection::Failed, measure::report};

const PREFIX: &str = "/registry/watched/";

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
        all.push(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?);
    }
    let puts = rate * time.as_secs().max(1);
    let mut streams = Vec::new();
    for watcher in 0..watchers {
        streams.push(open(all[watcher as usize % all.len()].clone()).await?);
    }
    let begin = Instant::now();
    let told = try_join_all(streams.into_iter().map(|stream| follow(stream, puts, begin)));
    let put = async {
        let mut kv = KvClient::new(Endpoint::from_shared(url.to_owned())?.tcp_nodelay(true).connect().await?);
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate as u32);
        for number in 0..puts {
            ticks.tick().await;
            let mut bytes = (begin.elapsed().as_nanos() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(value);
            let key = format!("{PREFIX}{number:011}").into();
            kv.put(pb::PutRequest { key, value: bytes.into(), ..Default::default() }).await?;
        }
        Ok::<_, Failed>(())
    };
    let told = async { Ok::<_, Failed>(told.await?) };
    let (told, ()) = tokio::try_join!(told, put)?;
    report(&format!("\"what\":\"watch\",\"watchers\":{watchers}"), told.into_iter().flatten().collect(), time);
    Ok(())
}

async fn open(connection: Channel) -> Result<Streaming<pb::WatchResponse>, Status> {
    let range_end = regrow_store::prefix_end(PREFIX.as_bytes());
    let create = pb::WatchCreateRequest { key: PREFIX.into(), range_end, ..Default::default() };
    let request = pb::WatchRequest { request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)) };
    // The stream of requests stays open: its end would end the watch.
    let requests = stream::unfold(Some(request), async |request| match request {
        Some(request) => Some((request, None)),
        None => std::future::pending().await,
    });
    let mut answers = WatchClient::new(connection).watch(Box::pin(requests)).await?.into_inner();
    match answers.message().await? {
        Some(answer) if answer.created => Ok(answers),
        other => Err(Status::internal(format!("a watch is begun with {other:?}"))),
    }
}

async fn follow(mut answers: Streaming<pb::WatchResponse>, puts: u64, begin: Instant) -> Result<Vec<Duration>, Status> {
    let mut times = Vec::new();
    while (times.len() as u64) < puts {
        let answer = answers.message().await?.ok_or_else(|| Status::internal("the watch ended"))?;
        let now = begin.elapsed();
        for event in answer.events {
            let value = event.kv.unwrap_or_default().value;
            let sent = value.first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
            times.push(now.saturating_sub(Duration::from_nanos(sent)));
        }
    }
    Ok(times)
}
