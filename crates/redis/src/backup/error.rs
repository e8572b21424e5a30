//! What can go wrong with a backup.

use std::path::PathBuf;

use crate::admin::AdminError;
use crate::connection;
use crate::disk::DiskError;
use crate::migrate::MigrateError;
use crate::rdb::RdbError;
use crate::replication::ReplicationError;

/// What can go wrong with a backup or a restore.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A server failed us or refused.
    #[error(transparent)]
    Server(#[from] connection::Error),
    /// On a cluster.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A server does not give its snapshot.
    #[error(transparent)]
    Replication(#[from] ReplicationError),
    /// A snapshot does not come whole, or keys do not reach the target.
    #[error(transparent)]
    Carry(#[from] MigrateError),
    /// A file or folder.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file that is no whole snapshot. Nothing was restored because of it.
    #[error("{} is damaged", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RdbError,
    },
    /// It cannot be done, and nothing was changed.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// What to do.
        hint: String,
    },
    /// The target does not take what it is given. Keys before it are there.
    #[error("the target has not taken key \"{key}\": {why}")]
    NotTaken {
        /// The key, as text.
        key: String,
        /// The server's words.
        why: String,
    },
    /// A master of the target was replaced while keys were brought to it.
    #[error("a master of the target was replaced or restarted meanwhile, and may have lost keys")]
    Replaced,
    /// A part of the work ended early.
    #[error("a part of the work ended early: {0}")]
    Task(String),
}

impl BackupError {
    /// A refusal.
    pub(super) fn refused(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Refused { why: why.into(), hint: hint.into() }
    }

    /// What to do, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Refused { hint, .. } => hint,
            Self::Damaged { .. } => "use another copy of the backup: this one is not as it was written",
            Self::NotTaken { .. } | Self::Replaced => {
                "when that is put right, run the same command with --replace: what is there is replaced by the same"
            }
            Self::Disk(error) if error.source.kind() == std::io::ErrorKind::StorageFull => {
                "make room, or give another folder"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

impl From<tokio::task::JoinError> for BackupError {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::Task(error.to_string())
    }
}
