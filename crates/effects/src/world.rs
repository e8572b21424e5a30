//! The world of one node, as the runtime drives it.

use crate::checks::Checks;
use crate::error::{error, failed, io_error};
use crate::files::Files;
use crate::instance::{Instances, ShimCommand};
use crate::logs::Reader;
use crate::{probe, tell};
use regrow_model::action::Tell;
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::plan::CheckTarget;
use regrow_model::spec::Probe;
use regrow_model::{Action, Digest, Found, InstanceId, Name, Observation, Outcome};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// The world of one node: does actions, tells what is seen, decides nothing. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    instances: Instances,
    files: Files,
    checks: Checks,
    /// Held for as long as the world is.
    _lock: std::fs::File,
}

impl World {
    /// Opens the world of a data folder, which is made when it is missing. Swaps of files that a crash cut short are
    /// completed here; call [`World::adopt`] next.
    ///
    /// `data`: `DATA/instances/` and `DATA/templates/` are ours. `seen`: what is seen goes there; when it is full,
    /// checks and watches wait.
    ///
    /// Errors: `Refused`, another agent has this data folder; `Permission`, `DiskFull` and others for the folder.
    pub fn open(data: &Path, shim: ShimCommand, seen: mpsc::Sender<Observation>) -> Result<World, WorldError> {
        let cannot = |source: &io::Error| io_error(format!("cannot open the data folder {}", data.display()), source);
        std::fs::create_dir_all(data).map_err(|source| cannot(&source))?;
        // The shims have another working directory.
        let data = data.canonicalize().map_err(|source| cannot(&source))?;
        let path = data.join("world.lock");
        let lock = std::fs::File::options().write(true).create(true).truncate(false).open(path);
        let lock = lock.map_err(|source| cannot(&source))?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let text = format!("another agent has the data folder {}: stop it, or give another folder", data.display());
            return Err(error(WorldErrorKind::Refused, text));
        }
        let inner = Inner {
            files: Files::open(&data),
            instances: Instances::new(data, shim, seen.clone()),
            checks: Checks::new(seen),
            _lock: lock,
        };
        Ok(World { inner: Arc::new(inner) })
    }

    /// Finds every instance of an earlier life of the agent, in order. Those that are alive are watched from now on;
    /// of the others it is told how they ended.
    pub async fn adopt(&self) -> Vec<Found> {
        self.inner.instances.adopt().await
    }

    /// Does an action. One at a time for one object; side by side for different ones.
    ///
    /// [`Action::Record`] is not of this world and fails.
    pub async fn act(&self, action: &Action) -> Outcome {
        let Inner { instances, files, .. } = &*self.inner;
        match action {
            Action::Record { .. } => {
                failed(None, error(WorldErrorKind::Other, "records are written to the store, not to the world"))
            }
            Action::Start { instance, incarnation, process, listen } => {
                instances.start(instance, *incarnation, process, listen.as_ref()).await
            }
            Action::Stop { instance, incarnation, signal, grace } => {
                instances.stop(instance, *incarnation, signal, *grace).await
            }
            Action::Install { template, digest, files: set, last_good, check, directory, .. } => {
                files.install(template, *digest, set, *last_good, check, directory).await
            }
            Action::Load { template, digest, tell, probe, directory } => {
                self.load(template, *digest, tell, probe.as_ref(), directory).await
            }
            Action::Restore { template, digest, tell, directory } => match files.restore(template, *digest).await {
                Ok(()) => self.load(template, *digest, tell, None, directory).await,
                Err(error) => failed(Stage::Write, error),
            },
        }
    }

    async fn load(
        &self,
        template: &Name,
        digest: Digest,
        tell: &Tell,
        probe: Option<&Probe>,
        directory: &str,
    ) -> Outcome {
        let how = match tell::tell(&self.inner.instances, tell, directory).await {
            Ok(how) => how,
            Err(error) => return failed(Stage::Reload, error),
        };
        if let Some(probe) = probe
            && let Err(error) = probe::prove(probe, directory).await
        {
            return failed(Stage::Probe, error);
        }
        match self.inner.files.loaded(template, digest).await {
            Ok(()) => Outcome::Loaded { how },
            Err(error) => failed(Stage::Write, error),
        }
    }

    /// Runs the checks of these targets and no others; those that have not changed keep their schedule. Call it from
    /// within the runtime.
    pub fn check(&self, targets: Vec<CheckTarget>) {
        self.inner.checks.replace(targets);
    }

    /// The set of a template that is in place, with its contents in the order of its files; `None` when nothing was put
    /// there, or it is not kept. Reads the disk.
    pub fn placed_set(&self, template: &Name) -> Option<(Digest, Vec<Arc<str>>)> {
        self.inner.files.placed_set(template)
    }

    /// The contents of a kept set in the order of its files; `None` when it is not kept, or was changed by hand.
    /// Reads the disk.
    pub fn kept_set(&self, template: &Name, digest: &Digest) -> Option<Vec<Arc<str>>> {
        self.inner.files.kept_set(template, digest)
    }

    /// The files that hold an instance's output, the oldest first; empty when it has printed nothing on this node.
    pub fn log_files(&self, instance: &InstanceId) -> Vec<PathBuf> {
        crate::logs::files(&self.inner.instances.folder(instance).logs())
    }

    /// Reads an instance's output from its last `lines` lines on. Reads the disk.
    pub fn logs(&self, instance: &InstanceId, lines: usize) -> io::Result<Reader> {
        Reader::open(&self.inner.instances.folder(instance).logs(), lines)
    }
}
