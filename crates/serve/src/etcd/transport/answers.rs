//! Answers that wait for their client to take them.
//!
//! An answer is whole before it is sent, and a client decides when it reads. So a call whose answer may be large is not
//! begun before there is room for it: it waits until others of its connection have been taken. Answers about single keys
//! have room of their own, so that they need not wait behind those about many.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use regrow_store::{
    limits::REQUEST_BYTES_MAX,
    proto::etcdserverpb::{self as pb, request_op::Request as Op},
};
use tokio::sync::{Mutex, Notify};
use tonic::Status;

use crate::etcd::limits::{ANSWERS_BYTES_MAX, CONNECTION_ANSWERS_BYTES_MAX};

/// What is set aside for an answer about many keys before it is known: so many of a connection are made at once.
const MANY_BYTES: usize = CONNECTION_ANSWERS_BYTES_MAX / 4;

/// Bytes of an answer that is not worth counting.
const SMALL_BYTES: usize = 4 * 1024;

/// The answers of one connection.
#[derive(Default)]
pub(super) struct Answers {
    one: Arc<Line>,
    many: Arc<Line>,
}

/// Calls that wait for room, one after the other.
#[derive(Default)]
struct Line {
    /// Bytes that are set aside, or wait to be taken.
    bytes: AtomicUsize,
    first: Mutex<()>,
    freed: Notify,
}

/// Room that is taken, here and among all; free again when this is dropped.
pub(super) struct Room {
    line: Arc<Line>,
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl Answers {
    /// Waits for room for an answer of at most about so many bytes. `None`: it needs none. `all`: bytes of all
    /// connections.
    ///
    /// Errors: there is none on all connections together, and nothing here that would make some.
    pub(super) async fn room(&self, bytes: usize, all: &Arc<AtomicUsize>) -> Result<Option<Room>, Status> {
        if bytes == 0 {
            return Ok(None);
        }
        let is_one = bytes <= REQUEST_BYTES_MAX;
        let line = if is_one { &self.one } else { &self.many };
        let bytes = bytes.min(MANY_BYTES);
        let _first = line.first.lock().await;
        loop {
            let here = line.bytes.load(Ordering::Acquire);
            let is_room = all.load(Ordering::Acquire) + bytes <= ANSWERS_BYTES_MAX;
            if here == 0 && !is_room && !is_one {
                return Err(Status::resource_exhausted("etcdserver: too many requests"));
            }
            if here == 0 || (is_room && here + bytes <= CONNECTION_ANSWERS_BYTES_MAX) {
                let mut room = Room { line: line.clone(), all: all.clone(), bytes: 0 };
                room.set(bytes);
                return Ok(Some(room));
            }
            line.freed.notified().await;
        }
    }
}

impl Room {
    fn set(&mut self, bytes: usize) {
        // What is taken is added first, so that neither count is ever too low.
        self.line.bytes.fetch_add(bytes, Ordering::AcqRel);
        self.all.fetch_add(bytes, Ordering::AcqRel);
        self.line.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.all.fetch_sub(self.bytes, Ordering::AcqRel);
        self.bytes = bytes;
        self.line.freed.notify_one();
    }

