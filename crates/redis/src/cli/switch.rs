//! `switch`.

use std::path::PathBuf;
use std::time::Duration;

use crate::proxy::Remote;

use super::access::Backend;
use super::failure::{Exit, Failure};
use super::io::Io;

/// Arguments of `switch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  regrow redis switch /run/regrow/proxy.sock --to redis-cluster://10.0.0.1:7001")]
pub struct Args {
    /// The proxy's admin socket
    #[arg(value_name = "SOCKET")]
    proxy: PathBuf,
    #[command(flatten)]
    backend: Backend,
    /// Milliseconds that commands in flight may take; longer, and nothing is switched
    #[arg(long, value_name = "MS", default_value_t = 5000)]
    drain_ms: u64,
}

pub(super) async fn run(args: Args, io: &mut Io) -> Result<Exit, Failure> {
    let (to, _) = args.backend.url()?;
    let switched = Remote::new(&args.proxy).switch(&to, Duration::from_millis(args.drain_ms)).await?;
    io.data(args.backend.json(), &switched, || {
        format!("commands go to {}; they were held for {:.1} ms", switched.to, switched.paused_us as f64 / 1000.0)
    })?;
    Ok(Exit::Done)
}
