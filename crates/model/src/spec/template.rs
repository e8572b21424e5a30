//! `templates:` — sets of files rendered from the view.

use crate::Name;
use crate::duration::Span;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A set of files that are rendered, checked, swapped, loaded and proved together. Either `source` and `destination`
/// for one file, or `files` for several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The one file's source, relative to the spec's folder. `*.tmpl` is Go text/template with confd's functions,
    /// anything else is Jinja.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Where the one file goes, relative to the spec's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The one file's mode, in octal. Default `0644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// The one file's owner as `user` or `user:group`. Default: whoever runs Regrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The files of a set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<TemplateFile>,
    /// Values for the sources, as `vars.NAME` in Jinja.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Prefixes of keys in the store that the sources read (`getv`, `gets`, …), for example `/proxy`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<String>,
    /// What is put before every key that the sources name, as confd's `prefix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Command that judges the staged files; exit code 0 accepts. `{staged}` is the first staged file, `{staged:1}` the
    /// second and so on, `{folder}` the folder with them all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub check: Vec<String>,
    /// How the program that reads the files is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
    /// What proves that the program took them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// When not to render at all.
    #[serde(default)]
    pub guard: Guard,
    /// How bursts coalesce.
    #[serde(default)]
    pub wait: Wait,
}

/// One file of a set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateFile {
    /// Its source, relative to the spec's folder.
    pub source: String,
    /// Where it goes, relative to the spec's folder.
    pub destination: String,
    /// Its mode, in octal. Default `0644`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Its owner as `user` or `user:group`. Default: whoever runs Regrow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

/// How the reading program is told: either a signal to every instance of a group, or a command.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// The group whose instances read the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Name>,
    /// Signal for them, by name without `SIG`. Default `HUP`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// A command instead; exit code 0 is success.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// HAProxy's runtime socket (`stats socket … level admin`), relative to the spec's folder. Given it, a change that
    /// only adds, removes or re-addresses `server` lines is made through the socket, with no reload at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub haproxy_socket: Option<String>,
    /// Longest that the command may take. Default 30 s.
    #[serde(default = "default_reload_timeout")]
    pub timeout: Span,
}

fn default_reload_timeout() -> Span {
    Span::secs(30)
}

/// What proves that the program took the files. Exactly one of `http`, `tcp` and `command`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// An `http://` URL that answers 2xx.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<String>,
    /// An `address:port` that accepts a connection.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<String>,
    /// A command that exits with 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// It is tried again and again until this has passed. Default 5 s.
    #[serde(default = "default_within")]
    pub within: Span,
}

fn default_within() -> Span {
    Span::secs(5)
}

/// When not to render at all: an empty or thin list is more often a fault than a wish.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Guard {
    /// Fewest healthy endpoints, by service.
    pub min: BTreeMap<Name, u32>,
    /// Whether a service that the sources read, and that had endpoints when last loaded, may not become empty.
    /// Default true.
    pub refuse_empty: bool,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard { min: BTreeMap::new(), refuse_empty: true }
    }
}

/// How bursts coalesce: a change is taken up when nothing more has changed for `min`, at the latest after `max`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wait {
    /// Quiet time. Default 10 ms: a burst of deaths is one change, a single one is not delayed noticeably.
    pub min: Span,
    /// Longest wait since the first change of the burst. Default 1 s.
    pub max: Span,
}

impl Default for Wait {
    fn default() -> Wait {
        Wait { min: Span::millis(10), max: Span::secs(1) }
    }
}
