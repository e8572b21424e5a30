//! `store restore`.

use super::{Target, size};
use crate::exit::{Code, Failure, print_json, say};
use crate::progress::Progress;
use clap::Args;
use regrow_store::backup::{self, BackupError};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Make a data folder's store from a copy
///
/// Takes what `regrow store snapshot` and `etcdctl snapshot save` write. Keys
/// have the revisions, versions and leases that they had, and the history that
/// is in the copy; leases begin their time anew. A folder that has a store is
/// refused, and nothing of it is changed. The agent is started on it afterwards.
///
/// Example:
///   regrow store restore backup.db --data new
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Restore {
    /// The file
    file: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl Restore {
    pub(super) async fn run(&self, target: &Target) -> Result<(), Failure> {
        let Some(data) = target.data.clone() else {
            return Err(Failure::usage("name the data folder that is to have the store, with --data DIR"));
        };
        let (file, folder) = (self.file.clone(), data.clone());
        let worked = tokio::task::spawn_blocking(move || {
            let mut progress = Progress::new();
            backup::restore(&file, &folder.join("store"), |done, of| progress.at(done, of, &size(done)))
        });
        let told = match worked.await {
            Ok(told) => told.map_err(|error| refused(&self.file, &data, error))?,
            Err(error) => return Err(Failure::failed(format!("the work broke off: {error}"))),
        };
        if self.json {
            return print_json(&json!({
                "data": data, "revision": told.revision.0, "compacted_revision": told.oldest.0, "keys": told.keys,
                "versions": told.versions, "leases": told.leases, "bytes": told.bytes, "sha256": told.sha256,
            }));
        }
        say(format!(
            "Restored {} into {}: revision {}, {} keys, {} leases, verified\nStart it with: regrow agent --data {}",
            self.file.display(),
            data.display(),
            told.revision,
            told.keys,
            told.leases,
            data.display()
        ));
        Ok(())
    }
}

fn refused(file: &Path, data: &Path, error: BackupError) -> Failure {
    let (file, data) = (file.display(), data.display());
    match error {
        BackupError::Occupied(found) => Failure::new(
            Code::Refused,
            format!(
                "{data} has a store already: {}\n  nothing was changed: name another folder with --data",
                found.display()
            ),
        ),
        BackupError::Read(error) => Failure::failed(format!("cannot read {file}: {error}")),
        BackupError::Damaged(what) => Failure::failed(format!(
            "{file} is no whole copy of a store: {what}\n  nothing was restored: use another copy"
        )),
        BackupError::Store(error) => Failure::failed(format!("cannot write the store in {data}: {error}")),
        BackupError::Write(error) => Failure::failed(format!("cannot write the store in {data}: {error}")),
        BackupError::Differs(what) => {
            Failure::failed(format!("what was restored is not what is in {file}: {what}\n  nothing was left in {data}"))
        }
    }
}
