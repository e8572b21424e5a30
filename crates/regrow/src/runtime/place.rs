//! Where the store is: hosted here, elsewhere by the settings, or where it was moved to.
//!
//! `store.json` in the data folder says where it was moved to; it counts more than the settings. `store.sock` beside it is the
//! way to the store that is, or can be, hosted here, wherever the agent's own store is: a move to this agent comes by it.

use super::TXN_OPS_MAX;
use crate::config::{Access, Endpoints};
use crate::exit::{Code, Failure};
use regrow_model::Name;
use regrow_serve::access::{Audit, Guard};
use regrow_serve::etcd;
use regrow_store::relocate::{COPY, MOVED, Origin, Standing, Switch, Ways};
use regrow_store::{Engine, Error, Options, RangeRequest, Store};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::UnixListener;
use tokio::task::JoinSet;

/// Where the store was moved to.
const STANDING: &str = "store.json";

/// The way to the hosted store.
pub(crate) const SOCKET: &str = "store.sock";

/// Where the doors are.
const DOORS: &str = "doors.json";

/// The store that is hosted in a data folder, opened when it is wanted.
#[derive(Clone)]
pub(super) struct Hosted {
    data: PathBuf,
    engine: Arc<Mutex<Option<Engine>>>,
}

impl Hosted {
    /// The engine: there is one of it.
    fn open(&self) -> Result<Engine, Error> {
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = &*engine {
            return Ok(engine.clone());
        }
        let options = Options { txn_ops_max: TXN_OPS_MAX, fence: Some(MOVED), ..Options::default() };
        Ok(engine.insert(Engine::open(self.data.join("store"), options)?).clone())
    }

    /// Serves the hosted store by its socket, to the owner of the data folder alone. It is opened when somebody comes.
    pub(super) fn open_socket(self, node: &Name, keepers: &mut JoinSet<()>) -> Result<(), Failure> {
        let path = self.data.join(SOCKET);
        let refuse =
            |error: std::io::Error| Failure::failed(format!("cannot bind the socket {}: {error}", path.display()));
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refuse(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(refuse)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(refuse)?;
        // Another identity than that of the agent's door, which may pass on to a store elsewhere.
        let identity = etcd::Identity::new(&format!("{node}/hosted"), Vec::new());
        keepers.spawn(async move {
            if let Err(error) = self.serve(listener, identity).await {
                tracing::error!(%error, "the hosted store's socket is not served");
            }
        });
        Ok(())
    }

    /// Who comes first only knocks: the connection ends, and the client, which asks to read, comes again.
    async fn serve(self, listener: UnixListener, identity: etcd::Identity) -> std::io::Result<()> {
        loop {
            drop(listener.accept().await?);
            match self.open() {
                Ok(engine) => {
                    // The socket's owner alone comes by it.
                    let guard = Guard::open(Audit::off());
                    etcd::serve(listener, etcd::Door::new(Arc::new(engine), identity, guard)).await;
                    return Ok(());
                }
                Err(error) => tracing::error!("cannot open the store in {}: {error}", self.data.display()),
            }
        }
    }
}

/// The ways to where the store may be.
struct Places {
    hosted: Hosted,
    access: Access,
}

impl Places {
    /// Whether a place is this data folder.
    fn is_here(&self, standing: &Standing) -> bool {
        let id = std::fs::read_to_string(self.hosted.data.join("agent.id")).unwrap_or_default();
        standing.place.host.as_deref().is_some_and(|host| host == id.trim())
    }
}

impl Ways for Places {
    fn open(&self, standing: &Standing) -> Result<Origin, Error> {
        if self.is_here(standing) {
            return self.hosted.open().map(Origin::Hosted);
        }
        let endpoints = Endpoints(standing.place.urls.clone());
        let remote = self.access.open(&endpoints, "--store");
        remote.map(Origin::Elsewhere).map_err(|failure| Error::Unavailable { reason: failure.message })
    }

    fn remember(&self, standing: &Standing) -> std::io::Result<()> {
        let data = &self.hosted.data;
        write(data, STANDING, &serde_json::to_vec(standing)?)?;
        // Commands find the store by it where no etcd door is open.
        let doors = match std::fs::read(data.join(DOORS)) {
            // The doors are not there yet, and will say it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            doors => doors?,
        };
        let mut doors: serde_json::Value = serde_json::from_slice(&doors)?;
        if let Some(doors) = doors.as_object_mut() {
            match self.is_here(standing) {
                true => drop(doors.remove("store")),
                false => drop(doors.insert("store".into(), standing.place.urls.clone().into())),
            }
        }
        write(data, DOORS, format!("{doors}\n").as_bytes())
    }
}

/// Writes a file of the data folder, whole or not at all.
fn write(data: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let part = data.join(format!("{name}.part"));
    let mut options = std::fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, data.join(name))?;
    std::fs::File::open(data)?.sync_all()
}

/// The store: where it was moved to, else where `store` says, which says it too afterwards; `None`: hosted here.
pub(super) async fn find(
    data: &Path,
    store: &mut Option<Endpoints>,
    access: &Access,
) -> Result<(Switch, Hosted), Failure> {
    let hosted = Hosted { data: data.to_owned(), engine: Arc::default() };
    let places = Places { hosted: hosted.clone(), access: access.clone() };
    let standing = read(&data.join(STANDING))?;
    let origin = match &standing {
        Some(standing) => {
            let elsewhere = (!places.is_here(standing)).then(|| Endpoints(standing.place.urls.clone()));
            if store.is_some() && *store != elsewhere {
                tracing::warn!(
                    "the store was moved to {}: --store is passed over; without {} it would count",
                    standing.place.urls.join(","),
                    data.join(STANDING).display()
                );
            }
            *store = elsewhere;
            places.open(standing).map_err(|error| opening(data, &error))?
        }
        None => match store {
            Some(endpoints) => Origin::Elsewhere(access.open(endpoints, "--store")?),
            None => Origin::Hosted(whole(data, hosted.open()).await?),
        },
    };
    Ok((Switch::new(origin, standing, places), hosted))
}

/// A hosted store, unless it is a copy that is not finished: then others have the truth.
async fn whole(data: &Path, engine: Result<Engine, Error>) -> Result<Engine, Failure> {
    let engine = engine.map_err(|error| opening(data, &error))?;
    let copy = engine.range(RangeRequest::key(COPY)).await.map_err(|error| opening(data, &error))?;
    if copy.kvs.is_empty() {
        return Ok(engine);
    }
    Err(Failure::new(
        Code::Refused,
        format!(
            "the store in {} is an unfinished copy of another one\n  name that one with --store and finish with \
             `regrow store move --to hosted`, or remove the folder {}",
            data.display(),
            data.join("store").display()
        ),
    ))
}

fn read(path: &Path) -> Result<Option<Standing>, Failure> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::failed(format!("cannot read {}: {error}", path.display()))),
    };
    let standing = serde_json::from_slice(&text);
    standing.map(Some).map_err(|error| {
        let hint = "it says where the store was moved to: name that place with --store, and remove the file";
        Failure::failed(format!("{} makes no sense: {error}\n  {hint}", path.display()))
    })
}

fn opening(data: &Path, error: &Error) -> Failure {
    let mut message = format!("cannot open the store in {}: {error}", data.display());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    if let Error::Corrupt { .. } = error {
        message.push_str(
            "; nothing of the store is served. Check the disk; move the folder away, and restore a snapshot into a new one: \
             regrow store restore --help",
        );
    }
    Failure::new(Code::Failed, message)
}
