//! Rules of templates.

use super::super::diagnostic::{Wrong, Wrongs, quoted};
use super::super::tree::At;
use super::super::{Probe, Reload, Spec, Template, near};
use super::{Written, field};
use crate::limits::TEMPLATE_FILES_MAX;
use std::collections::BTreeMap;

pub(super) fn check(template: &Template, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    files(template, at, wrong);
    keys(template, at, wrong);
    let check = at.get("check");
    field::command(&check, &template.check, wrong);
    for (index, word) in template.check.iter().enumerate() {
        placeholders(word, template, &check.index(index), wrong);
    }
    if let Some(told) = &template.reload {
        reload(told, &at.get("reload"), written, wrong);
    }
    if let Some(proof) = &template.probe {
        probe(proof, &at.get("probe"), wrong);
    }
    let min = at.get("guard").get("min");
    for service in template.guard.min.keys() {
        let at = min.get(service.as_str());
        if !written.services.contains_key(service.as_str()) {
            let help = near::help(service.as_str(), written.services.keys().copied(), "the services are");
            wrong.key(&at, format!("there is no service `{service}`"), help);
        }
    }
    let wait = at.get("wait");
    field::span(&wait.get("max"), template.wait.max, wrong);
    if template.wait.min > template.wait.max {
        let message =
            format!("the quiet time, {}, is longer than the longest wait, {}", template.wait.min, template.wait.max);
        wrong.value(&wait.get("min"), message, "lower `wait.min` or raise `wait.max`");
    }
}

/// One file by `source` and `destination`, or several by `files`.
fn files(template: &Template, at: &At<'_>, wrong: &mut Wrongs) {
    let one = [
        ("source", template.source.is_some()),
        ("destination", template.destination.is_some()),
        ("mode", template.mode.is_some()),
        ("owner", template.owner.is_some()),
    ];
    if template.files.is_empty() {
        for (key, other, example) in
            [("source", "destination", "haproxy.cfg.j2"), ("destination", "source", "run/haproxy.cfg")]
        {
            let has = |wanted: &str| one.iter().any(|(key, given)| *key == wanted && *given);
            if !has(key) && has(other) {
                let message = format!("there is a `{other}` and no `{key}`");
                wrong.key(&at.get(other), message, format!("for example `{key}: {example}`"));
            }
        }
        if template.source.is_none() && template.destination.is_none() {
            let help = "give `source` and `destination` for one file, or `files` for several";
            wrong.key(at, "the template has no file", help);
        }
    } else if let Some((key, _)) = one.iter().find(|(_, given)| *given) {
        let message = format!("`{key}` is for the one file of a template, and this one has `files`");
        wrong.key(&at.get(key), message, "put it into an entry of `files`");
    }
    if template.files.len() > TEMPLATE_FILES_MAX {
        let message = format!("there are {} files; a template may have {TEMPLATE_FILES_MAX}", template.files.len());
        wrong.key(&at.get("files"), message, "make several templates");
    }
    file(&template.source, &template.destination, &template.mode, &template.owner, at, wrong);
    let list = at.get("files");
    for (index, entry) in template.files.iter().enumerate().take(TEMPLATE_FILES_MAX) {
        let (source, destination) = (Some(entry.source.clone()), Some(entry.destination.clone()));
        file(&source, &destination, &entry.mode, &entry.owner, &list.index(index), wrong);
    }
}

fn file(
    source: &Option<String>,
    destination: &Option<String>,
    mode: &Option<String>,
    owner: &Option<String>,
    at: &At<'_>,
    wrong: &mut Wrongs,
) {
    if let Some(source) = source {
        names_file(&at.get("source"), source, wrong);
    }
    if let Some(destination) = destination {
        names_file(&at.get("destination"), destination, wrong);
    }
    if let Some(mode) = mode {
        field::mode(&at.get("mode"), mode, wrong);
    }
    if let Some(owner) = owner {
        field::owner(&at.get("owner"), owner, wrong);
    }
}

/// A path that can only be a folder's is no file's.
fn names_file(at: &At<'_>, path: &str, wrong: &mut Wrongs) {
    field::path(at, path, wrong);
    if path.ends_with('/') || matches!(path.rsplit('/').next(), Some("." | "..")) {
        wrong.value(at, format!("{} is a folder", quoted(path)), "name the file in it");
    }
}

/// Prefixes of keys in the store.
fn keys(template: &Template, at: &At<'_>, wrong: &mut Wrongs) {
    let keys = at.get("keys");
    for (index, prefix) in template.keys.iter().enumerate() {
        key(&keys.index(index), prefix, wrong);
    }
    if let Some(prefix) = &template.prefix {
        key(&at.get("prefix"), prefix, wrong);
    }
}

fn key(at: &At<'_>, prefix: &str, wrong: &mut Wrongs) {
    if !prefix.starts_with('/') {
        let help = format!("keys begin with `/`: `/{}`", super::super::diagnostic::clipped(prefix));
        wrong.value(at, format!("{} is no prefix of keys", quoted(prefix)), help);
    } else if prefix == "/regrow" || prefix.starts_with(crate::key::ROOT) {
        let help = "templates read services by `endpoints` and the like; use keys of your own here";
        wrong.value(at, format!("{} is Regrow's own", quoted(prefix)), help);
    }
}

