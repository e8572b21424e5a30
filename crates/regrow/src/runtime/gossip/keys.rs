//! The file of gossip keys.
//!
//! Shape: a key in base64 (of 16, 24 or 32 bytes) a line, the first of which seals; empty lines and those that begin
//! with `#` are passed over. Mode 600.

use crate::exit::Failure;
use regrow_gossip::wire::{Key, Keyring};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads the keys.
pub(super) fn read(file: &Path) -> Result<Keyring, Failure> {
    let refuse = |why: String| {
        let hint = "`regrow init` or `serf keygen` make one: 16, 24 or 32 bytes in base64";
        Failure::usage(format!("cannot use the gossip keys of {}: {why}\n  {hint}", file.display()))
    };
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    let mut ring: Option<Keyring> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |error: &dyn std::fmt::Display| refuse(format!("line {}: {error}", number + 1));
        let key = Key::from_base64(line).map_err(|error| wrong(&error))?;
        match &mut ring {
            None => ring = Some(Keyring::new(key)),
            Some(ring) => ring.install(key).map_err(|error| wrong(&error))?,
        }
    }
    ring.ok_or_else(|| refuse("there is none in it".to_owned()))
}

/// Writes the keys: complete or not at all, and readable by us alone.
pub(super) fn write(file: &Path, keys: &[String]) -> std::io::Result<()> {
    let staged = file.with_extension("new");
    let mut out = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&staged)?;
    out.write_all((keys.join("\n") + "\n").as_bytes())?;
    out.sync_all()?;
    std::fs::rename(&staged, file)?;
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows that what is written is read again, the primary first, and that nonsense is refused with its line.
    #[test]
    fn keys_come_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("gossip.key");
        let keys = [Key::new(&[1; 32]), Key::new(&[2; 16])].map(|key| key.expect("fits").to_base64());
        write(&file, &keys).expect("written");
        let ring = read(&file).expect("read");
        assert_eq!(ring.keys().iter().map(Key::to_base64).collect::<Vec<_>>(), keys);
        std::fs::write(&file, "# mine\n\nnonsense!\n").expect("written");
        assert!(read(&file).expect_err("refused").message.contains("line 3"));
        std::fs::write(&file, "\n").expect("written");
        assert!(read(&file).is_err());
    }
}
