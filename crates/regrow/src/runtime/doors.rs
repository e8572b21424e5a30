//! The doors: bound before anything starts, opened when all is ready.

use crate::exit::Failure;
use regrow_serve::{Agent, api};
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
    socket: PathBuf,
    serving: JoinSet<()>,
}

impl Doors {
    /// Binds the Unix socket in the data folder and, where wanted, the HTTP door; writes `doors.json`.
    pub(super) async fn bind(data: &Path, http: Option<SocketAddr>) -> Result<Doors, Failure> {
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
        let http = match http {
            None => None,
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                let hint = "choose another with --http IP:PORT, any free one with --http 127.0.0.1:0, or --http off";
                Failure::failed(format!("cannot open the HTTP door at {address}: {error}\n  {hint}"))
            })?),
        };
        let doors = match &http {
            Some(listener) => {
                let address =
                    listener.local_addr().map_err(|error| Failure::failed(format!("the HTTP door: {error}")))?;
                serde_json::json!({ "http": address.to_string() })
            }
            None => serde_json::json!({}),
        };
        let path = data.join("doors.json");
        std::fs::write(&path, format!("{doors}\n"))
            .map_err(|error| Failure::failed(format!("cannot write {}: {error}", path.display())))?;
        Ok(Doors { unix: Some(unix), http, socket, serving: JoinSet::new() })
    }

    /// Begins to serve.
    pub(super) fn open(mut self, agent: Arc<dyn Agent>) -> Doors {
        let router = api::router(agent);
        if let Some(listener) = self.unix.take() {
            let router = router.clone();
            self.serving.spawn(async move { drop(axum::serve(listener, router).await) });
        }
        if let Some(listener) = self.http.take() {
            self.serving.spawn(async move { drop(axum::serve(listener, router).await) });
        }
        self
    }

    /// Serves no more.
    pub(super) fn close(mut self) {
        self.serving.abort_all();
        let _ = std::fs::remove_file(&self.socket);
    }
}
