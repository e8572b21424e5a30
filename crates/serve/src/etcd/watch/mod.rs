//! Watches, many on one stream.
//!
//! A stream is no task: whoever sends its answers polls it. It then looks at what the client asks and at those of its
//! watches that have something to tell, and makes answers of that when those before have been taken. While the client
//! does not read, none are made, and the store keeps bounded queues for the watches.

mod one;
mod progress;
mod split;

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::Arc,
};

use futures_util::stream::{BoxStream, SelectAll, Stream, StreamExt, unfold};
use regrow_store::{
    Error, Revision, WatchItem, WatchRequest,
    proto::etcdserverpb::{self as pb, watch_request::RequestUnion},
};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{Door, cancel_reason, limits::STREAM_WATCHES_MAX, refusal};
use one::{Bell, Told, told};
use progress::Progress;
use split::split;

pub(super) type Answer = Result<pb::WatchResponse, Status>;

/// The id in an answer that is about no watch: one that could not be created, or progress of all.
const NO_WATCH: i64 = -1;

#[async_trait]
impl pb::watch_server::Watch for Door {
    type WatchStream = BoxStream<'static, Answer>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(answers(self.clone(), request.into_inner())))
    }
}

/// The answers to what a client asks on one stream. All ends when this is dropped.
pub(super) fn answers<R>(door: Door, requests: R) -> BoxStream<'static, Answer>
where
    R: Stream<Item = Result<pb::WatchRequest, Status>> + Send + Unpin + 'static,
{
    let state = Some((Session::new(door), requests));
    let answers = unfold(state, async |state| {
        let (mut session, mut requests) = state?;
        let answer = session.next(&mut requests).await;
        let goes_on = answer.is_ok();
        Some((answer, goes_on.then_some((session, requests))))
    });
    answers.boxed()
}

/// One stream of a client.
struct Session {
    door: Door,
    /// The client may ask more.
    asks: bool,
    watches: BTreeMap<i64, Running>,
    /// What the watches tell.
    telling: SelectAll<BoxStream<'static, Told>>,
    /// Answers to be taken before anything else is looked at.
    ready: VecDeque<pb::WatchResponse>,
    next: i64,
    progress: Progress,
    /// The mark of the latest watch: an id may be used again, a mark is not.
    mark: u64,
}

/// A watch under way; it ends when this is dropped.
struct Running {
    mark: u64,
    bell: Arc<Bell>,
    /// One revision may come in pieces.
    fragment: bool,
    /// The client wants to be told of progress from time to time.
    notify: bool,
    _room: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.bell.end();
    }
}

impl Session {
    fn new(door: Door) -> Self {
        Self {
            door,
            asks: true,
            watches: BTreeMap::new(),
            telling: SelectAll::new(),
            ready: VecDeque::new(),
            next: 0,
            progress: Progress::default(),
            mark: 0,
        }
    }

    /// The next answer. A client that says that it will ask no more goes on being told, as in etcd.
    async fn next(&mut self, requests: &mut (impl Stream<Item = Result<pb::WatchRequest, Status>> + Unpin)) -> Answer {
        loop {
            if let Some(answer) = self.ready.pop_front() {
                return Ok(answer);
            }
            tokio::select! {
                request = requests.next(), if self.asks => match request {
                    Some(request) => self.request(request?).await,
                    None => self.asks = false,
                },
                Some(told) = self.telling.next() => self.told(told).await?,
                else => pending().await,
            }
        }
    }

