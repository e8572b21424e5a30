//! `proxy`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::proxy::{Config, Limits, Proxy, Secret};
use crate::url::Url;

use super::access::Backend;
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `proxy`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regrow redis proxy --listen 127.0.0.1:6379 --to redis-cluster://10.0.0.1:7001,10.0.0.2:7001
  REGROW_PROXY_PASSWORD=… REGROW_REDIS_PASSWORD=… regrow redis proxy --listen 10.0.0.9:6379 \\
      --to redis-cluster://10.0.0.1:7001 --admin /run/regrow/proxy.sock --metrics 127.0.0.1:9121
  regrow redis switch /run/regrow/proxy.sock --to redis://10.0.0.5:6379")]
pub struct Args {
    /// Where clients come: IP:PORT; beyond loopback only with a password for them
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    #[command(flatten)]
    backend: Backend,
    /// A file with the password that clients have to say; else REGROW_PROXY_PASSWORD, else none
    #[arg(long, value_name = "FILE")]
    client_password_file: Option<PathBuf>,
    /// Certificate chain for clients that come by TLS, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// A Unix socket (mode 600) for `switch`, metrics and health
    #[arg(long, value_name = "PATH")]
    admin: Option<PathBuf>,
    /// Where metrics and health are read by HTTP: IP:PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Threads; each has connections of its own to every server [default: one for each core, at most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,
    #[command(flatten)]
    bounds: Bounds,
}

/// What the proxy holds at most.
#[derive(Debug, clap::Args)]
struct Bounds {
    /// Clients at the same time
    #[arg(long, value_name = "N", default_value_t = Limits::default().clients_max, help_heading = "Limits")]
    clients_max: usize,
    /// Bytes of one command
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().request_bytes_max, help_heading = "Limits")]
    request_bytes_max: usize,
    /// Commands of one client in flight
    #[arg(long, value_name = "N", default_value_t = Limits::default().in_flight_max, help_heading = "Limits")]
    in_flight_max: usize,
    /// Bytes of answers that a client has not taken, from which on it is cut off
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().output_bytes_max, help_heading = "Limits")]
    output_bytes_max: usize,
    /// Bytes of half commands and waiting answers of all clients
    #[arg(long, value_name = "BYTES", default_value_t = Limits::default().buffered_bytes_max, help_heading = "Limits")]
    buffered_bytes_max: usize,
    /// Seconds that a client may say nothing; 0: for ever
    #[arg(long, value_name = "SECONDS", default_value_t = 0, help_heading = "Limits")]
    idle: u64,
    /// Seconds for which a command that was not carried out is tried again: longer than a fail-over takes
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Limits")]
    retry_for: u64,
    /// Seconds that a server may leave all its commands unanswered
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Limits")]
    answer_within: u64,
    /// Seconds for which a switch may hold commands
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600), help_heading = "Limits")]
    pause_max: u64,
}

impl Bounds {
    fn limits(&self) -> Limits {
        Limits {
            clients_max: self.clients_max.max(1),
            request_bytes_max: self.request_bytes_max.max(1024),
            in_flight_max: self.in_flight_max.max(1),
            output_bytes_max: self.output_bytes_max.max(1024),
            buffered_bytes_max: self.buffered_bytes_max.max(1 << 20),
            idle: Some(Duration::from_secs(self.idle)).filter(|idle| !idle.is_zero()),
            retry_for: Duration::from_secs(self.retry_for),
            answer_within: Duration::from_secs(self.answer_within),
            pause_max: Duration::from_secs(self.pause_max),
            ..Limits::default()
        }
    }
}

/// Threads where nothing is said.
const THREADS_MAX: usize = 8;
/// The variable with the password that clients have to say.
const PASSWORD: &str = "REGROW_PROXY_PASSWORD";

#[derive(serde::Serialize)]
struct Listening {
    listen: SocketAddr,
    to: String,
    cluster: bool,
    metrics: Option<SocketAddr>,
    admin: Option<PathBuf>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let (to, backend_tls): (Url, _) = args.backend.url()?;
    let password = match &args.client_password_file {
        Some(path) => Some(read_password(path)?),
        None => std::env::var(PASSWORD).ok(),
    };
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(certificate), Some(key)) => Some(super::tls::server(certificate, key)?),
        _ => None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Before anything listens, so that no signal is missed.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let proxy = Proxy::start(Config {
        listen: args.listen,
        to,
        backend_tls,
        password: password.and_then(Secret::new),
        tls: tls.map(Arc::new),
        admin: args.admin.clone(),
        metrics: args.metrics,
        threads: args.threads.map_or(cores.min(THREADS_MAX), usize::from),
        limits: args.bounds.limits(),
    })
    .await?;
    let status = proxy.status();
    let listening = Listening {
        listen: proxy.address(),
        to: status.to,
        cluster: status.cluster,
        metrics: proxy.metrics_address(),
        admin: args.admin,
    };
    io.data(args.backend.json(), &listening, || {
        let what = if listening.cluster { "the cluster" } else { "the server" };
        format!("listening on {}, for {what} {}", listening.listen, listening.to)
    })?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(Exit::Done)
}

/// A password from the first line of a file.
pub(super) fn read_password(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|source| Failure::File { path: path.to_owned(), source })?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(Failure::Refused {
            why: format!("{} holds no password in its first line", path.display()),
            hint: "write the password into it, or leave the option away".to_owned(),
        });
    }
    Ok(line.to_owned())
}
