//! One watch of a stream.

use std::sync::Arc;

use regrow_store::{Error, Revision, Watch, WatchItem, proto::etcdserverpb as pb};
use tokio::sync::{Notify, mpsc};

use super::{Answer, End, NO_WATCH, progress::Progress, split::split};
use crate::etcd::{Door, cancel_reason};

/// What one watch needs.
pub(super) struct One {
    pub(super) id: i64,
    pub(super) mark: u64,
    pub(super) door: Door,
    pub(super) out: mpsc::Sender<Answer>,
    pub(super) ended: mpsc::UnboundedSender<End>,
    pub(super) progress: Arc<Progress>,
    /// The client asks how far all its watches are.
    pub(super) ask: Arc<Notify>,
    /// One revision may come in pieces.
    pub(super) fragment: bool,
    /// The client wants to be told of progress from time to time.
    pub(super) notify: bool,
}

impl One {
    /// Until the watch ends or the client goes.
    pub(super) async fn run(self, mut watch: Watch) {
        loop {
            let answers = tokio::select! {
                biased;
                () = self.ask.notified() => {
                    watch.request_progress();
                    continue;
                }
                item = watch.next() => match item {
                    Some(Ok(WatchItem::Events { revision, events })) => {
                        let events = events.into_iter().map(Into::into).collect();
                        let pieces = split(events, self.fragment).into_iter();
                        pieces.map(|(events, fragment)| pb::WatchResponse { events, fragment, ..self.answer(revision) }).collect()
                    }
                    Some(Ok(WatchItem::Progress { revision })) => self.told(revision),
                    Some(Err(error)) => {
                        // The client may be gone; the stream hears of the end in any case.
                        let _ = self.out.send(Ok(self.end(error).await)).await;
                        break;
                    }
                    None => break,
                },
            };
            for answer in answers {
                if self.out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        }
        // The stream may be gone.
        let _ = self.ended.send((self.id, self.mark));
    }

    fn answer(&self, revision: Revision) -> pb::WatchResponse {
        pb::WatchResponse { header: self.door.header(revision), watch_id: self.id, ..Default::default() }
    }

    fn told(&self, revision: Revision) -> Vec<pb::WatchResponse> {
        if let Some(answered) = self.progress.tell(self.id, revision) {
            return answered
                .map(|all| pb::WatchResponse { watch_id: NO_WATCH, ..self.answer(all) })
                .into_iter()
                .collect();
        }
        if self.notify { vec![self.answer(revision)] } else { Vec::new() }
    }

    async fn end(&self, error: Error) -> pb::WatchResponse {
        let compacted = if let Error::Compacted { compacted, .. } = error { compacted } else { Revision(0) };
        let header = self.door.now().await.unwrap_or_default();
        let reason = cancel_reason(error);
        pb::WatchResponse {
            header,
            watch_id: self.id,
            canceled: true,
            compact_revision: compacted.0,
            cancel_reason: reason,
            ..Default::default()
        }
    }
}
