//! Rules of groups.

use super::super::command::{ExpandError, GIVEN, expand};
use super::super::diagnostic::{Wrongs, quoted};
use super::super::tree::At;
use super::super::{Group, near};
use super::{Written, field};
use crate::limits::{COMMAND_WORDS_MAX, GROUP_NAME_LENGTH_MAX};
use crate::{Kind, Name};
use std::collections::BTreeMap;

/// The node's name: Regrow puts it into the environment, and only there.
const NODE: &str = "REGROW_NODE";

pub(super) fn check(name: &Name, group: &Group, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    if name.as_str().len() > GROUP_NAME_LENGTH_MAX {
        let message = format!("the group's name has {} characters", name.as_str().len());
        let help = format!("it may have {GROUP_NAME_LENGTH_MAX}: its instances' names add a number");
        wrong.key(at, message, help);
    }
    if let Some(service) = &group.service {
        field::reference(&at.get("service"), "service", service, &written.services, wrong);
    }
    after(group, at, written, wrong);
    hooks(group, at, written, wrong);
    command(group, at, wrong);
    if let Some(directory) = &group.directory {
        field::path(&at.get("directory"), directory, wrong);
    }
    if let Some(user) = &group.user {
        field::user(&at.get("user"), user, wrong);
    }
    change(group, at, wrong);
    field::span(&at.get("drain"), group.drain, wrong);
    field::span(&at.get("grace"), group.grace, wrong);
    field::positive(&at.get("replace_failing"), group.replace_failing, wrong);
    let stop = at.get("stop");
    field::signal(&stop.get("signal"), &group.stop.signal, &["STOP"], wrong);
    field::span(&stop.get("grace"), group.stop.grace, wrong);
    let backoff = at.get("backoff");
    field::positive(&backoff.get("first"), group.backoff.first, wrong);
    field::positive(&backoff.get("reset"), group.backoff.reset, wrong);
    field::span(&backoff.get("max"), group.backoff.max, wrong);
    if group.backoff.max < group.backoff.first {
        let message =
            format!("the longest wait, {}, is shorter than the first, {}", group.backoff.max, group.backoff.first);
        wrong.value(&backoff.get("max"), message, "raise `backoff.max` or lower `backoff.first`");
    }
}

fn after(group: &Group, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    let after = at.get("after");
    for (index, object) in group.after.iter().enumerate() {
        let at = after.index(index);
        match object.kind {
            Kind::Group => field::reference(&at, "group", &object.name, &written.groups, wrong),
            Kind::Template => field::reference(&at, "template", &object.name, &written.templates, wrong),
            Kind::Service => field::reference(&at, "service", &object.name, &written.services, wrong),
            Kind::Cluster | Kind::Node | Kind::Instance | Kind::Job | Kind::Schedule => {
                let message = format!("{} cannot be waited for", quoted(&object.to_string()));
                wrong.value(&at, message, "name a template, a group or a service: `template/haproxy`");
            }
        }
    }
}

/// What a hook's parameters may name.
const HOOK_GIVEN: [&str; 6] = ["INSTANCE", "GROUP", "SLOT", "NODE", "ADDRESS", "PORT"];

fn hooks(group: &Group, at: &At<'_>, written: &Written<'_>, wrong: &mut Wrongs) {
    let at = at.get("hooks");
    for (key, hook) in [("on_boot", &group.hooks.on_boot), ("before_stop", &group.hooks.before_stop)] {
        let Some(hook) = hook else { continue };
        let at = at.get(key);
        field::reference(&at.get("job"), "job", &hook.job, &written.jobs, wrong);
        field::positive(&at.get("within"), hook.within, wrong);
        for (name, value) in &hook.parameters {
            let known = |name: &str| HOOK_GIVEN.contains(&name).then_some("");
            if let Some(Err(error)) = value.as_str().map(|text| expand(text, known)) {
                let help = "a hook knows ${INSTANCE}, ${GROUP}, ${SLOT}, ${NODE}, ${ADDRESS} and ${PORT}";
                wrong.value(&at.get("parameters").get(name), error.to_string(), help);
            }
        }
    }
}

fn command(group: &Group, at: &At<'_>, wrong: &mut Wrongs) {
    let command = at.get("command");
    if group.command.is_empty() {
        wrong.value(&command, "the command is empty", "name a program and its arguments: `[python3, serve.py]`");
    }
    field::command(&command, &group.command, wrong);
    for (index, word) in group.command.iter().enumerate().take(COMMAND_WORDS_MAX) {
        placeholders(word, Some(&group.environment), &command.index(index), wrong);
    }
    for (name, at) in at.get("environment").entries() {
        if wrong.full() {
            return;
        }
        if GIVEN.contains(&name) || name == NODE {
            let help = if name == "PORT" { "choose the port by the group's `port`" } else { "give yours another name" };
            wrong.key(&at, format!("`{name}` is set by Regrow"), help);
        } else if !is_variable(name) {
            let help = "names have letters, digits and _, and do not begin with a digit";
            wrong.key(&at, format!("{} is not the name of an environment variable", quoted(name)), help);
        }
        // Values know only what Regrow gives: one that knew another would need an order.
        placeholders(group.environment.get(name).map_or("", String::as_str), None, &at, wrong);
    }
}

/// `${NAME}` of a text. `own`: the group's variables, where they can be named too.
fn placeholders(text: &str, own: Option<&BTreeMap<String, String>>, at: &At<'_>, wrong: &mut Wrongs) {
    let known = || GIVEN.into_iter().chain(own.into_iter().flat_map(|own| own.keys().map(String::as_str)));
    let lookup = |name: &str| (GIVEN.contains(&name) || own.is_some_and(|own| own.contains_key(name))).then_some("");
    let Err(error) = expand(text, lookup) else { return };
    let help = match &error {
        ExpandError::Unclosed => "close it with `}`, or write `$$` for a dollar sign".to_owned(),
        ExpandError::Unknown { name } if name.contains(":-") || name.contains(":=") => {
            "there are no defaults here: set the value in `environment`".to_owned()
        }
        ExpandError::Unknown { name } => match near::nearest(name, known()) {
            Some(near) => format!("did you mean `${{{near}}}`?"),
            None => {
                let add = if own.is_some() { "add yours to `environment`, or " } else { "" };
                let list = near::listed(known()).unwrap_or_default();
                format!("known are {list}; {add}write `$$` for a dollar sign")
            }
        },
    };
    wrong.value(at, error.to_string(), help);
}

/// Source: POSIX.1-2017 §3.235, with small letters.
fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Size and the rules of change.
fn change(group: &Group, at: &At<'_>, wrong: &mut Wrongs) {
    let update = at.get("update");
    if group.update.max_unavailable == 0 && group.update.max_surge == 0 {
        let message = "`max_unavailable` and `max_surge` are both 0: nothing could ever be replaced";
        wrong.value(&update.get("max_unavailable"), message, "let `max_surge` or `max_unavailable` be 1");
    }
    field::positive(&update.get("health_within"), group.update.health_within, wrong);
    if let Some(min) = group.min_healthy
        && min > group.size
    {
        let message = format!("`min_healthy` is {min}, and the group has only {}", group.size);
        wrong.value(&at.get("min_healthy"), message, format!("at most {}, or raise `size`", group.size));
    }
}
