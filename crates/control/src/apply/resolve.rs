//! From texts to a spec that can be applied: everything that can be wrong is found before anything changes.

use super::Resolved;
use crate::features::template;
use regrow_model::desired::Source;
use regrow_model::spec::{self, Diagnostic, SourceFile};
use regrow_model::{Name, limits};
use std::collections::BTreeMap;
use std::fmt::Write;

/// What is wrong with a spec or with the template sources that it names. Nothing was changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolveErrors {
    /// Errors in the spec's files.
    pub spec: Vec<Diagnostic>,
    /// Errors in template sources, as text.
    pub sources: Vec<String>,
}

impl From<Vec<Diagnostic>> for ResolveErrors {
    fn from(spec: Vec<Diagnostic>) -> ResolveErrors {
        ResolveErrors { spec, sources: Vec::new() }
    }
}

impl ResolveErrors {
    /// For people, each with a pointer into the text. `files`: names and texts as they were given.
    pub fn render(&self, files: &[(String, String)], colour: bool) -> String {
        let mut out = String::new();
        for diagnostic in &self.spec {
            let text = files.iter().find(|(name, _)| *name == diagnostic.file).map_or("", |(_, text)| text);
            let _ = writeln!(out, "{}", diagnostic.render(text, colour).trim_end());
            out.push('\n');
        }
        for source in &self.sources {
            let _ = writeln!(out, "error: {}\n", source.trim_end());
        }
        out
    }
}

/// Reads a spec and pairs its templates with their sources.
///
/// `root`: the folder that relative paths start from, absolute. `sources`: texts by the name that the spec gives them.
pub fn resolve(
    root: &str,
    files: &[(String, String)],
    sources: &BTreeMap<String, String>,
) -> Result<Resolved, ResolveErrors> {
    let files: Vec<SourceFile> =
        files.iter().map(|(name, text)| SourceFile { name: name.clone(), text: text.clone() }).collect();
    let spec = spec::load(&files)?;
    let mut errors = ResolveErrors::default();
    if !root.starts_with('/') {
        errors.sources.push(format!("the root `{root}` is not an absolute path"));
    }
    let mut texts: BTreeMap<Name, Vec<Source>> = BTreeMap::new();
    for (name, wanted) in &spec.templates {
        let one = wanted.source.iter();
        for source in one.chain(wanted.files.iter().map(|file| &file.source)) {
            match sources.get(source) {
                None => errors.sources.push(format!("template/{name}: the source {source} was not sent along")),
                Some(text) if text.len() > limits::TEMPLATE_SOURCE_BYTES_MAX => errors.sources.push(format!(
                    "template/{name}: the source {source} has {} bytes, and at most {} are taken",
                    text.len(),
                    limits::TEMPLATE_SOURCE_BYTES_MAX
                )),
                Some(text) => {
                    if let Err(error) = template::validate(source, text) {
                        errors.sources.push(format!("template/{name}: {error}"));
                    }
                    let (source, text) = (source.clone(), text.clone());
                    texts.entry(name.clone()).or_default().push(Source { name: source, text });
                }
            }
        }
    }
    if errors == ResolveErrors::default() {
        Ok(Resolved { spec, root: root.to_owned(), sources: texts })
    } else {
        Err(errors)
    }
}
