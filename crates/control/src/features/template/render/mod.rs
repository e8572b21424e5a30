//! From a source and the view to text: two languages, one set of names, one record of what was read.
//!
//! Equal inputs render equally: sources see records, keys and the agent's environment, never the clock, the disk or
//! the network. What is not there is an error with a suggestion, never an empty string.

mod budget;
mod context;
mod error;
mod glob;
mod go;
mod jinja;
pub(super) mod keys;

pub(super) use context::World;
pub use error::{Place, RenderError};

use super::inputs;
use context::Context;
use regrow_model::action::File;
use regrow_model::observed::Inputs;
use regrow_model::{Digest, Entry, Name, View, desired};
use std::sync::Arc;

/// Mode of a file whose template names none.
const MODE_DEFAULT: u32 = 0o644;

/// A rendered set.
#[derive(Clone, Debug, PartialEq)]
pub struct RenderedSet {
    /// The files, in the template's order.
    pub files: Vec<File>,
    /// Digest of destinations, modes, owners and contents.
    pub digest: Digest,
    /// What they were rendered from.
    pub inputs: Inputs,
}

/// Renders a template as it would be for `node`, from the view as it is.
///
/// Errors: the user's fault, each with its place; see [`RenderError`].
pub fn render(view: &View, node: &Name, name: &Name) -> Result<RenderedSet, RenderError> {
    let template = view.templates.get(name).ok_or_else(|| RenderError::Unknown {
        name: name.clone(),
        hint: error::hint(name.as_str(), view.templates.keys().map(Name::as_str)),
    })?;
    render_with(&Arc::new(World::new(view, node)), view, template).map_err(|failure| failure.error)
}

/// Checks the syntax of a source in the language that its name chooses, and that every function that a Go source
/// calls is there. What depends on values shows when it is rendered.
pub fn validate(name: &str, text: &str) -> Result<(), RenderError> {
    if is_go(name) { go::validate(name, text) } else { jinja::validate(name, text) }
}

/// Why a template does not render, with the inputs that were read up to there: as long as they stay, so does the error.
pub(super) struct Failure {
    pub(super) error: RenderError,
    pub(super) inputs: Inputs,
}

/// Renders with a world that is shared between templates.
pub(super) fn render_with(
    world: &Arc<World>,
    view: &View,
    template: &Entry<desired::Template>,
) -> Result<RenderedSet, Box<Failure>> {
    let context = Arc::new(Context::new(world.clone(), view, template));
    let files = files(&context, template);
    let inputs = inputs::current(view, template, &context.reads(), None);
    match files {
        Ok(files) => Ok(RenderedSet { digest: digest(&files), files, inputs }),
        Err(error) => Err(Box::new(Failure { error, inputs })),
    }
}

fn files(context: &Arc<Context>, template: &desired::Template) -> Result<Vec<File>, RenderError> {
    let mut files = Vec::new();
    for (index, target) in targets(template)?.into_iter().enumerate() {
        let source = template.sources.get(index).ok_or_else(|| RenderError::Record {
            what: format!("the source of {} is missing from its record: apply the spec again", target.destination),
        })?;
        let render = if is_go(&source.name) { go::render } else { jinja::render };
        let content = render(&source.name, &source.text, context)?;
        files.push(File { content: content.into(), ..target });
    }
    Ok(files)
}

/// Where the files go, still empty.
fn targets(template: &desired::Template) -> Result<Vec<File>, RenderError> {
    let spec = &template.spec;
    let target = |destination: &str, mode: Option<&String>, owner: Option<&String>| {
        Ok(File {
            destination: absolute(&template.root, destination),
            content: "".into(),
            mode: mode.map_or(Ok(MODE_DEFAULT), |mode| parse_mode(mode))?,
            owner: owner.cloned(),
        })
    };
    if spec.files.is_empty() {
        let destination = spec.destination.as_deref().ok_or_else(|| RenderError::Record {
            what: "neither `files` nor `destination` says where the result goes".to_owned(),
        })?;
        return Ok(vec![target(destination, spec.mode.as_ref(), spec.owner.as_ref())?]);
    }
    spec.files.iter().map(|file| target(&file.destination, file.mode.as_ref(), file.owner.as_ref())).collect()
}

fn parse_mode(mode: &str) -> Result<u32, RenderError> {
    let digits = mode.trim_start_matches("0o");
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if mode <= 0o7777 => Ok(mode),
        _ => Err(RenderError::Record { what: format!("mode `{mode}` is not octal, as 0644 is") }),
    }
}

/// A path of the spec from its folder on.
pub(super) fn absolute(root: &str, path: &str) -> String {
    glob::clean(&if path.starts_with('/') { path.to_owned() } else { format!("{root}/{path}") })
}

fn is_go(name: &str) -> bool {
    name.ends_with(".tmpl")
}

fn digest(files: &[File]) -> Digest {
    let modes: Vec<[u8; 4]> = files.iter().map(|file| file.mode.to_le_bytes()).collect();
    Digest::of(files.iter().zip(&modes).flat_map(|(file, mode)| {
        let owner = file.owner.as_deref().unwrap_or("").as_bytes();
        [file.destination.as_bytes(), mode.as_slice(), owner, file.content.as_bytes()]
    }))
}
