//! Connections: HTTP/2, and HTTP/1.1 on the same port.
//!
//! **Flow.** A connection is a task. What it begins with tells which HTTP it speaks. On HTTP/2 the calls that clients make
//! most (`Range`, `Put`, `DeleteRange`, `Txn`; [`unary`]) and watches ([`stream`]) are answered within that task; every
//! other request goes to the routes, as a task of its own ([`routed`]). What is to be sent is gathered until none of them
//! has more to say, and leaves in one write ([`gathered`]).
//!
//! **Why not tonic's server.** For each call it makes a task, a dozen boxes and two copies of the routes, and wakes a
//! task for each answer. Here answers that come together, as those of one sync do, wake one task and leave in one write.
//! A put cost the server 22 µs of processor before and 13 µs since.
//!
//! **Guarantees.** What a peer can hold is bounded by [`limits`](super::limits): connections, the time to say the first
//! word, calls on a connection, bytes of headers, of a message, of answers ([`answers`]), and of what waits to be read or
//! sent. A connection that is
//! gone is found by a ping.

mod answers;
mod begun;
mod gathered;
mod http2;
mod message;
mod routed;
mod stream;
mod unary;

use std::{sync::Arc, time::Duration};

use axum::Router;
use http::{Extensions, HeaderMap};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tonic::codegen::Service;

use super::{
    Door,
    authority::Mended,
    limits::{CONNECTIONS_MAX, FIRST_WORD_TIMEOUT, HEADERS_BYTES_MAX},
};
use crate::entrance::{Arrival, Entered, Entrance, while_good};
use begun::Begun;

/// What answers the requests of one connection, as whoever sends these headers on it may use it.
pub(crate) trait Desk: Send + Sync {
    /// The door for a call that may go the short way. `None`: the routes decide, and answer.
    fn short(&self, headers: &HeaderMap) -> Option<Arc<Door>>;
    /// The routes for everything else.
    fn routes(&self, headers: &HeaderMap) -> Router;
}

/// Finds the desk of a connection, by what it shows.
pub(crate) type Reception = Arc<dyn Fn(&Extensions) -> Arc<dyn Desk> + Send + Sync>;

/// The pause after a connection could not be taken, as when there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves connections until the future is dropped: then they end with it.
pub(crate) async fn serve(entrance: Entrance, reception: Reception) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = async {
            // It is never closed.
            let permit = room.clone().acquire_owned().await;
            (entrance.next().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok(arrival) => {
                let reception = reception.clone();
                connections.spawn(async move {
                    connection(arrival, reception).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not taken");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(arrival: Arrival, reception: Reception) {
    let begin = async {
        let Entered { stream, about, standing } = arrival.enter().await?;
        let (speaks_http2, io) = Begun::read(Mended::new(stream)).await?;
        std::io::Result::Ok((speaks_http2, io, about, standing))
    };
    // One that does not say who it is and what it speaks has no more time than this.
    let Ok(Ok((speaks_http2, io, about, standing))) = timeout(FIRST_WORD_TIMEOUT, begin).await else { return };
    let desk = reception(&about);
    if speaks_http2 {
        while_good(standing, http2::serve(io, desk, about)).await;
        return;
    }
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        request.extensions_mut().extend(about.clone());
        desk.routes(request.headers()).call(request)
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(FIRST_WORD_TIMEOUT).max_buf_size(HEADERS_BYTES_MAX);
    // How it ended matters to the client only, who knows.
    let serving = async { drop(server.serve_connection(TokioIo::new(io), service).await) };
    while_good(standing, serving).await;
}
