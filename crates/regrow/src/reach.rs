//! The way from a command to a store: by etcd's interface, whichever store it is.

use crate::config::{Access, Endpoints, data_folder};
use crate::exit::{Code, Failure};
use clap::Args;
use regrow_store::{Error, Remote};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Which store a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// The store, as https://IP:PORT[,…]. Default: that of the agent whose data folder it is
    #[arg(long, env = "REGROW_STORE", value_name = "URL[,URL]")]
    pub(crate) store: Option<Endpoints>,
    #[command(flatten)]
    pub(crate) access: Access,
}

impl Reach {
    /// The store: `--store`, else what the agent of the data folder says in its `doors.json`.
    pub(crate) fn open(&self, data: Option<&Path>) -> Result<Remote, Failure> {
        let data = data_folder(data, false);
        let endpoints = match &self.store {
            Some(endpoints) => endpoints.clone(),
            None => told(&data)?,
        };
        self.access.clone().or_of(&data).open(&endpoints, "--store")
    }
}

/// Where the agent of a data folder says that its store is.
fn told(data: &Path) -> Result<Endpoints, Failure> {
    let path: PathBuf = data.join("doors.json");
    let missing = |why: &str| {
        let hint = "start an agent with `regrow up` or `regrow agent`, or name the store with --store or --data";
        Failure::new(Code::Unreachable, format!("no store is known: {why}\n  {hint}"))
    };
    let text = std::fs::read(&path).map_err(|error| missing(&format!("cannot read {}: {error}", path.display())))?;
    let doors: serde_json::Value =
        serde_json::from_slice(&text).map_err(|error| missing(&format!("{}: {error}", path.display())))?;
    if let Some(door) = doors["etcd"].as_str() {
        let scheme = if doors["tls"] == true { "https" } else { "http" };
        return Ok(Endpoints(vec![format!("{scheme}://{}", near(door))]));
    }
    let elsewhere = doors["store"].as_array().map(|all| all.iter().filter_map(|url| url.as_str()));
    match elsewhere {
        Some(urls) => Ok(Endpoints(urls.map(str::to_owned).collect())),
        None => Err(missing(&format!("the agent of {} has its etcd door shut", data.display()))),
    }
}

/// A door as this machine reaches it: one that listens everywhere is at home too.
fn near(door: &str) -> String {
    match door.parse::<SocketAddr>() {
        Ok(SocketAddr::V4(at)) if at.ip().is_unspecified() => format!("127.0.0.1:{}", at.port()),
        Ok(SocketAddr::V6(at)) if at.ip().is_unspecified() => format!("[::1]:{}", at.port()),
        _ => door.to_owned(),
    }
}

/// What a store refused, as a command ends with it.
pub(crate) fn failed(error: Error) -> Failure {
    let code = match &error {
        Error::Unavailable { .. } | Error::Closed | Error::Fenced => Code::Unreachable,
        Error::Compacted { .. } | Error::FutureRevision { .. } | Error::LeaseNotFound(_) | Error::KeyNotFound => {
            Code::NotFound
        }
        Error::NoSpace
        | Error::TooManyWatches { .. }
        | Error::Denied { .. }
        | Error::Anonymous { .. }
        | Error::Unauthenticated { .. } => Code::Refused,
        Error::EmptyKey
        | Error::RequestTooLarge { .. }
        | Error::TooManyOps { .. }
        | Error::DuplicateKey { .. }
        | Error::Endpoint { .. } => Code::Usage,
        _ => Code::Failed,
    };
    Failure::new(code, error)
}
