//! Watches, many on one stream.
//!
//! A stream is one task that reads what the client asks, and one for each watch. All write into one short queue; while
//! the client does not read, all of them wait, and the store keeps bounded queues for the watches.

mod one;
mod progress;
mod split;

use std::{collections::BTreeMap, sync::Arc};

use futures_util::stream::{BoxStream, StreamExt, poll_fn};
use regrow_store::{
    WatchRequest,
    proto::etcdserverpb::{self as pb, watch_request::RequestUnion},
};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    task::{JoinHandle, JoinSet},
};
use tonic::{Request, Response, Status, Streaming, async_trait};

use super::{
    Door, cancel_reason,
    limits::{STREAM_MESSAGES_MAX, STREAM_WATCHES_MAX},
};
use one::One;
use progress::Progress;

type Answer = Result<pb::WatchResponse, Status>;

/// The id in an answer that is about no watch: one that could not be created, or progress of all.
const NO_WATCH: i64 = -1;

#[async_trait]
impl pb::watch_server::Watch for Door {
    type WatchStream = BoxStream<'static, Answer>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (out, mut answers) = mpsc::channel(STREAM_MESSAGES_MAX);
        let stream = Stream::new(self.clone(), out);
        let mut tasks = JoinSet::new();
        tasks.spawn(stream.run(request.into_inner()));
        // The stream's tasks go with the answer that the client holds.
        let answers = poll_fn(move |context| {
            let _tasks = &tasks;
            answers.poll_recv(context)
        });
        Ok(Response::new(answers.boxed()))
    }
}

/// One stream of a client.
struct Stream {
    door: Door,
    out: mpsc::Sender<Answer>,
    watches: BTreeMap<i64, Running>,
    next: i64,
    progress: Arc<Progress>,
    /// Where a watch that ended by itself says so.
    ended: (mpsc::UnboundedSender<End>, mpsc::UnboundedReceiver<End>),
    /// The mark of the latest watch: an id may be used again, a mark is not.
    mark: u64,
}

/// A watch under way; it ends when this is dropped.
struct Running {
    mark: u64,
    task: JoinHandle<()>,
    ask: Arc<Notify>,
    _room: OwnedSemaphorePermit,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A watch that ended by itself: its id and its mark.
type End = (i64, u64);

/// The client is gone.
struct Gone;

impl Stream {
    fn new(door: Door, out: mpsc::Sender<Answer>) -> Self {
        // Unbounded by type, but each watch leaves its id once, and watches are counted.
        let ended = mpsc::unbounded_channel();
        Self { door, out, watches: BTreeMap::new(), next: 0, progress: Arc::default(), ended, mark: 0 }
    }

    /// Until the client goes. One that says that it will ask no more goes on being told, as in etcd.
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        let mut asks = true;
        let out = self.out.clone();
        loop {
            let done = tokio::select! {
                () = out.closed() => return,
                Some((id, mark)) = self.ended.1.recv() => {
                    if self.watches.get(&id).is_some_and(|running| running.mark == mark) {
                        self.watches.remove(&id);
                        self.forget(id).await
                    } else {
                        Ok(())
                    }
                }
                request = requests.message(), if asks => match request {
                    Ok(Some(request)) => self.request(request).await,
                    Ok(None) => {
                        asks = false;
                        Ok(())
                    }
                    Err(status) => {
                        // Whether it is still there to hear it is all the same.
                        let _ = out.send(Err(status)).await;
                        return;
                    }
                },
            };
            if done.is_err() {
                return;
            }
        }
    }

    async fn request(&mut self, request: pb::WatchRequest) -> Result<(), Gone> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
            Some(RequestUnion::ProgressRequest(_)) => self.ask().await,
            // As in etcd, which lets newer clients ask what it does not know.
            None => Ok(()),
        }
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), Gone> {
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
        let header = self.door.header(watch.revision());
        self.send(pb::WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        let ask = Arc::new(Notify::new());
        self.mark += 1;
        let one = One {
            id,
            mark: self.mark,
            door: self.door.clone(),
            out: self.out.clone(),
            ended: self.ended.0.clone(),
            progress: self.progress.clone(),
            ask: ask.clone(),
            fragment,
            notify,
        };
        let task = tokio::spawn(one.run(watch));
        self.watches.insert(id, Running { mark: self.mark, task, ask, _room: room });
        Ok(())
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

    async fn refuse(&self, reason: &str) -> Result<(), Gone> {
        let header = self.door.now().await.unwrap_or_default();
        let (created, canceled, cancel_reason) = (true, true, reason.to_owned());
        let answer =
            pb::WatchResponse { header, watch_id: NO_WATCH, created, canceled, cancel_reason, ..Default::default() };
        self.send(answer).await
    }

    fn free(&mut self) -> i64 {
        while self.watches.contains_key(&self.next) {
            self.next += 1;
        }
        self.next += 1;
        self.next - 1
    }

    /// Nothing of a watch comes after the answer to its cancellation.
    async fn cancel(&mut self, id: i64) -> Result<(), Gone> {
        let Some(mut running) = self.watches.remove(&id) else { return Ok(()) };
        running.task.abort();
        // It ended by itself, or by us; both are the end.
        let _ = (&mut running.task).await;
        let header = self.door.now().await.unwrap_or_default();
        self.send(pb::WatchResponse { header, watch_id: id, canceled: true, ..Default::default() }).await?;
        self.forget(id).await
    }

    /// Asks all watches how far they are; when the last has told, the client is.
    async fn ask(&mut self) -> Result<(), Gone> {
        if self.watches.is_empty() {
            let header = self.door.now().await.unwrap_or_default();
            return self.send(pb::WatchResponse { header, watch_id: NO_WATCH, ..Default::default() }).await;
        }
        self.progress.begin(self.watches.keys().copied());
        self.watches.values().for_each(|running| running.ask.notify_one());
        Ok(())
    }

    /// A watch that is gone is waited for no more.
    async fn forget(&mut self, id: i64) -> Result<(), Gone> {
        match self.progress.forget(id) {
            Some(revision) => {
                let header = self.door.header(revision);
                self.send(pb::WatchResponse { header, watch_id: NO_WATCH, ..Default::default() }).await
            }
            None => Ok(()),
        }
    }

    async fn send(&self, answer: pb::WatchResponse) -> Result<(), Gone> {
        self.out.send(Ok(answer)).await.map_err(|_| Gone)
    }
}
