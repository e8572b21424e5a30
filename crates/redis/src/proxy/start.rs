//! Starts a proxy and takes its clients in.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::tls::Tls;
use crate::url::Url;

use super::control::{Control, Status};
use super::door;
use super::limits::Limits;
use super::metrics::Metrics;
use super::open::{OpenError, open};
use super::settings::{Doorway, Secret};
use super::worker::{Order, Worker};

/// What a proxy is.
#[derive(Clone)]
pub struct Config {
    /// Where clients come.
    pub listen: SocketAddr,
    /// Where their commands go.
    pub to: Url,
    /// How servers behind `rediss://` prove who they are.
    pub backend_tls: Option<Tls>,
    /// What clients have to say first. Needed to listen beyond loopback.
    pub password: Option<Secret>,
    /// Clients come by TLS, with this certificate.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// A Unix socket for the switch, metrics and health; whoever may open it (mode 600) may change the backend.
    pub admin: Option<PathBuf>,
    /// Where metrics and health can be read by TCP.
    pub metrics: Option<SocketAddr>,
    /// Threads, at least one. Each has connections of its own to every server.
    pub threads: usize,
    /// What it holds at most.
    pub limits: Limits,
}

/// A proxy that cannot start; nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Everybody could come in.
    #[error("{0} is not a loopback address, and clients need no password there")]
    Open(SocketAddr),
    /// The address is taken or not of this machine.
    #[error("cannot listen on {what}")]
    Listen {
        /// The address or path.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// The backend cannot be used.
    #[error(transparent)]
    Backend(#[from] OpenError),
    /// The system gives no thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// A proxy that listens. Dropped, it ends with all its clients.
pub struct Proxy {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    control: Arc<Control>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
    admin: Option<PathBuf>,
}

/// Clients and orders that a thread has not got to yet.
const ORDERS_MAX: usize = 1024;
/// When the system has no more sockets, how long to wait for one.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

impl Proxy {
    /// Looks at the backend, binds, and starts to serve. Needs a Tokio runtime with I/O and time; clients are served by
    /// threads of the proxy's own.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if !config.listen.ip().is_loopback() && config.password.is_none() {
            return Err(StartError::Open(config.listen));
        }
        let limits = Arc::new(config.limits);
        let opened = Arc::new(open(&config.to, config.backend_tls.as_ref(), &limits).await?);
        let failed = |what: String| move |source| StartError::Listen { what, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed(config.listen.to_string()))?;
        let address = listener.local_addr().map_err(failed(config.listen.to_string()))?;
        let watched = match config.metrics {
            Some(address) => Some(TcpListener::bind(address).await.map_err(failed(address.to_string()))?),
            None => None,
        };
        let socket = match &config.admin {
            Some(path) => Some(door::bind(path).await.map_err(failed(path.display().to_string()))?),
            None => None,
        };
        let doorway = Arc::new(Doorway {
            password: config.password,
            tls: config.tls.map(tokio_rustls::TlsAcceptor::from),
            next_id: AtomicU64::new(1),
        });
        let threads = config.threads.max(1);
        let (mut orders, mut metrics) = (Vec::new(), Vec::new());
        for index in 0..threads {
            let (sender, receiver) = mpsc::channel(ORDERS_MAX);
            let counted = Arc::new(Metrics::default());
            let (doorway, limits, opened) = (Arc::clone(&doorway), Arc::clone(&limits), Arc::clone(&opened));
            let (mine, runtime) = (
                Arc::clone(&counted),
                tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(StartError::Thread)?,
            );
            std::thread::Builder::new()
                .name(format!("redis-proxy-{index}"))
                .spawn(move || {
                    let work = Worker::run(doorway, limits, mine, threads, opened, receiver);
                    LocalSet::new().block_on(&runtime, work);
                })
                .map_err(StartError::Thread)?;
            orders.push(sender);
            metrics.push(counted);
        }
        let control = Arc::new(Control::new(orders, metrics, limits, opened, config.backend_tls));
        let metrics_address = watched.as_ref().and_then(|listener| listener.local_addr().ok());
        let mut tasks = vec![tokio::spawn(accept(listener, Arc::clone(&control)))];
        if let Some(listener) = watched {
            tasks.push(tokio::spawn(door::watch(listener, Arc::clone(&control))));
        }
        if let Some(listener) = socket {
            tasks.push(tokio::spawn(admin(listener, Arc::clone(&control))));
        }
        Ok(Self { address, metrics_address, control, tasks, admin: config.admin })
    }

    /// Where it listens; the port is the one it got, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where metrics can be read by TCP.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// How it is now.
    pub fn status(&self) -> Status {
        self.control.status()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(path) = &self.admin {
            let _ = std::fs::remove_file(path);
        }
    }
}

async fn admin(listener: UnixListener, control: Arc<Control>) {
    door::admin(listener, control).await;
}

async fn accept(listener: TcpListener, control: Arc<Control>) {
    let mut turn = 0usize;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) => {
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        if control.clients() >= control.limits().clients_max {
            turn_away(stream, &control);
            continue;
        }
        turn = turn.wrapping_add(1);
        let (orders, metrics) = control.thread(turn);
        metrics.clients.fetch_add(1, Relaxed);
        metrics.accepted.fetch_add(1, Relaxed);
        let sent = match stream.into_std() {
            Ok(stream) => orders.send(Order::Client(stream)).await.is_ok(),
            Err(_) => false,
        };
        if !sent {
            metrics.clients.fetch_sub(1, Relaxed);
        }
    }
}

fn turn_away(stream: TcpStream, control: &Control) {
    control.thread(0).1.turned_away.fetch_add(1, Relaxed);
    let _ = stream.try_write(b"-ERR max number of clients reached\r\n");
}
