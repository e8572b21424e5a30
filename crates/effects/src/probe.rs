//! Proofs that a program has taken its files, and single looks at an endpoint.

use crate::error::error;
use crate::exec::{self, Exec, Leftovers};
use crate::http::{self, Target};
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::spec::Probe;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Time between the end of one try and the next.
const TRY_EVERY: Duration = Duration::from_millis(50);
/// Longest that one try may take: one that hangs must not use up all the time there is.
const TRY_TIME_MAX: Duration = Duration::from_secs(2);

/// Tries again and again until it passes or `within` is over; then the last answer is the error.
pub(crate) async fn prove(probe: &Probe, directory: &str) -> Result<String, WorldError> {
    let deadline = Instant::now() + probe.within.0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (passing, says) = attempt(probe, directory, left.clamp(TRY_EVERY, TRY_TIME_MAX)).await;
        if passing {
            return Ok(says);
        }
        if Instant::now() + TRY_EVERY >= deadline {
            let text = format!("probe {} has not passed within {}; last answer: {says}", label(probe), probe.within);
            return Err(error(WorldErrorKind::Timeout, text));
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
}

fn label(probe: &Probe) -> String {
    match (&probe.http, &probe.tcp) {
        (Some(url), _) => url.clone(),
        (None, Some(address)) => format!("tcp {address}"),
        (None, None) => format!("`{}`", exec::shown(&probe.command)),
    }
}

async fn attempt(probe: &Probe, directory: &str, timeout: Duration) -> (bool, String) {
    match (&probe.http, &probe.tcp) {
        (Some(url), _) => match Target::url(url) {
            Ok(target) => look_http(&target, timeout).await,
            Err(why) => (false, why),
        },
        (None, Some(address)) => look_tcp(address, timeout).await,
        (None, None) => look_exec(&probe.command, directory, &[], timeout).await,
    }
}

/// One GET.
pub(crate) async fn look_http(target: &Target, timeout: Duration) -> (bool, String) {
    match tokio::time::timeout(timeout, http::get(target)).await {
        Ok(answer) => answer,
        Err(_) => (false, format!("{}: no answer within {timeout:?}", target.authority)),
    }
}

/// One connection.
pub(crate) async fn look_tcp(address: &str, timeout: Duration) -> (bool, String) {
    match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
        Ok(Ok(_)) => (true, format!("{address} accepts connections")),
        Ok(Err(source)) => (false, format!("{address}: {}", crate::error::reason(&source))),
        Err(_) => (false, format!("{address}: no connection within {timeout:?}")),
    }
}

/// One run of a command.
pub(crate) async fn look_exec(
    command: &[String],
    directory: &str,
    environment: &[(&str, String)],
    timeout: Duration,
) -> (bool, String) {
    let exec = Exec { command, directory, environment, timeout, leftovers: Leftovers::Kill };
    match exec::run(exec).await {
        Ok(ran) if ran.status.success() => (true, ran.output),
        Ok(ran) => (false, ran.says()),
        Err(error) => (false, error.text),
    }
}
