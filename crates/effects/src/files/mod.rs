//! Sets of files: staged, checked, kept, and put in place as a whole.
//!
//! ```text
//! DATA/templates/<name>/
//!   staged/<digest>/…      what a check command sees; gone when the check is over
//!   sets/<digest>/         a kept set: manifest.json and one file a member, named 0, 1 …
//!   marks.json             which set is in place, and which was the last one loaded: these are never let go
//!   journal.json           a swap is under way: the set that is coming
//! ```
//!
//! Guarantees: a destination holds its old or its new content, never part of one; a set that fails anywhere before the
//! swap has touched no destination; a swap that a crash cut short is completed by the next [`Files::open`].
//! A destination that is a symbolic link is replaced by the file itself.

mod kept;
mod stage;
mod swap;

use crate::error::{error, failed, io_error};
use crate::exec::{self, Exec, Leftovers};
use kept::Kept;
use regrow_model::action::File;
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::{Digest, Name, Outcome};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Longest that a check command may take: it reads files and says yes or no.
const CHECK_TIME_MAX: Duration = Duration::from_secs(60);

/// The templates' files of one node.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: Arc<Path>,
}

impl Files {
    /// Completes every swap that a crash cut short.
    pub(crate) fn open(data: &Path) -> Files {
        let files = Files { folder: data.join("templates").into() };
        for entry in std::fs::read_dir(&files.folder).into_iter().flatten().flatten() {
            if let Err(error) = swap::complete(&entry.path()) {
                // The agent has other work too; the runtime does the install again, whose outcome it never had.
                tracing::warn!(template = ?entry.file_name(), %error, "cannot complete the swap that a crash cut short");
            }
        }
        files
    }

    fn of(&self, template: &Name) -> PathBuf {
        self.folder.join(template.as_str())
    }

    /// Stages, checks, keeps and swaps in a set.
    pub(crate) async fn install(
        &self,
        template: &Name,
        digest: Digest,
        files: &[File],
        last_good: Option<Digest>,
        check: &[String],
        directory: &str,
    ) -> Outcome {
        match self.try_install(template, digest, files, last_good, check, directory).await {
            Ok(()) => Outcome::Installed,
            Err((stage, error)) => failed(stage, error),
        }
    }

    async fn try_install(
        &self,
        template: &Name,
        digest: Digest,
        files: &[File],
        last_good: Option<Digest>,
        check: &[String],
        directory: &str,
    ) -> Result<(), (Stage, WorldError)> {
        let write = |error| (Stage::Write, error);
        let folder = self.of(template);
        if !check.is_empty() {
            let (to, staged_files) = (folder.clone(), files.to_vec());
            let staged = crate::blocking(move || stage::Staged::new(&to, digest, &staged_files))
                .await
                .map_err(write)?
                .map_err(write)?;
            judge(&staged, check, directory).await.map_err(|error| (Stage::Check, error))?;
        }
        let files = files.to_vec();
        crate::blocking(move || -> Result<(), WorldError> {
            let kept = Kept::keep(&folder, digest, &files)?;
            swap::swap(&folder, &kept)?;
            kept::mark(&folder, |marks| marks.placed = Some(digest))?;
            kept::prune(&folder, last_good);
            Ok(())
        })
        .await
        .map_err(write)?
        .map_err(write)
    }

    /// Puts a kept set back in place.
    pub(crate) async fn restore(&self, template: &Name, digest: Digest) -> Result<(), WorldError> {
        let (folder, name) = (self.of(template), template.clone());
        crate::blocking(move || {
            let kept = Kept::find(&folder, digest).ok_or_else(|| {
                let text = format!("cannot restore {name}: set {} is not kept on this node", digest.short());
                error(WorldErrorKind::NotFound, text)
            })?;
            swap::swap(&folder, &kept)?;
            kept::mark(&folder, |marks| marks.placed = Some(digest))
        })
        .await?
    }

    /// Notes that the reading program has taken a set: it is kept until another was taken.
    pub(crate) async fn loaded(&self, template: &Name, digest: Digest) -> Result<(), WorldError> {
        let folder = self.of(template);
        crate::blocking(move || kept::mark(&folder, |marks| marks.loaded = Some(digest))).await?
    }

    /// The set that is in place, with its contents in the order of its files.
    pub(crate) fn placed_set(&self, template: &Name) -> Option<(Digest, Vec<Arc<str>>)> {
        let digest = kept::marks(&self.of(template)).placed?;
        Some((digest, self.kept_set(template, &digest)?))
    }

    /// The contents of a kept set, in the order of its files.
    pub(crate) fn kept_set(&self, template: &Name, digest: &Digest) -> Option<Vec<Arc<str>>> {
        Kept::find(&self.of(template), *digest)?.contents().ok()
    }
}

/// Runs a check command over staged files.
async fn judge(staged: &stage::Staged, check: &[String], directory: &str) -> Result<(), WorldError> {
    let command: Vec<String> = check.iter().map(|word| staged.fill(word)).collect();
    let exec =
        Exec { command: &command, directory, environment: &[], timeout: CHECK_TIME_MAX, leftovers: Leftovers::Kill };
    let ran = exec::run(exec).await?;
    if ran.status.success() {
        return Ok(());
    }
    let text = format!("`{}` refused the files: it {}", exec::shown(&command), ran.says());
    Err(error(WorldErrorKind::Refused, text))
}

fn cannot(verb: &str, path: &Path) -> impl Fn(std::io::Error) -> WorldError {
    let what = format!("cannot {verb} {}", path.display());
    move |source| io_error(&what, &source)
}
