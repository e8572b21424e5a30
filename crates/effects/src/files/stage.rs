//! Files where only the check command sees them.

use super::cannot;
use regrow_model::Digest;
use regrow_model::action::File;
use regrow_model::observed::WorldError;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A staged set; it goes when this is dropped.
#[derive(Debug)]
pub(super) struct Staged {
    folder: PathBuf,
    paths: Vec<PathBuf>,
}

impl Staged {
    /// Writes the files, each under its own name where that is unique in the set.
    pub(super) fn new(template: &Path, digest: Digest, files: &[File]) -> Result<Staged, WorldError> {
        let all = template.join("staged");
        let folder = all.join(digest.to_string());
        let staged = Staged { paths: names(files).into_iter().map(|name| folder.join(name)).collect(), folder };
        // What a crash left there before; one set of a template is staged at a time.
        let _ = fs::remove_dir_all(all);
        fs::create_dir_all(&staged.folder).map_err(cannot("create", &staged.folder))?;
        for (file, path) in files.iter().zip(&staged.paths) {
            fs::write(path, file.content.as_bytes()).map_err(cannot("write", path))?;
            let mode = fs::Permissions::from_mode(file.mode & 0o7777);
            fs::set_permissions(path, mode).map_err(cannot("set the mode of", path))?;
        }
        Ok(staged)
    }

    /// A word of the check command with `{staged}`, `{staged:N}` and `{folder}` replaced. Text that came from a
    /// replacement is not looked at again.
    pub(super) fn fill(&self, word: &str) -> String {
        let mut filled = String::with_capacity(word.len());
        let mut rest = word;
        while let Some(at) = rest.find('{') {
            filled.push_str(&rest[..at]);
            rest = &rest[at..];
            let known = rest.find('}').and_then(|end| Some((self.place(&rest[1..end])?, end)));
            match known {
                Some((path, end)) => {
                    filled.push_str(&path.to_string_lossy());
                    rest = &rest[end + 1..];
                }
                None => {
                    filled.push('{');
                    rest = &rest[1..];
                }
            }
        }
        filled + rest
    }

    fn place(&self, name: &str) -> Option<&Path> {
        match name.split_once(':') {
            None if name == "folder" => Some(&self.folder),
            None if name == "staged" => self.paths.first().map(PathBuf::as_path),
            Some(("staged", number)) => self.paths.get(number.parse::<usize>().ok()?).map(PathBuf::as_path),
            _ => None,
        }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The last part of each destination; with its number in front where two are alike.
fn names(files: &[File]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let name = |(number, file): (usize, &File)| {
        let name = Path::new(&file.destination).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = if taken.contains(&name) { format!("{number}-{name}") } else { name };
        taken.insert(name.clone());
        name
    };
    files.iter().enumerate().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(destination: &str) -> File {
        File { destination: destination.to_owned(), content: "x".into(), mode: 0o640, owner: None }
    }

    /// Shows what a check command sees: its words filled, files under their own names, nothing left behind.
    #[test]
    fn stages() {
        let template = tempfile::tempdir().unwrap();
        let files = [file("/a/one.cfg"), file("/b/one.cfg"), file("/b/two.map")];
        let staged = Staged::new(template.path(), Digest::of([b"x".as_slice()]), &files).unwrap();
        let folder = staged.folder.display().to_string();
        assert_eq!(staged.fill("-f={staged}"), format!("-f={folder}/one.cfg"));
        assert_eq!(staged.fill("{staged:1}{staged:2}"), format!("{folder}/1-one.cfg{folder}/two.map"));
        assert_eq!(staged.fill("{folder}/*"), format!("{folder}/*"));
        assert_eq!(staged.fill("{staged:3} {x} {"), "{staged:3} {x} {");
        let mode = fs::metadata(&staged.paths[2]).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o640);
        drop(staged);
        assert!(!Path::new(&folder).exists());
    }
}
