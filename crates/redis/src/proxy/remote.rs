//! The switch from another process: what a migration calls at its cut-over.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::url::Url;

use super::control::{Status, Switched};
use super::door::{Held, Wish};

/// A proxy, by its admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    path: PathBuf,
}

/// What went wrong between us and a proxy.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Nobody listens there, or the connection broke. Whether a change was made is unknown: ask for the status.
    #[error("cannot speak to the proxy at {}", .path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The proxy did not do it; commands go where they went before.
    #[error("the proxy refuses: {0}")]
    Refused(String),
    /// The answer is not one of a proxy's.
    #[error("{} is no proxy's socket: its answer cannot be read", .0.display())]
    Answer(PathBuf),
}

/// Bytes of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// What an answer may take beyond the waiting that was asked for.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

impl Remote {
    /// A proxy by the path that it was given as `--admin`.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// How it is.
    pub async fn status(&self) -> Result<Status, RemoteError> {
        self.ask("GET", "/status", &Wish::default(), Duration::ZERO).await
    }

    /// Holds new commands, and comes back when none is in flight; how long that took. If they are not answered within
    /// `drain`, commands go on and this is an error. The pause ends by itself after `longest`, or after the proxy's own
    /// limit if that is less: then a later [`Self::switch_paused`] is refused.
    pub async fn pause(&self, drain: Duration, longest: Duration) -> Result<Duration, RemoteError> {
        let wish = Wish { drain_ms: Some(millis(drain)), longest_ms: Some(millis(longest)), ..Wish::default() };
        let held: Held = self.ask("POST", "/pause", &wish, drain).await?;
        Ok(Duration::from_micros(held.held_us))
    }

    /// Changes the backend during a pause, which goes on. Refused, with nothing changed, when the pause is over.
    pub async fn switch_paused(&self, to: &Url) -> Result<(), RemoteError> {
        let wish = Wish { paused: true, ..wish(to) };
        let _: Switched = self.ask("POST", "/switch", &wish, Duration::ZERO).await?;
        Ok(())
    }

    /// Lets commands go on; for how long they were held.
    pub async fn resume(&self) -> Result<Duration, RemoteError> {
        let held: Held = self.ask("POST", "/resume", &Wish::default(), Duration::ZERO).await?;
        Ok(Duration::from_micros(held.held_us))
    }

    /// Pauses, changes the backend and goes on, at once. Commands in flight may take `drain` to be answered.
    pub async fn switch(&self, to: &Url, drain: Duration) -> Result<Switched, RemoteError> {
        self.ask("POST", "/switch", &Wish { drain_ms: Some(millis(drain)), ..wish(to) }, drain).await
    }

    async fn ask<T: serde::de::DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        wish: &Wish,
        within: Duration,
    ) -> Result<T, RemoteError> {
        let failed = |source| RemoteError::Unreachable { path: self.path.clone(), source };
        let body = serde_json::to_string(wish).map_err(|_| RemoteError::Answer(self.path.clone()))?;
        let exchange = async {
            let mut stream = UnixStream::connect(&self.path).await?;
            let request =
                format!("{method} {path} HTTP/1.1\r\nhost: proxy\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
            Ok(answer)
        };
        let answer = match timeout(within + ANSWER_WITHIN, exchange).await {
            Ok(answer) => answer.map_err(failed)?,
            Err(_) => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        let text = String::from_utf8_lossy(&answer);
        let no_proxy = || RemoteError::Answer(self.path.clone());
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(no_proxy)?;
        if head.split(' ').nth(1) == Some("200") {
            return serde_json::from_str(body).map_err(|_| no_proxy());
        }
        let error: serde_json::Value = serde_json::from_str(body).map_err(|_| no_proxy())?;
        Err(RemoteError::Refused(error["error"].as_str().unwrap_or(body).to_owned()))
    }
}

fn wish(to: &Url) -> Wish {
    Wish {
        to: Some(to.to_string()),
        user: to.credentials.user.clone(),
        password: to.credentials.password.clone(),
        sentinel_user: to.sentinel.user.clone(),
        sentinel_password: to.sentinel.password.clone(),
        ..Wish::default()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
