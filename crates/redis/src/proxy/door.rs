//! The admin interface: HTTP/1.1, one request a connection.
//!
//! ```text
//! GET  /health    200 while the backend serves every slot, else 503 and what is wrong
//! GET  /metrics   the text format of Prometheus
//! GET  /status    {"to": …, "cluster": …, "paused": …, "clients": …, "commands": …}
//! POST /pause     {"drain_ms": 5000, "longest_ms": 30000}: holds commands; answers when none is in flight
//! POST /switch    {"to": URL, "user": …, "password": …, "drain_ms": …}: pauses, changes the backend, goes on; with
//!                 "paused": true it changes it during a pause, which goes on, or is refused when that is over
//! POST /resume    lets commands go on
//! ```
//!
//! What changes anything is on the Unix socket only, which its mode keeps for one user.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::admin::chain;
use crate::url::{Credentials, Url};

use super::control::{Control, ControlError, Switched};
use super::http::{Answer, Request, read, write};

/// Requests at the same time; more wait.
const REQUESTS_MAX: usize = 32;
/// How long a request may take to come in.
const REQUEST_WITHIN: Duration = Duration::from_secs(5);
/// How long commands in flight may take to be answered, where nothing is said.
const DRAIN: Duration = Duration::from_secs(5);

/// Listens on a Unix socket that only this user may open. A socket that nobody listens on is replaced.
pub(crate) async fn bind(path: &Path) -> io::Result<UnixListener> {
    if path.exists() {
        if UnixStream::connect(path).await.is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there"));
        }
        if !std::os::unix::fs::FileTypeExt::is_socket(&std::fs::symlink_metadata(path)?.file_type()) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something that is no socket"));
        }
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves the Unix socket.
pub(crate) async fn admin(listener: UnixListener, control: Arc<Control>) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let _ = serve(stream, &control, true).await;
            drop(permit);
        });
    }
}

/// Serves what may only be looked at.
pub(crate) async fn watch(listener: TcpListener, control: Arc<Control>) {
    let room = Arc::new(Semaphore::new(REQUESTS_MAX));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            let _ = serve(stream, &control, false).await;
            drop(permit);
        });
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    control: &Arc<Control>,
    trusted: bool,
) -> io::Result<()> {
    let answer = match timeout(REQUEST_WITHIN, read(&mut stream)).await {
        Ok(Ok(request)) => answer(&request, control, trusted).await,
        Ok(Err(error)) => Answer::error(400, &error.to_string()),
        Err(_) => Answer::error(408, "the request did not come in time"),
    };
    write(&mut stream, &answer).await
}

#[derive(Default, serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Wish {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sentinel_user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sentinel_password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) drain_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) longest_ms: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) paused: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
pub(crate) struct Held {
    pub(crate) held_us: u64,
}

async fn answer(request: &Request, control: &Arc<Control>, trusted: bool) -> Answer {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET" | "HEAD", "/health") => match control.health().await {
            Ok(()) => Answer::text(200, "ok\n"),
            Err(why) => Answer::text(503, format!("{why}\n")),
        },
        ("GET" | "HEAD", "/metrics") => Answer::text(200, control.metrics_text()),
        ("GET" | "HEAD", "/status") => Answer::json(&control.status()),
        ("POST", "/pause" | "/switch" | "/resume") if !trusted => {
            Answer::error(403, "changes are made through the Unix socket (--admin) only")
        }
        ("POST", path @ ("/pause" | "/switch" | "/resume")) => {
            let wish: Wish = if request.body.is_empty() {
                Wish::default()
            } else {
                match serde_json::from_slice(&request.body) {
                    Ok(wish) => wish,
                    // The body is not repeated: a password may be in it.
                    Err(error) => {
                        return Answer::error(
                            400,
                            &format!(
                                "the body is not what is wanted at line {}, column {}",
                                error.line(),
                                error.column()
                            ),
                        );
                    }
                }
            };
            match carry_out(path, wish, control).await {
                Ok(answer) => answer,
                Err(error) => {
                    let code = match &error {
                        ControlError::Backend(_) => 502,
                        ControlError::NotDrained(_) => 504,
                        ControlError::Paused | ControlError::NotPaused => 409,
                        ControlError::Gone => 500,
                    };
                    Answer::error(code, &chain(&error))
                }
            }
        }
        (_, "/health" | "/metrics" | "/status" | "/pause" | "/switch" | "/resume") => {
            Answer::error(405, "GET looks, POST changes")
        }
        _ => Answer::error(404, "there are /health, /metrics, /status, /pause, /switch and /resume"),
    }
}

async fn carry_out(path: &str, wish: Wish, control: &Arc<Control>) -> Result<Answer, ControlError> {
    let drain = wish.drain_ms.map_or(DRAIN, Duration::from_millis);
    let held = |held: Duration| Answer::json(&Held { held_us: u64::try_from(held.as_micros()).unwrap_or(u64::MAX) });
    match path {
        "/pause" => {
            let longest = wish.longest_ms.map_or(control.limits().pause_max, Duration::from_millis);
            Ok(held(control.pause(drain, longest).await?))
        }
        "/resume" => Ok(held(control.resume().await?)),
        _ => {
            let mut url: Url = match wish.to.as_deref().map(str::parse) {
                Some(Ok(url)) => url,
                Some(Err(error)) => return Ok(Answer::error(400, &format!("to: {error}"))),
                None => return Ok(Answer::error(400, "to: the URL of the new backend is missing")),
            };
            url.credentials.user = wish.user.or(url.credentials.user);
            url.credentials.password = wish.password.or(url.credentials.password);
            url.sentinel = Credentials { user: wish.sentinel_user, password: wish.sentinel_password };
            if wish.paused {
                let opened = control.look_at(&url).await?;
                control.change(opened).await?;
                return Ok(Answer::json(&Switched { to: url.to_string(), paused_us: 0 }));
            }
            Ok(Answer::json(&control.switch(&url, drain).await?))
        }
    }
}
