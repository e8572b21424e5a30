//! The etcd door: any `Store` as a single etcd member, by gRPC and by plain HTTP on one port.
//!
//! **Flow.** Each service turns a message into the store's request, the answer into a message, and stamps the header.
//! Nothing is decided here that etcd's clients do not decide by: codes and texts of errors are etcd's. A connection
//! that does not begin with HTTP/2's preface speaks HTTP/1.1; what is not gRPC is in [`plain`].
//!
//! **Guarantees.** Every call of a service that is registered is answered; what is not offered answers
//! `UNIMPLEMENTED` with a sentence, other services too. A client that does not read holds up nobody but itself: what
//! waits for it is bounded by [`limits`].
//!
//! **Assumptions.** The listener is on loopback, or whoever can reach it may do everything: there are no credentials
//! yet.
//!
//! **Caveats.** Transactions may be nested about 50 deep, which is where the decoder stops; etcd's own limit is 128.
//!
//! How it is built, and why: `docs/design/0007-etcd-door.md`.

mod authority;
mod cluster;
mod fallback;
mod health;
mod identity;
mod kv;
mod lease;
pub mod limits;
mod maintenance;
mod plain;
pub(crate) mod transport;
mod v2;
mod watch;

use std::sync::Arc;

use regrow_store::{
    Error, Store,
    proto::{
        etcdserverpb::{
            cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
            maintenance_server::MaintenanceServer, watch_server::WatchServer,
        },
        health::health_server::HealthServer,
        status,
    },
};
use tokio::sync::Semaphore;
use tonic::{Status, service::Routes};

pub use identity::Identity;

use crate::Entrance;

/// The door: what every service, on every listener, has.
#[derive(Clone)]
pub struct Door {
    store: Arc<dyn Store>,
    identity: Arc<Identity>,
    /// Room for watches, all connections together.
    room: Arc<Semaphore>,
    v2: Arc<v2::Shared>,
}

impl Door {
    /// A door to a store.
    pub fn new(store: Arc<dyn Store>, identity: Identity) -> Self {
        Self {
            store,
            identity: Arc::new(identity),
            room: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            v2: Arc::new(v2::Shared::new()),
        }
    }

    fn header(&self, revision: regrow_store::Revision) -> Option<regrow_store::proto::etcdserverpb::ResponseHeader> {
        Some(self.identity.header(revision))
    }
}

/// Serves the store to etcd clients that come by one entrance, until the future is dropped. The entrances of one door
/// share its limits. A connection that fails ends alone.
pub async fn serve(entrance: impl Into<Entrance>, door: Door) {
    let bytes = limits::MESSAGE_BYTES_MAX;
    let routes = Routes::new(KvServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(WatchServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(LeaseServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(ClusterServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(MaintenanceServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(HealthServer::new(door.clone()).max_decoding_message_size(bytes));
    let short = Arc::new(door.clone());
    let short: transport::Short = Arc::new(move |_, _| Some(short.clone()));
    let router = routes.into_axum_router().merge(plain::router(door)).fallback(fallback::unimplemented);
    transport::serve(entrance.into(), router, short).await;
}

/// The answer to a request that failed. What is not the caller's doing is logged, since etcd's texts hide it.
fn refusal(error: Error) -> Status {
    if matches!(error, Error::Corrupt { .. } | Error::Disk { .. } | Error::Unavailable { .. }) {
        tracing::error!(%error, "a request of an etcd client failed");
    }
    status(&error)
}

/// An answer to what is not offered.
fn not_offered(sentence: &'static str) -> Status {
    Status::unimplemented(sentence)
}