    /// The answer, which takes up its room until the last of it has been sent.
    pub(super) fn hold(mut self, answer: Bytes) -> Bytes {
        if answer.len() <= SMALL_BYTES {
            return answer;
        }
        self.set(answer.len());
        Bytes::from_owner(Held(answer, self))
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.set(0);
    }
}

struct Held(Bytes, #[expect(dead_code, reason = "held as long as the answer")] Room);

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Bytes that a range may answer with.
pub(super) fn of_range(request: &pb::RangeRequest) -> usize {
    if request.count_only { 0 } else { of_keys(&request.range_end) }
}

/// Bytes that a put may answer with.
pub(super) fn of_put(request: &pb::PutRequest) -> usize {
    if request.prev_kv { REQUEST_BYTES_MAX } else { 0 }
}

/// Bytes that a deletion may answer with.
pub(super) fn of_delete(request: &pb::DeleteRangeRequest) -> usize {
    if request.prev_kv { of_keys(&request.range_end) } else { 0 }
}

/// Bytes that a transaction may answer with. The recursion ends where the decoder's does.
pub(super) fn of_txn(request: &pb::TxnRequest) -> usize {
    let of_op = |op: &pb::RequestOp| match &op.request {
        Some(Op::RequestRange(range)) => of_range(range),
        Some(Op::RequestPut(put)) => of_put(put),
        Some(Op::RequestDeleteRange(delete)) => of_delete(delete),
        Some(Op::RequestTxn(txn)) => of_txn(txn),
        None => 0,
    };
    let of_branch =
        |ops: &[pb::RequestOp]| ops.iter().map(of_op).fold(0, |sum: usize, bytes| sum.saturating_add(bytes));
    of_branch(&request.success).max(of_branch(&request.failure))
}

fn of_keys(range_end: &[u8]) -> usize {
    if range_end.is_empty() { REQUEST_BYTES_MAX } else { MANY_BYTES }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn room(answers: &Answers, bytes: usize, all: &Arc<AtomicUsize>) -> Option<Result<Option<Room>, tonic::Code>> {
        let room = answers.room(bytes, all).now_or_never()?;
        Some(room.map_err(|status| status.code()))
    }

    /// Answers are begun while there is room; the next waits until the last byte of one has gone.
    #[test]
    fn what_does_not_fit_waits() {
        let (answers, all) = (Answers::default(), Arc::default());
        let mut rooms: Vec<Room> = Vec::new();
        while let Some(Ok(Some(room))) = room(&answers, usize::MAX, &all) {
            rooms.push(room);
        }
        assert_eq!((rooms.len(), all.load(Ordering::Relaxed)), (4, CONNECTION_ANSWERS_BYTES_MAX));
        assert!(room(&answers, 1, &all).is_some(), "a single key need not wait");
        let mut answer = rooms.pop().expect("four").hold(Bytes::from(vec![1; MANY_BYTES + 1]));
        rooms.clear();
        assert_eq!(all.load(Ordering::Relaxed), MANY_BYTES + 1);
        let rest = answer.split_off(MANY_BYTES);
        drop(answer);
        assert_eq!(all.load(Ordering::Relaxed), MANY_BYTES + 1, "one byte keeps all");
        drop(rest);
        assert_eq!(all.load(Ordering::Relaxed), 0);
        let small = room(&answers, usize::MAX, &all).expect("room").expect("room").expect("room");
        drop(small.hold(Bytes::from_static(b"small")));
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    /// One that waits in line goes on when there is room, and those behind it in their order.
    #[tokio::test]
    async fn who_waits_goes_on() {
        let (answers, all) = (Answers::default(), Arc::default());
        let large = answers.room(MANY_BYTES, &all).await.expect("room").expect("room");
        let large = large.hold(Bytes::from(vec![1; CONNECTION_ANSWERS_BYTES_MAX]));
        let waiting = async {
            let (one, other) = tokio::join!(answers.room(MANY_BYTES, &all), answers.room(MANY_BYTES, &all));
            (one.is_ok(), other.is_ok())
        };
        let freeing = async { drop(large) };
        assert_eq!(tokio::join!(waiting, freeing).0, (true, true));
    }

    /// With all room taken by others, an answer about many keys is refused, and one about a single key is not.
    #[test]
    fn others_may_have_taken_all() {
        let all = Arc::new(AtomicUsize::new(ANSWERS_BYTES_MAX));
        let answers = Answers::default();
        assert!(matches!(room(&answers, usize::MAX, &all), Some(Err(tonic::Code::ResourceExhausted))));
        assert!(matches!(room(&answers, 1, &all), Some(Ok(Some(_)))));
        assert!(matches!(room(&answers, 0, &all), Some(Ok(None))));
    }
}
