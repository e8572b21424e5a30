//! How a command ends.

use std::path::PathBuf;

use crate::admin::AdminError;
use crate::backup::BackupError;
use crate::connection;
use crate::disk::DiskError;
use crate::drill::{DrillError, HandsError};
use crate::migrate::MigrateError;
use crate::plan::{CreateError, MovesError};
use crate::proxy::{RemoteError, StartError};
use crate::rdb::Fault;
use crate::upgrade::UpgradeError;

/// How a command ends, when it says so itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// 0: done.
    Done = 0,
    /// 1: it was tried and failed, or a check found something.
    Failed = 1,
    /// 2: the arguments make no sense together.
    Usage = 2,
    /// 3: not confirmed, or it would do harm.
    Refused = 3,
    /// 4: a thing named is not there.
    NotFound = 4,
    /// 5: nobody answers.
    Unreachable = 5,
    /// 6: it takes longer than allowed.
    TimedOut = 6,
}

impl Exit {
    /// The number for the operating system.
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// On the cluster.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A drill broke off.
    #[error(transparent)]
    Drill(#[from] DrillError),
    /// An upgrade did not begin, or stopped.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// A backup or a restore did not come to its end.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// A file or folder that cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A migration stopped.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
    /// No cluster can be made of these servers.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The slots cannot be moved so.
    #[error(transparent)]
    Moves(#[from] MovesError),
    /// No node is called so, or more than one.
    #[error("{} {text:?}", if .fits.is_empty() { "no node that answers is called".to_owned() } else { format!("{} nodes are called", .fits.len()) })]
    Node {
        /// What was written.
        text: String,
        /// The nodes that it fits.
        fits: Vec<String>,
    },
    /// It would do harm, or does not apply to this node.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
        /// What to do instead.
        hint: String,
    },
    /// A proxy that cannot start.
    #[error(transparent)]
    Proxy(#[from] StartError),
    /// A proxy that does not do what it is told.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// A file that cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody said yes.
    #[error("not confirmed; nothing was changed")]
    NotConfirmed,
    /// The place where output goes does not take it.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
    /// Output that cannot be written as JSON.
    #[error("cannot write the output as JSON")]
    Json(#[from] serde_json::Error),
}

impl Failure {
    /// The exit that this means.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Admin(AdminError::Unreachable(_)) => Exit::Unreachable,
            Self::Admin(AdminError::Server(error)) if error.unreachable() => Exit::Unreachable,
            Self::Admin(
                AdminError::Server(connection::Error::TimedOut { .. })
                | AdminError::NotSettled { .. }
                | AdminError::NotInStep { .. },
            ) => Exit::TimedOut,
            Self::Admin(AdminError::Unfit(_)) | Self::Refused { .. } | Self::NotConfirmed => Exit::Refused,
            Self::Drill(DrillError::NotWhole(_) | DrillError::Hands(HandsError::Missing { .. })) => Exit::Refused,
            Self::Upgrade(UpgradeError::NotWhole(_) | UpgradeError::NoReplica(_) | UpgradeError::State { .. }) => {
                Exit::Refused
            }
            Self::Upgrade(UpgradeError::Admin(AdminError::Server(error))) if error.unreachable() => Exit::Unreachable,
            Self::Upgrade(UpgradeError::Admin(AdminError::Unreachable(_))) => Exit::Unreachable,
            Self::Backup(BackupError::Refused { .. }) => Exit::Refused,
            Self::Backup(BackupError::Server(error)) if error.unreachable() => Exit::Unreachable,
            Self::Backup(BackupError::Carry(MigrateError::Patience { .. })) => Exit::TimedOut,
            Self::Migrate(MigrateError::Refused { .. }) => Exit::Refused,
            Self::Migrate(MigrateError::Patience { .. }) => Exit::TimedOut,
            Self::Migrate(MigrateError::Server(error)) if error.unreachable() => Exit::Unreachable,
            Self::Create(_) => Exit::Usage,
            Self::Moves(MovesError::NotMaster(_)) | Self::Node { .. } | Self::Admin(AdminError::NoNode(_)) => {
                Exit::NotFound
            }
            Self::Moves(_) => Exit::Refused,
            Self::Proxy(StartError::Open(_)) | Self::Remote(RemoteError::Refused(_)) => Exit::Refused,
            Self::Proxy(StartError::Backend(_)) | Self::Remote(RemoteError::Unreachable { .. }) => Exit::Unreachable,
            Self::Proxy(_) | Self::Remote(_) | Self::File { .. } | Self::Disk(_) | Self::Backup(_) => Exit::Failed,
            Self::Admin(_) | Self::Drill(_) | Self::Upgrade(_) | Self::Migrate(_) | Self::Output(_) | Self::Json(_) => {
                Exit::Failed
            }
        }
    }

    /// What to do next, where that is known.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Admin(AdminError::Unreachable(_)) => "is the server running, and is the address right?".to_owned(),
            Self::Admin(AdminError::Server(error)) if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                "give --user and the password in REGROW_REDIS_PASSWORD".to_owned()
            }
            Self::Admin(AdminError::Server(error))
                if error.code() == Some("ERR") && error.to_string().contains("cluster support disabled") =>
            {
                "this server is not part of a cluster: its cluster mode is off".to_owned()
            }
            Self::Admin(AdminError::NotSettled { .. } | AdminError::Stuck { .. }) => {
                "look at it with `check`, then run `fix`".to_owned()
            }
            Self::Admin(AdminError::NotInStep { .. }) => {
                "look at the log of the replica; it may still be loading".to_owned()
            }
            Self::Drill(DrillError::Hands(HandsError::Missing { .. })) => {
                "give --kill-with, --pause-with, --resume-with or --start-with".to_owned()
            }
            Self::Drill(DrillError::NotWhole(_)) => "see `check`, then run `fix`".to_owned(),
            Self::Drill(_) => "the node may still be broken: look with `check`, and start or resume it".to_owned(),
            Self::Backup(BackupError::Server(error)) if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                "give --user and the password in REGROW_REDIS_PASSWORD; that of sentinels in REGROW_REDIS_SENTINEL_PASSWORD".to_owned()
            }
            Self::Backup(error) => return error.hint(),
            Self::Upgrade(UpgradeError::NotWhole(_)) => "see `check`, then run `fix`".to_owned(),
            Self::Upgrade(UpgradeError::NoReplica(_)) => {
                "give it a replica with `add-node --replica-of`, or allow it with --allow-downtime".to_owned()
            }
            Self::Upgrade(UpgradeError::State { hint, .. }) => (*hint).to_owned(),
            Self::Upgrade(UpgradeError::Stopped { source, .. }) => source.hint().to_owned(),
            Self::Proxy(StartError::Open(_)) => {
                "give --client-password-file or REGROW_PROXY_PASSWORD, or listen on 127.0.0.1".to_owned()
            }
            Self::Proxy(StartError::Backend(_)) => {
                "is the backend running, is the URL right, and is REGROW_REDIS_PASSWORD its password?".to_owned()
            }
            Self::Remote(RemoteError::Unreachable { .. }) => {
                "is the proxy running with --admin and this path, as this user?".to_owned()
            }
            Self::Remote(RemoteError::Refused(_)) => {
                "commands go to the backend that they went to before; see its /status".to_owned()
            }
            Self::Node { fits, .. } if !fits.is_empty() => {
                format!("write more of the name: {}", fits.join(", "))
            }
            Self::Node { .. } => {
                "`status` lists the nodes; write an address, or at least four digits of a name".to_owned()
            }
            Self::Refused { hint, .. } | Self::Migrate(MigrateError::Refused { hint, .. }) => hint.clone(),
            Self::Migrate(MigrateError::Server(error)) if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                "write the password into the URL, or give it in REGROW_REDIS_PASSWORD; that of sentinels in REGROW_REDIS_SENTINEL_PASSWORD".to_owned()
            }
            Self::Migrate(MigrateError::SwitchUnknown(_)) => {
                "see that the proxy runs with the same --admin socket, then run the same command again: it goes on from there".to_owned()
            }
            Self::Migrate(MigrateError::Snapshot(error)) if matches!(error.fault, Fault::Unsupported(_)) => {
                "give --by scan and another --state: values are carried then without being understood".to_owned()
            }
            Self::Migrate(MigrateError::Snapshot(_)) => {
                "look at the source's log, then run the same command again".to_owned()
            }
            Self::NotConfirmed => "answer yes, or give --yes".to_owned(),
            _ => return None,
        })
    }

    /// The error with its causes, on one line.
    pub fn message(&self) -> String {
        crate::admin::chain(self)
    }
}
