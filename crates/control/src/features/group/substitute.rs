//! `${NAME}` in commands and environments.

use regrow_model::spec::Group;
use std::collections::BTreeMap;

/// What Regrow puts into each process's environment and into `${…}`.
pub(super) type Given = [(&'static str, String); 5];

/// Replaces `${NAME}` by what `lookup` knows and `$$` by a dollar sign. What it does not know stays as it is written:
/// applying a spec has refused it before.
pub(super) fn substitute(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
            continue;
        }
        let name = rest.strip_prefix("${").and_then(|inner| inner.split_once('}'));
        match name.and_then(|(name, after)| Some((lookup(name)?, after))) {
            Some((value, after)) => {
                out.push_str(&value);
                rest = after;
            }
            None => {
                out.push('$');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

/// The environment of the spec with what Regrow gives in its values, and under its own names.
pub(super) fn environment(spec: &Group, given: &Given) -> BTreeMap<String, String> {
    let lookup = |name: &str| given.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    let named = spec.environment.iter().map(|(name, value)| (name.clone(), substitute(value, lookup)));
    named.chain(given.iter().map(|(name, value)| ((*name).to_owned(), value.clone()))).collect()
}

/// Whether a group's command or environment asks for the port that Regrow draws.
pub(crate) fn uses_port(spec: &Group) -> bool {
    let asks = |text: &String| {
        let asked = std::cell::Cell::new(false);
        substitute(text, |name| {
            asked.set(asked.get() || name == "PORT");
            Some(String::new())
        });
        asked.get()
    };
    spec.command.iter().any(asks) || spec.environment.values().any(asks)
}
