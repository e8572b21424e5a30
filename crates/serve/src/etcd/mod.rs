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
//! Whoever is there has a door of its own: one whose store does what [`regrow_control::access`] lets that caller do.
//! Without credentials there is no more to be had than how the door is, and the way to show some.
//!
//! **Caveats.** Transactions may be nested about 50 deep, which is where the decoder stops; etcd's own limit is 128.
//!
//! How it is built, and why: `docs/design/0007-etcd-door.md`.

mod auth;
mod authority;
mod cluster;
mod desk;
mod fallback;
mod gateway;
mod health;
mod identity;
mod kv;
mod lease;
pub mod limits;
mod maintenance;
mod plain;
mod reflection;
pub(crate) mod transport;
mod txn;
mod v2;
mod watch;

use std::sync::{Arc, atomic::AtomicUsize};

use axum::{Router, middleware};
use regrow_control::access::Asked;

use regrow_store::{
    Error, Store,
    proto::{
        etcdserverpb::{
            auth_server::AuthServer, cluster_server::ClusterServer, kv_server::KvServer, lease_server::LeaseServer,
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
use crate::access::{Guard, Guarded, Visit, What};

/// The door: what every service, on every listener, has.
#[derive(Clone)]
pub struct Door {
    /// As whoever is there may use it.
    store: Arc<dyn Store>,
    /// As it is.
    behind: Arc<dyn Store>,
    guard: Guard,
    /// Who is there; `None`: anybody.
    visit: Option<Visit>,
    identity: Arc<Identity>,
    /// Room for watches, all connections together.
    room: Arc<Semaphore>,
    /// Bytes of answers that wait to be taken, on all connections together.
    answers: Arc<AtomicUsize>,
    v2: Arc<v2::Shared>,
    gateway: Arc<gateway::Shared>,
}

impl Door {
    /// A door to a store, for whom the guard lets in.
    pub fn new(store: Arc<dyn Store>, identity: Identity, guard: Guard) -> Self {
        Self {
            behind: store.clone(),
            store,
            guard,
            visit: None,
            identity: Arc::new(identity),
            room: Arc::new(Semaphore::new(limits::WATCHES_MAX)),
            answers: Arc::default(),
            v2: Arc::new(v2::Shared::new()),
            gateway: Arc::new(gateway::Shared::new()),
        }
    }

    /// The door as one caller may use it.
    fn of(&self, visit: Visit) -> Self {
        let store = Arc::new(Guarded::new(self.behind.clone(), visit.clone()));
        Self { store, visit: Some(visit), ..self.clone() }
    }

    /// Whether whoever is there may take care of the whole store.
    fn may_care(&self, what: &'static str, did: &'static str) -> Result<(), Status> {
        let Some(visit) = &self.visit else { return Ok(()) };
        let asked = Asked::Care(what);
        visit.may(&asked, did, || What::Named("store".to_owned())).map(drop).map_err(|why| status(&why.into()))
    }

    fn header(&self, revision: regrow_store::Revision) -> Option<regrow_store::proto::etcdserverpb::ResponseHeader> {
        Some(self.identity.header(revision))
    }
}

/// Serves the store to etcd clients that come by one entrance, until the future is dropped. The entrances of one door
/// share its limits. A connection that fails ends alone.
pub async fn serve(entrance: impl Into<Entrance>, door: Door) {
    transport::serve(entrance.into(), desk::reception(door)).await;
}

/// Everything that a door answers but for the calls that go the short way.
fn routes(door: Door) -> Router {
    let bytes = limits::MESSAGE_BYTES_MAX;
    let auth = AuthServer::new(door.clone()).max_decoding_message_size(bytes);
    let routes = Routes::new(KvServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(WatchServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(LeaseServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(ClusterServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(MaintenanceServer::new(door.clone()).max_decoding_message_size(bytes))
        .add_service(HealthServer::new(door.clone()).max_decoding_message_size(bytes));
    // Of the service of users and roles only these are there; for the rest there is a sentence.
    let auth = Router::new()
        .route_service("/etcdserverpb.Auth/Authenticate", auth.clone())
        .route_service("/etcdserverpb.Auth/AuthStatus", auth);
    let services = routes.into_axum_router().merge(auth).merge(reflection::router());
    let services = services.fallback(fallback::unimplemented).layer(middleware::from_fn(txn::checked));
    services.clone().merge(plain::router(door, services))
}

/// Why a watch ends, as etcd says it: where it is for who asks, with the code before the text.
fn cancel_reason(error: Error) -> String {
    let of_caller = matches!(error, Error::Denied { .. } | Error::Anonymous { .. } | Error::Unauthenticated { .. });
    let status = refusal(error);
    if of_caller {
        format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
    } else {
        status.message().to_owned()
    }
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
