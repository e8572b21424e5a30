//! Kept sets: what can be put in place without rendering anything.

use super::cannot;
use crate::durable;
use crate::error::{error, io_error};
use regrow_model::action::File;
use regrow_model::observed::{WorldError, WorldErrorKind};
use regrow_model::{Digest, limits};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Sets kept for one template, beside those that are in place and loaded: enough to look at what went before.
const SETS_KEPT: usize = 4;

/// One kept set.
#[derive(Debug)]
pub(super) struct Kept {
    folder: PathBuf,
    pub(super) digest: Digest,
    pub(super) members: Vec<Member>,
}

/// A member of a set, as its manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Member {
    /// Where it goes.
    pub(super) destination: PathBuf,
    /// Its permission bits.
    pub(super) mode: u32,
    /// Its owner, as `user` or `user:group`.
    pub(super) owner: Option<String>,
    /// Of its content: a kept file that was changed by hand is not put in place.
    content: Digest,
}

/// Which sets are in use.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Marks {
    /// The set that is in place.
    pub(super) placed: Option<Digest>,
    /// The last set that the reading program took.
    pub(super) loaded: Option<Digest>,
}

impl Kept {
    /// Keeps a set: durable and complete when this returns.
    pub(super) fn keep(template: &Path, digest: Digest, files: &[File]) -> Result<Kept, WorldError> {
        let folder = sets(template).join(digest.to_string());
        if let Some(kept) = Kept::find(template, digest).filter(|kept| kept.contents().is_ok()) {
            // Newest again, for [`prune`].
            let _ = fs::File::open(&folder).and_then(|folder| folder.set_modified(SystemTime::now()));
            return Ok(kept);
        }
        let coming = sets(template).join(format!("{digest}.new"));
        let _ = fs::remove_dir_all(&coming);
        durable::create_folder(&coming).map_err(cannot("create", &coming))?;
        let written = Kept::write(&coming, digest, files).and_then(|members| {
            let _ = fs::remove_dir_all(&folder);
            fs::rename(&coming, &folder)
                .and_then(|()| durable::sync_folder_of(&folder))
                .map_err(cannot("keep", &folder))?;
            Ok(members)
        });
        match written {
            Ok(members) => Ok(Kept { folder, digest, members }),
            Err(error) => {
                let _ = fs::remove_dir_all(&coming);
                Err(error)
            }
        }
    }

    fn write(folder: &Path, digest: Digest, files: &[File]) -> Result<Vec<Member>, WorldError> {
        let mut members = Vec::with_capacity(files.len());
        for (number, file) in files.iter().enumerate() {
            let path = folder.join(number.to_string());
            let content = file.content.as_bytes();
            fs::File::create(&path)
                .and_then(|mut kept| kept.write_all(content).and_then(|()| kept.sync_all()))
                .map_err(cannot("write", &path))?;
            members.push(Member {
                destination: PathBuf::from(&file.destination),
                mode: file.mode,
                owner: file.owner.clone(),
                content: Digest::of([content]),
            });
        }
        let manifest = folder.join(MANIFEST);
        durable::write_json(&manifest, &(digest, &members)).map_err(cannot("write", &manifest))?;
        Ok(members)
    }

    /// A set that was kept before.
    pub(super) fn find(template: &Path, digest: Digest) -> Option<Kept> {
        let folder = sets(template).join(digest.to_string());
        let (kept, members): (Digest, Vec<Member>) = durable::read_json(&folder.join(MANIFEST))?;
        (kept == digest).then_some(Kept { folder, digest, members })
    }

    /// Every member's content, in order.
    pub(super) fn contents(&self) -> Result<Vec<Arc<str>>, WorldError> {
        (0..self.members.len()).map(|number| self.content(number)).collect()
    }

    /// One member's content, just as it was kept.
    pub(super) fn content(&self, number: usize) -> Result<Arc<str>, WorldError> {
        let path = self.folder.join(number.to_string());
        let mut text = String::new();
        let read = |text: &mut String| -> io::Result<usize> {
            fs::File::open(&path)?.take(limits::RENDERED_BYTES_MAX as u64).read_to_string(text)
        };
        read(&mut text).map_err(|source| io_error(format!("cannot read {}", path.display()), &source))?;
        if self.members.get(number).map(|member| member.content) != Some(Digest::of([text.as_bytes()])) {
            let text = format!("{} is not as it was kept: somebody changed it", path.display());
            return Err(error(WorldErrorKind::Other, text));
        }
        Ok(text.into())
    }
}

/// Changes the marks of a template.
pub(super) fn mark(template: &Path, change: impl FnOnce(&mut Marks)) -> Result<(), WorldError> {
    let path = template.join("marks.json");
    let mut marks: Marks = durable::read_json(&path).unwrap_or_default();
    change(&mut marks);
    durable::create_folder(template).map_err(cannot("create", template))?;
    durable::write_json(&path, &marks).map_err(cannot("write", &path))
}

/// What is noted of a template's sets.
pub(super) fn marks(template: &Path) -> Marks {
    durable::read_json(&template.join("marks.json")).unwrap_or_default()
}

/// Lets the oldest sets go, but for those in use and `last_good`. What cannot be removed now is tried again the next time.
pub(super) fn prune(template: &Path, last_good: Option<Digest>) {
    let marks = marks(template);
    let used = [marks.placed, marks.loaded, last_good].map(|digest| digest.map(|digest| digest.to_string()));
    let entries = fs::read_dir(sets(template)).into_iter().flatten().flatten();
    let mut idle: Vec<(SystemTime, PathBuf)> = entries
        .filter(|entry| !used.iter().flatten().any(|name| entry.file_name() == name.as_str()))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    idle.sort();
    idle.iter().rev().skip(SETS_KEPT).for_each(|(_, folder)| {
        let _ = fs::remove_dir_all(folder);
    });
}

const MANIFEST: &str = "manifest.json";

fn sets(template: &Path) -> PathBuf {
    template.join("sets")
}
