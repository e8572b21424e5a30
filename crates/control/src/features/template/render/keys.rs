//! The users' own keys as a source sees them: confd's view of its store.
//! Source: confd's `docs/templates.md`, and the memkv package that it keeps its keys in.

use super::glob;
use regrow_model::{View, spec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The prefixes of the store that a template reads, as they are in the store: its `prefix` put before each of its
/// `keys`, cleaned. Whoever fills [`View::keys`] must watch these.
pub fn watched(spec: &spec::Template) -> Vec<String> {
    let prefix = spec.prefix.as_deref().unwrap_or("");
    spec.keys.iter().map(|key| glob::join(&["/", prefix, key])).collect()
}

/// The keys of one prefix with their entries, in order: the prefix itself and all below it as a folder.
pub(in crate::features::template) fn below<'a>(
    view: &'a View,
    prefix: &'a str,
) -> impl Iterator<Item = (&'a String, &'a regrow_model::view::UserKey)> {
    let folder = if prefix == "/" { "/".to_owned() } else { format!("{prefix}/") };
    let itself = view.keys.get_key_value(prefix).filter(|_| prefix != "/");
    itself.into_iter().chain(view.keys.range(folder.clone()..).take_while(move |(key, _)| key.starts_with(&folder)))
}

/// The keys that one template may read, named as its sources name them: without the prefix.
#[derive(Debug, Default)]
pub(super) struct Keys {
    values: BTreeMap<String, Arc<[u8]>>,
    declared: Vec<String>,
}

/// A key and its value.
pub(super) type Pair = (String, String);

impl Keys {
    /// Copies the declared keys out of the view; the values are shared.
    pub(super) fn new(view: &View, spec: &spec::Template) -> Keys {
        let prefix = glob::join(&["/", spec.prefix.as_deref().unwrap_or("")]);
        let named = |key: &str| match key.strip_prefix(prefix.trim_end_matches('/')) {
            Some(rest) => glob::join(&["/", rest]),
            None => key.to_owned(),
        };
        let values = watched(spec)
            .iter()
            .flat_map(|watched| below(view, watched).map(|(key, entry)| (named(key), entry.value.clone())))
            .collect();
        Keys { values, declared: spec.keys.iter().map(|key| glob::join(&["/", key])).collect() }
    }

    /// One value; `None` when there is no such key.
    pub(super) fn value(&self, key: &str) -> Result<Option<String>, String> {
        self.must_hold(key)?;
        self.values.get(key).map(|value| text(key, value)).transpose()
    }

    /// Whether a key is there.
    pub(super) fn exists(&self, key: &str) -> Result<bool, String> {
        self.must_hold(key)?;
        Ok(self.values.contains_key(key))
    }

    /// All pairs whose keys match a pattern, in the order of the keys.
    pub(super) fn all(&self, pattern: &str) -> Result<Vec<Pair>, String> {
        let literal = pattern.find(['*', '?', '[', '\\']).map_or(pattern, |meta| &pattern[..meta]);
        self.must_touch(literal)?;
        let mut found = Vec::new();
        for (key, value) in self.values.range(literal.to_owned()..).take_while(|(key, _)| key.starts_with(literal)) {
            if glob::matches(pattern, key).map_err(|_| format!("`{pattern}` is not a pattern of keys"))? {
                found.push((key.clone(), text(key, value)?));
            }
        }
        Ok(found)
    }

    /// All pairs below a folder, at any depth, in the order of the keys.
    pub(super) fn folder(&self, folder: &str) -> Result<Vec<Pair>, String> {
        self.must_touch(folder)?;
        let start = format!("{}/", folder.trim_end_matches('/'));
        self.values
            .range(start.clone()..)
            .take_while(|(key, _)| key.starts_with(&start))
            .map(|(key, value)| Ok((key.clone(), text(key, value)?)))
            .collect()
    }

    /// Names right below a path that are keys or hold keys; the key's own last element when the path is one.
    pub(super) fn list(&self, path: &str) -> Result<Vec<String>, String> {
        self.must_touch(path)?;
        let wanted = terms(path);
        let mut names = BTreeSet::new();
        for key in self.near(path) {
            if key == path {
                names.insert(glob::base(key).to_owned());
            } else if starts_with(&terms(&glob::dir(key)), &wanted) {
                let rest = key.strip_prefix(path).unwrap_or(key);
                let rest = rest.strip_prefix('/').unwrap_or(rest);
                names.insert(rest.split('/').next().unwrap_or(rest).to_owned());
            }
        }
        Ok(names.into_iter().collect())
    }

    /// Names right below a path that hold keys.
    pub(super) fn list_folders(&self, path: &str) -> Result<Vec<String>, String> {
        self.must_touch(path)?;
        let wanted = terms(path);
        let mut names = BTreeSet::new();
        for key in self.near(path).filter(|key| key.starts_with(path)) {
            let folder = terms(&glob::dir(key));
            if starts_with(&folder, &wanted) && folder.len() > wanted.len() {
                names.insert(folder[wanted.len()].clone());
            }
        }
        Ok(names.into_iter().collect())
    }

    /// How many keys there are: what a search costs at most.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// The keys that begin as the cleaned path does: all that a listing can name.
    fn near(&self, path: &str) -> impl Iterator<Item = &String> {
        let start = path.trim_end_matches('/').to_owned();
        self.values.range(start.clone()..).map(|(key, _)| key).take_while(move |key| key.starts_with(&start))
    }

    /// A single key must lie within a declared prefix: whether another exists is not known here.
    fn must_hold(&self, key: &str) -> Result<(), String> {
        if self.declared.iter().any(|prefix| within(key, prefix)) { Ok(()) } else { Err(self.undeclared(key)) }
    }

    /// A search must lie within a declared prefix or above one.
    fn must_touch(&self, path: &str) -> Result<(), String> {
        let path = if path == "/" { path } else { path.trim_end_matches('/') };
        let touches = |prefix: &String| within(path, prefix) || within(prefix, path) || prefix.starts_with(path);
        if self.declared.iter().any(touches) { Ok(()) } else { Err(self.undeclared(path)) }
    }

    fn undeclared(&self, key: &str) -> String {
        let first = key.split('/').find(|part| !part.is_empty()).unwrap_or("");
        let declared = match self.declared.is_empty() {
            true => "it declares none".to_owned(),
            false => format!("it declares {}", self.declared.join(", ")),
        };
        format!("the key `{key}` is outside the template's `keys` ({declared}): add `/{first}` to them")
    }
}

/// Whether `key` is `prefix` or lies below it as a folder.
fn within(key: &str, prefix: &str) -> bool {
    key.strip_prefix(prefix.trim_end_matches('/')).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn terms(path: &str) -> Vec<String> {
    glob::clean(path).split('/').map(str::to_owned).collect()
}

fn starts_with(path: &[String], start: &[String]) -> bool {
    path.len() >= start.len() && path[..start.len()] == *start
}

fn text(key: &str, value: &[u8]) -> Result<String, String> {
    String::from_utf8(value.to_vec()).map_err(|_| format!("the value of `{key}` is not UTF-8 text"))
}