    async fn request(&mut self, request: pb::WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => self.ask().await,
            // As in etcd, which lets newer clients ask what it does not know.
            None => {}
        }
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) {
        if let Some(reason) = self.refuses(&request) {
            return self.refuse(reason).await;
        }
        let room = match self.door.room.clone().try_acquire_owned() {
            Ok(room) if self.watches.len() < STREAM_WATCHES_MAX => room,
            _ => return self.refuse("etcdserver: too many requests").await,
        };
        let (wanted, fragment, notify) = (request.watch_id, request.fragment, request.progress_notify);
        let request: WatchRequest = request.into();
        let watch = match self.door.store.watch(request).await {
            Ok(watch) => watch,
            Err(error) => return self.refuse(&cancel_reason(error)).await,
        };
        let id = if wanted == 0 { self.free() } else { wanted };
        self.ready.push_back(pb::WatchResponse { created: true, ..self.answer(id, watch.revision()) });
        self.mark += 1;
        let bell = Arc::new(Bell::default());
        self.telling.push(told((id, self.mark), watch, bell.clone()));
        self.watches.insert(id, Running { mark: self.mark, bell, fragment, notify, _room: room });
    }

    /// Source of the texts: etcd's `mvcc` package.
    fn refuses(&self, request: &pb::WatchCreateRequest) -> Option<&'static str> {
        let first: &[u8] = if request.key.is_empty() { b"\0" } else { &request.key };
        let end = &request.range_end[..];
        if !end.is_empty() && end != b"\0" && first >= end {
            return Some("mvcc: watcher range is empty");
        }
        let taken = request.watch_id != 0 && self.watches.contains_key(&request.watch_id);
        (taken || request.watch_id == NO_WATCH).then_some("mvcc: duplicate watch ID provided on the WatchStream")
    }

    async fn refuse(&mut self, reason: &str) {
        let header = self.door.now().await.unwrap_or_default();
        let (created, canceled, cancel_reason) = (true, true, reason.to_owned());
        let answer =
            pb::WatchResponse { header, watch_id: NO_WATCH, created, canceled, cancel_reason, ..Default::default() };
        self.ready.push_back(answer);
    }

    fn free(&mut self) -> i64 {
        while self.watches.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }

    /// Nothing of a watch comes after the answer to its cancellation.
    async fn cancel(&mut self, id: i64) {
        if self.watches.remove(&id).is_none() {
            return;
        }
        let header = self.door.now().await.unwrap_or_default();
        self.ready.push_back(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() });
        self.forget(id);
    }

    /// Asks all watches how far they are; when the last has told, the client is.
    async fn ask(&mut self) {
        if self.watches.is_empty() {
            let header = self.door.now().await.unwrap_or_default();
            self.ready.push_back(pb::WatchResponse { header, watch_id: NO_WATCH, ..Default::default() });
            return;
        }
        self.progress.begin(self.watches.keys().copied());
        self.watches.values().for_each(|running| running.bell.ask());
    }

    async fn told(&mut self, told: Told) -> Result<(), Status> {
        let id = told.id;
        // What a watch told before it was cancelled may still be under way.
        let Some(running) = self.watches.get(&id).filter(|running| running.mark == told.mark) else {
            return Ok(());
        };
        match told.item {
            Ok(WatchItem::Events { revision, events }) => {
                let events = events.into_iter().map(Into::into).collect();
                for (events, fragment) in split(events, running.fragment) {
                    let answer = pb::WatchResponse { events, fragment, ..self.answer(id, revision) };
                    self.ready.push_back(answer);
                }
            }
            Ok(WatchItem::Progress { revision }) => match self.progress.tell(id, revision) {
                Some(answered) => self.ready.extend(answered.map(|all| self.answer(NO_WATCH, all))),
                None if running.notify => self.ready.push_back(self.answer(id, revision)),
                None => {}
            },
            // All watches of the stream are the same caller's. The stream ends, since Python's `etcd3` passes over the
            // cancellation of a watch and would wait for ever.
            Err(error @ Error::Unauthenticated { .. }) => return Err(refusal(error)),
            Err(error) => self.end(id, error).await,
        }
        Ok(())
    }

    /// A watch ended by itself.
    async fn end(&mut self, id: i64, error: Error) {
        let compacted = if let Error::Compacted { compacted, .. } = error { compacted } else { Revision(0) };
        let header = self.door.now().await.unwrap_or_default();
        self.ready.push_back(pb::WatchResponse {
            header,
            watch_id: id,
            canceled: true,
            compact_revision: compacted.0,
            cancel_reason: cancel_reason(error),
            ..Default::default()
        });
        self.watches.remove(&id);
        self.forget(id);
    }

    /// A watch that is gone is waited for no more.
    fn forget(&mut self, id: i64) {
        let answered = self.progress.forget(id);
        self.ready.extend(answered.map(|all| self.answer(NO_WATCH, all)));
    }

    fn answer(&self, id: i64, revision: Revision) -> pb::WatchResponse {
        pb::WatchResponse { header: self.door.header(revision), watch_id: id, ..Default::default() }
    }
}
