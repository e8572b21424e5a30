//! A watch that outlives its connections.

use std::{sync::Arc, time::Duration};

use futures_util::stream::poll_fn;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, Status, Streaming, metadata::MetadataValue};

use super::{
    Remote,
    endpoints::{Endpoints, may_be_elsewhere},
};
use crate::{
    BoxFuture, Error, Event, Result, Revision, Watch, WatchItem, WatchRequest, WatchSource,
    proto::{
        self, Asked,
        etcdserverpb::{
            self as pb, WatchCreateRequest, WatchProgressRequest, watch_client::WatchClient,
            watch_request::RequestUnion,
        },
    },
};

/// How long a server may take to confirm a watch.
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// How often in a row a stream may fail, all endpoints together and per endpoint, before the watch ends with
/// `Unavailable`: with the pauses, about a minute. Whoever reads it resumes it at the same revision.
const FAILURES_MAX: u32 = 60;

/// The longest pause between two attempts; it begins at a tenth and grows by that.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A stream that stood so long has not failed in a row.
const STEADY: Duration = Duration::from_secs(10);

/// Requests that wait to be sent on one stream: its creation, and one for progress.
const REQUESTS_MAX: usize = 2;

/// Begins a watch, behind a linearizable read: a member that lags behind must not tell old events as new ones.
pub(super) async fn watch(remote: &Remote, request: WatchRequest) -> Result<Watch> {
    let now = remote.now().await?;
    let next = if request.start_revision.0 <= 0 { now.next() } else { request.start_revision };
    let key = if request.key.is_empty() { "\0".into() } else { request.key.clone() };
    let request = WatchRequest { key, ..request };
    let mut source = RemoteWatch { endpoints: remote.0.clone(), request, next, live: None, asked: false, failures: 0 };
    source.connect().await?;
    Ok(Watch::new(now, Box::new(source)))
}

/// The oldest revision that can be read. The interface tells it only to a watch that begins before.
pub(super) async fn oldest(remote: &Remote) -> Result<Revision> {
    let request = WatchRequest::key("\0").from(Revision(1));
    let mut watch = watch(remote, request).await?;
    match timeout(CREATE_TIMEOUT, watch.next()).await {
        Ok(Some(Err(Error::Compacted { compacted, .. }))) => Ok(compacted),
        Ok(Some(Err(error))) => Err(error),
        // Nothing below 1 can be compacted, and 1 is what every store begins with.
        Ok(_) | Err(_) => Ok(Revision(1)),
    }
}

struct RemoteWatch {
    endpoints: Arc<Endpoints>,
    request: WatchRequest,
    /// The first revision that has not been delivered.
    next: Revision,
    live: Option<Live>,
    /// Progress was asked for and not told yet.
    asked: bool,
    failures: u32,
}

