//! `store snapshot`.

use super::size;
use crate::exit::{Code, Failure, print_json, say};
use crate::progress::Progress;
use crate::reach::{Reach, failed};
use clap::Args;
use regrow_store::{Remote, Store, backup};
use serde_json::json;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Copy the whole store into a file
///
/// The file is a database as etcd writes it, with its checksum: `regrow store
/// restore` and `etcdctl snapshot restore` take it. Writes go on meanwhile. It
/// appears under its name when it is whole and was read back; a file of that
/// name is replaced.
///
/// Examples:
///   regrow store snapshot backup.db
///   regrow store snapshot backup.db --json
#[derive(Args)]
#[command(verbatim_doc_comment)]
pub(super) struct Snapshot {
    /// The file
    file: PathBuf,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) reach: Reach,
}

/// Removes the unfinished file, unless it got its name.
struct Unfinished<'a>(&'a Path);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.0);
    }
}

impl Snapshot {
    pub(super) async fn run(&self, store: &Remote) -> Result<(), Failure> {
        let name = self.file.file_name().ok_or_else(|| {
            Failure::usage(format!("`{}` names no file: give one, as backup.db", self.file.display()))
        })?;
        let mut part = name.to_owned();
        part.push(format!(".{}.part", std::process::id()));
        let part = self.file.with_file_name(part);
        let told = tokio::select! {
            told = self.write(store, &part) => told?,
            _ = tokio::signal::ctrl_c() => {
                let _ = std::fs::remove_file(&part);
                return Err(Failure::failed("interrupted; nothing was written"));
            }
        };
        if self.json {
            return print_json(&json!({
                "file": self.file, "revision": told.revision.0, "compacted_revision": told.oldest.0, "keys": told.keys,
                "versions": told.versions, "leases": told.leases, "bytes": told.bytes, "sha256": told.sha256,
            }));
        }
        say(format!(
            "Wrote {}: revision {}, {} keys, {} leases, {}, checksum verified",
            self.file.display(),
            told.revision,
            told.keys,
            told.leases,
            size(told.bytes)
        ));
        Ok(())
    }

    async fn write(&self, store: &Remote, part: &Path) -> Result<backup::Summary, Failure> {
        let wrong = |what: &str, error: std::io::Error| {
            Failure::failed(format!("cannot {what} {}: {error}\n  nothing was written", part.display()))
        };
        // Before the store is asked: a folder that is not there is found at once.
        let mut file = File::create_new(part).map_err(|error| wrong("create", error))?;
        let _unfinished = Unfinished(part);
        let mut snapshot = store.snapshot().await.map_err(failed)?;
        let mut progress = Progress::new();
        let (mut written, mut last) = (0_u64, None);
        while let Some(piece) = snapshot.next().await {
            let piece = piece.map_err(failed)?;
            file.write_all(&piece.bytes).map_err(|error| wrong("write", error))?;
            written += piece.bytes.len() as u64;
            last = Some(piece.remaining);
            progress.at(written, written + piece.remaining, &size(written));
        }
        drop(progress);
        if last != Some(0) {
            return Err(Failure::new(Code::Unreachable, "the store broke off; nothing was written: try again"));
        }
        file.sync_all().map_err(|error| wrong("sync", error))?;
        drop(file);
        let path = part.to_owned();
        let checked = tokio::task::spawn_blocking(move || backup::verify(&path)).await;
        let checked = checked.map_err(|error| Failure::failed(format!("the check broke off: {error}")))?;
        let told =
            checked.map_err(|error| Failure::failed(format!("what the store sent is no whole copy: {error}")))?;
        std::fs::rename(part, &self.file).map_err(|error| wrong("rename", error))?;
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| wrong("sync the folder of", error))?;
        Ok(told)
    }
}
