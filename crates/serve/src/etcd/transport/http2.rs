//! One HTTP/2 connection.

use std::{
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::Router;
use bytes::Bytes;
use futures_util::{
    future::Either,
    stream::{FuturesUnordered, StreamExt},
};
use h2::{
    Ping, PingPong, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{Extensions, Request};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::{Instant, Sleep, sleep, timeout},
};

use super::{Desk, answers::Answers, gathered::Gathered, message, routed, stream, unary};
use crate::etcd::{
    Door,
    limits::{
        FIRST_WORD_TIMEOUT, HEADERS_BYTES_MAX, PING_INTERVAL, PING_TIMEOUT, SEND_BYTES_MAX, STREAMS_MAX, WINDOW_BYTES,
    },
};

/// Serves a connection to its end. `about` is what every request of it is told about it.
pub(super) async fn serve<T>(io: T, desk: Arc<dyn Desk>, about: Extensions)
where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX as u32)
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_send_buffer_size(SEND_BYTES_MAX);
    let io = Gathered::new(io);
    let handshake = builder.handshake(io.clone());
    let Ok(Ok(connection)) = timeout(FIRST_WORD_TIMEOUT, handshake).await else { return };
    drive(connection, io, desk, about).await;
}

async fn drive<T>(
    mut connection: Connection<Gathered<T>, Bytes>,
    io: Gathered<T>,
    desk: Arc<dyn Desk>,
    about: Extensions,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut beat = Beat::new(connection.ping_pong());
    let mut calls = FuturesUnordered::new();
    let mut others = JoinSet::new();
    let answers = Arc::new(Answers::default());
    io.gather();
    poll_fn(move |context| {
        loop {
            // What has come, and what is to go.
            while calls.len() + others.len() < STREAMS_MAX as usize {
                let Poll::Ready(accepted) = connection.poll_accept(context) else { break };
                // An error is the end of the connection; its client has been told, or is gone.
                let Some(Ok((request, respond))) = accepted else { return Poll::Ready(()) };
                match way(&request, &*desk) {
                    Way::Short(kind, door) => {
                        calls.push(Either::Left(unary::answer(kind, door, answers.clone(), request, respond)))
                    }
                    // In a box, so that it takes up no room in the calls that are short.
                    Way::Watch(door) => calls.push(Either::Right(Box::pin(stream::watch(door, request, respond)))),
                    Way::Routed => drop(others.spawn(route(desk.routes(request.headers()), &about, request, respond))),
                }
            }
            // A client can give up calls that are not done here. It gets no more of them until some are.
            if calls.len() + others.len() >= STREAMS_MAX as usize && connection.poll_closed(context).is_ready() {
                return Poll::Ready(());
            }
            let mut done = false;
            while let Poll::Ready(Some(())) = calls.poll_next_unpin(context) {
                done = true;
            }
            while let Poll::Ready(Some(_)) = others.poll_join_next(context) {
                done = true;
            }
            if beat.poll(context).is_ready() {
                return Poll::Ready(());
            }
            // Answers have been given to the connection: it is looked after once more, to send all in one write.
            if !done {
                if io.grows() {
                    // The watchers of one event are woken one after the other: others have their turn, then we look again.
                    context.waker().wake_by_ref();
                } else {
                    // Where it failed the connection finds out.
                    let _ = io.poll_send(context);
                }
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Where a request goes.
enum Way {
    Short(unary::Kind, Arc<Door>),
    Watch(Arc<Door>),
    Routed,
}

fn way(request: &Request<RecvStream>, desk: &dyn Desk) -> Way {
    let path = request.uri().path();
    let kind = unary::Kind::of(path);
    if !(kind.is_some() || path == stream::WATCH) || !message::is_plain(request) {
        return Way::Routed;
    }
    match (desk.short(request.headers()), kind) {
        (None, _) => Way::Routed,
        (Some(door), Some(kind)) => Way::Short(kind, door),
        (Some(door), None) => Way::Watch(door),
    }
}

fn route(
    router: Router,
    about: &Extensions,
    mut request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) -> impl Future<Output = ()> + use<> {
    request.extensions_mut().extend(about.clone());
    routed::answer(router, request, respond)
}

/// Finds out whether the client is still there.
struct Beat {
    pings: Option<PingPong>,
    next: Pin<Box<Sleep>>,
    asked: bool,
}

impl Beat {
    fn new(pings: Option<PingPong>) -> Self {
        Self { pings, next: Box::pin(sleep(PING_INTERVAL)), asked: false }
    }

    /// Ready when it is not.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(pings) = &mut self.pings else { return Poll::Pending };
        loop {
            if self.asked && pings.poll_pong(context).is_ready() {
                self.asked = false;
                self.next.as_mut().reset(Instant::now() + PING_INTERVAL);
            }
            if self.next.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if self.asked || pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Ready(());
            }
            self.asked = true;
            self.next.as_mut().reset(Instant::now() + PING_TIMEOUT);
        }
    }
}