/// A stream to one endpoint with one watch on it.
struct Live {
    at: usize,
    since: Instant,
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl RemoteWatch {
    async fn item(&mut self) -> Result<WatchItem> {
        loop {
            self.connect().await?;
            let Some(live) = &mut self.live else { continue };
            let failed = match live.answers.message().await {
                Ok(Some(answer)) => match self.take(answer)? {
                    Some(item) => return Ok(item),
                    None => continue,
                },
                Ok(None) => Status::unavailable("the stream ended"),
                Err(status) => status,
            };
            self.fail(&failed)?;
        }
    }

    /// Sees to it that there is a stream. May be dropped and called again.
    async fn connect(&mut self) -> Result<()> {
        while self.live.is_none() {
            if self.failures > 0 {
                sleep((PAUSE_MAX / 10 * self.failures).min(PAUSE_MAX)).await;
            }
            match self.open().await {
                Ok(live) => {
                    self.live = Some(live);
                    if self.asked {
                        self.ask();
                    }
                }
                Err((at, status)) => {
                    self.count(at, &status)?;
                }
            }
        }
        Ok(())
    }

    async fn open(&self) -> std::result::Result<Live, (usize, Status)> {
        let (at, channel) = self.endpoints.current();
        let (requests, mut receiver) = mpsc::channel(REQUESTS_MAX);
        let create = WatchCreateRequest { start_revision: self.next.0, ..self.request.clone().into() };
        // There is room for it: nothing else was sent.
        let _ = requests.try_send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
        let mut request = Request::new(poll_fn(move |context| receiver.poll_recv(context)));
        // A member cut off from its leader ends the stream rather than to keep silent.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let mut client = WatchClient::new(channel).max_decoding_message_size(super::RESPONSE_BYTES_MAX);
        let created = async {
            let mut answers = client.watch(request).await?.into_inner();
            match answers.message().await? {
                Some(answer) if answer.created && !answer.canceled => {
                    if let Err(error) = self.endpoints.same_cluster(answer.header.as_ref()) {
                        return Err(Status::failed_precondition(error.to_string()));
                    }
                    Ok(answers)
                }
                Some(answer) => Err(Status::failed_precondition(answer.cancel_reason)),
                None => Err(Status::unavailable("the stream ended")),
            }
        };
        match timeout(CREATE_TIMEOUT, created).await {
            Ok(Ok(answers)) => Ok(Live { at, since: Instant::now(), requests, answers }),
            Ok(Err(status)) => Err((at, status)),
            Err(_) => Err((at, Status::deadline_exceeded("the watch was not confirmed"))),
        }
    }

    /// The stream failed: what it has not delivered the next one will.
    fn fail(&mut self, status: &Status) -> Result<()> {
        let Some(live) = self.live.take() else { return Ok(()) };
        if live.since.elapsed() >= STEADY {
            self.failures = 0;
        }
        self.count(live.at, status)
    }

    fn count(&mut self, at: usize, status: &Status) -> Result<()> {
        if let Some(refused) = refused(status) {
            return Err(refused);
        }
        self.failures += 1;
        self.endpoints.leave(at, status.message());
        let most = FAILURES_MAX.saturating_mul(u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX));
        if may_be_elsewhere(status) && self.failures < most {
            return Ok(());
        }
        // Whoever asks again gets as many attempts again.
        self.failures = 0;
        Err(Error::Unavailable { reason: format!("watch: {:?}: {}", status.code(), status.message()) })
    }

    fn take(&mut self, answer: pb::WatchResponse) -> Result<Option<WatchItem>> {
        let revision = super::revision(answer.header);
        if answer.canceled {
            self.live = None;
            return Err(match answer.compact_revision {
                0 => refused(&Status::cancelled(&answer.cancel_reason))
                    .unwrap_or_else(|| Error::Unavailable { reason: format!("watch: {}", answer.cancel_reason) }),
                compacted => Error::Compacted { requested: self.next, compacted: Revision(compacted) },
            });
        }
        if !answer.events.is_empty() {
            let events: Vec<Event> = answer.events.into_iter().map(Event::from).collect();
            return Ok(self.deliver(revision, events));
        }
        if answer.watch_id >= 0 {
            // Progress of this very watch comes in order with its events.
            self.next = self.next.max(revision.next());
            return Ok(Some(WatchItem::Progress { revision }));
        }
        Ok(std::mem::take(&mut self.asked).then_some(WatchItem::Progress { revision }))
    }

    fn deliver(&mut self, revision: Revision, events: Vec<Event>) -> Option<WatchItem> {
        let new: Vec<Event> = events.into_iter().filter(|event| event.kv.mod_revision >= self.next).collect();
        self.next = new.last()?.kv.mod_revision.next();
        self.failures = 0;
        Some(WatchItem::Events { revision, events: new })
    }

    fn ask(&mut self) {
        if let Some(live) = &self.live {
            // If there is no room, the same question is waiting already.
            let request = RequestUnion::ProgressRequest(WatchProgressRequest {});
            let _ = live.requests.try_send(pb::WatchRequest { request_union: Some(request) });
        }
    }
}

/// Whether a watch ended because of who asks: no other endpoint will answer better.
fn refused(status: &Status) -> Option<Error> {
    // A watch that is cancelled is told the text of the status, with its code before it.
    let text = status.message().rsplit_once(" desc = ").map_or(status.message(), |(_, text)| text);
    let error = proto::error(&Status::new(status.code(), text), Asked::default());
    matches!(error, Error::Denied { .. } | Error::Anonymous { .. } | Error::Unauthenticated { .. }).then_some(error)
}

impl WatchSource for RemoteWatch {
    fn next(&mut self) -> BoxFuture<'_, Result<WatchItem>> {
        Box::pin(self.item())
    }

    fn request_progress(&mut self) {
        self.asked = true;
        self.ask();
    }
}
