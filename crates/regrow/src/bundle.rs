//! Reads a spec and all that it names from disk.

use crate::exit::Failure;
use regrow_model::limits;
use regrow_model::spec::{self, SourceFile, Spec};
use regrow_serve::wire::Bundle;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The spec's file when none is named.
pub(crate) const DEFAULT: &str = "regrow.yaml";

/// Most files of a spec folder.
const FILES_MAX: usize = 1_000;

/// Reads the spec at `path`: a file, or a folder with `*.yaml`, `*.yml` and `*.json` files. Everything is checked here
/// already, so that errors point into the user's own files.
pub(crate) fn read(path: &Path) -> Result<Bundle, Failure> {
    let root = if path.is_dir() { path.to_path_buf() } else { path.parent().unwrap_or(Path::new("")).to_path_buf() };
    let root = if root.as_os_str().is_empty() { PathBuf::from(".") } else { root };
    let absolute = root.canonicalize().map_err(|error| missing(path, &error))?;
    let files = files(path)?;
    let colour = rustix::termios::isatty(std::io::stderr()) && std::env::var_os("NO_COLOR").is_none();
    let refuse = |errors: &regrow_control::apply::ResolveErrors, files: &[(String, String)]| {
        Failure::usage(format!("the spec is refused, nothing was changed\n\n{}", errors.render(files, colour)))
    };
    let sources: Vec<SourceFile> =
        files.iter().map(|(name, text)| SourceFile { name: name.clone(), text: text.clone() }).collect();
    let spec = spec::load(&sources).map_err(|errors| refuse(&errors.into(), &files))?;
    let sources = template_sources(&spec, &absolute)?;
    let root = absolute.to_str().ok_or_else(|| not_utf8(&absolute))?.to_owned();
    regrow_control::apply::resolve(&root, &files, &sources).map_err(|errors| refuse(&errors, &files))?;
    Ok(Bundle { root, files, sources })
}

fn files(path: &Path) -> Result<Vec<(String, String)>, Failure> {
    if !path.is_dir() {
        return Ok(vec![(path.display().to_string(), text(path, limits::SPEC_BYTES_MAX)?)]);
    }
    let entries = std::fs::read_dir(path).map_err(|error| missing(path, &error))?;
    let mut paths: Vec<PathBuf> = entries
        .take(FILES_MAX * 10)
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"))
        .collect();
    paths.sort();
    if paths.is_empty() {
        return Err(Failure::usage(format!(
            "there is no *.yaml, *.yml or *.json file in the folder {}",
            path.display()
        )));
    }
    if paths.len() > FILES_MAX {
        return Err(Failure::usage(format!("the folder {} has more than {FILES_MAX} spec files", path.display())));
    }
    paths.iter().map(|path| Ok((path.display().to_string(), text(path, limits::SPEC_BYTES_MAX)?))).collect()
}

fn template_sources(spec: &Spec, root: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut sources = BTreeMap::new();
    for (name, template) in &spec.templates {
        let one = template.source.iter();
        for source in one.chain(template.files.iter().map(|file| &file.source)) {
            let path = root.join(source);
            let text = text(&path, limits::TEMPLATE_SOURCE_BYTES_MAX)
                .map_err(|failure| Failure::usage(format!("templates.{name}: source: {}", failure.message)))?;
            sources.insert(source.clone(), text);
        }
    }
    Ok(sources)
}

fn text(path: &Path, most: usize) -> Result<String, Failure> {
    let size = std::fs::metadata(path).map_err(|error| missing(path, &error))?.len();
    if size > most as u64 {
        return Err(Failure::usage(format!("{} has {size} bytes, and at most {most} are read", path.display())));
    }
    let bytes = std::fs::read(path).map_err(|error| missing(path, &error))?;
    String::from_utf8(bytes).map_err(|error| {
        Failure::usage(format!(
            "{} is not UTF-8 text: byte {} is wrong",
            path.display(),
            error.utf8_error().valid_up_to()
        ))
    })
}

fn missing(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {}: {error}", path.display()))
}

fn not_utf8(path: &Path) -> Failure {
    Failure::usage(format!("the folder {} has a name that is not UTF-8", path.display()))
}
