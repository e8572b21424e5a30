//! One watch of a stream.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{
    future::{Either, select},
    stream::{BoxStream, StreamExt, unfold},
};
use regrow_store::{Result, Watch, WatchItem};
use tokio::sync::Notify;

/// What a watch tells its stream.
pub(super) struct Told {
    pub(super) id: i64,
    pub(super) mark: u64,
    pub(super) item: Result<WatchItem>,
}

/// How a stream speaks to one of its watches.
#[derive(Default)]
pub(super) struct Bell {
    rung: Notify,
    over: AtomicBool,
}

impl Bell {
    /// The client asks how far all its watches are.
    pub(super) fn ask(&self) {
        self.rung.notify_one();
    }

    /// The watch is to end.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Release);
        self.rung.notify_one();
    }
}

/// What a watch tells, until it ends.
pub(super) fn told((id, mark): (i64, u64), watch: Watch, bell: Arc<Bell>) -> BoxStream<'static, Told> {
    let told = unfold((watch, bell), move |(mut watch, bell)| async move {
        loop {
            let rung = match select(pin!(bell.rung.notified()), pin!(watch.next())).await {
                Either::Left(_) => None,
                Either::Right((item, _)) => Some(item),
            };
            match rung {
                None if bell.over.load(Ordering::Acquire) => return None,
                None => watch.request_progress(),
                Some(item) => return Some((Told { id, mark, item: item? }, (watch, bell))),
            }
        }
    });
    told.boxed()
}
