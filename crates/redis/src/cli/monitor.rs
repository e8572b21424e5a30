//! `monitor`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};

use crate::address::Address;
use crate::admin::chain;
use crate::connection::Dialer;
use crate::monitor::{Report, look, metrics};
use crate::proxy::http::{Answer, read, write};
use crate::url::Place;

use super::access::Backend;
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `monitor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  regrow redis monitor --to redis-cluster://10.0.0.1:7001 --once
  regrow redis monitor --to redis-cluster://10.0.0.1:7001 --listen 127.0.0.1:9121")]
pub struct Args {
    #[command(flatten)]
    backend: Backend,
    /// Where /metrics, /health and /report are read by HTTP: IP:PORT
    #[arg(long, value_name = "ADDR", required_unless_present = "once")]
    listen: Option<SocketAddr>,
    /// Look once, say what was found, and exit 1 if anything is wrong
    #[arg(long, conflicts_with = "listen")]
    once: bool,
    /// Seconds to wait for one answer of one server
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
}

/// A look serves all that ask within this time, so that asking often costs the servers nothing.
const FRESH: Duration = Duration::from_secs(1);
/// Requests at the same time; more wait.
const REQUESTS_MAX: usize = 32;
/// How long a request may take to come in.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);

type Look = Result<Report, String>;

struct Watch {
    dialer: Dialer,
    seeds: Vec<Address>,
    last: Mutex<Option<(Instant, Arc<Look>)>>,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let (url, tls) = args.backend.url()?;
    let refused = |why: &str, hint: &str| Failure::Refused { why: why.to_owned(), hint: hint.to_owned() };
    let seeds = match &url.place {
        Place::Server { address, .. } => vec![address.clone()],
        Place::Cluster { nodes } => nodes.clone(),
        Place::Sentinel { .. } => {
            return Err(refused("the monitor does not ask sentinels", "name the server itself: redis://HOST:PORT"));
        }
    };
    let dialer = Dialer {
        credentials: url.credentials.clone(),
        timeout: Duration::from_secs(args.timeout),
        tls: tls.filter(|_| url.tls),
    };
    let Some(listen) = args.listen else {
        let report = look(&dialer, &seeds).await?;
        io.data(args.backend.json(), &report, || shown(&report))?;
        return Ok(if report.healthy { Exit::Done } else { Exit::Failed });
    };
    let listener = TcpListener::bind(listen).await?;
    io.data(args.backend.json(), &serde_json::json!({ "listen": listener.local_addr()?.to_string() }), || {
        format!("metrics of {url} on http://{}/metrics", listener.local_addr().unwrap_or(listen))
    })?;
    let watch = Arc::new(Watch { dialer, seeds, last: Mutex::new(None) });
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let watch = Arc::clone(&watch);
        tokio::spawn(async move {
            watch.serve(stream).await;
            drop(permit);
        });
    }
    Ok(Exit::Done)
}

impl Watch {
    async fn look(&self) -> Arc<Look> {
        let mut last = self.last.lock().await;
        if let Some((when, look)) = &*last
            && when.elapsed() < FRESH
        {
            return Arc::clone(look);
        }
        let fresh = Arc::new(look(&self.dialer, &self.seeds).await.map_err(|error| chain(&error)));
        *last = Some((Instant::now(), Arc::clone(&fresh)));
        fresh
    }

    async fn serve(&self, mut stream: TcpStream) {
        let answer = match timeout(REQUEST_WITHIN, read(&mut stream)).await {
            Ok(Ok(request)) if request.method != "GET" => Answer::error(405, "GET looks, and nothing else is here"),
            Ok(Ok(request)) => self.answer(&request.path).await,
            Ok(Err(error)) => Answer::error(400, &error.to_string()),
            Err(_) => Answer::error(408, "the request did not come in time"),
        };
        // Whoever asked and went away needs no answer.
        let _ = write(&mut stream, &answer).await;
    }

    async fn answer(&self, path: &str) -> Answer {
        if !["/metrics", "/health", "/report"].contains(&path) {
            return Answer::error(404, "there are /metrics, /health and /report");
        }
        let look = self.look().await;
        match (path, &*look) {
            ("/metrics", look) => Answer::text(200, metrics(look.as_ref().map_err(String::as_str))),
            ("/health", Ok(report)) if report.healthy => Answer::text(200, "ok\n"),
            ("/health", Ok(report)) => Answer::text(503, report.problems.join("\n") + "\n"),
            (_, Ok(report)) => Answer::json(report),
            (_, Err(why)) => Answer::error(503, why),
        }
    }
}

fn shown(report: &Report) -> String {
    let mut rows =
        vec![["NODE", "ROLE", "SLOTS", "KEYS", "MEMORY", "CLIENTS", "LAG", "VERSION"].map(str::to_owned).to_vec()];
    for node in &report.nodes {
        let lag = match (node.linked, node.lag_bytes) {
            (Some(false), _) => "cut off".to_owned(),
            (_, Some(lag)) => super::table::bytes(lag),
            _ => String::new(),
        };
        rows.push(vec![
            node.address.to_string(),
            node.role.to_owned(),
            if node.role == "master" { node.slots.to_string() } else { String::new() },
            node.keys.to_string(),
            super::table::bytes(node.memory_bytes),
            node.clients.to_string(),
            lag,
            node.version.clone(),
        ]);
    }
    let mut text = super::table::columns(&rows);
    report.problems.iter().for_each(|problem| text += &format!("problem: {problem}\n"));
    text += if report.healthy { "healthy\n" } else { "not healthy\n" };
    text
}
