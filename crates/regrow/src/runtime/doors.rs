//! The doors: bound before anything starts, opened when all is ready.

use super::access::Access;
use crate::config::Settings;
use crate::exit::Failure;
use regrow_serve::access::{Keys, tokens};
use regrow_serve::jobs::{self, Jobs};
use regrow_serve::membership::{self, Membership};
use regrow_serve::{Agent, Entrance, api, etcd, serf};
use regrow_store::Store;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// Longest path of a Unix socket: `sun_path` has 108 bytes with its end (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// The doors of one agent.
pub(super) struct Doors {
    unix: Option<UnixListener>,
    http: Option<TcpListener>,
    /// The etcd door's listeners: its own, and the one of etcd 2.
    etcd: Vec<TcpListener>,
    keys: Option<Keys>,
    identity: etcd::Identity,
    rpc: Option<(TcpListener, Option<Arc<str>>)>,
    socket: PathBuf,
    serving: JoinSet<()>,
}

impl Doors {
    /// Binds the Unix socket in the data folder and, where wanted, the HTTP and the etcd doors; writes `doors.json`,
    /// which also says where a store elsewhere is.
    pub(super) async fn bind(
        data: &Path,
        settings: &Settings,
        keys: Option<Keys>,
        gossip: Option<SocketAddr>,
    ) -> Result<Doors, Failure> {
        let socket = data.join("regrow.sock");
        if socket.as_os_str().len() > SOCKET_PATH_BYTES_MAX {
            return Err(Failure::failed(format!(
                "the socket {} has a path of more than {SOCKET_PATH_BYTES_MAX} bytes: choose a shorter --data",
                socket.display()
            )));
        }
        let refuse =
            |error: std::io::Error| Failure::failed(format!("cannot bind the socket {}: {error}", socket.display()));
        // The store's lock on the data folder is ours, so a socket that is there is a dead agent's.
        match std::fs::remove_file(&socket) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refuse(error)),
            _ => {}
        }
        let unix = UnixListener::bind(&socket).map_err(refuse)?;
        std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600)).map_err(refuse)?;
        let mut doors = serde_json::Map::new();
        if keys.is_some() {
            doors.insert("tls".into(), true.into());
        }
        let scheme = if keys.is_some() { "https" } else { "http" };
        let http = match settings.http {
            None => None,
            Some(address) => {
                let (listener, address) = listen("HTTP", "--http", address).await?;
                doors.insert("http".into(), address.to_string().into());
                Some(listener)
            }
        };
        let (mut etcd, mut urls) = (Vec::new(), Vec::new());
        for (door, flag, address) in
            [("etcd", "--etcd", settings.etcd), ("etcd-legacy", "--etcd-legacy", settings.etcd_legacy)]
        {
            let Some(address) = address else { continue };
            let (listener, address) = listen("etcd", flag, address).await?;
            doors.insert(door.into(), address.to_string().into());
            // What listens everywhere is told by the address that others know.
            let ip = if address.ip().is_unspecified() { settings.address } else { address.ip() };
            urls.push(format!("{scheme}://{}", SocketAddr::new(ip, address.port())));
            etcd.push(listener);
        }
        let identity = etcd::Identity::new(settings.node.as_str(), urls);
        if let Some(store) = &settings.store {
            doors.insert("store".into(), store.0.clone().into());
        }
        let rpc = match settings.rpc {
            None => None,
            Some(address) => {
                let (listener, address) = listen("RPC", "--rpc", address).await?;
                doors.insert("rpc".into(), address.to_string().into());
                if keys.is_some() && !address.ip().is_loopback() {
                    tracing::warn!(
                        "Serf's RPC at {address} has no encryption: who is on the way can read what is sent"
                    );
                }
                Some((listener, settings.rpc_auth.as_deref().map(Arc::from)))
            }
        };
        if let Some(address) = gossip {
            doors.insert("gossip".into(), address.to_string().into());
        }
        let doors = serde_json::Value::Object(doors);
        let path = data.join("doors.json");
        std::fs::write(&path, format!("{doors}\n"))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Doors { unix: Some(unix), http, etcd, keys, identity, rpc, socket, serving: JoinSet::new() })
    }

    /// Begins to serve.
    pub(super) fn open(
        mut self,
        agent: Arc<dyn Agent>,
        store: Arc<dyn Store>,
        membership: Option<Arc<dyn Membership>>,
        jobs: Arc<dyn Jobs>,
        access: Access,
    ) -> Doors {
        let members = membership.clone().map_or_else(membership::http::shut, membership::http::router);
        let Access { guard, registry } = access;
        let more = members.merge(tokens::router(registry)).merge(jobs::http::router(jobs));
        let router = api::router(agent, more, guard.clone());
        if let (Some((listener, auth)), Some(membership)) = (self.rpc.take(), membership) {
            self.serving.spawn(serf::serve(listener, serf::Door { membership, auth, guard: guard.clone() }));
        }
        if let Some(listener) = self.unix.take() {
            self.serving.spawn(api::serve(listener, router.clone()));
        }
        if let Some(listener) = self.http.take() {
            let entrance = Entrance::sealed(listener, self.keys.clone());
            self.serving.spawn(api::serve(entrance, router));
        }
        let door = etcd::Door::new(store, self.identity.clone(), guard);
        for listener in self.etcd.drain(..) {
            let door = door.clone();
            let entrance = Entrance::sealed(listener, self.keys.clone());
            self.serving.spawn(etcd::serve(entrance, door));
        }
        self
    }

    /// Serves no more.
    pub(super) fn close(mut self) {
        self.serving.abort_all();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A listener, and where it is in the end.
async fn listen(name: &str, flag: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let refuse = |error: std::io::Error| {
        let hint = format!("choose another with {flag} IP:PORT, any free one with {flag} 127.0.0.1:0, or {flag} off");
        Failure::failed(format!("cannot open the {name} door at {address}: {error}\n  {hint}"))
    };
    let listener = TcpListener::bind(address).await.map_err(refuse)?;
    let address = listener.local_addr().map_err(refuse)?;
    Ok((listener, address))
}
