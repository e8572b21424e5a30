//! Putting a kept set in place as a whole.

use super::cannot;
use super::kept::{Kept, Member};
use crate::durable;
use crate::error::error;
use nix::unistd::{Gid, Uid};
use regrow_model::Digest;
use regrow_model::observed::{WorldError, WorldErrorKind};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// A member that waits beside its destination, complete.
#[derive(Debug)]
struct Waiting {
    /// The file that is coming.
    new: PathBuf,
    /// Another name of the file that goes, to return to it.
    old: PathBuf,
    before: Before,
    destination: PathBuf,
}

/// What was at a destination before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nothing.
    Nothing,
    /// A file, which has its other name now.
    Remembered,
    /// A file, and the file system knows no second names.
    Lost,
}

/// Puts every member in place, or none.
///
/// Everything that can fail for want of space or permission happens before the journal: files are written, owned and
/// synced under another name beside their destinations. Behind the journal there are only renames. When one of those
/// fails, those before it are taken back; when the machine fails, [`complete`] does the rest.
pub(super) fn swap(template: &Path, kept: &Kept) -> Result<(), WorldError> {
    let journal = template.join(JOURNAL);
    let done = try_swap(&journal, kept);
    durable::remove(&journal).map_err(cannot("remove", &journal)).and(done)
}

fn try_swap(journal: &Path, kept: &Kept) -> Result<(), WorldError> {
    let mut waiting = Vec::with_capacity(kept.members.len());
    let done = (|| {
        for (number, member) in kept.members.iter().enumerate() {
            waiting.push(Waiting::beside(&member.destination)?);
            prepare(kept, number, member, &waiting[number].new)?;
        }
        for one in &mut waiting {
            one.remember_old();
        }
        durable::write_json(journal, &kept.digest).map_err(cannot("write", journal))?;
        rename_all(&waiting)
    })();
    for one in &waiting {
        let _ = durable::remove(&one.new);
        let _ = durable::remove(&one.old);
    }
    done
}

/// Completes the swap that a crash cut short, when there is one. When that fails the journal stays for the next time.
pub(super) fn complete(template: &Path) -> Result<(), WorldError> {
    let journal = template.join(JOURNAL);
    if !journal.exists() {
        return Ok(());
    }
    let coming: Option<Digest> = durable::read_json(&journal);
    match coming.and_then(|digest| Kept::find(template, digest)) {
        Some(kept) => {
            try_swap(&journal, &kept)?;
            durable::remove(&journal).map_err(cannot("remove", &journal))?;
            super::kept::mark(template, |marks| marks.placed = Some(kept.digest))
        }
        // A set is kept before its journal is written and let go long after, so somebody removed it by hand.
        None => durable::remove(&journal).map_err(cannot("remove", &journal)),
    }
}

const JOURNAL: &str = "journal.json";

impl Waiting {
    /// Names beside a destination: always the same, so that what a crash leaves is used again.
    fn beside(destination: &Path) -> Result<Waiting, WorldError> {
        let name = destination.file_name().filter(|_| destination.is_absolute()).ok_or_else(|| {
            let text = format!("cannot write {}: it is no absolute path of a file", destination.display());
            error(WorldErrorKind::Other, text)
        })?;
        if destination.is_dir() {
            let text = format!("cannot write {}: it is a folder", destination.display());
            return Err(error(WorldErrorKind::Other, text));
        }
        let beside = |ending: &str| {
            let mut hidden = std::ffi::OsString::from(".");
            hidden.push(name);
            hidden.push(ending);
            destination.with_file_name(hidden)
        };
        Ok(Waiting {
            new: beside(".regrow-new"),
            old: beside(".regrow-old"),
            before: Before::Lost,
            destination: destination.to_owned(),
        })
    }

    fn remember_old(&mut self) {
        let _ = durable::remove(&self.old);
        self.before = match fs::hard_link(&self.destination, &self.old) {
            Ok(()) => Before::Remembered,
            Err(source) if source.kind() == io::ErrorKind::NotFound => Before::Nothing,
            Err(_) => Before::Lost,
        };
    }

    /// Back to what was there before.
    fn take_back(&self) {
        let _ = match self.before {
            Before::Nothing => durable::remove(&self.destination),
            Before::Remembered => fs::rename(&self.old, &self.destination),
            Before::Lost => Ok(()),
        };
    }
}

/// Writes one member beside its destination, with its owner and mode, durable.
fn prepare(kept: &Kept, number: usize, member: &Member, path: &Path) -> Result<(), WorldError> {
    let content = kept.content(number)?;
    if let Some(folder) = path.parent() {
        durable::create_folder(folder).map_err(cannot("create", folder))?;
    }
    // Never through what somebody else may have put there.
    durable::remove(path).map_err(cannot("remove", path))?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(cannot("write", &member.destination))?;
    file.write_all(content.as_bytes()).map_err(cannot("write", &member.destination))?;
    own(&file, member).map_err(|refused| {
        error(refused.kind, format!("cannot write {}: {}", member.destination.display(), refused.text))
    })?;
    let mode = fs::Permissions::from_mode(member.mode & 0o7777);
    file.set_permissions(mode).map_err(cannot("set the mode of", &member.destination))?;
    file.sync_all().map_err(cannot("write", &member.destination))
}

fn own(file: &File, member: &Member) -> Result<(), WorldError> {
    let Some(owner) = &member.owner else { return Ok(()) };
    let (user, group): (Uid, Gid) = crate::owner::ids(owner)?;
    std::os::unix::fs::fchown(file, Some(user.as_raw()), Some(group.as_raw()))
        .map_err(|source| crate::error::io_error(format!("cannot give it to {owner}"), &source))
}

fn rename_all(waiting: &[Waiting]) -> Result<(), WorldError> {
    for (number, one) in waiting.iter().enumerate() {
        if let Err(source) = fs::rename(&one.new, &one.destination) {
            waiting[..number].iter().for_each(Waiting::take_back);
            return Err(cannot("replace", &one.destination)(source));
        }
    }
    let sync = |one: &Waiting| -> io::Result<()> { durable::sync_folder_of(&one.destination) };
    waiting.iter().try_for_each(|one| sync(one).map_err(cannot("sync the folder of", &one.destination)))
}