/// `{staged}`, `{staged:N}` and `{folder}`. Other braces are the command's own.
fn placeholders(word: &str, template: &Template, at: &At<'_>, wrong: &mut Wrongs) {
    let files = template.files.len().max(1);
    for part in word.split('{').skip(1) {
        let Some((name, _)) = part.split_once('}') else { continue };
        if let Some(index) = name.strip_prefix("staged:") {
            if index.parse::<usize>().is_ok_and(|index| index < files) {
                continue;
            }
            let message = format!("`{{{}}}` names no file of this template", super::super::diagnostic::clipped(name));
            let help = match files {
                1 => "there is one file: write `{staged}`".to_owned(),
                files => format!("the files are `{{staged:0}}` to `{{staged:{}}}`", files - 1),
            };
            wrong.value(at, message, help);
        } else if !matches!(name, "staged" | "folder")
            && let Some(near) = near::nearest(name, ["staged", "folder"])
        {
            let message = format!("`{{{name}}}` is not replaced by anything");
            wrong.value(at, message, format!("did you mean `{{{near}}}`?"));
        }
    }
}

fn reload(reload: &Reload, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    match (&reload.group, reload.command.is_empty()) {
        (Some(group), true) => field::reference(&at.get("group"), "group", group, &written.groups, wrong),
        (None, false) => {}
        (None, true) => {
            let help = "add `group` for a signal to its instances, or `command`";
            wrong.key(at, "the reload does not say how", help);
        }
        (Some(_), false) => {
            let message = "the reload is `group` and `command` at once";
            wrong.key(&at.get("command"), message, "leave one out");
        }
    }
    field::command(&at.get("command"), &reload.command, wrong);
    if let Some(signal) = &reload.signal {
        field::signal(&at.get("signal"), signal, &["KILL", "STOP"], wrong);
    }
    if let Some(socket) = &reload.haproxy_socket {
        field::path(&at.get("haproxy_socket"), socket, wrong);
    }
    if reload.group.is_none() {
        let given = [("signal", reload.signal.is_some()), ("haproxy_socket", reload.haproxy_socket.is_some())];
        for (key, _) in given.iter().filter(|(_, given)| *given) {
            let message = format!("`{key}` has no group to go with");
            wrong.key(&at.get(key), message, "add `group`, the one whose instances read the files");
        }
    }
    field::positive(&at.get("timeout"), reload.timeout, wrong);
}

fn probe(probe: &Probe, at: &At<'_>, wrong: &mut Wrongs) {
    let given = [("http", probe.http.is_some()), ("tcp", probe.tcp.is_some()), ("command", !probe.command.is_empty())];
    let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    match given.as_slice() {
        [_] => {}
        [] => {
            let help =
                "add one of `http: \"http://127.0.0.1:8080/\"`, `tcp: \"127.0.0.1:6379\"` and `command: [try-it]`";
            wrong.key(at, "the probe does not say how", help);
        }
        [first, second, ..] => {
            let message = format!("the probe is `{first}` and `{second}` at once");
            wrong.key(&at.get(second), message, "leave one out");
        }
    }
    if let Some(url) = &probe.http {
        field::url(&at.get("http"), url, "no `http://` URL", "http://127.0.0.1:8080/healthz", wrong);
    }
    if let Some(address) = &probe.tcp {
        field::address(&at.get("tcp"), address, wrong);
    }
    field::command(&at.get("command"), &probe.command, wrong);
    field::positive(&at.get("within"), probe.within, wrong);
}

/// Each destination is written by one file of one template, and is the source of none.
pub(super) fn destinations(spec: &Spec, written: &Written<'_>, wrong: &mut Wrongs) {
    let mut sources = BTreeMap::new();
    let mut destinations: BTreeMap<String, String> = BTreeMap::new();
    let mut found: Vec<(String, At<'_>)> = Vec::new();
    for (name, template) in &spec.templates {
        let Some(at) = written.templates.get(name.as_str()) else { continue };
        let list = at.get("files");
        let one = (template.source.as_deref(), template.destination.as_deref(), at.clone());
        let several = template.files.iter().enumerate().take(TEMPLATE_FILES_MAX);
        let several = several
            .map(|(index, file)| (Some(file.source.as_str()), Some(file.destination.as_str()), list.index(index)));
        for (source, destination, at) in std::iter::once(one).chain(several) {
            if let Some(source) = source {
                sources.entry(plain(source)).or_insert_with(|| at.get("source").path);
            }
            if let Some(destination) = destination {
                found.push((plain(destination), at.get("destination")));
            }
        }
    }
    for (destination, at) in found {
        if let Some(source) = sources.get(&destination) {
            let message = format!("{} is a source too: rendering would destroy it", quoted(&destination));
            wrong.value(&at, message, format!("`{source}` names it; write elsewhere"));
        }
        if let Some(first) = destinations.get(&destination) {
            let message = format!("{} is written twice", quoted(&destination));
            wrong.push(Wrong::new(at.place(), message).path(&at.path).help(format!("the other is `{first}`")));
        } else {
            destinations.insert(destination, at.path);
        }
    }
}

/// A path without `.`, `//` and what `..` takes back, so that two ways to write one path compare equal. Symbolic links
/// are the world's and not known here.
fn plain(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if path.starts_with('/') => {}
            part => parts.push(part),
        }
    }
    let root = if path.starts_with('/') { "/" } else { "" };
    format!("{root}{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::plain;

    /// Shows which ways to write a path are one.
    #[test]
    fn paths() {
        let table = [
            ("run/a", "run/a"),
            ("./run//a", "run/a"),
            ("run/../a", "a"),
            ("../a", "../a"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("/etc/./a", "/etc/a"),
        ];
        for (path, expected) in table {
            assert_eq!(plain(path), expected, "{path}");
        }
    }
}
