//! Templates' files: staged, checked, kept and swapped as whole sets, and told to whoever reads them.

use super::proxy::Loaded;
use regrow_model::observed::{Stage, WorldError, WorldErrorKind};
use regrow_model::{Digest, Name};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sets kept beside the one in place and the one loaded last.
const SETS_KEPT: usize = 3;

/// The files of one template.
#[derive(Debug, Default)]
struct Files {
    /// Kept sets, the newest last.
    kept: Vec<(Digest, Vec<Arc<str>>)>,
    placed: Option<Digest>,
    loaded: Option<Digest>,
}

/// Every template's files on the node.
#[derive(Debug, Default)]
pub struct Disk {
    templates: BTreeMap<Name, Files>,
}

/// How a set of files is flawed: the template's own text says it, so the flaw goes with the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It does not render.
    Render,
    /// The check command refuses it.
    Check,
    /// The reading program refuses to load it.
    Reload,
    /// It is loaded, and does not work.
    Probe,
}

impl Flaw {
    /// Each of them.
    pub const ALL: [Flaw; 4] = [Flaw::Render, Flaw::Check, Flaw::Reload, Flaw::Probe];

    /// The line of a source that brings it.
    pub fn line(self) -> &'static str {
        match self {
            Flaw::Render => "    option {{ vars.missing }}",
            Flaw::Check => "    option flawed-check",
            Flaw::Reload => "    option flawed-reload",
            Flaw::Probe => "    option flawed-probe",
        }
    }

    /// Whether a text, source or rendered, has it.
    pub(crate) fn is_in(self, text: &str) -> bool {
        text.contains(self.line())
    }

    fn is_in_any(self, contents: &[Arc<str>]) -> bool {
        contents.iter().any(|content| self.is_in(content))
    }
}

impl Disk {
    /// The digest of the set that is in place.
    pub fn placed(&self, template: &Name) -> Option<Digest> {
        self.templates.get(template)?.placed
    }

    /// What a program that reads the files in place runs with.
    pub fn in_place(&self, template: &Name) -> Option<Loaded> {
        let files = self.templates.get(template)?;
        let contents = files.contents(files.placed?)?;
        Some(Loaded::read(&contents.join("\n")))
    }

    /// Whether the set in place has a flaw.
    pub(crate) fn is_flawed(&self, template: &Name, flaw: Flaw) -> bool {
        let files = self.templates.get(template);
        files.and_then(|files| flaw.is_in_any(files.contents(files.placed?)?).then_some(())).is_some()
    }

    /// Checks a set, keeps it and puts it in place.
    pub(crate) fn install(
        &mut self,
        template: &Name,
        digest: Digest,
        contents: Vec<Arc<str>>,
        last_good: Option<Digest>,
        checked: bool,
    ) -> Result<(), (Stage, WorldError)> {
        if checked && Flaw::Check.is_in_any(&contents) {
            return Err((Stage::Check, error(WorldErrorKind::Refused, "the check refused the files")));
        }
        let files = self.templates.entry(template.clone()).or_default();
        files.kept.retain(|(kept, _)| *kept != digest);
        files.kept.push((digest, contents));
        files.placed = Some(digest);
        files.prune(last_good);
        Ok(())
    }

    /// Puts a kept set back in place.
    pub(crate) fn restore(&mut self, template: &Name, digest: Digest) -> Result<(), WorldError> {
        let missing = || error(WorldErrorKind::NotFound, "the set is not kept on this node");
        let files = self.templates.get_mut(template).ok_or_else(missing)?;
        files.contents(digest).ok_or_else(missing)?;
        files.placed = Some(digest);
        Ok(())
    }

    /// Whether a kept set has a flaw that shows when it is loaded.
    pub(crate) fn can_never_load(&self, template: &Name, digest: Digest) -> bool {
        let contents = self.kept(template, digest).unwrap_or_default();
        [Flaw::Reload, Flaw::Probe].iter().any(|flaw| flaw.is_in_any(&contents))
    }

    /// Whether the last set that was taken is this one.
    pub(crate) fn was_loaded(&self, template: &Name, digest: Option<Digest>) -> bool {
        self.templates.get(template).is_some_and(|files| files.loaded == digest)
    }

    /// Notes that the reading program has taken a set.
    pub(crate) fn mark_loaded(&mut self, template: &Name, digest: Digest) {
        self.templates.entry(template.clone()).or_default().loaded = Some(digest);
    }

    /// The contents of a kept set.
    pub(crate) fn kept(&self, template: &Name, digest: Digest) -> Option<Vec<Arc<str>>> {
        self.templates.get(template)?.contents(digest).map(<[_]>::to_vec)
    }
}

impl Files {
    fn contents(&self, digest: Digest) -> Option<&[Arc<str>]> {
        self.kept.iter().find(|(kept, _)| *kept == digest).map(|(_, contents)| contents.as_slice())
    }

    fn prune(&mut self, last_good: Option<Digest>) {
        let used = [self.placed, self.loaded, last_good];
        let idle = self.kept.iter().filter(|(digest, _)| !used.contains(&Some(*digest))).count();
        let mut surplus = idle.saturating_sub(SETS_KEPT);
        self.kept.retain(|(digest, _)| {
            let goes = surplus > 0 && !used.contains(&Some(*digest));
            surplus -= usize::from(goes);
            !goes
        });
    }
}

pub(crate) fn error(kind: WorldErrorKind, text: impl Into<String>) -> WorldError {
    WorldError { kind, text: text.into() }
}
