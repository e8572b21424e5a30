//! Files that a run leaves for people: those in the folder `REGROW_ARTEFACTS`, told as events of its log.
//!
//! **Guarantees.** Only regular files in that folder are read, never what a link points at. They are bounded in number and
//! together in bytes; what is not kept is said in the log, with the reason. A file with a secret in it, or in its name, is
//! not kept.

use super::Try;
use super::limits::{ARTEFACT_DEPTH_MAX, ARTEFACT_ENTRIES_MAX, ARTEFACT_PIECE_BYTES, ARTEFACTS_MAX, NAME_BYTES_MAX};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regrow_model::run::{RunEvent, Stream};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Why a file is not kept that would show a secret to whoever may see the run.
const SECRET: &str = "there is a secret in it";

/// The folder in a try's own.
const FOLDER: &str = "artefacts";

impl Try<'_> {
    /// Where the programs of the try may leave files.
    pub(super) fn artefacts(&self) -> PathBuf {
        self.folder.join(FOLDER)
    }

    /// Tells the files that were left.
    pub(super) async fn tell_artefacts(&self) {
        let root = self.artefacts();
        let mut room = u64::from(self.run.order.output_mib) << 19;
        let listed = crate::blocking({
            let root = root.clone();
            move || names(&root)
        });
        let (names, more) = listed.await.unwrap_or_default();
        for name in names {
            let (path, secrets) = (root.join(&name), self.sink.secrets());
            let has_secret = secrets.iter().any(|secret| name.contains(secret));
            let bytes = crate::blocking(move || read(&path, room, &secrets)).await;
            match bytes.unwrap_or_else(|error| Err(error.text)) {
                Ok(_) if has_secret => self.not_kept(&format!("the artefact {name} is not kept: {SECRET}")).await,
                Ok(bytes) => {
                    room -= bytes.len() as u64;
                    self.tell_artefact(&name, &bytes).await;
                }
                Err(why) => self.not_kept(&format!("the artefact {name} is not kept: {why}")).await,
            }
        }
        if more {
            self.not_kept(&format!("not all artefacts are kept: the most are {ARTEFACTS_MAX}, with plain names")).await;
        }
    }

    async fn tell_artefact(&self, name: &str, bytes: &[u8]) {
        let mut at = 0;
        loop {
            let piece = &bytes[at..bytes.len().min(at + ARTEFACT_PIECE_BYTES)];
            let data = STANDARD.encode(piece);
            let (name, size) = (name.to_owned(), bytes.len() as u64);
            self.sink.send(self.sink.event(RunEvent::Artefact { name, size, at: at as u64, data })).await;
            at += piece.len();
            if at >= bytes.len() {
                return;
            }
        }
    }

    async fn not_kept(&self, why: &str) {
        self.sink.send(self.sink.text(Stream::Regrow, why)).await;
    }
}

/// The files under a folder by their paths in it, and whether there are more than are told.
fn names(root: &Path) -> (BTreeSet<String>, bool) {
    let (mut names, mut more, mut seen) = (BTreeSet::new(), false, 0);
    let mut folders = vec![(PathBuf::new(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder)).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ARTEFACT_ENTRIES_MAX {
                return (names, true);
            }
            let path = folder.join(entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            let name = path.to_str().filter(|name| name.len() <= NAME_BYTES_MAX && !name.contains(char::is_control));
            match name {
                _ if kind.is_dir() && depth < ARTEFACT_DEPTH_MAX => folders.push((path, depth + 1)),
                Some(name) if kind.is_file() && names.len() < ARTEFACTS_MAX => drop(names.insert(name.to_owned())),
                _ => more = true,
            }
        }
    }
    (names, more)
}

/// A regular file of so many bytes at most, without any of the secrets.
fn read(path: &Path, room: u64, secrets: &[String]) -> Result<Vec<u8>, String> {
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
    let said = |error: io::Error| crate::error::reason(&error);
    let open = || File::options().read(true).custom_flags(flags.cast_signed()).open(path);
    let file = open().map_err(said)?;
    if !file.metadata().map_err(said)?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(room + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > room {
        return Err(format!("there are {room} bytes of room left of half of the job's `output_mib`"));
    }
    let has = |secret: &String| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
    if secrets.iter().any(has) {
        return Err(SECRET.to_owned());
    }
    Ok(bytes)
}
