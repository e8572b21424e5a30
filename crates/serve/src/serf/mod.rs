//! Serf's RPC: MessagePack over TCP, as `serf`, its libraries and its scripts speak it to an agent.
//!
//! Flow: a client sends a header `{Command, Seq}` and, for most commands, a body; it gets a header `{Seq, Error}` and,
//! for most, a body. `stream`, `monitor` and `query` go on with records under the same `Seq` until `stop`.
//!
//! Guarantees: every command of Serf 0.8 to 0.10, with its error texts. A slow client loses records of its streams, and
//! holds nobody up. Everything that a client sends has a bound.
//!
//! Source: Serf's documentation of its RPC protocol, version 1.

mod allowed;
mod body;
mod request;
mod session;
mod stream;

use crate::access::{Guard, Origin, Peer};
use crate::membership::Membership;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

/// Clients at a time; another waits.
const CLIENTS_MAX: usize = 256;

/// What the door needs.
#[derive(Clone)]
pub struct Door {
    /// Behind it.
    pub membership: Arc<dyn Membership>,
    /// A key that clients may show with `auth`; they must when nothing else lets them in.
    pub auth: Option<Arc<str>>,
    /// Who may do what; the key that clients show may be a token.
    pub guard: Guard,
}

/// Serves clients until it is dropped.
pub async fn serve(listener: TcpListener, door: Door) {
    let places = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, from)) => {
                let door = door.clone();
                let peer = Peer { origin: Origin::Tcp { remote: from, tls: false }, certificate: None };
                tokio::spawn(async move {
                    if let Err(error) = session::run(stream, peer, door).await {
                        tracing::debug!(%from, "an RPC client was let go: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: trying again at once would only burn the processor.
                tracing::warn!("the RPC door cannot accept: {error}");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}
