//! What can go wrong in a migration.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::connection;
use crate::disk::DiskError;
use crate::proxy::RemoteError;
use crate::rdb::RdbError;
use crate::replication::ReplicationError;

/// Why a migration stopped. Whatever it is, the journal is kept, and the same command goes on from it.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A server failed us in a way that waiting does not help, or refused.
    #[error(transparent)]
    Server(#[from] connection::Error),
    /// The source's stream ended in a way that attaching again does not help.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// The source's snapshot is damaged, or of a kind that cannot be read. The target was not touched because of it.
    #[error("the source's snapshot is of no use")]
    Snapshot(#[from] RdbError),
    /// The state folder.
    #[error("cannot use {path}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The journal is of another migration, or no journal.
    #[error("{path}: {why}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// It would lose data, or cannot be done. Nothing was changed on the target because of it.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// A server could not be used for longer than is waited.
    #[error("given up after {after:?}: {why}")]
    Patience {
        /// How long it was tried.
        after: Duration,
        /// The last reason.
        why: String,
    },
    /// A part of the target came back with less than it had confirmed.
    #[error("the target has lost writes that it had confirmed")]
    TargetLost,
    /// A fail-over on the target lost writes that were not yet confirmed: what came after the last confirmed position is
    /// applied anew. Handled inside.
    #[error("a part of the target is behind")]
    Behind,
    /// The proxy that switches.
    #[error(transparent)]
    Proxy(#[from] RemoteError),
    /// A switch of the endpoint failed. The source serves on, and the migration can go on.
    #[error("the endpoint was not switched: {0}")]
    Switch(String),
    /// Whether the endpoint was switched is not known: the proxy does not answer any more.
    #[error("it is not known whether the endpoint was switched: {0}")]
    SwitchUnknown(String),
    /// It was told to stop.
    #[error("stopped")]
    Stopped,
}

impl From<DiskError> for MigrateError {
    fn from(DiskError { path, source }: DiskError) -> Self {
        Self::Disk { path, source }
    }
}

impl MigrateError {
    /// An error of the state folder.
    pub(super) fn disk(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { path, source }
    }

    /// A refusal.
    pub(super) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into() }
    }
}
